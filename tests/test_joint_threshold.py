"""Choosing tau: against decoding with each tau, and discarding joint by joint."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_split
from projects.joint_threshold import best_threshold, discard, try_thresholds
from rnnpose_plugin.codecs import InstanceHeatmap
from rnnpose_plugin.evaluation.crowding import coco_figures
from rnnpose_plugin.evaluation.truth import clean_truth

K, SIZE = 17, (64, 64)
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A val set, and for each image noisy heatmaps with peaks of all heights and stop probabilities."""
    folder = tmp_path_factory.mktemp('crowd')
    content = json.loads(write_split(folder, 'val', 10, 0, CrowdSettings()).read_text())
    generator, codec, maps = torch.Generator().manual_seed(0), InstanceHeatmap(SIZE, (16, 16), sigma=1.0), {}
    for image in content['images']:
        people = [a for a in content['annotations'] if a['image_id'] == image['id']]
        joints = torch.tensor([a['keypoints'] for a in people]).reshape(-1, K, 3)
        shown = codec.render(codec.to_cells(joints[..., :2]), joints[..., 2] > 0)
        heights = torch.rand(len(people), K, generator=generator)
        # Low peaks lie anywhere.
        noise = 0.3 * torch.rand(shown.shape, generator=generator)
        maps[image['id']] = shown * heights[..., None, None] + noise, torch.rand(len(people), generator=generator)
    return folder, content, maps


def decoded(maps, tau, kind):
    codec = InstanceHeatmap(SIZE, (16, 16), sigma=1.0, keypoint_threshold=tau, instance_score=kind)
    return {image: codec.decode(of_image) for image, of_image in maps.items()}


def detections_of(poses, far=False):
    """COCO's results; discarded joints far away where asked for. People without a kept joint are left out."""
    found = []
    for image, (keypoints, peaks, scores) in poses.items():
        for joints, heights, score in zip(keypoints, peaks, scores):
            if score > 0:
                joints = [(-1e4, -1e4) if far and not height else xy for xy, height in zip(joints, heights)]
                numbers = [float(n) for (x, y), height in zip(joints, heights) for n in (x, y, height)]
                found.append(dict(image_id=image, category_id=1, keypoints=numbers, score=float(score)))
    return found


def config(folder, **codec):
    decoder = dict(type='InstanceHeatmap', **codec)
    dataset = dict(type='CocoDataset', data_root=f'{folder}/', ann_file='annotations/val.json', data_mode='bottomup',
                   data_prefix=dict(img='val/'), test_mode=True)  # fmt: skip
    return Config(dict(model=dict(head=dict(decoder=decoder)), val_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize('kind', ['stop_times_peak', 'stop', 'peak'])
def test_one_dump_gives_what_decoding_with_each_tau_gives(kind, data, tmp_path):
    folder, content, maps = data
    results = tmp_path / 'val.keypoints.json'
    results.write_text(json.dumps(detections_of(decoded(maps, 0.015, kind))))
    rows = list(try_thresholds(config(folder, instance_score=kind), str(results)))
    assert [tau for tau, _, _ in rows][:3] == [0.015, 0.025, 0.05] and len(rows) == 25
    truth, aps = clean_truth(content), []
    for tau, ap, discarded in rows:
        poses = decoded(maps, tau, kind)
        aps.append(coco_figures(truth, detections_of(poses, far=True), SIGMAS)['AP'])
        assert ap == pytest.approx(aps[-1], abs=1e-9)
        assert discarded == pytest.approx(np.mean([p == 0 for _, peaks, _ in poses.values() for p in peaks.ravel()]))
    assert len(set(aps)) > 5 and aps[0] > aps[-1]
    expected = max(tau for (tau, _, _), ap in zip(rows, aps) if ap >= aps[0])
    assert best_threshold(rows) == expected and 0.015 < expected < 0.6


def test_higher_thresholds_than_the_present_one_only(data, tmp_path):
    folder, _, maps = data
    (tmp_path / 'val.json').write_text(json.dumps(detections_of(decoded(maps, 0.3, 'stop'))))
    rows = list(
        try_thresholds(config(folder, instance_score='stop', keypoint_threshold=0.3), str(tmp_path / 'val.json'))
    )
    assert [tau for tau, _, _ in rows][:2] == [0.3, 0.325]


def test_discarding():
    pose = dict(score=0.3, keypoints=[1, 2, 0.5, 3, 4, 0.1, 5, 6, 0.0])
    kept = discard(pose, 0.2)
    assert kept['keypoints'][:3] == [1, 2, 0.5] and kept['keypoints'][5::3] == [0, 0]
    assert kept['score'] == pytest.approx(0.3 * 0.5 / 0.3) and discard(pose, 0.2, rescored=False)['score'] == 0.3
    assert max(kept['keypoints'][3:5]) < -1000 and discard(pose, 0.6) is None and discard(pose, 0)['score'] == 0.3
    assert pose['keypoints'][3:5] == [3, 4]


def test_what_cannot_be_used_is_refused(data, tmp_path):
    folder, _, _ = data
    results = tmp_path / 'val.json'

    def error(text, cfg=None):
        results.write_text(text)
        with pytest.raises(ValueError) as raised:
            list(try_thresholds(cfg or config(folder), str(results)))
        return str(raised.value)

    assert 'is not JSON' in error('{') and "not in COCO's results format" in error('{"a": 1}')
    assert 'has 3 numbers, the val set 51' in error('[{"image_id": 1, "score": 1, "keypoints": [1, 2, 3]}]')
    refined = config(folder)
    refined.model.test_cfg = dict(ae_refinement=True)
    assert 'ae_refinement=True' in error('[]', refined)
    other = config(folder)
    other.model.head.decoder.type = 'AssociativeEmbedding'
    assert 'the codec AssociativeEmbedding; tau' in error('[]', other)
    unvalidated = config(folder)
    unvalidated.val_dataloader = None
    assert 'no val_dataloader' in error('[]', unvalidated)
