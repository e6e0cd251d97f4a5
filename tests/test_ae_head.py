"""The AE heads as a full baseline: their losses against Newell et al. (2017), their poses against MMPose's own."""

import math
from pathlib import Path

import mmpose
import numpy as np
import pytest
import torch
from meta_models import build_without_memory
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample
from torch.nn import functional as F

HRNET = Path(__file__).parent.parent / 'configs' / 'ae_hrnet-w32_coco.py'
K, C = 5, 6
FLIP = [0, 2, 1, 4, 3]
CODEC = dict(
    type='TrainableAssociativeEmbedding',
    input_size=(64, 48),
    heatmap_size=(16, 12),
    sigma=1.0,
    decode_keypoint_order=list(range(K)),
    decode_max_instances=4,
)
RESTORED = dict(CODEC, heatmap_size=(64, 48))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(kind='StackedAEHead', **settings):
    layers = dict(in_channels=C, deconv_out_channels=None) if kind != 'StackedAEHead' else {}
    return MODELS.build({**dict(type=kind, num_keypoints=K, decoder=RESTORED), **layers, **settings}).eval()


def sample(people=2, mask=None, codec=CODEC):
    w, h = codec['input_size']
    keypoints = np.random.default_rng(people).uniform(0, 1, (people, K, 2)) * (w - 8, h - 8)
    encoded = KEYPOINT_CODECS.build(codec).encode(keypoints.astype(np.float32))
    data = PoseDataSample(metainfo=dict(img_shape=(h, w), flip_indices=FLIP))
    data.gt_instance_labels = InstanceData(keypoint_indices=torch.from_numpy(encoded['keypoint_indices']))
    data.gt_fields = PixelData(heatmaps=torch.from_numpy(encoded['heatmaps']))
    if mask is not None:
        data.gt_fields.heatmap_mask = mask
    return data


# What is refused.


@pytest.mark.parametrize('kind', ['StackedAEHead', 'TrainableAEHead'])
@pytest.mark.parametrize('order', [[], [0, 1, 2], [0, 1, 2, 3, 3], [0, 1, 2, 3, 5], [1, 2, 3, 4, 5], list(range(17))])
def test_a_grouping_order_that_does_not_fit_is_refused_at_construction(kind, order):
    with pytest.raises(ValueError) as error:
        build(kind, decoder=dict(CODEC, decode_keypoint_order=order))
    for part in (f'decode_keypoint_order={order}', f'num_keypoints={K}', '0 to 4, once'):
        assert part in str(error.value)
    build(kind, decoder=dict(CODEC, decode_keypoint_order=[4, 2, 0, 1, 3]))


# The losses.


def paper_losses(people):
    """Newell et al. (2017), section 3.2, with 2 sigma^2 = 1; ``people`` are lists of tags of their joints.

    (1 / N) sum_n sum_k (mean_n - h_nk)^2 and (1 / N^2) sum_n sum_n' exp(-(mean_n - mean_n')^2).
    """
    means = [sum(tags) / len(tags) for tags in people]
    pull = sum((mean - tag) ** 2 for mean, tags in zip(means, people) for tag in tags)
    push = sum(math.exp(-((a - b) ** 2)) for a in means for b in means)
    return pull / len(people), push / len(people) ** 2


def tag_losses(people, **settings):
    """Pull and push of our head for people whose joints have these tags; None is a joint that is not labelled."""
    head = build(decoder=None, **settings)
    stack, target = torch.zeros(1, 2 * K, 3, 4), torch.zeros(K, 3, 4)
    indices = torch.zeros(len(people), K, 2, dtype=torch.long)
    for n, tags in enumerate(people):
        for k, tag in enumerate(tags):
            if tag is not None:
                cell = 2 * n + k
                indices[n, k] = torch.tensor([cell, 1])
                stack[0, K + k].view(-1)[cell] = tag
    data = PoseDataSample()
    data.gt_instance_labels = InstanceData(keypoint_indices=indices)
    data.gt_fields = PixelData(heatmaps=target)
    losses = head.loss([stack], [data])
    return losses['loss_pull'], losses['loss_push']


def test_pull_and_push_by_hand():
    """Means 2 and 3. Pull: the means over joints of the squares are 1 and (1 + 1 + 4) / 3, their mean is 1.5.

    Push: 0.5 / (2 * 1) * (2 + 2 exp(-1)). The tolerance is that of MMPose's 1e-6 beside its divisors.
    """
    pull, push = tag_losses([[1.0, 3.0, None, None, None], [2.0, 2.0, 5.0, None, None]])
    torch.testing.assert_close(pull.item(), 1.5, rtol=2e-6, atol=0)
    torch.testing.assert_close(push.item(), 0.5 * (1 + math.exp(-1)), rtol=2e-6, atol=0)


