"""Annotation files as various tools write them: metric and comparison against pycocotools on clean files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmpose.registry import DATASETS, METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_split
from rnnpose_plugin.evaluation.crowding import FIGURES, coco_figures, figures_by_band, read_truth
from rnnpose_plugin.evaluation.truth import area_of, clean_truth, has_area

IMAGES = 8
NAN = float('nan')
METRIC_NAMES = ('AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)', 'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)')
REAL = Path(os.environ.get('RNNPOSE_TEST_DATA', '../shared/data'))
REAL_FILES = {
    'coco_mini': 'annotations/person_keypoints_val2017.json',
    'ochuman_mini': 'annotations/test_ochuman.json',
}


@pytest.fixture(scope='module')
def crowd(tmp_path_factory):
    """A clean file, as a dict: ids from 1, the one category 1, areas."""
    folder = tmp_path_factory.mktemp('crowd')
    path = write_split(folder, 'val', IMAGES, seed=0, settings=CrowdSettings())
    return json.loads(Path(path).read_text())


def every(**changes):
    """All annotations changed; ... removes a field, a function gets the annotation."""

    def change(content):
        for annotation in content['annotations']:
            for key, value in changes.items():
                annotation[key] = value(annotation) if callable(value) else value
                if value is ...:
                    del annotation[key]

    return change


def both(*changes):
    return lambda content: [change(content) for change in changes]


def categories(*given):
    return lambda content: content.update(categories=[dict(id=number, name=name) for number, name in given])


def bags(content):
    """Boxes of a category 1 without keypoints, and one with unlabelled ones."""
    box = dict(iscrowd=0, bbox=[2, 2, 9, 9], area=81, category_id=1)
    content['annotations'] += [dict(box, id=5000 + i, image_id=i) for i in range(1, IMAGES + 1)]
    content['annotations'].append(dict(box, id=6000, image_id=1, keypoints=[0] * 51, num_keypoints=0))


def no_box_area(content):
    """Half of the people without area."""
    for annotation in content['annotations'][::2]:
        annotation['area'] = NAN


# What another tool may have written, and whether the areas that it lost are 0.53 of the box.
ODD = {
    'as COCO writes it': (every(), ()),
    'ids from 0': (every(id=lambda a: a['id'] - 1), ()),
    'negative ids': (every(id=lambda a: a['id'] - 1000), ()),
    'category 0': (both(every(category_id=0), categories((0, 'person'))), ()),
    'category 3 beside boxes': (both(every(category_id=3), bags, categories((1, 'bag'), (3, 'person'))), ()),
    'two kinds of people': (both(every(category_id=lambda a: 1 + a['id'] % 2), categories((1, 'm'), (2, 'f'))), ()),
    'no categories': (categories(), ()),
    'a category without people': (categories((1, 'person'), (2, 'horse')), ()),
    'no iscrowd': (every(iscrowd=...), ()),
    'iscrowd null': (every(iscrowd=None), ()),
    'num_keypoints 0': (every(num_keypoints=0), ()),
    'no num_keypoints': (every(num_keypoints=...), ()),
    'no area': (every(area=...), slice(None)),
    'area 0': (every(area=0), slice(None)),
    'area NaN': (every(area=NAN), slice(None)),
    'area null': (every(area=None), slice(None)),
    'area negative': (every(area=-5.0), slice(None)),
    'area infinite': (every(area=float('inf')), slice(None)),
    'area NaN of every other': (no_box_area, slice(None, None, 2)),
}  # fmt: skip


def copy_of(content):
    return json.loads(json.dumps(content))


def box_areas(content, part=slice(None)):
    for annotation in content['annotations'][part] if part != () else ():
        annotation['area'] = 0.53 * annotation['bbox'][2] * annotation['bbox'][3]
    return content


def poses_of(content, noise, seed=0):
    """Image id -> joints (n, K, 2) and scores; with noise some people are missing and one is there twice."""
    generator, poses = np.random.default_rng(seed), {}
    K = max(len(a['keypoints']) for a in content['annotations']) // 3
    for image in content['images']:
        people = [a for a in content['annotations'] if a['image_id'] == image['id'] and any(a['keypoints'][2::3])]
        people = [a for a in people if not a['iscrowd'] and not (noise and generator.random() < 0.2)]
        joints = np.array([a['keypoints'] for a in people], float).reshape(-1, K, 3)[..., :2]
        if noise and len(people):
            joints = np.concatenate([joints, joints[:1] + 3]) + generator.normal(0, noise, (len(joints) + 1, K, 2))
        poses[image['id']] = joints, generator.random(len(joints))
    return poses


def records(poses):
    return [
        dict(
            image_id=image, category_id=1, score=float(score), keypoints=np.insert(pose, 2, 1, axis=1).ravel().tolist()
        )
        for image, (joints, scores) in poses.items()
        for pose, score in zip(joints, scores)
    ]


def oracle(content, poses, folder, image_ids=None):
    """pycocotools on a clean file."""
    (folder / 'clean.json').write_text(json.dumps(content))
    coco = COCO(str(folder / 'clean.json'))
    evaluation = COCOeval(coco, coco.loadRes(records(poses)), 'keypoints')
    evaluation.params.imgIds = image_ids or evaluation.params.imgIds
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def dataset_of(path, **settings):
    return DATASETS.build(
        dict(
            dict(type='CocoDataset', ann_file=str(path), data_mode='bottomup', test_mode=True, pipeline=[]), **settings
        )
    )


def metric_figures(path, poses, dataset=None, **settings):
    """Data set, process and evaluate, as in tools/test.py."""
    dataset = dataset or dataset_of(path)
    metric = METRICS.build(dict(dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox'), **settings))
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        joints, scores = poses[info['img_id']]
        found = dict(keypoints=joints, keypoint_scores=np.ones(joints.shape[:2]), bbox_scores=scores)
        sample = {key: info[key] for key in ('id', 'img_id', 'raw_ann_info')}
        if 'crowd_index' in info:
            sample['crowd_index'] = info['crowd_index']
        metric.process({}, [dict(sample, pred_instances=found, gt_instances={}, ori_shape=(64, 64))])
    return metric.evaluate(len(dataset))


def in_order(figures):
    return [figures[f'coco/{name}'] for name in METRIC_NAMES]


def spoilt(content, change, folder):
    """The changed file's path."""
    content = copy_of(content)
    change(content)
    (folder / 'odd.json').write_text(json.dumps(content))
    return folder / 'odd.json'


