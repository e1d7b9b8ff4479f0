"""Settings of a run: parameter.py, then --parameters=FILE, then --name=value; and how a script starts and ends.

Settings files are parsed, never executed: an assignment of a plain value (number, string, True, False, None, list,
dict) or of a name assigned above it is all that they may hold.
"""
import ast
import difflib
import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from utilities import ranks
from utilities.engines import NO_ROOM
from utilities.errors import InputError, one_line
from utilities.lock import leave_nothing_half_written
from utilities.log import log

PARAMETER_FILE = Path(__file__).resolve().parents[1] / 'parameter.py'
NULLABLE = {'test_slice_thickness'}
NO_LITERAL = SyntaxError, ValueError, TypeError, RecursionError, MemoryError  # what ast makes of what is none
LONGEST = 2 ** 20  # bytes of a settings file
LARGEST = 2 ** 53  # the largest whole number, so that every one is exact as a float as well

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
    'dask_scheduler': (lambda v: re.fullmatch(r'|(tcp|tls)://\S+:\d+|.+\.json', v), "'tcp://host:8786', a scheduler file (.json) or ''"),
    'precision': (lambda v: v in ('auto', 'float32', 'bf16', 'fp16'), "'auto', 'float32', 'bf16' or 'fp16'"),
    'visdom_port': (lambda v: 1 <= v <= 65535, '1 to 65535'),
    'phantom_depth': (lambda v: v >= 16, '16 or more'),
    'phantom_width': (lambda v: v >= 16, '16 or more'),
    'learning_rate_decay': (lambda v: all(type(e) is int and e > 0 for e in v), 'a list of epochs'),
    'spacing_override': (lambda v: all(type(name) is str and is_spacing(spacing) for name, spacing in v.items()),
                         "three numbers above 0 (mm) for a case, as in {'volume-28': [0.7, 0.7, 1.25]}"),
    'test_slice_thickness': (lambda v: v is None or v > 0, 'above 0, or None'),
    **dict.fromkeys(('slice_thickness', 'learning_rate', 's1', 's2', 's3', 'grid_tolerance'), ABOVE_0),
    **dict.fromkeys(('expand_slice', 'alpha', 'num_workers', 'seed', 'maximum_hole', 'surface_tolerance', 'z_expand',
                     'x_expand', 'y_expand', 'phantom_train', 'phantom_test', 'keep_saved', 'validation_cases', 'samples_at_once',
                     'report_surfaces'), NOT_NEGATIVE),
    **dict.fromkeys(('Epoch', 'alpha_epochs', 'batch_size', 'samples_per_case', 'save_every', 'print_every', 'validate_every', 'stride',
                     'max_iter', 'window_batch'), AT_LEAST_1),
    **dict.fromkeys(('learning_rate_factor', 'alpha_decay'), FACTOR),
}
LOSS_NAMES = ('Dice', 'ELDice', 'Jaccard', 'SS', 'Tversky', 'Hybrid', 'BCE', 'WCE')


class Stopped(BaseException):
    """A signal asked the run to end."""


def run(main, doc, under_torchrun=False):
    """Call main(settings) as a script: its return value is the exit status; what a user can mend is one line and status 1.

    under_torchrun: may several of it work together, started by torchrun?
    SIGTERM, SIGHUP (unless ignored, as under nohup) and Ctrl-C end it with one line and status 128 + the signal's number.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace', line_buffering=True)  # no file name is a reason to stop
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    para = SimpleNamespace()
    try:
        para = settings(sys.argv[1:], doc)
        if ranks.size() > 1 and not under_torchrun:
            raise InputError('torchrun is for train_ds.py and val.py; start this script with python')
        ranks.join(para.gpu)
        status = main(para)
        ranks.leave()
        sys.exit(status)
    except InputError as error:
        fail(error)
    except OSError as error:
        fail(told(error, para))
    except MemoryError as error:
        fail(f'out of memory: {error}')
    except (Stopped, KeyboardInterrupt) as stopped:
        leave(stopped.args[0] if stopped.args else signal.SIGINT)
    except RuntimeError as error:
        if ranks.is_loss(error):
            fail('another rank of this run was lost, see what it says; torchrun starts all again with --max-restarts')
        if 'out of memory' not in str(error):
            raise
        fail('the GPU is out of memory: lower batch_size, window_batch, size or down_scale, set checkpointing=True or precision=bf16, '
             'or name another gpu')


def fail(why):
    if not ranks.said(f'error: {why}'):
        log.error(one_line(f'error: {why}'))
    sys.exit(1)


def stop(number, _):
    raise Stopped(signal.Signals(number))


def leave(number):
    """End the process now: threads at work on a case are not waited for, and what they were writing is removed."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    log.warning(f'stopped by {number.name}; what is finished is kept')
    leave_nothing_half_written()
    os._exit(128 + number)


