"""Check that the pipelines give what training, flip and multi-scale testing need; else found batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import Registry
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.datasets.transforms import BottomupResize, GenerateTarget, PackPoseInputs
from mmpose.models import BottomupPoseEstimator
from mmpose.models.data_preprocessors import PoseDataPreprocessor
from mmpose.registry import DATASETS, KEYPOINT_CODECS, MODELS, TRANSFORMS

from ..codecs import InstanceHeatmap
from ..datasets import InstanceHeatmapMask

# Parts of MMPose that fail on several sizes of an image, and their replacements; PackPoseScales says how they fail.
REPLACEMENTS = {
    BottomupPoseEstimator: 'FreezableBottomupPoseEstimator',
    PoseDataPreprocessor: 'PoseScalesPreprocessor',
    PackPoseInputs: 'PackPoseScales',
}

# From a data set to the model: its config, the metainfo of the wrapper around it, all transforms.
Path = tuple[dict, dict | None, tuple[dict, ...]]


def check_test_time_views(cfg: Config, loaders: Iterable[str] = ('val', 'test')) -> None:
    """Refuse a bottom-up config whose pipelines do not fit ``flip_test`` and ``multiscale_test`` of its model.

    Args:
        cfg (Config): The config.
        loaders (Iterable[str]): Which data loaders to check. Defaults to ('val', 'test').

    Raises:
        ValueError: for the first thing that is missing, with its cure.
    """
    if not _is_kind(cfg.model, MODELS, BottomupPoseEstimator):
        return
    test_cfg = cfg.model.get('test_cfg') or {}
    num_keypoints = (cfg.model.get('head') or {}).get('num_keypoints')
    for name in loaders:
        loader = cfg.get(f'{name}_dataloader')
        for dataset_cfg, metainfo, steps in paths_to_model(loader['dataset']) if loader else ():
            where = f'{name}_dataloader ({dataset_cfg.get("ann_file", dataset_cfg["type"])})'
            if test_cfg.get('flip_test', False):
                _check_meta_key(steps, 'flip_indices', 'flip_test', where)
                _check_flip_indices(dataset_cfg, metainfo, num_keypoints, where)
            _check_scales(steps, test_cfg.get('multiscale_test', False), where)
            if test_cfg.get('multiscale_test', False):
                _check_meta_key(steps, 'aug_scales', 'multiscale_test', where)
                _check_one_size_parts(cfg.model, steps, where)


def check_training_maps(cfg: Config) -> None:
    """Refuse a training pipeline whose targets, mask and head do not have the same cells.

    Args:
        cfg (Config): The config.

    Raises:
        ValueError: for the first pair that differs.
    """
    decoder = (cfg.model.get('head') or {}).get('decoder') or {}
    loader = cfg.get('train_dataloader')
    for _, _, steps in paths_to_model(loader['dataset']) if loader else ():
        encoder = getattr(last_step(steps, GenerateTarget), 'encoder', None)
        others = [('InstanceHeatmapMask', last_step(steps, InstanceHeatmapMask), ['heatmap_size'])]
        if isinstance(encoder, InstanceHeatmap) and _is_kind(decoder, KEYPOINT_CODECS, InstanceHeatmap):
            codec = KEYPOINT_CODECS.build(dict(decoder, _scope_='mmpose'))
            others.append(('model.head.decoder', codec, ['heatmap_size', 'input_size']))
        for name, other, sizes in others:
            for size in sizes:
                ours, theirs = (getattr(part, size, None) for part in (encoder, other))
                if ours is not None and theirs is not None and tuple(ours) != tuple(theirs):
                    raise ValueError(
                        f'{size} is {tuple(theirs)} in {name}, but {tuple(ours)} in the encoder of GenerateTarget in '
                        'the pipeline of train_dataloader; make them equal'
                    )


def paths_to_model(
    dataset_cfg: dict, metainfo: dict | None = None, later_steps: tuple[dict, ...] = ()
) -> Iterator[Path]:
    """Each data set inside all wrappers; a wrapper's pipeline comes after, and its metainfo replaces, those inside.

    Args:
        dataset_cfg (dict): Config of a data set or of a wrapper.
        metainfo (dict, optional): Of the wrappers around it. Defaults to None.
        later_steps (tuple[dict, ...]): Of the wrappers around it. Defaults to ().

    Yields:
        tuple[dict, dict | None, tuple[dict, ...]]: Config of the data set, the wrapper's metainfo, all transforms.
    """
    steps = (*_flat(dataset_cfg.get('pipeline') or ()), *later_steps)
    inner = dataset_cfg.get('datasets', [dataset_cfg['dataset']] if 'dataset' in dataset_cfg else [])
    for cfg in inner:
        yield from paths_to_model(cfg, metainfo or dataset_cfg.get('metainfo'), steps)
    if not inner:
        yield dataset_cfg, metainfo, steps


def _flat(steps: Iterable[dict]) -> Iterator[dict]:
    """All steps, including those inside other steps."""
    for step in steps:
        if isinstance(step, (list, tuple)):
            yield from _flat(step)
        else:
            yield step
            yield from _flat(step.get('transforms') or ())


def _class_of(cfg: dict, registry: Registry) -> type | None:
    """The class that a config builds; its type is a name, or in new-style configs the class itself."""
    found = cfg.get('type')
    return registry.get(found) if isinstance(found, str) else found


def _is_kind(cfg: dict, registry: Registry, kind: type) -> bool:
    found = _class_of(cfg, registry)
    return isinstance(found, type) and issubclass(found, kind)


def last_step(steps: Iterable[dict], kind: type) -> BaseTransform | None:
    """The last step of a kind, built in MMPose's scope, as an earlier Runner may have left another.

    Args:
        steps (Iterable[dict]): of a pipeline.
        kind (type): a class of transforms.

    Returns:
        BaseTransform | None: None where there is no such step.
    """
    found = [step for step in _flat(steps) if _is_kind(step, TRANSFORMS, kind)]
    return TRANSFORMS.build(dict(found[-1], _scope_='mmpose')) if found else None


def _check_meta_key(steps: tuple[dict, ...], key: str, setting: str, where: str) -> None:
    pack = last_step(steps, PackPoseInputs)
    if pack is None or key not in pack.meta_keys:
        given = 'has no PackPoseInputs' if pack is None else f'has meta_keys={list(pack.meta_keys)}'
        raise ValueError(
            f'model.test_cfg.{setting}=True needs {key!r} of every image, but the pipeline of {where} {given}; add '
            f'{key!r} to the meta_keys of its PackPoseInputs, or set {setting}=False'
        )


def _check_flip_indices(dataset_cfg: dict, metainfo: dict | None, num_keypoints: int | None, where: str) -> None:
    if metainfo is None:
        cfg = dict(dataset_cfg, lazy_init=True, pipeline=[], _scope_='mmpose')
        metainfo = DATASETS.build(cfg).metainfo
    else:
        metainfo = parse_pose_metainfo(metainfo)
    indices = metainfo.get('flip_indices', [])
    expected = num_keypoints or metainfo.get('num_keypoints')
    if len(indices) != expected:
        raise ValueError(
            f'model.test_cfg.flip_test=True needs a flip index for each of {expected} keypoints, but the metainfo of '
            f'{where} has {len(indices)}; give the data set the metainfo of these keypoints, or set flip_test=False'
        )
    sided = [name for name in metainfo.get('keypoint_name2id', {}) if 'left' in name or 'right' in name]
    if sided and list(indices) == list(range(len(indices))):
        raise ValueError(
            f'model.test_cfg.flip_test=True exchanges left and right, but the metainfo of {where} has no pairs for '
            f'{", ".join(sided)}; give each its swap in keypoint_info, or set flip_test=False'
        )


def _check_scales(steps: tuple[dict, ...], multiscale_test: bool, where: str) -> None:
    resize = last_step(steps, BottomupResize)
    scales = None if resize is None else resize.aug_scales
    if scales and not multiscale_test:
        raise ValueError(
            f'the pipeline of {where} has aug_scales={scales}, but model.test_cfg.multiscale_test is off and the model '
            'takes one size; set model.test_cfg.multiscale_test=True, or remove aug_scales from BottomupResize'
        )
    if multiscale_test and (not scales or not isinstance(scales, list)):
        given = 'has no BottomupResize' if resize is None else f'has aug_scales={scales}'
        raise ValueError(
            f'model.test_cfg.multiscale_test=True needs a list of further scales, but the pipeline of {where} {given}; '
            'set aug_scales, such as [0.5, 2.0], in its BottomupResize, or set multiscale_test=False'
        )
    if multiscale_test and resize.resize_mode != 'fit':
        raise ValueError(
            f'model.test_cfg.multiscale_test=True, but the pipeline of {where} has resize_mode={resize.resize_mode!r}, '
            "which rounds each scale's sides by itself so that their heatmaps are not aligned; use 'fit'"
        )
    for scale in scales or []:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or scale <= 0:
            raise ValueError(f'aug_scales={scales} in the pipeline of {where} has {scale!r}; use factors such as 0.5')
        size = tuple(int(side * scale) for side in resize.input_size)
        if any(side % resize.size_factor for side in size):
            raise ValueError(
                f'aug_scales={scales} in the pipeline of {where} makes images of {size} px, whose sides are not '
                f'multiples of {resize.size_factor}, the size_factor of BottomupResize; use other scales'
            )


def _check_one_size_parts(model: dict, steps: tuple[dict, ...], where: str) -> None:
    places = {
        'model': _class_of(model, MODELS),
        'model.data_preprocessor': _class_of(model.get('data_preprocessor') or {}, MODELS),
        f'the pipeline of {where}': type(last_step(steps, PackPoseInputs)),
    }
    for place, used in places.items():
        if used in REPLACEMENTS:
            raise ValueError(
                f'model.test_cfg.multiscale_test=True, but {place} has the type {used.__name__}, which takes an image '
                f'in one size only; use {REPLACEMENTS[used]} in its place, or set multiscale_test=False'
            )
