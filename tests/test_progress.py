"""Progress of long work, on a terminal and in a log file."""

from __future__ import annotations

import io
import sys

import pytest

from rnnpose_plugin.runtime.progress import LINES, track


@pytest.mark.parametrize('count', [0, 1, 7, 1000])
def test_a_log_file_gets_a_line_every_few_percent(count, capsys):
    assert list(track(range(count), 'images')) == list(range(count))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == min(count, LINES)
    assert not count or lines[-1].startswith(f'images: {count}/{count},')


def test_a_generator_needs_its_number(capsys):
    assert list(track((number for number in range(3)), 'images', total=3)) == [0, 1, 2]
    assert 'images: 3/3' in capsys.readouterr().err


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    assert list(track(range(10), 'images')) == list(range(10))
    assert 'images' in terminal.getvalue() and '100%' in terminal.getvalue()
    assert 's left' not in terminal.getvalue()
