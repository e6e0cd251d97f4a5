"""The metric of mixed people against loops that know nothing of its arrays, and COCOeval on covered joints alone."""

import json
import math
from itertools import permutations

import numpy as np
import pytest
from mmpose.registry import METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rnnpose_plugin.evaluation import MixingMetric
from rnnpose_plugin.evaluation.mixing import mixing_figures
from rnnpose_plugin.evaluation.truth import clean_truth

K = 3
SIGMAS = [0.05, 0.1, 0.08]
NAMES = {'visible_well', 'visible_mixed', 'covered_well', 'covered_mixed', 'covered_OKS', 'covered_AP', 'duplicates'}


def person(joints, flags, image=1, **given):
    """An annotation; joints (K, 2) in pixels."""
    keypoints = [number for (x, y), flag in zip(joints, flags) for number in (x, y, flag)]
    return dict(dict(image_id=image, category_id=1, iscrowd=0, bbox=[0, 0, 30, 30], area=400.0, keypoints=keypoints),
                **given)  # fmt: skip


def pose(joints, image=1, score=0.5):
    return dict(image_id=image, category_id=1, score=score, keypoints=[n for x, y in joints for n in (x, y, 1.0)])


def truth_of(*people, images=(1, 2)):
    return clean_truth(dict(images=[dict(id=image) for image in images], annotations=list(people)))


def figures(people, poses):
    return mixing_figures(truth_of(*people), poses, SIGMAS)


def similarity(true, found, k):
    """OKS of one joint."""
    dx, dy = (true['keypoints'][3 * k + i] - found['keypoints'][3 * k + i] for i in (0, 1))
    return math.exp(-(dx * dx + dy * dy) / (2 * (2 * SIGMAS[k]) ** 2 * true['area']))


def labelled(annotation):
    return [k for k in range(K) if annotation['keypoints'][3 * k + 2] > 0]


def oks(true, found):
    return sum(similarity(true, found, k) for k in labelled(true)) / len(labelled(true))


def by_loops(people, poses):
    """All pairings tried, joint by joint."""
    counts = {1: [0, 0, 0], 2: [0, 0, 0]}
    covered_oks, duplicates, number = [], 0, 0
    for image in {p['image_id'] for p in people}:
        true = [p for p in people if p['image_id'] == image and not p['iscrowd'] and labelled(p)]
        found = [p for p in poses if p['image_id'] == image]
        number += len(true)
        size = max(len(true), len(found))

        def total(order, true=true, found=found):
            return sum(oks(true[i], found[j]) for i, j in enumerate(order[: len(true)]) if j < len(found))

        best = max(permutations(range(size)), key=total)
        pairs = [(i, j) for i, j in enumerate(best[: len(true)]) if j < len(found)]
        for i, j in pairs:
            for k in labelled(true[i]):
                count = counts[true[i]['keypoints'][3 * k + 2]]
                count[0] += 1
                if similarity(true[i], found[j], k) > 0.85:
                    count[1] += 1
                elif any(k in labelled(o) and similarity(o, found[j], k) > 0.85 for o in true if o is not true[i]):
                    count[2] += 1
            covered = [similarity(true[i], found[j], k) for k in range(K) if true[i]['keypoints'][3 * k + 2] == 1]
            covered_oks += [sum(covered) / len(covered)] if covered else []
        for j, detection in enumerate(found):
            nearest = max(range(len(true)), key=lambda i: oks(true[i], detection), default=None)
            if nearest is not None and oks(true[nearest], detection) >= 0.5:
                duplicates += any(i == nearest and other != j for i, other in pairs)
    shares = {}
    for name, flag in (('visible', 2), ('covered', 1)):
        total, well, mixed = counts[flag]
        shares |= {f'{name}_well': well / total if total else None, f'{name}_mixed': mixed / total if total else None}
    mean = sum(covered_oks) / len(covered_oks) if covered_oks else None
    return dict(shares, covered_OKS=mean, duplicates=duplicates / number if number else None)


