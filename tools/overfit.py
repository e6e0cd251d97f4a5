"""Overfit the decoder on a few images of a data set: train and test on the same ones, without augmentation.

python tools/overfit.py path/to/coco/annotations/person_keypoints_train2017.json path/to/coco/train2017
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)

# isort: split
from mmengine.config import Config
from mmengine.runner import Runner

from rnnpose_plugin.datasets.subset import choose_clear_images, write_subset
from rnnpose_plugin.own_data import own_data
from rnnpose_plugin.runtime.check_data import check_annotation_file
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.launch import build_runner, read_config
from rnnpose_plugin.runtime.output_files import refuse_overwriting

ROOT = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train and test on the same few images.')
    parser.add_argument('annotations', help='COCO keypoint annotations')
    parser.add_argument('images', help='folder of the images')
    parser.add_argument('--number', type=int, default=4, help='of images (default: %(default)s)')
    parser.add_argument('--config', default=str(ROOT / 'configs/rnnpose_hg_overfit.py'), help='default: %(default)s')
    parser.add_argument('--metainfo', help="file that describes other keypoints than the config's (docs/real_data.md)")
    parser.add_argument('--work-dir', default='work_dirs/overfit', help='default: %(default)s')
    parser.add_argument('--least-ap', type=float, default=0.9, help='exit with 1 below this (default: %(default)s)')
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> Config:
    """The config with all three data loaders on the chosen images."""
    cfg = read_config(args.config)
    if args.metainfo:
        cfg.merge_from_dict(own_data(cfg, args.metainfo))
    K = cfg.model.head.num_keypoints
    check_annotation_file(args.annotations, K, args.images, training=True)
    subset = Path(args.work_dir, 'subset.json').resolve()
    read = [args.annotations, args.config, args.metainfo or '']
    refuse_overwriting([subset, Path(args.work_dir, 'overfit.json')], read)
    write_subset(args.annotations, choose_clear_images(args.annotations, args.number, min(5, K)), subset)
    cfg.work_dir, cfg.launcher = args.work_dir, 'none'
    for name in ('train', 'val', 'test'):
        dataset = cfg[f'{name}_dataloader'].dataset
        dataset.data_root, dataset.ann_file = '', str(subset)
        dataset.data_prefix = dict(img=str(Path(args.images).resolve()))
    return cfg


def main() -> None:
    args = parse_args()
    with one_sentence_errors(args.work_dir):
        runner: Runner = build_runner(prepare(args), training=True)
        runner.train()
        metrics = runner.val_loop.run()
        ap, error = metrics['coco/AP'], metrics['people/count_error']
        Path(args.work_dir, 'overfit.json').write_text(json.dumps(metrics, indent=1))
        print(f'AP {ap:.3f}; people found/true {metrics["people/found"]}/{metrics["people/true"]}')
        if ap < args.least_ap or error > 0:
            raise ValueError(
                f'AP is {ap:.3f} (wanted {args.least_ap}) and the number of people is off by {error:g} per image; '
                'the decoder did not overfit these images.'
            )


if __name__ == '__main__':
    main()
