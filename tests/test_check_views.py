"""Requirements of flip and multi-scale testing on the pipelines: configs that pass, and each possible fault."""

from __future__ import annotations

from pathlib import Path

import mmpose
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.datasets.transforms import BottomupResize, PackPoseInputs
from mmpose.registry import MODELS

from rnnpose_plugin.runtime.check_data import leaf_datasets
from rnnpose_plugin.runtime.check_views import check_test_time_views, check_training_maps, paths_to_model
from rnnpose_plugin.runtime.checks import check_config

ROOT = Path(__file__).parent.parent
MMPOSE = Path(mmpose.__file__).parent / '.mim' / 'configs' / 'body_2d_keypoint'
OURS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if path.parent.name != '_base_')
THEIRS = sorted(path for method in ('associative_embedding', 'cid', 'dekr') for path in MMPOSE.glob(method + '/*/*.py'))


def resize(**settings):
    return dict(type='BottomupResize', input_size=(64, 64), **settings)


def pack(*keys, kind='PackPoseInputs'):
    return dict(type=kind, meta_keys=('img_id', 'input_size', *keys))


def pack_scales(*keys):
    return pack('aug_scales', *keys, kind='PackPoseScales')


def dataset(*pipeline, **settings):
    return dict(type='CocoDataset', data_mode='bottomup', ann_file='absent.json', pipeline=list(pipeline), **settings)


def config(data, test_cfg, model='FreezableBottomupPoseEstimator', loader='val'):
    model = dict(type=model, head=dict(num_keypoints=17), test_cfg=test_cfg)
    return Config({'model': model, f'{loader}_dataloader': dict(dataset=data)})


def check(*pipeline, **test_cfg):
    check_test_time_views(config(dataset(*pipeline), test_cfg))


def nine_joints(*swaps):
    """Metainfo of the nine joints of a body whose left and right ones are each other's swap, or have none."""
    names = ['head', *(f'{side}_{joint}' for joint in ('hand', 'hip', 'knee', 'foot') for side in ('left', 'right'))]
    other = {f'{a}_{joint}': f'{b}_{joint}' for joint in swaps for a, b in (('left', 'right'), ('right', 'left'))}
    joints = {i: dict(name=name, id=i, swap=other.get(name, '')) for i, name in enumerate(names)}
    ones = [1.0] * 9
    return dict(dataset_name='nine', keypoint_info=joints, skeleton_info={}, joint_weights=ones, sigmas=ones)


@pytest.mark.parametrize('path', OURS + THEIRS, ids=lambda path: path.stem)
@pytest.mark.parametrize('flip', [False, True])
def test_mmposes_configs_and_ours_pass(path, flip):
    cfg = Config.fromfile(path)
    cfg.model.test_cfg = dict(cfg.model.get('test_cfg') or {}, flip_test=flip)
    assert cfg.model.type in ('BottomupPoseEstimator', 'FreezableBottomupPoseEstimator')
    assert any(cfg.get(f'{name}_dataloader') for name in ('val', 'test'))
    with DefaultScope.overwrite_default_scope('mmengine'):  # what an earlier Runner may have left
        check_test_time_views(cfg)


def test_default_meta_keys_have_flip_indices():
    check(resize(), dict(type='PackPoseInputs'), flip_test=True)
    check(resize(), dict(type='mmpose.PackPoseInputs'), flip_test=True)
    check(resize(), dict(type=PackPoseInputs), flip_test=True)


@pytest.mark.parametrize('last', [pack(), dict(type='mmpose.PackPoseInputs', meta_keys=['input_size'])])
def test_flip_without_flip_indices(last):
    words = r"flip_test=True needs 'flip_indices' .* val_dataloader \(absent.json\) has meta_keys=\[.*add 'flip_ind"
    with pytest.raises(ValueError, match=words):
        check(resize(), pack('flip_indices'), last, flip_test=True)
    check(resize(), last, flip_test=False)
    check(resize(), last)


