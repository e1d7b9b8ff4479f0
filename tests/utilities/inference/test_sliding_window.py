"""Windows: reference #5 and #6, a window pasted twice when the depth is a multiple of the window."""

import pytest

from utilities.inference.sliding_window import window_starts


@pytest.mark.parametrize('size, stride', [(48, 12), (16, 4), (16, 5), (8, 8), (7, 3), (1, 1)])
def test_every_depth_up_to_five_windows(size, stride):
    for depth in range(size, 5 * size + 1):
        starts = window_starts(depth, size, stride)
        assert len(set(starts)) == len(starts) and starts == sorted(starts)
        assert starts[0] == 0 and starts[-1] + size == depth
        assert {z for s in starts for z in range(s, s + size)} == set(range(depth))
        assert all(s % stride == 0 for s in starts[:-1]) and all(b - a <= stride for a, b in zip(starts, starts[1:]))


@pytest.mark.parametrize('depth, size, stride', [(47, 48, 12), (48, 48, 0), (48, 48, -1), (48, 48, 49)])
def test_errors(depth, size, stride):
    with pytest.raises(ValueError, match='wanted'):
        window_starts(depth, size, stride)
