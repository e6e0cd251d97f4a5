"""The backbones that have a config, as a Markdown table: ``python tools/list_backbones.py``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

from projects.backbone_table import backbone_table
from rnnpose_plugin.runtime.errors import one_sentence_errors

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Print the table of backbones, computed from the configs alone.')
    parser.add_argument('configs', nargs='*', help='config files (default: configs/rnnpose_*_coco.py)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        print(backbone_table(args.configs or sorted(map(str, CONFIGS.glob('rnnpose_*_coco.py')))))


if __name__ == '__main__':
    main()
