"""Files of torch: whole, reproducible, checked, and never run."""

import io
import os
import pickle
import zipfile

import pytest
import torch

from utilities.base.errors import InputError
from utilities.inference import checkpoint
from utilities.training import save_checkpoint


def test_the_same_content_is_the_same_bytes_whatever_the_name(tmp_path):
    content = {'a': torch.arange(9.0), 'b': [1, 'two', None]}
    save_checkpoint.save_checkpoint(tmp_path / 'one.pth', content)
    save_checkpoint.save_checkpoint(tmp_path / 'folder/another.pth', content)
    assert (tmp_path / 'one.pth').read_bytes() == (tmp_path / 'folder/another.pth').read_bytes()
    again = checkpoint.load_checkpoint(tmp_path / 'one.pth')
    assert torch.equal(again['a'], content['a']) and again['b'] == content['b']


def test_one_flipped_bit_of_a_weight_is_noticed(tmp_path):
    """torch.load itself takes it."""
    path = tmp_path / 'a.pth'
    save_checkpoint.save_checkpoint(path, {'weights': torch.ones(1000)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(4).numpy().tobytes()) + 11] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)['weights'].sum() != 1000
    with pytest.raises(InputError, match='a.pth.*check sum'):
        checkpoint.load_checkpoint(path)


def test_the_legacy_format_of_the_reference_is_read(tmp_path):
    torch.save({'a': torch.ones(3)}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert checkpoint.load_checkpoint(tmp_path / 'old.pth')['a'].sum() == 3


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def in_zip(content):
    """A checkpoint of torch whose pickle is `content`."""
    whole, changed = io.BytesIO(), io.BytesIO()
    torch.save({'a': torch.ones(3)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(changed, 'w') as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith('data.pkl') else old.read(name))
    return changed.getvalue()


@pytest.mark.parametrize('form', ['bare pickle', 'zip', 'legacy'])
def test_a_malicious_file_runs_nothing(tmp_path, form):
    evil, path, created = Evil(tmp_path / 'created'), tmp_path / 'evil.pth', tmp_path / 'created'
    if form == 'legacy':
        torch.save({'a': evil}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(evil) if form == 'bare pickle' else in_zip(pickle.dumps(evil, 2)))
    with pytest.raises(InputError, match='evil.pth.*holds (more than|no) weights'):
        checkpoint.load_checkpoint(path)
    assert not created.exists()
    pickle.loads(pickle.dumps(evil)) if form == 'bare pickle' else torch.load(
        path, weights_only=False
    )  # the trap is real
    assert created.exists()


def test_a_compressed_archive_is_refused(tmp_path):
    """It could unpack to any size."""
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'0' * 10**6)
    with pytest.raises(InputError, match='compressed'):
        checkpoint.load_checkpoint(tmp_path / 'bomb.pth')


@pytest.mark.parametrize(
    'wrong, message',
    [
        (torch.tensor([1.0, torch.nan]), 'NaN or infinite'),
        (torch.ones(2, dtype=torch.int64), 'not dense numbers'),
        (torch.ones(1).expand(10**12), 'wrong shape'),
        (torch.eye(2).to_sparse()[0], 'not dense numbers'),
        (torch.ones(2, device='meta'), 'not dense numbers'),
    ],
)
def test_weights_that_are_none(tmp_path, wrong, message):
    network = torch.nn.Linear(1, 2)
    save_checkpoint.save_checkpoint(tmp_path / 'a.pth', {**network.state_dict(), 'bias': wrong})
    with pytest.raises(InputError, match=message):
        checkpoint.load_weights(network, tmp_path / 'a.pth')


def test_a_training_state_serves_as_weights(tmp_path):
    network, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    save_checkpoint.save_checkpoint(tmp_path / 'last.pth', {'network': network.state_dict(), 'epoch': 3})
    checkpoint.load_weights(other, tmp_path / 'last.pth')
    assert torch.equal(other.weight, network.weight)