@pytest.mark.parametrize('name', ODD)
def test_figures_are_those_of_a_clean_file(crowd, name, tmp_path):
    change, lost = ODD[name]
    path = spoilt(crowd, change, tmp_path)
    poses, clean = poses_of(crowd, noise=1.5), box_areas(copy_of(crowd), lost)
    expected = oracle(clean, poses, tmp_path)
    assert 0.1 < expected[0] < 0.9  # else any two would agree
    assert in_order(metric_figures(path, poses)) == pytest.approx(expected, abs=1e-6)

    truth = read_truth(str(path), [image['id'] for image in crowd['images']])
    sigmas = dataset_of(path, lazy_init=True).metainfo['sigmas']
    assert set(coco_figures(truth, records(poses), sigmas)) == set(FIGURES)
    ours = [-1 if value is None else value for value in coco_figures(truth, records(poses), sigmas).values()]
    assert ours == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('name', ODD)
def test_perfect_poses_score_1(crowd, name, tmp_path):
    path, poses = spoilt(crowd, ODD[name][0], tmp_path), poses_of(crowd, noise=0)
    assert metric_figures(path, poses)['coco/AP'] == pytest.approx(1, abs=1e-6)
    truth = read_truth(str(path), [image['id'] for image in crowd['images']])
    sigmas = dataset_of(path, lazy_init=True).metainfo['sigmas']
    bands = [row['AP'] for row in figures_by_band(truth, records(poses), sigmas) if row['people']]
    assert [coco_figures(truth, records(poses), sigmas)['AP'], *bands] == pytest.approx(
        [1] * (1 + len(bands)), abs=1e-6
    )


def test_random_poses_match_no_person_with_a_nan_area(crowd, tmp_path):
    path = spoilt(crowd, every(area=NAN), tmp_path)
    poses = {image: (joints + 100, scores) for image, (joints, scores) in poses_of(crowd, noise=1.5).items()}
    assert metric_figures(path, poses)['coco/AP'] == 0


