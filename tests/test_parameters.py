"""The output of every stage changes with the parameters that RULES names for it, and with no other.

The stages run in this process on phantoms of 16 slices; a network of one convolution replaces the ResUNet,
except in the test of the parameters of the ResUNet itself.
"""

import itertools
import json
import logging
import shutil
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pandas
import pytest
import torch
from torch import nn

import train_ds
import val
from data_prepare import analyse_dataset, check_dataset, get_training_set, make_phantom
from Densecrf import refine_cases
from net.ResUNet import ResUNet
from scripts import draw_figures, write_report
from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.run.parameter_rules import RULES, STAGES
from utilities.run.settings import read_settings
from utilities.viewing import training_monitor
from utilities.volumes.read_write import read_volume, write_volume

BASE = dict(
    phantom_train=3,
    phantom_test=1,
    phantom_depth=16,
    phantom_width=32,
    size=8,
    stride=4,
    expand_slice=2,
    slice_thickness=10.0,
    test_slice_thickness=None,
    maximum_hole=2.0,
    loss='Hybrid',
    Epoch=2,
    learning_rate=1e-3,
    learning_rate_decay=[1],
    alpha_epochs=1,
    batch_size=2,
    validation_cases=1,
    validate_every=1,
    seed=2,  # with it the mask of the test case has holes
    save_every=1,
    gpu='',
    num_workers=0,
    visdom_server='',
)
BASE_OF_STAGE = {
    # Few enough slices around the liver for every parameter to decide whether they are too few.
    'check': dict(size=24, expand_slice=6),
    'prediction': dict(threshold=0.15),  # a large mask, with holes
    'crf': dict(z_expand=1, x_expand=2, y_expand=2, max_iter=5, s1=0.6, s2=1.0, s3=30.0),
}
CHANGED = dict(
    phantom_train=2,
    phantom_test=2,
    phantom_depth=20,
    phantom_width=40,
    size=16,
    down_scale=1.0,
    expand_slice=0,
    slice_thickness=20.0,
    upper=300,
    lower=-300,
    drop_rate=0.6,
    loss='Dice',
    Epoch=3,
    learning_rate=1e-2,
    learning_rate_decay=[],
    learning_rate_factor=0.5,
    alpha=0.1,
    alpha_decay=0.5,
    alpha_epochs=2,
    batch_size=1,
    samples_per_case=2,
    validation_cases=0,
    validate_every=2,
    seed=1,
    save_every=2,
    keep_saved=1,
    micro_batch_size=1,
    window_batch=3,
    checkpointing=True,
    cudnn_benchmark=False,
    pin_memory=False,
    num_workers=2,
    print_every=1,
    visdom_server='http://127.0.0.1',
    visdom_port=9,
    threshold=0.7,
    stride=8,
    maximum_hole=1e6,
    test_slice_thickness=10.0,
    surface_tolerance=20.0,
    report_surfaces=0,
    grid_tolerance=0.01,
    spacing_override={'volume-1': [5.0, 5.0, 9.0], 'volume-3': [5.0, 5.0, 9.0]},
    z_expand=0,
    x_expand=0,
    y_expand=0,
    max_iter=1,
    s1=3.0,
    s2=2.0,
    s3=60.0,
    crf_engine='pydensecrf',
    crf_tolerance=0.9,
)
CHANGED_IN_STAGE = {
    ('check', 'size'): 80,
    ('training_set', 'size'): 80,
    ('analysis', 'upper'): 100,
    ('analysis', 'lower'): 90,
    ('crf', 'upper'): 105,
    ('crf', 'lower'): 100,
}
UNTESTED = {  # parameter: reason
    'gpu': 'needs a GPU',
    'precision': 'a CPU computes in float32 alone; see tests/utilities/training/test_deep_supervision.py',
    'compile': 'needs a C++ compiler and minutes',
    'dask_scheduler': 'needs a Dask cluster; see tests/test_many_processes.py',
    'resume': 'see test_resume_changes_the_training',
}
TESTED_WITH_RESUNET = (('training', 'drop_rate'), ('training', 'down_scale'))  # see test_parameters_of_the_network
MAINS = {
    'phantom': make_phantom.main,
    'check': check_dataset.main,
    'analysis': analyse_dataset.main,
    'training_set': get_training_set.main,
    'training': train_ds.main,
    'prediction': val.main,
    'crf': partial(refine_cases.main, dimensions=3),
    'figures': draw_figures.main,
    'report': write_report.main,
}
CASE_FOLDERS = ('train_ct_path', 'train_seg_path', 'test_ct_path', 'test_seg_path')
OUTPUT_PATHS = {  # stage: the parameters that say where its output goes
    'phantom': CASE_FOLDERS,
    'check': ('check_path',),
    'analysis': ('figure_path',),
    'training_set': ('training_set_path',),
    'training': ('module_dir',),
    'prediction': ('pred_path',),
    'crf': ('crf_path',),
    'figures': ('figure_path',),
    'report': ('pred_path',),
}
INPUT_PATHS = (*CASE_FOLDERS, 'training_set_path', 'module_path', 'module_dir', 'pred_path', 'crf_path')


