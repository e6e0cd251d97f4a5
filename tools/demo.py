"""The main job on data made here: crowd, AE features, recurrent decoder, test, table and picture."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rnnpose_plugin.apis.crowd_job import FOLDER, RNN, SPLITS, last_checkpoint, shared_stages
from rnnpose_plugin.apis.report import one_sentence_errors
from rnnpose_plugin.apis.stages import Stage, run_stages

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {'AP': 'coco/AP', 'AP50': 'coco/AP .5', 'AP75': 'coco/AP .75', 'AR': 'coco/AR'}
PICTURES = [f'data/crowd/occluded/00000{i}.png' for i in (1, 2, 3, 4)] + ['data/crowd/plain/000001.png']


def stages() -> list[Stage]:
    """The job's commands in order."""
    checkpoint = last_checkpoint(RNN)
    made = (checkpoint,)  # by tools/compare_crowd.py as well
    test = [
        Stage(
            f'test_{split}',
            ['tools/test.py', config, checkpoint, '--out', f'{FOLDER}/{split}.json'],
            config,
            inputs=made,
        )
        for split, config in SPLITS.items()
    ]
    draw = ['tools/draw_steps.py', RNN, checkpoint, *PICTURES, '--out', f'{FOLDER}/steps.png']
    return [*shared_stages(), *test, Stage('draw', draw, RNN, inputs=made)]


def table() -> str:
    """The test results, one line per split."""
    lines = [f'{"split":<10}' + ''.join(f'{name:>7}' for name in COLUMNS) + '   people found/true']
    for split in SPLITS:
        metrics = json.loads(Path(FOLDER, f'{split}.json').read_text())
        figures = ''.join(f'{100 * metrics[key]:7.1f}' for key in COLUMNS.values())
        lines.append(f'{split:<10}{figures}   {metrics["people/found"]:.0f}/{metrics["people/true"]:.0f}')
    return '\n'.join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--fresh', action='store_true', help='repeat finished stages')
    args = parser.parse_args()
    os.chdir(ROOT)
    with one_sentence_errors(FOLDER):
        try:
            run_stages(stages(), FOLDER, args.fresh)
        except KeyboardInterrupt:
            sys.exit('stopped; the same command goes on from here')
        print(f'\n{table()}\n\nsteps of the decoder: {FOLDER}/steps.png')


if __name__ == '__main__':
    main()