def test_a_pose_with_a_nan_matches_no_person(crowd, tmp_path):
    """It is a false positive, as is one far away."""
    path, poses = spoilt(crowd, every(), tmp_path), poses_of(crowd, noise=1.5)
    broken, far = dict(poses), dict(poses)
    for value, changed in ((NAN, broken), (-3000.0, far)):
        for image in (1, 2):
            joints = poses[image][0].copy()
            joints[:, :3] = value
            changed[image] = joints, poses[image][1]
    figures = in_order(metric_figures(path, broken))
    assert figures[0] < in_order(metric_figures(path, poses))[0]
    assert figures == pytest.approx(oracle(crowd, far, tmp_path), abs=1e-6)
    everywhere = {image: (np.full_like(joints, NAN), scores) for image, (joints, scores) in poses.items()}
    assert metric_figures(path, everywhere)['coco/AP'] == 0


@pytest.mark.parametrize('settings', [dict(indices=3), dict(indices=[1, 4]), dict(sample_interval=3)])
def test_only_the_images_that_were_tested_are_evaluated(crowd, settings, tmp_path):
    path, poses = spoilt(crowd, every(), tmp_path), poses_of(crowd, noise=1.5)
    dataset = dataset_of(path, **settings)
    tested = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
    expected = oracle(crowd, {image: poses[image] for image in tested}, tmp_path, tested)
    assert 0 < len(tested) < IMAGES and 0.1 < expected[0] < 0.95
    assert in_order(metric_figures(path, poses, dataset)) == pytest.approx(expected, abs=1e-6)


def test_an_image_that_was_tested_twice_counts_once(crowd, tmp_path):
    path, poses = spoilt(crowd, every(), tmp_path), poses_of(crowd, noise=1.5)
    dataset = dict(type='mmpose.CocoDataset', ann_file=str(path), data_mode='bottomup', test_mode=True, pipeline=[])
    twice = DATASETS.build(dict(type='RepeatDataset', times=2, dataset=dataset, _scope_='mmengine'))
    assert len(twice) == 2 * IMAGES
    assert metric_figures(path, poses, twice) == metric_figures(path, poses)


def test_image_0(crowd, tmp_path):
    def count_from_0(content):
        for image in content['images']:
            image['id'] -= 1
        every(image_id=lambda a: a['image_id'] - 1)(content)

    path, poses = spoilt(crowd, count_from_0, tmp_path), poses_of(crowd, noise=1.5)
    shifted = {image - 1: value for image, value in poses.items()}
    assert in_order(metric_figures(path, shifted)) == pytest.approx(oracle(crowd, poses, tmp_path), abs=1e-6)


def test_without_area_everywhere_is_use_area_false(crowd, tmp_path):
    poses, whole = poses_of(crowd, noise=1.5), spoilt(crowd, every(), tmp_path)
    areas, boxes = metric_figures(whole, poses), metric_figures(whole, poses, use_area=False)
    path = spoilt(crowd, every(area=...), tmp_path)
    assert metric_figures(path, poses) == metric_figures(path, poses, use_area=False) == boxes != areas
    truth = read_truth(str(path), [1], use_area=False)['annotations'][0]
    assert truth['area'] == pytest.approx(0.53 * truth['bbox'][2] * truth['bbox'][3])


def test_areas_by_hand():
    joints = [10, 10, 2, 30, 50, 1, 0, 0, 0]
    person = dict(bbox=[0, 0, 10, 4], keypoints=joints, area=7)
    assert area_of(person) == 7 and area_of(person, use_area=False) == pytest.approx(0.53 * 40)
    assert area_of(dict(person, area='7')) == area_of(dict(person, area=0)) == pytest.approx(0.53 * 40)
    flat = dict(person, area=0, bbox=[5, 5, 0, 0])
    assert area_of(flat) == pytest.approx(0.53 * 20 * 40)  # of its joints
    ignored = dict(flat, iscrowd=1)
    assert has_area(ignored) and area_of(ignored) == 0
    assert not has_area(dict(ignored, area=-1)) and not has_area(dict(ignored, area=NAN))


def test_the_file_is_not_changed(crowd):
    before = json.dumps(crowd)
    clean_truth(crowd, {1, 2}, use_area=False)
    assert json.dumps(crowd) == before


def test_people_without_joints_or_box_are_ignored(crowd, tmp_path):
    def add(content):
        other = dict(id=900, image_id=1, category_id=1, iscrowd=0, bbox=[5, 5, 20, 20], area=400)
        content['annotations'] += [other, dict(other, id=901, keypoints=None), dict(id=902, image_id=1, category_id=1)]

    truth = clean_truth(json.loads(spoilt(crowd, add, tmp_path).read_text()))
    assert [a['keypoints'] for a in truth['annotations'][-2:]] == [[0] * 51] * 2
    assert len(truth['annotations']) == len(crowd['annotations']) + 2


