"""What the benchmark's cases share: sizes, a clock that gives ratios, the rows of its table, and the report."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from projects.markdown import align

from .plots import plot_growth, plot_people

NUM_KEYPOINTS = 17


@dataclass(frozen=True)
class Size:
    """A size of the decoder.

    Args:
        cells (int): side of the maps.
        channels (int): of F.
        hidden (tuple[int, ...]): of the ConvLSTM layers.
        people (int): in a picture, where a case does not say otherwise.
        crowd (int): in a picture with many.
    """

    cells: int
    channels: int = 136
    hidden: tuple[int, ...] = (68, 34, 17)
    people: int = 8
    crowd: int = 30


SIZES = {
    'paper': Size(128),
    'crowd': Size(16, hidden=(32, 24, 24)),
    'tiny': Size(8, channels=6, hidden=(4, 3), people=3, crowd=5),  # for tests
}


@dataclass
class Row:
    """A line of the table.

    Args:
        figure (str): what was measured.
        size (str): a key of ``SIZES``.
        value (float): ratio or share.
        target (str): such as ``'>= 1.45'``; empty for what is only told.
        note (str): what the value is made of.
    """

    figure: str
    size: str
    value: float
    target: str = ''
    note: str = ''

    @property
    def met(self) -> str:
        """str: ``'yes'`` or ``'no'``, empty without a target."""
        if not self.target:
            return ''
        sign, bound = self.target.split()
        return 'yes' if (self.value >= float(bound) if sign == '>=' else self.value <= float(bound)) else 'no'


@dataclass
class Ratio:
    """Two things timed in turns.

    Args:
        first (float): median seconds.
        second (float): median seconds.
        value (float): median of first / second, turn by turn.
        least (float): of these.
        most (float): of these.
    """

    first: float
    second: float
    value: float
    least: float
    most: float

    def __str__(self) -> str:
        return f'{self.least:.2f} to {self.most:.2f}; {in_ms(self.first)} / {in_ms(self.second)}'


class Clock:
    """Times functions on a device.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``; every reading waits for the latter.
        turns (int): how often each is timed, after one run that does not count; five times as often if that took less
            than ``SHORT``. Defaults to 3.
    """

    SHORT = 0.2  # seconds

    def __init__(self, device: str, turns: int = 3) -> None:
        self.device = device
        self.turns = turns

    def seconds(self, function: Callable[[], object]) -> float:
        """One run.

        Args:
            function (Callable): to be timed.

        Returns:
            float: seconds.
        """
        begin = self._now()
        function()
        return self._now() - begin

    def median(self, function: Callable[[], object]) -> float:
        """Several runs.

        Args:
            function (Callable): to be timed.

        Returns:
            float: median seconds.
        """
        turns = self._turns(self.seconds(function))
        return statistics.median(self.seconds(function) for _ in range(turns))

    def ratio(self, first: Callable[[], object], second: Callable[[], object]) -> Ratio:
        """Two functions in turns, so that what slows the machine down slows both.

        Args:
            first (Callable): above the line.
            second (Callable): below.

        Returns:
            Ratio: of the times of first and second.
        """
        turns = self._turns(max(self.seconds(first), self.seconds(second)))
        pairs = [(self.seconds(first), self.seconds(second)) for _ in range(turns)]
        ratios = [a / b for a, b in pairs]
        medians = (statistics.median(times) for times in zip(*pairs))
        return Ratio(*medians, statistics.median(ratios), min(ratios), max(ratios))

    def _turns(self, seconds: float) -> int:
        return self.turns * (5 if seconds < self.SHORT else 1)

    def _now(self) -> float:
        if self.device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()


def in_ms(seconds: float) -> str:
    """For notes.

    Args:
        seconds (float): a time.

    Returns:
        str: in milliseconds, with three digits that count.
    """
    return f'{1000 * seconds:.0f} ms' if seconds >= 0.1 else f'{1000 * seconds:.3g} ms'


def growth_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The b of a x^b fitted to times.

    Args:
        sizes (Sequence[float]): the x.
        seconds (Sequence[float]): the times.

    Returns:
        float: slope of the straight line through the logarithms, by least squares.
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def machine(device: str) -> str:
    """What the figures hold for.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``.

    Returns:
        str: the processor's name and how much of it is used.
    """
    if device == 'cuda':
        return f'{torch.cuda.get_device_name()}, torch {torch.__version__}'
    names = [line.split(':')[1].strip() for line in _lines('/proc/cpuinfo') if line.startswith('model name')]
    name = names[0] if names else platform.processor() or platform.machine()
    return f'{name}, {torch.get_num_threads()} threads, torch {torch.__version__}'


def write_report(results: Sequence[dict], device: str, folder: str) -> str:
    """Write ``benchmark.json``, ``benchmark.md`` and the plots.

    Args:
        results (Sequence[dict]): of the cases, each with ``rows`` (dicts of :class:`Row`) and ``curves``.
        device (str): they ran on.
        folder (str): where the files go.

    Returns:
        str: the table.
    """
    out = Path(folder)
    rows = [Row(**row) for result in results for row in result['rows']]
    curves = {name: curve for result in results for name, curve in result['curves'].items()}
    table = '\n'.join(align([['figure', 'size', 'measured', 'target', 'met', 'how'], *map(_cells, rows)]))
    lines = ['# Benchmark', '', f'{machine(device)}.', '', table, '']
    for name, plot in (('people', plot_people), ('growth', plot_growth)):
        kept = {key: curve for key, curve in curves.items() if key.startswith(f'{name}:')}
        if kept:
            plot({key.split(':', 1)[1]: curve for key, curve in kept.items()}, str(out / f'{name}.png'))
            lines += [f'![{name}]({name}.png)', '']
    (out / 'benchmark.md').write_text('\n'.join(lines), encoding='utf-8')
    content = dict(machine=machine(device), rows=[dict(asdict(row), met=row.met) for row in rows], curves=curves)
    (out / 'benchmark.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    return table


def _cells(row: Row) -> list[str]:
    return [row.figure, row.size, f'{row.value:.3g}', row.target, row.met, row.note]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []
