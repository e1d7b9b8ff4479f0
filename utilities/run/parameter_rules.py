"""The rules of every parameter: its range, and the stages whose output it changes.

Names, defaults and comments stand in parameter.py. A test fails for a parameter without a rule, and for a rule without
a parameter.
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from utilities.base.errors import InputError

STAGES = {  # stage: the script that runs it
    'phantom': 'data_prepare/make_phantom.py',
    'check': 'data_prepare/check_dataset.py',
    'analysis': 'data_prepare/analyse_dataset.py',
    'training_set': 'data_prepare/get_training_set.py',
    'training': 'train_ds.py',
    'prediction': 'val.py',
    'crf': 'Densecrf/2D-CRF.py and Densecrf/3D-CRF.py',
    'figures': 'scripts/draw_figures.py',
    'report': 'scripts/write_report.py',
}
MAX_INTEGER = 2**53  # Every whole number up to this one is exact as a float, too.
TYPE_NAMES = {
    float: 'a number',
    int: 'a whole number',
    bool: 'True or False',
    str: 'a string',
    list: 'a list',
    dict: 'a dict',
}


class Range(NamedTuple):
    """The values that a parameter may have: a test, and the words for it in the comment and in error messages."""

    contains: Callable[[Any], bool]
    words: str


@dataclass(frozen=True)
class Rule:
    """What holds for the values of one parameter.

    Args:
        changes: Stages whose output another value changes; none if it changes only the speed, the folder or the
            look of the output.
        range: None if every value of the right type is valid.
        compared: Stages that compare the value with that of an earlier run, to recognise finished work or to resume
            a training; None means all of `changes`. It is () for a parameter that names files or cases, which are
            themselves compared, and for one that only says when a run ends or saves.
        is_optional: Whether None is valid besides the type of the default.
    """

    changes: tuple[str, ...] = ()
    range: Range | None = None
    compared: tuple[str, ...] | None = None
    is_optional: bool = False


def choice_of(*values: str) -> Range:
    """Return the range of a parameter that takes one of these strings."""
    return Range(lambda value: value in values, f'{", ".join(map(repr, values[:-1]))} or {values[-1]!r}')


def is_inverse_integer(value: float) -> bool:
    """Return whether a value is 1 / integer, but for rounding."""
    return 1e-4 < value <= 1 and abs(1 / value - round(1 / value)) < 1e-6


def are_spacings(value: dict) -> bool:
    """Return whether a value maps case names to voxel spacings (x, y, z), each above 0 and below 1000 mm."""
    return all(
        type(name) is str
        and type(spacing) in (list, tuple)
        and len(spacing) == 3
        and all(type(length) in (int, float) and 0 < length < 1000 for length in spacing)
        for name, spacing in value.items()
    )


ABOVE_0 = Range(lambda value: value > 0, 'above 0')
AT_LEAST_0 = Range(lambda value: value >= 0, '0 or more')
AT_LEAST_1 = Range(lambda value: value >= 1, '1 or more')
AT_LEAST_16 = Range(lambda value: value >= 16, '16 or more')
DECAY_FACTOR = Range(lambda value: 0 < value <= 1, 'above 0, at most 1')
SHARE = Range(lambda value: 0 <= value < 1, '0 to below 1')

# The stages that read CT volumes.
READ_TRAINING_CASES = ('check', 'analysis', 'training_set')
READ_TEST_CASES = ('check', 'prediction', 'crf', 'figures', 'report')
READ_CASES = (*READ_TRAINING_CASES, *READ_TEST_CASES[1:])

RULES = {
    # Paths.
    'train_ct_path': Rule(READ_TRAINING_CASES, compared=()),
    'train_seg_path': Rule(READ_TRAINING_CASES, compared=()),
    'test_ct_path': Rule(READ_TEST_CASES, compared=()),
    'test_seg_path': Rule(READ_TEST_CASES, compared=()),
    'training_set_path': Rule(('training',), compared=()),
    'pred_path': Rule(('crf', 'figures', 'report'), compared=()),
    'crf_path': Rule(('figures', 'report'), compared=()),
    'module_path': Rule(('prediction', 'report'), compared=()),
    'module_dir': Rule(('figures',), compared=()),
    'figure_path': Rule(),
    'check_path': Rule(),
    # Geometry of the cases.
    'spacing_override': Rule(
        READ_CASES,
        Range(are_spacings, "x, y, z in mm, as in {'volume-28': [0.7, 0.7, 1.25]}"),
        compared=(),
    ),
    # Every run checks the grids of all its cases again, so only the records of the training set hold the tolerance.
    'grid_tolerance': Rule(READ_CASES, ABOVE_0, compared=('training_set',)),
    # Phantoms.
    'phantom_train': Rule(('phantom',), AT_LEAST_0, compared=()),
    'phantom_test': Rule(('phantom',), AT_LEAST_0, compared=()),
    'phantom_depth': Rule(('phantom',), AT_LEAST_16),
    'phantom_width': Rule(('phantom',), AT_LEAST_16),
    # Training set.
    'size': Rule(
        ('check', 'training_set', 'training', 'prediction'),
        Range(lambda value: value >= 8 and value % 8 == 0, 'a multiple of 8'),
    ),
    'down_scale': Rule(
        ('training_set', 'training', 'prediction'),
        Range(is_inverse_integer, '1 / integer, such as 1, 0.5 or 0.25'),
    ),
    'expand_slice': Rule(('check', 'training_set'), AT_LEAST_0),
    'slice_thickness': Rule(('check', 'training_set'), ABOVE_0),
    'upper': Rule(('analysis', 'training_set', 'training', 'prediction', 'crf', 'figures', 'report')),
    'lower': Rule(('analysis', 'training_set', 'training', 'prediction', 'crf', 'figures', 'report')),
    # Network and training.
    'drop_rate': Rule(('training',), SHARE),
    'loss': Rule(('training',)),  # train_ds.py looks it up in loss.LOSSES.
    'learning_rate': Rule(('training',), ABOVE_0),
    'learning_rate_decay': Rule(
        ('training',),
        Range(lambda value: all(type(epoch) is int and epoch > 0 for epoch in value), 'a list of epochs'),
    ),
    'learning_rate_factor': Rule(('training',), DECAY_FACTOR),
    'alpha': Rule(('training',), AT_LEAST_0),
    'alpha_decay': Rule(('training',), DECAY_FACTOR),
    'alpha_epochs': Rule(('training',), AT_LEAST_1),
    'Epoch': Rule(('training',), AT_LEAST_1, compared=()),
    'batch_size': Rule(('training',), AT_LEAST_1),
    'samples_per_case': Rule(('training',), AT_LEAST_1),
    'validation_cases': Rule(('training',), AT_LEAST_0),
    'validate_every': Rule(('training',), AT_LEAST_1),
    'seed': Rule(('phantom', 'training'), AT_LEAST_0),
    'pretrained_path': Rule(('training',)),
    'resume': Rule(('training',), choice_of('auto', 'changed', ''), compared=()),
    'save_every': Rule(('training',), AT_LEAST_1, compared=()),
    'keep_saved': Rule(('training',), AT_LEAST_0, compared=()),
    # Speed and memory.
    'gpu': Rule(
        range=Range(
            lambda value: re.fullmatch(r' *(\d+( *, *\d+)*)? *', value),
            "numbers such as '0' or '0,1', or ''",
        )
    ),
    # val.py records the number format that 'auto' chose.
    'precision': Rule(('training', 'prediction'), choice_of('auto', 'float32', 'bf16', 'fp16'), compared=('training',)),
    'micro_batch_size': Rule(range=AT_LEAST_0),
    'window_batch': Rule(range=AT_LEAST_1),
    'checkpointing': Rule(),
    'compile': Rule(),
    'cudnn_benchmark': Rule(),
    'pin_memory': Rule(),
    'num_workers': Rule(range=AT_LEAST_0),
    'dask_scheduler': Rule(
        range=Range(
            lambda value: re.fullmatch(r'|(tcp|tls)://\S+:\d+|.+\.json', value),
            "tcp://host:8786, a scheduler file (.json) or ''",
        )
    ),
    # What a run prints and shows.
    'print_every': Rule(range=AT_LEAST_1),
    'visdom_server': Rule(),
    'visdom_port': Rule(range=Range(lambda value: 1 <= value <= 65535, '1 to 65535')),
    # Prediction and report.
    'threshold': Rule(('training', 'prediction'), Range(lambda value: 0 < value < 1, 'above 0, below 1')),
    'stride': Rule(('prediction',), AT_LEAST_1),
    'maximum_hole': Rule(('prediction',), AT_LEAST_0),
    'test_slice_thickness': Rule(
        ('prediction',), Range(lambda value: value is None or value > 0, 'above 0, or None'), is_optional=True
    ),
    'surface_tolerance': Rule(('prediction', 'crf'), AT_LEAST_0),
    'report_surfaces': Rule(('report',), AT_LEAST_0),
    # Dense CRF.
    'z_expand': Rule(('crf',), AT_LEAST_0),
    'x_expand': Rule(('crf',), AT_LEAST_0),
    'y_expand': Rule(('crf',), AT_LEAST_0),
    'max_iter': Rule(('crf',), AT_LEAST_1),
    's1': Rule(('crf',), ABOVE_0),
    's2': Rule(('crf',), ABOVE_0),
    's3': Rule(('crf',), ABOVE_0),
    'crf_engine': Rule(('crf',)),  # Densecrf/crf.py looks it up in ENGINES.
    'crf_tolerance': Rule(('crf',), SHARE),
}
RENAMED = {'samples_at_once': 'micro_batch_size'}  # old name: current name


def settings_of_stage(settings: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Return the settings that a stage compares with those of an earlier run.

    Args:
        settings: Values by the names of the parameters, such as vars(para).
        stage: A key of STAGES.
    """
    compared = {
        name for name, rule in RULES.items() if stage in (rule.changes if rule.compared is None else rule.compared)
    }
    return {name: value for name, value in settings.items() if name in compared}


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of an earlier run under the current names of the parameters."""
    return {RENAMED.get(name, name): value for name, value in settings.items()}


def stage_names(name: str) -> str:
    """Return the stages whose output a parameter changes, separated by commas; '' if there are none."""
    return ', '.join(stage.replace('_', ' ') for stage in RULES[name].changes)


def validate_value(name: str, value: Any, default: Any) -> Any:
    """Return the value of a parameter, a whole number as a float if the default is one.

    Raises InputError if its type or range is wrong.
    """
    rule = RULES[name]
    if type(value) is int and abs(value) > MAX_INTEGER:
        raise InputError(f'parameter {name}: wanted a number up to {MAX_INTEGER}, got one of {value.bit_length()} bits')
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default) and not (value is None and rule.is_optional):
        raise InputError(f'parameter {name}: wanted {type_name(name, default)}, got {value!r:.80}')
    if type(value) is float and not math.isfinite(value):
        raise InputError(f'parameter {name}: wanted a finite number, got {value!r:.80}')
    if type(value) is str and not is_file_name_text(value):
        raise InputError(f'parameter {name}: wanted text that can be the name of a file, got {value[:60]!r}')
    if rule.range and not rule.range.contains(value):
        raise InputError(f'parameter {name}: wanted {rule.range.words}, got {value!r:.80}')
    return value


def require_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise InputError unless the value of a parameter is one of the names in a registry."""
    if value not in choices:
        raise InputError(
            f'parameter {name}: wanted one of {", ".join(choices)}, got {value!r:.80}{suggestion(value, choices)}'
        )


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return '; did you mean ...?' with the most similar of the names; '' if none is similar."""
    similar = difflib.get_close_matches(name, names, 1, 0.5)
    return f'; did you mean {similar[0]!r}?' if similar else ''


def is_file_name_text(value: str) -> bool:
    """Return whether a string can be (part of) the name of a file."""
    try:
        return b'\0' not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def type_name(name: str, default: Any) -> str:
    """Return the words for the type of a parameter."""
    return TYPE_NAMES[type(default)] + (' or None' if RULES[name].is_optional else '')
