"""Make a small file of a checkpoint, to be handed out: ``python tools/publish.py CHECKPOINT OUT``."""

from __future__ import annotations

import argparse

from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.publish import publish


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description='Weights in float16 and what testing needs, nothing of the training.')
    parser.add_argument('checkpoint', help='what tools/train.py wrote')
    parser.add_argument('out', help='the file to write')
    args = parser.parse_args()
    with one_sentence_errors():
        facts = publish(args.checkpoint, args.out)
        print(f'{args.out}: {facts["bytes"] / 1e6:.2f} MB, sha256 {facts["sha256"]}')


if __name__ == '__main__':
    main()
