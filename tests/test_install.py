"""The files behind `make install` and `pip install -e .`. Nothing is installed: make prints what it would do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGING = ('Makefile', 'setup.py', 'pyproject.toml', 'requirements.txt', 'README.md', 'LICENSE', 'rnnpose_runtime.py')

needs_make = pytest.mark.skipif(shutil.which('make') is None, reason='make is not installed')


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the packaging and the package, to be changed at will."""
    for name in PACKAGING:
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / 'rnnpose_plugin', tmp_path / 'rnnpose_plugin', ignore=shutil.ignore_patterns('__pycache__'))
    return tmp_path


def run_make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs make as from a shell, whatever started these tests (`make test` hands its variables on)."""
    environment = {
        k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'VENV', 'PYTHON')
    }
    return subprocess.run(
        ['make', '--no-print-directory', '-C', str(folder), *arguments], env=environment, capture_output=True, text=True
    )


def pins() -> dict[str, str]:
    """Reads requirements.txt: package -> version."""
    lines = [line.split('#')[0].strip() for line in (ROOT / 'requirements.txt').read_text().splitlines()]
    return dict(line.split('==') for line in lines if line)


@pytest.fixture
def metadata(checkout):
    """The metadata that pip would see, of a copy whose __version__ is another one."""
    init = checkout / 'rnnpose_plugin' / '__init__.py'
    init.write_text(re.sub(r"(?m)^__version__ = '.*'$", "__version__ = '7.8.9'", init.read_text()))
    code = "import setuptools.build_meta as build; print(build.prepare_metadata_for_build_wheel('built'))"
    (checkout / 'built').mkdir()
    run = subprocess.run([sys.executable, '-c', code], cwd=checkout, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (folder,) = (checkout / 'built').glob('*.dist-info')
    return message_from_string((folder / 'METADATA').read_text())


def extra_of(metadata, name):
    ending = f'extra == "{name}"'
    return [line.split(';')[0].strip() for line in metadata.get_all('Requires-Dist') if line.endswith(ending)]


def test_metadata_requires_nothing_outside_the_extras(metadata):
    extras = {name: extra_of(metadata, name) for name in ('toolbox', 'export', 'runtime')}
    assert sum(map(len, extras.values())) == len(metadata.get_all('Requires-Dist'))
    assert extras['runtime'] == ['numpy', 'onnxruntime']  # a user's own versions
    exporting = dict(line.split('==') for line in extras['export'])
    assert {'onnx', 'onnxscript', 'onnxruntime'} <= set(exporting) and 'torch' not in exporting
    assert exporting == {name: version for name, version in pins().items() if name in exporting}
    extra = dict(line.split('==') for line in extras['toolbox'])
    assert extra == {name: version for name, version in pins().items() if name in extra}
    assert {'torch', 'mmengine', 'mmcv-lite', 'scipy'} <= set(extra)
    assert not {'mmpose', 'pytest', 'ruff', 'onnx'} & set(extra)


def test_metadata_has_the_name_the_lowest_python_and_the_version_of_the_package(metadata):
    assert metadata['Name'] == 'rnnpose_plugin'
    assert metadata['Version'] == '7.8.9'
    assert metadata['Requires-Python'] == '>=3.8'


def test_metadata_has_the_licence_and_the_introduction_of_the_readme(metadata):
    assert 'Apache-2.0' in (metadata['License'], metadata['License-Expression'])
    assert metadata['Description-Content-Type'] == 'text/markdown'
    description = metadata.get_payload()
    assert description.startswith('# rnnpose_plugin') and '1904.11864' in description
    assert '![' not in description and '## ' not in description


def test_every_folder_is_packaged(checkout):
    code = "import setuptools; setuptools.setup = lambda **kwargs: print(*kwargs['packages']); import setup"
    run = subprocess.run([sys.executable, '-c', code], cwd=checkout, capture_output=True, text=True, check=True)
    folders = {path.parent.name for path in (ROOT / 'rnnpose_plugin').glob('*/__init__.py')}
    assert set(run.stdout.split()) == {'rnnpose_plugin', *(f'rnnpose_plugin.{folder}' for folder in folders)}


def test_the_runtime_is_packaged_as_one_module(checkout):
    code = "import setuptools; setuptools.setup = lambda **kwargs: print(*kwargs['py_modules']); import setup"
    run = subprocess.run([sys.executable, '-c', code], cwd=checkout, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ['rnnpose_runtime'] and (checkout / 'rnnpose_runtime.py').is_file()


def test_requirements_are_pinned_there_and_nowhere_else():
    assert all(re.fullmatch(r'\d+(\.\d+)+', version) for version in pins().values())
    for name in ('Makefile', 'setup.py', 'pyproject.toml'):
        assert '==' not in re.sub(r'extra ==', '', (ROOT / name).read_text()), name


@needs_make
def test_install_takes_mmpose_without_its_dependencies(checkout):
    commands = run_make(checkout, '--dry-run', 'install').stdout
    (line,) = (line for line in commands.splitlines() if 'mmpose==' in line)
    assert re.search(r' --no-deps mmpose==\d+\.\d+\.\d+$', line)
    assert 'mmpose' not in pins()
    assert re.search(r' --no-deps --no-build-isolation -e \.$', commands, re.MULTILINE)


@needs_make
def test_install_is_repeated_when_its_dependencies_change(checkout):
    stamp = re.search(r'^touch (\S+)$', run_make(checkout, '--dry-run', 'install').stdout, re.MULTILINE).group(1)
    assert run_make(checkout, '--question', 'install').returncode == 1
    (checkout / stamp).parent.mkdir()
    (checkout / stamp).touch()
    assert run_make(checkout, '--question', 'install').returncode == 0
    os.utime(checkout / 'requirements.txt')  # a fresh checkout of the same file is no change
    assert run_make(checkout, '--question', 'install').returncode == 0
    for name in ('requirements.txt', 'setup.py'):
        original = (checkout / name).read_text()
        (checkout / name).write_text(original + '\n# changed\n')
        assert run_make(checkout, '--question', 'install').returncode == 1, name
        (checkout / name).write_text(original)


@needs_make
@pytest.mark.parametrize(
    ('difference', 'fit'),
    [
        ('sys.version_info = (3, 10, 0)', False),
        ('sys.version_info = (3, 11, 0)', True),
        ('sys.version_info = (3, 12, 0)', True),
        ('sys.version_info = (3, 13, 0)', False),
        ("sys.version_info = (3, 11, 0); sys.modules['ensurepip'] = None", False),
    ],
)
def test_unfit_python_is_refused_in_one_sentence(checkout, difference, fit):
    # This Python as far as the Makefile's question goes, but for the difference; asked for anything else, it fails.
    python = checkout / 'other_python'
    question = f'[ "$1" = -c ] && exec {sys.executable} -c "import sys; {difference}; $2"'
    python.write_text(f'#!/bin/sh\n{question}\ntouch "$0.called"\nexit 1\n')
    python.chmod(0o755)
    run = run_make(checkout, 'install', f'PYTHON={python}')
    assert (checkout / 'other_python.called').exists() == fit
    if not fit:
        message, *rest = run.stderr.splitlines()
        assert message.startswith('The pinned stack needs Python 3.11 or 3.12')
        assert str(python) in message
        assert all(line.startswith('make') for line in rest)


@needs_make
def test_help_is_the_default_and_lists_every_target(checkout):
    run = run_make(checkout)
    assert run.returncode == 0
    targets = re.search(r'^\.PHONY: (.*)$', (checkout / 'Makefile').read_text(), re.MULTILINE).group(1).split()
    assert {'help', 'install', 'test', 'lint', 'demo', 'clean'} <= set(targets)
    assert [line.split()[:2] for line in run.stdout.splitlines()] == [['make', target] for target in targets]


@needs_make
def test_targets_run_what_they_say(checkout):
    test = run_make(checkout, '--dry-run', 'test', 'PYTEST_ARGS=-x').stdout
    assert "-m pytest -m 'not slow' -n auto --maxprocesses 4 --dist loadfile -x\n" in test
    assert test.index('ruff check') < test.index('ruff format --check') < test.index('pytest -m')
    assert '-m pytest -m slow' in run_make(checkout, '--dry-run', 'test-slow').stdout
    assert 'tools/demo.py --quick\n' in run_make(checkout, '--dry-run', 'demo', 'DEMO_ARGS=--quick').stdout
    assert 'tools/demo.py --fast --quick\n' in run_make(checkout, '-n', 'demo', 'FAST=1', 'DEMO_ARGS=--quick').stdout


def test_ci_runs_make_test(tmp_path):
    (tmp_path / 'make').write_text('#!/bin/sh\npwd\necho "make $@"\n')
    (tmp_path / 'make').chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ['PATH']])
    run = subprocess.run(
        [ROOT / '.ci' / 'run'], cwd=tmp_path, env={**os.environ, 'PATH': path}, capture_output=True, text=True
    )
    assert run.stdout.splitlines() == [str(ROOT), 'make test']
