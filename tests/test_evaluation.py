"""MMPose's AP against pycocotools on the same predictions; counting people; no detections."""

import json

import numpy as np
import pytest
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_split
from rnnpose_plugin.evaluation import PersonCountMetric

META = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))


@pytest.fixture(scope='module')
def annotations(tmp_path_factory):
    return write_split(tmp_path_factory.mktemp('crowd'), 'val', 12, seed=0, settings=CrowdSettings())


def noisy_predictions(coco, generator):
    """True joints with noise; some people are missing, some duplicated."""
    samples = []
    for image in coco.imgs.values():
        truth = coco.imgToAnns[image['id']]
        people = [np.reshape(a['keypoints'], (17, 3))[:, :2] for a in truth if generator.random() > 0.2]
        people += [p + 4 for p in people[:1]]
        keypoints = np.array([p + generator.normal(0, 1.5, (17, 2)) for p in people]).reshape(-1, 17, 2)
        instances = dict(
            keypoints=keypoints,
            keypoint_scores=generator.random(keypoints.shape[:2]),
            bbox_scores=generator.random(len(keypoints)),
        )
        samples.append(
            dict(
                id=[a['id'] for a in truth],
                img_id=image['id'],
                pred_instances=instances,
                gt_instances={},
                raw_ann_info=truth,
            )
        )
    return samples


def build(annotations, **settings):
    cfg = dict(type='BottomupCocoMetric', ann_file=str(annotations), nms_mode='none', score_mode='bbox', **settings)
    metric = METRICS.build(cfg)
    metric.dataset_meta = dict(META, CLASSES=[dict(id=1, name='person')])
    return metric


def test_ap_equals_pycocotools(annotations, tmp_path):
    coco = COCO(annotations)
    samples = noisy_predictions(coco, np.random.default_rng(0))
    metric = build(annotations, outfile_prefix=str(tmp_path / 'dump'))
    metric.process({}, samples)
    ours = metric.evaluate(len(samples))

    reference = COCOeval(coco, coco.loadRes(json.loads((tmp_path / 'dump.keypoints.json').read_text())), 'keypoints')
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    names = ['AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)', 'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)']
    assert 0.1 < ours['coco/AP'] < 0.9  # else any two would agree
    for name, expected in zip(names, reference.stats):
        assert ours[f'coco/{name}'] == pytest.approx(expected, abs=1e-6)


def test_no_detections_score_zero(annotations):
    metric = build(annotations)
    empty = dict(keypoints=np.zeros((0, 17, 2)), keypoint_scores=np.zeros((0, 17)), bbox_scores=np.zeros(0))
    metric.process({}, [dict(id=[1], img_id=1, pred_instances=empty, gt_instances={})])
    assert metric.evaluate(1)['coco/AP'] == 0


def test_counting():
    def sample(found, annotations):
        return dict(pred_instances=dict(keypoints=np.zeros((found, 17, 2))), raw_ann_info=annotations)

    person = dict(iscrowd=0, keypoints=[0, 0, 0, 5, 5, 1])
    crowd, bodiless = dict(person, iscrowd=1), dict(person, keypoints=[0, 0, 0, 0, 0, 0])
    metric = METRICS.build(dict(type='PersonCountMetric'))
    metric.process({}, [sample(3, [person, crowd, bodiless]), sample(0, [person, person]), sample(1, None)])
    expected = {'people/found': 4, 'people/true': 3, 'people/count_error': pytest.approx((2 + 2 + 1) / 3)}
    assert metric.evaluate(3) == expected
    assert isinstance(metric, PersonCountMetric)
