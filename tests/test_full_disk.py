"""Files on a full disk: none is cut off, none is lost, the sentence names the right one. The disk is a size limit."""

from __future__ import annotations

import argparse
import json
import os
import resource
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch
from mmengine.config import DictAction
from mmengine.evaluator import BaseMetric
from mmengine.fileio import dump
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner, save_checkpoint
from mmpose.registry import MODELS
from narrow_network import NARROW

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_crowd
from rnnpose_plugin.runtime import launch
from rnnpose_plugin.runtime.checkpoint_file import is_whole, whole_file
from rnnpose_plugin.runtime.convert_checkpoint import convert_file
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_plugin.runtime.predict import Predictions
from rnnpose_plugin.runtime.publish import publish

CONFIG = str(Path(__file__).resolve().parents[1] / 'configs' / 'rnnpose_hg_crowd.py')
NUMBER = count()  # of a run: MMEngine keeps its runs by name


@contextmanager
def full_disk(size):
    """No file may grow beyond a number of bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    'checkpoint of MMEngine': lambda path: save_checkpoint(dict(w=torch.ones(9999)), path),
    'pickle': lambda path: dump(list(range(99999)), path, file_format='pkl'),
    'text': lambda path: dump(list(range(99999)), path, file_format='json'),
}


@pytest.mark.parametrize('before', [None, 'old content'])
@pytest.mark.parametrize('kind', WRITERS)
def test_what_mmengine_writes_is_whole_or_as_before(tmp_path, kind, before):
    path = tmp_path / 'folder' / 'file.out'
    if before:
        path.parent.mkdir()
        path.write_text(before)
    with pytest.raises(OSError) as caught, full_disk(10000):
        WRITERS[kind](str(path))
    assert caught.value.filename == str(path)
    assert [p.name for p in path.parent.iterdir()] == ([path.name] if before else [])
    assert not before or path.read_text() == before
    WRITERS[kind](str(path))
    assert path.stat().st_size > 10000


def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / 'target').write_text('old')
    (tmp_path / 'link').symlink_to('target')
    os.mkfifo(tmp_path / 'pipe')  # not /dev/null, which a fault would replace where the tests run as root
    reader = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
    for path in (tmp_path / 'link', tmp_path / 'pipe'):
        with whole_file(str(path)) as file:
            file.write(b'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'target').read_text() == 'new'
    assert os.read(reader, 9) == b'new' and (tmp_path / 'pipe').is_fifo()
    os.close(reader)
    assert {path.name for path in tmp_path.iterdir()} == {'target', 'link', 'pipe'}


def test_an_interrupt_leaves_the_old_file(tmp_path):
    (tmp_path / 'a').write_text('old')
    with pytest.raises(KeyboardInterrupt), whole_file(str(tmp_path / 'a')) as file:
        file.write(b'new')
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [('a', 'old')]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A crowd, and weights of the narrow network."""
    folder = tmp_path_factory.mktemp('full')
    write_crowd(folder / 'data', dict(train=1, val=1, plain=2), 0, CrowdSettings(max_people=2))
    return folder


def config(place, work_dir, **given):
    args = dict(config=CONFIG, work_dir=str(work_dir), launcher='none', local_rank=0, checkpoint='', resume=None)
    args.update(out=None, dump=None, show_dir=None, amp=False, auto_scale_lr=False, no_validate=True)
    options = [
        *NARROW,
        'log_level=ERROR',
        'model.test_cfg.output_heatmaps=True',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
    ]
    options += [f'{part}_dataloader.dataset.data_root={place}/data/' for part in ('train', 'val', 'test')]
    pairs = (option.split('=', 1) for option in options)
    options = {key: DictAction._parse_iterable(value) for key, value in pairs}
    return argparse.Namespace(**{**args, 'cfg_options': options, **given})