def random_case(seed):
    """Two images of up to three people, whose poses borrow joints from each other, are doubled or left out."""
    generator = np.random.default_rng(seed)
    people, poses = [], []
    for image in (1, 2):
        places = [generator.uniform(0, 30, (K, 2)) for _ in range(generator.integers(0, 4))]
        for place in places:
            flags = generator.choice([0, 1, 2], K, p=[0.2, 0.4, 0.4])
            people.append(person(place.tolist(), flags.tolist(), image, iscrowd=int(generator.random() < 0.1)))
        for place in places:
            shown = np.array([places[generator.integers(len(places))][k] if generator.random() < 0.4 else place[k]
                              for k in range(K)])  # fmt: skip
            for _ in range(generator.choice([0, 1, 2], p=[0.2, 0.6, 0.2])):
                moved = shown + generator.normal(0, 1.2, (K, 2))
                poses.append(pose(moved.tolist(), image, float(generator.random())))
    return people, poses


def test_random_cases_against_loops():
    seen = set()
    for seed in range(60):
        people, poses = random_case(seed)
        ours, expected = figures(people, poses), by_loops(people, poses)
        assert set(ours) == NAMES
        for name, value in expected.items():
            assert ours[name] == (None if value is None else pytest.approx(value, abs=1e-9)), (seed, name)
            seen |= {name for _ in '1' if value not in (None, 0.0, 1.0)}
    assert seen == NAMES - {'covered_AP'}  # every figure had values that are not trivial


A, B = [(5, 5), (10, 20), (3, 28)], [(25, 5), (22, 20), (28, 28)]


def test_a_pose_that_takes_one_joint_of_another_person():
    people = [person(A, (2, 1, 2)), person(B, (2, 2, 1))]
    mixed = [A[0], B[1], A[2]]
    found = figures(people, [pose(mixed), pose(B)])
    assert found['visible_well'] == 1 and found['visible_mixed'] == 0
    assert found['covered_well'] == found['covered_mixed'] == 0.5  # of the covered joints of A and B
    assert found['duplicates'] == 0
    nowhere = [A[0], (90, 90), A[2]]
    assert figures(people, [pose(nowhere), pose(B)])['covered_mixed'] == 0
    unlabelled = [person(A, (2, 1, 2)), person(B, (2, 0, 1))]  # the joint is not B's, as far as is known
    assert figures(unlabelled, [pose(mixed), pose(B)])['covered_mixed'] == 0


def test_a_joint_on_both_people_is_well_placed():
    people = [person(A, (2, 2, 2)), person([A[0], *B[1:]], (2, 2, 2))]
    found = figures(people, [pose(A), pose([A[0], *B[1:]])])
    assert (found['visible_well'], found['visible_mixed']) == (1, 0)
    assert found['covered_well'] is found['covered_OKS'] is found['covered_AP'] is None


def test_duplicates():
    people = [person(A, (2, 2, 2)), person(B, (2, 2, 2))]
    assert figures(people, [pose(A), pose(A)])['duplicates'] == 0.5  # the second is paired with B, but nearer to A
    assert figures(people, [pose(A), pose(B), pose(A), pose(B)])['duplicates'] == 1
    assert figures(people, [pose(A), pose(B), pose([(90, 90)] * K)])['duplicates'] == 0


def test_crowd_regions_are_no_people():
    crowd = person(B, (2, 2, 2), iscrowd=1)
    taken = [B[0], *A[1:]]
    found = figures([person(A, (2, 2, 2)), crowd], [pose(taken), pose(B)])
    assert found['visible_well'] == pytest.approx(2 / 3) and found['visible_mixed'] == 0 and found['duplicates'] == 0


def test_nothing_to_judge():
    everything = dict.fromkeys(NAMES)
    assert figures([], []) == everything and figures([], [pose(A)]) == everything
    nothing = person([(0, 0)] * K, (0, 0, 0))
    assert figures([nothing], [pose(A)]) == everything
    missed = figures([person(A, (2, 2, 1))], [])
    assert missed == dict(everything, covered_AP=0.0, duplicates=0.0)


