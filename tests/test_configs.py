"""Every config can be read and built, from any folder, also by MMPose's own machinery."""

import subprocess
import sys
from pathlib import Path

import mmpose
import pytest
import torch
from meta_models import build_without_memory
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.models.heads.hybrid_heads import dekr_head
from mmpose.registry import HOOKS, METRICS, TRANSFORMS

ROOT = Path(__file__).parent.parent
CONFIGS = sorted([*(ROOT / 'configs').glob('*.py'), *(ROOT / 'configs' / 'ablations').glob('*.py')])


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT / 'configs').with_suffix('')))
def test_every_part_of_every_config_can_be_built(path):
    cfg = Config.fromfile(path)
    if cfg.model.head.type == 'DEKRHead' and not dekr_head.has_mmcv_full:
        pytest.skip('DEKR needs the compiled ops of a full mmcv')
    with DefaultScope.overwrite_default_scope('mmpose'):
        build_without_memory(cfg.model)
        for name in ('train', 'val', 'test'):
            loader = cfg.get(f'{name}_dataloader')
            for step in loader.dataset.pipeline if loader else []:
                TRANSFORMS.build(step)
        for evaluator in (cfg.get('val_evaluator') or []) + (cfg.get('test_evaluator') or []):
            METRICS.build({key: value for key, value in evaluator.items() if key != 'ann_file'})  # it would be read
        for hook in [*cfg.custom_hooks, *cfg.default_hooks.values()]:
            if hook.type != 'PoseVisualizationHook':  # it needs the Runner's visualizer
                HOOKS.build(hook)


def test_the_papers_numbers():
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_hg_coco.py')
    head = cfg.model.head
    assert cfg.model.backbone.num_stacks == 4 and cfg.model.backbone.out_channels == 68
    assert head.in_channels == 4 * 34 and tuple(head.hidden_channels) == (68, 34, 17) and head.feedback_passes == 2
    assert head.stop_threshold == pytest.approx(torch.sigmoid(torch.tensor(-1.0)).item())
    assert head.decoder.keypoint_threshold == 0.015 and tuple(head.decoder.input_size) == (512, 512)
    assert tuple(head.decoder.heatmap_size) == (128, 128)
    assert cfg.default_hooks.chunked_backprop == dict(type='ChunkedBackpropHook', mode='accumulate')
    assert head.chunk_size == 8
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=1e-4)
    assert cfg.param_scheduler == [dict(type='MultiStepLR', by_epoch=True, begin=0, end=9, milestones=[4], gamma=0.1)]
    assert cfg.train_cfg.max_epochs == 9 and cfg.train_dataloader.batch_size == 1 and cfg.model.freeze_backbone


@pytest.mark.parametrize('method', ['ae', 'rnnpose'])
def test_ochuman_is_test_only_and_its_splits_are_apart(method):
    test, val = (Config.fromfile(ROOT / 'configs' / f'{method}_hg_ochuman{name}.py') for name in ('', '_val'))
    assert test.model == Config.fromfile(ROOT / 'configs' / f'{method}_hg_coco.py').model == val.model
    assert test.train_dataloader is None and val.train_dataloader is None
    files = [cfg.test_dataloader.dataset.ann_file for cfg in (test, val)]
    assert 'test_range_0.00_1.00' in files[0] and 'val_range_0.00_1.00' in files[1]


def test_a_config_works_in_another_folder_with_mmposes_own_tools(tmp_path):
    """MMPose's own train.py reads the config, registers the plugin by custom_imports and fails at the missing data."""
    tool = Path(mmpose.__file__).parent / '.mim' / 'tools' / 'train.py'
    command = [sys.executable, str(tool), str(ROOT / 'configs' / 'ae_hg_crowd.py')]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and 'data/crowd/annotations/train.json' in done.stderr
