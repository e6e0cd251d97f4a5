"""Test a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``."""

from __future__ import annotations

import argparse

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)

# isort: split
from rnnpose_plugin.runtime.cpu_processes import end_cpu_process
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.launch import add_shared_arguments, load_config, prepare_test, run_test


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a pose model.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or the folder of a training: its last checkpoint')
    parser.add_argument('--dump', metavar='FILE.pkl', help='save all predictions')
    parser.add_argument('--out', metavar='FILE.json', help='save the metrics')
    parser.add_argument('--show-dir', help='folder for images of the predictions, inside the log folder of the run')
    add_shared_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors() as report:
        cfg = load_config(args)
        report.log_dir, report.trains = cfg.work_dir, False
        prepare_test(cfg, args)
        run_test(cfg, args.out)
    end_cpu_process()


if __name__ == '__main__':
    main()