def test_ap_of_covered_joints_is_that_of_a_file_with_nothing_else(tmp_path):
    """COCO's own way, on people who all have covered joints; then with others, whose poses change nothing."""
    generator = np.random.default_rng(1)
    places = [generator.uniform(0, 60, (K, 2)) for _ in range(12)]
    images = [1 + number % 4 for number in range(12)]
    people = [person(p.tolist(), (2, 1, 1), image) for p, image in zip(places, images)]
    spread = generator.normal(0, 1.5, (12, K, 2))
    poses = [pose((p + s).tolist(), i, float(generator.random())) for p, s, i in zip(places, spread, images)]
    content = truth_of(*people, images=range(1, 5))
    for annotation in content['annotations']:
        annotation['keypoints'][:3], annotation['num_keypoints'] = [0, 0, 0], 2
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    coco = COCO(str(tmp_path / 'truth.json'))
    evaluation = COCOeval(coco, coco.loadRes([dict(p) for p in poses]), 'keypoints')
    evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.1 < evaluation.stats[0] < 0.9
    truth = truth_of(*people, images=range(1, 6))
    assert mixing_figures(truth, poses, SIGMAS)['covered_AP'] == pytest.approx(evaluation.stats[0], abs=1e-9)
    others = [person((p + 200).tolist(), (2, 2, 0), image) for p, image in zip(places, [1, 2, 3, 5] * 3)]
    shown = [pose((p + 200).tolist(), image, 1.0) for p, image in zip(places, [1, 2, 3, 5] * 3)]
    truth = truth_of(*people, *others, images=range(1, 6))
    shown.append(pose(A, 5, 1.0))  # on an image without covered joints
    assert mixing_figures(truth, poses + shown, SIGMAS)['covered_AP'] == pytest.approx(evaluation.stats[0], abs=1e-9)


def metric():
    built = METRICS.build(dict(type='MixingMetric'))
    built.dataset_meta = dict(sigmas=SIGMAS)
    return built


def sample(image, annotations, joints):
    keypoints = np.array(joints, dtype=np.float32).reshape(-1, K, 2)
    poses = dict(keypoints=keypoints, bbox_scores=np.linspace(0.9, 0.5, len(keypoints)))
    return dict(img_id=image, pred_instances=poses, raw_ann_info=annotations)


def test_the_metric_gives_the_figures():
    people, poses = random_case(7)
    ours = metric()
    for image in (1, 2):
        of_image = [p for p in people if p['image_id'] == image]
        shown = [np.reshape(p['keypoints'], (K, 3))[:, :2] for p in poses if p['image_id'] == image]
        ours.process({}, [sample(image, of_image, shown)])
    found = ours.evaluate(2)
    assert isinstance(ours, MixingMetric) and set(found) == {f'mixing/{name}' for name in NAMES}
    for name, value in by_loops(people, poses).items():
        assert found[f'mixing/{name}'] == pytest.approx(value, abs=1e-4)  # poses are float32


def test_the_metric_without_people_or_poses_and_with_nan():
    ours = metric()
    ours.process({}, [sample(1, None, []), sample(2, [], [A])])
    assert set(ours.evaluate(2).values()) == {-1.0}
    broken = [A[0], (np.nan, np.nan), A[2]]
    ours = metric()
    ours.process({}, [sample(1, person(A, (2, 2, 1)), [broken])])
    found = ours.evaluate(1)
    assert found['mixing/visible_well'] == 0.5 and found['mixing/covered_AP'] == pytest.approx(1)


def test_people_with_other_joints_are_left_out():
    ours = metric()
    ours.process({}, [sample(1, [dict(person(A, (2, 2, 2)), keypoints=[1, 1, 2] * 2)], [A])])
    assert set(ours.evaluate(1).values()) == {-1.0}
