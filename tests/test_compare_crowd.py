"""The job of `make compare`: inputs and outputs of its stages, and the output of a finished one."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from small_contenders import ROOT, contender, report_of, write_contenders

from projects.compare.predictions import open_dump, predict
from projects.crowdbench.job import AE as AE_CROWD
from projects.crowdbench.job import FOLDER as JOB_FOLDER
from projects.crowdbench.job import last_checkpoint, shared_stages


@pytest.fixture
def crowd_command(tmp_path, monkeypatch):
    """tools/compare_crowd.py, working in an empty folder."""
    spec = importlib.util.spec_from_file_location('compare_crowd', ROOT / 'tools' / 'compare_crowd.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tool, 'ROOT', tmp_path)
    monkeypatch.setattr(sys, 'argv', ['compare_crowd.py'])
    return tool


def test_every_input_is_written_by_an_earlier_stage(crowd_command):
    shared, own = shared_stages(), crowd_command.own_stages()
    trained = {last_checkpoint(stage.config) for stage in [*shared, *own] if stage.work_dir}
    used = [word for stage in own for word in stage.command if word.endswith('.pth')]
    assert len(trained) == 3 and set(used) == trained - {last_checkpoint(AE_CROWD)}
    assert [own[0].inputs, own[0].config] == [(last_checkpoint(AE_CROWD),), 'configs/ae_hg_crowd_longer.py']
    for stage, split in zip(own[1:], ('plain', 'occluded')):
        assert stage.inputs == (*dict.fromkeys(used), f'data/crowd/annotations/{split}.json')
        model_a, model_b = stage.command[1:3], stage.command[3:5]
        for config, checkpoint in (model_a, model_b):
            assert checkpoint == last_checkpoint(config)
        place = Config.fromfile(stage.command[stage.command.index('--data') + 1]).test_dataloader.dataset
        assert place.data_root + place.ann_file == stage.inputs[-1]


def test_a_finished_job_only_prints_its_reports(crowd_command, tmp_path, capsys):
    folder = write_contenders(tmp_path / 'models')
    model = contender(folder, 'ae')
    predict(model, open_dump(model, str(folder / 'ae.jsonl')))
    for split in ('plain', 'occluded'):
        report_of(f'{crowd_command.OUT}/{split}', *[(model, folder / 'ae.jsonl')] * 2)
    for folder, stages in ((JOB_FOLDER, shared_stages()), (crowd_command.OUT, crowd_command.own_stages())):
        os.makedirs(folder, exist_ok=True)
        for stage in stages:
            Path(folder, f'{stage.name}.done').write_text(stage.identity())
    crowd_command.main()
    printed = capsys.readouterr().out
    assert printed.count('done before') == 6 and printed.count('| AR ') == 2
    assert f'{crowd_command.OUT}/occluded/report.md' in printed


def test_the_longer_ae_starts_where_ae_ends():
    ae, longer = (Config.fromfile(ROOT / 'configs' / f'ae_hg_crowd{name}.py') for name in ('', '_longer'))
    assert longer.load_from == f'work_dirs/ae_hg_crowd/epoch_{ae.train_cfg.max_epochs}.pth'
    assert longer.model == ae.model and longer.train_dataloader == ae.train_dataloader
    assert longer.param_scheduler[1]['end'] == longer.train_cfg.max_epochs
