"""One sentence, and an exit status, for every way a run can end too early."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from typing import Iterator

from ..engine.interrupt_hook import name_of
from .checkpoint_file import last_good_checkpoint
from .cpu_processes import end_failed_cpu_process

# EFBIG is the same to the user: a file-size limit or quota instead of the disk's end.
DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
# The text of these is a sentence already; the others need the name of their class to be understood.
ONE_SENTENCE_ERRORS = (ValueError, OSError, FloatingPointError, ImportError)
# Texts of torch that need another cure, or whose own must not be passed on: it says how to execute what a file holds.
NO_WORKERS = '--cfg-options train_dataloader.num_workers=0'
OTHER_SENTENCES = (
    (
        r'Bus error|out of shared memory|unable to \w+ shared memory.*No space left',
        'a worker of the data loader has used up the shared memory (/dev/shm); enlarge it (docker: --shm-size=8g) '
        f'or use fewer workers, {NO_WORKERS}',
    ),
    (
        r'DataLoader worker \(pid.*(killed by signal: [\w ]+|exited unexpectedly)',
        'a worker of the data loader ended ({0}), often for lack of memory or shared memory (/dev/shm); use fewer '
        f'workers; with {NO_WORKERS} its error is shown',
    ),
    (
        r'ancdata|Too many open files',
        f'too many open files; raise the limit, as by ulimit -n 65536, or use fewer workers, {NO_WORKERS}',
    ),
    (
        r'gloo.*Connection|Connection closed by peer|NCCL.*remote process exited',
        'another process of this run has ended, and this one cannot go on alone; the first error of all tells why',
    ),
    (
        r'height and width of values (\(.*?\)) is not consistent .*`PixelData` (\(.*?\))',
        'heatmaps and heatmap_mask of a training image have different sizes (height, width), {0} and {1}; set the '
        'heatmap_size of InstanceHeatmapMask to that of the codec',
    ),
    (
        r'Weights only load failed(?:.*GLOBAL (\S+))?',
        'the checkpoint holds Python objects ({0}) besides tensors, numbers and text, which may run code when loaded; '
        'give a file that tools/train.py or tools/publish.py wrote, or save its state_dict anew',
    ),
)

# What Python and MMEngine say of a part of the config, and the sentence.
BUILD_ERRORS = (
    (
        r'(?s)^\W*(\S+) is not in the (?:\w+::)?([\w ]+) registry.*',
        r'MMPose, MMEngine and this package have no \2 called \1; check the spelling of its type',
    ),
    (
        r"(?s)^.*?(\w+)\.__init__\(\) got an unexpected keyword argument ('.*').*",
        r'\1 has no argument \2; check the spelling, or remove it',
    ),
    (r'(?s)^.*?(\w+)\.__init__\(\) missing .*arguments?: (.*)', r'\1 needs the argument \2; add it'),
)


class ErrorReport:
    """The messages of a run that ends too early; they name its work directory where that is known.

    Args:
        log_dir (str, optional): The run's work directory, None before it is known.
    """

    def __init__(self, log_dir: str | None = None) -> None:
        self.log_dir = log_dir
        self.trains = True  # else no checkpoint is named to resume from

    def interrupted(self, number: int) -> str:
        """The message after Ctrl-C or a signal that ends the process.

        Args:
            number (int): Of the signal.

        Returns:
            str: One sentence.
        """
        if not self.trains:
            return f'stopped by {name_of(number)}; run the same command again'
        last = last_good_checkpoint(self.log_dir)
        found = f'the last checkpoint is {last}, --resume continues from it' if last else 'there is no checkpoint yet'
        return f'stopped by {name_of(number)}; {found}'

    def failed(self, error: BaseException) -> str:
        """The message after an error.

        Args:
            error (BaseException): The error.

        Returns:
            str: One sentence, with the path of the saved traceback where one could be saved.
        """
        sentence = self._disk_full(error) if is_disk_full(error) else sentence_of(error)
        saved = self._save_traceback(error)
        return f'{sentence} (traceback: {saved or "set RNNPOSE_TRACEBACK=1"})'

    def _disk_full(self, error: BaseException) -> str:
        last = last_good_checkpoint(self.log_dir)
        cure = f'--resume continues from the last good checkpoint, {last}' if last else 'there is no whole checkpoint'
        place = getattr(error, 'filename', None) or f'under {self.log_dir}'
        more = f'free some, {cure}' if self.trains else 'free some'
        return f'no space left to write {place} (disk full, quota or file-size limit); {more}'

    def _save_traceback(self, error: BaseException) -> str | None:
        if self.log_dir is None:
            return None
        path = os.path.join(self.log_dir, f'error_{time.strftime("%Y%m%d_%H%M%S")}.log')
        try:
            os.makedirs(self.log_dir, exist_ok=True)
            with open(path, 'w', encoding='utf-8') as file:
                text = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
                file.write(re.sub(r'.*(weights_only.*False|safe_globals).*\n', '', text))
        except OSError:  # the disk may be full: then there is only the sentence
            return None
        return path


@contextmanager
def one_sentence_errors(log_dir: str | None = None) -> Iterator[ErrorReport]:
    """Turn an exception into one line on stderr and a non-zero exit status.

    ``error: <sentence>`` and status 1 for an exception; ``stopped by ...`` and status 128 + n for Ctrl-C (n = 2),
    SIGHUP (1) and SIGTERM (15). The traceback is saved in the run's work directory. With ``RNNPOSE_TRACEBACK=1`` in the
    environment the exception comes through.

    Args:
        log_dir (str, optional): The run's work directory. Where it is known only later, set ``log_dir`` of what the
            context manager yields.

    Yields:
        ErrorReport: Holds the work directory.
    """
    report = ErrorReport(log_dir)
    if os.environ.get('RNNPOSE_TRACEBACK') == '1':
        yield report
        return
    # On a full disk logging would print a traceback of its own for every line that it cannot write.
    logging.raiseExceptions = False
    previous = {number: signal.signal(number, _stop) for number in _signals_that_end_the_process()}
    try:
        yield report
    except KeyboardInterrupt as interrupt:
        while previous:  # ignored until the process ends: `timeout` and schedulers send more than one
            signal.signal(previous.popitem()[0], signal.SIG_IGN)
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        _say(report.interrupted(number))
        sys.exit(128 + number)
    except Exception as error:
        _say(f'error{_rank_note()}: {report.failed(error)}')
        end_failed_cpu_process()
        sys.exit(1)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _signals_that_end_the_process() -> list[signal.Signals]:
    """SIGHUP and SIGTERM, unless ignored (``nohup``) or handled by the caller; threads cannot set handlers."""
    in_main = threading.current_thread() is threading.main_thread()
    return [n for n in (signal.SIGHUP, signal.SIGTERM) if in_main and signal.getsignal(n) is signal.SIG_DFL]


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt(number)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a file could not be written because no space is left.

    Args:
        error (BaseException): The error.

    Returns:
        bool: True for the operating system's errors and for torch's own.
    """
    return getattr(error, 'errno', None) in DISK_FULL or 'PytorchStreamWriter failed writing' in str(error)


