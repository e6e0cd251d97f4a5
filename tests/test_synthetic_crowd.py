"""Synthetic crowds: the same seed gives the same bytes, labels are exact, and COCO readers accept the files."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from itertools import chain, combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

import rnnpose_plugin  # noqa: F401  (first, as it prepares the import of mmpose)
from projects.crowdbench.crowd_scene import joint_flags, owner_map, sample_crowd
from projects.crowdbench.stick_drawing import SUPERSAMPLE, Shape, draw_shape
from projects.crowdbench.synthetic_crowd import (
    CROWDBENCH,
    CROWDBENCH_COUNTS,
    JOINT_RADIUS,
    SPLITS,
    CrowdSettings,
    draw_image,
    write_crowd,
    write_split,
)

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {'train': 30, 'val': 5, 'plain': 40, 'occluded': 40, 'crowded': 6}
SETTINGS = CrowdSettings(crowded_min_people=4, crowded_max_people=5)
SIDE = SETTINGS.image_size
CROWDBENCH_DIGESTS = {
    'train': '48a3554c6ddd7788',
    'val': '692aa9f30fe895d9',
    'plain': 'ae6abd54f89c46ac',
    'occluded': 'a7cbdd9be5e610ac',
    'crowded': '1dd4e1a57be2ad95',
}


@pytest.fixture(scope='module')
def crowd(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('crowd')
    write_crowd(out, COUNTS, 3, SETTINGS)
    return out


def people_by_image(crowd: Path, split: str) -> list[list[dict]]:
    content = json.loads((crowd / 'annotations' / f'{split}.json').read_text())
    return [[p for p in content['annotations'] if p['image_id'] == image['id']] for image in content['images']]


def joints_of(person: dict) -> np.ndarray:
    return np.array(person['keypoints']).reshape(17, 3)


def masks_of(people: list[dict]) -> list[np.ndarray]:
    return [rle.decode(person['segmentation']).astype(bool) for person in people]


def is_near(mask: np.ndarray, joint: np.ndarray) -> bool:
    """Whether the mask has a pixel whose centre lies within the documented radius."""
    y, x = np.nonzero(mask)
    return bool((np.hypot(x - joint[0], y - joint[1]) <= JOINT_RADIUS).any())


def pair_ious(people: list[dict]) -> list[float]:
    boxes = np.array([person['bbox'] for person in people])
    ious = rle.iou(boxes, boxes, [0] * len(boxes))
    return [ious[i, j] for i, j in combinations(range(len(boxes)), 2)]


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_crowd_tool():
    spec = importlib.util.spec_from_file_location('make_crowd', ROOT / 'tools' / 'make_crowd.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_in_a_fresh_process_writes_the_same_bytes_and_few_lines(tmp_path):
    """With another hash seed, by two processes; in a file its progress takes lines, not hundreds of kB of a bar."""
    counts = {'train': 40, 'val': 1, 'plain': 2, 'occluded': 2, 'crowded': 1}
    options = [word for split, count in counts.items() for word in (f'--{split}', str(count))]
    command = [sys.executable, str(ROOT / 'tools' / 'make_crowd.py'), '--seed', '5', '--processes', '2']
    environment = dict(os.environ, PYTHONHASHSEED='7', PYTHONWARNINGS='ignore')
    with (tmp_path / 'log').open('w') as log:
        subprocess.run(
            [*command, '--out', str(tmp_path / 'first'), *options],
            check=True,
            env=environment,
            stdout=log,
            stderr=log,
            cwd=tmp_path,
        )
    lines = (tmp_path / 'log').read_text().splitlines()
    assert sum(line.startswith('images of train: ') for line in lines) == 20
    assert max(map(len, lines)) < 200 and len(lines) < 40
    write_crowd(tmp_path / 'second', counts, 5, CrowdSettings())
    first = hashes(tmp_path / 'first')
    assert len(first) == 46 + 5 and first == hashes(tmp_path / 'second')


def test_seed_split_and_index_change_the_bytes():
    images = [draw_image(*request, SETTINGS)[0].tobytes() for request in
              [(0, 'train', 0), (1, 'train', 0), (0, 'val', 0), (0, 'train', 1)]]  # fmt: skip
    assert len(set(images)) == 4


def test_an_image_does_not_depend_on_earlier_ones():
    forwards = [draw_image(0, 'train', index, SETTINGS) for index in range(4)]
    np.random.seed(1)
    backwards = [draw_image(0, 'train', index, SETTINGS) for index in reversed(range(4))][::-1]
    for (image, people), (other_image, other_people) in zip(forwards, backwards):
        assert np.array_equal(image, other_image)
        assert people == other_people


def test_written_files_equal_draw_image(crowd):
    for split in SPLITS:
        for index, people in enumerate(people_by_image(crowd, split)[:5]):
            image, expected = draw_image(3, split, index, SETTINGS)
            assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
            assert np.array_equal(image, cv2.imread(str(crowd / split / f'{index + 1:06d}.png')))
            assert [{k: v for k, v in person.items() if k not in ('id', 'image_id')} for person in people] == expected


def test_drawing_and_coordinates_agree_to_a_tenth_of_a_pixel():
    canvas = np.zeros((SUPERSAMPLE * 60, SUPERSAMPLE * 60), np.uint8)
    points = np.array([[20.3, 31.7], [20.3, 31.7]])
    draw_shape(canvas, Shape(points, 5.0, 255))
    image = cv2.resize(canvas, (60, 60), interpolation=cv2.INTER_AREA).astype(float)
    y, x = np.mgrid[:60, :60]
    centroid = [(image * x).sum() / image.sum(), (image * y).sum() / image.sum()]
    assert centroid == pytest.approx([20.3, 31.7], abs=0.1)


def test_flags_agree_with_the_masks(crowd):
    seen = {0: 0, 1: 0, 2: 0}
    for split in SPLITS:
        for people in people_by_image(crowd, split):
            masks = masks_of(people)
            for index, person in enumerate(people):
                others = np.any([np.zeros((SIDE, SIDE), bool), *masks[:index], *masks[index + 1 :]], 0)
                for joint in joints_of(person):
                    seen[int(joint[2])] += 1
                    assert joint[2] != 2 or is_near(masks[index], joint)
                    assert joint[2] != 1 or is_near(others, joint)
                    assert joint[2] != 0 or not joint.any()
                    assert (joint[:2] >= 0).all() and (joint[:2] <= 95).all()
                    assert np.allclose(joint[:2], np.round(joint[:2], 2), rtol=0, atol=1e-12)
    assert min(seen.values()) > 50


def test_joint_well_inside_its_own_mask_is_visible_and_inside_another_is_not(crowd):
    checked = {1: 0, 2: 0}
    reach = cv2.getStructuringElement(cv2.MORPH_RECT, (5, 5))
    for people in people_by_image(crowd, 'occluded'):
        masks = [cv2.erode(mask.astype(np.uint8), reach, borderValue=0) for mask in masks_of(people)]
        for index, person in enumerate(people):
            for x, y, flag in joints_of(person)[joints_of(person)[:, 2] > 0]:
                owner = [k for k, mask in enumerate(masks) if mask[round(y), round(x)]]
                if owner:
                    assert flag == (2 if owner == [index] else 1)
                    checked[flag] += 1
    assert min(checked.values()) > 50


def test_visible_means_half_of_the_own_pixels_around_the_joint():
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:SIDE, :SIDE]
    for _ in range(10):
        people = sample_crowd(rng, 'occluded', SETTINGS)
        for index, placed in enumerate(people):
            visible = owner_map(people) == index + 1
            for joint, flag in zip(placed.person.joints.round(2), joint_flags(placed, visible)):
                near = (np.hypot(x - joint[0], y - joint[1]) <= JOINT_RADIUS) & placed.silhouette
                expected = 2 if 2 * (near & visible).sum() >= near.sum() else 1
                assert flag == (expected if joint.min() >= 0 and joint.max() <= SIDE - 1 else 0)


def test_truncated_fraction_controls_truncation():
    for fraction, low, high in ((0.0, 0, 0), (1.0, 10, 40)):
        settings = CrowdSettings(truncated_fraction=fraction)
        images = [draw_image(0, 'plain', index, settings)[1] for index in range(40)]
        assert low <= sum(any(person['num_keypoints'] < 17 for person in people) for people in images) <= high


def test_every_person_stays_recognisable(crowd):
    labelled = []
    for split in SPLITS:
        for person in chain.from_iterable(people_by_image(crowd, split)):
            flags = joints_of(person)[:, 2]
            labelled.append((flags > 0).sum())
            assert person['num_keypoints'] == labelled[-1] >= SETTINGS.min_labelled_joints
            assert (flags == 2).sum() >= SETTINGS.min_visible_joints
    assert min(labelled) < 17, 'no person is truncated by the image border'


def test_box_holds_the_mask_and_area_counts_it(crowd):
    for split in SPLITS:
        for people in people_by_image(crowd, split):
            masks = masks_of(people)
            assert np.sum(masks, 0).max() == 1, 'visible masks overlap'
            for person, mask in zip(people, masks):
                x, y, width, height = person['bbox']
                rows, columns = np.nonzero(mask)
                assert x <= columns.min() and columns.max() + 1 <= x + width
                assert y <= rows.min() and rows.max() + 1 <= y + height
                assert min(x, y) >= 0 and max(x + width, y + height) <= SIDE
                assert person['area'] == mask.sum() >= 1


def test_box_of_an_unoccluded_person_is_tight(crowd):
    alone = [people[0] for people in people_by_image(crowd, 'plain') if len(people) == 1]
    assert len(alone) > 3
    for person in alone:
        assert person['bbox'] == rle.toBbox(person['segmentation']).tolist()


def test_occluded_images_have_a_heavily_overlapping_pair(crowd):
    for people in people_by_image(crowd, 'occluded'):
        assert max(pair_ious(people)) > 0.5


def test_plain_images_have_no_heavy_overlap(crowd):
    ious = [iou for people in people_by_image(crowd, 'plain') for iou in pair_ious(people)]
    assert 0 < max(ious) <= 0.3


def test_occluded_fraction_of_train():
    for fraction, low, high in ((0.0, 0, 0), (0.4, 8, 24), (1.0, 40, 40)):
        settings = CrowdSettings(occluded_fraction=fraction)
        ious = [pair_ious(draw_image(0, 'train', index, settings)[1]) for index in range(40)]
        assert low <= sum(max(image, default=0) > 0.5 for image in ious) <= high


@pytest.mark.parametrize('split', SPLITS)
def test_number_of_people_respects_the_limits(split):
    settings = CrowdSettings(min_people=2, max_people=3, crowded_min_people=4, crowded_max_people=5)
    expected = {4, 5} if split == 'crowded' else {2, 3}
    assert {len(draw_image(0, split, index, settings)[1]) for index in range(20)} == expected


def test_train_and_val_mix_the_three_scenes_in_the_wanted_fractions():
    settings = CrowdSettings(occluded_fraction=0.3, crowded_fraction=0.5, crowded_min_people=4, crowded_max_people=4)
    for split in ('train', 'val'):
        people = [draw_image(0, split, index, settings)[1] for index in range(60)]
        crowded = sum(len(image) == 4 for image in people)
        occluded = sum(len(image) < 4 and max(pair_ious(image), default=0) > 0.5 for image in people)
        # Three standard deviations of 60 draws are 11.6 and 10.6 images.
        assert abs(crowded - 30) < 12 and abs(occluded - 18) < 11


def test_an_unknown_scene_is_refused():
    with pytest.raises(ValueError, match="'heap'.*plain"):
        sample_crowd(np.random.default_rng(0), 'heap', SETTINGS)


@pytest.fixture(scope='module')
def images() -> dict:
    return {split: [draw_image(0, split, index, CROWDBENCH) for index in range(24)] for split in SPLITS}


class TestCrowdBench:
    def test_version_1_is_unchanged(self, images):
        """A change of these digests makes another benchmark: rename it, or revert the change."""
        digests = {}
        for split, drawn in images.items():
            whole = hashlib.sha256()
            for image, people in drawn[:4]:
                whole.update(image.tobytes() + json.dumps(people, sort_keys=True).encode())
            digests[split] = whole.hexdigest()[:16]
        assert digests == CROWDBENCH_DIGESTS

    def test_the_info_of_its_files(self, tmp_path):
        assert CROWDBENCH_COUNTS == dict(train=4000, val=200, plain=500, occluded=500, crowded=500)
        other = dataclasses.replace(CROWDBENCH, max_people=3)
        for settings, seed, title in ((CROWDBENCH, 0, 'CrowdBench'), (CROWDBENCH, 1, 'Synth'), (other, 0, 'Synth')):
            info = json.loads(write_split(tmp_path, 'plain', 1, seed, settings).read_text())['info']
            assert info['description'].startswith(title) and info['version'] == '1'
            assert CrowdSettings(**info['settings']) == settings

    def test_splits_match_their_names(self, images):
        assert all(max(pair_ious(people), default=0) <= 0.3 for _, people in images['plain'])
        assert all(max(pair_ious(people)) > 0.5 for _, people in images['occluded'])
        counts = {len(people) for _, people in images['crowded']}
        assert counts <= set(range(6, 13)) and max(counts) >= 11 and min(counts) <= 7
        assert all(image.shape == (128, 128, 3) for drawn in images.values() for image, _ in drawn)

    def test_its_difficulty_is_association(self):
        """Limbs of different people cross in most images, and most people share their colours with another one."""
        limbs = [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)]
        alike, crossing, truncated, total = 0, 0, 0, 0
        for index in range(40):
            people = sample_crowd(np.random.default_rng(index), 'occluded', CROWDBENCH)
            clothes = [person.person.clothes[2:4] for person in people]
            alike += sum(clothes.count(own) > 1 for own in clothes)
            total += len(people)
            truncated += sum((joint_flags(person, person.silhouette) == 0).any() for person in people)
            bones = [[person.person.joints[list(limb)] for limb in limbs] for person in people]
            crossing += any(
                cross(first, second) for one, other in combinations(bones, 2) for first in one for second in other
            )
        assert alike > 0.6 * total
        assert crossing > 0.8 * 40
        assert 0.05 * total < truncated < 0.4 * total

    def test_the_tool_writes_it_with_fixed_settings(self, tmp_path, capsys):
        tool = make_crowd_tool()
        counts = ['--train', '0', '--val', '1', '--plain', '0', '--occluded', '0', '--crowded', '1']
        tool.main(['--crowdbench', '--out', str(tmp_path), *counts])
        for split in ('val', 'crowded'):
            image, people = draw_image(0, split, 0, CROWDBENCH)
            assert np.array_equal(cv2.imread(str(tmp_path / split / '000001.png')), image)
            assert len(people_by_image(tmp_path, split)[0]) == len(people)
        assert not (tmp_path / 'train').exists()
        for options in (['--seed', '0'], ['--max-people', '3']):
            with pytest.raises(SystemExit) as stop:
                tool.main(['--crowdbench', '--out', str(tmp_path), *counts, *options])
            assert stop.value.code == 2 and options[0] in capsys.readouterr().err


def cross(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two line segments, (2, 2) each, intersect."""

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    return side(*first, second[0]) != side(*first, second[1]) and side(*second, first[0]) != side(*second, first[1])


