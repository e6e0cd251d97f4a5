"""Ids of people over the frames of a video: the matching, the synthetic videos, and tools/predict.py --track."""

from __future__ import annotations

import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.structures import InstanceData
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split
from projects.tracking.moving_people import FPS, draw_video, sample_people
from projects.tracking.study import Score
from rnnpose_plugin.runtime.prediction_drawing import Drawing, colour_of
from rnnpose_plugin.runtime.prediction_inputs import Images
from rnnpose_plugin.runtime.tracking import Tracker

ROOT = Path(__file__).parents[1]
FRAMES = 24
SIGMAS = np.full(17, 0.08)
MODEL = [
    '--config', ROOT / 'configs' / 'rnnpose_context_crowdbench.py',
    '--checkpoint', ROOT / 'model_zoo' / 'rnnpose_context_crowdbench.pth', '--device', 'cpu',
]  # fmt: skip


def pose(x, y=50.0, size=40.0, seed=0, missing=()):
    """Seventeen joints in a square box with its corner at x, y."""
    joints = np.random.default_rng(seed).uniform(0, 1, (17, 2))
    joints[:2] = [[0, 0], [1, 1]]
    scores = np.ones((17, 1))
    scores[list(missing)] = 0
    return dict(keypoints=np.hstack([joints * size + [x, y], scores]).ravel().tolist())


def oks(first, second):
    """By the formula, joint by joint, of the joints that the first has."""
    (a, b) = (np.reshape(person['keypoints'], (17, 3)) for person in (first, second))
    seen = [k for k in range(17) if a[k, 2] > 0]
    area = (a[seen, 0].max() - a[seen, 0].min()) * (a[seen, 1].max() - a[seen, 1].min())
    return np.mean([np.exp(-sum((a[k, :2] - b[k, :2]) ** 2) / (2 * area * (2 * SIGMAS[k]) ** 2)) for k in seen])


def test_the_pairs_are_those_of_the_best_permutation():
    generator = np.random.default_rng(0)
    exchanged = 0
    for _ in range(30):
        before = [pose(x, seed=5) for x in generator.uniform(0, 25, 4)]
        after = [pose(x, seed=5) for x in generator.uniform(0, 25, 4)]
        tracker = Tracker(SIGMAS, least_oks=0.3)
        assert tracker.update(before) == [1, 2, 3, 4]
        table = np.array([[oks(a, b) for b in after] for a in before])
        gains = np.where(table < 0.3, 0, table)
        best = max(itertools.permutations(range(4)), key=lambda order: sum(gains[order[k], k] for k in range(4)))
        expected = [row + 1 if table[row, k] >= 0.3 else None for k, row in enumerate(best)]
        found = tracker.update(after)
        assert [number if wanted else None for number, wanted in zip(found, expected)] == expected
        assert len(set(found)) == 4 and max([4, *found]) == 4 + expected.count(None)
        exchanged += [int(table[:, k].argmax()) for k in range(4)] != list(best)
    assert exchanged > 5  # the nearest one alone would be another answer


def test_an_id_is_remembered_and_never_used_again():
    tracker = Tracker(SIGMAS, memory=3)
    assert tracker.update([]) == []
    assert tracker.update([pose(0), pose(60)]) == [1, 2]
    assert tracker.update([pose(62)]) == [2]
    assert tracker.update([]) == []
    assert tracker.update([pose(61), pose(1, missing=range(9))]) == [2, 1]  # half of the joints are enough
    for _ in range(4):
        assert tracker.update([pose(61)]) == [2]
    assert tracker.update([pose(61), pose(0)]) == [2, 3]  # forgotten
    nothing = pose(0, missing=range(17))
    assert tracker.update([nothing]) in ([3], [4]) and len(tracker.update([nothing, pose(0)])) == 2


def test_by_default_an_oks_of_0_2_and_ten_frames_are_enough():
    for far, same in ((10, True), (12, False)):  # px
        tracker = Tracker(SIGMAS)
        assert tracker.update([pose(0)]) == [1]
        assert (oks(pose(0), pose(far)) >= 0.2) == same and tracker.update([pose(far)]) == [1 if same else 2]
    for missed, same in ((10, True), (11, False)):
        tracker = Tracker(SIGMAS)
        assert [tracker.update(people) for people in [[pose(0)]] + [[]] * missed] == [[1]] + [[]] * missed
        assert tracker.update([pose(0)]) == [1 if same else 2]


