"""Make a checkpoint small enough to publish: ``python tools/publish.py CHECKPOINT OUT``."""

from __future__ import annotations

import argparse

from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.publish import publish


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description='Keep the weights, in float16, and what testing needs.')
    parser.add_argument('checkpoint', help='a checkpoint of tools/train.py')
    parser.add_argument('out', help='the file to write')
    args = parser.parse_args()
    with one_sentence_errors():
        facts = publish(args.checkpoint, args.out)
        print(f'{args.out}: {facts["bytes"] / 1e6:.2f} MB, sha256 {facts["sha256"]}')


if __name__ == '__main__':
    main()