def test_visible_fraction_height_and_sides_of_the_body():
    rng, settings = np.random.default_rng(0), CrowdSettings(min_height=0.5, max_height=0.6, min_visible=0.4)
    for _ in range(30):
        people = sample_crowd(rng, 'occluded', settings)
        for index, placed in enumerate(people):
            assert (owner_map(people) == index + 1).sum() >= 0.4 * placed.silhouette.sum()
            assert 0.5 * SIDE <= placed.person.height <= 0.6 * SIDE
            left, right = placed.person.joints[[5, 11]], placed.person.joints[[6, 12]]
            assert (left[:, 0] > right[:, 0]).all(), 'people face the camera, their left is on the right of the image'


def test_pycocotools_reads_every_split(crowd, capsys):
    for split, count in COUNTS.items():
        coco = COCO(str(crowd / 'annotations' / f'{split}.json'))
        assert sorted(coco.getImgIds()) == list(range(1, count + 1))
        annotations = coco.loadAnns(coco.getAnnIds(catIds=[1], iscrowd=False))
        assert [annotation['id'] for annotation in annotations] == list(range(1, len(annotations) + 1))
        assert coco.annToMask(annotations[0]).sum() == annotations[0]['area']
        assert coco.loadCats(1)[0]['keypoints'][5] == 'left_shoulder'


