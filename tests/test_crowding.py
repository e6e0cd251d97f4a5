"""AP by crowding against COCOeval on a file with only the people of the band; overlaps, counts and pairs by loops."""

import json
from itertools import product

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_split
from rnnpose_plugin.evaluation.crowding import (
    BANDS,
    FIGURES,
    agreement,
    band_of,
    best_count_threshold,
    coco_figures,
    count_confusion,
    crowding,
    figures_by_band,
    highest_ious,
    is_person,
    oks_matrix,
    people_by_image,
    read_truth,
)

SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


@pytest.fixture(scope='module')
def truth(tmp_path_factory):
    """Images with and without overlapping people, in every band."""
    folder = tmp_path_factory.mktemp('crowd')
    path = write_split(folder, 'val', 40, seed=0, settings=CrowdSettings(occluded_fraction=0.7))
    return read_truth(path, range(1, 41))


def poses_on(people, generator, noise=1.5):
    """True joints, moved, with scores."""
    poses = []
    for person in people:
        joints = np.reshape(person['keypoints'], (17, 3)).astype(float)
        joints[:, :2] += generator.normal(0, noise, (17, 2))
        pose = dict(image_id=person['image_id'], category_id=1, keypoints=joints.ravel().tolist())
        poses.append(dict(pose, score=float(generator.random())))
    return poses


def reference(truth, poses, folder):
    """COCO's own way, from files."""
    for name, content in (('truth', truth), ('poses', poses)):
        (folder / f'{name}.json').write_text(json.dumps(content))
    coco = COCO(str(folder / 'truth.json'))
    evaluation = COCOeval(coco, coco.loadRes(str(folder / 'poses.json')), 'keypoints')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def loop_iou(a, b):
    width = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    union = a[2] * a[3] + b[2] * b[3] - width * height
    return width * height / union if union else 0


def test_highest_ious_against_a_loop():
    generator = np.random.default_rng(0)
    boxes = np.hstack([generator.uniform(0, 20, (30, 2)), generator.uniform(0, 20, (30, 2))])
    boxes[3] = boxes[4]
    expected = [max(loop_iou(a, b) for j, b in enumerate(boxes) if j != i) for i, a in enumerate(boxes)]
    np.testing.assert_allclose(highest_ious(boxes), expected, atol=1e-12)
    assert highest_ious(boxes[:1]).tolist() == [0] and len(highest_ious(boxes[:0])) == 0


@pytest.mark.parametrize(
    ('iou', 'band'),
    [(0, '0-0.3'), (0.3, '0-0.3'), (0.31, '0.3-0.5'), (0.6, '0.5-0.75'), (0.76, '0.75-1'), (1, '0.75-1')],
)
def test_bands(iou, band):
    assert BANDS[band_of(iou)] == band


def annotation(number, box, **given):
    joints = [0.0, 0.0, 0] * 16 + [box[0], box[1], 2]
    return dict(dict(id=number, image_id=1, category_id=1, iscrowd=0, bbox=box, keypoints=joints, area=9.0), **given)


def test_crowding_of_people():
    """Crowd regions are not people; people without a labelled joint crowd others; images are separate."""
    box, nothing = [0, 0, 4, 4], [0, 0, 0] * 17
    annotations = [
        annotation(1, box),
        annotation(2, [2, 0, 4, 4], keypoints=nothing),
        annotation(3, box, iscrowd=1),
        annotation(4, box, image_id=2),
    ]
    truth = dict(annotations=annotations)
    assert crowding(truth) == {1: pytest.approx(8 / 24), 4: 0}
    assert [is_person(a) for a in annotations] == [True, False, False, True]
    assert {image: [p['id'] for p in people] for image, people in people_by_image(truth).items()} == {1: [1], 2: [4]}


