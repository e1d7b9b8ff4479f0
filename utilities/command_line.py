"""Settings of a run: parameter.py, then --parameters=FILE, then --name=value; and how a script starts and ends.

Settings files are parsed, never executed: an assignment of a plain value (number, string, True, False, None, list,
dict) or of a name assigned above it is all that they may hold.
"""
import ast
import difflib
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from utilities.errors import InputError

PARAMETER_FILE = Path(__file__).resolve().parents[1] / 'parameter.py'
NULLABLE = {'test_slice_thickness'}

ABOVE_0 = (lambda v: v > 0, 'above 0')
NOT_NEGATIVE = (lambda v: v >= 0, '0 or more')
AT_LEAST_1 = (lambda v: v >= 1, '1 or more')
FACTOR = (lambda v: 0 < v <= 1, 'above 0, at most 1')
RANGES = {  # parameter: (test, what is wanted)
    'size': (lambda v: v >= 8 and v % 8 == 0, 'a multiple of 8, since the network halves it three times'),
    'down_scale': (lambda v: 0 < v <= 1 and abs(1 / v - round(1 / v)) < 1e-6, '1 / integer, such as 1, 0.5 or 0.25'),
    'drop_rate': (lambda v: 0 <= v < 1, '0 to below 1'),
    'threshold': (lambda v: 0 < v < 1, 'above 0, below 1'),
    'gpu': (lambda v: re.fullmatch(r'(\d+(,\d+)*)?', v.replace(' ', '')), "numbers of GPUs, as in '0' or '0,1', or ''"),
    'loss': (lambda v: v in LOSS_NAMES, 'one of Dice, ELDice, Jaccard, SS, Tversky, Hybrid, BCE, WCE'),
    'resume': (lambda v: v in ('', 'auto'), "'auto' or ''"),
    'crf_engine': (lambda v: v in ('grid', 'pydensecrf'), "'grid' or 'pydensecrf'"),
    'crf_tolerance': (lambda v: 0 <= v < 1, '0 to below 1'),
    'precision': (lambda v: v in ('auto', 'float32', 'bf16', 'fp16'), "'auto', 'float32', 'bf16' or 'fp16'"),
    'visdom_port': (lambda v: 1 <= v <= 65535, '1 to 65535'),
    'phantom_depth': (lambda v: v >= 16, '16 or more'),
    'phantom_width': (lambda v: v >= 16, '16 or more'),
    'learning_rate_decay': (lambda v: all(type(e) is int and e > 0 for e in v), 'a list of epochs'),
    'test_slice_thickness': (lambda v: v is None or v > 0, 'above 0, or None'),
    **dict.fromkeys(('slice_thickness', 'learning_rate', 's1', 's2', 's3', 'grid_tolerance'), ABOVE_0),
    **dict.fromkeys(('expand_slice', 'alpha', 'num_workers', 'seed', 'maximum_hole', 'surface_tolerance', 'z_expand',
                     'x_expand', 'y_expand', 'phantom_train', 'phantom_test'), NOT_NEGATIVE),
    **dict.fromkeys(('Epoch', 'alpha_epochs', 'batch_size', 'samples_per_case', 'save_every', 'print_every', 'stride',
                     'max_iter', 'window_batch'), AT_LEAST_1),
    **dict.fromkeys(('learning_rate_factor', 'alpha_decay'), FACTOR),
}
LOSS_NAMES = ('Dice', 'ELDice', 'Jaccard', 'SS', 'Tversky', 'Hybrid', 'BCE', 'WCE')


def run(main, doc):
    """Call main(settings) as a script: its return value is the exit status; what a user can mend is one line and status 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped by SIGTERM'))
    try:
        sys.exit(main(settings(sys.argv[1:], doc)))
    except InputError as error:
        sys.exit(f'error: {error}')
    except OSError as error:
        sys.exit(f'error: {error.filename or ""}: {error.strerror or error}')
    except KeyboardInterrupt:
        sys.exit('stopped by the keyboard')
    except RuntimeError as error:
        if 'out of memory' not in str(error):
            raise
        sys.exit('error: the GPU is out of memory: lower batch_size, window_batch, size or down_scale, set checkpointing=True or '
                 'precision=bf16, or name another gpu')


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
            raise InputError(f'argument {argument!r}: wanted --name=value, --parameters=FILE or --help')
        if name == 'parameters':
            files.update(read_assignments(Path(text)))
        else:
            given[name] = text
    for name in [*files, *given]:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, 1, 0.5)
            raise InputError(f'unknown parameter {name!r}' + (f'; did you mean {near[0]!r}?' if near else '; see --help'))

    defaults, values = {}, {}
    for name, expression in parameters.items():
        defaults[name] = evaluate(expression, defaults, PARAMETER_FILE)
        if name in given:
            values[name] = from_text(name, given[name], defaults[name])
        else:
            values[name] = evaluate(files.get(name, expression), values, 'settings')
        values[name] = checked(name, values[name], defaults[name])
    if values['lower'] >= values['upper']:
        raise InputError(f"parameter lower: wanted a value below upper, got {values['lower']} and {values['upper']}")
    if values['stride'] > values['size']:
        raise InputError(f"parameter stride: wanted at most size, got {values['stride']} and {values['size']}")
    if values['compile'] and ',' in values['gpu']:
        raise InputError(f"parameter compile: wanted False with several GPUs, got gpu {values['gpu']!r}")
    return SimpleNamespace(**values)


def read_assignments(path):
    """name -> expression of a settings file, in order. Nothing in it is executed."""
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'), str(path))
    except (SyntaxError, ValueError) as error:
        raise InputError(f'{path}: wanted lines such as name = value, got {error}') from None
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the docstring
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise InputError(f'{path}, line {node.lineno}: wanted name = value, got {ast.unparse(node)[:60]!r}')
        found[node.targets[0].id] = node.value
    return found


def evaluate(node, names, path):
    """Value of a literal, or of a name in `names`."""
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise InputError(f'{path}, line {node.lineno}: wanted a plain value, got {ast.unparse(node)[:60]!r}') from None


def from_text(name, text, default):
    if isinstance(default, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise InputError(f'parameter {name}: wanted {type_name(name, default)}, got {text!r}') from None


def checked(name, value, default):
    """The value, an int made a float where one is wanted; InputError if its type or range is wrong."""
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default) and not (value is None and name in NULLABLE):
        raise InputError(f'parameter {name}: wanted {type_name(name, default)}, got {value!r}')
    if type(value) is float and value - value != 0:
        raise InputError(f'parameter {name}: wanted a finite number, got {value!r}')
    test, wanted = RANGES.get(name, (lambda v: True, ''))
    if not test(value):
        raise InputError(f'parameter {name}: wanted {wanted}, got {value!r}')
    return value


def type_name(name, default):
    names = {float: 'a number', int: 'a whole number', bool: 'True or False', str: 'a string', list: 'a list'}
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
