"""Recognise missing and damaged checkpoint files without reading their weights."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from mmengine.runner import find_latest_checkpoint


def check_checkpoint_file(path: str) -> None:
    """Refuse a checkpoint that is missing, cut off or no checkpoint at all. URLs are not checked.

    Args:
        path (str): The file.

    Raises:
        IsADirectoryError: if it is a folder.
        FileNotFoundError: if it does not exist.
        ValueError: if it is cut off, or of another kind.
    """
    if '://' in path:
        return
    if os.path.isdir(path):
        raise IsADirectoryError(f'checkpoint {path!r} is a folder; name a file in it')
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path!r} does not exist; check the path')
    if is_whole(path):
        return
    with open(path, 'rb') as file:
        start = file.read(2)
    if start == b'PK':
        raise ValueError(f'checkpoint {path} is cut off, as after a full disk; use another one')
    if start[:1] != b'\x80':  # a pickle: how torch saved before 1.6
        raise ValueError(f'{path} is not a checkpoint; give a file that CheckpointHook wrote')


def check_output_folder(path: str) -> None:
    """Refuse an output file whose folder does not exist.

    Args:
        path (str): The file to write.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f'the folder {Path(path).parent} of {Path(path).name} does not exist; make it first')


def is_whole(path: str) -> bool:
    """Whether a file is a complete zip archive, torch's format: its index is written last.

    Args:
        path (str): The file.

    Returns:
        bool: False for a missing or damaged file.
    """
    return os.path.isfile(path) and zipfile.is_zipfile(path)


def last_good_checkpoint(work_dir: str | None) -> str | None:
    """The checkpoint to resume from: the one ``last_checkpoint`` names, or the newest intact file if that is damaged.

    Args:
        work_dir (str, optional): Of the run.

    Returns:
        str | None: Its path, None if there is none.
    """
    if work_dir is None:
        return None
    named = find_latest_checkpoint(work_dir)
    if named and is_whole(named):
        return named
    whole = [path for path in Path(work_dir).glob('*.pth') if is_whole(str(path))]
    return str(max(whole, key=os.path.getmtime)) if whole else None
