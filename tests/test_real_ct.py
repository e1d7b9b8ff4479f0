"""Prepare, train and predict with a real CT, if there is one beside the repository or in the folder $REAL_CT."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from utilities.volumes.read_write import read_header, read_volume

FOLDER = Path(os.environ.get('REAL_CT', ROOT.parent / 'shared/data/real-ct'))


@pytest.mark.skipif(not FOLDER.is_dir(), reason='no real CT beside the repository or in $REAL_CT')
def test_prepare_train_predict(tmp_path, script):
    data = dict(
        train_ct_path=FOLDER / 'CT',
        train_seg_path=FOLDER / 'seg',
        test_ct_path=FOLDER / 'CT',
        test_seg_path=FOLDER / 'seg',
        parameters=ROOT / 'experiments/real_ct.py',
    )
    done = script('data_prepare/get_training_set.py', **data)
    assert done.returncode == 0, done.stderr
    ct, geometry = read_volume(tmp_path / 'real-ct/train/ct/volume-0.nii')
    seg, seg_geometry = read_volume(tmp_path / 'real-ct/train/seg/segmentation-0.nii')
    assert ct.shape[1:] == (56, 64) and seg.shape[1:] == (112, 128)  # 101 x 122 are padded to 112 x 128, and halved
    stored, stored_geometry = read_volume(next((FOLDER / 'seg').glob('segmentation-0*')))
    assert int(seg.sum()) == int((stored > 0).sum())  # the slices are 3 mm thick before and after

    def liver_centre(mask, geometry):
        """Return the centre of the liver in mm."""
        return geometry.position(np.argwhere(mask > 0).mean(0))

    np.testing.assert_allclose(liver_centre(seg, seg_geometry), liver_centre(stored, stored_geometry), atol=0.01)
    np.testing.assert_allclose(geometry.position((0, 0, 0)), seg_geometry.position((0, 0, 0)), atol=1e-3)
    np.testing.assert_allclose(
        geometry.position(np.array(ct.shape) - 1), seg_geometry.position(np.array(seg.shape) - 1), atol=1e-2
    )

    done = script('train_ds.py', **data, Epoch=1, samples_per_case=2, visdom_server='')
    assert done.returncode == 0, done.stderr
    done = script('val.py', **data, stride=32, threshold=0.3)
    assert done.returncode == 0, done.stderr
    wanted = next((FOLDER / 'CT').glob('volume-0*'))
    assert read_header(tmp_path / 'real-ct/pred/pred-0.nii')[0] == read_header(wanted)[0]
