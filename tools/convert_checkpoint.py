"""Turn published AE weights, or MoveNet's, into those of MMPose 1.x: ``python tools/convert_checkpoint.py IN OUT``."""

from __future__ import annotations

import argparse

from rnnpose_plugin.runtime.convert_checkpoint import SOURCES, convert_file, usage
from rnnpose_plugin.runtime.errors import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert a published hourglass for Associative Embedding, or MoveNet.')
    parser.add_argument(
        'source_file', metavar='IN', help='checkpoint of MMPose 0.x or pose-ae-train, or json of MoveNet'
    )
    parser.add_argument('target_file', metavar='OUT', help='checkpoint to write')
    parser.add_argument(
        '--source', choices=['auto', *SOURCES], default='auto', help='what IN is (default: %(default)s)'
    )
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        meta = convert_file(args.source_file, args.target_file, args.source, args.force)
        settings = ', '.join(f'{key}={value!r}' for key, value in meta['backbone'].items())
        print(f'{args.target_file}: from {meta["source"]}, backbone=dict({settings})')
        print(f'in every training and test: {usage(meta, args.target_file)}')


if __name__ == '__main__':
    main()
