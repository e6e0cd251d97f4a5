"""Long jobs as a sequence of commands; finished ones are skipped, interrupted ones resumed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TextIO

from mmengine.config import Config

from rnnpose_plugin.runtime.errors import is_disk_full

from .stage_progress import Progress

POLL_SECONDS = 0.1
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass
class Stage:
    """One command of a job.

    Args:
        name (str): of its record and log file, unique in the job.
        command (list[str]): what is run by this Python, such as ``['tools/train.py', 'configs/ae_hg_crowd.py']``.
        config (str, optional): its config file; where its contents change, the stage is run again.
        work_dir (str, optional): where a training writes its checkpoints. Its command takes ``--resume``, to continue
            an interrupted run; where it starts anew, ``last_checkpoint`` of an older run is removed.
        inputs (tuple[str, ...]): files that other jobs may write, too; where one changes, the stage is run again.
            Defaults to ().
    """

    name: str
    command: list[str]
    config: str | None = None
    work_dir: str | None = None
    inputs: tuple[str, ...] = ()

    def identity(self) -> str:
        """What the stage depends on; a finished stage is up to date while this is unchanged.

        Returns:
            str: the command, the resolved config, and size and time of the inputs.
        """
        settings = Config.fromfile(self.config).pretty_text if self.config else ''
        return '\n'.join([' '.join(self.command), settings, *map(_stamp, self.inputs)])


def run_stages(stages: list[Stage], folder: str, fresh: bool = False) -> None:
    """Run the stages in order, each with its stdout in ``folder/NAME.log`` and its progress on stderr.

    ``folder/NAME.done`` holds the identity of a finished stage; the stage is skipped while its identity is unchanged
    and no earlier stage ran. ``folder/NAME.started`` does the same for an interrupted run, which is resumed.

    Args:
        stages (list[Stage]): in order; later ones may need the files of earlier ones.
        folder (str): for records and logs.
        fresh (bool): run every stage from its start. Defaults to False.

    Raises:
        RuntimeError: if a command fails; its log is named.
        KeyboardInterrupt: after Ctrl-C, once the command has ended.
        SystemExit: after SIGTERM or SIGHUP, once the command has ended, with status 128 + the signal's number.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages, start=1):
        done = Path(folder, f'{stage.name}.done')
        title = f'[{number}/{len(stages)}] {stage.name}'
        if not fresh and _reads(done, stage.identity()):
            print(f'{title}: done before')
            continue
        print(f'{title}: {" ".join(stage.command)}', flush=True)
        seconds = _run(stage, folder, fresh)
        fresh = True  # later stages depend on the new files
        done.write_text(stage.identity())
        print(f'{title}: {seconds:.0f} s', flush=True)


def finished(stages: list[Stage], folder: str) -> list[Stage]:
    """The stages that are up to date: those before the first that is not finished or has changed.

    Args:
        stages (list[Stage]): as for :func:`run_stages`.
        folder (str): likewise.

    Returns:
        list[Stage]: the first of ``stages``.
    """
    return list(takewhile(lambda stage: _reads(Path(folder, f'{stage.name}.done'), stage.identity()), stages))


def _stamp(path: str) -> str:
    stat = os.stat(path) if os.path.exists(path) else None
    return f'{path}: {"absent" if stat is None else f"{stat.st_size} bytes at {stat.st_mtime_ns}"}'


def _reads(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


def _run(stage: Stage, folder: str, fresh: bool) -> float:
    started = Path(folder, f'{stage.name}.started')
    interrupted = stage.work_dir is not None and not fresh and _reads(started, stage.identity())
    Path(folder, f'{stage.name}.done').unlink(missing_ok=True)
    if stage.work_dir is not None and not interrupted:
        Path(stage.work_dir, 'last_checkpoint').unlink(missing_ok=True)
    started.write_text(stage.identity())
    command = [sys.executable, *stage.command, *(['--resume'] if interrupted else [])]
    begin, log = time.time(), Path(folder, f'{stage.name}.log')
    with log.open('a' if interrupted else 'w') as output:
        status = run_command(command, output, Progress(stage.name, log))
    if status:
        raise RuntimeError(
            f'{" ".join(stage.command)} ended with status {status}; its error is above, its output in {log}.'
        )
    started.unlink()
    return time.time() - begin


def run_command(command: list[str], output: TextIO | None = None, progress: Progress | None = None) -> int:
    """Run a command to its end, pass SIGTERM and SIGHUP on to it, and stop with it where one of them or Ctrl-C came.

    A terminal sends Ctrl-C to the command too. The other signals may reach this process alone. They are passed on
    unchanged: a SIGINT in their place would be lost, as children of a shell without job control ignore it. SIGKILL of
    this process reaches the command as SIGTERM, on Linux.

    Args:
        command (list[str]): program and arguments.
        output (TextIO, optional): takes its stdout. Defaults to None, that of this process.
        progress (Progress, optional): shown meanwhile. Defaults to None.

    Returns:
        int: its status, negative for a signal.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the command has ended.
        SystemExit: after SIGTERM or SIGHUP, likewise, with status 128 + the signal's number.
    """
    # MMPose warns several times at every start; these lines would bury the progress.
    environment = dict(os.environ, PYTHONWARNINGS='ignore::UserWarning')
    with _recorded_signals() as received:
        process = subprocess.Popen(command, stdout=output, env=environment, preexec_fn=_end_with_parent)
        passed_on = 0
        try:
            while process.poll() is None:
                for number in received[passed_on:]:
                    passed_on += 1
                    if number != signal.SIGINT:
                        process.send_signal(number)
                if progress and not received:  # after a SIGHUP there may be no terminal to print on
                    progress.update()
                time.sleep(POLL_SECONDS)
        finally:  # no error here leaves the command running
            if process.poll() is None:
                process.terminate()
                process.wait()
            if progress:
                progress.close()
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if received:
        with suppress(OSError):  # after a SIGHUP there may be no terminal to print on
            print(
                f'\nstopped by {signal.Signals(received[0]).name}; the same command goes on from here', file=sys.stderr
            )
        sys.exit(128 + received[0])
    return process.returncode


def _end_with_parent() -> None:
    """In the command's process: SIGTERM when the process that started it has ended, even by SIGKILL."""
    if hasattr(LIBC, 'prctl'):
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def resumable(folder: str, quiet: bool = False) -> Iterator[None]:
    """For a command: after Ctrl-C, SIGTERM or SIGHUP say how to resume, and exit with 128 + the signal's number.

    Inside :func:`one_sentence_errors`, which turns these signals into ``KeyboardInterrupt(number)``.

    Args:
        folder (str): that the command writes to.
        quiet (bool): only exit, as the process that started this one says it. Defaults to False.

    Raises:
        ValueError: if no space is left.
    """
    try:
        yield
        return
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise ValueError(
            f'no space left to write to {folder} (disk full, quota or file-size limit); free some and run the same '
            'command again to resume'
        ) from error
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
    except SystemExit as end:  # of run_command
        number = end.code - 128 if isinstance(end.code, int) else 0
        if number not in (signal.SIGTERM, signal.SIGHUP):
            raise
    with suppress(OSError):  # after a SIGHUP there may be no terminal
        if not quiet:
            print('\nstopped; run the same command again to resume', file=sys.stderr, flush=True)
    sys.exit(128 + number)


@contextmanager
def _recorded_signals() -> Iterator[list[int]]:
    """Record SIGINT, SIGTERM and SIGHUP instead of acting on them; one that is ignored, as under nohup, stays so."""
    received: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
