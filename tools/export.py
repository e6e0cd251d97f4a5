"""Write a model as ONNX or .pt2: ``python tools/export.py CONFIG CHECKPOINT --out model.onnx``."""

from __future__ import annotations

import argparse

from mmengine.config import DictAction

from rnnpose_plugin.export.command import FORMS, IMAGE_TYPES, ExportOptions, export_model, load_model
from rnnpose_plugin.export.graph import DEFAULT_OPSET
from rnnpose_plugin.runtime.errors import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write a model as ONNX or .pt2; docs/export.md has the contract.')
    parser.add_argument('config', help='config file with a RecurrentPoseHead')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', required=True, help='file.onnx or file.pt2; for --form steps a folder')
    parser.add_argument('--form', choices=FORMS, default='whole', help='default: %(default)s')
    parser.add_argument('--steps', type=int, metavar='N', help='most people per image, of --form unrolled')
    parser.add_argument('--image-type', choices=IMAGE_TYPES, default='uint8', help='of 0 to 255 (default: %(default)s)')
    parser.add_argument(
        '--fixed-size', action='store_true', help="one image of the config's input size, no open shapes"
    )
    parser.add_argument('--opset', type=int, default=DEFAULT_OPSET, help='of ONNX (default: %(default)s)')
    parser.add_argument('--licence', default='', help="of the weights, for the file's metadata")
    parser.add_argument('--int8', default='', metavar='IMAGES', help='folder or pattern; makes a step int8')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change settings of the config',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        options = ExportOptions(
            args.form, args.image_type, args.steps, args.fixed_size, args.opset, args.licence, args.int8
        )
        model = load_model(args.config, args.checkpoint, args.cfg_options)
        for path in export_model(model, args.checkpoint, args.out, options):
            print(path)


if __name__ == '__main__':
    main()
