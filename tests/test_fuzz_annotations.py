"""Mutated annotation files and images: each is refused in one sentence, or everything that is done with it works."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotation_mutations import mutated_file, mutated_image
from mmengine.config import Config
from mmpose.registry import DATASETS, METRICS
from rectangle_people import NAMES, person

from projects.occluded.occluded_set import write_occluded_set
from rnnpose_plugin.datasets.loading import LoadPoseImage
from rnnpose_plugin.runtime.check_data import check_annotation_file
from rnnpose_plugin.runtime.errors import sentence_of

ROOT = Path(__file__).parent.parent
SIZE = HEIGHT, WIDTH = 96, 128
K = 17
FILES, PARTS, IMAGES = 300, 6, 60
CODEC = dict(type='InstanceHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1.0, refinement='parabola')
PIPELINE = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupRandomAffine', input_size=(64, 64)),
    dict(type='GenerateTarget', encoder=CODEC),
    dict(type='InstanceHeatmapMask', heatmap_size=(16, 16)),
    dict(type='PackPoseInputs'),
]


def whole_file():
    """Three images of two people each."""
    places = [(6, 8, 48, 70), (60, 14, 48, 70)]
    people = [person(2 * i + n + 1, i + 1, *place) for i in range(3) for n, place in enumerate(places)]
    images = [dict(id=i, file_name=f'{i:06d}.png', height=HEIGHT, width=WIDTH) for i in (1, 2, 3)]
    return dict(images=images, annotations=people, categories=[dict(id=1, name='person', keypoints=NAMES)])


@pytest.fixture
def folder(tmp_path):
    return data_folder(tmp_path)


def data_folder(path):
    (path / 'train').mkdir()
    for image in whole_file()['images']:
        pixels = np.random.RandomState(image['id']).randint(0, 255, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(path / 'train' / image['file_name']), pixels)
    os.mkfifo(path / 'train' / 'pipe')
    return path


def data_set(path, **settings):
    settings = dict(dict(pipeline=PIPELINE), **settings)
    prefix = dict(img=str(path.parent / 'train'))
    return DATASETS.build(
        dict(type='CocoDataset', ann_file=str(path), data_prefix=prefix, data_mode='bottomup', **settings)
    )


def check(path, training):
    check_annotation_file(str(path), K, str(path.parent / 'train'), training=training)


def train(path):
    check(path, True)
    samples = [*data_set(path)]
    assert samples
    for sample in samples:
        labels = sample['data_samples'].gt_instance_labels
        assert np.isfinite(labels.keypoint_labels.numpy()).all()


def evaluate(path):
    """Poses that equal the annotations have AP 1."""
    check(path, False)
    data = data_set(path, pipeline=[dict(type='LoadPoseImage')], test_mode=True)
    metric = METRICS.build(dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox'))
    metric.dataset_meta = data.metainfo
    found = 0
    for sample in data:
        people = [ann for ann in sample['raw_ann_info'] or [] if not ann.get('iscrowd')]
        joints = np.array([ann['keypoints'] for ann in people], float).reshape(-1, K, 3)
        joints = joints[(joints[..., 2] > 0).any(axis=1)][..., :2]
        poses = dict(keypoints=joints, keypoint_scores=np.ones(joints.shape[:2]), bbox_scores=np.ones(len(joints)))
        found += len(joints)
        kept = {key: sample[key] for key in ('id', 'img_id', 'ori_shape', 'raw_ann_info')}
        metric.process({}, [dict(kept, gt_instances={}, pred_instances=poses)])
    figures = metric.evaluate(size=len(data))
    assert not found or figures['coco/AP'] == pytest.approx(1), figures


def occlude(path):
    write_occluded_set(str(path), str(path.parent / 'train'), path.parent / 'out', iou=(0.3, 0.7), count=1)


def overfit(path):
    spec = importlib.util.spec_from_file_location('overfit', ROOT / 'tools' / 'overfit.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    config = str(ROOT / 'configs' / 'rnnpose_hg_overfit.py')
    arguments = dict(number=2, config=config, metainfo=None, work_dir=str(path.parent / 'w'))
    cfg = tool.prepare(argparse.Namespace(annotations=str(path), images=str(path.parent / 'train'), **arguments))
    assert isinstance(cfg, Config)
    subset = path.parent / 'subset.json'
    shutil.copy(cfg.train_dataloader.dataset.ann_file, subset)
    evaluate(subset)


USES = [train, evaluate, occlude, overfit]


def outcome(use, path):
    """None if it works, the sentence of a refusal, or the error that is none."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            use(path)
    except (ValueError, OSError) as error:
        return sentence_of(error)
    return None


def is_clear(sentence):
    """Whether a sentence names the file or the image, and is none of a library's."""
    return any(word in sentence for word in ('.json', 'image ', 'images '))


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize('part', range(PARTS))
def test_mutated_annotation_files(folder, part):
    refused, accepted = 0, 0
    for seed in range(part, FILES, PARTS):
        what, data = mutated_file(whole_file(), seed)
        path = write(folder / 'train.json', data)
        for use in USES:
            sentence = outcome(use, path)
            assert sentence is None or is_clear(sentence), f'{seed}, {use.__name__}, {what}: {sentence}'
            refused, accepted = refused + (sentence is not None), accepted + (sentence is None)
    assert refused > 50 and accepted > 30


def test_the_whole_file_is_accepted(folder):
    path = write(folder / 'train.json', json.dumps(whole_file()).encode())
    for use in USES:
        assert outcome(use, path) is None


def test_mutated_images(tmp_path):
    refused = 0
    for seed in range(IMAGES):
        what, data = mutated_image(seed, SIZE)
        path = write(tmp_path / 'image', data)
        try:
            image = LoadPoseImage()(dict(img_path=str(path), annotated_size=SIZE))['img']
        except ValueError as error:
            assert str(error).startswith(f'image {path} '), what
            refused += 1
        else:
            assert image.shape == (*SIZE, 3) and image.dtype == np.uint8, what
    assert 20 < refused < 50
