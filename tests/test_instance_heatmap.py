"""The codec: conventions, rendering, decoding, against formulas written out here and MMPose's own refinement."""

import numpy as np
import pytest
import torch
from mmpose.codecs.utils import refine_keypoints
from mmpose.datasets.transforms import BottomupResize
from mmpose.registry import KEYPOINT_CODECS
from torch.nn import functional as F

from rnnpose_plugin.codecs import InstanceHeatmap

K = 3


def make(**settings):
    return InstanceHeatmap(**{**dict(input_size=(64, 48), heatmap_size=(16, 12), sigma=1.5), **settings})


def random_joints(n, generator):
    """Joints anywhere inside a 64 x 48 image, up to its very border."""
    return generator.uniform([-0.5, -0.5], [63.49, 47.49], size=(n, K, 2)).astype(np.float32)


def test_is_reached_through_the_registry():
    codec = KEYPOINT_CODECS.build(dict(type='InstanceHeatmap', input_size=(64, 48), heatmap_size=(16, 12)))
    assert isinstance(codec, InstanceHeatmap)


def test_no_people_and_no_heatmaps():
    codec = make(encode_heatmaps=True)
    encoded = codec.encode(np.zeros((0, K, 2), np.float32), np.zeros((0, K), np.float32))
    assert encoded['keypoint_labels'].shape == (0, K, 2)
    assert encoded['instance_heatmaps'].shape == (0, 12, 16)
    keypoints, keypoint_scores, scores = codec.decode((torch.zeros(0, K, 12, 16), torch.zeros(0)))
    assert (keypoints.shape, keypoint_scores.shape, scores.shape) == ((0, K, 2), (0, K), (0,))


def test_the_corners_of_the_image_are_the_corners_of_the_map():
    codec = make()
    corners = np.array([[-0.5, -0.5], [63.5, 47.5]])
    np.testing.assert_allclose(codec.to_cells(corners), [[-0.5, -0.5], [15.5, 11.5]])
    np.testing.assert_allclose(codec.to_pixels(codec.to_cells(corners)), corners)


def test_mirroring_the_image_mirrors_the_cells():
    codec, joints = make(), random_joints(5, np.random.default_rng(0))
    mirrored = joints * [-1, 1] + [63, 0]
    np.testing.assert_allclose(codec.to_cells(mirrored)[..., 0], 15 - codec.to_cells(joints)[..., 0], atol=1e-5)


def test_rendering_is_the_gaussian_written_out():
    codec = make()
    labels, weights = torch.tensor([[[3.3, 4.6], [0.0, 0.0], [15.4, -0.5]]]), torch.tensor([[1.0, 0.0, 1.0]])
    maps = codec.render(labels, weights)
    assert maps.shape == (1, K, 12, 16)
    for k in range(K):
        for y in range(12):
            for x in range(16):
                square = (x - labels[0, k, 0]) ** 2 + (y - labels[0, k, 1]) ** 2
                expected = weights[0, k] * torch.exp(-square / (2 * 1.5**2))
                assert maps[0, k, y, x] == pytest.approx(expected.item(), abs=1e-6)


def test_encoded_heatmaps_are_the_rendered_ones_person_by_person():
    codec, joints = make(encode_heatmaps=True), random_joints(2, np.random.default_rng(1))
    encoded = codec.encode(joints)
    assert encoded['instance_heatmaps'].shape == (2 * K, 12, 16)
    second = codec.render(torch.from_numpy(codec.to_cells(joints[1:])), torch.ones(1, K))[0]
    np.testing.assert_allclose(encoded['instance_heatmaps'][K:], second, atol=1e-6)


def test_unlabelled_and_outside_joints_weigh_nothing():
    joints = np.full((1, K, 2), 10.0, np.float32)
    joints[0, 1] = [63.6, 10]  # beyond the last pixel's outer edge
    visible = np.array([[1, 1, 0]], np.float32)
    encoded = make().encode(joints, visible)
    np.testing.assert_array_equal(encoded['keypoint_weights'], [[1, 0, 0]])
    assert not make().render(*map(torch.from_numpy, encoded.values()))[0, 1:].any()


def test_crowds_and_people_without_joints_are_no_instances():
    joints = np.full((4, K, 2), 10.0, np.float32)
    joints[2] = -100  # wholly outside
    visible = np.ones((4, K), np.float32)
    visible[1] = 0
    encoded = make().encode(joints, visible, iscrowd=[0, 0, 0, 1])
    assert encoded['keypoint_labels'].shape == (1, K, 2)


