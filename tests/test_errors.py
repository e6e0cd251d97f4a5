"""The one sentence that is left of an error, and the files around it."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from mmengine.structures import PixelData
from torch.utils.data import DataLoader, Dataset

from rnnpose_plugin.engine.interrupt_hook import WorkerInit
from rnnpose_plugin.runtime.checkpoint_file import check_checkpoint_file, is_whole, last_good_checkpoint
from rnnpose_plugin.runtime.errors import one_sentence_errors


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr(logging, 'raiseExceptions', True)  # restored afterwards
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def outcome_of(error, capsys, log_dir=None):
    """Exit status and the lines on stderr after an error."""
    with pytest.raises(SystemExit) as stop, one_sentence_errors(log_dir):
        raise error
    return stop.value.code, capsys.readouterr().err.strip().splitlines()


def save(work_dir, name, last=True, cut=False):
    path = str(work_dir / name)
    torch.save(dict(state_dict=dict(weight=torch.zeros(1000))), path)
    if cut:
        os.truncate(path, 2000)
    if last:
        (work_dir / 'last_checkpoint').write_text(path)
    return path


@pytest.mark.parametrize(
    ('error', 'sentence'),
    [
        (ValueError('K is 14, not 17'), 'K is 14, not 17'),
        (FileNotFoundError(errno.ENOENT, 'No such file', 'a.json'), "[Errno 2] No such file: 'a.json'"),
        (TypeError('got an unexpected keyword'), 'TypeError: got an unexpected keyword'),
        (KeyError('img'), "KeyError: 'img'"),
        (AssertionError(), 'AssertionError: '),
        (ValueError('first line\n  second\tline\n'), 'first line second line'),
    ],
)
def test_error_becomes_one_line(error, sentence, capsys):
    status, lines = outcome_of(error, capsys)
    assert status == 1
    assert lines == [f'error: {sentence} (traceback: set RNNPOSE_TRACEBACK=1)']


def test_other_ranks_give_their_number(monkeypatch, capsys):
    monkeypatch.setenv('RANK', '3')
    _, (line,) = outcome_of(ValueError('K is 14'), capsys)
    assert line.startswith('error (rank 3): K is 14')


def test_traceback_is_saved_in_the_work_dir(tmp_path, capsys):
    work_dir = tmp_path / 'run'
    _, (line,) = outcome_of(ValueError('K is 14'), capsys, str(work_dir))
    (saved,) = work_dir.glob('error_*.log')
    assert line == f'error: K is 14 (traceback: {saved})'
    assert saved.read_text().startswith('Traceback') and 'raise error' in saved.read_text()


def test_work_dir_can_be_named_later(tmp_path, capsys):
    with pytest.raises(SystemExit), one_sentence_errors() as report:
        report.log_dir = str(tmp_path)
        raise ValueError
    assert len(list(tmp_path.glob('error_*.log'))) == 1


def test_work_dir_that_cannot_be_written_does_not_hide_the_error(tmp_path, capsys):
    (tmp_path / 'file').touch()
    _, (line,) = outcome_of(ValueError('K is 14'), capsys, str(tmp_path / 'file'))
    assert line == 'error: K is 14 (traceback: set RNNPOSE_TRACEBACK=1)'


def test_environment_lets_the_exception_through(monkeypatch):
    monkeypatch.setenv('RNNPOSE_TRACEBACK', '1')
    with pytest.raises(ValueError, match='K is 14'), one_sentence_errors():
        raise ValueError('K is 14')


def test_nothing_is_said_without_an_error(capsys):
    with one_sentence_errors():
        pass
    with pytest.raises(SystemExit) as stop, one_sentence_errors():
        sys.exit(3)
    assert stop.value.code == 3
    assert capsys.readouterr().err == ''


class Faulty(Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize(
    ('error', 'sentence'),
    [
        (ValueError('image 1.jpg: cut off'), 'image 1.jpg: cut off'),
        (FileNotFoundError('image 1.jpg does not exist'), 'image 1.jpg does not exist'),
        (IndexError('index 5: too large'), 'IndexError: index 5: too large'),
    ],
)
def test_error_in_a_worker_loses_the_workers_traceback(error, sentence, capsys):
    with pytest.raises(SystemExit), one_sentence_errors():
        list(DataLoader(Faulty(error), num_workers=1))
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f'error: {sentence} (traceback')


# Texts of torch that would mislead


class Dying(Dataset):
    """Its worker dies as for lack of shared memory, or is killed, or cannot send the batch."""

    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if isinstance(self.how, int):
            os.kill(os.getpid(), self.how)
        return (lambda: 0) if self.how == 'lambda' else Unsendable()


class Unsendable:
    def __reduce__(self):
        raise RuntimeError(
            'unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)'
        )


@pytest.mark.parametrize(
    ('how', 'sentence'),
    [
        (int(signal.SIGBUS), 'a worker of the data loader .*shared memory'),
        ('full', 'a worker of the data loader .* shared memory'),
        (int(signal.SIGKILL), r'a worker of the data loader ended \((killed by signal: Killed|exited unexpectedly)\)'),
        ('lambda', r'a worker of the data loader ended \('),
    ],
)
def test_a_worker_that_dies_ends_the_run_in_one_sentence(how, sentence, capfd):
    """Without WorkerInit the main process would wait forever for a batch that cannot be sent."""
    loader = DataLoader(Dying(how), num_workers=1, collate_fn=list, worker_init_fn=WorkerInit(None), timeout=60)
    with pytest.raises(SystemExit), one_sentence_errors():
        list(loader)
    err = capfd.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith('error')]
    assert re.match(f'error: {sentence}.*num_workers=0', line), line
    assert 'Traceback' not in err and ('pickle' in err) == (how == 'lambda')


@pytest.mark.parametrize('zipped', [True, False])
def test_torchs_advice_to_execute_a_checkpoint_is_not_passed_on(tmp_path, capsys, zipped):
    path = tmp_path / 'objects.pth'
    torch.save(dict(a=torch.zeros(1), b=Namespace()), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SystemExit), one_sentence_errors(str(tmp_path)):
        torch.load(path, weights_only=True)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('error: the checkpoint holds Python objects (argparse.Namespace) besides tensors')
    (saved,) = tmp_path.glob('error_*.log')
    for text in (line, saved.read_text()):
        assert not re.search(r'weights_only.{0,20}False|safe_globals', text)


def misfit():
    """The error of MMPose's PackPoseInputs for a mask of another size than the heatmaps."""
    try:
        PixelData(heatmaps=torch.zeros(5, 12, 16)).heatmap_mask = torch.zeros(1, 24, 32)
    except AssertionError as error:
        return error