def test_metrics_are_saved_where_the_predictions_cannot_be(place, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    args = config(place, tmp_path / 'run')
    model = MODELS.build(launch.load_config(args).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    dump_to = tmp_path / 'elsewhere' / 'all.pkl'
    args = config(
        place, tmp_path / 'run', checkpoint=str(tmp_path / 'model.pth'), out=str(tmp_path / 'a.json'), dump=str(dump_to)
    )
    with pytest.raises(SystemExit), one_sentence_errors() as report:
        cfg = launch.load_config(args)
        report.log_dir, report.trains = cfg.work_dir, False
        launch.prepare_test(cfg, args)
        with full_disk(500000):  # the log is smaller, the predictions with their heatmaps are larger
            launch.run_test(cfg, args.out)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f'error: no space left to write {dump_to} (disk full, quota or file-size limit); free some')
    assert '--resume' not in line and str(tmp_path / 'run') not in line.split('(traceback')[0]
    assert 'coco/AP' in json.loads((tmp_path / 'a.json').read_text())
    assert list(dump_to.parent.iterdir()) == []


def test_a_config_in_its_own_work_dir_stays_as_it_is(place, tmp_path):
    """MMEngine writes the merged config into the work directory under the same name."""
    path = tmp_path / 'mine.py'
    path.write_text(f'# my notes\n_base_ = {CONFIG!r}\n')
    args = config(place, tmp_path, config=str(path))
    launch.build_runner(launch.load_config(args), training=False)
    assert path.read_text().startswith('# my notes')
    assert len(list(tmp_path.glob('*.py'))) == 2


def test_predictions_are_whole_or_as_before(tmp_path):
    predictions = Predictions(dict(num_keypoints=1, keypoint_id2name={0: 'nose'}))
    predictions.results = list(range(99999))
    (tmp_path / 'results.json').write_text('[]')
    with pytest.raises(OSError), full_disk(10000):
        predictions.write(str(tmp_path))
    assert (tmp_path / 'results.json').read_text() == '[]' and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('link', [False, True])
def test_no_tool_writes_over_the_checkpoint_it_reads(tmp_path, link):
    source, target = tmp_path / 'a.pth', tmp_path / ('link.pth' if link else 'a.pth')
    torch.save(dict(state_dict=dict(w=torch.ones(2)), meta=dict(cfg='a = 1')), source)
    if link:
        target.symlink_to(source)
    before = source.read_bytes()
    for tool in (publish, lambda a, b: convert_file(a, b, force=True)):
        with pytest.raises(ValueError, match=r'\.pth would be overwritten, but it is read'):
            tool(str(source), str(target))
    assert source.read_bytes() == before


class Model(BaseModel):
    """Two numbers; the checkpoint is larger than the configs and logs that a run writes."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(20000))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.weight.square().sum()) if mode == 'loss' else [dict(a=1)]


class Metric(BaseMetric):
    """Better each time."""

    seen = 0

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        Metric.seen += 1
        return dict(AP=Metric.seen)


class Full(Hook):
    """The disk is full from an epoch on."""

    priority = 'HIGHEST'

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def train_to_full_disk(work_dir, *hooks, epochs=3, **saving):
    data = dict(batch_size=1, dataset=[dict(inputs=torch.ones(1), data_samples=0)], sampler=dict(type='DefaultSampler'))
    runner = Runner(
        Model(), str(work_dir), data, data, train_cfg=dict(by_epoch=True, max_epochs=epochs), val_cfg=dict(),
        val_evaluator=[Metric()], optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), custom_hooks=list(hooks),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, rule='greater', **saving)),
        log_level='ERROR', experiment_name=f'{work_dir.name}{next(NUMBER)}',
    )  # fmt: skip
    runner.train()
    return runner


def checkpoints(folder):
    return sorted(path.name for path in folder.glob('*.pth*'))


@pytest.mark.parametrize('best', [None, 'AP'])
def test_the_only_checkpoint_is_deleted_after_the_next_one_is_whole(tmp_path, best):
    with pytest.raises(OSError), full_disk(10**9):
        train_to_full_disk(tmp_path / 'full', Full(), max_keep_ckpts=1, save_best=best)
    kept = checkpoints(tmp_path / 'full')
    assert kept == (['best_AP_epoch_1.pth'] if best else []) + ['epoch_1.pth']
    assert all(is_whole(str(tmp_path / 'full' / name)) for name in kept)
    train_to_full_disk(tmp_path / 'free', max_keep_ckpts=1, save_best=best)
    assert checkpoints(tmp_path / 'free') == (['best_AP_epoch_3.pth'] if best else []) + ['epoch_3.pth']


def test_a_best_checkpoint_of_the_same_name_stays(tmp_path):
    """As after a second validation of the same weights."""
    runner = train_to_full_disk(tmp_path, epochs=1, save_best='AP')
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    hook._save_best_checkpoint(runner, dict(AP=10**6))
    assert checkpoints(tmp_path) == ['best_AP_epoch_1.pth', 'epoch_1.pth']