def told(error, para):
    """What went wrong with which file, and, where one does, which parameter holds its folder."""
    if error.filename is None:
        return error.strerror or error
    file = Path(re.sub(r'\.part-\d+-\d+-', '', os.fsdecode(error.filename)))
    folders = {name: Path(value) for name, value in vars(para).items() if name.endswith(('_path', '_dir')) and value}
    holders = [name for name, folder in folders.items() if file.absolute().is_relative_to(folder.absolute())]
    nearest = max(holders, key=lambda name: len(folders[name].absolute().parts), default=None)
    more = f'; make room, or set {nearest} to a place with more' if error.errno in NO_ROOM else f'; see {nearest}'
    return f'{file}: {error.strerror}{more if nearest else ""}'


def settings(arguments, doc=''):
    """The effective settings as a namespace, from parameter.py and a script's arguments.

    Raises InputError for an unknown name, a wrong type or a value out of range. --help prints and exits.
    """
    parameters = read_assignments(PARAMETER_FILE)
    if '--help' in arguments or '-h' in arguments:
        print(help_text(doc))
        sys.exit(0)
    files, given = {}, {}
    for argument in arguments:
        name, equals, text = argument.removeprefix('--').partition('=')
        if not argument.startswith('--') or not equals:
            raise InputError(f'argument {argument!r:.80}: wanted --name=value, --parameters=FILE or --help')
        if name == 'parameters':
            files.update(read_assignments(Path(text)))
        else:
            given[name] = text
    for name in [*files, *given]:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, 1, 0.5)
            raise InputError(f'unknown parameter {name!r:.80}' + (f'; did you mean {near[0]!r}?' if near else '; see --help'))

    defaults, values = {}, {}
    for name, expression in parameters.items():
        defaults[name] = evaluate(*expression, defaults)
        if name in given:
            values[name] = from_text(name, given[name], defaults[name])
        else:
            values[name] = evaluate(*files.get(name, expression), values)
        values[name] = checked(name, values[name], defaults[name])
    if values['lower'] >= values['upper']:
        raise InputError(f"parameter lower: wanted a value below upper, got {values['lower']} and {values['upper']}")
    if values['stride'] > values['size']:
        raise InputError(f"parameter stride: wanted at most size, got {values['stride']} and {values['size']}")
    if values['compile'] and ',' in values['gpu']:
        raise InputError(f"parameter compile: wanted False with several GPUs, got gpu {values['gpu']!r}")
    return SimpleNamespace(**values)


def read_assignments(path):
    """name -> (expression, 'FILE, line N', text of the line) of a settings file, in order. Nothing in it is executed."""
    if not path.is_file():
        raise InputError(f'{path}: wanted a file of settings, found ' + ('a folder or a device' if path.exists() else 'none'))
    with open(path, 'rb') as file:
        source = file.read(LONGEST + 1)
    if len(source) > LONGEST:
        raise InputError(f'{path}: wanted lines such as name = value, got more than {LONGEST} bytes')
    try:
        source = source.decode('utf-8-sig')
        tree = ast.parse(source, str(path))
    except NO_LITERAL as error:
        raise InputError(f'{path}: wanted lines such as name = value, got {str(error) or "brackets or signs too deep"}') from None
    lines = io.StringIO(source, newline=None).readlines()  # as Python counts them
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the docstring
        place, text = f'{path}, line {node.lineno}', lines[node.lineno - 1].strip()[:60]
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise InputError(f'{place}: wanted name = value, got {text!r:.80}')
        found[node.targets[0].id] = node.value, place, text
    return found


def evaluate(node, place, text, names):
    """Value of a literal, or of a name in `names`."""
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    try:
        return literal(node)
    except NO_LITERAL:
        raise InputError(f'{place}: wanted a plain value, got {text!r:.80}') from None


def from_text(name, text, default):
    if isinstance(default, str):
        return text
    try:
        return literal(text)
    except NO_LITERAL:
        raise InputError(f'parameter {name}: wanted {type_name(name, default)}, got {text[:60]!r}') from None


def literal(source):
    """Value of a literal; raises one of NO_LITERAL."""
    value = ast.literal_eval(source)
    json.dumps(value)  # it must be possible to store it; a number too long to be printed is found here
    return value


def checked(name, value, default):
    """The value, an int made a float where one is wanted; InputError if its type or range is wrong."""
    if type(value) is int and abs(value) > LARGEST:
        raise InputError(f'parameter {name}: wanted a number up to {LARGEST}, got one of {value.bit_length()} bits')
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
    return type(value) in (list, tuple) and len(value) == 3 and all(type(v) in (int, float) and 0 < v < 1000 for v in value)


def type_name(name, default):
    names = {float: 'a number', int: 'a whole number', bool: 'True or False', str: 'a string', list: 'a list', dict: 'a dict'}
    return names[type(default)] + (' or None' if name in NULLABLE else '')


def help_text(doc):
    """The script's docstring, and every parameter with its default and comment, as parameter.py groups them."""
    lines = [doc.strip(), '', 'Every parameter (--name=value, or --parameters=FILE with lines name = value):']
    for line in PARAMETER_FILE.read_text(encoding='utf-8').splitlines():
        group = re.match(r'# -+ (.+)', line)
        assignment = re.match(r'(\w+) = (.+?)\s+# (.+)', line)
        if group:
            lines += ['', group[1]]
        elif assignment:
            lines += [f'  --{assignment[1]}={assignment[2]}', f'        {assignment[3]}']
    return '\n'.join(lines)
