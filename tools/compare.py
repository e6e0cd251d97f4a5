"""Compare two models on the same images: ``python tools/compare.py A.py A.pth B.py B.pth``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)

# isort: split
from mmengine.logging import MMLogger

from projects.compare.contender import Contender, check_test_data, load_contender
from projects.compare.facts import REQUIRED, annotation_file, other_facts, refuse_unequal, required_facts
from projects.compare.predictions import only_writer, open_dump, predict
from projects.compare.report import FILES, Results, as_text, write_report
from projects.stages import resumable, run_command
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.options import OptionAction
from rnnpose_plugin.runtime.output_files import refuse_overwriting


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare two bottom-up models on the same images.')
    for model in ('a', 'b'):
        parser.add_argument(f'config_{model}', metavar=f'{model.upper()}.py', help='config file')
        parser.add_argument(f'checkpoint_{model}', metavar=f'{model.upper()}.pth', help='its checkpoint')
    parser.add_argument('--data', metavar='DATA.py', help='test both on the test set of this config')
    parser.add_argument('--out', default='work_dirs/compare', help='folder to write to (default: %(default)s)')
    parser.add_argument('--names', nargs=2, metavar=('A', 'B'), help='names in the report (default: of the configs)')
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images')
    parser.add_argument(
        '--allow-different', nargs='+', default=[], choices=list(REQUIRED), metavar='WHAT',
        help=f'compare although they differ in {", ".join(REQUIRED)}; the report says so',
    )  # fmt: skip
    for model in ('a', 'b'):
        parser.add_argument(
            f'--cfg-options-{model}', nargs='+', action=OptionAction, default={}, metavar='KEY=VALUE',
            help=f'change settings of {model.upper()}.py',
        )  # fmt: skip
    parser.add_argument('--fresh', action='store_true', help='replace the predictions of an earlier run')
    parser.add_argument('--only', choices=['a', 'b'], help=argparse.SUPPRESS)  # the process of one model
    return parser.parse_args()


def names_of(args: argparse.Namespace) -> list[str]:
    """The names of the two in the report."""
    stems = [Path(config).stem for config in (args.config_a, args.config_b)]
    names = args.names or (stems if stems[0] != stems[1] else ['A', 'B'])
    if names[0] == names[1]:
        raise ValueError(f'--names {names[0]} {names[1]}: give them different names')
    return names


def load(args: argparse.Namespace) -> list[Contender]:
    """Both models with the data of the comparison."""
    if args.limit is not None and args.limit < 1:
        raise ValueError(f'--limit {args.limit}: compare on at least 1 image')
    paths = [
        (args.config_a, args.checkpoint_a, args.cfg_options_a),
        (args.config_b, args.checkpoint_b, args.cfg_options_b),
    ]
    return [load_contender(name, *path, args.data) for name, path in zip(names_of(args), paths)]


def dump_path(args: argparse.Namespace, model: str) -> str:
    """File of the predictions of a model."""
    return f'{args.out}/predictions_{model}.jsonl'


def run(args: argparse.Namespace) -> None:
    """Check that the comparison is fair, run each model in a process of its own, and report."""
    for path in [dump_path(args, model) for model in 'ab' if Path(dump_path(args, model)).exists()]:
        with only_writer(path):  # refuse at once what would be refused after the loading
            pass
    contenders = load(args)
    for contender in contenders:
        check_test_data(contender)
    written = [*(f'{args.out}/{name}' for name in FILES), *(dump_path(args, model) for model in 'ab')]
    read = [args.config_a, args.checkpoint_a, args.config_b, args.checkpoint_b, args.data or '']
    refuse_overwriting(written, [*read, *map(annotation_file, contenders)])
    required = required_facts(*contenders)
    allowed = refuse_unequal(required, args.allow_different)
    models, metas = zip(*(contender.build_model() for contender in contenders))
    Path(args.out).mkdir(parents=True, exist_ok=True)
    for model in 'ab' if args.fresh else '':
        with only_writer(dump_path(args, model)):
            os.truncate(dump_path(args, model), 0)
    dumps = [open_dump(contender, dump_path(args, model), args.limit) for contender, model in zip(contenders, 'ab')]
    facts = [*required, *other_facts(contenders, models, metas)]
    del models
    arguments = [argument for argument in sys.argv[1:] if argument != '--fresh']
    for model, contender, dump in zip('ab', contenders, dumps):
        if dump.finished:
            predict(contender, dump)  # only reports that there is nothing to do
            continue
        status = run_command([sys.executable, __file__, *arguments, '--only', model])
        if status < 0:
            raise ChildProcessError(
                f'the process of {contender.name} was killed by signal {-status}; check the free memory; the same '
                'command resumes after the last image'
            )
        if status:
            sys.exit(status)  # the child has printed its error
    dumps = [open_dump(contender, dump_path(args, model), args.limit) for contender, model in zip(contenders, 'ab')]
    report = write_report([Results(*pair) for pair in zip(contenders, dumps)], facts, allowed, args.out)
    print(f'\n{as_text(report)}\n\nreport, plots and images: {args.out}/report.md')


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with one_sentence_errors(args.out), resumable(args.out, quiet=args.only is not None):
        if args.only is None:
            run(args)
        else:
            contender = load(args)['ab'.index(args.only)]
            predict(contender, open_dump(contender, dump_path(args, args.only), args.limit))


if __name__ == '__main__':
    main()