def sentence_of(error: BaseException) -> str:
    """An error's text in one line, after the name of its class unless the text is a sentence.

    Args:
        error (BaseException): The error. One from a data loader's worker brings the worker's traceback along as text,
            whose last line is the error proper.

    Returns:
        str: One line.
    """
    text = str(error).strip()
    for pattern, sentence in OTHER_SENTENCES:
        if found := re.search(pattern, text, re.DOTALL):
            return sentence.format(*(group or 'of a class' for group in found.groups()))
    if 'Original Traceback' in text:
        text = text.splitlines()[-1]
        text = re.sub(r'^[\w.]+: ', '', text) if isinstance(error, ONE_SENTENCE_ERRORS) else text
    elif _is_of_config(error):
        found = next((re.sub(*pair, text) for pair in BUILD_ERRORS if re.search(pair[0], text)), None)
        text = found or f'a part of the config cannot be built ({text}); check its type and arguments'
    elif not isinstance(error, ONE_SENTENCE_ERRORS) or not text:
        text = f'{type(error).__name__}: {text}'
    return re.sub(r'\s+', ' ', text)


def _is_of_config(error: BaseException) -> bool:
    """Whether MMEngine was building a part of the config, and the error is not a sentence already."""
    frames = traceback.extract_tb(error.__traceback__)
    built = any(frame.filename.endswith('build_functions.py') for frame in frames)
    return built and not isinstance(error, ONE_SENTENCE_ERRORS)


def _rank_note() -> str:
    rank = os.environ.get('RANK', '0')  # set by torchrun; an error may come before torch.distributed is up
    return '' if rank == '0' else f' (rank {rank})'


def _say(line: str) -> None:
    print(f'\n{line}', file=sys.stderr, flush=True)  # a progress bar may be in the current line
