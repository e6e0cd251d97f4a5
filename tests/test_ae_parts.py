"""The repaired AE parts: trains on every stack, predicts with lists and tuples; the frozen backbone; the tag slope."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.codecs import AssociativeEmbedding
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample
from torch.nn import functional as F

K = 17
CODEC = dict(
    type='TrainableAssociativeEmbedding',
    input_size=(64, 64),
    heatmap_size=(16, 16),
    sigma=1.0,
    decode_keypoint_order=list(range(K)),
    decode_max_instances=5,
)
BACKBONE = dict(
    type='HourglassAENet',
    downsample_times=2,
    num_stacks=2,
    out_channels=40,
    stage_channels=(16, 16, 16),
    feat_channels=16,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build_head(**settings):
    decoder = dict(CODEC, heatmap_size=(64, 64))
    return MODELS.build(dict(dict(type='StackedAEHead', num_keypoints=K, decoder=decoder), **settings))


def sample(people, mask=None):
    keypoints = np.random.default_rng(people).uniform(0, 60, (people, K, 2)).astype(np.float32)
    encoded = KEYPOINT_CODECS.build(CODEC).encode(keypoints)
    data = PoseDataSample()
    data.gt_instance_labels = InstanceData(keypoint_indices=torch.from_numpy(encoded['keypoint_indices']))
    data.gt_fields = PixelData(heatmaps=torch.from_numpy(encoded['heatmaps']))
    if mask is not None:
        data.gt_fields.heatmap_mask = mask
    data.set_metainfo(dict(img_shape=(64, 64), flip_indices=list(range(K))))
    return data


def test_the_codec_sends_its_labels_on():
    codec = KEYPOINT_CODECS.build(CODEC)
    assert 'keypoint_indices' in codec.label_mapping_table and isinstance(codec, AssociativeEmbedding)


def newell(tags, indices):
    """Pull and push of Newell et al. (2017) with MMPose's normalisation, in loops over numbers."""
    means, pull = [], 0.0
    for person in indices:
        values = [tags[k].flatten()[i] for k, (i, v) in enumerate(person.tolist()) if v]
        means.append(sum(values) / len(values))
        pull += sum((value - means[-1]) ** 2 for value in values) / len(values)
    push = sum(torch.exp(-((a - b) ** 2)) for a in means for b in means)
    return pull / len(means), 0.5 * push / (len(means) * (len(means) - 1))


def test_every_stack_is_supervised():
    head, stacks, data = build_head(), [torch.randn(1, 40, 16, 16) for _ in range(2)], sample(3)
    losses = head.loss(stacks, [data])
    expected = dict(loss_kpt=0, loss_pull=0, loss_push=0)
    for stack in stacks:
        expected['loss_kpt'] += F.mse_loss(stack[0, :K], data.gt_fields.heatmaps)
        pull, push = newell(stack[0, K : 2 * K], data.gt_instance_labels.keypoint_indices)
        expected['loss_pull'] += pull
        expected['loss_push'] += push
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)


def test_masked_cells_are_not_supervised():
    head, stack = build_head(), torch.randn(2, 40, 16, 16)
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    mask[0, :8] = False
    data = [sample(2, mask), sample(1, mask)]
    target = torch.stack([d.gt_fields.heatmaps for d in data])
    expected = (stack[:, :K, 8:] - target[:, :, 8:]).square().sum() / target.numel()
    torch.testing.assert_close(head.loss([stack], data)['loss_kpt'], expected)


@pytest.mark.parametrize('container', [list, tuple])
@pytest.mark.parametrize('flip', [False, True])
def test_predict_takes_lists_and_tuples_with_and_without_flip(container, flip):
    head, data = build_head().eval(), sample(2)
    stack = torch.zeros(1, 40, 16, 16)
    stack[0, :K] = data.gt_fields.heatmaps + 1e-2 * torch.rand(K, 16, 16)  # no ties for the refinement to break
    stacks = container([torch.randn(1, 40, 16, 16), stack])
    feats = [stacks, container([s.flip(-1) for s in stacks])] if flip else stacks
    test_cfg = dict(flip_test=flip, restore_heatmap_size=True, output_heatmaps=True)
    (pose,), (field,) = head.predict(feats, [data], test_cfg)
    assert field.heatmaps.shape == (K, 64, 64)
    maps = F.interpolate(stack, (64, 64), mode='bilinear', align_corners=False)
    tags = maps[:, K : 2 * K].repeat(1, 2 if flip else 1, 1, 1)
    expected, _, _ = head.decoder.batch_decode(maps[:, :K], tags)
    np.testing.assert_allclose(pose.keypoints, expected[0], atol=1e-4)


def estimator(frozen):
    head = dict(
        type='RecurrentPoseHead',
        in_channels=46,
        num_keypoints=K,
        hidden_channels=(4,),
        decoder=dict(type='InstanceHeatmap', input_size=(64, 64), heatmap_size=(16, 16)),
    )
    neck = dict(type='StackedFeatures', in_channels=[40, 40], channels=(17, 40))
    cfg = dict(type='FreezableBottomupPoseEstimator', freeze_backbone=frozen, backbone=BACKBONE, neck=neck, head=head)
    return MODELS.build(cfg)


def test_a_frozen_backbone_does_not_change_and_an_unfrozen_one_does():
    labels = InstanceData(keypoint_labels=torch.rand(2, K, 2) * 15, keypoint_weights=torch.ones(2, K))
    data = PoseDataSample()
    data.gt_instance_labels = labels
    for frozen in (True, False):
        model = estimator(frozen).train()
        before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
        model.loss(torch.randn(1, 3, 64, 64), [data])['loss'].backward()
        torch.optim.SGD([p for p in model.parameters() if p.grad is not None], lr=0.1).step()
        after = model.backbone.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        # The first stack's last channels are used, so everything before them moves; statistics move with any forward.
        assert bool(changed) is (not frozen)
        assert all(p.requires_grad is (not frozen) for p in model.backbone.parameters())
        assert model.head.training and model.backbone.training is (not frozen)


def test_frozen_and_unfrozen_give_the_same_features():
    frozen, unfrozen = estimator(True).eval(), estimator(False).eval()
    unfrozen.load_state_dict(frozen.state_dict())
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(frozen.extract_feat(image)[0], unfrozen.extract_feat(image)[0])


def test_the_slope_is_on_the_tags_alone():
    torch.manual_seed(0)
    flat, steep = (
        MODELS.build(dict(BACKBONE, type='CrowdHourglassAENet', position_scale=scale)) for scale in (0.0, 6.0)
    )
    steep.load_state_dict(flat.state_dict())
    flat.eval(), steep.eval()  # MMPose's backbones return None here
    image = torch.randn(1, 3, 64, 64)
    for level, tilted in zip(flat(image), steep(image)):
        slope = tilted - level
        assert not slope[:, :17].any() and not slope[:, 34:].any()
        torch.testing.assert_close(slope[0, 20, :, -1] - slope[0, 20, :, 0], torch.full((16,), 6.0))
        torch.testing.assert_close(slope[0, 33, -1] - slope[0, 33, 0], torch.full((16,), 3.0))
