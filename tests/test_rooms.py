"""Rules about the code itself: imports between folders, public docstrings, sizes."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / 'rnnpose_plugin').rglob('*.py'))
PROJECTS = sorted((ROOT / 'projects').rglob('*.py'))
FRAMEWORK = {'mmengine', 'mmpose', 'mmcv', 'mmdet'}


def modules_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split('.')[0]


def local_imports(path):
    """What a file imports by relative imports, as paths of modules or folders of the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            for name in [node.module.replace('.', '/')] if node.module else [alias.name for alias in node.names]:
                module = folder / f'{name}.py'
                yield module if module.exists() else folder / name


PLAIN = [path for path in PACKAGE if (ast.get_docstring(ast.parse(path.read_text())) or '').startswith('Plain torch')]


@pytest.mark.parametrize('path', PLAIN, ids=lambda path: path.stem)
def test_plain_torch_does_not_import_the_framework(path):
    assert not FRAMEWORK & set(modules_imported(path))
    assert set(local_imports(path)) <= set(PLAIN)


@pytest.mark.parametrize('path', PACKAGE, ids=lambda path: path.stem)
def test_the_package_never_imports_projects_or_tools(path):
    assert not {'projects', 'tools', 'tests'} & set(modules_imported(path))


PLAIN_NAMES = """ae_refinement chunked_backprop conv_lstm first_lstm global_context heatmap_lstm matching second_lstm
training_sequence view_merging"""


def test_the_method_itself_is_plain_torch():
    assert set(PLAIN_NAMES.split()) <= {path.stem for path in PLAIN if path.parent.name == 'models'}


@pytest.mark.parametrize('path', [path for path in PACKAGE if path.parent.name == 'models'], ids=lambda path: path.stem)
def test_models_import_nothing_of_engine_and_runtime(path):
    assert not {'engine', 'runtime'} & {name for module in local_imports(path) for name in module.parts}


def test_folders_are_one_level_deep_and_none_is_called_utils():
    assert all(len(path.relative_to(ROOT / 'rnnpose_plugin').parts) <= 2 for path in PACKAGE)
    assert not [path for path in PACKAGE if path.stem in ('utils', 'helpers', 'common', 'misc')]


def function_lines(path):
    """(name, number of lines without the docstring) of every function and method, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = node.body[0] if ast.get_docstring(node) else None
            yield node.name, node.end_lineno - node.lineno + 1 - (doc.end_lineno - doc.lineno + 1 if doc else 0)


@pytest.mark.parametrize('path', PACKAGE + PROJECTS, ids=lambda path: f'{path.parent.name}.{path.stem}')
def test_modules_have_at_most_300_lines_and_functions_40(path):
    assert len(path.read_text().splitlines()) <= 300
    assert not [(name, lines) for name, lines in function_lines(path) if lines > 40]


def test_the_package_has_at_most_14500_lines():
    assert sum(len(path.read_text().splitlines()) for path in PACKAGE) <= 14500


def public_definitions(path):
    """(name, node, docstring node) of public functions, methods and classes that take arguments."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith('_'):
            yield node.name, node, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == '__init__':
                    yield node.name, inner, node
                elif isinstance(inner, ast.FunctionDef) and not inner.name.startswith('_'):
                    yield f'{node.name}.{inner.name}', inner, inner


def arguments(node):
    args = node.args
    names = [a.arg for a in [*args.posonlyargs, *args.args, *args.kwonlyargs] if a.arg not in ('self', 'cls')]
    starred = [f'*{args.vararg.arg}'] if args.vararg else []
    return names + starred + ([f'**{args.kwarg.arg}'] if args.kwarg else [])


def documented(docstring):
    found = re.search(r'^Args:\n((?:(?:[ ].*)?\n?)*)', docstring, re.MULTILINE)
    if not found:
        return []
    block = inspect.cleandoc('\n' + found.group(1))
    return re.findall(r'^(\*{0,2}\w+)(?: \(.*?\))?:', block, re.MULTILINE)


DEFINITIONS = [(path.stem, *definition) for path in PACKAGE for definition in public_definitions(path)]
PROJECT_DEFINITIONS = [(path.stem, *definition) for path in PROJECTS for definition in public_definitions(path)]


@pytest.mark.parametrize('stem, name, function, holder', DEFINITIONS, ids=[f'{d[0]}.{d[1]}' for d in DEFINITIONS])
def test_documented_arguments_are_the_signatures(stem, name, function, holder):
    docstring = ast.get_docstring(holder)
    assert docstring, f'{name} has no docstring'
    assert documented(docstring) == arguments(function)
    annotated = [a for a in [*function.args.args, *function.args.kwonlyargs] if a.arg not in ('self', 'cls')]
    assert all(a.annotation for a in annotated), f'{name} lacks type hints'


def test_projects_document_all_arguments_or_none():
    """A study may do with one sentence; a list of arguments has to be the signature's."""
    for stem, name, function, holder in PROJECT_DEFINITIONS:
        docstring = ast.get_docstring(holder)
        assert docstring, f'{stem}.{name} has no docstring'
        assert documented(docstring) in ([], arguments(function)), f'{stem}.{name}'


def test_the_repository_names_no_machine():
    tracked = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True).stdout.split()
    texts = [ROOT / name for name in tracked if Path(name).suffix in ('.py', '.md', '.toml', '.txt', '.yaml')]
    absolute = re.compile(r'(?<![\w.])/(?:home|root|work|Users)/\w')
    assert not [str(path) for path in texts if absolute.search(path.read_text()) and path.name != 'test_rooms.py']


def test_importing_the_package_registers_everything():
    code = """
import rnnpose_plugin
from mmpose.registry import HOOKS, KEYPOINT_CODECS, LOOPS, METRICS, MODELS, TRANSFORMS
wanted = {
    KEYPOINT_CODECS: ['InstanceHeatmap', 'TrainableAssociativeEmbedding'],
    MODELS: ['RecurrentPoseHead', 'StackedFeatures', 'HungarianHeatmapLoss', 'StopLoss', 'RunningFeatureNorm',
             'StackedAEHead', 'TrainableAEHead', 'FreezableBottomupPoseEstimator', 'CrowdHourglassAENet',
             'LoadableSwinTransformer'],
    HOOKS: ['ChunkedBackpropHook', 'SeedEpochHook', 'InterruptHook', 'InvalidLossHook', 'CheckpointFitHook',
            'SyncedSaveHook'],
    LOOPS: ['ResumableEpochLoop'],
    TRANSFORMS: ['CopyPasteOcclusion', 'InstanceHeatmapMask', 'LoadPoseImage', 'PackPoseScales', 'SmallGroups'],
    METRICS: ['BottomupCocoMetric', 'MixingMetric', 'PersonCountMetric'],
}
missing = [name for registry, names in wanted.items() for name in names if registry.get(name) is None]
assert not missing, missing
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
