"""Checkpoint files: missing and damaged ones, the one to resume from, and files that appear only when complete."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .output_files import refuse_overwriting

UNFINISHED = '.unfinished'  # name of a file that is being written


def check_checkpoint_file(path: str) -> None:
    """Refuse a checkpoint that is missing, cut off, damaged or no checkpoint at all. URLs are not checked.

    Args:
        path (str): The file.

    Raises:
        IsADirectoryError: if it is a folder.
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged, or of another kind.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f'checkpoint {path!r} is not a path; name a file')
    if '://' in str(path):
        return
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f'checkpoint {path!r} is a folder; name a file in it')
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path!r} does not exist; check the path')
    with open(path, 'rb') as file:
        start = file.read(2)
    if is_whole(path):
        return
    if _has_index(path):
        raise ValueError(f'checkpoint {path} is damaged: the checksum of a part is wrong; use another one')
    if start == b'PK':
        raise ValueError(f'checkpoint {path} is cut off, as after a full disk; use another one')
    if start[:1] != b'\x80':  # a pickle: how torch saved before 1.6
        raise ValueError(f'{path} is not a checkpoint; give a file that CheckpointHook wrote')


def check_output_file(option: str, path: str, suffix: str, sources: list[str]) -> None:
    """Refuse an output of another kind, in place of a folder, or over a file that the tool reads.

    Args:
        option (str): Of the command line, for the message.
        path (str): The file to write.
        suffix (str): That it has to end in; '' for any.
        sources (list[str]): Files that are read.

    Raises:
        ValueError: if it cannot be written there.
    """
    if not path.endswith(suffix):
        raise ValueError(f'{option} {path} has to end in {suffix}')
    if os.path.isdir(path):
        raise ValueError(f'{option} {path} is a folder; name a file to write')
    parent = next(parent for parent in Path(path).absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f'{option} {path} cannot be written: {parent} is no folder, or protected; name another')
    refuse_overwriting([path, f'{path}{UNFINISHED}'], sources)


def check_output_folder(path: str) -> None:
    """Refuse an output file whose folder does not exist.

    Args:
        path (str): The file to write.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f'the folder {Path(path).parent} of {Path(path).name} does not exist; make it first')


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is complete: a full disk or Ctrl-C leaves the old file, or none.

    Args:
        path (str): The file, replaced if it is there.

    Yields:
        BinaryIO: To write to.

    Raises:
        OSError: if there is no space left; its ``filename`` is the path.
    """
    target = os.path.realpath(path)
    in_place = os.path.exists(target) and not os.path.isfile(target)  # such as /dev/stdout
    unfinished = target if in_place else f'{target}.{os.getpid()}{UNFINISHED}'  # processes may write the same
    try:
        with open(unfinished, 'wb') as file:
            yield file
        if not in_place:
            os.replace(unfinished, target)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        if not in_place and os.path.exists(unfinished):
            os.remove(unfinished)


def is_whole(path: str) -> bool:
    """Whether a file is a zip archive, torch's format, whose parts have the checksums it says.

    Args:
        path (str): The file.

    Returns:
        bool: False for a missing or damaged file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.serialization.set_crc32_options(False) writes zeros.
            return not any(part.CRC for part in archive.infolist()) or archive.testzip() is None
    except Exception:  # what zipfile raises depends on the place of the damage
        return False


def _has_index(path: str) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of an index that it cannot read
        return True


def named_checkpoint(work_dir: str) -> str | None:
    """The checkpoint in a run's ``last_checkpoint``.

    Args:
        work_dir (str): Of the run. Where it has moved, the file of that name in it.

    Returns:
        str | None: None without ``last_checkpoint``, or when it is empty, as after a full disk.
    """
    try:
        named = Path(work_dir, 'last_checkpoint').read_text(encoding='utf-8', errors='replace').strip()
    except OSError:
        return None
    moved = os.path.join(work_dir, os.path.basename(named))
    return (moved if not os.path.exists(named) and os.path.isfile(moved) else named) or None


def newest_checkpoint(work_dir: str) -> str | None:
    """The newest ``epoch_*.pth`` or ``iter_*.pth``: the last one of each kind by number, of those the later by time.

    Args:
        work_dir (str): Of the run.

    Returns:
        str | None: Its path, whole or damaged; None if there is none.
    """
    last: dict[str, tuple[int, Path]] = {}
    for path in sorted(Path(work_dir).glob('*.pth')):
        found = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
        if found:
            last[found[1]] = max(last.get(found[1], (-1, path)), (int(found[2]), path))
    return str(max((path for _, path in last.values()), key=os.path.getmtime)) if last else None


def last_good_checkpoint(work_dir: str | None) -> str | None:
    """The checkpoint to resume from: the one ``last_checkpoint`` names, or the newest intact file if that is damaged.

    Args:
        work_dir (str, optional): Of the run.

    Returns:
        str | None: Its path, None if there is none.
    """
    if work_dir is None:
        return None
    named = named_checkpoint(work_dir) or newest_checkpoint(work_dir)
    if named and is_whole(named):
        return named
    files = sorted(Path(work_dir).glob('*.pth'), key=os.path.getmtime, reverse=True)
    return next((str(path) for path in files if is_whole(str(path))), None)


def checkpoint_to_resume(work_dir: str) -> str | None:
    """The last checkpoint of a run, named by ``last_checkpoint`` or, without that file, the newest one.

    Args:
        work_dir (str): Of the run.

    Returns:
        str | None: Its path; None if there is none.

    Raises:
        ValueError: if it is missing or damaged; the message names the last intact one.
    """
    named = named_checkpoint(work_dir)
    last = named or newest_checkpoint(work_dir)
    if last is not None and not is_whole(last):
        good = last_good_checkpoint(work_dir)
        cure = f'resume from the newest intact one, --resume {good}' if good else 'there is no other one, start again'
        raise ValueError(f'checkpoint {last}, the last one of {work_dir}, is missing, cut off or damaged; {cure}')
    if last is not None and named is None:
        print(f'{work_dir} has no last_checkpoint: resuming from its newest checkpoint, {last}', file=sys.stderr)
    return last
