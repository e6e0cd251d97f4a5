"""`python -m rnnpose_plugin SCRIPT`: MMPose's own scripts, run on the shipped model, and names that do not exist."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rnnpose_plugin.runtime.scripts import REPOSITORY_TOOLS, find_script, list_scripts

ROOT = Path(__file__).parent.parent
CONFIG = str(ROOT / 'configs' / 'rnnpose_context_crowdbench.py')
WEIGHTS = str(ROOT / 'model_zoo' / 'rnnpose_context_crowdbench.pth')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with one image, as the current directory."""
    cv2.imwrite(str(tmp_path / 'image.png'), np.zeros((128, 128, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    return tmp_path


@pytest.fixture
def launch(folder, monkeypatch):
    """The command in this process, as each start takes seconds."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'path', ['', *sys.path])
        monkeypatch.setattr(sys, 'argv', ['rnnpose_plugin', *arguments])
        runpy.run_module('rnnpose_plugin', run_name='__main__')

    return run


def test_bottomup_demo_in_a_process_of_its_own(folder):
    """Plain `python` on this script stops at `import mmpose` beside mmcv-lite."""
    options = ['--input', 'image.png', '--output-root', 'out', '--save-predictions', '--device', 'cpu']
    command = [sys.executable, '-m', 'rnnpose_plugin', 'demo/bottomup_demo.py', CONFIG, WEIGHTS, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json.loads((folder / 'out/results_image.json').read_text())['instance_info']) >= 1
    assert cv2.imread(str(folder / 'out/image.png')).shape == (128, 128, 3)


def test_image_demo_by_its_bare_name(launch, folder):
    launch('image_demo', 'image.png', CONFIG, WEIGHTS, '--device', 'cpu', '--out-file', 'drawn.png')
    assert cv2.imread(str(folder / 'drawn.png')).shape == (128, 128, 3)


def test_inferencer_demo(launch, folder):
    options = ['--pose2d', CONFIG, '--pose2d-weights', WEIGHTS, '--device', 'cpu', '--pred-out-dir', 'out']
    launch('inferencer_demo.py', 'image.png', *options)
    assert len(json.loads((folder / 'out/image.json').read_text())[0]) >= 1


def test_get_flops(launch, capsys):
    launch('get_flops.py', CONFIG, '--input-shape', '128', '128')
    printed = capsys.readouterr().out
    assert 'Params: 2.592M' in printed and 'head.first_lstm' in printed  # as in the model card


def test_publish_model(launch, folder):
    launch('tools/misc/publish_model.py', WEIGHTS, 'published.pth')
    wait = time.time() + 60
    while (
        not (found := list(folder.glob('published-*.pth'))) and time.time() < wait
    ):  # it is renamed by a child process
        time.sleep(0.1)
    weights, original = (torch.load(path, map_location='cpu')['state_dict'] for path in (found[0], WEIGHTS))
    assert weights.keys() == original.keys() and all(torch.equal(weights[key], original[key]) for key in weights)


def test_names_mean_this_package_first_and_mmpose_by_its_name(folder):
    assert find_script('tools/train.py') == find_script('train') == ROOT / 'tools' / 'train.py'
    assert find_script('mmpose/tools/train.py').parts[-4:] == ('mmpose', '.mim', 'tools', 'train.py')
    (folder / 'train.py').touch()
    assert find_script('train.py') == Path('train.py')  # a file of the user's comes first
    names = list_scripts()
    assert {'rnnpose_plugin/tools/test.py', 'mmpose/tools/misc/browse_dataset.py'} <= set(names)
    assert not [name for name in names if '_cfg/' in name]
    assert [find_script(name) for name in names]


def test_the_tools_of_the_repository_are_those_that_import_projects():
    needing = [path.stem for path in (ROOT / 'tools').glob('*.py') if 'from projects' in path.read_text()]
    assert sorted(needing) == sorted(REPOSITORY_TOOLS)


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('demo/image_dmo.py', "there is no script 'demo/image_dmo.py', neither at this path nor in rnnpose_plugin or"),
        ('image_dmo', 'did you mean mmpose/demo/image_demo.py'),
        ('zzz', '`python -m rnnpose_plugin --list` prints all names'),
        ('needs.py', 'needs.py needs the package no_such_package, which is not installed here; install it'),
        ('fails.py', 'RuntimeError: broken'),
    ],
)
def test_a_script_that_cannot_run_gives_one_sentence(launch, folder, capsys, name, sentence):
    (folder / 'needs.py').write_text('import no_such_package.part')
    (folder / 'fails.py').write_text('raise RuntimeError("broken")')
    with pytest.raises(SystemExit) as stop:
        launch(name)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 1 and line.startswith('error: ') and sentence in line


def test_arguments_and_status_are_the_scripts_own(launch, folder, capsys):
    (folder / 'script.py').write_text('import sys, beside\nprint(__name__, sys.argv, beside.X)\nsys.exit(5)')
    (folder / 'beside.py').write_text('X = 7')
    with pytest.raises(SystemExit) as stop:
        launch('script.py', '--list', '-h', 'a b')
    assert stop.value.code == 5
    assert capsys.readouterr().out == "__main__ ['script.py', '--list', '-h', 'a b'] 7\n"


def test_without_a_script_the_usage_is_printed(launch, capsys):
    with pytest.raises(SystemExit) as stop:
        launch()
    assert stop.value.code == 2 and 'name a script to run' in capsys.readouterr().err
