"""Long jobs made of commands, of which a finished one is not run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from mmengine.config import Config


@dataclass
class Stage:
    """One command of a job.

    Args:
        name (str): of its record and log file, unique in the job.
        command (list[str]): what is run by this Python, such as ``['tools/train.py', 'configs/ae_hg_crowd.py']``.
        config (str, optional): the config file whose contents decide whether the stage is still the same.
        work_dir (str, optional): where a training writes its checkpoints. Its command takes ``--resume``, to go on with
            what an interrupted run left there; when it begins anew, the last checkpoint of older runs is forgotten.
        inputs (tuple[str, ...]): files that other jobs may write, too; a newer one makes another stage. Defaults to ().
    """

    name: str
    command: list[str]
    config: str | None = None
    work_dir: str | None = None
    inputs: tuple[str, ...] = ()

    def identity(self) -> str:
        """What makes the stage what it is.

        Returns:
            str: the command, the resolved config, and what the inputs are.
        """
        settings = Config.fromfile(self.config).pretty_text if self.config else ''
        return '\n'.join([' '.join(self.command), settings, *map(_stamp, self.inputs)])


def run_stages(stages: list[Stage], folder: str, fresh: bool = False) -> None:
    """Run the stages in order, each with its output in ``folder/NAME.log`` and its progress bar on stderr.

    ``folder/NAME.done`` records what a finished stage was; it is not run again while that is the same and nothing
    before it was. ``folder/NAME.started`` does so for a run that was interrupted, which is gone on with.

    Args:
        stages (list[Stage]): in order; later ones may need the earlier ones' files.
        folder (str): for records and logs.
        fresh (bool): run everything, from its beginning. Defaults to False.

    Raises:
        RuntimeError: if a command fails; its log is named.
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
        fresh = True  # what comes after was made from other files
        done.write_text(stage.identity())
        print(f'{title}: {seconds:.0f} s', flush=True)


def finished(stages: list[Stage], folder: str) -> list[Stage]:
    """The stages whose files are there and up to date: those before the first that is not done, or not as it is now.

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
    # Every start of the toolbox warns of its own age several times, which would bury the progress bars.
    environment = dict(os.environ, PYTHONWARNINGS='ignore::UserWarning')
    with log.open('a' if interrupted else 'w') as output:
        status = _wait(subprocess.Popen(command, stdout=output, env=environment))
    if status:
        raise RuntimeError(
            f'{" ".join(stage.command)} ended with status {status}; its error is above, its output in {log}.'
        )
    started.unlink()
    return time.time() - begin


def _wait(process: subprocess.Popen) -> int:
    """Ctrl-C reaches the command too, which may have a checkpoint to finish; it is waited for and not killed.

    A SIGTERM reaches this process alone. It is handed on as a Ctrl-C, or the command would go on without us.
    """

    def hand_on(*_) -> None:
        process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, hand_on)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
