"""Write synthetic crowds in COCO format, for example ``python tools/make_crowd.py --out data/crowd``.

The same options give the same bytes. See ``rnnpose_plugin.datasets.synthetic_crowd`` for what is written.
"""

from __future__ import annotations

import argparse

from rnnpose_plugin.datasets.synthetic_crowd import SPLITS, CrowdSettings, write_crowd

DEFAULT_COUNTS = {'train': 4000, 'val': 100, 'plain': 150, 'occluded': 150}


def build_parser() -> argparse.ArgumentParser:
    """Describe the options.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description='Write synthetic crowds in COCO format.')
    parser.add_argument('--out', default='data/crowd', help='folder to write to (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='0 or more (default: %(default)s)')
    for split, count in DEFAULT_COUNTS.items():
        help_text = f"images of the split '{split}', 0 leaves it alone (default: %(default)s)"
        parser.add_argument(f'--{split}', type=int, default=count, metavar='COUNT', help=help_text)
    defaults = CrowdSettings()
    parser.add_argument('--image-size', type=int, default=defaults.image_size, help='pixels (default: %(default)s)')
    parser.add_argument('--max-people', type=int, default=defaults.max_people, help='per image (default: %(default)s)')
    parser.add_argument('--occluded-fraction', type=float, default=defaults.occluded_fraction,
                        help='share of train and val images with an occluded pair (default: %(default)s)')  # fmt: skip
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exits with 2 on a bad option and with 1 where writing fails.

    Args:
        arguments: Command line without the program's name, by default that of the process.
    """
    parser = build_parser()
    args = parser.parse_args(arguments)
    counts = {split: getattr(args, split) for split in SPLITS}
    try:
        settings = CrowdSettings(image_size=args.image_size, max_people=args.max_people,
                                 occluded_fraction=args.occluded_fraction)  # fmt: skip
        paths = write_crowd(args.out, counts, args.seed, settings, progress=True)
    except ValueError as error:
        parser.error(str(error))
    except (OSError, RuntimeError) as error:
        parser.exit(1, f'\n{parser.prog}: error: {error}\n')
    for path in paths:
        print(path)


if __name__ == '__main__':
    main()