def test_where_mmpose_departs_from_the_paper():
    """It takes the mean over a person's joints, not the sum, and halves the push loss's mean over N (N - 1) pairs.

    The N terms of a person with itself, 1 each, are in the sum of both: a constant. One person alone is not pushed at
    all, where the paper counts 1.
    """
    people = np.random.default_rng(0).normal(size=(3, K)).tolist()
    (pull, push), (paper_pull, paper_push) = tag_losses(people), paper_losses(people)
    torch.testing.assert_close(pull.item() * K, paper_pull, rtol=1e-5, atol=0)
    torch.testing.assert_close(push.item() * 2 * (3 * 2) / 3**2, paper_push, rtol=1e-5, atol=0)
    pull, push = tag_losses(people[:1])
    torch.testing.assert_close(pull.item() * K, paper_losses(people[:1])[0], rtol=1e-5, atol=0)
    assert push == 0 and paper_losses(people[:1])[1] == 1


def test_people_without_a_labelled_joint_do_not_count():
    people = [[1.0, 3.0, None, None, None], [2.0, 2.0, 5.0, None, None]]
    both, three = tag_losses(people), tag_losses([people[0], [None] * K, people[1]])
    torch.testing.assert_close(both, three)


def test_weights_of_the_losses():
    people = np.random.default_rng(0).normal(size=(3, K)).tolist()
    pull, push = tag_losses(people)
    weighted = tag_losses(people, tag_loss=dict(type='AssociativeEmbeddingLoss', loss_weight=0.5, push_loss_factor=2.0))
    torch.testing.assert_close(weighted, (0.5 * pull, 0.5 * 2.0 / 0.5 * push))


@pytest.mark.parametrize('others', [[], [1], [2, 3]])
def test_an_image_without_people_has_empty_targets(others):
    head, data = build(), [sample(0), *map(sample, others)]
    stacks = [torch.randn(len(data), 2 * K, 12, 16, requires_grad=True) for _ in range(2)]
    losses = head.loss(stacks, data)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for stack in stacks:
        assert not stack.grad[0, K:].any()
        # The gradient of a mean of squares.
        torch.testing.assert_close(stack.grad[0, :K], 2 * stack.detach()[0, :K] / stack[:, :K].numel())
    if not others:
        assert losses['loss_pull'] == 0 and losses['loss_push'] == 0


def test_a_mask_that_only_one_image_has():
    mask = torch.ones(1, 12, 16, dtype=torch.bool)
    mask[0, :, 4:] = False
    stacks = [torch.randn(2, 2 * K, 12, 16) for _ in range(2)]
    for data in ([sample(2), sample(1, mask)], [sample(1, mask), sample(2)]):
        expected = 0
        for i, one in enumerate(data):
            columns = 4 if 'heatmap_mask' in one.gt_fields else 16
            for stack in stacks:
                error = stack[i, :K, :, :columns] - one.gt_fields.heatmaps[..., :columns]
                expected += error.square().sum() / stack[:, :K].numel()
        torch.testing.assert_close(build().loss(stacks, data)['loss_kpt'], expected)


@pytest.mark.parametrize('container', [list, tuple])
def test_layers_of_its_own_are_supervised_once_on_the_last_map(container):
    head, data = build('TrainableAEHead'), [sample(2), sample(3)]
    features = container([torch.randn(2, C, 12, 16) for _ in range(2)])
    maps = F.conv2d(features[1], head.final_layer.weight, head.final_layer.bias)
    losses, expected = head.loss(features, data), build().loss([maps], data)
    for name in ('loss_kpt', 'loss_pull', 'loss_push'):
        torch.testing.assert_close(losses[name], expected[name])


@pytest.mark.parametrize('name', ['loss_kpt', 'loss_pull', 'loss_push'])
@pytest.mark.parametrize('kind', ['StackedAEHead', 'TrainableAEHead'])
def test_a_step_down_each_loss_lowers_it(kind, name):
    head, data = build(kind), [sample(3)]
    parameter = torch.randn(1, 2 * K if kind == 'StackedAEHead' else C, 12, 16, requires_grad=True)
    parameters = [parameter, *head.parameters()]
    before = head.loss([parameter], data)[name]
    before.backward()
    with torch.no_grad():
        for p in parameters:
            p.sub_(1e-2 * p.grad) if p.grad is not None else None
    assert head.loss([parameter], data)[name] < before