@pytest.mark.parametrize(
    ('text', 'part'),
    [
        (str(misfit()), '(24, 32) and (12, 16); set the heatmap_size of InstanceHeatmapMask'),
        ('received 0 items of ancdata', 'ulimit -n'),
        ('[../gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:27: Connection reset by peer', 'another process'),
        ('[Rank 1] Connection closed by peer [127.0.0.1]:1', 'another process'),
    ],
)
def test_other_texts_of_torch(text, part, capsys):
    _, (line,) = outcome_of(RuntimeError(text), capsys)
    assert part in line and 'RuntimeError' not in line


# Signals


@pytest.mark.parametrize(
    ('error', 'status', 'name'),
    [
        (KeyboardInterrupt(), 130, 'Ctrl-C'),
        (KeyboardInterrupt(signal.SIGINT), 130, 'Ctrl-C'),
        (KeyboardInterrupt(signal.SIGTERM), 143, 'SIGTERM'),
        (KeyboardInterrupt(1), 129, 'SIGHUP'),
    ],
)
def test_a_signal_is_named_with_the_checkpoint(tmp_path, capsys, error, status, name):
    path = save(tmp_path, 'epoch_2.pth')
    found, (line,) = outcome_of(error, capsys, str(tmp_path))
    assert found == status
    assert line == f'stopped by {name}; the last checkpoint is {path}, --resume continues from it'


@pytest.mark.parametrize('known', [True, False])
def test_a_signal_before_the_first_checkpoint(tmp_path, capsys, known):
    _, (line,) = outcome_of(KeyboardInterrupt(), capsys, str(tmp_path) if known else None)
    assert line == 'stopped by Ctrl-C; there is no checkpoint yet'


AGAIN = """
import os, signal, sys
from rnnpose_plugin.runtime.errors import one_sentence_errors
class Folder:
    def __fspath__(self):  # called while the sentence is made
        os.kill(os.getpid(), signal.SIGTERM)
        return '.'
with one_sentence_errors(Folder()):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""


def test_a_second_signal_does_not_cut_the_sentence_off(tmp_path):
    """As ``timeout`` and schedulers send."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'PYTHONWARNINGS': 'ignore'}
    environment.pop('RNNPOSE_TRACEBACK', None)
    command = [sys.executable, '-c', AGAIN]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.strip() == 'stopped by SIGTERM; there is no checkpoint yet'


