"""The training set of photographs: cut-outs, mosaics, single people, first weights and the table of results."""

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
import torch
from mmpose.registry import OPTIM_WRAPPERS
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from projects.photographs.cutout import cut_out, drawn_body, person_size
from projects.photographs.mosaic import LEAST_JOINTS, SIDE, cut_lines, make_mosaic, move, tile
from projects.photographs.singles import make_single
from projects.photographs.table import SIGMAS, Evaluation, counts, results_of
from projects.photographs.warm_start import HERE, OTHERS, READERS, fill, fit_norm
from rnnpose_plugin.datasets.segmentation import to_mask
from rnnpose_plugin.models.movenet_decoding import FoundPeople


def standing(x=60, y=20, height=100):
    """A person seen from the front, (17, 3)."""
    places = [(0, 5), (3, 3), (-3, 3), (6, 5), (-6, 5), (14, 22), (-14, 22), (20, 40), (-20, 40), (22, 56), (-22, 56)]
    places += [(9, 55), (-9, 55), (9, 77), (-9, 77), (9, 98), (-9, 98)]
    joints = np.array([(x + a * height / 100, y + b * height / 100, 2) for a, b in places], float)
    return joints


def annotation(joints, **more):
    low, high = joints[joints[:, 2] > 0, :2].min(0), joints[joints[:, 2] > 0, :2].max(0)
    box = [*low, *(high - low)]
    flat = dict(keypoints=joints.ravel().tolist(), num_keypoints=int((joints[:, 2] > 0).sum()), bbox=box)
    return dict(flat, category_id=1, iscrowd=0, area=box[2] * box[3], **more)


def painted(joints, size=(140, 120)):
    """A body of one colour on another one with noise."""
    random = np.random.RandomState(0)
    body = drawn_body(joints, size, 0.14 * person_size(joints))
    image = np.where(body[..., None], [40, 60, 200], [150, 140, 60]) + random.randint(-12, 13, (*size, 3))
    return image.astype(np.uint8), body


def test_a_painted_body_is_cut_out():
    image, body = painted(standing())
    mask = cut_out(image, standing())
    assert mask.dtype == bool and (mask & body).sum() / (mask | body).sum() > 0.85  # of wholly other masks it is 0.4
    assert cut_out(image, np.zeros((17, 3)) + [5, 5, 2]) is None  # everything in one place


@pytest.mark.parametrize('scale, offset', [(1.0, (0, 0)), (0.5, (-10, 4)), (1.7, (-60, -20))])
def test_joints_move_with_the_pixels(scale, offset):
    joints = standing()
    moved = move(annotation(joints), scale, np.array(offset, float), (90, 80))
    for before, after in zip(joints, np.array(moved['keypoints']).reshape(-1, 3)):
        # Edge coordinates are half a pixel more than those of pixels' centres.
        expected = [scale * (c + 0.5) + o - 0.5 for c, o in zip(before[:2], offset)]
        inside = -0.5 <= expected[0] < 89.5 and -0.5 <= expected[1] < 79.5
        assert after[2] == (2 if inside else 0)
        assert np.allclose(after[:2], expected if inside else 0, atol=0.051)  # rounded to tenths


def test_a_person_with_too_few_joints_becomes_a_region():
    joints = standing()
    rows = sorted(joints[:, 1])
    region = move(annotation(joints), 1.0, np.array([0.0, -rows[-LEAST_JOINTS] - 5]), (120, 80))
    assert region['iscrowd'] == 1 and region['num_keypoints'] == 0 and not any(region['keypoints'])
    assert move(annotation(joints), 1.0, np.array([0.0, -200.0]), (120, 80)) is None


def test_a_tile_shows_the_joints_where_it_says():
    joints = standing(x=70, y=30)
    image = np.zeros((200, 160, 3), np.uint8)
    for x, y, _ in joints[[9, 10, 15, 16]]:  # far apart from each other
        cv2.circle(image, (round(x), round(y)), 3, (255, 255, 255), -1)
    for seed in range(5):
        pixels, (person,) = tile(image, [annotation(joints)], (150, 140), np.random.RandomState(seed))
        assert pixels.shape == (140, 150, 3)
        for x, y, v in np.array(person['keypoints']).reshape(-1, 3)[[9, 10, 15, 16]]:
            if v and 2 <= x < 148 and 2 <= y < 138:
                assert pixels[round(y), round(x)].min() > 127