@pytest.mark.parametrize(('v', 'count'), [(1, 0), (2, 17)])
def test_num_keypoints_0_ignores_people_without_a_visible_joint_only(crowd, tmp_path, v, count):
    changes = every(num_keypoints=0, keypoints=lambda a: [x if i % 3 < 2 else v for i, x in enumerate(a['keypoints'])])
    truth = clean_truth(json.loads(spoilt(crowd, changes, tmp_path).read_text()))
    assert {a['num_keypoints'] for a in truth['annotations']} == {count}


# CrowdPose.


def crowdpose(content):
    """14 joints, and how crowded an image is."""
    for number, image in enumerate(content['images']):
        image['crowdIndex'] = number / IMAGES
    every(keypoints=lambda a: a['keypoints'][:42], area=...)(content)


@pytest.mark.parametrize('own_file', [True, False])
def test_crowdpose(crowd, own_file, tmp_path):
    """By its three levels, with and without detections, with the metric's file or the samples' annotations."""
    path = spoilt(crowd, crowdpose, tmp_path)
    content = json.loads(path.read_text())
    settings = dict(ann_file=str(path)) if own_file else {}
    dataset = dataset_of(path, type='CrowdPoseDataset', test_mode=own_file)
    perfect = poses_of(content, noise=0)
    given = dict(iou_type='keypoints_crowd', use_area=False, **settings)
    figures = metric_figures(path, perfect, dataset, **given)
    names = ['AP', 'AP .5', 'AP .75', 'AR', 'AR .5', 'AR .75', 'AP(E)', 'AP(M)', 'AP(H)']
    assert figures == {f'coco/{name}': pytest.approx(1, abs=1e-6) for name in names}
    none = {image: (joints[:0], scores[:0]) for image, (joints, scores) in perfect.items()}
    assert metric_figures(path, none, dataset, **given) == {f'coco/{name}': 0 for name in names}
    hard_only = {image: pair if image > 7 else none[image] for image, pair in perfect.items()}
    levels = metric_figures(path, hard_only, dataset, **given)
    assert levels['coco/AP(E)'] == 0 and levels['coco/AP(H)'] == pytest.approx(1, abs=1e-6)


def test_results_without_detections_are_written(crowd, tmp_path):
    info = {key: value for key, value in crowd.items() if key != 'annotations'}
    (tmp_path / 'info.json').write_text(json.dumps(info))
    none = {image: (joints[:0], scores[:0]) for image, (joints, scores) in poses_of(crowd, noise=0).items()}
    settings = dict(format_only=True, outfile_prefix=str(tmp_path / 'results'))
    assert metric_figures(tmp_path / 'info.json', none, **settings) == {}
    assert json.loads((tmp_path / 'results.keypoints.json').read_text()) == []
    some = poses_of(crowd, noise=0)
    metric_figures(tmp_path / 'info.json', some, **settings)
    assert len(json.loads((tmp_path / 'results.keypoints.json').read_text())) == len(records(some))


def test_a_set_without_people_has_no_ap(crowd, tmp_path):
    path = spoilt(crowd, lambda content: content.update(annotations=[]), tmp_path)
    assert set(metric_figures(path, poses_of(crowd, noise=0)).values()) == {-1}


@pytest.mark.parametrize('name', REAL_FILES)
@pytest.mark.parametrize('odd', ['as COCO writes it', 'ids from 0', 'category 0'])
def test_real_people(name, odd, tmp_path):
    source = REAL / name / REAL_FILES[name]
    if not source.is_file():
        pytest.skip(f'{source} does not exist; set RNNPOSE_TEST_DATA')
    content = json.loads(source.read_text())
    clean = copy_of(content)
    for number, person in enumerate(clean['annotations'], start=1):
        person.update(id=number)
    clean['annotations'] = [dict(a, iscrowd=a.get('iscrowd', 0)) for a in clean['annotations']]
    poses = poses_of(clean, noise=6)
    path = spoilt(content, ODD[odd][0], tmp_path)
    expected = oracle(clean, poses, tmp_path)
    assert 0.1 < expected[0] < 0.95
    assert in_order(metric_figures(path, poses)) == pytest.approx(expected, abs=1e-6)