def test_a_person_is_as_large_as_its_joints_that_were_found():
    def small(x):
        joints = np.reshape(pose(x, 100, size=10, missing=[5])['keypoints'], (17, 3))
        joints[5, :2] = 0
        return dict(keypoints=joints.ravel().tolist())

    tracker = Tracker(SIGMAS)
    assert tracker.update([small(100)]) == [1] and tracker.update([small(106)]) == [2]
    single = [dict(keypoints=[0] * 48 + [x, 50, 1]) for x in (70, 70.1)]  # at least a pixel
    assert tracker.update(single[:1]) == tracker.update(single[1:]) == [3]


def test_a_video_has_identities_that_move():
    frames = list(draw_video(3, 4, 40))
    again = list(draw_video(3, 4, 40))
    assert all((a == b).all() and x == y for (a, x), (b, y) in zip(frames, again))
    seen = [{person['identity'] for person in people} for _, people in frames]
    assert set.union(*seen) == {0, 1, 2, 3} and min(map(len, seen)) < 4  # somebody comes in
    one = np.array([person['keypoints'] for _, people in frames for person in people if person['identity'] == 1])
    one = one.reshape(len(one), 17, 3)
    labelled = (one[1:, :, 2] > 0) & (one[:-1, :, 2] > 0)  # a joint outside the image is at 0, 0
    steps = np.abs(np.diff(one[:, :, :2], axis=0))[labelled]
    assert 0.5 < steps.mean() and steps.max() < 12


def test_people_of_whom_too_little_is_visible_are_not_counted():
    ignored = []
    for person in itertools.chain.from_iterable(people for _, people in draw_video(1, 8, 16)):
        flags = np.array(person['keypoints'][2::3])
        labelled, visible = (flags > 0).sum(), (flags == 2).sum()
        few = labelled < CROWDBENCH.min_labelled_joints, visible < CROWDBENCH.min_visible_joints
        ignored += [few] if any(few) else []
        assert person['num_keypoints'] == (0 if any(few) else labelled)
    assert {(True, False), (False, True)} <= set(ignored)
    assert [people for _, people in draw_video(3, 1, 1)] == [[]]  # yet to come in


def test_people_turn_round_at_the_border_or_leave():
    for person in sample_people(np.random.default_rng(0), 8):
        centres = np.array([person.at(frame).joints[:, 0].mean() for frame in range(0, 300, 3)])
        assert ((centres > 0) & (centres < 128)).all() == person.turns