def test_flip_without_any_packing():
    with pytest.raises(ValueError, match="'flip_indices' of every image, but .* has no PackPoseInputs"):
        check(resize(), flip_test=True)


def test_flip_indices_of_another_number_of_keypoints():
    cfg = config(dataset(pack('flip_indices')), dict(flip_test=True))
    cfg.model.head.num_keypoints = 14
    with pytest.raises(ValueError, match='each of 14 keypoints, but the metainfo of .*absent.json.* has 17'):
        check_test_time_views(cfg)
    del cfg.model.head.num_keypoints
    check_test_time_views(cfg)
    del cfg.model.head
    check_test_time_views(cfg)


def test_flip_indices_without_pairs():
    def check_joints(*swaps):
        cfg = config(dataset(pack('flip_indices'), metainfo=nine_joints(*swaps)), dict(flip_test=True))
        cfg.model.head.num_keypoints = 9
        check_test_time_views(cfg)

    with pytest.raises(ValueError, match='no pairs for left_hand, right_hand, .*give each its swap'):
        check_joints()
    check_joints('hand', 'hip', 'knee', 'foot')


def test_joints_without_sides_need_no_pairs():
    info = nine_joints()
    for number, joint in info['keypoint_info'].items():
        joint['name'] = f'tail_{number}'
    cfg = config(dataset(pack('flip_indices'), metainfo=info), dict(flip_test=True))
    cfg.model.head.num_keypoints = 9
    check_test_time_views(cfg)


def test_multi_scale_passes_with_scales_and_their_key():
    check(resize(aug_scales=[0.5, 2.0]), pack_scales(), multiscale_test=True)
    check(resize(aug_scales=[0.5]), pack_scales('flip_indices'), multiscale_test=True, flip_test=True)
    check(dict(resize(aug_scales=[0.5]), type=BottomupResize), pack_scales(), multiscale_test=True)


def test_multi_scale_with_parts_that_take_one_size():
    cfg = config(dataset(resize(aug_scales=[0.5]), pack_scales()), dict(multiscale_test=True))
    for kind in (None, dict(type='PoseScalesPreprocessor')):
        cfg.model.data_preprocessor = kind
        check_test_time_views(cfg)
    cfg.model.data_preprocessor = dict(type='PoseDataPreprocessor')
    words = r'model\.data_preprocessor has the type PoseDataPreprocessor, .*; use PoseScalesPreprocessor'
    with pytest.raises(ValueError, match=words):
        check_test_time_views(cfg)
    cfg.model.type = 'BottomupPoseEstimator'
    with pytest.raises(ValueError, match='model has the type BottomupPoseEstimator, .*; use Freezable'):
        check_test_time_views(cfg)
    words = 'val_dataloader .* has the type PackPoseInputs, which takes an image in one size only; use PackPoseScales'
    with pytest.raises(ValueError, match=words):
        check(resize(aug_scales=[0.5]), pack('aug_scales'), multiscale_test=True)
    cfg.model.test_cfg.multiscale_test, cfg.val_dataloader.dataset.pipeline[0].aug_scales = False, None
    check_test_time_views(cfg)


def test_multi_scale_without_the_key():
    """MMPose's default keys do not contain it either; if this fails, it has been added."""
    for packing, given in ((pack(), r"\['img_id', 'input_size'\]"), (dict(type='PackPoseInputs'), r'\[.*')):
        words = rf"multiscale_test=True needs 'aug_scales' .* has meta_keys={given}; add 'aug_scales'"
        with pytest.raises(ValueError, match=words):
            check(resize(aug_scales=[0.5]), packing, multiscale_test=True)


@pytest.mark.parametrize(
    'first, words',
    [
        (resize(), 'has aug_scales=None'),
        (resize(aug_scales=[]), r'has aug_scales=\[\]'),
        (resize(aug_scales=(0.5, 2.0)), r'has aug_scales=\(0.5, 2.0\)'),  # MMPose asserts a list
        (resize(aug_scales=0.5), 'has aug_scales=0.5'),
        (dict(type='LoadImage'), 'has no BottomupResize'),
    ],
)
def test_multi_scale_without_scales(first, words):
    with pytest.raises(ValueError, match=f'needs a list of further scales, but .*{words}; set aug_scales, such as'):
        check(first, pack('aug_scales'), multiscale_test=True)


