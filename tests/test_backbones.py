"""The decoder on MMPose's backbones: every config at full size without memory, and one step on small images."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from meta_models import build_without_memory, feature_shape
from mmengine.config import Config
from mmpose.datasets.transforms import PackPoseInputs
from mmpose.models.backbones.swin import PatchMerging
from mmpose.registry import KEYPOINT_CODECS, MODELS

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / 'configs').glob('rnnpose_*_coco.py'))
NAMES = [path.stem for path in PATHS]
SMALL = [name for name in NAMES if name != 'rnnpose_hg_coco']  # the hourglass has 139 million parameters, and own tests
ADDRESSES = (
    'https://download.openmmlab.com/',
    'https://github.com/SwinTransformer/',
    'torchvision://',
    'work_dirs/ae_',
)


def read(name):
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def small(name, side=64, stride=4):
    cfg = read(name).model
    cfg.backbone.init_cfg = None
    cfg.head.decoder.update(input_size=(side, side), heatmap_size=(side // stride, side // stride))
    cfg.head.max_instances = 2
    return cfg


def batch(codec, people=2):
    """What the data loader gives for one image."""
    side = codec.input_size[0]
    random = np.random.default_rng(0)
    keypoints = random.uniform(4, side - 4, (people, 17, 2)).astype(np.float32)
    results = dict(
        img=random.integers(0, 255, (side, side, 3), dtype=np.uint8),
        img_shape=(side, side),
        input_size=(side, side),
        input_center=np.full(2, side / 2),
        input_scale=np.full(2, side),
        flip_indices=list(range(17)),
        **codec.encode(keypoints),
        label_mapping_table=codec.label_mapping_table,
    )
    meta_keys = ('img_shape', 'input_size', 'input_center', 'input_scale', 'flip_indices')
    packed = PackPoseInputs(meta_keys=meta_keys)(results)
    return dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])


@pytest.mark.parametrize('name', NAMES)
def test_head_and_codec_fit_the_neck_at_full_size(name):
    cfg = read(name)
    head = cfg.model.head
    channels, height, width = feature_shape(cfg.model)
    assert channels == head.in_channels
    assert (width, height) == tuple(head.decoder.heatmap_size)
    assert tuple(side // 4 for side in head.decoder.input_size) == (width, height)
    assert tuple(head.decoder.input_size) == tuple(cfg.train_dataloader.dataset.pipeline[1].input_size) == (512, 512)
    mask = cfg.train_dataloader.dataset.pipeline[-2]
    assert mask.type == 'InstanceHeatmapMask' and mask.heatmap_size == head.decoder.heatmap_size
    # The paper's rule, (68, 34, 17) of 136, where it leaves a layer at least the K = 17 maps that it draws.
    halves = tuple(channels // 2**i for i in (1, 2, 3))
    # Our decoder, which has a context, has layers of its own.
    assert halves[-1] < 17 or (head.get('context', 'none') == 'none') is (tuple(head.hidden_channels) == halves)
    assert head.hidden_channels[-1] == 17


# rnnpose_hg34_coco.py starts from published weights, see tools/convert_checkpoint.py.
@pytest.mark.parametrize('name', [name for name in NAMES if name != 'rnnpose_hg34_coco'])
def test_weights_come_from_an_ae_network_that_is_frozen_or_from_imagenet(name):
    model = read(name).model
    checkpoint = model.backbone.init_cfg.checkpoint
    assert checkpoint.startswith(ADDRESSES)
    assert checkpoint.startswith('work_dirs/ae_') is model.freeze_backbone
    if model.freeze_backbone:
        ae = Config.fromfile(ROOT / 'configs' / f'{checkpoint.split("/")[1]}.py')
        assert checkpoint.endswith(f'/epoch_{ae.train_cfg.max_epochs}.pth')
        shapes = [
            {key: value.shape for key, value in build_without_memory(cfg).backbone.state_dict().items()}
            for cfg in (ae.model, model)
        ]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize('name', SMALL)
def test_one_step_of_training_and_a_prediction(name):
    torch.manual_seed(0)
    cfg = small(name)
    model = MODELS.build(cfg)
    model.init_weights()
    model.train()
    model.head.chunk_size = 1  # two chunks
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = batch(model.head.decoder)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    loss, parts = model.parse_losses(model.loss(**model.data_preprocessor(data, training=True)))
    loss.backward()
    assert loss.isfinite() and {'heatmap', 'stop'} <= set(parts)
    idle = {key for key, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    # A process group of several GPUs has to know of parameters that nothing is asked of.
    assert bool(idle) is read(name).get('find_unused_parameters', False)
    assert not idle or {key.rsplit('.', 2)[0] for key in idle} == {f'neck.fpn_convs.{level}' for level in (1, 2, 3)}
    optimizer.step()

    after = model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert any(key.startswith('head.first_lstm') for key in changed)
    assert any(key.startswith('backbone') for key in changed) is not cfg.freeze_backbone
    assert cfg.neck.type == 'StackedFeatures' or any(key.startswith('neck.fpn_convs.0') for key in changed)
    assert not [key for key in changed if 'backbone' in key and 'running' in key]

    model.head.first_lstm.to_stop.bias.data.fill_(4.0)  # so that an untrained decoder finds people
    with torch.no_grad():
        (result,) = model.eval().test_step(data)
    assert result.pred_instances.keypoints.shape == (2, 17, 2)
    assert np.isfinite(result.pred_instances.keypoints).all()


# What does not fit.


@pytest.fixture(scope='module')
def pyramid():
    """A small ResNet with an FPN of 24 channels, whose parts a test may replace."""
    cfg = small('rnnpose_res50_coco')
    cfg.backbone.update(depth=18, base_channels=8, stem_channels=8)
    cfg.neck.update(in_channels=[8, 16, 32, 64], out_channels=24)
    cfg.head.update(in_channels=24, hidden_channels=(4,))
    return cfg


def both_ways(cfg):
    """Loss and prediction of a model, each as a function."""
    model = MODELS.build(cfg)
    data = batch(KEYPOINT_CODECS.build(dict(cfg.head.decoder, heatmap_size=(16, 16))))
    inputs = model.data_preprocessor(data)
    return (lambda: model.train().loss(**inputs)), (lambda: model.eval().predict(**inputs))


def changed(cfg, **parts):
    cfg = copy.deepcopy(cfg)
    for name, settings in parts.items():
        cfg[name].update(settings)
    return cfg


def test_the_small_pyramid_itself_fits(pyramid):
    loss, predict = both_ways(pyramid)
    assert loss()['loss'].isfinite() and predict()


def test_another_number_of_channels_than_the_heads(pyramid):
    for run in both_ways(changed(pyramid, head=dict(in_channels=136))):
        with pytest.raises(ValueError, match='built for in_channels=136, but the neck gives 24 channels; set the head'):
            run()


def test_another_stride_than_the_codecs(pyramid):
    """A pyramid that begins at stride 8."""
    later = changed(pyramid, backbone=dict(out_indices=(1, 2, 3)), neck=dict(in_channels=[16, 32, 64], num_outs=3))
    loss, predict = both_ways(later)
    with pytest.raises(
        ValueError, match=r'draws heatmaps of \(16, 16\) cells, but the features have \(8, 8\); set the'
    ):
        loss()
    words = r'a cell for 4 pixels, but the features of an image of \(64, 64\) pixels have \(8, 8\) cells; set the codec'
    with pytest.raises(ValueError, match=words):
        predict()
    fitting = changed(later, head=dict(decoder=dict(later.head.decoder, heatmap_size=(8, 8))))
    loss, predict = both_ways(fitting)
    assert loss()['loss'].isfinite() and predict()


# Swin's weights.

SWIN = dict(
    type='LoadableSwinTransformer', embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 4, 8], convert_weights=True
)  # fmt: skip
NAMES_OF_THE_RELEASE = [
    ('stages', 'layers'),
    ('attn.w_msa', 'attn'),
    ('ffn.layers.0.0', 'mlp.fc1'),
    ('ffn.layers.1', 'mlp.fc2'),
    ('embed.projection', 'embed.proj'),
]


def as_released(model):
    """The original release's file: its names, its order of the four neighbours that are merged, its further entries."""
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith('norm'):
            continue
        if 'downsample.reduction' in name or 'downsample.norm' in name:
            # Here channel by channel (top left, top right, bottom left, bottom right); there four blocks of all
            # channels, column by column.
            blocks = value.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]]
            value = blocks.transpose(-1, -2).flatten(-2)
        for ours, theirs in NAMES_OF_THE_RELEASE:
            name = name.replace(ours, theirs)
        weights[name] = value
    others = {
        'head.weight': torch.zeros(3, 64),
        'norm.bias': torch.ones(64),
        'layers.1.blocks.1.attn_mask': torch.ones(4),
    }
    return dict(model=dict(weights, **others))


