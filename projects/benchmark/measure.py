"""Sizes, the timer, the rows of the table and the report."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from projects.markdown import align

from .plots import plot_people

NUM_KEYPOINTS = 17
SHORT = 0.2  # seconds; what takes less is timed five times as often


@dataclass(frozen=True)
class Size:
    """Size of the decoder and numbers of people per image; ``crowd`` is for matching and memory."""

    cells: int
    channels: int = 136
    hidden: tuple[int, ...] = (68, 34, 17)
    people: int = 8
    crowd: int = 30


SIZES = {
    'paper': Size(128),
    'crowd': Size(16, hidden=(32, 24, 24)),
    'shipped': Size(32, hidden=(32, 64, 64, 24)),  # of model_zoo, on coarser grids in the middle
    'tiny': Size(8, channels=6, hidden=(4, 3), people=3, crowd=5),  # for tests
}


@dataclass
class Row:
    """A row of the table; ``note`` has the range, times and settings behind the ratio."""

    figure: str
    size: str
    value: float
    note: str = ''


@dataclass
class Ratio:
    """Two functions timed in turns: median seconds of both; median, least and most of first / second, turn by turn."""

    first: float
    second: float
    value: float
    least: float
    most: float

    def __str__(self) -> str:
        return f'{self.least:.2f} to {self.most:.2f}; {in_ms(self.first)} / {in_ms(self.second)}'


class Timer:
    """Times functions on a device.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``; CUDA is synchronised before every reading.
        turns (int): runs of each function after a warm-up run; five times as many if a run takes less than ``SHORT``.
            Defaults to 3.
    """

    def __init__(self, device: str, turns: int = 3) -> None:
        self.device = device
        self.turns = turns

    def seconds(self, function: Callable[[], object]) -> float:
        """Time of one run, in seconds."""
        begin = self._now()
        function()
        return self._now() - begin

    def median(self, function: Callable[[], object]) -> float:
        """Median time of several runs, in seconds."""
        turns = self._turns(self.seconds(function))
        return statistics.median(self.seconds(function) for _ in range(turns))

    def ratio(self, first: Callable[[], object], second: Callable[[], object]) -> Ratio:
        """Time of ``first`` over that of ``second``, run in turns: what slows the machine down slows both."""
        turns = self._turns(max(self.seconds(first), self.seconds(second)))
        pairs = [(self.seconds(first), self.seconds(second)) for _ in range(turns)]
        ratios = [a / b for a, b in pairs]
        medians = (statistics.median(times) for times in zip(*pairs))
        return Ratio(*medians, statistics.median(ratios), min(ratios), max(ratios))

    def _turns(self, seconds: float) -> int:
        return self.turns * (5 if seconds < SHORT else 1)

    def _now(self) -> float:
        if self.device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()


def in_ms(seconds: float) -> str:
    """A time in milliseconds with three significant digits, such as ``'12.3 ms'``."""
    return f'{1000 * seconds:.0f} ms' if seconds >= 0.1 else f'{1000 * seconds:.3g} ms'


def machine(device: str) -> str:
    """Name of the GPU or the processor, number of threads, version of torch."""
    if device == 'cuda':
        return f'{torch.cuda.get_device_name()}, torch {torch.__version__}'
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    name = names[0] if names else platform.processor() or platform.machine()
    return f'{name}, {torch.get_num_threads()} threads, torch {torch.__version__}'


def write_report(results: Sequence[dict], device: str, folder: str) -> str:
    """Write ``benchmark.json``, ``benchmark.md`` and ``people.png``, and return the table.

    Args:
        results (Sequence[dict]): of the cases: ``rows`` (dicts of :class:`Row`) and, of the case that has one,
            ``people``, the curve over the number of people.
        device (str): they ran on.
        folder (str): where the files go.

    Returns:
        str: the table in Markdown.
    """
    out = Path(folder)
    rows = [row for result in results for row in result['rows']]
    curves = {result['rows'][0]['size']: result['people'] for result in results if result.get('people')}
    cells = [[row['figure'], row['size'], f'{row["value"]:.3g}', row['note']] for row in rows]
    table = '\n'.join(align([['figure', 'size', 'ratio', 'how'], *cells]))
    lines = ['# Benchmark', '', f'{machine(device)}.', '', table, '']
    if curves:
        plot_people(curves, str(out / 'people.png'))
        lines += ['![time per image by number of people](people.png)', '']
    (out / 'benchmark.md').write_text('\n'.join(lines), encoding='utf-8')
    content = dict(machine=machine(device), rows=rows, people=curves)
    (out / 'benchmark.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    return table
