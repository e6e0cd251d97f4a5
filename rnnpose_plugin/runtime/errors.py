"""One sentence for every way a run can end too early."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import time
import traceback
from contextlib import contextmanager
from typing import Iterator

from .checkpoint_file import last_good_checkpoint

# EFBIG is the same to the user: a file-size limit or quota instead of the disk's end.
DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
# Their texts are sentences already; other errors need their name to be understood.
SPEAKING_ERRORS = (ValueError, OSError, FloatingPointError, ImportError)


class ErrorReport:
    """Where a run writes, as far as it is known, and what is said when the run breaks.

    Args:
        log_dir (str, optional): The run's work directory, None before it is known.
    """

    def __init__(self, log_dir: str | None = None) -> None:
        self.log_dir = log_dir

    def interrupted(self) -> str:
        """What to say after Ctrl-C.

        Returns:
            str: One sentence.
        """
        last = last_good_checkpoint(self.log_dir)
        if last is None:
            return 'stopped by the keyboard; there is no checkpoint yet'
        return f'stopped by the keyboard; the last checkpoint is {last}, --resume continues from it'

    def failed(self, error: BaseException) -> str:
        """What to say after an error.

        Args:
            error (BaseException): The error.

        Returns:
            str: One sentence, with the path of the saved traceback where one could be saved.
        """
        sentence = self._disk_full() if is_disk_full(error) else sentence_of(error)
        saved = self._save_traceback(error)
        return f'{sentence} (traceback: {saved or "set RNNPOSE_TRACEBACK=1"})'

    def _disk_full(self) -> str:
        last = last_good_checkpoint(self.log_dir)
        way_on = f'--resume continues from the last good checkpoint, {last}' if last else 'there is no whole checkpoint'
        return f'no space left to write under {self.log_dir} (disk full, quota or file-size limit); free some, {way_on}'

    def _save_traceback(self, error: BaseException) -> str | None:
        if self.log_dir is None:
            return None
        path = os.path.join(self.log_dir, f'error_{time.strftime("%Y%m%d_%H%M%S")}.log')
        try:
            os.makedirs(self.log_dir, exist_ok=True)
            with open(path, 'w', encoding='utf-8') as file:
                file.writelines(traceback.format_exception(type(error), error, error.__traceback__))
        except OSError:  # the disk may be full: then the sentence has to do
            return None
        return path


@contextmanager
def one_sentence_errors(log_dir: str | None = None) -> Iterator[ErrorReport]:
    """Turn an exception into one line on stderr and a non-zero exit status.

    ``error: <sentence>`` and status 1 for an exception, ``stopped ...`` and status 130 for Ctrl-C. The traceback is
    saved in the run's work directory. With ``RNNPOSE_TRACEBACK=1`` in the environment the exception comes through.

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
    try:
        yield report
    except KeyboardInterrupt:
        _say(report.interrupted())
        sys.exit(130)
    except Exception as error:
        _say(f'error{_rank_note()}: {report.failed(error)}')
        sys.exit(1)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a file could not be written for want of space.

    Args:
        error (BaseException): The error.

    Returns:
        bool: True for the operating system's errors and for torch's own.
    """
    return getattr(error, 'errno', None) in DISK_FULL or 'PytorchStreamWriter failed writing' in str(error)


def sentence_of(error: BaseException) -> str:
    """An error's text in one line, led by the error's name unless the text speaks for itself.

    Args:
        error (BaseException): The error. One from a data loader's worker brings the worker's traceback along as text,
            whose last line is the error proper.

    Returns:
        str: One line.
    """
    text = str(error).strip()
    if 'Original Traceback' in text:
        text = text.splitlines()[-1]
        text = re.sub(r'^[\w.]+: ', '', text) if isinstance(error, SPEAKING_ERRORS) else text
    elif not isinstance(error, SPEAKING_ERRORS) or not text:
        text = f'{type(error).__name__}: {text}'
    return re.sub(r'\s+', ' ', text)


def _rank_note() -> str:
    rank = os.environ.get('RANK', '0')  # set by torchrun; an error may come before torch.distributed is up
    return '' if rank == '0' else f' (rank {rank})'


def _say(line: str) -> None:
    print(f'\n{line}', file=sys.stderr, flush=True)  # a progress bar may stand in the current line
