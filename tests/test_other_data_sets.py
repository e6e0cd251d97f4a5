"""CrowdPose, Human-Art and COCO-WholeBody: two iterations of training and a test on small files written here."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from projects.compare.contender import load_contender
from projects.compare.predictions import open_dump, predict
from projects.compare.report import Results

ROOT = Path(__file__).parent.parent
PARTS = dict(foot_kpts=6, face_kpts=68, lefthand_kpts=21, righthand_kpts=21)
STACK = dict(num_stacks=1, feat_channels=8, stage_channels=[8] * 5, init_cfg=None)
IMAGES = dict(ann_file='people.json', data_prefix=dict(img='images/'))


def joints(x, K):
    return [value for k in range(K) for value in (x + 2 + k % 5 * 5, 8 + k // 5 * 1.5, 2)]


def write_people(folder, K, whole_body):
    (folder / 'images').mkdir()
    images, people = [], []
    for i in (1, 2):
        cv2.imwrite(str(folder / f'images/{i}.png'), np.full((64, 96, 3), 60 * i, np.uint8))
        images.append(dict(id=i, file_name=f'{i}.png', width=96, height=64, crowdIndex=0.3 * i))
        for x in (4, 60):
            person = dict(
                id=len(people) + 1, image_id=i, category_id=1, iscrowd=0, bbox=[x, 6, 30, 50], area=800,
                keypoints=joints(x, K), num_keypoints=K, segmentation=[],
            )  # fmt: skip
            if whole_body:
                person.update({name: joints(x, count) for name, count in PARTS.items()})
                person.update({f'{name.split("_")[0]}_valid': True for name in PARTS})
            elif K == 14:  # CrowdPose has no areas
                del person['area']
            people.append(person)
    content = dict(images=images, annotations=people, categories=[dict(id=1, name='person')])
    (folder / 'people.json').write_text(json.dumps(content))


def small(name, folder):
    """The config with a narrow network, without weights to load, on the files of the folder."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    if 'res50' in name:
        cfg.model.backbone.init_cfg = None
    else:
        cfg.model.backbone.update(STACK)
        cfg.model.freeze_backbone = False
    if name.startswith('rnnpose_hg'):
        channels = cfg.model.backbone.out_channels
        cfg.model.neck.in_channels, cfg.model.head.in_channels = [channels], channels // 2
    if 'max_instances' not in cfg.model.head and name.startswith('rnnpose'):
        cfg.model.head.max_instances = 3
    for part in ('train', 'val', 'test'):
        if cfg.get(f'{part}_dataloader'):
            loader = cfg[f'{part}_dataloader']
            loader.update(num_workers=0, batch_size=1)
            loader.dataset.update(IMAGES, data_root=f'{folder}/')
    cfg.test_evaluator[0].ann_file = str(folder / 'people.json')
    cfg.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg.train_cfg.max_epochs = 1
    cfg.dump(folder / 'small.py')


@pytest.mark.parametrize(
    ('name', 'K', 'figures'),
    [
        ('rnnpose_hg_crowdpose', 14, ['crowdpose/AP', 'crowdpose/AP(E)', 'crowdpose/AP(H)']),
        ('ae_hg_crowdpose', 14, ['crowdpose/AP', 'crowdpose/AP(M)']),
        ('rnnpose_hg_humanart', 17, ['coco/AP']),
        ('rnnpose_res50_wholebody', 133, ['people/found']),
    ],
)
def test_two_iterations_and_a_test(tmp_path, monkeypatch, name, K, figures):
    write_people(tmp_path, 17 if K == 133 else K, K == 133)
    small(name, tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'{tool}.py', 'small.py', *arguments, '--work-dir', 'work'])
        runpy.run_path(str(ROOT / f'tools/{tool}.py'), run_name='__main__')

    run('train')
    run('test', 'work/epoch_1.pth', '--out', 'out.json')
    metrics = json.loads((tmp_path / 'out.json').read_text())
    assert set(figures) <= set(metrics) and metrics['people/true'] == 4
    if K == 14:
        compared(tmp_path, metrics)


def compared(folder, metrics):
    """The comparison has CrowdPose's AP by crowd index; a group without images has AP -1 in the metric."""
    model = load_contender('one', str(folder / 'small.py'), str(folder / 'work/epoch_1.pth'))
    predict(model, open_dump(model, str(folder / 'one.jsonl')))
    rows = Results(model, open_dump(model, str(folder / 'one.jsonl'))).as_data()['crowd']
    assert [(row['type'], row['images']) for row in rows] == [('easy', 0), ('medium', 2), ('hard', 0)]
    assert rows[1]['AP'] == pytest.approx(metrics['crowdpose/AP(M)'], abs=1e-4) and rows[0]['AP'] is None


def test_crowdpose_keeps_to_its_protocol():
    for name in ('ae_hg_crowdpose', 'rnnpose_hg_crowdpose'):
        cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
        assert cfg.train_dataloader.dataset.ann_file.endswith('trainval.json') and cfg.val_dataloader is None
        assert cfg.test_dataloader.dataset.ann_file.endswith('crowdpose_test.json')
        metric = cfg.test_evaluator[0]
        assert metric.use_area is False and metric.iou_type == 'keypoints_crowd'
