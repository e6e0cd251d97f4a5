"""What the estimator refuses before anything runs, beside its frozen backbone (test_ae_parts.py)."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

K = 3
BACKBONE = dict(
    type='HourglassAENet',
    downsample_times=2,
    num_stacks=1,
    out_channels=8,
    stage_channels=(8, 8, 8),
    feat_channels=8,
)
RECURRENT = dict(
    type='RecurrentPoseHead',
    in_channels=8,
    num_keypoints=K,
    hidden_channels=(4,),
    decoder=dict(type='InstanceHeatmap', input_size=(64, 64), heatmap_size=(16, 16)),
)
EMBEDDING = dict(
    type='StackedAEHead',
    num_keypoints=K,
    decoder=dict(
        type='TrainableAssociativeEmbedding',
        input_size=(64, 64),
        heatmap_size=(64, 64),
        decode_keypoint_order=[0, 1, 2],
        decode_max_instances=5,
    ),
)


def build(head=EMBEDDING, **settings):
    torch.manual_seed(0)
    return MODELS.build(dict(type='FreezableBottomupPoseEstimator', backbone=BACKBONE, head=head, **settings)).eval()


def sample(**metainfo):
    size = dict(img_shape=(64, 64), input_size=(64, 64), input_scale=np.ones(2), input_center=np.ones(2))
    return PoseDataSample(metainfo=dict(size, **metainfo))


def images(*sizes):
    return [torch.zeros(1, 3, size, size) for size in sizes]


def test_misspelt_test_settings_are_refused_when_the_model_is_built():
    with pytest.raises(ValueError, match='flip_tets'):
        build(RECURRENT, test_cfg=dict(flip_tets=True))
    with pytest.raises(ValueError, match='flip_tets'):
        build(EMBEDDING, test_cfg=dict(flip_tets=True))
    for test_cfg in (None, {}, dict(flip_test=False), dict(output_heatmaps=True)):
        build(RECURRENT, test_cfg=test_cfg)
        build(EMBEDDING, test_cfg=test_cfg)


def test_heads_without_such_a_check_are_built():
    build(dict(type='AssociativeEmbeddingHead', in_channels=8, num_keypoints=K), test_cfg=dict(of_another_kind=1))


def test_one_size_passes():
    (result,) = build(test_cfg=dict(restore_heatmap_size=True)).predict(*images(64), [sample()])
    assert result.pred_instances.keypoints.shape[1:] == (K, 2)


def test_several_sizes_pass_with_their_scales():
    model = build(test_cfg=dict(multiscale_test=True, restore_heatmap_size=True))
    (result,) = model.predict(images(64, 32, 128), [sample(aug_scales=[0.5, 2.0])])
    assert result.pred_instances.keypoints.shape[1:] == (K, 2)


@pytest.mark.parametrize('metainfo', [dict(), dict(aug_scales=None), dict(aug_scales=(0.5,))])
def test_several_sizes_without_their_scales_are_refused(metainfo):
    given = re.escape(str(metainfo.get('aug_scales')))
    for inputs in (images(64, 32), *images(64)):
        with pytest.raises(
            ValueError, match=rf"aug_scales={given}; set aug_scales=.* add 'aug_scales' to the meta_keys"
        ):
            build(test_cfg=dict(multiscale_test=True)).predict(inputs, [sample(**metainfo)])


@pytest.mark.parametrize('inputs, came', [(torch.zeros(2, 3, 64, 64), 1), (images(64), 1), (images(64, 32, 16), 3)])
def test_another_number_of_sizes_than_of_scales_is_refused(inputs, came):
    with pytest.raises(ValueError, match=rf'aug_scales=\[0.5\] needs 2 sizes of an image, but {came} came'):
        build(test_cfg=dict(multiscale_test=True)).predict(inputs, [sample(aug_scales=[0.5])])


@pytest.mark.parametrize('test_cfg', [None, dict(multiscale_test=False)])
def test_several_sizes_without_multi_scale_are_refused(test_cfg):
    with pytest.raises(ValueError, match=r'gives 2 sizes .*aug_scales=\[0.5\].*multiscale_test=True in .* or remove'):
        build(test_cfg=test_cfg).predict(images(64, 32), [sample(aug_scales=[0.5])])


@torch.no_grad()
@pytest.mark.parametrize(
    'head, settings',
    [(dict(RECURRENT, max_instances=2), {}), (EMBEDDING, dict(restore_heatmap_size=True))],
    ids=['decoder', 'AE'],
)
def test_reduced_precision_is_used_and_changes_little(head, settings):
    settings = dict(settings, output_heatmaps=True)
    image, found = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), {}
    for precision in ('float32', 'bfloat16'):
        model, seen = build(head, precision=precision, test_cfg=settings), []
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.dtype))
        (result,) = model.predict(image, [sample()])
        assert set(seen) == {getattr(torch, precision)}
        found[precision] = torch.as_tensor(result.pred_fields.heatmaps)
        assert found[precision].dtype == torch.float32
    exact, reduced = found.values()
    assert 0 < (exact - reduced).abs().max() < 0.05 * exact.abs().max()  # bfloat16 has 8 bits: 0.4 % an operation


def test_meaningless_settings_are_refused():
    with pytest.raises(ValueError, match="precision is 'half'; use one of"):
        build(precision='half')
    with pytest.raises(ValueError, match="freeze_backbone is 'no'; use True or False"):
        build(freeze_backbone='no')
