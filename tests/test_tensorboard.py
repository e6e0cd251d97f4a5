"""The option for TensorBoard in configs/_base_/runtime.py, with the real config and a training of two iterations."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from narrow_network import NARROW
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_crowd
from rnnpose_plugin.runtime.launch import add_shared_arguments, build_runner, load_config

CONFIGS = Path(__file__).parent.parent / 'configs'


def test_scalars_are_in_the_event_file(tmp_path):
    write_crowd(tmp_path / 'crowd', dict(train=4, val=1, plain=1), 0, CrowdSettings(max_people=2))
    (option,) = re.findall(r'--cfg-options (\S+)', (CONFIGS / '_base_' / 'runtime.py').read_text())
    parser = argparse.ArgumentParser()
    add_shared_arguments(parser)
    parser.add_argument('--config', default=str(CONFIGS / 'rnnpose_hg_crowd.py'))
    name = 'visualizer.name=tensorboard'  # MMEngine keeps one visualizer per name and process
    args = parser.parse_args(
        ['--work-dir', str(tmp_path / 'run'), '--cfg-options', option, name, *NARROW, 'train_cfg.max_epochs=1',
         'default_hooks.logger.interval=1', f'train_dataloader.dataset.data_root={tmp_path}/crowd/',
         f'val_dataloader.dataset.data_root={tmp_path}/crowd/']
    )  # fmt: skip
    runner = build_runner(load_config(args), training=True)
    runner.train()
    (file,) = (tmp_path / 'run').rglob('events.out.tfevents.*')
    events = EventAccumulator(str(file)).Reload()
    scalars = {name: events.Scalars(name) for name in ('loss', 'lr')}
    assert [[event.step for event in found] for found in scalars.values()] == [[1, 2], [1, 2]]
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    # The log smooths over its window: entry n is the mean of the first n losses. Event files hold float32.
    expected = [losses[0], losses.mean()]
    assert [event.value for event in scalars['loss']] == pytest.approx(expected, rel=1e-6)
    metrics = {'coco/AP', 'people/count_error', 'mixing/visible_well', 'mixing/covered_mixed', 'mixing/duplicates'}
    assert metrics <= set(events.Tags()['scalars'])
