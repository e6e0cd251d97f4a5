"""`make demo FAST=1`: run with few pictures, and where the model of model_zoo is missing or damaged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = """
import sys
sys.argv, sys.path = ['demo', '--fast'], ['tools', *sys.path]
import demo
demo.FAST_COUNT = 2
demo.main()
"""


@pytest.fixture
def run(tmp_path):
    """The demo in a folder of its own, as it works where it lies."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'demo.py').write_text((ROOT / 'tools' / 'demo.py').read_text())
    return lambda: subprocess.run([sys.executable, '-c', RUN], cwd=tmp_path, capture_output=True, text=True)


def test_two_pictures_of_each_split_are_tested_and_drawn(run, tmp_path):
    for name in ('configs', 'model_zoo'):
        (tmp_path / name).symlink_to(ROOT / name)
    done = run()
    assert not done.returncode, done.stderr
    for split in ('plain', 'occluded', 'crowded'):
        truth = json.loads((tmp_path / f'data/crowdbench_slice/annotations/{split}.json').read_text())
        metrics = json.loads((tmp_path / f'work_dirs/demo_fast/{split}.json').read_text())
        assert len(truth['images']) == 2
        assert metrics['people/true'] == len(truth['annotations'])
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f'{split} ')]
        assert f'{100 * metrics["coco/AP"]:.1f}' == line.split()[1]
        assert metrics['coco/AP'] > 0
    assert (tmp_path / 'work_dirs/demo_fast/steps.png').stat().st_size > 10_000


def test_a_model_that_is_missing_or_damaged_is_told_at_once(run, tmp_path):
    done = run()
    assert done.returncode == 1
    assert "checkpoint 'model_zoo/rnnpose_context_crowdbench.pth' does not exist" in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'data').exists()
    (tmp_path / 'model_zoo').mkdir()
    (tmp_path / 'model_zoo' / 'rnnpose_context_crowdbench.pth').write_bytes(b'PK half a file')
    assert 'is cut off, as after a full disk' in run().stderr
    assert not (tmp_path / 'data').exists()