# Poses.


def twin_of(head):
    """MMPose's own head with the same weights."""
    cfg = dict(type='AssociativeEmbeddingHead', in_channels=C, num_keypoints=K, deconv_out_channels=None)
    twin = MODELS.build(dict(cfg, decoder=RESTORED))
    twin.load_state_dict(head.state_dict())
    return twin


def features(*sizes, batch=2):
    """Of each size those of an image and of its mirror image."""
    return [[[torch.rand(batch, C, *size)], [torch.rand(batch, C, *size)]] for size in sizes]


def wide(head):
    """MMPose starts with weights of 0.001; these give people worth grouping."""
    torch.nn.init.normal_(head.final_layer.weight)
    return head


def assert_same(ours, theirs, atol=0.0):
    for mine, other in zip(ours, theirs, strict=True):
        assert set(mine.keys()) == set(other.keys())
        for name, value in mine.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, other.get(name), rtol=0, atol=atol)
            else:
                np.testing.assert_allclose(value, other.get(name), rtol=0, atol=atol)


@pytest.mark.parametrize('container', [list, tuple])
@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('restore', [False, True])
def test_flip_is_mmposes_own(container, shift, restore):
    """Which works for tuples. The same operations in the same order: equal to the last bit."""
    decoder = RESTORED if restore else CODEC
    head = wide(build('TrainableAEHead', decoder=decoder))
    (views,) = features((12, 16))
    test_cfg = dict(flip_test=True, shift_heatmap=shift, restore_heatmap_size=restore, output_heatmaps=True)
    data = [sample(), sample()]
    twin = twin_of(head)
    twin.decoder = head.decoder
    theirs = twin.predict([tuple(view) for view in views], data, test_cfg)
    ours = head.predict([container(view) for view in views], data, test_cfg)
    assert len(ours[0][0].keypoints) > 1
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other)


@pytest.mark.parametrize('container', [list, tuple])
@pytest.mark.parametrize('restore', [False, True])
@pytest.mark.parametrize('kind', ['StackedAEHead', 'TrainableAEHead'])
def test_one_view_is_mmposes_codec_on_the_same_maps(container, restore, kind):
    head = build(kind, decoder=RESTORED if restore else CODEC)
    head = head if kind == 'StackedAEHead' else wide(head)
    feats = container([torch.rand(2, 2 * K if kind == 'StackedAEHead' else C, 12, 16) for _ in range(2)])
    heatmaps, tags = head.forward(feats)
    if restore:
        heatmaps, tags = (F.interpolate(maps, (48, 64), mode='bilinear') for maps in (heatmaps, tags))
    keypoints, scores, instance_scores = head.decoder.batch_decode(heatmaps, tags)
    expected = [
        InstanceData(keypoints=a, keypoint_scores=b, bbox_scores=c)
        for a, b, c in zip(keypoints, scores, instance_scores)
    ]
    poses = head.predict(feats, [sample(), sample()], dict(restore_heatmap_size=restore))
    assert len(poses[0].keypoints) > 1
    assert_same(poses, expected)


def mirrored_back(maps):
    """By the definition, column by column."""
    out = torch.empty_like(maps)
    for k in range(K):
        for x in range(maps.shape[-1]):
            out[:, k, :, x] = maps[:, FLIP[k], :, maps.shape[-1] - 1 - x]
    return out


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('kind', ['StackedAEHead', 'TrainableAEHead'])
def test_several_scales_are_a_loop_over_them(kind, flip, align_corners):
    head = build(kind) if kind == 'StackedAEHead' else wide(build(kind))
    pairs = features((12, 16), (6, 8), (24, 32))
    if kind == 'StackedAEHead':
        pairs = [[[torch.rand(2, 2 * K + 3, *view[0].shape[-2:])] for view in pair] for pair in pairs]
    total, count, tags = 0, 0, []
    for number, pair in enumerate(pairs):
        for mirrored, view in enumerate(pair[: 2 if flip else 1]):
            both = [mirrored_back(maps) if mirrored else maps for maps in head.forward(view)]
            both = [F.interpolate(maps, (48, 64), mode='bilinear', align_corners=align_corners) for maps in both]
            total, count = total + both[0], count + 1
            tags += both[1:] if number == 0 else []
    feats = pairs if flip else [pair[0] for pair in pairs]
    test_cfg = dict(
        flip_test=flip,
        multiscale_test=True,
        restore_heatmap_size=True,
        align_corners=align_corners,
        output_heatmaps=True,
    )
    poses, fields = head.predict(feats, [sample(), sample()], test_cfg)
    for i, (pose, field) in enumerate(zip(poses, fields, strict=True)):
        # Sums of six float32 below about 10, in another order.
        torch.testing.assert_close(field.heatmaps, total[i] / count, rtol=0, atol=1e-5)
        torch.testing.assert_close(field.tags, torch.cat(tags, dim=1)[i], rtol=0, atol=1e-5)
        keypoints, scores, ranking = head.decoder.batch_decode(field.heatmaps[None], field.tags[None])
        expected = InstanceData(keypoints=keypoints[0], keypoint_scores=scores[0], bbox_scores=ranking[0])
        assert_same([pose], [expected])


