"""No tool writes over, or deletes, a file that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def refuse_overwriting(targets: Iterable[str | Path], sources: Iterable[str | Path]) -> None:
    """Call it before the first write. Links and other spellings of a path are seen through.

    Args:
        targets (Iterable[str | Path]): Files that will be written or deleted.
        sources (Iterable[str | Path]): Files that are read; those that do not exist are passed over.

    Raises:
        ValueError: for the first target that is a source.
    """
    existing = [target for target in targets if os.path.exists(target)]
    read = {_identity(source): source for source in sources if os.path.exists(source)} if existing else {}
    for target in existing:
        if _identity(target) in read:
            raise ValueError(f'{target} would be overwritten, but it is read: write to another file or folder')


def _identity(path: str | Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
