"""Draw the decoding steps of images: python tools/draw_steps.py CONFIG CHECKPOINT [IMAGE ...] --out sheet.png."""

from __future__ import annotations

import argparse

from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.visualization.image_steps import decode_images, first_test_images
from rnnpose_plugin.visualization.step_sheet import check_sheet_path, draw_step_sheet


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description='Draw the input, the heatmaps of each step and the poses.')
    parser.add_argument('config', help='a config with a RecurrentPoseHead')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('images', nargs='*', help="image files (default: the first of the config's test set)")
    parser.add_argument('--out', default='steps.png', help='the PNG to write (default: %(default)s)')
    parser.add_argument('--number', type=int, default=6, help='of images of the test set (default: %(default)s)')
    args = parser.parse_args()
    with one_sentence_errors():
        paths = args.images or first_test_images(args.config, args.number)
        check_sheet_path(args.out, [args.config, args.checkpoint, *paths])
        draw_step_sheet(decode_images(args.config, args.checkpoint, paths), args.out)
        print(args.out)


if __name__ == '__main__':
    main()
