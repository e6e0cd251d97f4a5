"""Flip and multi-scale testing, and refinement by the AE maps, through the head and MMPose's estimator."""

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample

from rnnpose_plugin.models.ae_refinement import fill_missing

K, C = 4, 6
FLIP_INDICES = [0, 2, 1, 3]
CODEC = dict(type='InstanceHeatmap', input_size=(32, 24), heatmap_size=(8, 6), sigma=1.0, refinement='parabola')


def build(**settings):
    torch.manual_seed(0)
    cfg = dict(type='RecurrentPoseHead', in_channels=C, num_keypoints=K, hidden_channels=(6, 4), max_instances=3)
    head = MODELS.build({**cfg, 'decoder': CODEC, **settings}).eval()
    head.first_lstm.to_stop.bias.data.fill_(4)
    head.first_lstm.noise = 0.0
    return head


@torch.no_grad()
def make_symmetric(lstm):
    """Weights for which the mirrored features give the mirrored people, with left and right joints exchanged."""
    for layer in lstm.lstm.layers:
        weight = layer.gates.weight
        weight.copy_((weight + weight.flip(-1)) / 2)
    first = lstm.lstm.layers[0]
    for begin in range(C, first.gates.in_channels - first.hidden_channels, K):  # its inputs: features, K maps each, h
        heatmaps = first.gates.weight[:, begin : begin + K]
        heatmaps.copy_((heatmaps + heatmaps[:, FLIP_INDICES]) / 2)
    for part in (lstm.to_heatmaps.weight, lstm.to_heatmaps.bias):
        part.copy_((part + part[FLIP_INDICES]) / 2)


def sample(**metainfo):
    return PoseDataSample(metainfo=dict(flip_indices=FLIP_INDICES, **metainfo))


def features(batch=2, size=(6, 8), seed=1):
    return (torch.randn(batch, C, *size, generator=torch.Generator().manual_seed(seed)),)


def assert_same_poses(ours, expected, atol):
    for a, b in zip(ours, expected):
        np.testing.assert_allclose(a.keypoints, b.keypoints, rtol=0, atol=atol)
        np.testing.assert_allclose(a.keypoint_scores, b.keypoint_scores, rtol=0, atol=atol)
        np.testing.assert_allclose(a.bbox_scores, b.bbox_scores, rtol=0, atol=atol)


@pytest.mark.parametrize(
    'second_lstm', [None, *(dict(hidden_channels=(5,), order='confidence', others=others) for others in (False, True))]
)
def test_a_view_that_is_an_exact_flip_changes_nothing(second_lstm):
    head, feats = build(second_lstm=second_lstm), features()
    make_symmetric(head.first_lstm)
    if head.second_lstm is not None:
        make_symmetric(head.second_lstm)
    plain = head.predict(feats, [sample(), sample()])
    assert all(len(poses.keypoints) for poses in plain)
    both = head.predict([feats, (feats[0].flip(-1),)], [sample(), sample()], dict(flip_test=True))
    assert_same_poses(both, plain, atol=1e-3)  # pixels; the parabola multiplies rounding where a peak is flat


def test_a_view_that_is_no_flip_changes_something():
    head, feats = build(), features()
    plain = head.predict(feats, [sample(), sample()])
    both = head.predict([feats, (feats[0].flip(-1),)], [sample(), sample()], dict(flip_test=True, match_distance=1.0))
    assert any(
        len(a.keypoints) != len(b.keypoints) or not np.allclose(a.keypoints, b.keypoints) for a, b in zip(both, plain)
    )


class ScriptedPeople(torch.nn.Module):
    """In the place of LSTM1; its people are its features, (B, n * K, H, W)."""

    def decode_people(self, features, stop_threshold, max_instances):
        people = features.unflatten(1, (-1, K))
        return [(maps, torch.linspace(0.9, 0.5, len(maps))) for maps in people], []


def head_with_scripted_people(**settings):
    head = build(feature_norm=None, **settings)
    head.first_lstm = ScriptedPeople()
    head.in_channels = 3 * K
    return head


