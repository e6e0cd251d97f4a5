"""Views of one image merged into one sequence, against all permutations and loops written out here."""

from itertools import permutations

import pytest
import torch

from rnnpose_plugin.models.view_merging import UNMATCHED, check_merging, merge_views, mirror_people

K, H, W = 3, 10, 12
FLIP = [1, 0, 2]  # left and right, and one joint in the middle


def people(n, seed, noise=0.02):
    """N people with one blob per joint, on separate rows of cells per person, and their stop probabilities."""
    generator = torch.Generator().manual_seed(seed)
    heatmaps = noise * torch.rand(n, K, H, W, generator=generator)
    for person in range(n):
        for k in range(K):
            x = int(torch.randint(0, W - 1, (1,), generator=generator))
            heatmaps[person, k, 2 * person : 2 * person + 2, x : x + 2] += 1
    return heatmaps, torch.rand(n, generator=generator)


def shuffled(view, seed=0):
    order = torch.randperm(len(view[1]), generator=torch.Generator().manual_seed(seed))
    return view[0][order], view[1][order]


def look_again(view, seed, size=0.1):
    """The same people, in the same order, seen a little differently."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(part + size * torch.rand(part.shape, generator=generator) for part in view)


def assert_same(found, expected):
    # A sum over V float32 values near 1, divided again, is off by some 1e-7.
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-6)


def test_views_without_people():
    no_people = torch.zeros(0, K, H, W), torch.zeros(0)
    heatmaps, probabilities = merge_views([no_people, no_people, no_people])
    assert heatmaps.shape == (0, K, H, W) and probabilities.shape == (0,)
    two_people = people(2, 0)
    for views in ([no_people, two_people], [two_people, no_people]):
        assert_same(merge_views(views), (two_people[0], two_people[1] / 2))
        assert len(merge_views(views, unmatched='drop')[1]) == 0


def test_all_zero_heatmaps_give_no_nan():
    blank, two_people = (torch.zeros(2, K, H, W), torch.ones(2)), people(2, 0)
    heatmaps, probabilities = merge_views([blank, blank])
    assert heatmaps.shape == (2, K, H, W) and not heatmaps.any() and torch.equal(probabilities, torch.ones(2))
    heatmaps, probabilities = merge_views([blank, two_people])
    assert len(heatmaps) == 4 and heatmaps.isfinite().all() and probabilities.isfinite().all()


def test_a_diverged_person_is_matched_with_no_one():
    two_people = people(2, 0)
    diverged = two_people[0].clone(), two_people[1]
    diverged[0][1] = float('nan')
    heatmaps, probabilities = merge_views([two_people, diverged])
    assert len(probabilities) == 3 and heatmaps[:2].isfinite().all()


@pytest.mark.parametrize('unmatched', UNMATCHED)
def test_a_single_view_is_returned_unchanged(unmatched):
    view = people(3, 0)
    heatmaps, probabilities = merge_views([view], unmatched)
    assert heatmaps is view[0] and probabilities is view[1]


@pytest.mark.parametrize('unmatched', UNMATCHED)
def test_equal_and_shuffled_views_change_nothing(unmatched):
    view = people(5, 1)
    before = view[0].clone(), view[1].clone()
    assert_same(merge_views([view, view], unmatched), view)
    assert_same(merge_views([view, shuffled(view, 3), shuffled(view, 4)], unmatched), view)
    assert all(torch.equal(part, old) for part, old in zip(view, before))


def test_a_shuffled_and_mirrored_view_brought_back_changes_nothing():
    view = people(5, 2)
    heatmaps, probabilities = shuffled(view, 5)
    mirrored = torch.zeros_like(heatmaps)
    for k in range(K):
        for x in range(W):
            mirrored[:, FLIP[k], :, W - 1 - x] = heatmaps[:, k, :, x]
    assert_same(merge_views([view, (mirror_people(mirrored, FLIP), probabilities)]), view)


def relative_distance(a, b):
    apart = sum(torch.dist(a[k], b[k]) for k in range(K))
    return (apart / sum((a[k].norm() ** 2 + b[k].norm() ** 2).sqrt() for k in range(K))).item()


def best_pairs(collected, heatmaps, limit):
    """All ways of matching, pair by pair: most is gained where the distances stay furthest below the limit."""
    gain = [[max(limit - relative_distance(a, b), 0) for b in heatmaps] for a in collected]
    if len(collected) <= len(heatmaps):
        ways = ([*zip(range(len(collected)), p)] for p in permutations(range(len(heatmaps)), len(collected)))
    else:
        ways = ([*zip(p, range(len(heatmaps)))] for p in permutations(range(len(collected)), len(heatmaps)))
    best = max(ways, key=lambda pairs: sum(gain[i][j] for i, j in pairs))
    return [(i, j) for i, j in best if gain[i][j] > 0]


def slow_merge(views, unmatched, limit):
    """Lists of what was seen of each person; the average is taken anew every time."""
    seen = []
    for heatmaps, probabilities in views:
        averages = [torch.stack([h for h, _ in person]).mean(0) for person in seen]
        partner = {j: i for i, j in best_pairs(averages, heatmaps, limit)}
        for j in range(len(heatmaps)):
            if j not in partner:
                partner[j] = len(seen)
                seen.append([])
            seen[partner[j]].append((heatmaps[j], probabilities[j]))
    if unmatched == 'drop':
        seen = [person for person in seen if len(person) > 1]
    heatmaps = [torch.stack([h for h, _ in person]).mean(0) for person in seen]
    return torch.stack(heatmaps), torch.stack([sum(p for _, p in person) / len(views) for person in seen])


@pytest.mark.parametrize('unmatched', UNMATCHED)
@pytest.mark.parametrize('seed', range(5))
def test_three_views_with_different_people_equal_brute_force(seed, unmatched):
    crowd = people(5, seed)
    views = []
    for number, who in enumerate(([0, 1, 2], [4, 1, 0, 2], [3, 4, 2])):
        heatmaps, probabilities = look_again(crowd, 10 * seed + number)
        views.append((heatmaps[who], probabilities[who]))
    found = merge_views(views, unmatched)
    assert_same(found, slow_merge(views, unmatched, 0.8))
    assert len(found[1]) == (5 if unmatched == 'keep' else 4)  # only the last view shows person 3


@pytest.mark.parametrize('limit', [0.2, 0.5, 0.6, 0.8, 1.0])
@pytest.mark.parametrize('seed', range(5))
def test_noise_at_any_limit_equals_brute_force(seed, limit):
    # People of pure noise are all alike (relative distances 0.45 to 0.55): some pairs count and some do
    # not. With one seen much fainter, the distances reach further up.
    generator = torch.Generator().manual_seed(seed)
    views = [(torch.rand(n, K, 3, 4, generator=generator), torch.rand(n, generator=generator)) for n in (3, 4, 2)]
    views[1][0][0] *= 0.2
    assert_same(merge_views(views, 'keep', limit), slow_merge(views, 'keep', limit))


def test_two_different_people_are_not_averaged():
    both = people(2, 3)
    views = [(both[0][:1], both[1][:1]), (both[0][1:], both[1][1:])]
    assert_same(merge_views(views), (both[0], both[1] / 2))
    assert len(merge_views(views, 'drop')[1]) == 0


def test_half_of_the_joints_elsewhere_is_the_limit():
    # Joints of equal norm, each either equal or disjoint: the relative distance is the share of the disjoint ones.
    first = torch.zeros(1, 4, H, W)
    first[..., 0, 0] = 1
    second = first.clone()
    second[:, :2] = second[:, :2].flip(-1)
    views = [(first, torch.ones(1)), (second, torch.ones(1))]
    assert len(merge_views(views, match_distance=0.51)[1]) == 1
    assert len(merge_views(views, match_distance=0.49)[1]) == 2


def test_a_pair_over_the_limit_does_not_change_the_others():
    # One joint on two cells: people are directions in a plane (heatmaps may be negative), and the relative distance is
    # sqrt(2) sin(angle / 2). First: 0 and 83 degrees; second: 24 and -74. The least total is that of 0 with -74 and 83
    # with 24 degrees (0.85 + 0.70); 0 with 24 and 83 with -74 has 0.29 + 1.39. At 0.8 only 0.29 and 0.70 count, and
    # 24 degrees belongs to 0.
    def at(*degrees):
        angles = torch.tensor(degrees).deg2rad()
        return torch.stack([angles.cos(), angles.sin()], dim=-1)[:, None, None], torch.ones(len(degrees))

    first, second = at(0.0, 83.0), at(24.0, -74.0)
    heatmaps, probabilities = merge_views([first, second], match_distance=0.8)
    assert torch.equal(probabilities, torch.tensor([1.0, 0.5, 0.5]))
    torch.testing.assert_close(heatmaps[0], (first[0][0] + second[0][0]) / 2)


def test_later_views_meet_the_average_and_weigh_no_more():
    a, b = people(1, 4), people(1, 4)
    views = [a, (b[0] * 1.1, b[1] * 0), (b[0] * 1.6, b[1] * 0.5)]
    heatmaps, probabilities = merge_views(views)
    torch.testing.assert_close(heatmaps, a[0] * (1 + 1.1 + 1.6) / 3)
    torch.testing.assert_close(probabilities, a[1] * 1.5 / 3)


def test_the_order_is_that_of_the_first_view_then_new_people():
    heatmaps, _ = crowd = people(5, 5)
    views = [tuple(part[who] for part in crowd) for who in ([2, 0], [0, 4, 2, 1], [3, 1])]
    torch.testing.assert_close(merge_views(views)[0], heatmaps[[2, 0, 4, 1, 3]], rtol=0, atol=1e-6)


def test_half_precision_is_summed_in_float32():
    heatmaps, probabilities = people(2, 6)
    views = [((heatmaps * 300).half(), probabilities.half())] * 3
    merged, _ = merge_views(views)
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, views[0][0].float())


def test_mirroring_twice_gives_the_same_and_leading_axes_are_free():
    heatmaps, _ = people(2, 7)
    assert torch.equal(mirror_people(mirror_people(heatmaps, FLIP), FLIP), heatmaps)
    assert torch.equal(mirror_people(heatmaps[0], FLIP), mirror_people(heatmaps, tuple(FLIP))[0])
    assert mirror_people(heatmaps[:0], FLIP).shape == (0, K, H, W)


def test_bad_settings_are_refused_with_value_and_cure():
    with pytest.raises(ValueError, match=r"'maybe'.*'keep', 'drop'"):
        check_merging('maybe', 0.8)
    for distance in (0, -0.1, 1.01, float('nan')):
        with pytest.raises(ValueError, match=rf'{distance}.*\(0, 1\]'):
            merge_views([people(1, 0)], match_distance=distance)
    check_merging('drop', 1.0)
    with pytest.raises(ValueError, match='2 entries.*3 joints'):
        mirror_people(people(1, 0)[0], [1, 0])
