"""Imports run down the floors of the house, and importing a module changes nothing in the process."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Rooms from the lowest floor to the highest, so that a change is reported for the module that makes it and not for one
# that imports it.
ROOMS = 'base', 'image', 'run', 'volumes', 'inference', 'evaluation', 'training', 'viewing'
PACKAGES = sorted(path.parent for path in ROOT.glob('*/__init__.py'))
MODULES = [
    *(path for room in ROOMS for path in sorted((ROOT / 'utilities' / room).rglob('*.py'))),
    *(path for package in PACKAGES if package.name != 'utilities' for path in sorted(package.rglob('*.py'))),
    *sorted(ROOT.glob('*.py')),
]

# Imports third-party modules and then our modules in one process; prints what each of ours changed, as JSON.
IMPORT_ALL = """
import atexit, importlib, importlib.util, json, logging, os, signal, sys, threading

third_party, paths = json.loads(sys.argv[1])
fork_hooks = []
register = os.register_at_fork
os.register_at_fork = lambda **hooks: (fork_hooks.append(hooks), register(**hooks))
for name in third_party:
    try:
        importlib.import_module(name)
    except ImportError:  # an attribute of a module, or an optional package that is not installed
        pass

import SimpleITK
import torch
from threadpoolctl import threadpool_info

def describe_process():
    loggers = [logging.getLogger(), logging.getLogger('liver')]
    return {
        **{f'environment variable {name}': value for name, value in os.environ.items()},
        'threads': (threading.active_count(), len(os.listdir('/proc/self/task'))),
        'thread pools': sorted((pool['filepath'], pool['num_threads']) for pool in threadpool_info()),
        'threads of torch': (torch.get_num_threads(), torch.get_num_interop_threads()),
        'threads of ITK': SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads(),
        'warnings of ITK': SimpleITK.ProcessObject.GetGlobalWarningDisplay(),
        'signal handlers': [signal.getsignal(number) for number in range(1, signal.NSIG)],
        'loggers': [(logger.level, logger.propagate) for logger in loggers],
        'log handlers and filters': [[*logger.handlers, *logger.filters] for logger in loggers],
        'exit functions': atexit._ncallbacks(),
        'fork hooks': len(fork_hooks),
    }

changes, before = [], describe_process()
for path in paths:
    name = path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
    if '-' in name:  # a script that cannot be imported by name
        spec = importlib.util.spec_from_file_location('script', path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    else:
        importlib.import_module(name)
    after = describe_process()
    keys = [key for key in before | after if before.get(key) != after.get(key)]
    changes += [f'{path} changes {key}: {before.get(key)} -> {after.get(key)}' for key in keys]
    before = after
print(json.dumps(changes))
"""


def third_party_imports() -> list[str]:
    """Return every module that an import statement of ours may name, without our own modules."""
    names = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
                names.update(f'{node.module}.{alias.name}' for alias in node.names)
    own = {path.relative_to(ROOT).parts[0].removesuffix('.py') for path in MODULES}
    return sorted(name for name in names if name.split('.')[0] not in own)


def run_tool(name: str, *arguments: str) -> str:
    """Run a tool of the virtual environment on the repository, require exit status 0, and return what it prints."""
    command = [str(Path(sys.executable).parent / name), *arguments]
    variables = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_importing_a_module_changes_nothing_in_the_process():
    assert {path.name for path in (ROOT / 'utilities').iterdir() if path.is_dir()} - {'__pycache__'} == set(ROOMS)
    paths = [str(path.relative_to(ROOT)) for path in MODULES]
    argument = json.dumps([third_party_imports(), paths])
    changes = json.loads(run_tool('python', '-c', IMPORT_ALL, argument).splitlines()[-1])
    assert not changes, '\n'.join(changes)


@pytest.mark.slow
def test_imports_run_down_the_floors_of_the_house():
    assert '0 broken' in run_tool('lint-imports', '--no-cache')


@pytest.mark.slow
def test_ruff_finds_nothing_and_would_change_nothing():
    run_tool('ruff', 'check', '--no-cache', '.')
    run_tool('ruff', 'format', '--check', '--no-cache', '.')


def is_numba_kernel(function: ast.FunctionDef) -> bool:
    return any(
        'njit' in ast.unparse(decorator) or 'kernel' in ast.unparse(decorator) for decorator in function.decorator_list
    )


def test_functions_are_short_and_take_few_arguments():
    """At most 60 lines and 8 arguments beside self, outside numba kernels."""
    too_long = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not is_numba_kernel(node):
                arguments = [
                    argument for argument in [*node.args.args, *node.args.kwonlyargs] if argument.arg != 'self'
                ]
                if node.end_lineno - node.lineno >= 60 or len(arguments) > 8:
                    too_long.append(f'{path.relative_to(ROOT)}: {node.name}')
    assert not too_long