def three_people(scale=1):
    """Three people far apart, drawn as a view of this scale would show them: (1, 3 * K, H, W)."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.tensor([[5.0, 6], [16, 12], [27, 18]])[:, None] + torch.rand(3, K, 2, generator=generator)
    sizes = {name: tuple(side * scale for side in CODEC[name]) for name in ('input_size', 'heatmap_size')}
    view = KEYPOINT_CODECS.build({**CODEC, **sizes})
    return view.render(view.to_cells(pixels * scale), torch.ones(3, K)).flatten(0, 1)[None]


def mirrored(maps):
    return maps.unflatten(1, (3, K)).flip(-1)[:, :, FLIP_INDICES].flatten(1, 2)


def shuffled(maps, order):
    return maps.unflatten(1, (3, K))[:, order].flatten(1, 2)


@pytest.mark.parametrize('order', [[0, 1, 2], [2, 0, 1], [1, 0, 2]])
def test_scales_and_flips_in_any_order_are_the_same_people(order):
    """Four views of the same three people: two scales, each mirrored too, all but the first in another order."""
    head = head_with_scripted_people()
    base = three_people()
    double = three_people(2)

    feats = [
        [(base,), (mirrored(shuffled(base, order)),)],
        [(shuffled(double, order),), (mirrored(shuffled(double, order[::-1])),)],
    ]
    settings = dict(flip_test=True, multiscale_test=True)
    (poses,), (field,) = head.predict(feats, [sample(aug_scales=[2])], dict(settings, output_heatmaps=True))
    (plain,) = head.predict((base,), [sample()])
    assert poses.keypoints.shape == (3, K, 2)
    # A heatmap of the double scale is twice as fine: averaging sharpens the peaks, but does not move them.
    np.testing.assert_allclose(poses.keypoints, plain.keypoints, rtol=0, atol=0.25)
    assert field.instance_heatmaps.shape == (3 * K, 6, 8)


@pytest.mark.parametrize('unmatched, people', [('keep', 3), ('drop', 2)])
def test_people_found_in_one_view_only(unmatched, people):
    head, base = head_with_scripted_people(), three_people()
    other = base.clone()
    other[:, :K] = 0  # the first person is not in the mirrored view
    (poses,) = head.predict([(base,), (mirrored(other),)], [sample()], dict(flip_test=True, unmatched=unmatched))
    assert len(poses.keypoints) == people


@pytest.mark.parametrize('match_distance, people', [(0.1, 6), (1.0, 3)])
def test_how_far_apart_the_same_people_may_be(match_distance, people):
    head, base = head_with_scripted_people(max_instances=9), three_people()
    moved = mirrored(base.roll(1, dims=-1))  # by one cell, which is a standard deviation
    settings = dict(flip_test=True, match_distance=match_distance)
    (poses,) = head.predict([(base,), (moved,)], [sample()], settings)
    assert len(poses.keypoints) == people


def test_views_together_show_no_more_than_max_instances():
    head, base = head_with_scripted_people(max_instances=4), three_people()
    settings = dict(flip_test=True, match_distance=0.1)
    (poses,) = head.predict([(base,), (mirrored(base.roll(1, dims=-1)),)], [sample()], settings)
    assert len(poses.keypoints) == 4
    (all_of_them,) = head_with_scripted_people(max_instances=9).predict(
        [(base,), (mirrored(base.roll(1, dims=-1)),)], [sample()], settings
    )
    assert poses.bbox_scores.min() >= np.sort(all_of_them.bbox_scores)[2] - 1e-6


def test_no_people_in_any_view():
    head = build()
    head.first_lstm.to_stop.bias.data.fill_(-99)
    feats = [[features(), features()], [features(size=(12, 16)), features(size=(12, 16))]]
    settings = dict(flip_test=True, multiscale_test=True)
    for poses in head.predict(feats, [sample(aug_scales=[2]), sample(aug_scales=[2])], settings):
        assert poses.keypoints.shape == (0, K, 2)


def ae_maps(seed=0, size=(6, 8)):
    """AE heatmaps and tags (1, 2 K, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    tags = torch.arange(size[1]).expand(1, K, *size).float() / 3
    return torch.cat([torch.rand(1, K, *size, generator=generator), tags], dim=1)


def test_discarded_joints_are_filled_in_from_the_ae_maps():
    head, base, maps = head_with_scripted_people(), three_people(), ae_maps()
    base[:, [0, K + 1, K + 2]] = 0.001  # below tau
    (without,) = head.predict((base, maps), [sample()])
    (poses,) = head.predict((base, maps), [sample()], dict(ae_refinement=True))
    lost = without.keypoint_scores == 0
    assert lost.sum() == 3 and (poses.keypoint_scores > 0).all()
    np.testing.assert_array_equal(poses.keypoints[~lost], without.keypoints[~lost])
    np.testing.assert_array_equal(poses.keypoint_scores[~lost], without.keypoint_scores[~lost])
    np.testing.assert_array_equal(poses.bbox_scores, without.bbox_scores)
    cells = torch.from_numpy(without.keypoints / 4)  # MMPose's AE: cell = pixel / stride
    scores = torch.from_numpy(without.keypoint_scores)
    expected, expected_scores = fill_missing(cells, scores, maps[0, :K], maps[0, K:], 0.015)
    np.testing.assert_allclose(poses.keypoints[lost], 4 * expected.numpy()[lost])
    np.testing.assert_allclose(poses.keypoint_scores, expected_scores.numpy())


def test_ae_heatmaps_are_averaged_over_scales_and_tags_are_the_base_scales():
    head, base, double = head_with_scripted_people(), three_people(), three_people(2)
    base[:, 0], double[:, 0] = 0.001, 0.001
    small, large = ae_maps(), ae_maps(seed=3, size=(12, 16))
    large[:, K:] = 100  # tags that would lead elsewhere
    # The mirrored views' maps, seven times as high, are left out.
    feats = [[(base, small), (base * 0, small * 7)], [(double, large), (double * 0, large * 7)]]
    settings = dict(flip_test=True, multiscale_test=True, ae_refinement=True)
    poses = head.predict(feats, [sample(aug_scales=[2])], settings)[0]
    average = (small[0, :K] + head.decoder.resample(large[0, :K], (64, 48))) / 2
    assert not torch.equal(large[0, K:, :6, :8], small[0, K:])
    cells, scores = torch.from_numpy(poses.keypoints[:1] / 4), torch.from_numpy(poses.keypoint_scores[:1])
    scores = torch.where(torch.arange(K) == 0, 0.0, scores)  # the first person's first joint
    cells, expected = fill_missing(cells, scores, average, small[0, K:], 0.015)
    assert poses.keypoint_scores[0, 0] == pytest.approx(expected[0, 0].item(), abs=1e-6)
    np.testing.assert_allclose(poses.keypoints[0, 0], 4 * cells[0, 0].numpy())


def test_the_letter_of_section_3_3_decodes_at_one_scale_and_averages_ae_maps_over_all():
    head, base, double = head_with_scripted_people(), three_people(), three_people(2).roll(3, dims=-1)
    base[:, 0], double[:, 0] = 0.001, 0.001
    small, large = ae_maps(), ae_maps(seed=3, size=(12, 16))
    feats, samples = [(base, small), (double, large)], [sample(aug_scales=[2])]
    settings = dict(multiscale_test=True, ae_refinement=True)
    (ours,) = head.predict(feats, samples, dict(settings, decode_all_scales=False))
    average = (small[0, :K] + head.decoder.resample(large[0, :K], (64, 48))) / 2
    (expected,) = head.predict((base, torch.cat([average, small[0, K:]])[None]), [sample()], dict(ae_refinement=True))
    assert_same_poses([ours], [expected], atol=1e-6)
    (everywhere,) = head.predict(feats, samples, settings)
    assert not np.allclose(everywhere.bbox_scores, ours.bbox_scores, atol=0.1)  # the decoder ran at both
    mirrored = [[(base, small), (base.flip(-1), small)], [(double, large), (double, large)]]
    (both,) = head.predict(mirrored, samples, dict(settings, flip_test=True, decode_all_scales=False))
    plain = [(base, small), (base.flip(-1), small)]
    (flipped,) = head.predict(plain, [sample()], dict(flip_test=True))
    np.testing.assert_allclose(
        both.bbox_scores[1:], flipped.bbox_scores[1:], atol=1e-6
    )  # the first one has a new joint
    with pytest.raises(ValueError, match='decode_all_scales is False'):
        head.check_test_settings(dict(decode_all_scales=False, multiscale_test=True))


@pytest.mark.parametrize('omega', [0.3, 0.6, 0.95])
def test_omega_of_testing_apart_from_that_of_training(omega):
    head, feats = build(max_instances=6), features(4)
    head.first_lstm.to_stop.bias.data.fill_(0.5)
    with torch.no_grad():
        head.first_lstm.to_stop.weight *= 8
    own = head.predict(feats, [sample()] * 4)
    ours = head.predict(feats, [sample()] * 4, dict(stop_threshold=omega))
    assert_same_poses(head.predict(feats, [sample()] * 4), own, atol=0)
    head.stop_threshold = omega
    assert_same_poses(ours, head.predict(feats, [sample()] * 4), atol=0)
    counts = [len(poses.keypoints) for poses in ours]
    assert counts != [len(poses.keypoints) for poses in own]
    for wrong in (0, 1, 'low'):
        with pytest.raises(ValueError, match='stop_threshold .omega. in test_cfg is'):
            head.check_test_settings(dict(stop_threshold=wrong))


# Nothing, too few channels, and a coarser level of a pyramid, which has as many channels as AE with seven tags a joint.
@pytest.mark.parametrize('behind', [(), (torch.zeros(1, K, 6, 8),), (torch.ones(1, 8 * K, 3, 4),)])
def test_without_ae_maps_refinement_is_off_with_one_warning(behind, caplog):
    head, base = head_with_scripted_people(), three_people()
    base[:, 0] = 0.001
    logger = MMLogger.get_current_instance()  # does not propagate, so caplog has to be let in
    logger.addHandler(caplog.handler)
    for _ in range(2):
        (poses,) = head.predict((base, *behind), [sample()], dict(ae_refinement=True))
        assert poses.keypoint_scores[0, 0] == 0
    logger.removeHandler(caplog.handler)
    assert caplog.text.count('ae_refinement is off') == 1 and f'ae_channels={2 * K}' in caplog.text


def test_views_that_the_samples_do_not_support_are_refused():
    head, feats = build(), features(1)
    with pytest.raises(ValueError, match='flip_test is True.*flip_indices'):
        head.predict([feats, feats], [PoseDataSample()], dict(flip_test=True))
    with pytest.raises(ValueError, match='multiscale_test is True.*aug_scales=None'):
        head.predict([feats], [sample()], dict(multiscale_test=True))
    with pytest.raises(ValueError, match='match_distance is 2'):
        head.check_test_settings(dict(match_distance=2))
    with pytest.raises(ValueError, match='flip_tets'):
        head.check_test_settings(dict(flip_tets=True))
    head.check_test_settings(None)
