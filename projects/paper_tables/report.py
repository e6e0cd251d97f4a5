"""The tables as Markdown and JSON: our figures beside the paper's, with footnotes."""

from __future__ import annotations

import json

import numpy as np

from projects.markdown import align

from .ablation import SPLITS, Ablation, Run
from .tables import COLUMNS, PAPER_TABLES, Row, Table

AP, COUNT_ERROR = 'coco/AP', 'people/count_error'
# Options that leave a run comparable with the paper's.
HARMLESS_OPTIONS = ('data_root', 'num_workers')
CROWD_REASON = (
    "not comparable: the paper's AP are on COCO and OCHuman, ours on a synthetic crowd with a smaller network and "
    'another recipe; at most the order of the rows can be compared'
)


def write_tables(ablation: Ablation) -> None:
    """Write each table as ``table_NAME.md`` and ``table_NAME.json`` into the ablation's folder.

    Args:
        ablation (Ablation): with its results so far.
    """
    ablation.folder.mkdir(parents=True, exist_ok=True)
    for name in ablation.tables:
        (ablation.folder / f'table_{name}.md').write_text(as_markdown(ablation, name) + '\n', encoding='utf-8')
        (ablation.folder / f'table_{name}.json').write_text(json.dumps(as_data(ablation, name), indent=1) + '\n')


def as_data(ablation: Ablation, name: str) -> dict:
    """A table as data.

    Args:
        ablation (Ablation): with its results so far.
        name (str): of the table.

    Returns:
        dict: for JSON. ``ours`` holds, by split and metric, one value per seed with a finished test.
    """
    table = PAPER_TABLES[name]
    reason = reason_against_paper(ablation.data, ablation.options)

    def as_dict(row: Row) -> dict:
        metrics = (AP, COUNT_ERROR)
        ours = {split: {m: ablation.figures(row, split, m) for m in metrics} for split in SPLITS[ablation.data]}
        paper = dict(zip(COLUMNS, row.paper))
        shared = dict(label=row.label, train=row.trains, test=row.config, note=row.note)
        return dict(shared, ours=ours, paper=paper, comparable=row.comparable and not reason)

    return dict(
        table=name,
        title=table.title,
        data=ablation.data,
        seeds=ablation.seeds,
        options=ablation.options,
        rows=[as_dict(row) for row in table.rows],
        notes=[note for note in (*_notes(table, ablation.data), reason) if note],
        failed={run.name: reason for run, reason in _failures(ablation, table).items()},
    )


def as_markdown(ablation: Ablation, name: str) -> str:
    """A table as Markdown: our AP, the paper's, and numbered footnotes.

    Args:
        ablation (Ablation): with its results so far.
        name (str): of the table.

    Returns:
        str: Markdown, aligned for a terminal. ``people off`` is the mean over images of |found - true| people, split
        by split.
    """
    table, splits, footnotes = PAPER_TABLES[name], SPLITS[ablation.data], Footnotes()
    title = heading(name) + ''.join(footnotes.mark(note) for note in _notes(table, ablation.data))
    columns = [column for column, figures in zip(COLUMNS, zip(*(row.paper for row in table.rows))) if any(figures)]
    against = footnotes.mark(reason_against_paper(ablation.data, ablation.options))
    if not columns:  # the paper describes the result in words
        title += against
    header = ['', *(f'{split} AP' for split in splits), 'people off', *(f'paper {name}{against}' for name in columns)]

    def cells(row: Row) -> list[str]:
        missing = 'failed' if any(run in ablation.failures for run in ablation.runs_of(row)) else 'not yet'
        ours = [format_figures([100 * ap for ap in ablation.figures(row, split, AP)]) or missing for split in splits]
        off = [format_mean(ablation.figures(row, split, COUNT_ERROR)) for split in splits]
        mark = footnotes.mark(row.note if row.comparable else f'not comparable: {row.note}')
        figures = {column: figure for column, figure in zip(COLUMNS, row.paper) if figure is not None}
        paper = [
            f'{figures[column]}{"" if row.comparable else mark}' if column in figures else '' for column in columns
        ]
        return [row.label + (mark if row.comparable else ''), *ours, ' / '.join(off), *paper]

    lines = align([header, *map(cells, table.rows)])
    failed = [f'{run.name} failed: {reason}\n' for run, reason in _failures(ablation, table).items()]
    return '\n'.join([f'## {title}', '', *lines, '', *footnotes.lines(), *failed]).rstrip()


