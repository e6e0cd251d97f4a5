"""Write synthetic crowds in COCO format: ``python tools/make_crowd.py --out data/crowd``, or with ``--crowdbench``.

The same options give the same bytes. Output format: ``projects.crowdbench.synthetic_crowd``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)
from projects.crowdbench.synthetic_crowd import CROWDBENCH, CROWDBENCH_COUNTS, SPLITS, CrowdSettings, write_crowd

DEFAULT_COUNTS = {'train': 4000, 'val': 100, 'plain': 150, 'occluded': 150, 'crowded': 0}
SETTINGS = ('image_size', 'max_people', 'occluded_fraction', 'crowded_fraction')


def build_parser() -> argparse.ArgumentParser:
    """Describe the options.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description='Write synthetic crowds in COCO format.')
    parser.add_argument('--crowdbench', action='store_true', help='the benchmark: fixed settings and seed')
    parser.add_argument('--out', help='folder to write to (default: data/crowd or data/crowdbench)')
    parser.add_argument('--processes', type=int, default=1, help='that draw (default: %(default)s)')
    parser.add_argument('--seed', type=int, help='0 or more (default: 0)')
    for split, count in DEFAULT_COUNTS.items():
        benchmark = f'{CROWDBENCH_COUNTS[split]} with --crowdbench'
        help_text = f"images of the split '{split}', 0 skips it (default: {count}, or {benchmark})"
        parser.add_argument(f'--{split}', type=int, metavar='COUNT', help=help_text)
    for name in SETTINGS:
        value = getattr(CrowdSettings(), name)
        parser.add_argument(
            f'--{name.replace("_", "-")}', type=type(value), help=f'see CrowdSettings (default: {value})'
        )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command; the exit status is 2 for a bad option and 1 for a failed write.

    Args:
        arguments: Command line without the program's name, by default that of the process.
    """
    parser = build_parser()
    args = parser.parse_args(arguments)
    counts = CROWDBENCH_COUNTS if args.crowdbench else DEFAULT_COUNTS
    counts = {split: counts[split] if getattr(args, split) is None else getattr(args, split) for split in SPLITS}
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    changed = [name for name in ('seed', *SETTINGS) if getattr(args, name) is not None]
    if args.crowdbench and changed:
        option = f'--{changed[0].replace("_", "-")}'
        parser.error(f'--crowdbench fixes seed and settings, but {option} was given: leave out one of the two.')
    out = args.out or ('data/crowdbench' if args.crowdbench else 'data/crowd')
    try:
        settings = CROWDBENCH if args.crowdbench else CrowdSettings(**given)
        paths = write_crowd(out, counts, args.seed or 0, settings, args.processes)
    except KeyboardInterrupt:
        sys.exit('\nstopped; the same command starts again')
    except ValueError as error:
        parser.error(str(error))
    except (OSError, RuntimeError) as error:
        parser.exit(1, f'\n{parser.prog}: error: {error}\n')
    for path in paths:
        print(path)


if __name__ == '__main__':
    main()