def test_switches_are_counted():
    people = [dict(pose(x), identity=k, num_keypoints=17, area=1600, iscrowd=0, bbox=[x, 50, 40, 40], category_id=1)
              for k, x in enumerate((0, 60))]  # fmt: skip
    score = Score(SIGMAS)
    ids = [(1, 2), (1, 2), (2, 1), (2, 1), (2, 3)]
    found = [[dict(pose(x), track_id=i, score=0.9, category_id=1) for i, x in zip(pair, (0, 60))] for pair in ids]
    score.add_video([people] * 5, found)
    assert (score.switches, score.true, score.found) == (3, 10, 10)
    assert score.shared == 5  # identity 0 is track 2 in three frames, identity 1 track 2 or 1 in two of them
    ignored = [people[0], dict(people[1], num_keypoints=0)]
    score.add_video([ignored], found[:1])
    assert (score.switches, score.true, score.found, score.shared) == (3, 11, 11, 6)
    first = dict(people[0], num_keypoints=0)  # ignored, and in the place of one who is not
    score.add_video([[first, people[0]]], [[dict(pose(0), track_id=1, score=0.9, category_id=1)]])
    score.add_video([[people[0]]], [[dict(pose(70), track_id=1, score=0.9, category_id=1)]])  # not in his place
    assert (score.switches, score.true, score.found, score.shared) == (3, 13, 13, 7)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Somebody is alone; others come in."""
    folder = tmp_path_factory.mktemp('video')
    writer = cv2.VideoWriter(str(folder / 'walk.avi'), cv2.VideoWriter_fourcc(*'MJPG'), FPS, (128, 128))
    for image, _ in draw_video(3, 4, FRAMES):
        writer.write(image)
    writer.release()
    return folder / 'walk.avi'


def command(*arguments):
    return [sys.executable, str(ROOT / 'tools' / 'predict.py'), *map(str, [*arguments, *MODEL])]


def test_people_of_a_video_keep_id_and_colour(video, tmp_path, monkeypatch):
    options = ['--out', tmp_path / 'out', '--score-threshold', 0.4, '--draw', '--track']
    monkeypatch.setattr(sys, 'argv', command(video, *options)[1:])
    runpy.run_path(str(ROOT / 'tools' / 'predict.py'), run_name='__main__')
    by_image = json.loads((tmp_path / 'out' / 'by_image.json').read_text())
    assert list(by_image) == [f'walk.avi#{number}' for number in range(1, FRAMES + 1)]
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results == [person for people in by_image.values() for person in people]
    assert all(len({p['track_id'] for p in people}) == len(people) for people in by_image.values())
    truth = [{p['identity']: p for p in people if p['num_keypoints']} for _, people in draw_video(3, 4, FRAMES)]
    ids = set()
    for people, found in zip(truth, by_image.values()):  # identity 1 stays, alone in the first frames
        joints = np.reshape(people[1]['keypoints'], (17, 3))
        errors = [np.abs(np.reshape(p['keypoints'], (17, 3)) - joints)[:, :2].mean() for p in found]
        ids |= {found[int(np.argmin(errors))]['track_id']} if errors and min(errors) < 5 else set()
    assert ids == {1}
    drawn = cv2.VideoCapture(str(tmp_path / 'out' / 'drawn' / 'walk.mp4'))
    frames = [drawn.read()[1] for _ in range(FRAMES)]
    near = [near_colour(frame, colour_of(1)) for frame in frames]
    assert min(near) > 10
    bare, _ = next(draw_video(3, 4, FRAMES))
    for colour in ((0, 255, 0), (255, 128, 0)):  # of COCO's limbs
        assert near_colour(frames[0], colour) <= near_colour(bare, colour) + 5


def near_colour(image, rgb):
    return (np.abs(image.astype(int) - rgb[::-1]).max(axis=2) < 60).sum()


def test_each_person_is_drawn_in_its_colour_with_its_number(tmp_path):
    black = np.zeros((128, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'black.png'), black)
    people = [pose(5, 70, missing=[16]), pose(75, 70, missing=[16]), pose(40, 70, missing=range(17))]
    joints = np.array([person['keypoints'] for person in people]).reshape(3, 17, 3)
    joints[:, 16, :2] = 0  # not found, so the number is not there
    scores = dict.fromkeys(('keypoint_scores', 'keypoints_visible'), joints[..., 2])
    people = InstanceData(keypoints=joints[..., :2], bbox_scores=np.ones(3), **scores)
    meta = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))
    drawing = Drawing(meta, Images([str(tmp_path / 'black.png')]), tmp_path)
    drawing.add('drawn.png', black, people, [3, 12, 4])
    (tmp_path / 'taken.png').mkdir()
    with pytest.raises(OSError, match='taken.png could not be written'):
        drawing.add('taken.png', black, people, [3, 12, 4])
    drawn = cv2.imread(str(tmp_path / 'drawn.png'))
    for half, number in ((drawn[:, :62], 3), (drawn[:, 62:], 12)):
        own, other = (near_colour(half, colour_of(k)) for k in (number, 15 - number))
        assert own > 200 and other < 30 and near_colour(half, (255, 128, 0)) == 0  # of COCO's limbs
        assert near_colour(half[55:66], colour_of(number)) > 15 and not half[:50].any()


def test_what_was_computed_before_ctrl_c_is_written(tmp_path):
    write_split(tmp_path, 'plain', 1, 0, CROWDBENCH)
    image = (tmp_path / 'plain' / '000001.png').read_bytes()
    for number in range(2, 401):
        (tmp_path / 'plain' / f'{number:06d}.png').write_bytes(image)
    options = ['--out', tmp_path / 'out', '--draw']
    process = subprocess.Popen(
        command(tmp_path / 'plain', *options), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    )  # fmt: skip
    lines = iter(process.stderr.readline, '')
    assert any(line.startswith('images: ') for line in lines)  # after a twentieth of the images
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and f'stopped; the predictions so far are in {tmp_path}/out' in error
    by_image, results, images = (
        json.loads((tmp_path / 'out' / f'{name}.json').read_text()) for name in ('by_image', 'results', 'images')
    )
    assert 20 <= len(by_image) < 400 and list(by_image) == [image['file_name'] for image in images['images']]
    assert len(results) == sum(map(len, by_image.values())) > 0
    assert len(list((tmp_path / 'out' / 'drawn').iterdir())) in (len(by_image), len(by_image) - 1)
