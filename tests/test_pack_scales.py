"""The model gets each scale of an image as if it were alone, and AE averages its heatmaps over the scales."""

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmpose.registry import MODELS, TRANSFORMS
from mmpose.structures import PoseDataSample

from rnnpose_plugin.datasets import PackPoseScales
from rnnpose_plugin.models import PoseScalesPreprocessor, StackedAEHead

STEP = dict(type='BottomupResize', input_size=(64, 64))
NORMALISE = dict(mean=[10.0, 20.0, 30.0], std=[2.0, 3.0, 4.0], bgr_to_rgb=True)
SIZES = ((64, 64), (32, 32), (128, 128))


def sample(number, pack, **resize):
    """An image of 48 x 40 px through resize and pack."""
    image = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    results = dict(img=image, ori_shape=image.shape[:2], img_id=number)
    for step in (dict(STEP, **resize), dict(type=pack, meta_keys=('img_id', 'img_shape', 'aug_scales'))):
        results = TRANSFORMS.build(step)(results)
    return results


def batch(pack, **resize):
    return pseudo_collate([sample(number, pack, **resize) for number in range(2)])


def test_several_scales():
    result = PoseScalesPreprocessor(**NORMALISE)(batch('PackPoseScales', aug_scales=[0.5, 2]))
    assert [part.shape for part in result['inputs']] == [(2, 3, *size) for size in SIZES]
    for size, part in zip(SIZES, result['inputs']):
        alone = batch('PackPoseInputs', input_size=size)
        expected = MODELS.build(dict(type='PoseDataPreprocessor', **NORMALISE))(alone)['inputs']
        assert torch.equal(part, expected)
    first, second = result['data_samples']
    assert (first.img_id, second.img_id) == (0, 1) and first.aug_scales == [0.5, 2]
    assert first.img_shape == first.batch_input_shape == first.pad_shape == (64, 64)


@pytest.mark.parametrize('training', [False, True])
def test_one_scale_is_packed_as_by_mmpose(training):
    ours = PoseScalesPreprocessor(**NORMALISE)(batch('PackPoseScales'), training)
    theirs = MODELS.build(dict(type='PoseDataPreprocessor', **NORMALISE))(batch('PackPoseInputs'), training)
    assert torch.equal(ours['inputs'], theirs['inputs'])


def test_a_stacked_batch_is_accepted():
    inputs = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).view(2, 3, 8, 8)
    data = dict(inputs=inputs, data_samples=batch('PackPoseInputs')['data_samples'])
    assert PoseScalesPreprocessor(**NORMALISE)(data)['inputs'].shape == (2, 3, 8, 8)


def test_mmpose_cannot_pack_several_scales():
    """The reason for this module; when this test fails, remove both."""
    with pytest.raises(RuntimeError, match='equal size'):
        sample(0, 'PackPoseInputs', aug_scales=[0.5])
    assert isinstance(TRANSFORMS.build(dict(type='PackPoseScales')), PackPoseScales)


K, FLIP = 3, [1, 0, 2]


class Maps(StackedAEHead):
    """Returns the maps instead of poses."""

    def decode(self, batch_outputs):
        return batch_outputs


def predict(feats, **test_cfg):
    sample = PoseDataSample(metainfo=dict(img_shape=(16, 24), flip_indices=FLIP))
    return Maps(num_keypoints=K).predict(feats, [sample], test_cfg)


def stack(*size):
    return [torch.rand(1, 2 * K, *size)]


@pytest.mark.parametrize('restore', [False, True])
@pytest.mark.parametrize('shift', [False, True])
def test_ae_at_one_scale_equals_mmpose(restore, shift):
    """The reference at one scale is MMPose's own flip test; without flip it is StackedAEHead."""
    settings = dict(restore_heatmap_size=restore, shift_heatmap=shift)
    views = [stack(4, 6), stack(4, 6)]
    for feats, flip_test in ((views, True), (views[0], False)):
        given = dict(settings, flip_test=flip_test)
        for ours, theirs in zip(predict([feats], multiscale_test=True, **given), predict(feats, **given)):
            assert ours.shape[-2:] == ((16, 24) if restore else (4, 6))
            # The same sums of two float32 values below 1.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_ae_averages_heatmaps_over_scales_and_keeps_the_tags_of_the_main_scale():
    """Constant maps are invariant to resizing and mirroring: 1 and 3 at the main scale, 5 and 11 at the other."""
    feats = [[[torch.full((1, 2 * K, *size), value)] for value in values]
             for size, values in (((4, 6), (1.0, 3.0)), ((2, 3), (5.0, 11.0)))]  # fmt: skip
    heatmaps, tags = predict(feats, flip_test=True, multiscale_test=True)
    assert torch.equal(heatmaps, torch.full((1, K, 4, 6), 5.0))
    assert tags.shape == (1, 2 * K, 4, 6) and torch.equal(tags.unique(), torch.tensor([1.0, 3.0]))
    heatmaps, tags = predict([feats[0][0], feats[1][0]], multiscale_test=True)
    assert torch.equal(heatmaps, torch.full((1, K, 4, 6), 3.0)) and torch.equal(tags, torch.ones(1, K, 4, 6))
