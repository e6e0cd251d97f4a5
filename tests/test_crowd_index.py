"""AP of easy, medium and hard images by CrowdPose's crowd index, against slower computations and xtcocotools."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.compare.crowd_index import crowd_index, figures_by_crowd_index
from rnnpose_plugin import coco_api
from rnnpose_plugin.evaluation.crowding import read_truth

K = 14
SIGMAS = np.linspace(0.05, 0.1, K)
INDEX = [0, 0.1, 0.19, 0.2, 0.3, 0.5, 0.79, 0.8, 0.9, 1.0]  # 0.2 is medium, 0.8 is hard
SPLIT = dict(easy=[1, 2, 3], medium=[4, 5, 6, 7], hard=[8, 9, 10])


def crowd():
    """An annotation file as CrowdPose's, and detections that are worse in later images."""
    generator = np.random.default_rng(0)
    images = [dict(id=i, width=200, height=200, crowdIndex=x) for i, x in enumerate(INDEX, start=1)]
    people, found = [], []
    for image in [*images, *images, *images]:
        corner = generator.uniform(0, 140, 2)
        joints = np.column_stack([corner + generator.uniform(0, 60, (K, 2)), generator.integers(0, 3, K)])
        hidden = generator.random() < 0.3  # CrowdPose counts visible joints alone, and ignores people without one
        joints[:, 2] = np.minimum(joints[:, 2], 1) if hidden else joints[:, 2]
        visible = int((joints[:, 2] == 2).sum())
        people.append(
            dict(
                id=len(people) + 1, image_id=image['id'], category_id=1, iscrowd=0, bbox=[*corner, 60, 60],
                keypoints=joints.ravel().tolist(), num_keypoints=visible,
            )
        )  # fmt: skip
        pose = joints + [[*generator.normal(0, 0.5 + 0.6 * image['id'], 2), 0]]
        found.append(
            dict(image_id=image['id'], category_id=1, keypoints=pose.ravel().tolist(), score=generator.random())
        )
    return dict(images=images, annotations=people, categories=[dict(id=1, name='person')]), found


@pytest.fixture
def files(tmp_path):
    content, found = crowd()
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    return tmp_path / 'truth.json', content, found


def truth_of(path):
    return read_truth(str(path), range(1, 11), use_area=False)


def test_they_are_pycocotools_ap_of_each_subset_of_images(files):
    path, content, found = files
    rows = {row['type']: row for row in figures_by_crowd_index(truth_of(path), found, SIGMAS)}
    for name, images in SPLIT.items():
        coco = COCO()
        coco.dataset = dict(content, images=[image for image in content['images'] if image['id'] in images])
        coco.dataset['annotations'] = [
            dict(person, area=0.53 * 60 * 60) for person in content['annotations'] if person['image_id'] in images
        ]
        coco.createIndex()
        poses = coco.loadRes([dict(pose) for pose in found if pose['image_id'] in images])
        evaluation = COCOeval(coco, poses, 'keypoints')
        evaluation.params.kpt_oks_sigmas = SIGMAS
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert rows[name]['AP'] == pytest.approx(evaluation.stats[0], abs=1e-9) and rows[name]['images'] == len(images)
    assert len({row['AP'] for row in rows.values() if 0.05 < row['AP'] < 0.95}) == 3


def test_they_are_those_of_crowdposes_own_evaluation(files):
    """Of xtcocotools, which gives four digits; coco_api where that does not import."""
    path, _, found = files
    try:
        from xtcocotools import coco, cocoeval
    except (ImportError, ValueError):
        coco = cocoeval = coco_api
    people = coco.COCO(str(path))
    poses = people.loadRes([dict(pose) for pose in found])
    evaluation = cocoeval.COCOeval(people, poses, 'keypoints_crowd', SIGMAS, use_area=False)
    people.anno_file = evaluation.anno_file = [str(path), None]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    rows = figures_by_crowd_index(truth_of(path), found, SIGMAS)
    assert [row['AP'] for row in rows] == pytest.approx(evaluation.stats[6:9], abs=6e-5)


def test_without_crowdindex_it_is_computed_by_the_definition(files):
    path, content, found = files
    expected = {}
    for image in content['images']:
        del image['crowdIndex']
        people = [person for person in content['annotations'] if person['image_id'] == image['id']]
        total = 0
        for person in people:
            x, y, width, height = person['bbox']
            own = sum(v > 0 for v in person['keypoints'][2::3])
            others = 0
            for other in people:
                if other is not person:
                    joints = np.reshape(other['keypoints'], (K, 3))
                    others += sum(v > 0 and x <= a <= x + width and y <= b <= y + height for a, b, v in joints)
            total += others / own
        expected[image['id']] = total / len(people)
        assert crowd_index(people) == pytest.approx(expected[image['id']])
    path.write_text(json.dumps(content))
    rows = figures_by_crowd_index(truth_of(path), found, SIGMAS)
    numbers = [sum(v < 0.2 for v in expected.values()), sum(v >= 0.8 for v in expected.values())]
    assert [rows[0]['images'], rows[2]['images']] == numbers and sum(row['images'] for row in rows) == 10
    assert min(row['images'] for row in rows) > 0


def test_an_image_without_people_is_easy_and_groups_without_people_have_no_ap():
    empty = dict(images=[dict(id=1, width=9, height=9)], annotations=[], categories=[dict(id=1, name='person')])
    assert [(row['images'], row['AP']) for row in figures_by_crowd_index(empty, [], SIGMAS)] == [(1, None)] + [
        (0, None)
    ] * 2


def test_joints_outside_their_own_box_are_not_those_of_others():
    person = dict(bbox=[0, 0, 10, 10], keypoints=[5, 5, 2, 50, 50, 2])
    assert crowd_index([person]) == 0
    other = dict(bbox=[40, 40, 20, 20], keypoints=[45, 45, 2, 45, 46, 1, 45, 47, 0])
    assert crowd_index([person, other]) == pytest.approx((0 / 2 + 1 / 2) / 2)