@pytest.mark.parametrize('name', ['CocoDataset', 'OCHumanDataset'])
def test_mmpose_reads_the_files(crowd, name):
    from mmpose import datasets

    dataset = getattr(datasets, name)(
        ann_file='annotations/occluded.json', data_root=str(crowd), data_prefix=dict(img='occluded/'),
        data_mode='bottomup', pipeline=[],
    )  # fmt: skip
    expected = people_by_image(crowd, 'occluded')
    assert len(dataset) == len(expected)
    for index, people in enumerate(expected):
        record = dataset.get_data_info(index)
        assert record['keypoints'].shape == (len(people), 17, 2)
        assert record['keypoints'] == pytest.approx(np.array([joints_of(p)[:, :2] for p in people]), abs=1e-4)
        assert Path(record['img_path']).is_file()


def test_skeleton_and_joint_names_are_those_of_coco(crowd):
    from mmpose import datasets

    metainfo = datasets.CocoDataset(lazy_init=True, test_mode=False).metainfo
    (category,) = json.loads((crowd / 'annotations' / 'val.json').read_text())['categories']
    names = [metainfo['keypoint_id2name'][joint] for joint in range(17)]
    assert category['keypoints'] == names
    bones = {frozenset(joint - 1 for joint in bone) for bone in category['skeleton']}
    assert bones == {frozenset(bone) for bone in metainfo['skeleton_links']}


