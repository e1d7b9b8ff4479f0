"""Checkpoints: written completely and reproducibly, checked when read, and never run as code."""

import io
import os
import pickle
import zipfile

import pytest
import torch

from net.ResUNet import ResUNet
from utilities.base.errors import InputError
from utilities.inference import checkpoint
from utilities.training import save_checkpoint


def test_equal_content_gives_equal_bytes_under_any_name(tmp_path):
    content = {'a': torch.arange(9.0), 'b': [1, 'two', None]}
    save_checkpoint.save_checkpoint(tmp_path / 'one.pth', content)
    save_checkpoint.save_checkpoint(tmp_path / 'folder/another.pth', content)
    assert (tmp_path / 'one.pth').read_bytes() == (tmp_path / 'folder/another.pth').read_bytes()
    loaded = checkpoint.load_checkpoint(tmp_path / 'one.pth')
    assert torch.equal(loaded['a'], content['a']) and loaded['b'] == content['b']


def test_one_flipped_bit_of_a_weight_is_noticed(tmp_path):
    """torch.load itself does not notice it."""
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


class Malicious:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def replace_pickle(content):
    """Return a checkpoint in PyTorch's zip format whose pickle is `content`."""
    sound, changed = io.BytesIO(), io.BytesIO()
    torch.save({'a': torch.ones(3)}, sound)
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(changed, 'w') as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith('data.pkl') else old.read(name))
    return changed.getvalue()


@pytest.mark.parametrize('form', ['bare pickle', 'zip', 'legacy'])
def test_a_malicious_file_runs_nothing(tmp_path, form):
    path, created = tmp_path / 'malicious.pth', tmp_path / 'created'
    malicious = Malicious(created)
    if form == 'legacy':
        torch.save({'a': malicious}, path, _use_new_zipfile_serialization=False)
    elif form == 'zip':
        path.write_bytes(replace_pickle(pickle.dumps(malicious, 2)))
    else:
        path.write_bytes(pickle.dumps(malicious))
    with pytest.raises(InputError, match='malicious.pth.*holds (more than|no) weights'):
        checkpoint.load_checkpoint(path)
    assert not created.exists()
    # Without the protection the code in the file does run.
    if form == 'bare pickle':
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert created.exists()


def test_a_compressed_archive_is_refused(tmp_path):
    """A compressed archive could unpack to any size."""
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
def test_tensors_that_cannot_be_weights_are_refused(tmp_path, wrong, message):
    network = torch.nn.Linear(1, 2)
    save_checkpoint.save_checkpoint(tmp_path / 'a.pth', {**network.state_dict(), 'bias': wrong})
    with pytest.raises(InputError, match=message):
        checkpoint.load_weights(network, tmp_path / 'a.pth')


WRAPPINGS = {  # 'network' is the form of last.pth
    'weights alone': lambda weights: weights,
    'network': lambda weights: {'network': weights, 'optimizer': {0: {'step': torch.zeros(())}}, 'epoch': 3},
    'state_dict': lambda weights: {'state_dict': weights, 'epoch': 3},
    'model_state_dict': lambda weights: {'model_state_dict': weights, 'optimizer_state_dict': {'state': {}}},
    'model': lambda weights: {'model': weights, 'best': 0.5},
}
PREFIXES = [
    '',
    'module.',
    '_orig_mod.',
    'network.',
    'model.',
    'module._orig_mod.',
    '_orig_mod.module.',
    'module.network.',
    '_orig_mod.network.module.',
]


@pytest.mark.parametrize('prefix', PREFIXES)
@pytest.mark.parametrize('wrapping', WRAPPINGS)
def test_weights_are_found_in_the_checkpoints_of_other_programs(tmp_path, wrapping, prefix):
    network, loaded = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    weights = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save(WRAPPINGS[wrapping](weights), tmp_path / 'a.pth')
    assert checkpoint.load_weights(loaded, tmp_path / 'a.pth') == tmp_path / 'a.pth'
    assert torch.equal(loaded.weight, network.weight) and torch.equal(loaded.bias, network.bias)


