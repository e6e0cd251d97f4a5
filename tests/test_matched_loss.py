"""Equations 2 and 3 and the four configurations of table 4, written out as loops."""

import math
from itertools import permutations

import pytest
import torch
from mmpose.registry import MODELS

from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss

K, H, W = 3, 4, 5


def people(n, seed):
    return torch.rand(1, n, K, H, W, generator=torch.Generator().manual_seed(seed))


def call(loss, predicted, target, weights=None, candidates=None, mask=None, free=None):
    n, t = target.shape[1], predicted.shape[1]
    weights = torch.ones(1, n, K) if weights is None else weights
    free = torch.ones(1, n).bool() if free is None else free
    candidates = torch.ones(1, t).bool() if candidates is None else candidates
    pairs, free = loss.match(predicted, target, weights, free, candidates, mask)
    return loss(predicted, target, weights, pairs, mask), free


def equation_2(predicted, target):
    """The squared l2 of the assignment with the least sum of norms; all of the fewer are matched."""
    best = None
    n, t = len(target), len(predicted)
    pairings = (
        [list(zip(p, range(t))) for p in permutations(range(n), t)]
        if n >= t
        else [list(zip(range(n), p)) for p in permutations(range(t), n)]
    )
    for pairs in pairings:
        norms = sum(torch.dist(target[a, k], predicted[b, k]).item() for a, b in pairs for k in range(K))
        squares = sum(((target[a, k] - predicted[b, k]) ** 2).sum().item() for a, b in pairs for k in range(K))
        best = min(best or (math.inf, 0), (norms, squares))
    return best[1]


@pytest.mark.parametrize('n, t', [(1, 1), (3, 3), (4, 2), (2, 4)])
def test_heatmap_loss_is_equation_2(n, t):
    predicted, target = people(t, 0), people(n, 1)
    loss, free = call(MODELS.build(dict(type='HungarianHeatmapLoss')), predicted, target)
    assert loss.item() == pytest.approx(equation_2(predicted[0], target[0]), rel=1e-5)
    assert free.sum() == max(n - t, 0)


def test_without_true_or_predicted_people_the_loss_is_0_and_keeps_the_graph():
    predicted = people(2, 0).requires_grad_()
    loss, _ = call(HungarianHeatmapLoss(), predicted, torch.zeros(1, 0, K, H, W))
    loss.backward()
    assert loss == 0 and not predicted.grad.any()
    loss, free = call(HungarianHeatmapLoss(), predicted, people(2, 1), candidates=torch.zeros(1, 2).bool())
    assert loss == 0 and free.all()


def test_assigned_people_are_no_longer_free():
    predicted, target = people(1, 0), people(3, 1)
    target[0, 1] = predicted[0, 0]
    _, free = call(HungarianHeatmapLoss(), predicted, target)
    assert free.tolist() == [[True, False, True]]
    loss, free = call(HungarianHeatmapLoss(), predicted, target, free=free)
    assert free.sum() == 1 and loss > 0  # the second time another person is assigned


def test_masked_cells_are_not_supervised():
    predicted, target = people(1, 0), people(1, 1)
    mask = torch.ones(1, H, W)
    mask[0, 1:] = 0
    loss, _ = call(HungarianHeatmapLoss(), predicted, target, mask=mask)
    assert loss.item() == pytest.approx((target - predicted)[..., 0, :].square().sum().item(), rel=1e-5)


def test_unlabelled_joints_have_empty_targets_or_none():
    predicted, target, weights = people(1, 0), people(1, 1), torch.tensor([[[1.0, 0.0, 1.0]]])
    target[0, 0, 1] = 0
    zero, _ = call(HungarianHeatmapLoss(), predicted, target, weights)
    ignore, _ = call(HungarianHeatmapLoss(unlabelled='ignore'), predicted, target, weights)
    squared = (target - predicted)[0, 0].square().sum(dim=(1, 2))
    assert zero.item() == pytest.approx(squared.sum().item(), rel=1e-5)
    assert ignore.item() == pytest.approx((squared[0] + squared[2]).item(), rel=1e-5)