@pytest.mark.parametrize(
    ('bad', 'value'),
    [
        (dict(image_size=20), '20'),
        (dict(image_size=96.5), '96.5'),
        (dict(max_people=0), '0'),
        (dict(min_people=5), '5'),
        (dict(min_height=0.97), '0.97'),
        (dict(max_height=7.5), '7.5'),
        (dict(max_tilt=-3), '-3'),
        (dict(occluded_fraction=1.25), '1.25'),
        (dict(plain_max_iou=float('nan')), 'nan'),
        (dict(min_visible_joints=18), '18'),
        (dict(max_people=1, occluded_fraction=0.75), '0.75'),
        (dict(crowded_min_people=13), '13'),
        (dict(crowded_max_height=0.25), '0.25'),
        (dict(crowded_fraction=0.7), '0.7'),
    ],
)
def test_bad_settings_are_refused_with_their_name_and_value(bad, value):
    with pytest.raises(ValueError, match=f'{list(bad)[-1]}.* {value}'):
        CrowdSettings(**bad)


def test_bad_requests_are_refused():
    single = CrowdSettings(max_people=1, occluded_fraction=0)
    with pytest.raises(ValueError, match='seed is -1'):
        draw_image(-1, 'train', 0, SETTINGS)
    with pytest.raises(ValueError, match='index is -2'):
        draw_image(0, 'train', -2, SETTINGS)
    with pytest.raises(ValueError, match="'test'"):
        draw_image(0, 'test', 0, SETTINGS)
    with pytest.raises(ValueError, match='max_people is 1'):
        draw_image(0, 'occluded', 0, single)
    huge = CrowdSettings(min_people=40, max_people=40, min_height=2, max_height=2, min_labelled_joints=17)
    with pytest.raises(RuntimeError, match='40 people did not fit in 40 attempts: lower max_people 40'):
        draw_image(0, 'plain', 0, huge)
    with pytest.raises(ValueError, match='The number of processes is 0: choose 1 or more.'):
        write_crowd('unused', {'train': 1}, 0, SETTINGS, processes=0)