@pytest.mark.parametrize('refinement, cells', [('none', 0.5), ('quarter', 0.5), ('parabola', 0.5)])
def test_decode_inverts_encode_within_half_a_cell(refinement, cells):
    # The arg max of a Gaussian is the cell nearest to its centre, at most half a cell off on each axis. Refinement goes
    # towards the true centre, which never takes it further than that. Stride 4, plus float32 rounding.
    codec, joints = make(refinement=refinement), random_joints(200, np.random.default_rng(2))
    encoded = codec.encode(joints)
    maps = codec.render(*(torch.from_numpy(encoded[name]) for name in ('keypoint_labels', 'keypoint_weights')))
    keypoints, keypoint_scores, _ = codec.decode((maps, torch.ones(200)))
    assert np.abs(keypoints - joints).max() <= cells * 4 + 1e-3
    # The peak is at most (0.5, 0.5) cells from the centre.
    assert keypoint_scores.min() >= np.exp(-0.5 / (2 * 1.5**2)) - 1e-6


def test_quarter_refinement_halves_the_bound_away_from_the_border():
    codec, joints = make(), np.random.default_rng(3).uniform(16, 30, size=(200, K, 2)).astype(np.float32)
    labels = torch.from_numpy(codec.to_cells(joints))
    keypoints, _, _ = codec.decode((codec.render(labels, torch.ones(200, K)), torch.ones(200)))
    assert np.abs(keypoints - joints).max() <= 0.25 * 4 + 1e-3


def test_parabola_refinement_is_exact_away_from_the_border():
    codec, joints = make(refinement='parabola'), random_joints(200, np.random.default_rng(3))
    labels = torch.from_numpy(codec.to_cells(joints))
    keypoints, _, _ = codec.decode((codec.render(labels, torch.ones(200, K)), torch.ones(200)))
    inner = ((labels > 0.5) & (labels < torch.tensor([14.5, 10.5]))).all(-1).numpy()
    assert inner.sum() > 100
    # float32 logarithms of values down to exp(-2) differ by 1e-7 of curvatures of 1 / sigma^2 = 0.4, times stride 4.
    assert np.abs(keypoints - joints)[inner].max() < 1e-4


def test_quarter_refinement_equals_mmposes():
    codec, heatmaps = make(), torch.rand(40, K, 12, 16, generator=torch.Generator().manual_seed(0))
    plain, _, _ = make(refinement='none').decode((heatmaps, torch.ones(40)))
    refined, _, _ = codec.decode((heatmaps, torch.ones(40)))
    for n in range(40):
        expected = refine_keypoints(codec.to_cells(plain[n : n + 1]).copy(), heatmaps[n].numpy())
        np.testing.assert_allclose(codec.to_cells(refined[n : n + 1]), expected, atol=1e-5)


def test_joints_under_tau_are_discarded_and_leave_the_score():
    heatmaps = torch.zeros(2, K, 12, 16)
    heatmaps[0, 0, 3, 4], heatmaps[0, 1, 5, 6], heatmaps[0, 2, 1, 1] = 0.8, 0.4, 0.0149
    heatmaps[1] = 0.01  # no person
    _, keypoint_scores, scores = make().decode((heatmaps, torch.tensor([0.5, 0.9])))
    np.testing.assert_allclose(keypoint_scores, [[0.8, 0.4, 0], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(scores, [0.5 * 0.6, 0], atol=1e-6)


@pytest.mark.parametrize('mode, expected', [('stop_times_peak', 0.3), ('stop', 0.5), ('peak', 0.6)])
def test_instance_scores(mode, expected):
    heatmaps = torch.zeros(1, K, 12, 16)
    heatmaps[0, 0, 3, 4], heatmaps[0, 1, 5, 6] = 0.8, 0.4
    _, _, scores = make(instance_score=mode).decode((heatmaps, torch.tensor([0.5])))
    assert scores[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    'settings, value',
    [
        (dict(heatmap_size=(16, 16)), '(16, 16)'),
        (dict(sigma=0), '0'),
        (dict(refinement='halves'), 'halves'),
        (dict(instance_score='sum'), 'sum'),
    ],
)
def test_bad_settings_are_refused_with_their_value(settings, value):
    with pytest.raises(ValueError) as error:
        make(**settings)
    assert value in str(error.value)


SCALES = [0.5, 1.5, 2]


def large(scale=1, **settings):
    """A codec of 128 x 96 pixels seen at a scale, its size, and sigma 2."""
    size = (int(128 * scale), int(96 * scale))
    return make(input_size=size, heatmap_size=(size[0] // 4, size[1] // 4), sigma=2, **settings), size


@pytest.mark.parametrize('scale', SCALES)
def test_mmpose_takes_pixel_p_to_scale_times_p(scale):
    # What resample rests on. The image is a ramp of the pixel index along x, or along y, in the 128 x 96 input.
    for axis in range(2):
        ramp = np.broadcast_to(np.indices((96, 128))[1 - axis][..., None], (96, 128, 3)).astype(np.float32)
        resize = BottomupResize((128, 96), aug_scales=[scale], size_factor=4)
        same, view = resize.transform(dict(img=ramp, ori_shape=(96, 128)))['img']
        np.testing.assert_array_equal(same, ramp)
        inner = (slice(0, int(94 * scale)), slice(0, int(126 * scale)))  # the last pixels are padding's neighbours
        pixels = np.indices(view.shape[:2])[1 - axis]
        # OpenCV interpolates at multiples of 1 / 32 pixel.
        assert np.abs(view[..., 0] - pixels / scale)[inner].max() <= 1 / 32


@pytest.mark.parametrize('scale', SCALES)
def test_resampling_reads_the_same_place_of_the_image(scale):
    # Bilinear interpolation is exact on a ramp, here of the base image's pixels; up to the outermost cell centres.
    (base, _), (view, size) = large(), large(scale)
    x, y = (view.to_pixels(torch.arange(n, dtype=torch.float32)) / scale for n in view.heatmap_size)
    columns, rows = base.heatmap_size
    ramps = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))])
    expected_x, expected_y = (
        base.to_pixels(torch.arange(n, dtype=torch.float32)).clamp(line.min(), line.max())
        for n, line in ((columns, x), (rows, y))
    )
    found = base.resample(ramps, size)
    # Values up to 128 in float32, through coordinates in [-1, 1] times up to 64 cells.
    torch.testing.assert_close(found[0], expected_x.expand(rows, -1), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1], expected_y[:, None].expand(-1, columns), rtol=0, atol=1e-3)


