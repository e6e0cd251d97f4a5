"""Train, test and print tables of the paper: ``python tools/ablation.py 5 --data crowd --seeds 0 1 2``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)
from projects.paper_tables.ablation import Ablation
from projects.paper_tables.report import as_markdown, list_tables, write_tables
from projects.paper_tables.row_configs import SPLITS
from projects.paper_tables.tables import PAPER_TABLES
from projects.stages import resumable
from rnnpose_plugin.runtime.errors import one_sentence_errors

ROOT = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Reproduce the paper's tables. Paths are relative to the repository.")
    parser.add_argument('tables', nargs='*', metavar='TABLE', help=f'any of {" ".join(PAPER_TABLES)}')
    parser.add_argument('--data', default='crowd', help=f'{" or ".join(SPLITS)} (default: %(default)s)')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='of the trainings (default: 0)')
    parser.add_argument(
        '--only',
        nargs='+',
        metavar='CONFIG',
        help='run only these configs (the names that --list prints); the tables show earlier results too',
    )
    parser.add_argument('--work-dir', default='work_dirs/ablation', help='default: %(default)s')
    parser.add_argument('--fresh', action='store_true', help='repeat finished runs')
    parser.add_argument('--list', action='store_true', help='print the tables and their configs, and exit')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for every training and its tests'
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> Ablation:
    ablation = Ablation(args.tables, args.data, args.seeds, args.work_dir, args.cfg_options, args.only)
    for _ in ablation.run(args.fresh):
        write_tables(ablation)
    return ablation


def main() -> None:
    args = parse_args()
    if args.list:
        print(list_tables())
        return
    os.chdir(ROOT)
    with one_sentence_errors(args.work_dir):
        with resumable(args.work_dir):
            ablation = run(args)
        print(*(f'\n{as_markdown(ablation, name)}' for name in args.tables), sep='\n')
        print(f'\nas files: {ablation.folder}/table_*.md and .json')
        if ablation.failures:
            sys.exit(f'{len(ablation.failures)} of {len(ablation.runs())} runs failed; the tables say why')


if __name__ == '__main__':
    main()
