"""Settings of a run: parameter.py, then --parameters=FILE, then --name=value; and how a script starts and ends.

Settings files are parsed, never executed: an assignment of a plain value (number, string, True, False, None, list,
dict) or of a name assigned above it is all that they may hold.
"""

import ast
import difflib
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

from utilities.base.errors import InputError
from utilities.run.parameter_rules import checked_value, type_name

PARAMETER_FILE = Path(__file__).resolve().parents[2] / 'parameter.py'
NO_LITERAL = SyntaxError, ValueError, TypeError, RecursionError, MemoryError  # what ast makes of what is none
MAX_FILE_BYTES = 2**20  # bytes of a settings file


def read_settings(arguments, doc=''):
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
            raise InputError(
                f'unknown parameter {name!r:.80}' + (f'; did you mean {near[0]!r}?' if near else '; see --help')
            )

    defaults, values = {}, {}
    for name, expression in parameters.items():
        defaults[name] = evaluate(*expression, defaults)
        if name in given:
            values[name] = from_text(name, given[name], defaults[name])
        else:
            values[name] = evaluate(*files.get(name, expression), values)
        values[name] = checked_value(name, values[name], defaults[name])
    if values['lower'] >= values['upper']:
        raise InputError(f'parameter lower: wanted a value below upper, got {values["lower"]} and {values["upper"]}')
    if values['stride'] > values['size']:
        raise InputError(f'parameter stride: wanted at most size, got {values["stride"]} and {values["size"]}')
    if values['compile'] and ',' in values['gpu']:
        raise InputError(f'parameter compile: wanted False with several GPUs, got gpu {values["gpu"]!r}')
    return SimpleNamespace(**values)


def read_assignments(path):
    """name -> (expression, 'FILE, line N', text of the line) of a settings file, in order. Nothing in it is executed."""
    if not path.is_file():
        raise InputError(
            f'{path}: wanted a file of settings, found ' + ('a folder or a device' if path.exists() else 'none')
        )
    with open(path, 'rb') as file:
        source = file.read(MAX_FILE_BYTES + 1)
    if len(source) > MAX_FILE_BYTES:
        raise InputError(f'{path}: wanted lines such as name = value, got more than {MAX_FILE_BYTES} bytes')
    try:
        source = source.decode('utf-8-sig')
        tree = ast.parse(source, str(path))
    except NO_LITERAL as error:
        raise InputError(
            f'{path}: wanted lines such as name = value, got {str(error) or "brackets or signs too deep"}'
        ) from None
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
