"""The parameters of the dense CRF."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class CrfSettings:
    """Parameters of a dense CRF with two labels, background and liver.

    Raises ValueError for a value out of range; `dense_crf` checks the engine.

    Args:
        s1: standard deviation of the spatial kernel (voxels, above 0).
        s2: standard deviation of the bilateral kernel in space (voxels, above 0).
        s3: standard deviation of the bilateral kernel in intensity (HU, above 0).
        max_iter: number of mean-field iterations (1 or more).
        engine: implementation, 'grid' (ours) or 'pydensecrf' (the reference's, a permutohedral lattice).
        tolerance: stop after an iteration that changes at most this share of the labels (0 to below 1; 0 = never).
        confidence: probability that the unary term gives the mask's label (above 0.5, below 1).
        spatial_weight: Potts weight of the spatial kernel.
        bilateral_weight: Potts weight of the bilateral kernel.
    """

    s1: float
    s2: float
    s3: float
    max_iter: int
    engine: str = 'grid'
    tolerance: float = 0.0
    confidence: float = 0.9
    spatial_weight: float = 3.0
    bilateral_weight: float = 10.0

    def __post_init__(self) -> None:
        for name in ('s1', 's2', 's3', 'max_iter'):
            value = getattr(self, name)
            if not 0 < value < inf:
                raise ValueError(f'{name}: wanted a number above 0, got {value}')
        if not 0.5 < self.confidence < 1:
            raise ValueError(f'confidence: wanted a number above 0.5 and below 1, got {self.confidence}')
        if not 0 <= self.tolerance < 1:
            raise ValueError(f'tolerance: wanted 0 to below 1, got {self.tolerance}')
