"""Types and ranges of the parameters."""

import os
import re

from utilities.base.errors import InputError

NULLABLE = {'test_slice_thickness'}
MAX_INTEGER = 2**53  # the largest whole number, so that every one is exact as a float as well

ABOVE_0 = (lambda v: v > 0, 'above 0')
NOT_NEGATIVE = (lambda v: v >= 0, '0 or more')
AT_LEAST_1 = (lambda v: v >= 1, '1 or more')
FACTOR = (lambda v: 0 < v <= 1, 'above 0, at most 1')
RANGES = {  # parameter: (test, what is wanted)
    'size': (lambda v: v >= 8 and v % 8 == 0, 'a multiple of 8, since the network halves it three times'),
    'down_scale': (lambda v: 1e-4 < v <= 1 and abs(1 / v - round(1 / v)) < 1e-6, '1 / integer, such as 1, 0.5 or 0.25'),
    'drop_rate': (lambda v: 0 <= v < 1, '0 to below 1'),
    'threshold': (lambda v: 0 < v < 1, 'above 0, below 1'),
    'gpu': (lambda v: re.fullmatch(r'(\d+(,\d+)*)?', v.replace(' ', '')), "numbers of GPUs, as in '0' or '0,1', or ''"),
    'loss': (lambda v: v in LOSS_NAMES, 'one of Dice, ELDice, Jaccard, SS, Tversky, Hybrid, BCE, WCE'),
    'resume': (lambda v: v in ('', 'auto', 'changed'), "'auto', 'changed' or ''"),
    'crf_engine': (lambda v: v in ('grid', 'pydensecrf'), "'grid' or 'pydensecrf'"),
    'crf_tolerance': (lambda v: 0 <= v < 1, '0 to below 1'),
    'dask_scheduler': (
        lambda v: re.fullmatch(r'|(tcp|tls)://\S+:\d+|.+\.json', v),
        "'tcp://host:8786', a scheduler file (.json) or ''",
    ),
    'precision': (lambda v: v in ('auto', 'float32', 'bf16', 'fp16'), "'auto', 'float32', 'bf16' or 'fp16'"),
    'visdom_port': (lambda v: 1 <= v <= 65535, '1 to 65535'),
    'phantom_depth': (lambda v: v >= 16, '16 or more'),
    'phantom_width': (lambda v: v >= 16, '16 or more'),
    'learning_rate_decay': (lambda v: all(type(e) is int and e > 0 for e in v), 'a list of epochs'),
    'spacing_override': (
        lambda v: all(type(name) is str and is_spacing(spacing) for name, spacing in v.items()),
        "three numbers above 0 (mm) for a case, as in {'volume-28': [0.7, 0.7, 1.25]}",
    ),
    'test_slice_thickness': (lambda v: v is None or v > 0, 'above 0, or None'),
    **dict.fromkeys(('slice_thickness', 'learning_rate', 's1', 's2', 's3', 'grid_tolerance'), ABOVE_0),
    **dict.fromkeys(
        (
            'expand_slice',
            'alpha',
            'num_workers',
            'seed',
            'maximum_hole',
            'surface_tolerance',
            'z_expand',
            'x_expand',
            'y_expand',
            'phantom_train',
            'phantom_test',
            'keep_saved',
            'validation_cases',
            'micro_batch_size',
            'report_surfaces',
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        (
            'Epoch',
            'alpha_epochs',
            'batch_size',
            'samples_per_case',
            'save_every',
            'print_every',
            'validate_every',
            'stride',
            'max_iter',
            'window_batch',
        ),
        AT_LEAST_1,
    ),
    **dict.fromkeys(('learning_rate_factor', 'alpha_decay'), FACTOR),
}
LOSS_NAMES = ('Dice', 'ELDice', 'Jaccard', 'SS', 'Tversky', 'Hybrid', 'BCE', 'WCE')


def checked_value(name, value, default):
    """The value, an int made a float where one is wanted; InputError if its type or range is wrong."""
    if type(value) is int and abs(value) > MAX_INTEGER:
        raise InputError(f'parameter {name}: wanted a number up to {MAX_INTEGER}, got one of {value.bit_length()} bits')
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default) and not (value is None and name in NULLABLE):
        raise InputError(f'parameter {name}: wanted {type_name(name, default)}, got {value!r:.80}')
    if type(value) is float and value - value != 0:
        raise InputError(f'parameter {name}: wanted a finite number, got {value!r:.80}')
    if type(value) is str and not is_text(value):
        raise InputError(f'parameter {name}: wanted text that can be the name of a file, got {value[:60]!r}')
    test, wanted = RANGES.get(name, (lambda v: True, ''))
    if not test(value):
        raise InputError(f'parameter {name}: wanted {wanted}, got {value!r:.80}')
    return value


def is_text(value):
    try:
        return b'\0' not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def is_spacing(value):
    return (
        type(value) in (list, tuple)
        and len(value) == 3
        and all(type(v) in (int, float) and 0 < v < 1000 for v in value)
    )


def type_name(name, default):
    names = {
        float: 'a number',
        int: 'a whole number',
        bool: 'True or False',
        str: 'a string',
        list: 'a list',
        dict: 'a dict',
    }
    return names[type(default)] + (' or None' if name in NULLABLE else '')