SIGNALLED = """
import os, signal, sys
from rnnpose_plugin.runtime.errors import one_sentence_errors
number = int(sys.argv[1])
if sys.argv[2] == 'ignored':
    signal.signal(number, signal.SIG_IGN)
with one_sentence_errors():
    try:
        os.kill(os.getpid(), number)
        print('alive')
    finally:
        os.kill(os.getpid(), number)  # a scheduler sends it again
"""


def test_signals_that_arrive_before_the_training():
    """Three processes at once: SIGTERM, SIGHUP, and SIGHUP under nohup."""
    cases = [(signal.SIGTERM, ''), (signal.SIGHUP, ''), (signal.SIGHUP, 'ignored')]
    environment = {**os.environ, 'PYTHONWARNINGS': 'ignore'}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', SIGNALLED, str(int(number)), how],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number, how in cases
    ]  # fmt: skip
    found = [(*process.communicate(timeout=200), process.returncode) for process in processes]
    sentence = 'stopped by {}; there is no checkpoint yet'
    assert [(out, err.strip(), status) for out, err, status in found] == [
        ('', sentence.format('SIGTERM'), 143),
        ('', sentence.format('SIGHUP'), 129),
        ('alive\n', '', 0),
    ]


# A full disk


FULL = [
    OSError(errno.ENOSPC, 'No space left on device'),
    OSError(errno.EFBIG, 'File too large'),
    OSError(errno.EDQUOT, 'Disk quota exceeded'),
    RuntimeError('[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file data/3'),
]


@pytest.mark.parametrize('error', FULL)
def test_full_disk_names_the_last_good_checkpoint(tmp_path, capsys, error):
    path = save(tmp_path, 'epoch_2.pth')
    save(tmp_path, 'epoch_3.pth', last=False, cut=True)
    status, (line,) = outcome_of(error, capsys, str(tmp_path))
    assert status == 1
    assert re.match(f'error: no space left to write under {tmp_path} .*free some, .*--resume .* {path} ', line)


def test_full_disk_without_a_whole_checkpoint(tmp_path, capsys):
    save(tmp_path, 'epoch_1.pth', cut=True)
    _, (line,) = outcome_of(FULL[0], capsys, str(tmp_path))
    assert 'there is no whole checkpoint' in line


def test_log_on_a_full_disk_adds_no_traceback(capsys):
    handler = logging.StreamHandler(open('/dev/full', 'w'))  # noqa: SIM115 logging closes it
    logger = logging.getLogger('full')
    logger.addHandler(handler)
    with pytest.raises(SystemExit), one_sentence_errors():
        logger.warning('a line')
        raise FULL[0]
    logger.removeHandler(handler)
    assert 'Traceback' not in capsys.readouterr().err


# Checkpoint files


def test_whole_checkpoint_passes(tmp_path):
    path = save(tmp_path, 'epoch_1.pth')
    check_checkpoint_file(path)
    assert is_whole(path)


def test_old_format_and_addresses_pass(tmp_path):
    torch.save(dict(weight=torch.zeros(3)), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    check_checkpoint_file(str(tmp_path / 'old.pth'))
    check_checkpoint_file('https://example.org/model.pth')


def test_missing_checkpoint():
    with pytest.raises(FileNotFoundError, match="checkpoint 'gone.pth' does not exist; check the path"):
        check_checkpoint_file('gone.pth')


def test_cut_off_checkpoint(tmp_path):
    path = save(tmp_path, 'epoch_1.pth', cut=True)
    with pytest.raises(ValueError, match=f'checkpoint {path} is cut off'):
        check_checkpoint_file(path)


@pytest.mark.parametrize('content', [b'', b'hello', b'{"a": 1}'])
def test_other_file_is_no_checkpoint(tmp_path, content):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(ValueError, match='a.pth is not a checkpoint'):
        check_checkpoint_file(str(tmp_path / 'a.pth'))


def test_last_good_checkpoint(tmp_path):
    assert last_good_checkpoint(None) is None
    assert last_good_checkpoint(str(tmp_path)) is None
    first = save(tmp_path, 'epoch_1.pth')
    second = save(tmp_path, 'epoch_2.pth')
    os.utime(first, (1, 1))
    assert last_good_checkpoint(str(tmp_path)) == second
    save(tmp_path, 'epoch_3.pth', cut=True)  # named by last_checkpoint, but cut off
    assert last_good_checkpoint(str(tmp_path)) == second
    save(tmp_path, 'epoch_2.pth', last=False, cut=True)
    assert last_good_checkpoint(str(tmp_path)) == first