def test_a_missing_file_is_named_with_the_parameter_to_set(tmp_path):
    network = torch.nn.Linear(3, 2)
    with pytest.raises(InputError, match='none.pth: no such file; set module_path, or train first'):
        checkpoint.load_weights(network, tmp_path / 'none.pth')
    with pytest.raises(InputError, match='none.pth: no such file; set pretrained_path$'):
        checkpoint.load_weights(network, tmp_path / 'none.pth', 'set pretrained_path')
    with pytest.raises(InputError, match='holds no net.*.pth; set pretrained_path$'):
        checkpoint.load_weights(network, tmp_path, 'set pretrained_path')


def test_several_candidates_are_named(tmp_path):
    weights = torch.nn.Linear(3, 2).state_dict()
    torch.save({'epoch': 3, 'model': weights, 'ema': weights}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='a.pth: wanted the weights .* got several candidates: model, ema$'):
        checkpoint.load_weights(torch.nn.Linear(3, 2), tmp_path / 'a.pth')


@pytest.mark.parametrize('content', [{'epoch': 3}, [torch.ones(2)], torch.ones(2), None, {1: torch.ones(2)}])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='a.pth: wanted the weights .* got something else$'):
        checkpoint.load_weights(torch.nn.Linear(3, 2), tmp_path / 'a.pth')


def test_two_networks_in_one_state_dict_are_refused(tmp_path):
    weights = torch.nn.Linear(3, 2).state_dict()
    torch.save({**weights, **{f'module.{name}': tensor for name, tensor in weights.items()}}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='a.pth: wanted the weights of one network'):
        checkpoint.load_weights(torch.nn.Linear(3, 2), tmp_path / 'a.pth')


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_weights_load_with_and_without_prefix(tmp_path, prefix):
    source, target = ResUNet(training=False), ResUNet(training=False)
    weights = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    save_checkpoint.save_checkpoint(tmp_path / 'net9-0.1-0.1.pth', weights)
    save_checkpoint.save_checkpoint(tmp_path / 'net10-0.1-0.1.pth', weights)
    assert checkpoint.load_weights(target, tmp_path).name == 'net10-0.1-0.1.pth'
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))


def test_wrong_checkpoints_are_refused(tmp_path):
    network, path = ResUNet(training=False), tmp_path / 'a.pth'
    state = network.state_dict()
    save_checkpoint.save_checkpoint(path, {k: v for k, v in state.items() if not k.startswith('map4')})
    with pytest.raises(InputError, match=r'missing \(2\): map4.0.bias, map4.0.weight'):
        checkpoint.load_weights(network, path)
    save_checkpoint.save_checkpoint(
        path, {**state, 'map4.0.weight': torch.zeros(2, 32, 1, 1, 1), 'other': torch.zeros(1)}
    )
    with pytest.raises(
        InputError, match=r'unknown \(1\): other.*map4.0.weight wanted \(1, 32, 1, 1, 1\), got \(2, 32, 1, 1, 1\)'
    ):
        checkpoint.load_weights(network, path)
    path.write_bytes(b'no checkpoint')
    with pytest.raises(InputError, match='is no checkpoint'):
        checkpoint.load_weights(network, path)
    with pytest.raises(InputError, match='no such file'):
        checkpoint.load_weights(network, tmp_path / 'none.pth')


def test_a_malicious_weight_of_the_network_runs_nothing(tmp_path):
    torch.save({'map4.0.bias': Malicious(tmp_path / 'made')}, tmp_path / 'malicious.pth')
    with pytest.raises(InputError):
        checkpoint.load_weights(ResUNet(training=False), tmp_path / 'malicious.pth')
    assert not (tmp_path / 'made').exists()
