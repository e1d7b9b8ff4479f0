"""Positions of the sliding windows."""


def window_starts(depth: int, size: int, stride: int) -> list[int]:
    """Return the first slice of every window that covers `depth` slices.

    Windows start every `stride` slices; the last one ends at the last slice. No window repeats.
    Raises ValueError if depth < size (pad first) or if stride is not 1 to size.
    """
    if not 1 <= stride <= size:
        raise ValueError(f'stride: wanted 1 to size {size}, got {stride}')
    if depth < size:
        raise ValueError(f'depth: wanted size {size} or more (pad first), got {depth}')
    starts = list(range(0, depth - size + 1, stride))
    if starts[-1] != depth - size:
        starts.append(depth - size)
    return starts