def test_all_figures_against_coco_from_files(truth, tmp_path):
    poses = poses_on(truth['annotations'][::2], np.random.default_rng(0), noise=2)
    ours = coco_figures(truth, poses, SIGMAS)
    stats = reference(truth, poses, tmp_path).stats
    assert list(ours) == list(FIGURES) and 0.1 < ours['AP'] < 0.9
    assert list(ours.values()) == [None if value < 0 else pytest.approx(value, abs=1e-12) for value in stats]


def test_no_detections_and_no_people(truth):
    assert coco_figures(truth, [], SIGMAS)['AP'] == 0
    poses = poses_on(truth['annotations'], np.random.default_rng(0))
    empty = dict(truth, annotations=[])
    assert set(coco_figures(empty, poses, SIGMAS).values()) == {None}
    for row in figures_by_band(empty, poses, SIGMAS):
        assert (row['people'], row['pictures'], row['AP']) == (0, 0, None)


def in_band(truth, band):
    """The people of a band, by loops."""
    low, high = map(float, BANDS[band].split('-'))
    inside = []
    for a, others in (
        (a, [b for b in truth['annotations'] if b['image_id'] == a['image_id']]) for a in truth['annotations']
    ):
        iou = max((loop_iou(a['bbox'], b['bbox']) for b in others if b is not a), default=0)
        inside += [a] if low < iou <= high or (low == 0 and iou == 0) else []
    return inside


@pytest.mark.parametrize('band', range(4))
def test_a_band_is_the_file_with_its_people_only(truth, band, tmp_path):
    """When all poses are on these people."""
    people = in_band(truth, band)
    poses = poses_on([person for i, person in enumerate(people) if i % 4], np.random.default_rng(1))
    images = {person['image_id'] for person in people}
    alone = dict(truth, annotations=people, images=[image for image in truth['images'] if image['id'] in images])
    stats = dict(zip(FIGURES, reference(alone, poses, tmp_path).stats))
    row = figures_by_band(truth, poses, SIGMAS)[band]
    assert (row['band'], row['people'], row['pictures']) == (BANDS[band], len(people), len(images)) and len(people) > 3
    assert 0.1 < stats['AP'] < 0.9
    for name in ('AP', 'AP50', 'AP75', 'AR'):
        assert row[name] == pytest.approx(stats[name], abs=1e-12)


def test_what_counts_against_a_band(truth):
    hard = in_band(truth, 3)
    pictures = {person['image_id'] for person in hard}
    others = [a for a in truth['annotations'] if a not in hard]
    exact = poses_on(hard, np.random.default_rng(0), noise=0)
    assert figures_by_band(truth, exact, SIGMAS)[3]['AP'] == pytest.approx(1)

    sure = [dict(pose, score=2.0) for pose in poses_on(others, np.random.default_rng(0), noise=0)]
    assert figures_by_band(truth, exact + sure, SIGMAS)[3]['AP'] == pytest.approx(1)  # they fit the ignored

    def false_positives(images):
        return [dict(exact[0], image_id=image, keypoints=[-500.0, -500.0, 1.0] * 17, score=2.0) for image in images]

    elsewhere = [image['id'] for image in truth['images'] if image['id'] not in pictures]
    assert figures_by_band(truth, exact + false_positives(elsewhere), SIGMAS)[3]['AP'] == pytest.approx(1)
    assert figures_by_band(truth, exact + false_positives(pictures), SIGMAS)[3]['AP'] < 0.8


def test_evaluation_does_not_change_its_arguments(truth):
    truth = dict(truth, annotations=[{k: v for k, v in a.items() if k != 'ignore'} for a in truth['annotations']])
    poses = poses_on(truth['annotations'], np.random.default_rng(0))
    before = json.dumps([truth, poses])
    figures_by_band(truth, poses, SIGMAS)
    assert json.dumps([truth, poses]) == before


def test_counts_by_hand():
    expected = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 2, 1]]
    assert count_confusion([2, 0, 2, 2, 2], [2, 0, 1, 3, 2]).tolist() == expected
    assert count_confusion([], []).tolist() == [[0]]


