"""Odd options: each run starts, or ends in one sentence before its first iteration.

Figures of all, without asserting anything: ``python tests/test_fuzz_options.py``.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from narrow_network import NARROW

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_crowd
from rnnpose_plugin.runtime import launch
from rnnpose_plugin.runtime.errors import one_sentence_errors

CONFIG = str(Path(__file__).resolve().parents[1] / 'configs' / 'rnnpose_hg_crowd.py')
RAW = r'error: \w*(Error|Exception|Found)\b|class `|\b(NoneType|object has no attribute|__init__|unexpected keyword)\b'

# Options, and what the sentence has to contain; '' for a run that starts.
TRAIN = {
    'train_cfg.max_epochs=0': 'max_epochs',
    'train_cfg.max_epochs=-1': 'max_epochs',
    'train_cfg.max_epochs=three': 'max_epochs',
    'train_cfg.max_epochs=1.5': 'max_epochs',
    'optim_wrapper.optimizer.type=Adam optim_wrapper.optimizer.lr=0': '',
    'train_cfg.val_interval=0': 'val_interval',
    'train_cfg.type=Nothing': 'Nothing',
    'train_cfg.length=3': 'length',
    'train_cfg=None': 'train_cfg',
    'train_dataloader.batch_size=0': 'batch_size',
    'train_dataloader.batch_size=two': 'batch_size',
    'train_dataloader.batch_size=[2]': 'batch_size',
    'train_dataloader.num_workers=-1': 'num_workers',
    'train_dataloader.num_workers=two': 'num_workers',
    'train_dataloader.dataset.type=Nothing': 'Nothing',
    'train_dataloader.dataset.root=a': 'root',
    'train_dataloader.sampler.type=Nothing': 'Nothing',
    'train_dataloader=None': 'train_dataloader',
    'optim_wrapper.optimizer.lr=-1': 'lr',
    'optim_wrapper.optimizer.lr=high': 'lr',
    'optim_wrapper.optimizer.lr=nan': 'lr',
    'optim_wrapper.optimizer.type=Adm': 'Adm',
    'optim_wrapper.optimizer.rate=1': 'rate',
    'optim_wrapper.type=Nothing': 'Nothing',
    'optim_wrapper.accumulative_counts=0': 'accumulative_counts',
    'optim_wrapper=None': 'optim_wrapper',
    'param_scheduler=None': '',
    'param_scheduler.0.type=LinearR': 'LinearR',
    'param_scheduler.0.end=-1': 'end',
    'param_scheduler.0.start=1': 'start',
    'randomness.seed=-1': 'seed',
    'randomness.seed=abc': 'seed',
    'randomness.seed=7': '',
    'model.type=Nothing': 'Nothing',
    'model.backbone.type=Nothing': 'Nothing',
    'model.head.chunk_size=0': 'chunk_size',
    'model.head.hidden=8': 'hidden',
    'model=None': 'model',
    'load_from=5': '5',
    'load_from=s3://bucket/a.pth': 'petrel_client',
    'load_from=openmmlab://nothing': 'openmmlab://nothing: there are no weights of this name',
    'model.backbone.init_cfg=abc': 'model.backbone.init_cfg=abc; it has to be a dict',
    'model.backbone.init_cfg=None model.backbone.init_cfg.type=Pretrained': 'is a part of model.backbone.init_cfg=None',
    'model.data_preprocessor.std=[0,0,0]': 'numbers above 0',
    'model.head.decoder.sigma=nan': 'sigma is nan',
    'model.head.decoder.input_size=[64]': 'input_size is [64]; give width and height',
    'train_dataloader.dataset.indices=0': 'indices=0 leaves no image',
    'default_hooks.checkpoint.out_dir=a_file': 'out_dir=a_file is a file; name a folder',
    'default_hooks.checkpoint.filename_tmpl="a_{}_{}.pth"': 'no place for one number',
    'default_hooks.checkpoint.filename_tmpl="a_{:05d}.pth"': '',
    'val_evaluator.0.iou_type=keypoint': "iou_type='keypoint'; use",
    'val_evaluator.type=BottomupCocoMetrc': 'no metric called BottomupCocoMetrc',
    'load_from=gone.pth': 'gone.pth',
    'load_from=.': 'folder',
    'default_hooks.checkpoint.interval=abc': 'interval',
    'default_hooks.checkpoint.every=1': 'every',
    'default_hooks.checkpoint.max_keep_ckpts=1': '',
    'default_hooks.timer=None': '',
    'custom_hooks.0.type=Nothing': 'Nothing',
    'custom_hooks=None': '',
    'log_level=LOUD': 'LOUD',
    'env_cfg.mp_cfg.mp_start_method=nothing': 'nothing',
    'model.data_preprocessor.mean=[1]': '',
    'work_dir=a_file': 'a_file',
    'modle.head=1': 'modle',
    'model.head.=1': 'model.head',
    '=1': 'write KEY=VALUE',
    'load_from=None resume=True': '',
    'resume=maybe': 'resume',
    'model.freeze_backbone=maybe': 'freeze_backbone',
}  # fmt: skip
TEST = {
    '--out a_file/x.json': 'a_file is no folder',
    '--dump a_file/deeper/x.pkl': 'a_file is no folder',
    '--out metrics.txt': 'metrics.txt',
    '--out folder.json': 'folder.json',
    '--out data/annotations/plain.json': 'plain.json',
    '--out linked.json': 'linked.json',
    '--dump all.json': 'all.json',
    '--dump folder.pkl': 'folder.pkl',
    'test_dataloader=None': 'test_dataloader',
    'test_dataloader.batch_size=0': 'batch_size',
    'test_evaluator=None': 'test_evaluator',
    'test_evaluator.0.type=Nothing': 'Nothing',
    'test_cfg=None': 'test_cfg',
}  # fmt: skip


class Reached(Exception):  # noqa: N818
    """The first iteration begins."""


class Stop(Hook):
    """Ends a run where its first iteration would begin."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise Reached

    before_test_iter = before_train_iter


