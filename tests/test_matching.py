"""Cost and assignment against double loops and all permutations."""

from itertools import permutations

import pytest
import torch

from rnnpose_plugin.models.matching import assign, heatmap_distances

B, T, N, K, H, W = 2, 4, 3, 5, 6, 7


def maps(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(B, T, K, H, W, generator=generator), torch.rand(B, N, K, H, W, generator=generator)


def slow_distances(predicted, target):
    cost = torch.zeros(B, N, T)
    for b in range(B):
        for n in range(N):
            for t in range(T):
                cost[b, n, t] = sum(torch.dist(target[b, n, k], predicted[b, t, k]) for k in range(K))
    return cost


def test_distances_equal_the_double_loop():
    predicted, target = maps(0)
    # |a|^2 + |b|^2 - 2ab loses about 1e-6 of |a|^2 (here 14); distances between random maps are about 2.6 per joint.
    expected = slow_distances(predicted, target)
    torch.testing.assert_close(heatmap_distances(predicted, target), expected, rtol=0, atol=1e-4)


def test_distance_is_the_norm_and_not_its_square():
    predicted, target = torch.zeros(1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 2)
    predicted[0, 0, 0, 0] = torch.tensor([3.0, 4.0])
    assert heatmap_distances(predicted, target).item() == pytest.approx(5.0)


def test_equal_maps_have_distance_zero_and_no_nan():
    predicted, _ = maps(1)
    cost = heatmap_distances(predicted, predicted)
    # The root magnifies rounding: sqrt(1e-6 * 14) per joint, five joints.
    assert cost.diagonal(dim1=1, dim2=2).abs().max() < 0.02 and cost.isfinite().all()


def test_masked_cells_and_unlabelled_joints_are_ignored():
    predicted, target = maps(2)
    mask = torch.ones(B, H, W)
    mask[0, :3] = 0
    weights = torch.ones(B, N, K)
    weights[1, 2, :4] = 0
    cost = heatmap_distances(predicted, target, mask, weights)
    predicted[0, :, :, :3] = target[0, :, :, :3] = 7.0  # equal there: no distance
    expected = slow_distances(predicted, target)
    expected[1, 2] = torch.stack([torch.dist(target[1, 2, 4], predicted[1, t, 4]) for t in range(T)])
    torch.testing.assert_close(cost, expected, rtol=0, atol=1e-4)


def test_half_precision_maps_are_compared_in_float32():
    predicted, target = maps(3)
    big = 300 * torch.ones_like(predicted)  # 300^2 overflows float16
    assert heatmap_distances((predicted + big).half(), target).isfinite().all()


def best_by_permutation(cost):
    """Least cost of matching every row (or column, where there are fewer) to one of the others."""
    if len(cost) > cost.shape[1]:
        cost = cost.T
    rows = range(len(cost))
    return min(sum(cost[r, c].item() for r, c in zip(rows, p)) for p in permutations(range(cost.shape[1]), len(cost)))


@pytest.mark.parametrize('people', range(7))
@pytest.mark.parametrize('steps', [1, 2, 4, 6])
def test_assignment_equals_brute_force(people, steps):
    cost = torch.rand(1, people, steps, generator=torch.Generator().manual_seed(people * 10 + steps))
    image, person, step = assign(cost, torch.ones(1, people).bool(), torch.ones(1, steps).bool())
    assert len(person) == len(set(person.tolist())) == len(set(step.tolist())) == min(people, steps)
    assert cost[image, person, step].sum().item() == pytest.approx(best_by_permutation(cost[0]) if people else 0)


def test_images_are_matched_separately_and_candidates_only():
    cost = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    free = torch.tensor([[True, False, True], [False, False, False]])
    candidates = torch.tensor([[False, True, True, True], [True, True, True, True]])
    image, person, step = assign(cost, free, candidates)
    assert image.tolist() == [0, 0] and sorted(person.tolist()) == [0, 2] and 0 not in step.tolist()
    expected = best_by_permutation(cost[0][[0, 2]][:, 1:])
    assert cost[image, person, step].sum().item() == pytest.approx(expected)


def test_no_gradient_and_one_transfer(monkeypatch):
    predicted, target = maps(4)
    cost = heatmap_distances(predicted.requires_grad_(), target)
    assert not cost.requires_grad
    transfers, to_host = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, 'cpu', lambda self: transfers.append(self.shape) or to_host(self))
    assign(cost, torch.ones(B, N).bool(), torch.ones(B, T).bool())
    assert len(transfers) == 1


def test_diverged_heatmaps_get_the_people_that_are_left():
    cost = torch.tensor([[[float('nan'), 1.0], [2.0, float('inf')]]])
    image, person, step = assign(cost, torch.ones(1, 2).bool(), torch.ones(1, 2).bool())
    assert sorted(zip(person.tolist(), step.tolist())) == [(0, 1), (1, 0)]