def test_the_best_threshold_against_trying_all():
    generator = np.random.default_rng(0)
    for _ in range(30):
        true = generator.integers(0, 4, 8).tolist()
        scores = [generator.choice(np.arange(1, 10) / 10, generator.integers(0, 6)).tolist() for _ in true]
        threshold, share = best_count_threshold(true, scores)

        def right(t, true=true, scores=scores):
            return sum(sum(s >= t for s in of_image) == n for n, of_image in zip(true, scores))

        assert right(threshold) / 8 == share == max(right(t / 10) for t in range(11)) / 8


def test_oks_against_coco(truth, tmp_path):
    image, people = next((image, people) for image, people in people_by_image(truth).items() if len(people) > 2)
    poses = sorted(poses_on(people, np.random.default_rng(0), noise=3), key=lambda pose: -pose['score'])
    expected = reference(truth, poses, tmp_path).ious[image, 1]  # the surest pose first
    np.testing.assert_allclose(oks_matrix(people, poses, SIGMAS), expected.T, atol=1e-12)


def test_agreement_is_the_best_pairing_less_the_surplus(truth):
    _, people = next((image, people) for image, people in people_by_image(truth).items() if len(people) == 3)
    poses = poses_on(people[:2], np.random.default_rng(0))[::-1]
    oks = oks_matrix(people, poses, SIGMAS)
    score, persons = agreement(people, poses, SIGMAS)
    assert score == pytest.approx(max(oks[a, 0] + oks[b, 1] for a, b in product(range(3), repeat=2) if a != b))
    assert persons == {0: 1, 1: 0}
    assert agreement(people[:1], poses, SIGMAS)[0] == pytest.approx(oks[0].max() - 1)
    assert agreement([], poses, SIGMAS) == (-2, {}) and agreement(people, [], SIGMAS) == (0, {})


def test_fields_that_other_data_sets_lack_are_added(tmp_path):
    bare = annotation(1, [0, 0, 10, 4])
    del bare['area'], bare['iscrowd']
    content = dict(images=[dict(id=1), dict(id=2)], annotations=[bare, dict(bare, id=2, image_id=2)], categories=[])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    truth = read_truth(tmp_path / 'a.json', [1])
    assert truth['images'] == [dict(id=1)]
    assert truth['annotations'] == [dict(bare, iscrowd=0, num_keypoints=1, area=pytest.approx(0.53 * 40))]


def test_people_without_keypoints_crowd_others_and_are_ignored(tmp_path):
    """COCO ignores people without a labelled joint: a pose on them is neither a true nor a false positive."""
    joints = [5, 5, 2] * 17
    person = dict(id=1, image_id=1, category_id=1, iscrowd=0, bbox=[0, 0, 100, 100], keypoints=joints, area=5000)
    other = dict(id=2, image_id=1, category_id=1, iscrowd=0, bbox=[5, 5, 100, 100], area=5000)
    categories = [dict(id=1, name='person')]
    content = dict(images=[dict(id=1)], annotations=[person, other], categories=categories)
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(content))
    found = read_truth(str(path), [1])
    # 95 x 95 px in common of 100 x 100 each
    assert crowding(found) == {1: pytest.approx(95**2 / (2 * 100**2 - 95**2))}
    pose = dict(image_id=1, category_id=1, keypoints=joints, score=1.0)
    on_the_other = dict(pose, keypoints=[60, 60, 2] * 17, score=2.0)
    assert coco_figures(found, [pose, on_the_other], [0.1] * 17)['AP'] == pytest.approx(1)


def test_a_threshold_above_all_scores_is_a_finite_number():
    threshold, share = best_count_threshold([0, 0], [[0.4, 2.5], [0.1]])
    assert 2.5 < threshold < float('inf') and share == 1
    assert best_count_threshold([0], [[]]) == (0.0, 1.0)
