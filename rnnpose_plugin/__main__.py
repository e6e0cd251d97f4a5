"""Run a script of MMPose or of this package after importing the plugin: python -m rnnpose_plugin SCRIPT ARGUMENTS.

MMPose's own demos and tools import MMPose first, which fails beside mmcv-lite, and know nothing of this package.
"""

from __future__ import annotations

import argparse

from .runtime.errors import one_sentence_errors
from .runtime.scripts import list_scripts, run_script


def parse_args() -> argparse.Namespace:
    """Read the command line; everything after SCRIPT belongs to the script.

    Returns:
        argparse.Namespace: The parsed command line.
    """
    parser = argparse.ArgumentParser(prog='python -m rnnpose_plugin', description=__doc__.split('\n')[0])
    parser.add_argument('--list', action='store_true', help='print the scripts that can be run by name, and exit')
    parser.add_argument('script', nargs='?', help='a file, or a name such as demo/image_demo.py, mmpose/tools/train.py')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help="the script's own")
    args = parser.parse_args()
    if not args.list and args.script is None:
        parser.error('name a script to run, or print their names with --list')
    return args


def main() -> None:
    """Run the command."""
    args = parse_args()
    with one_sentence_errors():
        if args.list:
            print(*list_scripts(), sep='\n')
        else:
            run_script(args.script, args.arguments)


if __name__ == '__main__':
    main()