def reason_against_paper(data: str, options: list[str]) -> str:
    """The reason why the paper's figures are not comparable with ours.

    Args:
        data (str): the kind of data of ours.
        options (list[str]): the changes to all configs, as ``KEY=VALUE``.

    Returns:
        str: empty if they are comparable.
    """
    changes = [option for option in options if option.split('=')[0].split('.')[-1] not in HARMLESS_OPTIONS]
    changed = f'the configs were changed by {" ".join(changes)}' if changes else ''
    if data != 'coco':
        return f'{CROWD_REASON}; {changed}' if changed else CROWD_REASON
    return f'not comparable: {changed}' if changed else ''


def heading(name: str) -> str:
    """Name and title of a table.

    Args:
        name (str): a key of ``PAPER_TABLES``.

    Returns:
        str: such as ``Table 5: passes of the feedback loop per person``.
    """
    return f'{"Table " if name.isdigit() else ""}{name}: {PAPER_TABLES[name].title}'


def list_tables() -> str:
    """All tables and the configs of their rows.

    Returns:
        str: lines.
    """
    lines = []
    width = max(len(row.label) for table in PAPER_TABLES.values() for row in table.rows) + 2
    for name, table in PAPER_TABLES.items():
        lines.append(heading(name))
        for row in table.rows:
            source = '' if row.trains == row.config else f', tests {row.trains or "the AE weights"}'
            lines.append(f'    {row.label:<{width}}{row.config}{source}')
    return '\n'.join(lines)


def format_figures(values: list[float]) -> str:
    """Mean, standard deviation and number, for a cell.

    Args:
        values (list[float]): one per seed.

    Returns:
        str: such as ``50.1 ± 0.4 (n=3)``; the deviation is that of the sample (n - 1), omitted for a single value.
        Empty without values.
    """
    if not values:
        return ''
    deviation = f' ± {np.std(values, ddof=1):.1f}' if len(values) > 1 else ''
    return f'{np.mean(values):.1f}{deviation} (n={len(values)})'


def format_mean(values: list[float]) -> str:
    """A mean with two decimals.

    Args:
        values (list[float]): one per seed.

    Returns:
        str: a dash without values.
    """
    return f'{np.mean(values):.2f}' if values else '-'


def _notes(table: Table, data: str) -> list[str]:
    synthetic = table.synthetic_note if data != 'coco' else ''
    return [note for note in (table.note, synthetic, table.crowd_note if data == 'crowd' else '') if note]


def _failures(ablation: Ablation, table: Table) -> dict[Run, str]:
    runs = dict.fromkeys(run for row in table.rows for run in ablation.runs_of(row))
    return {run: ablation.failures[run] for run in runs if run in ablation.failures}


class Footnotes:
    """Texts, numbered in the order of their first mention."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """Mention a footnote.

        Args:
            text (str): of the note; an empty one gives no mark.

        Returns:
            str: such as `` [1]``, to be appended to a cell.
        """
        if not text:
            return ''
        if text not in self.texts:
            self.texts.append(text)
        return f' [{self.texts.index(text) + 1}]'

    def lines(self) -> list[str]:
        """All footnotes, each as a paragraph of Markdown.

        Returns:
            list[str]: a line and an empty one for each.
        """
        return [line for number, text in enumerate(self.texts, start=1) for line in (f'[{number}] {text}.', '')]
