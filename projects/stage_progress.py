"""Progress of a running command, read from the log lines of MMEngine that it writes."""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from pathlib import Path

# Such as "Epoch(train)  [2][ 50/2000]  lr: 1.0000e-03  eta: 1 day, 0:03:20  time: ...": loop, position, time left.
ETA = re.compile(r'((?:Epoch|Iter)\((?:train|test)\)) +((?:\[[^]]*\])+) .*?eta: ((?:\d+ days?, )?\d+:\d\d:\d\d)')
LINES = 20  # in a file or a pipe


class Progress:
    """Shows the newest ``eta:`` of a log on stderr: one line on a terminal, a line every 5 percent elsewhere.

    The validation inside a training has an ``eta:`` of its own, which is left out.

    Args:
        name (str): what runs, printed before the position.
        log (Path): its log; lines that are there already belong to an earlier run.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log.open(errors='replace')
        self.log.seek(0, 2)
        self.begin: float | None = None  # time of the first line; imports before it are no progress
        self.lines_printed = 0
        self.on_terminal = sys.stderr.isatty()

    def update(self) -> None:
        """Show the newest line of the log, where there is a new one."""
        found = ETA.findall(self.log.read())
        if not found:
            return
        loop, position, left = found[-1]
        self.begin = self.begin or time.time()
        elapsed = time.time() - self.begin
        line = f'{self.name}: {loop} {position.replace(" ", "")}, {left} left'
        if self.on_terminal:
            print(f'\r{line}\x1b[K', end='', file=sys.stderr, flush=True)
            return
        lines = int(LINES * elapsed / max(elapsed + seconds(left), 1e-9))
        if lines > self.lines_printed:
            self.lines_printed = lines
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the log, and clear the line on a terminal, unless the terminal was closed."""
        self.log.close()
        with suppress(OSError):
            if self.on_terminal:
                print('\r\x1b[K', end='', file=sys.stderr, flush=True)


def seconds(left: str) -> int:
    """A time that MMEngine prints.

    Args:
        left (str): such as ``'0:03:20'`` or ``'1 day, 0:03:20'``.

    Returns:
        int: seconds.
    """
    days, _, clock = left.rpartition(', ')
    hours, minutes, rest = map(int, clock.split(':'))
    return 86400 * int(days.split()[0] if days else 0) + 3600 * hours + 60 * minutes + rest