def test_failures_of_mmposes_own_head():
    """Why this module is there; when one of these fails, its line can go."""
    head = twin_of(build('TrainableAEHead'))
    (pair,), data = features((12, 16)), [sample(), sample()]
    with pytest.raises(AssertionError):
        head.predict(tuple(pair[0]), data)
    with pytest.raises(AssertionError):
        head.predict(pair, data, dict(flip_test=True))
    with pytest.raises(TypeError, match='size'):
        tuples = [[tuple(view) for view in pair]] * 2
        head.predict(tuples, data, dict(flip_test=True, multiscale_test=True))
    *_, fields = head.predict(pair[0], data, dict(restore_heatmap_size=True, output_heatmaps=True))
    assert fields[0].heatmaps.shape[-2:] == (12, 16)  # not restored


# Settings, and one tag for all joints.


@pytest.mark.parametrize('kind', ['StackedAEHead', 'TrainableAEHead'])
def test_unknown_settings_are_refused(kind):
    head = build(kind)
    with pytest.raises(ValueError, match=r"unknown settings \['flip_tets', 'scale'\]; known are .*'flip_test'"):
        head.check_test_settings(dict(flip_tets=True, scale=1, flip_test=True))
    with pytest.raises(ValueError, match="flip_test is 'no'; use True or False"):
        head.check_test_settings(dict(flip_test='no'))
    with pytest.raises(ValueError, match='flip_tets'):
        head.predict([torch.zeros(1, 10, 12, 16)], [sample()], dict(flip_tets=True))
    for settings in (None, {}, dict(flip_test=True), dict(align_corners=True, shift_heatmap=True)):
        head.check_test_settings(settings)


def shared_tag(tag_dim, kind):
    """A head whose joints share their tags, and one that has them K times, on maps that say the same."""
    settings = dict(tag_dim=tag_dim, kind=kind)
    shared, full = build(tag_per_keypoint=False, **settings), build(**settings)
    if kind == 'StackedAEHead':
        small = torch.rand(1, K + tag_dim, 12, 16)
        return (
            shared,
            small,
            full,
            torch.cat([small[:, :K], *[small[:, K + i :][:, [0] * K] for i in range(tag_dim)]], 1),
        )
    rows = [*range(K), *(K + i for i in range(tag_dim) for _ in range(K))]
    wide(shared)
    full.load_state_dict({name: value[rows] for name, value in shared.state_dict().items()})
    small = torch.rand(1, C, 12, 16)
    return shared, small, full, small


@pytest.mark.parametrize('tag_dim', [1, 2])
@pytest.mark.parametrize('kind', ['StackedAEHead', 'TrainableAEHead'])
def test_one_tag_for_all_joints_is_k_equal_ones(tag_dim, kind):
    shared, small, full, large = shared_tag(tag_dim, kind)
    data = [sample(3)]
    ours, expected = shared.loss([small], data), full.loss([large], data)
    assert ours['loss_pull'] > 0
    for name, value in ours.items():
        torch.testing.assert_close(value, expected[name])
    test_cfg = dict(flip_test=True, restore_heatmap_size=True)
    poses = [head.predict([[maps], [maps.flip(-1)]], data, test_cfg) for head, maps in ((shared, small), (full, large))]
    # Convolutions of another number of channels may round differently.
    assert_same(*poses, atol=1e-3)


