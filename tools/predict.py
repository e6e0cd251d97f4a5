"""Predict people and write them as files: python tools/predict.py INPUT --config C --checkpoint W --out DIR."""

from __future__ import annotations

import argparse
import sys

import rnnpose_plugin  # noqa: F401  (first, as it prepares the import of mmpose)
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.predict import predict


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Predict people; the files are in COCO's results format.")
    parser.add_argument('input', help='image, folder, pattern such as "photos/**/*.jpg", video, or number of a camera')
    parser.add_argument('--config', required=True, help='config of a bottom-up model')
    parser.add_argument('--checkpoint', required=True, help='its checkpoint')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write to')
    parser.add_argument('--score-threshold', type=float, default=0.0, help='leave out people below (default: 0)')
    parser.add_argument('--draw', action='store_true', help='also draw the people, into DIR/drawn')
    parser.add_argument('--track', action='store_true', help='people of a video keep an id from frame to frame')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: an accelerator where there is one)')
    args = parser.parse_args()
    with one_sentence_errors():
        model = args.input, args.config, args.checkpoint
        try:
            found = predict(*model, args.out, args.score_threshold, args.draw, args.device, args.track)
        except KeyboardInterrupt:
            sys.exit(f'stopped; the predictions so far are in {args.out}')
        print(f'{found["people"]} people in {found["images"]} images: {args.out}/results.json')


if __name__ == '__main__':
    main()