class TinyNetwork(nn.Module):
    """Has the inputs and outputs of the ResUNet. It finds the liver by its intensity, and leaves holes in it."""

    def __init__(self, training, drop_rate=0.3, down_scale=0.5, checkpointing=False):
        super().__init__()
        self.conv, self.scale = nn.Conv3d(1, 1, 3, padding=1), round(1 / down_scale)
        with torch.no_grad():
            self.conv.weight.mul_(0.1).add_(20 / 27)
            self.conv.bias.fill_(-4)
        self.train(training)

    def forward(self, ct):
        weight = torch.ones_like(ct)
        weight[..., ::2, 1::3, 1::3] = 0.1  # the holes
        probability = weight * torch.sigmoid(self.conv(ct))
        probability = probability.repeat_interleave(self.scale, 3).repeat_interleave(self.scale, 4)
        return [probability] * 4 if self.training else probability


class Messages(logging.Handler):
    """A handler that keeps the messages of the log in `texts`."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


class Pipeline:
    """Runs single stages. What a stage reads was written by the stages before it with the settings BASE."""

    def __init__(self, folder, messages):
        self.folder, self.messages = folder, messages
        self.numbers, self.inputs, self.outputs = itertools.count(), {}, {}

    def new_path(self):
        return self.folder / str(next(self.numbers)) / 'output'

    def run(self, stage, **changes):
        """Run a stage with changed settings; returns its output as a dictionary."""
        paths = {name: self.new_path() for name in OUTPUT_PATHS[stage]}
        inputs = {name: self.input_path(name) for name in INPUT_PATHS if stage in RULES[name].changes}
        values = {**BASE, **BASE_OF_STAGE.get(stage, {}), **paths, **inputs, **changes}
        if stage == 'report':  # it writes into the folder that it reads
            values['pred_path'] = self.copy_of_predictions(values['pred_path'])
        para = read_settings([f'--{name}={value}' for name, value in values.items()])
        self.messages.texts.clear()
        MAINS[stage](para)
        return self.read_output(stage, values)

    def base_output(self, stage):
        """Return the output with the settings BASE, and check that no case failed."""
        if stage not in self.outputs:
            self.outputs[stage] = self.run(stage)
            assert self.outputs[stage] and not [text for text in self.messages.texts if text.startswith('failed')]
        return self.outputs[stage]

    def input_path(self, name, is_other=False):
        """Return what a stage reads with the settings BASE, or something else of the same kind."""
        if (name, is_other) not in self.inputs:
            self.inputs[name, is_other] = self.make_input(name, is_other)
        return self.inputs[name, is_other]

    def make_input(self, name, is_other):
        """Write what `input_path` returns."""
        path = self.new_path()
        if name in CASE_FOLDERS and is_other:
            copy_with_other_values(self.input_path(name), path, is_label='seg' in name)
        elif name in CASE_FOLDERS:
            for folder in CASE_FOLDERS:
                self.inputs[folder, False] = path / folder
            self.run('phantom', **{folder: path / folder for folder in CASE_FOLDERS})
            for folder, number in (('train_seg_path', 1), ('test_seg_path', 3)):
                shift_by_50_micrometres(path / folder / f'segmentation-{number}.nii')
            return path / name
        elif name == 'training_set_path':
            self.run('training_set', training_set_path=path, expand_slice=0 if is_other else 2)
        elif name in ('module_dir', 'module_path'):
            self.run('training', module_dir=path, learning_rate=0.3 if is_other else 1e-3)
        elif name == 'pred_path':
            self.run('prediction', pred_path=path, threshold=0.9 if is_other else 0.5)
        elif name == 'crf_path':
            self.run('crf', crf_path=path, max_iter=1 if is_other else 20)
        return path

    def copy_of_predictions(self, folder):
        """Copy the folder for the report, which reads module_path only if summary.json does not name the weights."""
        path = self.new_path()
        shutil.copytree(folder, path)
        summary = json.loads((path / 'summary.json').read_text())
        summary.pop('weights')
        (path / 'summary.json').write_text(json.dumps(summary))
        return path

    def read_output(self, stage, values):
        """Return what a stage wrote, without times and names of folders."""
        paths = [values[name] for name in OUTPUT_PATHS[stage]]
        if stage == 'analysis':
            return {'log': '\n'.join(self.messages.texts).replace(str(paths[0]), '')}
        if stage == 'check':
            return {'table': paths[0].read_text()}
        if stage == 'report':
            return {'page': (paths[0] / 'report.html').read_text().replace(str(paths[0]), '')}
        files = {path.relative_to(folder.parent): path for folder in paths for path in sorted(folder.rglob('*.*'))}
        readers = {'.nii': lambda path: path.read_bytes(), '.csv': read_table}
        if stage == 'training':
            readers = {'.pth': read_weights, '.csv': read_table}
        elif stage == 'figures':
            readers = {'.png': lambda path: path.read_bytes()}
        return {
            name: readers[path.suffix](path)
            for name, path in files.items()
            if path.suffix in readers and path.name != 'last.pth'
        }


def copy_with_other_values(folder, new_folder, is_label):
    """Copy volumes: CT brighter by 150 HU, labels without every second row."""
    for path in folder.glob('*.nii'):
        array, geometry = read_volume(path)
        if is_label:
            array[:, ::2] = 0
        else:
            array += 150
        write_volume(new_folder / path.name, array, geometry)


def shift_by_50_micrometres(path):
    """Move a label less than the grid_tolerance of BASE, and more than that of CHANGED."""
    array, geometry = read_volume(path)
    x, y, z = geometry.origin
    write_volume(path, array, replace(geometry, origin=(x + 0.05, y, z)))


def read_weights(path):
    """Return all weights of a .pth file as one vector."""
    weights = torch.load(path, weights_only=True)
    return torch.cat([tensor.flatten() for tensor in weights.values()]).numpy()


def read_table(path):
    """Return the numbers of a table except its times."""
    return pandas.read_csv(path).drop(columns=['time', 'seconds', 'case'], errors='ignore').to_numpy(float)


def is_same(output, other):
    """Return whether two outputs are equal; weights and tables up to rounding."""
    return output.keys() == other.keys() and all(
        np.shape(value) == np.shape(other[name]) and np.allclose(value, other[name], 1e-4, 1e-6, equal_nan=True)
        if isinstance(value, np.ndarray)
        else value == other[name]
        for name, value in output.items()
    )


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory):
    messages = Messages()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, 'handlers', [messages])
        patch.setattr(train_ds, 'ResUNet', TinyNetwork)
        patch.setattr(val, 'ResUNet', TinyNetwork)
        patch.setattr(train_ds, 'require_settings', lambda *_, **__: None)  # It refuses what is to be changed here.
        for stage in (training_monitor, analyse_dataset):  # Their figures are not part of the compared output.
            patch.setattr(stage, 'save_figure', lambda *_: None)
        patch.setattr(training_monitor, 'draw_loss_curve', lambda _: None)
        patch.setattr(torch.backends.cudnn, 'benchmark', torch.backends.cudnn.benchmark)
        yield Pipeline(tmp_path_factory.mktemp('parameters'), messages)
    torch.set_flush_denormal(False)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def other_settings(pipeline, stage, name):
    """Return another value of a parameter, with what else it needs."""
    if name in INPUT_PATHS:
        return {name: pipeline.input_path(name, is_other=True)}
    if name == 'pretrained_path':
        return {name: next(pipeline.input_path('module_dir', is_other=True).glob('net*.pth'))}
    return {name: CHANGED_IN_STAGE.get((stage, name), CHANGED[name])}


PAIRS = [
    (stage, name)
    for stage in STAGES
    for name, rule in RULES.items()
    if stage in rule.changes and name not in UNTESTED and (stage, name) not in TESTED_WITH_RESUNET
]


@pytest.mark.parametrize('stage, name', PAIRS)
def test_another_value_changes_the_output(pipeline, stage, name):
    if name == 'crf_engine':
        pytest.importorskip('pydensecrf')
    output = pipeline.run(stage, **other_settings(pipeline, stage, name))
    assert not is_same(output, pipeline.base_output(stage))


@pytest.mark.parametrize('stage', STAGES)
def test_all_other_parameters_together_change_nothing(pipeline, stage):
    changes = {}
    for name, rule in RULES.items():
        if stage not in rule.changes and name not in UNTESTED and name not in OUTPUT_PATHS[stage]:
            is_path = name.endswith(('_path', '_dir'))
            changes[name] = pipeline.folder / 'elsewhere' if is_path else CHANGED[name]
    assert is_same(pipeline.run(stage, **changes), pipeline.base_output(stage))
    assert not (pipeline.folder / 'elsewhere').exists()


def test_parameters_of_the_network(pipeline, monkeypatch):
    """The ResUNet itself: checkpointing changes nothing, the dropout and the size of its input do."""
    monkeypatch.setattr(train_ds, 'ResUNet', ResUNet)
    run = partial(pipeline.run, 'training', Epoch=1, validation_cases=0, batch_size=3)  # one step
    output = run()
    assert is_same(run(checkpointing=True), output)
    assert not is_same(run(drop_rate=CHANGED['drop_rate']), output)
    full_size = pipeline.new_path()
    pipeline.run('training_set', training_set_path=full_size, down_scale=CHANGED['down_scale'])
    changed = run(training_set_path=full_size, down_scale=CHANGED['down_scale'])
    assert not is_same(changed, output)


def test_resume_changes_the_training(pipeline):
    """'auto' continues an earlier training to the result of an uninterrupted one; '' refuses it and changes nothing."""
    module_dir = pipeline.new_path()
    earlier = pipeline.run('training', module_dir=module_dir, Epoch=1)
    with pytest.raises(InputError, match='an earlier training is here'):
        pipeline.run('training', module_dir=module_dir)
    assert is_same(pipeline.read_output('training', {'module_dir': module_dir}), earlier)
    assert is_same(pipeline.run('training', module_dir=module_dir, resume='auto'), pipeline.base_output('training'))
    with pytest.raises(InputError, match='learning_rate'):
        pipeline.run('training', module_dir=module_dir, resume='auto', learning_rate=0.1, Epoch=3)
    assert pipeline.run('training', module_dir=module_dir, resume='changed', learning_rate=0.1, Epoch=3)
