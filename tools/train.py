"""Train a model: ``python tools/train.py CONFIG``."""

from __future__ import annotations

import argparse

from rnnpose_plugin.runtime.cpu_processes import end_cpu_process
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.launch import add_shared_arguments, build_runner, load_config, prepare_training


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a pose model.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or from the last one in the work directory',
    )
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real batch size over auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate checkpoints during training')
    add_shared_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors() as report:
        cfg = load_config(args)
        report.log_dir = cfg.work_dir
        prepare_training(cfg, args)
        build_runner(cfg, training=True).train()
    end_cpu_process()


if __name__ == '__main__':
    main()
