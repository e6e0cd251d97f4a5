"""Real COCO and OCHuman images through the real commands. Skipped where the images are absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import DATASETS
from xtcocotools.coco import COCO

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get('RNNPOSE_TEST_DATA', ROOT.parent / 'shared' / 'data'))
COCO_MINI, OCHUMAN_MINI = DATA / 'coco_mini', DATA / 'ochuman_mini'
TRAIN_JSON = COCO_MINI / 'annotations' / 'person_keypoints_train2017.json'

pytestmark = pytest.mark.skipif(
    not TRAIN_JSON.is_file() or not OCHUMAN_MINI.is_dir(),
    reason=f'no coco_mini and ochuman_mini under {DATA}; set RNNPOSE_TEST_DATA to the folder that holds them',
)

# One narrow stack instead of four wide ones, for the checks that are not about speed or learning.
SMALL = [
    'model.backbone.num_stacks=1',
    'model.backbone.feat_channels=8',
    'model.backbone.stage_channels=[8,8,8,8,8]',
    'model.backbone.init_cfg=None',
    'model.neck.in_channels=[68]',
    'model.head.in_channels=34',
    'model.head.hidden_channels=[8,6]',
    'model.head.max_instances=3',
]


def run(tool, *arguments, options=()):
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)]
    if options:
        command += ['--cfg-options', *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def coco_options(split='train'):
    loader = {'train': 'train_dataloader', 'val': 'val_dataloader'}[split]
    return [f'{loader}.dataset.data_root={COCO_MINI}/', f'{loader}.num_workers=0']


def last_log(work_dir):
    """The scalars mmengine wrote, one dict per logged iteration."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def training_set():
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_hg_coco.py')
    with DefaultScope.overwrite_default_scope('mmpose'):
        yield DATASETS.build(dict(cfg.train_dataloader.dataset, data_root=f'{COCO_MINI}/'))


def test_the_targets_are_exactly_the_labelled_people(training_set):
    coco = COCO(str(TRAIN_JSON))
    fit = [step for step in training_set.pipeline.transforms if type(step).__name__ == 'BottomupRandomAffine'][0]
    fit.shift_prob = fit.scale_prob = fit.rotate_prob = 0
    fit.scale_type = 'long'  # the whole image, so that everyone is inside
    for i in range(len(training_set)):
        sample = training_set[i]['data_samples']
        people = [a for a in coco.imgToAnns[sample.img_id] if not a['iscrowd'] and a['num_keypoints']]
        labels = sample.gt_instance_labels
        assert len(labels.keypoint_labels) == len(people)
        counts = sorted(a['num_keypoints'] for a in people)
        assert sorted(labels.keypoint_weights.sum(1).int().tolist()) == counts
        assert sample.gt_fields.heatmap_mask.shape == (1, 128, 128)


def test_crowd_regions_are_masked(training_set):
    coco = COCO(str(TRAIN_JSON))
    crowded = [a for a in coco.anns.values() if a['iscrowd'] and a['area'] > 3000]
    assert crowded
    images = {training_set.get_data_info(i)['img_id']: i for i in range(len(training_set))}
    masked = [not training_set[images[a['image_id']]]['data_samples'].gt_fields.heatmap_mask.all() for a in crowded]
    assert any(masked)


def test_ochuman_is_tested_and_predictions_are_written(tmp_path):
    """With an untrained small decoder: this tests the pipeline only."""
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_hg_ochuman.py')
    cfg.merge_from_dict({key: eval(value) for key, value in (option.split('=') for option in SMALL)})
    from mmpose.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(cfg.model)
    model.head.first_lstm.to_stop.bias.data.fill_(1.0)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'random.pth')
    options = [
        f'test_dataloader.dataset.data_root={OCHUMAN_MINI}/',
        'test_dataloader.dataset.ann_file=annotations/test_ochuman.json',
        'test_dataloader.num_workers=0',
        *SMALL,
    ]
    out = tmp_path / 'metrics.json'
    files = ['--work-dir', tmp_path, '--dump', tmp_path / 'predictions.pkl', '--out', out, '--show-dir', 'drawn']
    run('test.py', 'configs/rnnpose_hg_ochuman.py', tmp_path / 'random.pth', *files, options=options)
    metrics = json.loads(out.read_text())
    assert {'coco/AP', 'coco/AR'} <= set(metrics) and metrics['people/true'] == 5
    import pickle

    predictions = pickle.loads((tmp_path / 'predictions.pkl').read_bytes())
    assert len(predictions) == 3
    assert all(np.isfinite(p['pred_instances']['keypoints']).all() for p in predictions)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_config_of_the_paper_trains_on_coco_at_512_on_a_cpu(tmp_path):
    """The whole network at full size, 20 iterations; without AE weights the backbone is trained along."""
    options = [
        *coco_options(),
        'train_dataloader.dataset.indices=20',
        'train_cfg.max_epochs=1',
        'model.freeze_backbone=False',
        'model.backbone.init_cfg=None',
        'default_hooks.logger.interval=1',
        'log_processor.window_size=1',  # each iteration's own loss, not a running mean
    ]
    run('train.py', 'configs/rnnpose_hg_coco.py', '--work-dir', tmp_path, '--no-validate', options=options)
    losses = [entry['loss'] for entry in last_log(tmp_path) if 'loss' in entry]
    assert len(losses) == 20 and np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.slow
@pytest.mark.seeded
@pytest.mark.timeout(3600)
def test_the_decoder_overfits_four_real_images(tmp_path):
    """AP >= 0.90 on the same images, and the right number of people on each."""
    run('overfit.py', TRAIN_JSON, COCO_MINI / 'train2017', '--work-dir', tmp_path)
    metrics = json.loads((tmp_path / 'overfit.json').read_text())
    assert metrics['coco/AP'] >= 0.9 and metrics['people/count_error'] == 0