def test_mosaics_are_the_same_again_and_whole():
    people = [annotation(standing(), id=1)]
    image, _ = painted(standing())
    for seed in range(6):
        canvas, everyone = make_mosaic([('a', people)], lambda path: image, np.random.RandomState(seed))
        again, _ = make_mosaic([('a', people)], lambda path: image, np.random.RandomState(seed))
        assert canvas.shape == (SIDE, SIDE, 3) and np.array_equal(canvas, again)
        assert 2 <= len(everyone) <= 6
        boxes = np.array([person['bbox'] for person in everyone])
        assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= SIDE + 0.1).all()
        for person, (x, y, w, h) in zip(everyone, boxes):
            joints = np.array(person['keypoints']).reshape(-1, 3)
            moved = joints[joints[:, 2] > 0, :2] - [x, y]
            assert ((moved >= -1.6) & (moved <= [w + 1.6, h + 1.6])).all()  # the box ends at joints' middles, times 3
    lines = cut_lines(3, np.random.RandomState(0))
    assert lines[0] == 0 and lines[-1] == SIDE and min(np.diff(lines)) > SIDE / 6


def detected(*people, scores=0.6):
    joints = np.stack(people)
    low, high = joints[..., :2].min(1), joints[..., :2].max(1)
    return FoundPeople(*map(torch.from_numpy, (joints[..., :2], np.full(joints.shape[:2], scores),
                                               np.full(len(people), scores), np.hstack([low, high]))))  # fmt: skip


def test_single_people_get_faces_masks_and_bystanders():
    joints, (image, body) = standing(x=40), painted(standing(x=40))
    labelled = joints.copy()
    labelled[:5] = 0
    person, bystander = make_single(detected(joints + [1, 0, 0], standing(x=95)), image, annotation(labelled), True)
    found = np.array(person['keypoints']).reshape(-1, 3)
    assert np.allclose(found[:5], joints[:5] + [1, 0, 0]) and np.allclose(found[5:], joints[5:])
    assert person['num_keypoints'] == 17
    mask = to_mask(person['segmentation'], image.shape[:2])
    assert person['area'] == mask.sum() and (mask & body).sum() / (mask | body).sum() > 0.8
    assert bystander['iscrowd'] == 1 and bystander['num_keypoints'] == 0
    x, y, w, h = bystander['bbox']
    assert x < 73 and x + w > 117  # the detection's, and a tenth on each side


@pytest.mark.parametrize('sure, score, labels', [(17, 0.6, 17), (6, 0.6, 6), (5, 0.6, 0), (17, 0.29, 0)])
def test_bystanders_in_training_have_the_sure_joints_of_sure_detections(sure, score, labels):
    joints, (image, _) = standing(x=40), painted(standing(x=40))
    found = detected(joints, standing(x=95))
    found.keypoint_scores[1, sure:] = 0.29
    found.scores[1] = score
    _, bystander = make_single(found, image, annotation(joints), False, with_others=True)
    places = np.array(bystander['keypoints']).reshape(-1, 3)
    assert bystander['num_keypoints'] == labels and bystander['iscrowd'] == int(not labels)
    assert np.allclose(places[:labels, :2], standing(x=95)[:labels, :2], atol=0.051) and not places[labels:].any()
    assert ('segmentation' in bystander) == (not labels)  # MoveNet's joints are labels, never the outline of a cut-out


def test_images_in_doubt_are_left_out():
    joints, (image, _) = standing(x=40), painted(standing(x=40))
    assert make_single(detected(standing(x=90)), image, annotation(joints), False) is None  # not detected
    twisted = joints[::-1].copy()  # another one in the same place with other joints
    assert make_single(detected(joints, twisted), image, annotation(joints), False) is None
    unsure = detected(joints, scores=0.2)
    labelled = joints.copy()
    labelled[:5] = 0
    ((person),) = make_single(unsure, image, annotation(labelled), False)
    assert person['num_keypoints'] == 12 and 'segmentation' not in person


SAME, OTHER = 'head.first_lstm.same', 'head.first_lstm.other'  # the second has another shape


def test_first_weights_keep_what_fits():
    random = torch.Generator().manual_seed(0)
    old_features, new_features, claimed, behind = 68, 78, 17, 6
    old = {
        READERS[0]: torch.rand(8, old_features + behind, 3, 3, generator=random),
        SAME: torch.ones(3),
    }
    old |= {READERS[1]: torch.rand(4, old_features, 1, 1, generator=random), OTHER: torch.ones(2)}
    new = {
        READERS[0]: torch.full((8, new_features + claimed + behind, 3, 3), 5.0),
        SAME: torch.zeros(3),
    }
    new |= {READERS[1]: torch.full((4, new_features, 1, 1), 5.0), OTHER: torch.zeros(4)}
    old |= {READERS[2]: torch.rand(6, old_features + 34 + behind, 3, 3, generator=random), 'backbone.same': SAME}
    new |= {READERS[2]: torch.full((6, new_features + 34 + behind, 3, 3), 5.0), 'backbone.same': SAME}
    taken = fill(new, old, old_features, new_features)
    assert taken == [READERS[0], SAME, READERS[1], READERS[2]]
    assert torch.equal(new[READERS[2]][:, new_features:], old[READERS[2]][:, old_features:])
    gates, heatmaps, tags = new[READERS[0]], slice(24, 41), slice(42, 59)
    assert torch.equal(gates[:, heatmaps], old[READERS[0]][:, :17]) and torch.equal(
        gates[:, tags], old[READERS[0]][:, 17:34]
    )
    assert torch.equal(gates[:, -behind:], old[READERS[0]][:, old_features:])
    assert (gates[:, new_features:-behind] == 0).all() and (gates[:, :24] == 5 * OTHERS).all()
    assert torch.equal(new[READERS[1]][:, tags], old[READERS[1]][:, 17:34])


