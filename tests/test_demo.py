"""`make demo FAST=1` where the model of model_zoo is missing: told before a picture is drawn."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_model_that_is_missing_is_told_at_once(tmp_path):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'demo.py').write_text((ROOT / 'tools' / 'demo.py').read_text())
    command = [sys.executable, 'tools/demo.py', '--fast']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'model_zoo/rnnpose_context_crowdbench.pth is missing; fetch it again' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'data').exists()
