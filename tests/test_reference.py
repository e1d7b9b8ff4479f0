"""The recorded figures of the reference, compared with our network and scripts.

The figures of losses and metrics are compared in tests/loss and tests/utilities/evaluation.
"""

import numpy as np
import pandas
import pytest
import torch

from net.ResUNet import ResUNet
from tests.reference import recipe
from utilities.volumes.read_write import read_header, read_volume, write_volume

PARAMETERS = recipe.PARAMETERS


def test_network(recorded):
    figures = recorded[0]
    network = ResUNet(training=True)
    network.drop_rate = 0
    state = network.state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == figures['state_dict']
    assert sum(p.numel() for p in network.parameters()) == figures['parameters'] == 9_498_260
    network.load_state_dict({n: torch.from_numpy(w) for n, w in recipe.random_weights(state).items()})
    with torch.no_grad():
        heads = network(torch.from_numpy(recipe.network_input()))
        assert list(heads[3].shape) == figures['network']['output_shape']
        for number, head in enumerate(heads, 1):
            ours = head.flatten()[figures['network']['flat_positions']].numpy()
            np.testing.assert_allclose(ours, figures['network'][f'output{number}'], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network.eval()(torch.from_numpy(recipe.network_input())), heads[3])


def test_training_set(recorded, lits, script):
    figures, arrays = recorded
    result = script('data_prepare/get_training_set.py', size=16, expand_slice=5)
    assert result.returncode == 0, result.stderr
    for number, (shape, spacing, _) in recipe.CASES.items():
        ct, _ = read_volume(lits / f'train/ct/volume-{number}.nii')
        seg, _ = read_volume(lits / f'train/seg/segmentation-{number}.nii')
        np.testing.assert_array_equal(seg, arrays[f'prepared_seg_{number}'])
        difference = np.abs(ct.astype(int) - np.clip(arrays[f'prepared_ct_{number}'].astype(int), -200, 200))
        assert difference.max() <= 1 and (difference == 0).mean() >= 0.9999
        # The exact spacing follows from the zoom, which aligns the end points; the recorded spacing is the nominal one.
        _, geometry = read_header(lits / f'train/ct/volume-{number}.nii')
        z = round(shape[0] * spacing[2])
        exact = [s * (n - 1) / (m - 1) for s, n, m in zip(spacing, shape[::-1], (40, 48, z))]
        np.testing.assert_allclose(geometry.spacing, exact, rtol=1e-6)
        np.testing.assert_allclose(geometry.direction, figures['prepare'][str(number)]['direction'])
        np.testing.assert_allclose(geometry.origin[:2], figures['prepare'][str(number)]['origin'][:2])


def test_val_masks(recorded, lits, script):
    figures, arrays = recorded
    state = ResUNet(training=False).state_dict()
    torch.save({f'module.{n}': torch.from_numpy(w) for n, w in recipe.band_weights(state).items()}, lits / 'band.pth')
    result = script('val.py', size=16, stride=4, module_path='band.pth', test_slice_thickness=None)
    assert result.returncode == 0, result.stderr
    table = pandas.read_csv(lits / 'pred/result.csv', index_col='case')
    for number, share in ((1, 0.999), (2, 1 - 1e-5)):
        mask, geometry = read_volume(lits / f'pred/pred-{number}.nii')
        assert (mask == arrays[f'val_{number}']).mean() >= share
        np.testing.assert_allclose(geometry.origin, recipe.ORIGIN, rtol=1e-6)
    for ours, theirs in (
        ('dice', 'dice'),
        ('jaccard', 'jacard'),
        ('voe', 'voe'),
        ('fnr', 'fnr'),
        ('fpr', 'fpr'),
        ('assd', 'assd'),
        ('rmsd', 'rmsd'),
        ('msd', 'msd'),
    ):
        assert table.loc['volume-2.nii', ours] == pytest.approx(figures['val']['volume-2.nii'][theirs], rel=1e-3)


@pytest.mark.parametrize('dimensions', [2, 3])
def test_crf_masks(recorded, lits, script, dimensions):
    figures, arrays = recorded
    for number in recipe.CASES:
        _, geometry = read_volume(lits / f'data/test/CT/volume-{number}.nii')
        write_volume(lits / f'pred/pred-{number}.nii', arrays[f'val_{number}'], geometry)
    expand = {name: PARAMETERS[name] for name in ('z_expand', 'x_expand', 'y_expand')}
    result = script(f'Densecrf/{dimensions}D-CRF.py', **expand)
    assert result.returncode == 0, result.stderr
    table = pandas.read_csv(lits / 'crf/result-post-processing.csv', index_col='case')
    for number in recipe.CASES:
        mask, _ = read_volume(lits / f'crf/crf-{number}.nii')
        assert (mask == arrays[f'crf{dimensions}d_{number}']).mean() >= 0.999
        wanted = figures[f'crf{dimensions}d'][f'volume-{number}.nii']['dice']
        assert table.loc[f'volume-{number}.nii', 'dice'] == pytest.approx(wanted, abs=2e-3)
        assert table.loc[f'volume-{number}.nii', 'dice_before'] == pytest.approx(
            figures['val'][f'volume-{number}.nii']['dice'], rel=1e-6
        )
