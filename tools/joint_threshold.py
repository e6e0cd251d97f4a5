"""Choose the codec's tau on val: ``python tools/joint_threshold.py CONFIG RESULTS.json``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)

# isort: split
from projects.joint_threshold import best_threshold, try_thresholds
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.launch import check_options, read_config
from rnnpose_plugin.runtime.options import OptionAction


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Choose the threshold below which joints are discarded, on val.')
    parser.add_argument('config', help='config file with a RecurrentPoseHead and the val set')
    parser.add_argument('results', help="a test's predictions on val, the .keypoints.json of outfile_prefix")
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, default={}, metavar='KEY=VALUE',
                        help='change settings of the config')  # fmt: skip
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        cfg = read_config(args.config)
        check_options(cfg, args.cfg_options)
        cfg.merge_from_dict(args.cfg_options)
        rows = []
        for tau, ap, discarded in try_thresholds(cfg, args.results):
            rows.append((tau, ap, discarded))
            print(f'tau {tau:5.3f}   AP {100 * ap:4.1f}   discarded {100 * discarded:4.1f} %', flush=True)
        print(f'the highest without loss: model.head.decoder.keypoint_threshold={best_threshold(rows):g}')


if __name__ == '__main__':
    main()