def test_what_does_not_fit_is_refused():
    head, data = build(), [sample(), sample()]
    maps = torch.rand(2, 2 * K, 12, 16)
    with pytest.raises(ValueError, match='are 10 channels, but the backbone outputs 9; set .*out_channels'):
        head.forward([maps[:, 1:]])
    with pytest.raises(ValueError, match=r'5 heatmaps of \(16, 12\) cells, but the network gives 5 of \(8, 6\)'):
        head.loss([maps[..., ::2, ::2]], data)
    with pytest.raises(ValueError, match='64 x 48 pixels have 16 x 12 cells, but .* for 1 x 1 pixels; use restore'):
        head.predict([maps], data)
    with pytest.raises(ValueError, match='have 64 x 48 cells, but .* for 4 x 4 pixels'):
        build(decoder=CODEC).predict([maps], data, dict(restore_heatmap_size=True))
    higher = PoseDataSample(metainfo=dict(img_shape=(80, 64)))
    with pytest.raises(ValueError, match='64 x 80 pixels have 16 x 12 cells, but .* for 4 x 4 pixels'):
        build(decoder=CODEC).predict([maps], [higher, higher])
    data[1].set_metainfo(dict(img_shape=(64, 64)))
    with pytest.raises(ValueError, match=r'different img_shape \[\(48, 64\), \(64, 64\)\]; test with batch_size=1'):
        head.predict([maps], data, dict(restore_heatmap_size=True))
    data[0].set_metainfo(dict(flip_indices=None))
    with pytest.raises(ValueError, match='no flip_indices'):
        head.predict([[maps], [maps]], data, dict(flip_test=True))


# Whole networks.

HOURGLASS = dict(
    type='HourglassAENet', downsample_times=2, num_stacks=2, out_channels=40, stage_channels=(8,) * 3, feat_channels=8
)


def small_hrnet():
    cfg = Config.fromfile(HRNET).model
    cfg.backbone.init_cfg = None
    for number, stage in enumerate(cfg.backbone.extra.values()):
        stage.num_modules = 1
        stage.num_blocks = (1,) * stage.num_branches
        stage.num_channels = tuple(8 * 2**i for i in range(stage.num_branches)) if number else (8,)
    return cfg.backbone


LAYERS = dict(type='TrainableAEHead', in_channels=8, deconv_out_channels=None)
NETWORKS = {
    'hourglass': (lambda: HOURGLASS, dict(type='StackedAEHead'), 16),
    'hrnet': (small_hrnet, LAYERS, 16),
    'hrnet with deconvolution': (small_hrnet, dict(LAYERS, deconv_out_channels=(8,), deconv_kernel_sizes=(4,)), 32),
}


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('people', [0, 2])
def test_gradients_reach_every_parameter(name, people):
    backbone, head, cells = NETWORKS[name]
    codec = dict(CODEC, input_size=(64, 64), heatmap_size=(cells, cells))
    head = dict(head, num_keypoints=K, decoder=dict(codec, heatmap_size=(64, 64)))
    test_cfg = dict(flip_test=True, restore_heatmap_size=True)
    cfg = dict(type='FreezableBottomupPoseEstimator', backbone=backbone(), head=head, test_cfg=test_cfg)
    model = MODELS.build(cfg).train()
    losses = model.loss(torch.randn(2, 3, 64, 64), [sample(people, codec=codec), sample(0, codec=codec)])
    sum(losses.values()).backward()
    assert set(losses) == {'loss_kpt', 'loss_pull', 'loss_push'}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert not [name for name, p in model.head.named_parameters() if not p.grad.any()]

    data = sample(people, codec=codec)
    data.set_metainfo(dict(input_size=(64, 64), input_scale=np.array([64, 64]), input_center=np.array([32, 32])))
    (result,) = model.eval().predict(torch.randn(1, 3, 64, 64), [data])
    assert result.pred_instances.keypoints.shape[1:] == (K, 2)


def test_the_hrnet_config_is_mmposes():
    folder = Path(mmpose.__file__).parent / '.mim/configs/body_2d_keypoint/associative_embedding/coco'
    original = Config.fromfile(folder / 'ae_hrnet-w32_8xb24-300e_coco-512x512.py')
    ours = Config.fromfile(HRNET)
    assert ours.model.backbone == original.model.backbone
    for name in ('optim_wrapper', 'param_scheduler', 'auto_scale_lr'):
        assert ours[name] == original[name]
    assert ours.train_cfg.max_epochs == original.train_cfg.max_epochs
    assert ours.train_dataloader.batch_size == original.train_dataloader.batch_size
    for name in ('in_channels', 'deconv_out_channels', 'tag_loss', 'num_keypoints'):
        assert ours.model.head[name] == original.model.head[name]
    heads = [build_without_memory(cfg.model).head for cfg in (ours, original)]
    shapes = [{name: value.shape for name, value in head.state_dict().items()} for head in heads]
    assert shapes[0] == shapes[1]
    for name in ('sigma', 'input_size', 'decode_topk', 'decode_max_instances', 'decode_keypoint_order'):
        assert getattr(heads[0].decoder, name) == getattr(heads[1].decoder, name)