def test_a_bad_request_writes_no_file(tmp_path):
    with pytest.raises(ValueError, match="'val' is -4"):
        write_crowd(tmp_path / 'out', dict(train=1, val=-4), 0, SETTINGS)
    with pytest.raises(ValueError, match="'val' is 0"):
        write_split(tmp_path / 'out', 'val', 0, 0, SETTINGS)
    assert not (tmp_path / 'out').exists()


def test_interrupted_write_leaves_no_json(tmp_path):
    path = write_split(tmp_path, 'val', 2, 0, SETTINGS)
    assert path == tmp_path / 'annotations' / 'val.json' and path.is_file()
    (tmp_path / 'val' / '000003.png').mkdir()  # the third image cannot be written
    with pytest.raises(OSError, match='000003'):
        write_split(tmp_path, 'val', 4, 0, SETTINGS)
    assert list(path.parent.iterdir()) == []


def test_finished_write_leaves_only_the_images_and_the_json(tmp_path):
    write_crowd(tmp_path, dict(train=2, val=0), 0, SETTINGS)
    assert set(hashes(tmp_path)) == {'train/000001.png', 'train/000002.png', 'annotations/train.json'}


def test_tool_explains_bad_options(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    for options, code, message in (
        (['--max-people', '1'], 2, 'max_people is 1'),
        (['--train', '-7'], 2, "'train' is -7"),
        (['--out', str(tmp_path / 'file'), '--train', '1'], 1, 'file'),
    ):
        with pytest.raises(SystemExit) as stop:
            make_crowd_tool().main(['--out', str(tmp_path / 'out'), *options])
        assert stop.value.code == code
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