def test_weights_of_swins_release_arrive(tmp_path):
    """MMPose's own loads none of them and says so in the log only."""
    torch.manual_seed(0)
    source = MODELS.build(SWIN)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    for number in range(4):  # MMPose's own, which the release does not have
        getattr(source, f'norm{number}').reset_parameters()
    path = tmp_path / 'swin.pth'
    torch.save(as_released(source), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    loaded = MODELS.build(dict(SWIN, init_cfg=init_cfg))
    loaded.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name

    original = MODELS.build(dict(SWIN, type='SwinTransformer', init_cfg=init_cfg))
    before = {name: value.clone() for name, value in original.state_dict().items()}
    original.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())


def test_swins_order_of_neighbours():
    """The release joins pixels (0, 0), (1, 0), (0, 1), (1, 1), row first, as blocks of all channels."""
    torch.manual_seed(0)
    merging = PatchMerging(3, 6)
    torch.nn.init.normal_(merging.reduction.weight)
    torch.nn.init.normal_(merging.norm.weight)
    source = torch.nn.Module()
    source.downsample = merging
    released = as_released(source)['model']
    x = torch.randn(1, 4, 6, 3)
    joined = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1).flatten(1, 2)
    normed = torch.nn.functional.layer_norm(
        joined, (12,), released['downsample.norm.weight'], released['downsample.norm.bias']
    )
    expected = normed @ released['downsample.reduction.weight'].T
    torch.testing.assert_close(merging(x.flatten(1, 2), (4, 6))[0], expected)


def test_a_swin_of_another_kind_is_refused(tmp_path):
    path = tmp_path / 'swin.pth'
    source = MODELS.build(SWIN)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    torch.save(as_released(source), path)
    deeper = MODELS.build(dict(SWIN, depths=[1, 2, 2, 1], init_cfg=init_cfg))
    with pytest.raises(ValueError, match=r'lacks \d+ weights of this Swin, such as stages.2.blocks.1'):
        deeper.init_weights()
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in source.state_dict().items()}), path)
    with pytest.raises(ValueError, match='convert_weights=True for files of the original release and False for MMPose'):
        MODELS.build(dict(SWIN, init_cfg=init_cfg)).init_weights()
    trained = MODELS.build(dict(SWIN, convert_weights=False, init_cfg=init_cfg))
    trained.init_weights()
    assert all(torch.equal(value, source.state_dict()[k]) for k, value in trained.state_dict().items())
    torch.manual_seed(1)
    MODELS.build(SWIN).init_weights()  # without a file, as offline
