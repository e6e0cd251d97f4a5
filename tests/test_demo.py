"""`make demo FAST=1`: run on few images, and with a missing or damaged model of model_zoo."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """tools/demo.py --fast on 2 images per split, in an empty folder."""
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools' / 'demo.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tool, 'ROOT', tmp_path)
    monkeypatch.setattr(tool, 'FAST_COUNT', 2)
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--fast'])
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    return tool


def test_two_images_of_each_split_are_tested_and_drawn(demo, tmp_path, capsys):
    for name in ('configs', 'model_zoo'):
        (tmp_path / name).symlink_to(ROOT / name)
    demo.main()
    printed = capsys.readouterr().out.splitlines()
    for split in ('plain', 'occluded', 'crowded'):
        truth = json.loads((tmp_path / f'data/crowdbench_slice/annotations/{split}.json').read_text())
        metrics = json.loads((tmp_path / f'work_dirs/demo_fast/{split}.json').read_text())
        assert len(truth['images']) == 2
        assert metrics['people/true'] == len(truth['annotations'])
        (line,) = [line for line in printed if line.startswith(f'{split} ')]
        assert f'{100 * metrics["coco/AP"]:.1f}' == line.split()[1]
        assert metrics['coco/AP'] > 0
    for sheet in ('steps', 'photographs'):
        assert (tmp_path / f'work_dirs/demo_fast/{sheet}.png').stat().st_size > 10_000
        assert f'work_dirs/demo_fast/{sheet}.png' in printed[-1]


def test_a_damaged_model_is_reported_at_once(demo, tmp_path, capsys):
    (tmp_path / 'model_zoo').mkdir()
    (tmp_path / 'model_zoo' / 'rnnpose_full_crowdbench.pth').write_bytes(b'PK half a file')
    with pytest.raises(SystemExit) as stop:
        demo.main()
    assert stop.value.code == 1 and 'is cut off, as after a full disk' in capsys.readouterr().err
    assert not (tmp_path / 'data').exists()


def test_a_missing_model_is_reported_at_once_by_the_command(tmp_path):
    """In a process of its own, started as `make demo FAST=1` does, in a folder with the tool alone."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'demo.py').write_text((ROOT / 'tools' / 'demo.py').read_text())
    (tmp_path / 'projects').symlink_to(ROOT / 'projects')
    command = [sys.executable, 'tools/demo.py', '--fast']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "checkpoint 'model_zoo/rnnpose_full_crowdbench.pth' does not exist" in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'data').exists()
