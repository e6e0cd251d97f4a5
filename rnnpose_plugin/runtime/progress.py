"""Progress of long work: a bar on a terminal, a line every 5 percent in a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar('Item')
LINES = 20  # in a file or a pipe


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate and report the progress on stderr.

    Args:
        items (Iterable): Any iterable.
        description (str): At the start of each line, such as ``'images'``.
        total (int, optional): number of items. Defaults to None, ``len(items)``; without one, or with 0, there are no
            lines.

    Yields:
        Item: each of ``items``.
    """
    total = length_hint(items) if total is None else total
    if sys.stderr.isatty():
        yield from rich_track(items, description, total or None, console=Console(stderr=True))
        return
    begin, lines_printed = time.time(), 0
    for done, item in enumerate(items, start=1):
        yield item
        if total and done * LINES // total > lines_printed:
            lines_printed = done * LINES // total
            elapsed = time.time() - begin
            left = elapsed / done * (total - done)
            print(f'{description}: {done}/{total}, {elapsed:.0f} s, {left:.0f} s left', file=sys.stderr, flush=True)