@pytest.mark.parametrize('scale', SCALES)
def test_joints_at_another_scale_are_found_at_their_place(scale):
    (base, _), (view, size) = large(refinement='parabola'), large(scale)
    joints = np.random.default_rng(4).uniform([24, 24], [100, 70], size=(200, K, 2)).astype(np.float32)
    labels = view.to_cells(torch.from_numpy(joints) * scale)
    maps = view.render(labels, torch.ones(200, K))
    errors = base.decode((base.resample(maps, size), torch.ones(200)))[0] - joints
    edge_to_edge = F.interpolate(maps, size=base.heatmap_size[::-1], mode='bilinear', align_corners=False)
    worse = base.decode((edge_to_edge, torch.ones(200)))[0] - joints
    # At scale 1.5 and 2, before and after the peak are whole cells of the view apart and interpolated alike: the
    # parabola errs by at most f (1 - f) / (2 sigma^2) <= 1 / (8 sigma^2) cells, f the fraction. At 0.5 the peak lies
    # otherwise between the view's cells than its neighbours, which changes the curvature by up to a quarter, at up to
    # half a cell from the joint: 1 / 8 cell on top. Stride 4.
    bound = 4 / (8 * 2**2) + (4 / 8 if scale < 1 else 0)
    assert np.abs(errors).max() <= bound
    # Edge to edge every joint is shifted by (1 - scale) / (2 scale). What is left here is no shift: errors of about 0.3
    # that differ from joint to joint, over 600 joints.
    assert np.abs(worse.mean(axis=(0, 1)) - (1 - scale) / (2 * scale)).max() < 0.05
    assert np.abs(errors.mean(axis=(0, 1))).max() < 0.05
    assert np.abs(errors).mean() < np.abs(worse).mean()


def test_a_view_of_the_same_size_and_one_without_people():
    base, size = large()
    maps = torch.rand(2, K, 24, 32)
    assert base.resample(maps, size) is maps
    assert base.resample(torch.zeros(0, K, 48, 64), (256, 192)).shape == (0, K, 24, 32)
    assert base.resample(torch.rand(K, 48, 64).half(), [256, 192]).dtype == torch.float16


@pytest.mark.parametrize(
    'cells, size, words',
    [
        ((24, 32), (256, 192), '32 x 24 cells.*256 x 192 pixels has 64 x 48'),
        ((48, 64), (128, 96), '64 x 48 cells.*128 x 96 pixels has 32 x 24'),
        ((64, 64), (256, 256), r'\(256, 256\) is not a multiple of \(128, 96\)'),
    ],
)
def test_maps_of_another_size_than_the_view_are_refused(cells, size, words):
    base, _ = large()
    with pytest.raises(ValueError, match=words):
        base.resample(torch.zeros(1, K, *cells), size)
