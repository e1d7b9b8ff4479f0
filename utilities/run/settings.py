"""Read the settings of a run: parameter.py, then --parameters=FILE, then --name=value. A later value wins.

Settings files are parsed and never executed: all they may hold is assignments of a plain value (number, string, True,
False, None, list, dict) or of a name that is assigned above.
"""

import ast
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from utilities.base.errors import InputError
from utilities.run.parameter_rules import RENAMED, stage_names, suggestion, type_name, validate_value

PARAMETER_FILE = Path(__file__).resolve().parents[2] / 'parameter.py'
# What ast raises for text that is not a literal.
LITERAL_ERRORS = SyntaxError, ValueError, TypeError, RecursionError, MemoryError
MAX_FILE_BYTES = 2**20  # A longer settings file is refused.


class Assignment(NamedTuple):
    """A line `name = value` of a settings file."""

    value: ast.expr
    location: str  # 'FILE, line N'
    text: str  # the line, cut to 60 characters


def read_settings(arguments: Sequence[str], doc: str = '') -> SimpleNamespace:
    """Return the settings of a run as a namespace, from parameter.py and a script's arguments.

    --help prints `doc` and all parameters, and exits.
    Raises InputError for an unknown name, a wrong type and a value out of range.
    """
    parameters = read_assignments(PARAMETER_FILE)
    if '--help' in arguments or '-h' in arguments:
        print(help_text(doc))
        sys.exit(0)
    from_files, from_arguments = read_overrides(arguments)
    for name in [*from_files, *from_arguments]:
        if name in RENAMED:
            raise InputError(f'parameter {name}: is now called {RENAMED[name]}')
        if name not in parameters:
            raise InputError(f'unknown parameter {name!r:.80}{suggestion(name, parameters) or "; see --help"}')

    defaults, values = {}, {}
    for name, assignment in parameters.items():
        defaults[name] = evaluate(assignment, defaults)
        if name in from_arguments:
            value = parse_argument(name, from_arguments[name], defaults[name])
        else:
            value = evaluate(from_files.get(name, assignment), values)
        values[name] = validate_value(name, value, defaults[name])
    validate_combinations(values)
    return SimpleNamespace(**values)


def read_overrides(arguments: Sequence[str]) -> tuple[dict[str, Assignment], dict[str, str]]:
    """Return the assignments of the --parameters files and the texts of the --name=value arguments, both by name."""
    from_files, from_arguments = {}, {}
    for argument in arguments:
        name, equals_sign, text = argument.removeprefix('--').partition('=')
        if not argument.startswith('--') or not equals_sign:
            raise InputError(f'argument {argument!r:.80}: wanted --name=value, --parameters=FILE or --help')
        if name == 'parameters':
            from_files.update(read_assignments(Path(text)))
        else:
            from_arguments[name] = text
    return from_files, from_arguments


def validate_combinations(values: Mapping[str, Any]) -> None:
    """Raise InputError for values that are valid alone and not together."""
    if values['lower'] >= values['upper']:
        raise InputError(f'parameter lower: wanted a value below upper, got {values["lower"]} and {values["upper"]}')
    if values['stride'] > values['size']:
        raise InputError(f'parameter stride: wanted at most size, got {values["stride"]} and {values["size"]}')
    if values['compile'] and ',' in values['gpu']:
        raise InputError(f'parameter compile: wanted False with several GPUs, got gpu {values["gpu"]!r}')


def read_assignments(path: Path) -> dict[str, Assignment]:
    """Return the assignments of a settings file by name, in their order. Nothing in the file is executed.

    Raises InputError if it is no file, or if it holds anything else than assignments and a docstring.
    """
    if not path.is_file():
        found = 'a folder or a device' if path.exists() else 'none'
        raise InputError(f'{path}: wanted a file of settings, found {found}')
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f'{path}: wanted lines such as name = value, got more than {MAX_FILE_BYTES} bytes')
    try:
        source = path.read_text(encoding='utf-8-sig')
        tree = ast.parse(source, str(path))
    except LITERAL_ERRORS as error:
        got = str(error) or 'too many nested brackets or signs'
        raise InputError(f'{path}: wanted lines such as name = value, got {got}') from None
    source_lines = io.StringIO(source, newline=None).readlines()  # split where Python's parser splits
    assignments = {}
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the docstring
        location, text = f'{path}, line {node.lineno}', source_lines[node.lineno - 1].strip()[:60]
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise InputError(f'{location}: wanted name = value, got {text!r:.80}')
        assignments[node.targets[0].id] = Assignment(node.value, location, text)
    return assignments


def evaluate(assignment: Assignment, names: Mapping[str, Any]) -> Any:
    """Return the value of an assignment: a literal, or the value of a name in `names`."""
    if isinstance(assignment.value, ast.Name) and assignment.value.id in names:
        return names[assignment.value.id]
    try:
        return parse_literal(assignment.value)
    except LITERAL_ERRORS:
        raise InputError(f'{assignment.location}: wanted a plain value, got {assignment.text!r:.80}') from None


def parse_argument(name: str, text: str, default: Any) -> Any:
    """Return the value of --name=text. A string needs no quotes."""
    if isinstance(default, str):
        return text
    try:
        return parse_literal(text)
    except LITERAL_ERRORS:
        raise InputError(f'parameter {name}: wanted {type_name(name, default)}, got {text[:60]!r}') from None


def parse_literal(source: str | ast.expr) -> Any:
    """Return the value of a literal. Raises one of LITERAL_ERRORS if it is none."""
    value = ast.literal_eval(source)
    json.dumps(value)  # Settings are stored as JSON; this also finds a number that is too long to be printed.
    return value


def read_parameter_groups() -> dict[str, list[tuple[str, str, str]]]:
    """Return (name, default, comment) of every parameter as text, by the groups of parameter.py, in their order."""
    groups = {}
    for line in PARAMETER_FILE.read_text(encoding='utf-8').splitlines():
        heading = re.match(r'# -+ (.+)', line)
        parameter = re.match(r'(\w+) = (.+?)\s+# (.+)', line)
        if heading:
            parameters = groups[heading[1]] = []
        elif parameter:
            parameters.append(parameter.groups())
    return groups


def help_text(doc: str) -> str:
    """Return a script's docstring, and every parameter with its default, its comment and the stages that it changes."""
    lines = [doc.strip(), '', 'Every parameter (--name=value, or --parameters=FILE with lines name = value):']
    for group, parameters in read_parameter_groups().items():
        lines += ['', group]
        for name, default, comment in parameters:
            lines += [f'  --{name}={default}', f'        {comment}']
            if stages := stage_names(name):
                lines.append(f'        changes: {stages}')
    return '\n'.join(lines)
