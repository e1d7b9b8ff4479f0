"""Sliding windows over a volume, compared with the sum of all windows over the whole volume, and scipy's zoom."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from utilities.image.preprocess import normalise, resample_ct
from utilities.inference.predict_mask import WindowSettings, mean_over_windows, predict_mask, resample_slices

CPU = torch.device('cpu')


class Position(torch.nn.Module):
    """A network whose output depends on the position of a slice in its window, so that windows differ."""

    def forward(self, x):
        position = torch.linspace(0, 0.5, x.shape[2], device=x.device)[:, None, None]
        return torch.nn.functional.interpolate(
            (x.clamp(-1, 1) + 1) / 4 + position, scale_factor=(1, 2, 2), mode='nearest'
        )


def mean_over_volume(network, ct, starts, size):
    total = np.zeros((len(ct), 2 * ct.shape[1], 2 * ct.shape[2]), np.float32)
    windows_per_slice = np.zeros((len(ct), 1, 1), np.float32)
    for start in starts:
        total[start : start + size] += network(torch.from_numpy(ct[start : start + size])[None, None])[0, 0].numpy()
        windows_per_slice[start : start + size] += 1
    return total / windows_per_slice


@pytest.mark.parametrize(
    'depth, starts', [(16, [0]), (17, [0, 1]), (21, [0, 5]), (28, [0, 5, 10, 12]), (41, [0, 5, 10, 15, 20, 25])]
)
@pytest.mark.parametrize('window_batch', [1, 2, 7])
def test_means_equal_those_of_the_whole_volume(depth, starts, window_batch):
    ct = np.random.default_rng(depth).uniform(-1, 1, (depth, 8, 10)).astype(np.float32)
    blocks = list(
        mean_over_windows(Position(), torch.from_numpy(ct), WindowSettings(16, 5, 0.5, window_batch=window_batch))
    )
    assert max(map(len, blocks)) <= 16
    np.testing.assert_array_equal(torch.cat(blocks), mean_over_volume(Position(), ct, starts, 16))


@pytest.mark.parametrize('old, new', [(1, 1), (1, 4), (5, 1), (7, 7), (7, 30), (30, 7), (12, 13), (48, 20), (90, 11)])
@pytest.mark.parametrize('length', [1, 4, 100])
def test_interpolation_in_blocks_agrees_with_scipy(old, new, length):
    whole = np.random.default_rng(0).normal(size=(old, 3, 4)).astype(np.float32)
    blocks = (torch.from_numpy(whole[first : first + length]) for first in range(0, old, length))
    ours = torch.cat(list(resample_slices(blocks, old, new))).numpy()
    wanted = ndimage.zoom(whole, (new / old, 1, 1), order=1, mode='mirror')
    assert ours.shape == wanted.shape
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_slices_beyond_the_depth_are_ignored():
    blocks = [torch.arange(5.0)[:, None, None], torch.arange(5.0, 9)[:, None, None]]
    assert torch.cat(list(resample_slices(blocks, 7, 7))).flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize('shape', [(20, 32, 32), (5, 101, 122), (16, 64, 48), (1, 16, 16)])
def test_a_volume_of_any_size_is_predicted_on_its_grid(shape):
    ct = np.random.default_rng(0).integers(-200, 200, shape).astype(np.int16)
    small = resample_ct(ct, 1, 0.5, -200, np.float32)
    assert small.dtype == np.float32 and small.shape[1] % 8 == small.shape[2] % 8 == 0

    class IsAboveZero(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.interpolate((x > 0).float(), scale_factor=(1, 2, 2), mode='nearest')

    mask = predict_mask(IsAboveZero(), normalise(small, -200, 200), shape, WindowSettings(16, 5, 0.5), CPU)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.kron(small > 0, np.ones((1, 2, 2)))[:, : shape[1], : shape[2]])


def test_the_mask_has_the_slices_of_the_scan():
    """If a scan of 7 slices was resampled to 30, the probability is interpolated back to 7 slices."""
    ct = np.random.default_rng(1).uniform(-1, 1, (30, 8, 8)).astype(np.float32)
    mask = predict_mask(Position(), ct, (7, 16, 16), WindowSettings(16, 5, 0.6, window_batch=3), CPU)
    probability = ndimage.zoom(
        mean_over_volume(Position(), ct, [0, 5, 10, 14], 16), (7 / 30, 1, 1), order=1, mode='mirror'
    )
    np.testing.assert_array_equal(mask, probability >= 0.6)


def test_mixed_precision_is_close_and_returns_float32():
    class Convolution(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Conv3d(1, 1, 3, padding=1)

        def forward(self, x):
            outputs.append(self.layer(x))
            return outputs[-1].sigmoid()

    outputs, network, ct = [], Convolution(), torch.rand(20, 8, 8)
    with torch.inference_mode():
        exact = torch.cat(list(mean_over_windows(network, ct, WindowSettings(16, 4, 0.5))))
        mixed = torch.cat(list(mean_over_windows(network, ct, WindowSettings(16, 4, 0.5, precision=torch.bfloat16))))
    assert [output.dtype for output in outputs] == [torch.float32] * 2 + [
        torch.bfloat16
    ] * 2 and mixed.dtype == torch.float32
    torch.testing.assert_close(
        mixed, exact, atol=2 * 2**-9, rtol=0
    )  # the logit and the probability are rounded to 8 bits
