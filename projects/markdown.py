"""Markdown tables with aligned columns."""

from __future__ import annotations


def align(rows: list[list[str]]) -> list[str]:
    """A Markdown table whose columns are aligned, to be read on a terminal too.

    Args:
        rows (list[list[str]]): cells; the first row is the header.

    Returns:
        list[str]: lines.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in rows]
    return [lines[0], '|' + '|'.join('-' * (width + 2) for width in widths) + '|', *lines[1:]]