def test_multi_scale_by_sides_that_are_rounded_one_by_one():
    check(resize(resize_mode='expand'), pack())
    with pytest.raises(ValueError, match="resize_mode='expand', which rounds .*; use 'fit'"):
        check(resize(aug_scales=[0.5], resize_mode='expand'), pack_scales(), multiscale_test=True)


@pytest.mark.parametrize('scales', [[0.5, 0], [-1], ['a'], [None], [True]])
def test_scales_that_are_no_factors(scales):
    with pytest.raises(ValueError, match=r'aug_scales=\[.* has .*; use factors such as 0.5'):
        check(resize(aug_scales=scales), pack_scales(), multiscale_test=True)


@pytest.mark.parametrize('test_cfg', [None, dict(), dict(multiscale_test=False), dict(flip_test=True)])
def test_scales_without_multi_scale(test_cfg):
    cfg = config(dataset(resize(aug_scales=[0.5]), dict(type='PackPoseInputs')), test_cfg)
    with pytest.raises(ValueError, match=r'has aug_scales=\[0.5\], but model.test_cfg.multiscale_test is off.*set'):
        check_test_time_views(cfg)
    cfg.val_dataloader.dataset.pipeline[0].aug_scales = None
    check_test_time_views(cfg)


def test_the_last_step_of_a_kind_counts():
    check(resize(aug_scales=[0.5]), resize(), pack(), pack('flip_indices'), flip_test=True)


def test_steps_inside_steps_are_seen():
    step = dict(type='RandomChoice', transforms=[[resize(aug_scales=[0.5])], [pack()]])
    with pytest.raises(ValueError, match='multiscale_test is off'):
        check(step)
    with pytest.raises(ValueError, match=r"meta_keys=\['img_id', 'input_size'\]"):
        check(step, flip_test=True)


# data loaders and wrappers


@pytest.mark.parametrize('loader', ['val', 'test'])
def test_both_loaders_are_checked(loader):
    cfg = config(dataset(pack()), dict(flip_test=True), loader=loader)
    with pytest.raises(ValueError, match=rf'{loader}_dataloader \(absent.json\)'):
        check_test_time_views(cfg)
    check_test_time_views(cfg, {'val': ['test'], 'test': ['val']}[loader])
    cfg[f'{loader}_dataloader'] = None
    check_test_time_views(cfg)


def test_training_pipelines_are_not_checked():
    check_test_time_views(config(dataset(resize(aug_scales=[0.5]), pack()), dict(flip_test=True), loader='train'))


@pytest.mark.parametrize('model', ['TopdownPoseEstimator', 'Unknown', None])
def test_other_models_are_not_checked(model):
    cfg = config(dataset(resize(aug_scales=[0.5]), pack()), dict(flip_test=True), model=model)
    check_test_time_views(cfg)
    del cfg.model.type
    check_test_time_views(cfg)


@pytest.mark.parametrize('name', ['BottomupPoseEstimator', 'mmpose.BottomupPoseEstimator', 'class'])
def test_bottom_up_models_by_name_or_class(name):
    cfg = config(dataset(pack()), dict(flip_test=True), model=name)
    if name == 'class':
        cfg.model.type = MODELS.get('BottomupPoseEstimator')
    with pytest.raises(ValueError, match='flip_indices'):
        check_test_time_views(cfg)


WRAPPERS = [
    lambda *inner: dict(type='RepeatDataset', times=2, dataset=inner[-1]),
    lambda *inner: dict(type='ConcatDataset', datasets=list(inner)),
    lambda *inner: dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', dataset=d) for d in inner]),
]


