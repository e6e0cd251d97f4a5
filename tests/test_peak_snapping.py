"""Joints on the backbone's peaks, against a loop; the way there through neck and head."""

import pytest
import torch
from mmpose.registry import MODELS

from rnnpose_plugin.models.peak_snapping import FLOOR, LEAST, snap_to_peaks

n, K, H, W = 3, 4, 6, 9


def naive(keypoints, heatmaps, peaks, offsets, stride):
    moved, heights = keypoints.clone(), torch.zeros(n, K, dtype=peaks.dtype)
    for person in range(n):
        for k in range(K):
            best, place = -1.0, None
            for r in range(H):
                for c in range(W):
                    value = max(heatmaps[person, k, r, c].item(), 0) * (peaks[k, r, c].item() + FLOOR)
                    if value > best:
                        best, place = value, (r, c)
            r, c = place
            heights[person, k] = peaks[k, r, c]
            if peaks[k, r, c] > LEAST:
                y, x = (stride * (p + offsets[2 * k + a, r, c].item()) for a, p in enumerate(place))
                moved[person, k] = torch.tensor([x, y])
    return moved, heights


def test_it_is_the_loop():
    torch.manual_seed(0)
    keypoints, heatmaps = 30 * torch.rand(n, K, 2, dtype=torch.float64), torch.randn(n, K, H, W, dtype=torch.float64)
    peaks, offsets = torch.rand(K, H, W, dtype=torch.float64) ** 4, torch.randn(2 * K, H, W, dtype=torch.float64)
    peaks[1] = 0.05  # nothing to move to
    moved, heights = snap_to_peaks(keypoints, heatmaps, torch.cat([peaks, offsets]), 4.0)
    torch.testing.assert_close((moved, heights), naive(keypoints, heatmaps, peaks, offsets, 4.0))
    assert torch.equal(moved[:, 1], keypoints[:, 1]) and not torch.equal(moved[:, 0], keypoints[:, 0])


def test_the_nearer_of_two_peaks_is_taken():
    heatmaps, maps = torch.zeros(1, 1, H, W), torch.zeros(3, H, W)
    heatmaps[0, 0, 2] = torch.tensor([0, 0.1, 0.4, 0.9, 0.6, 0.2, 0.1, 0.05, 0])
    maps[0, 2, 4], maps[0, 2, 7] = 0.5, 0.9
    maps[1:, 2, 4] = torch.tensor([0.25, 0.5])  # down and right of the cell's corner
    moved, heights = snap_to_peaks(torch.zeros(1, 1, 2), heatmaps, maps, 4.0)
    assert moved.tolist() == [[[18.0, 9.0]]] and heights.tolist() == [[0.5]]


def test_a_far_peak_does_not_move_a_joint():
    heatmaps, maps = torch.zeros(1, 1, H, W), torch.zeros(3, H, W)
    heatmaps[0, 0, 1, 1], heatmaps[0, 0, 4, 7], maps[0, 4, 7] = 1, 0.05, 0.9
    moved, heights = snap_to_peaks(torch.full((1, 1, 2), 5.0), heatmaps, maps, 4.0)
    assert moved.tolist() == [[[5.0, 5.0]]] and heights.tolist() == [[0.0]]


def test_nobody_is_nobody():
    empty, _ = snap_to_peaks(torch.zeros(0, K, 2), torch.zeros(0, K, H, W), torch.rand(3 * K, H, W), 4.0)
    assert empty.shape == (0, K, 2)


def build(**test):
    codec = dict(type='InstanceHeatmap', input_size=(64, 64), heatmap_size=(16, 16))
    head = dict(type='RecurrentPoseHead', in_channels=24, num_keypoints=17, hidden_channels=(4,), decoder=codec)
    return MODELS.build(
        dict(
            type='FreezableBottomupPoseEstimator',
            freeze_backbone=True,
            data_preprocessor=dict(type='PoseScalesPreprocessor'),
            backbone=dict(type='MoveNetBackbone', levels=('features', 'peaks')),
            neck=dict(type='StackedFeatures', in_channels=[24, 51], in_index=[0], beside=1),
            head=dict(head, stop_threshold=1e-6, max_instances=2),
            test_cfg=test,
        )
    ).eval()


class Sample:
    """Of a data sample only what the head reads."""

    metainfo = dict(batch_input_shape=(64, 64))


def test_the_head_moves_joints_only_when_asked():
    torch.manual_seed(0)
    model = build(snap_to_peaks=True)
    with torch.no_grad():
        feats = model.extract_feat(torch.rand(1, 3, 64, 64) * 2 - 1)
        assert [level.shape[1] for level in feats] == [24, 51]
        ((plain,),) = [model.head.predict(feats, [Sample], dict())]
        ((moved,),) = [model.head.predict(feats, [Sample], dict(snap_to_peaks=True))]
        maps, p = model.head(feats)[0]
        _, heights = snap_to_peaks(torch.from_numpy(plain.keypoints), maps, feats[1][0], 4.0)
        least = (p * heights.mean(1)).max().item() - 1e-6
        ((surest,),) = [model.head.predict(feats, [Sample], dict(snap_to_peaks=True, score_threshold=least))]
    assert len(plain.keypoints) == 2 and (plain.keypoints != moved.keypoints).any()
    assert moved.keypoint_scores == pytest.approx(heights.numpy())
    assert moved.bbox_scores == pytest.approx((p * heights.mean(1)).numpy())
    assert len(surest.keypoints) == 1 and surest.bbox_scores[0] == moved.bbox_scores.max()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match='leave one of them out'):
        build(snap_to_peaks=True, ae_refinement=True)
    for least in (1, -0.1, True, 'low'):
        with pytest.raises(ValueError, match='score_threshold is'):
            build(score_threshold=least)
    with pytest.raises(ValueError, match='wants 51 channels behind F, but they are'):
        model = build(snap_to_peaks=True)
        model.head.predict((torch.rand(1, 24, 16, 16),), [Sample], dict(snap_to_peaks=True))
    with pytest.raises(ValueError, match='beside is 2 and ae_channels 0'):
        MODELS.build(dict(type='StackedFeatures', in_channels=[24, 51], beside=2))
    with pytest.raises(ValueError, match='beside is 1 and ae_channels 4'):
        MODELS.build(dict(type='StackedFeatures', in_channels=[24, 51], beside=1, ae_channels=4))
