"""Missing joints looked up in AE's maps, against MMPose's own routine and loops written out here."""

import numpy as np
import pytest
import torch
from mmpose.codecs import AssociativeEmbedding

from rnnpose_plugin.models.ae_refinement import fill_missing

K, H, W = 5, 9, 11


def scene(n, tag_maps, seed):
    """Joints on whole cells of which about half are missing, at least one of each person found, and AE's maps."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.stack([torch.randint(0, size, (n, K), generator=generator) for size in (W, H)], dim=-1).float()
    scores = 0.1 + 0.8 * torch.rand(n, K, generator=generator)
    missing = torch.rand(n, K, generator=generator) < 0.5
    missing[torch.arange(n), torch.randint(0, K, (n,), generator=generator)] = False
    heatmaps = 3 * torch.rand(K, H, W, generator=generator)  # AE's maps know no bound
    tags = 3 * torch.randn(tag_maps * K, H, W, generator=generator)
    return cells, scores.masked_fill(missing, 0), heatmaps, tags


def test_no_people():
    _, _, heatmaps, tags = scene(1, 1, 0)
    cells, scores = fill_missing(torch.zeros(0, K, 2), torch.zeros(0, K), heatmaps, tags, 0.1)
    assert cells.shape == (0, K, 2) and scores.shape == (0, K)


def test_a_person_without_a_joint_is_left_alone():
    cells, scores, heatmaps, tags = scene(3, 1, 1)
    scores[1] = 0
    new_cells, new_scores = fill_missing(cells, scores, heatmaps, tags, 0.0)
    assert torch.equal(new_cells[1], cells[1]) and not new_scores[1].any()
    assert (new_scores[[0, 2]] > 0).all()


@pytest.mark.parametrize('tag_maps', [1, 2, 3])
@pytest.mark.parametrize('seed', range(4))
def test_without_a_threshold_it_is_mmposes_routine(seed, tag_maps):
    cells, scores, heatmaps, tags = scene(6, tag_maps, seed)
    original = AssociativeEmbedding(input_size=(4 * W, 4 * H), heatmap_size=(W, H))
    expected = original._fill_missing_keypoints(*(part.numpy().copy() for part in (cells, scores, heatmaps, tags)))
    assert (scores == 0).sum() > 6
    new_cells, new_scores = fill_missing(cells, scores, heatmaps, tags, 0.0)
    np.testing.assert_array_equal(new_cells.numpy(), expected[0])
    np.testing.assert_array_equal(new_scores.numpy(), expected[1])


def test_detected_joints_and_the_inputs_never_change():
    given = scene(6, 2, 5)
    cells, scores, _, _ = given
    cells += 0.3  # between cells, as refined joints are
    before = [part.clone() for part in given]
    new_cells, new_scores = fill_missing(*given, 0.0)
    assert all(torch.equal(part, old) for part, old in zip(given, before))
    found = scores > 0
    assert torch.equal(new_cells[found], cells[found]) and torch.equal(new_scores[found], scores[found])
    assert (new_scores > 0).all() and torch.equal(new_cells[~found], new_cells[~found].round())


def test_what_stays_under_tau_stays_missing_where_it_was():
    cells, scores, heatmaps, tags = scene(6, 1, 6)
    all_cells, all_scores = fill_missing(cells, scores, heatmaps, tags, 0.0)
    tau = all_scores[scores == 0].median().item()  # one joint has exactly this value, and is kept
    new_cells, new_scores = fill_missing(cells, scores, heatmaps, tags, tau)
    low = (scores == 0) & (all_scores < tau)
    assert 0 < low.sum() < (scores == 0).sum()
    assert torch.equal(new_cells, torch.where(low[..., None], cells, all_cells))
    assert torch.equal(new_scores, all_scores.masked_fill(low, 0))


def test_a_tag_is_read_at_the_nearest_cell_of_the_map():
    # The tag of joint 0 is one thing at the cell named below and another everywhere else; joint 1 has a cell for each.
    heatmaps = torch.full((2, 4, 6), 0.5)
    for place, (x, y) in [((2.6, 1.4), (3, 1)), ((-0.4, 3.4), (0, 3)), ((7.0, -3.0), (5, 0))]:
        tags = torch.full((2, 4, 6), 40.0)
        tags[0, y, x] = tags[1, 2, 4] = 10
        cells, scores = fill_missing(
            torch.tensor([[place, (0.0, 0.0)]]), torch.tensor([[0.9, 0.0]]), heatmaps, tags, 0.1
        )
        assert cells[0, 1].tolist() == [4, 2] and scores[0, 1].item() == 0.5


def test_of_two_people_each_gets_its_own_joint():
    # Two people with tags 0 and 5, and every joint of the map seen twice; the stronger one is the second person's.
    heatmaps, tags = torch.zeros(2, 4, 6), torch.full((2, 4, 6), 90.0)
    for tag, x, value in ((0.0, 1, 0.6), (5.0, 4, 0.9)):
        tags[:, 2, x], heatmaps[:, 2, x] = tag, value
    joints = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[4.0, 2.0], [0.0, 0.0]]])
    cells, scores = fill_missing(joints, torch.tensor([[0.5, 0.0], [0.5, 0.0]]), heatmaps, tags, 0.1)
    assert cells[:, 1].tolist() == [[1, 2], [4, 2]]
    torch.testing.assert_close(scores[:, 1], torch.tensor([0.6, 0.9]))


def test_half_precision_maps_are_compared_in_float32():
    # In float16, 2000 - heatmap knows whole numbers only.
    cells, scores, heatmaps, tags = scene(6, 2, 7)
    heatmaps, tags = heatmaps.half(), (10 * tags).half()
    found = fill_missing(cells, scores, heatmaps, tags, 0.0)
    expected = fill_missing(cells, scores, heatmaps.float(), tags.float(), 0.0)
    assert all(torch.equal(part, other) for part, other in zip(found, expected))


def test_tags_that_do_not_fit_the_joints_are_refused():
    cells, scores, heatmaps, tags = scene(1, 1, 0)
    with pytest.raises(ValueError, match='4 tag maps for 5 joints.*multiple of 5'):
        fill_missing(cells, scores, heatmaps, tags[:-1], 0.1)


def test_tags_of_another_size_are_refused():
    with pytest.raises(ValueError, match='16 x 12 cells, but the heatmaps 8 x 6'):
        fill_missing(torch.zeros(1, 2, 2), torch.ones(1, 2), torch.zeros(2, 6, 8), torch.zeros(2, 12, 16), 0.1)