def test_ignored_joints_do_not_steer_the_matching():
    predicted, weights = people(2, 0), torch.ones(1, 2, K)
    target = predicted.flip(1).clone()  # person 0 is step 1, person 1 is step 0
    weights[0, 0, 0] = 0
    target[0, 0, 0] = predicted[0, 0, 0] + 100
    loss, _ = call(HungarianHeatmapLoss(unlabelled='ignore'), predicted, target, weights)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_reduction_and_weight():
    predicted, target = people(2, 0), people(2, 1)
    plain, _ = call(HungarianHeatmapLoss(), predicted, target)
    mean, _ = call(HungarianHeatmapLoss(reduction='keypoint_mean', loss_weight=6.0), predicted, target)
    assert mean.item() == pytest.approx(6 * plain.item() / K, rel=1e-5)


def test_foreground_weight_counts_the_cells_of_the_target_and_leaves_the_matching_alone():
    predicted, target = people(2, 0), people(2, 1)
    weights, free, candidates = torch.ones(1, 2, K), torch.ones(1, 2).bool(), torch.ones(1, 2).bool()
    plain, weighted = HungarianHeatmapLoss(), HungarianHeatmapLoss(foreground_weight=3.0)
    pairs, _ = plain.match(predicted, target, weights, free, candidates)
    others, _ = weighted.match(predicted, target, weights, free, candidates)
    assert all(torch.equal(a, b) for a, b in zip(pairs, others))
    expected = 0.0
    for image, person, step in zip(*pairs):
        for y, y_hat in zip(target[image, person].flatten().tolist(), predicted[image, step].flatten().tolist()):
            expected += (1 + 3 * y) * (y - y_hat) ** 2
    assert weighted(predicted, target, weights, pairs).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match='foreground_weight is -1'):
        HungarianHeatmapLoss(foreground_weight=-1)


def table_4(probabilities, z, omega, undercount, overcount):
    """Which of the steps (from 1) are matched, said with the paper's words."""
    z_hat = next((t for t, p in enumerate(probabilities) if p < omega), len(probabilities))
    if z_hat > z:
        return set(range(1, z + 1)) if overcount == 'first' else set(range(1, z_hat + 1))
    if undercount == 'all':
        return set(range(1, z + 1))
    return {t for t in range(1, z + 1) if probabilities[t - 1] >= omega}


@pytest.mark.parametrize('undercount', ['confident', 'all'])
@pytest.mark.parametrize('overcount', ['first', 'all'])
@pytest.mark.parametrize('z', [0, 1, 3, 5])
@pytest.mark.parametrize('probabilities', [[0.9, 0.8, 0.9, 0.1], [0.9, 0.1, 0.8, 0.1], [0.1, 0.9, 0.9, 0.9, 0.2, 0.1]])
def test_the_four_configurations_of_table_4(undercount, overcount, z, probabilities):
    loss, omega, not_stopped = HungarianHeatmapLoss(undercount, overcount), 0.27, torch.ones(1).bool()
    probabilities = probabilities[: max(z, next(t for t, p in enumerate(probabilities) if p < omega)) + 1]
    chosen = set()
    for t, p in enumerate(probabilities, start=1):
        confident = torch.tensor([p >= omega])
        not_stopped = not_stopped & confident
        if loss.candidates(torch.tensor([t <= z]), confident, not_stopped):
            chosen.add(t)
    z = min(z, len(probabilities))
    assert chosen == table_4(probabilities, z, omega, undercount, overcount)


def test_stop_loss_is_equation_3():
    logits = torch.tensor([[2.0, -1.0, 0.5], [-0.3, 4.0, 100.0]])
    is_person = torch.tensor([[True, True, False], [False, False, False]])
    running = torch.tensor([[True, True, True], [True, False, False]])
    expected = 0.0
    for i, t in running.nonzero().tolist():
        p_hat = 1 / (1 + math.exp(-logits[i, t].item()))
        expected -= math.log(p_hat) if is_person[i, t] else math.log(1 - p_hat)
    loss = MODELS.build(dict(type='StopLoss', loss_weight=2.0))(logits, is_person, running)
    assert loss.item() == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize('name', ['undercount', 'overcount', 'unlabelled', 'reduction'])
def test_unknown_options_are_refused_with_their_value(name):
    with pytest.raises(ValueError, match=f"{name} is 'nonsense'; use one of"):
        HungarianHeatmapLoss(**{name: 'nonsense'})
