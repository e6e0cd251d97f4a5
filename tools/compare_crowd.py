"""Compare the decoder with Associative Embedding on synthetic crowds; both start from one AE network."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # projects/ is not installed

import rnnpose_plugin  # noqa: F401  (first, as it names a library that does not load)
from projects.compare.report import as_text
from projects.crowdbench.job import (
    AE,
    FOLDER,
    RNN,
    SPLITS,
    last_checkpoint,
    shared_stages,
    training_stage,
)
from projects.stages import Stage, resumable, run_stages
from rnnpose_plugin.runtime.errors import one_sentence_errors

ROOT = Path(__file__).resolve().parent.parent
OUT = 'work_dirs/compare_crowd'
LONGER = 'configs/ae_hg_crowd_longer.py'


def own_stages() -> list[Stage]:
    """The stages after those shared with tools/demo.py, whose files are inputs here."""
    checkpoints = (last_checkpoint(LONGER), last_checkpoint(RNN))
    models = [LONGER, checkpoints[0], RNN, checkpoints[1], '--names', 'AE', 'RNN']
    compare = [
        Stage(
            f'compare_{split}',
            # Predictions of earlier checkpoints would be refused.
            ['tools/compare.py', *models, '--data', config, '--out', f'{OUT}/{split}', '--fresh'],
            config,
            inputs=(*checkpoints, f'data/crowd/annotations/{split}.json'),
        )
        for split, config in SPLITS.items()
    ]
    return [training_stage('train_ae_longer', LONGER, (last_checkpoint(AE),)), *compare]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--fresh', action='store_true', help='repeat finished stages')
    args = parser.parse_args()
    os.chdir(ROOT)
    with one_sentence_errors(OUT):
        with resumable(OUT):
            run_stages(shared_stages(), FOLDER, args.fresh)
            run_stages(own_stages(), OUT, args.fresh)
        for split in SPLITS:
            print(f'\n{split}\n\n{as_text(json.loads(Path(OUT, split, "report.json").read_text()))}')
        print(f'\nreports, plots and pictures: {", ".join(f"{OUT}/{split}/report.md" for split in SPLITS)}')


if __name__ == '__main__':
    main()