def test_the_norm_gives_what_the_old_one_gave():
    random = torch.Generator().manual_seed(0)
    parts = ('weight', 'bias', 'running_mean', 'running_var')
    old = {f'head.norm.{part}': 0.5 + torch.rand(68, generator=random) for part in parts}
    new = {f'head.norm.{part}': torch.rand(78, generator=random) for part in parts}
    new['head.norm.num_batches_tracked'] = torch.tensor(0)
    fit_norm(new, old, torch.rand(78, generator=random), 0.1 + torch.rand(78, generator=random))
    values = torch.rand(5, generator=random)

    def normed(state, channel):
        weight, bias, mean, var = (state[f'head.norm.{part}'][channel] for part in parts)
        return weight * (values - mean) / var.sqrt() + bias

    for here, there in zip(HERE, range(34)):
        assert torch.allclose(normed(new, here), normed(old, there), atol=1e-5)


def coco_of(people_of_images):
    annotations = []
    for image, people in enumerate(people_of_images, start=1):
        annotations += [dict(person, id=len(annotations) + i, image_id=image) for i, person in enumerate(people, 1)]
    coco = COCO()
    images = [dict(id=i + 1) for i in range(len(people_of_images))]
    coco.dataset = dict(images=images, annotations=annotations, categories=[dict(id=1)])
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def scene(seed):
    """True people of an image, and what was found: moved joints, one too many."""
    random = np.random.RandomState(seed)
    true = [standing(*random.uniform(50, 300, 2), random.uniform(60, 200)) for _ in range(random.randint(1, 4))]
    found = [joints + np.array([*random.normal(0, 8, 2), 0]) for joints in true] + [standing(20, 20, 50)]
    return [annotation(joints) for joints in true], found


def as_dump(founds):
    return [
        dict(
            img_id=image,
            pred_instances=dict(
                keypoints=np.stack(found)[..., :2],
                keypoint_scores=np.ones((len(found), 17)),
                bbox_scores=np.linspace(0.9, 0.3, len(found)),
            ),
        )
        for image, found in enumerate(founds, start=1)
    ]


def test_a_drawn_image_counts_as_often_as_it_is_drawn():
    """Against a file in which the image stands as often."""
    scenes = [scene(seed) for seed in range(5)]
    draw = np.array([0, 3, 3, 1, 3])
    evaluation = Evaluation(
        coco_of([true for true, _ in scenes]), results_of(as_dump(f for _, f in scenes), 0), [1, 2, 3, 4, 5]
    )
    repeated = [scenes[i] for i in draw]
    coco, results = coco_of([true for true, _ in repeated]), results_of(as_dump(f for _, f in repeated), 0)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCOeval(coco, coco.loadRes(results), 'keypoints', SIGMAS)
        expected.evaluate(), expected.accumulate(), expected.summarize()
    stats = evaluation.stats(draw)
    assert 0 < stats[0] < 100
    assert np.allclose(stats, 100 * np.array(expected.stats[:6]), atol=1e-9)
    assert not np.allclose(evaluation.stats(np.arange(5)), stats)


def test_people_are_counted_above_the_least_score():
    scenes = [scene(seed) for seed in range(3)]
    regions = [annotation(standing()) | dict(iscrowd=1), annotation(standing()) | dict(num_keypoints=0)]  # not counted
    coco, dump = coco_of([[*true, *regions] for true, _ in scenes]), as_dump(f for _, f in scenes)
    everyone = counts(coco, results_of(dump, 0), [1, 2, 3])
    assert everyone.tolist() == [[len(true) + 1, len(true)] for true, _ in scenes]
    surer = counts(coco, results_of(dump, 0.31), [1, 2, 3])
    assert (surer[:, 0] == everyone[:, 0] - 1).all()  # the last of each image has 0.3
    assert json.dumps(results_of(dump, 0))  # plain numbers


def test_the_forward_pass_is_in_bfloat16_and_weights_are_not():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = OPTIM_WRAPPERS.build(dict(type='Bfloat16OptimWrapper', optimizer=optimizer))
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 3))
    before = model.weight.detach().clone()
    wrapper.update_params(out.float().sum())
    assert out.dtype == torch.bfloat16 and model.weight.dtype == torch.float32
    assert torch.allclose(model.weight, before - 0.1)
    assert model(torch.ones(1, 3)).dtype == torch.float32
