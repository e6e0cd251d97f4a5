"""The occluded test set: images, annotations, what is left out, and the command."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rectangle_people import (
    BACKGROUND,
    COCO_MINI,
    DONOR_COLOUR,
    FLIP,
    LEFT_OUT,
    NAMES,
    NO_MASK,
    PEOPLE,
    ROOT,
    UNLABELLED,
    broken,
    every,
    joints_of,
    load,
    needs_coco_mini,
    person,
    write_coco,
)

from projects.occluded.occluded_set import mirrored_joints, write_occluded_set


def run_tool(*arguments):
    command = [sys.executable, str(ROOT / 'tools' / 'make_occluded.py'), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def hashes(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_set(out, annotations, iou, count):
    """Check the set as a reader of COCO files would."""
    coco, source = COCO(out / 'annotations' / 'occluded.json'), COCO(annotations)
    originals = {image['file_name']: image['id'] for image in source.imgs.values()}
    assert len(coco.imgs) == count and len(coco.anns) == len(coco.dataset['annotations'])
    covered_joints = 0
    for image in coco.imgs.values():
        assert cv2.imread(str(out / 'images' / image['file_name'])).shape == (image['height'], image['width'], 3)
        people = coco.imgToAnns[image['id']]
        assert len(people) == len(source.imgToAnns[originals[image['source']]]) + 1
        target, pasted = (coco.anns[i] for i in image['pair'])
        # The bisection is exact up to rounding.
        assert iou[0] - 1e-6 <= rle.iou([target['bbox']], [pasted['bbox']], [0])[0, 0] <= iou[1] + 1e-6
        front = coco.annToMask(pasted).astype(bool)
        assert front.sum() == pasted['area'] > 0
        x, y, w, h = pasted['bbox']
        assert 0 <= x and 0 <= y and x + w <= image['width'] + 1e-9 and y + h <= image['height'] + 1e-9
        for annotation in people:
            mask, joints = coco.annToMask(annotation).astype(bool), joints_of(annotation)
            assert annotation['num_keypoints'] == (joints[:, 2] > 0).sum()
            if annotation is pasted:
                continue
            assert not (mask & front).any() and (mask.any() or annotation['iscrowd'])
            column, row = np.floor(joints[:, :2] + 0.5).astype(int).T
            under = front[row.clip(0, front.shape[0] - 1), column.clip(0, front.shape[1] - 1)] & (joints[:, 2] > 0)
            assert (joints[under, 2] == 1).all()
            covered_joints += under.sum()
    assert covered_joints


def perfect(annotation, image, score):
    """A prediction without any error."""
    return dict(image_id=image, category_id=1, keypoints=annotation['keypoints'], score=score)


def test_people_without_valid_joints_stay_for_the_evaluator_to_ignore(tmp_path, log_lines):
    """People and crowd regions alike; without them, predictions for them would be false positives."""
    place, region = (2, 2, 12, 30), (70, 4, 20, 50)
    unlabelled = broken(every(UNLABELLED), 10, 1, *place)
    (crowd_region,) = broken([dict(keypoints=..., num_keypoints=..., iscrowd=1)], 30, 1, *region)
    people = [person(1, 1, 30, 10, 24, 40), *unlabelled, crowd_region, person(40, 4, 30, 6, 22, 44)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    path = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.5, 0.6), 4)
    coco = COCO(path)
    predictions = []
    for image in coco.imgs.values():
        present = coco.imgToAnns[image['id']]
        assert all(len(annotation['keypoints']) == 51 for annotation in present)
        known = [annotation for annotation in present if annotation['num_keypoints']]
        predictions += [perfect(annotation, image['id'], 0.5) for annotation in known]
        if image['source'] == '1.png':
            assert len(present) == len(people) and len(known) == 2
            assert [annotation['bbox'] for annotation in present if annotation['iscrowd']] == [list(region)]
            # Of a higher score than the correct ones: as false positives they would cost most.
            predictions += [perfect(person(0, 1, *where), image['id'], 0.9) for where in [place] * 10 + [region]]
    assert {image['source'] for image in coco.imgs.values()} == {'1.png', '4.png'}
    evaluation = COCOeval(coco, coco.loadRes(predictions), 'keypoints')
    evaluation.evaluate()
    evaluation.accumulate()
    assert (evaluation.eval['precision'][:, :, 0, 0, 0] == 1).all()
    (line,) = [line for line in log_lines() if 'in the set without joints' in line]
    for reason, changes in UNLABELLED.items():
        assert f' {len(changes) + (reason == "without keypoints")} {reason}' in line, line


def test_unusable_annotations_are_left_out_and_counted(tmp_path, log_lines):
    people = [person(1, 1, 30, 10, 24, 40), *broken(every(LEFT_OUT), 10, 1, 30, 10, 24, 40)]
    people += [*broken(NO_MASK, 50, 1, 70, 4, 20, 50), person(90, 4, 30, 6, 22, 44)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    path = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.5, 0.6), 3)
    content = json.loads(path.read_text())
    for image in content['images']:
        present = [annotation for annotation in content['annotations'] if annotation['image_id'] == image['id']]
        assert len(present) == (2 + len(NO_MASK) if image['source'] == '1.png' else 2)
    (line,) = [line for line in log_lines() if 'left out of the set' in line]
    for reason, changes in LEFT_OUT.items():
        assert f' {len(changes)} {reason}' in line, line


def test_one_person_is_not_enough_for_a_pair(tmp_path):
    people = [person(1, 1, 30, 10, 24, 40), person(2, 1, 70, 10, 20, 40, v=0, num_keypoints=0)]
    source = write_coco(tmp_path, people, {1: BACKGROUND})
    with pytest.raises(ValueError, match='has 1 person with .*a pair takes two people; use a file with more'):
        write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.5, 0.6), 3)
    # A person whose joints are hidden is not a donor but can be a target.
    hidden = person(2, 1, 40, 10, 20, 40, v=1)
    source = write_coco(tmp_path, [people[0], hidden], {1: BACKGROUND})
    assert write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.5, 0.6), 1).is_file()


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path):
    people = [person(1, 1, 30, 10, 24, 40), person(2, 1, 60, 10, 24, 40)]
    source = write_coco(tmp_path, people, {1: BACKGROUND})
    image = cv2.imread(str(tmp_path / 'images' / '1.png'))
    cv2.imwrite(str(tmp_path / 'images' / '1.png'), cv2.resize(image, None, fx=2, fy=2))
    with pytest.raises(ValueError, match='pixels .height x width. but the annotation file says'):
        write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.5, 0.6), 1)


def test_the_images_that_are_read_are_not_overwritten(tmp_path):
    people = [person(1, 1, 30, 10, 24, 40), person(40, 4, 30, 6, 22, 44)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    before = hashes(tmp_path)
    with pytest.raises(ValueError, match='is the folder of the images that are read; write to another folder'):
        write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path, (0.5, 0.6), 2)
    assert hashes(tmp_path) == before


def test_boxes_beyond_the_image_give_pairs_of_the_wanted_iou(tmp_path):
    people = [person(1, 1, -20, 10, 48, 40), person(40, 4, 30, 6, 22, 44)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.5, 0.6), 4)
    check_set(tmp_path / 'out', source, (0.5, 0.6), 4)


def test_another_number_of_names_than_joints_disables_mirroring(tmp_path):
    people = [person(i, i, 30, 10, 24, 40, keypoints=[40, 20, 2] * 14, num_keypoints=14) for i in (1, 2)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 2: DONOR_COLOUR})  # the category has 17 names
    path = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.5, 0.6), 6)
    assert all(len(annotation['keypoints']) == 42 for annotation in json.loads(path.read_text())['annotations'])


def test_people_of_an_unknown_category_are_left_out(tmp_path):
    people = [person(60, 7, 5, 5, 20, 44, category_id=9), person(61, 7, 20, 10, 20, 44), person(62, 7, 40, 10, 20, 44)]
    path = write_coco(tmp_path, people, {7: DONOR_COLOUR})
    out = write_occluded_set(str(path), str(tmp_path / 'images'), tmp_path / 'out', (0.3, 0.7), 3)
    assert {a['category_id'] for a in json.loads(out.read_text())['annotations']} == {1}


def test_an_image_in_which_a_person_would_be_wholly_covered_is_skipped(tmp_path):
    hidden = person(4, 1, 41, 29, 2, 2, num_keypoints=0, v=0)  # in the centre of the target, always covered
    people = [person(1, 1, 30, 10, 24, 40), hidden, person(10, 4, 30, 6, 24, 40)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    path = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.7, 0.75), 3)
    assert {image['source'] for image in json.loads(path.read_text())['images']} == {'4.png'}


def test_the_seed_and_the_round_change_the_pairs_of_the_same_image(tmp_path):
    people = [person(1, 1, 30, 10, 24, 40), person(2, 1, 60, 10, 20, 40)]
    source = write_coco(tmp_path, people, {1: BACKGROUND})
    boxes = set()
    for seed in (0, 1):
        path = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'out', (0.4, 0.6), 2, seed)
        content = json.loads(path.read_text())
        pasted = {image['pair'][1] for image in content['images']}
        boxes |= {tuple(annotation['bbox']) for annotation in content['annotations'] if annotation['id'] in pasted}
    assert len(boxes) == 4


def test_mirrored_joints_come_from_their_names():
    assert mirrored_joints(dict(keypoints=NAMES)) == FLIP
    assert mirrored_joints(dict(keypoints=['left_eye', 'nose'])) is None
    assert mirrored_joints(dict()) is None


def test_the_tool_end_to_end(tmp_path):
    people = [*PEOPLE, person(10, 4, 30, 6, 22, 44), person(11, 4, 60, 10, 20, 40), person(12, 5, 8, 8, 25, 50)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9), 5: DONOR_COLOUR})
    arguments = ['--annotations', source, '--images', tmp_path / 'images', '--iou', 0.4, 0.6, '--seed', 3]
    done = run_tool(*arguments, '--count', 5, '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / 'out' / 'annotations' / 'occluded.json')
    assert '5/5' in done.stderr
    check_set(tmp_path / 'out', source, (0.4, 0.6), 5)
    again = write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'again', (0.4, 0.6), 5, 3)
    assert again.is_file() and hashes(tmp_path / 'out') == hashes(tmp_path / 'again')
    write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'fewer', (0.4, 0.6), 2, 3)
    assert hashes(tmp_path / 'fewer')['images/000002.jpg'] == hashes(tmp_path / 'out')['images/000002.jpg']
    write_occluded_set(str(source), str(tmp_path / 'images'), tmp_path / 'other', (0.4, 0.6), 5, 4)
    assert hashes(tmp_path / 'other') != hashes(tmp_path / 'out')
    assert load(tmp_path / 'out', name='annotations/occluded.json')['keypoints'].shape[1:] == (17, 2)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--iou', 0.8, 0.5], 'iou is (0.8, 0.5); give'),
        (['--count', 0], 'count is 0; choose 1 or more'),
        (['--seed', -1], 'seed is -1; choose 0 or more'),
        (['--iou', 0.998, 0.999], 'none of 2 images has a pair'),
        (['--annotations', 'nothing.json'], 'nothing.json does not exist; give'),
        (['--images', 'nowhere'], '2 whose image is missing'),
    ],
)
def test_the_tool_fails_in_one_sentence(tmp_path, capsys, monkeypatch, arguments, sentence):
    people = [person(1, 1, 30, 10, 24, 40), person(10, 4, 30, 6, 22, 44)]
    source = write_coco(tmp_path, people, {1: BACKGROUND, 4: (9, 9, 9)})
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    monkeypatch.syspath_prepend(ROOT / 'tools')
    from make_occluded import main

    usual = ['--annotations', source, '--images', tmp_path / 'images', '--out', tmp_path / 'out']
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in (*usual, *arguments)])
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith('error:')]
    assert stop.value.code == 1 and sentence in line, error
    assert list(tmp_path.glob('out/error_*.log')) and not list(tmp_path.glob('out/annotations/*.json'))


@needs_coco_mini
def test_real_images(tmp_path):
    source = COCO_MINI / 'annotations' / 'person_keypoints_val2017.json'
    write_occluded_set(str(source), str(COCO_MINI / 'val2017'), tmp_path)
    check_set(tmp_path, source, (0.5, 0.75), len(list((tmp_path / 'images').iterdir())))
