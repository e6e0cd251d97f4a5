"""Time and memory of the decoder against AE and against the plain algorithm: ``python tools/benchmark.py``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)

# isort: split
import torch

from projects.benchmark import decoder, export, methods, training
from projects.benchmark.measure import SIZES, Timer, machine, write_report
from rnnpose_plugin.runtime.errors import one_sentence_errors

ROOT = Path(__file__).resolve().parent.parent
# Name of a case -> its function and the sizes at which it runs.
CASES = {
    'caching': (decoder.caching, ('paper', 'crowd')),
    'batch': (decoder.batching, ('paper', 'crowd')),
    'matching': (training.matching, ('paper', 'crowd')),
    'memory': (training.memory, ('paper',)),
    'chunks': (training.chunk_time, ('paper', 'crowd')),
    'people': (decoder.people, ('paper', 'crowd')),
    'options': (decoder.options, ('paper', 'crowd')),
    'methods': (methods.methods, ('shipped',)),
    'export': (export.exported, ('shipped',)),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Time and memory of the decoder, as ratios measured in one run.')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--out', default=str(ROOT / 'work_dirs/benchmark'), help='folder to write to (default: %(default)s)'
    )
    parser.add_argument('--only', nargs='+', choices=list(CASES), metavar='CASE', default=list(CASES),
                        help=f'of {", ".join(CASES)}; results of the other cases stay in the table')  # fmt: skip
    parser.add_argument('--size', choices=['paper', 'crowd', 'shipped'], help='this size only')
    parser.add_argument('--turns', type=int, default=3, help='runs of each function (default: %(default)s)')
    parser.add_argument('--case', help=argparse.SUPPRESS)  # the process of one case
    return parser.parse_args()


def run_case(args: argparse.Namespace) -> None:
    """Run one case at one size in this process and write its result."""
    function, _ = CASES[args.case]
    result = function(args.size, Timer(args.device, args.turns))
    result.update(rows=[vars(row) for row in result['rows']], machine=machine(args.device))
    record(args.out, args.case, args.size).write_text(json.dumps(result))


def record(out: str, case: str, size: str) -> Path:
    """File of a case's result."""
    return Path(out, 'cases', f'{case}_{size}.json')


def run(args: argparse.Namespace) -> None:
    """Run the cases one after the other, each in a process of its own, and report all results on this machine."""
    if args.turns < 1:
        raise ValueError(f'--turns {args.turns}: every function is timed at least once; use 1 or more')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda, but torch sees no GPU; leave it out, or see nvidia-smi')
    jobs = [(case, size) for case in args.only for size in CASES[case][1] if args.size in (None, size)]
    if not jobs:
        raise ValueError(
            f'--only {" ".join(args.only)} --size {args.size}: not measured at that size; leave --size out'
        )
    failed = []
    Path(args.out, 'cases').mkdir(parents=True, exist_ok=True)
    for number, (case, size) in enumerate(jobs, start=1):
        title = f'[{number}/{len(jobs)}] {case}, {size}'
        print(f'{title} ...', flush=True)
        begin = time.time()
        common = ['--device', args.device, '--out', args.out, '--turns', str(args.turns)]
        record(args.out, case, size).unlink(missing_ok=True)
        # MMPose's imports raise deprecation warnings.
        done = subprocess.run([sys.executable, '-W', 'ignore', __file__, *common, '--case', case, '--size', size])
        failed += [title] if done.returncode else []
        print(f'{title}: {"failed" if done.returncode else f"{time.time() - begin:.0f} s"}', flush=True)
    # All cases in the order of CASES, not only those that ran now; results of other machines stay in their files.
    known = [record(args.out, case, size) for case in CASES for size in SIZES]
    results = [json.loads(path.read_text()) for path in known if path.is_file()]
    results = [result for result in results if result['machine'] == machine(args.device)]
    print(f'\n{write_report(results, args.device, args.out)}\n\ntable and plots: {args.out}/benchmark.md')
    if failed:
        raise RuntimeError(f'{", ".join(failed)} failed, see the errors above; the others are in the table')


def main() -> None:
    args = parse_args()
    args.out = os.path.abspath(args.out)
    os.chdir(ROOT)  # of the configs
    with one_sentence_errors(args.out):
        run_case(args) if args.case else run(args)


if __name__ == '__main__':
    main()