@pytest.mark.parametrize('wrap', WRAPPERS)
def test_every_data_set_of_a_wrapper_is_checked(wrap):
    good, bad = dataset(pack('flip_indices')), dataset(pack(), data_root='other')
    check_test_time_views(config(wrap(good, good), dict(flip_test=True)))
    with pytest.raises(ValueError, match='flip_indices'):
        check_test_time_views(config(wrap(good, bad), dict(flip_test=True)))
    data = wrap(good, bad)
    assert [path[0] for path in paths_to_model(data)] == list(leaf_datasets(data))


def combined(*pipeline, inner=(), metainfo=None):
    metainfo = metainfo or dict(from_file='configs/_base_/datasets/coco.py')
    data = [dict(type='RepeatDataset', times=1, dataset=dataset(*inner))]
    return dict(type='CombinedDataset', metainfo=metainfo, datasets=data, pipeline=list(pipeline))


def test_pipeline_of_a_wrapper_comes_after_those_inside():
    check_test_time_views(config(combined(pack('flip_indices'), inner=[pack()]), dict(flip_test=True)))
    with pytest.raises(ValueError, match='flip_indices'):
        check_test_time_views(config(combined(pack(), inner=[pack('flip_indices')]), dict(flip_test=True)))


def test_metainfo_of_a_wrapper_replaces_that_inside():
    """A data set with other keypoints may be converted inside."""
    joints = nine_joints('hand', 'hip', 'knee', 'foot')
    cfg = config(combined(pack('flip_indices'), metainfo=joints), dict(flip_test=True))
    with pytest.raises(ValueError, match='each of 17 keypoints, but .* has 9'):
        check_test_time_views(cfg)
    cfg.model.head.num_keypoints = 9
    check_test_time_views(cfg)


def test_views_are_checked_before_annotations_are_read():
    cfg = config(dataset(pack()), dict(flip_test=True), loader='test')
    with pytest.raises(ValueError, match='flip_indices'):
        check_config(cfg, training=False)
    check_config(cfg, training=True)  # does not test
    cfg = config(dataset(pack()), dict(flip_test=True), loader='val')
    with pytest.raises(ValueError, match='flip_indices'):
        check_config(cfg, training=True)
    check_config(cfg, training=False)


def test_scales_that_do_not_fit_the_networks_stride_are_refused():
    check(resize(aug_scales=[1.5]), pack_scales(), multiscale_test=True)
    with pytest.raises(ValueError, match=r'aug_scales=\[0.7\].*multiples of'):
        check(resize(aug_scales=[0.7]), pack_scales(), multiscale_test=True)


@pytest.mark.parametrize('path', OURS, ids=lambda path: path.stem)
def test_targets_and_masks_of_our_configs_fit(path):
    cfg = Config.fromfile(path)
    if cfg.get('train_dataloader'):
        check_training_maps(cfg)


@pytest.mark.parametrize('name', ['rnnpose_hg_coco', 'ae_hg_coco'])
@pytest.mark.parametrize('wrapped', [False, True])
def test_a_mask_of_another_size_is_refused(name, wrapped):
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    (mask,) = [step for step in pipeline if step.type == 'InstanceHeatmapMask']
    mask.heatmap_size = (64, 128)
    if wrapped:
        inner = dict(cfg.train_dataloader.dataset, pipeline=pipeline[:1])
        cfg.train_dataloader.dataset = dict(type='CombinedDataset', datasets=[inner], pipeline=pipeline[1:])
    sentence = r'heatmap_size is \(64, 128\) in InstanceHeatmapMask, but \(128, 128\) in the encoder .*make them equal'
    with pytest.raises(ValueError, match=sentence):
        check_config(cfg, training=True)


@pytest.mark.parametrize('size', ['input_size', 'heatmap_size'])
def test_joints_in_other_cells_than_the_heads_are_refused(size):
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_hg_coco.py')
    cfg.model.head.decoder[size] = (256, 256)
    with pytest.raises(ValueError, match=rf'{size} is \(256, 256\) in model.head.decoder, but .* in the encoder'):
        check_training_maps(cfg)