def parsed(words):
    """--cfg-options as the command line gives them."""
    parser = argparse.ArgumentParser()
    launch.add_shared_arguments(parser)
    for name in ('--out', '--dump', '--show-dir'):
        parser.add_argument(name)
    parser.set_defaults(resume=None, amp=False, auto_scale_lr=False, no_validate=False)
    return parser.parse_args(words)


def run(words, training):
    """What the tools do, up to the first iteration."""
    flags = words if words[0].startswith('--') else []
    given = [] if flags else words
    data = [f'{part}_dataloader.dataset.data_root=data/' for part in ('train', 'val', 'test')]
    none = [option.split('=')[0] for option in given if option.endswith('=None')]
    common = [*NARROW, 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False', *data]
    common += ['val_dataloader.num_workers=0', 'test_dataloader.num_workers=0', 'log_level=ERROR', 'work_dir=run']
    common += ['val_dataloader.persistent_workers=False', 'test_dataloader.persistent_workers=False']
    common = [option for option in common if option.split('.')[0].split('=')[0] not in none]
    common = [option for option in common if option.split('=')[0] not in [word.split('=')[0] for word in given]]
    args = parsed([*flags, '--cfg-options', *common, *given])
    args.config, args.checkpoint = CONFIG, 'model.pth'
    cfg = launch.load_config(args)
    (launch.prepare_training if training else launch.prepare_test)(cfg, args)
    runner = launch.build_runner(cfg, training)
    runner.register_hook(Stop())
    (runner.train if training else runner.test)()


def outcome(words, training):
    """'starts', 'sentence', 'raw' or 'ends without a word', and the line of the error."""
    stderr, kept = io.StringIO(), (sys.stderr, os.dup(2))
    sys.stderr = stderr
    try:
        with one_sentence_errors():
            try:
                run(words, training)
            except Reached:
                return 'starts', ''
        return 'ends', ''
    except SystemExit:
        line = stderr.getvalue().strip().splitlines()[-1]
        return 'raw' if re.search(RAW, line) or not re.match('error: |usage|.*: error: ', line) else 'sentence', line
    finally:
        sys.stderr = kept[0]


def prepare(folder):
    """A crowd of one image for each split, weights, and things that are in the way."""
    os.chdir(folder)
    write_crowd(Path('data'), dict(train=1, val=1, plain=1), 0, CrowdSettings(max_people=2))
    Path('a_file').touch()
    Path('folder.json').mkdir()
    Path('folder.pkl').mkdir()
    Path('linked.json').symlink_to('data/annotations/plain.json')
    torch.save(dict(state_dict=dict(w=torch.ones(1))), 'model.pth')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    before = Path.cwd()
    prepare(tmp_path_factory.mktemp('options'))
    yield
    os.chdir(before)


@pytest.mark.parametrize(('words', 'part'), [*TRAIN.items(), *TEST.items()])
def test_each_starts_or_ends_in_a_sentence(place, words, part, monkeypatch):
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    kind, line = outcome(shlex.split(words), words in TRAIN)
    assert kind == ('sentence' if part else 'starts'), line
    assert part in line


if __name__ == '__main__':
    import tempfile

    import rnnpose_plugin  # noqa: F401

    prepare(tempfile.mkdtemp())
    kinds = collections.Counter()
    for words, part in [*TRAIN.items(), *TEST.items()]:
        try:
            kind, line = outcome(shlex.split(words), words in TRAIN)
        except BaseException as error:
            kind, line = 'raw', f'past the sentence: {error!r}'
        kind = 'silent' if part and kind in ('starts', 'ends') else kind
        kinds[kind] += 1
        print(f'@{kind:9} {words:46} {line[:190]}', flush=True)
    print('@', dict(kinds))
