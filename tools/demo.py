"""Train and test on synthetic crowds: data, AE network, recurrent decoder, table of results, sheet of decoding steps.

With ``--fast`` nothing is trained: the models of ``model_zoo`` are used. The one for photographs is drawn on two images
that it never saw, the one for crowds is tested on the first images of CrowdBench.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)
from projects.crowdbench.job import FOLDER, RNN, SPLITS, last_checkpoint, shared_stages
from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_crowd
from projects.photographs.sample_images import LICENCE, write_samples
from projects.stages import Stage, resumable, run_stages
from rnnpose_plugin.runtime.checkpoint_file import check_checkpoint_file
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.launch import build_runner, read_config
from rnnpose_plugin.visualization.image_steps import decode_images
from rnnpose_plugin.visualization.step_sheet import draw_step_sheet

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {'AP': 'coco/AP', 'AP50': 'coco/AP .5', 'AP75': 'coco/AP .75', 'AR': 'coco/AR'}
IMAGES = [f'data/crowd/occluded/00000{i}.png' for i in (1, 2, 3, 4)] + ['data/crowd/plain/000001.png']

FAST_FOLDER, FAST_DATA, FAST_COUNT = 'work_dirs/demo_fast', 'data/crowdbench_slice', 40
SHIPPED, SHIPPED_CONFIG = 'model_zoo/rnnpose_full_crowdbench.pth', 'configs/rnnpose_full_crowdbench.py'
PHOTO, PHOTO_CONFIG = 'model_zoo/rnnpose_movenet_photo.pth', 'configs/rnnpose_movenet_photo.py'
FAST_SPLITS = ('plain', 'occluded', 'crowded')
FAST_IMAGES = ('occluded/000001', 'occluded/000002', 'crowded/000001', 'plain/000001')


def stages() -> list[Stage]:
    """The commands of the job in order."""
    checkpoint = last_checkpoint(RNN)
    made = (checkpoint,)  # tools/compare_crowd.py may write it too
    test = [
        Stage(
            f'test_{split}',
            ['tools/test.py', config, checkpoint, '--out', f'{FOLDER}/{split}.json'],
            config,
            inputs=made,
        )
        for split, config in SPLITS.items()
    ]
    draw = ['tools/draw_steps.py', RNN, checkpoint, *IMAGES, '--out', f'{FOLDER}/steps.png']
    return [*shared_stages(), *test, Stage('draw', draw, RNN, inputs=made)]


def run_fast() -> None:
    """Draw the model for photographs, then test the one for crowds, in one process, as each start takes seconds."""
    check_checkpoint_file(SHIPPED)
    check_checkpoint_file(PHOTO)
    print(f'drawing {PHOTO} on two images ({LICENCE})', flush=True)
    decoded = decode_images(PHOTO_CONFIG, PHOTO, write_samples(f'{FAST_FOLDER}/photographs'))
    draw_step_sheet(decoded, f'{FAST_FOLDER}/photographs.png')
    test_fast()


def test_fast() -> None:
    """Slices of CrowdBench's test splits, and the steps on some of their images."""
    write_crowd(FAST_DATA, dict.fromkeys(FAST_SPLITS, FAST_COUNT), 0, CROWDBENCH)
    for split in FAST_SPLITS:
        log = Path(FAST_FOLDER, f'{split}.log')
        print(f'testing {SHIPPED} on {split}, output in {log}', flush=True)
        cfg = read_config(SHIPPED_CONFIG)
        cfg.update(launcher='none', load_from=SHIPPED, work_dir=FAST_FOLDER, experiment_name=f'demo_fast_{split}')
        place = dict(data_root=f'{FAST_DATA}/', ann_file=f'annotations/{split}.json', data_prefix=dict(img=f'{split}/'))
        cfg.test_dataloader.dataset.update(place)
        with log.open('w') as output, redirect_stdout(output):
            metrics = build_runner(cfg, training=False).test()
        Path(FAST_FOLDER, f'{split}.json').write_text(json.dumps(metrics))
    images = [f'{FAST_DATA}/{name}.png' for name in FAST_IMAGES]
    draw_step_sheet(decode_images(SHIPPED_CONFIG, SHIPPED, images), f'{FAST_FOLDER}/steps.png')


def table(folder: str, splits: Iterable[str]) -> str:
    """The test results in a table, one line per split."""
    lines = [f'{"split":<10}' + ''.join(f'{name:>7}' for name in COLUMNS) + '   people found/true']
    for split in splits:
        metrics = json.loads(Path(folder, f'{split}.json').read_text())
        figures = ''.join(f'{100 * metrics[key]:7.1f}' for key in COLUMNS.values())
        lines.append(f'{split:<10}{figures}   {metrics["people/found"]:.0f}/{metrics["people/true"]:.0f}')
    return '\n'.join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--fresh', action='store_true', help='repeat finished stages; --fast always does')
    parser.add_argument('--fast', action='store_true', help='no training: the models of model_zoo')
    args = parser.parse_args()
    os.chdir(ROOT)
    folder, splits = (FAST_FOLDER, FAST_SPLITS) if args.fast else (FOLDER, SPLITS)
    with one_sentence_errors(folder):
        with resumable(folder):
            run_fast() if args.fast else run_stages(stages(), folder, args.fresh)
        sheets = [f'{folder}/photographs.png'] if args.fast else []
        print(f'\n{table(folder, splits)}\n\nsteps of the decoder: {", ".join([*sheets, f"{folder}/steps.png"])}')


if __name__ == '__main__':
    main()
