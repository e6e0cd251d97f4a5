"""Write a test set of people pasted over people, in COCO format, for example

python tools/make_occluded.py --annotations data/coco/annotations/person_keypoints_val2017.json \
    --images data/coco/val2017 --out data/occluded

The same options give the same bytes. Output format: ``projects.occluded.occluded_set``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import rnnpose_plugin  # noqa: F401  (first, as it prepares the import of mmpose)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

from projects.occluded.occluded_set import write_occluded_set
from rnnpose_plugin.runtime.errors import one_sentence_errors


def build_parser() -> argparse.ArgumentParser:
    """Describe the options.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description='Write a test set of people pasted over people, in COCO format.')
    parser.add_argument('--annotations', required=True, help='COCO keypoint file with segmentations')
    parser.add_argument('--images', required=True, help='folder of its images')
    parser.add_argument('--out', required=True, help='folder to write to')
    parser.add_argument('--iou', type=float, nargs=2, default=(0.5, 0.75), metavar=('LEAST', 'GREATEST'),
                        help='IoU of the boxes of each pair (default: 0.5 0.75)')  # fmt: skip
    parser.add_argument('--count', type=int, help='images (default: as many as have a person to cut out)')
    parser.add_argument('--seed', type=int, default=0, help='0 or more (default: %(default)s)')
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error is one sentence and exit status 1.

    Args:
        arguments: Command line without the program's name, by default that of the process.
    """
    args = build_parser().parse_args(arguments)
    with one_sentence_errors(args.out):
        try:
            path = write_occluded_set(args.annotations, args.images, args.out, tuple(args.iou), args.count, args.seed)
        except KeyboardInterrupt:
            sys.exit('stopped; the same command starts again from the first image')
        print(path)


if __name__ == '__main__':
    main()
