"""Progress of a stage from the log lines of MMEngine, in a file and on a terminal."""

import io
import re
import sys
import time
from datetime import timedelta

import pytest

from projects.stage_progress import LINES, Progress, seconds
from projects.stages import Stage, run_stages

TRAINING = """
import sys, time, torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        time.sleep(0.03)
        return dict(loss=self.weight.square().sum())

loader = dict(dataset=[dict(inputs=0)] * 40, sampler=dict(type='DefaultSampler', shuffle=False), batch_size=1)
hooks = dict(logger=dict(type='LoggerHook', interval=1))
optimizer = dict(optimizer=dict(type='SGD', lr=0.1))
Runner(Model(), sys.argv[1], loader, train_cfg=dict(by_epoch=True, max_epochs=1), optim_wrapper=optimizer,
       default_hooks=hooks).train()
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def line(loop, position, eta):
    return f'11/26 07:00:00 - mmengine - INFO - {loop}  {position}  base_lr: 1e-3 lr: 1e-3  eta: {eta}  time: 0.1\n'


def test_a_real_training_is_reported(tmp_path, capfd):
    """In the format of the installed MMEngine."""
    run_stages([Stage('train', ['-c', TRAINING, str(tmp_path / 'run')])], tmp_path)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith('train:')]
    assert lines and all(re.fullmatch(r'train: Epoch\(train\) \[1\]\[\d+/40\], 0:00:0\d left', line) for line in lines)
    assert (tmp_path / 'train.log').read_text().count('eta:') == 40


def test_a_log_file_gets_a_line_every_few_percent(tmp_path, capsys):
    """A run of 1000 s whose log has a line every second."""
    log = tmp_path / 'log'
    log.touch()
    progress = Progress('train', log)
    now = time.time()
    with log.open('a') as file:
        for done in range(1, 1001):
            progress.begin = now - done
            file.write(line('Iter(train)', f'[{done:4}/1000]', str(timedelta(seconds=1000 - done))))
            file.flush()
            progress.update()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == LINES and printed[-1] == 'train: Iter(train) [1000/1000], 0:00:00 left'
    # The clock goes on while this test runs, so a line may come a second early, never late.
    assert [round(int(text.split('[')[1].split('/')[0]) / 50) for text in printed] == list(range(1, LINES + 1))


def test_lines_of_an_earlier_run_and_of_validation_are_left_out(tmp_path, monkeypatch):
    log = tmp_path / 'log'
    log.write_text(line('Epoch(train)', '[1][ 50/100]', '0:00:01'))
    monkeypatch.setattr(sys, 'stderr', Terminal())
    progress = Progress('train', log)
    progress.update()
    with log.open('a') as file:
        file.write(line('Epoch(val)', '[1][10/20]', '0:00:01'))
    progress.update()
    assert sys.stderr.getvalue() == ''


def test_a_terminal_gets_one_line_that_is_rewritten(tmp_path, monkeypatch):
    log = tmp_path / 'log'
    log.touch()
    monkeypatch.setattr(sys, 'stderr', Terminal())
    progress = Progress('train', log)
    for position, eta in (('[1][ 50/100]', '1 day, 0:03:20'), ('[1][100/100]', '0:01:00')):
        with log.open('a') as file:
            file.write(line('Epoch(train)', position, eta))
        progress.update()
    progress.close()
    assert sys.stderr.getvalue().split('\r') == [
        '',
        'train: Epoch(train) [1][50/100], 1 day, 0:03:20 left\x1b[K',
        'train: Epoch(train) [1][100/100], 0:01:00 left\x1b[K',
        '\x1b[K',
    ]


@pytest.mark.parametrize(
    ('left', 'expected'), [('0:00:07', 7), ('1:02:03', 3723), ('1 day, 0:00:01', 86401), ('12 days, 1:00:00', 1040400)]
)
def test_times_as_mmengine_prints_them(left, expected):
    assert seconds(left) == expected
