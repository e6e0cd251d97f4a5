"""Configs for other keypoints, sizes and data: one call in a config derives every setting that depends on them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo

HOURGLASSES = ('HourglassAENet', 'CrowdHourglassAENet')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def own_data(
    base: dict,
    metainfo: str | dict | None = None,
    input_size: tuple[int, int] | None = None,
    stride: int | None = None,
    train: dict | None = None,
    val: dict | None = None,
    test: dict | None = None,
) -> dict[str, Any]:
    """The settings of a config that change with the keypoints, the size of the images and the data.

    Use it in a config as ``globals().update(own_data(_base_, ...))``. Palette, skeleton, mirrored pairs and the sigmas
    of OKS all come from the metainfo; it is written into the config, so that checkpoints do not need its file.

    Args:
        base (dict): The config that is changed, ``_base_``; it is not written to.
        metainfo (str | dict, optional): Description of the keypoints in MMPose's format, or the path of a file with
            ``dataset_info``. Defaults to that of the base.
        input_size (tuple[int, int], optional): [w, h] of the images the network sees, pixels; multiples of the stride.
            Defaults to that of the base.
        stride (int, optional): Pixels of the input per cell of the heatmaps; it is the backbone's. Defaults to that of
            the base.
        train (dict, optional): ``data_root``, ``ann_file``, ``data_prefix`` and the like of the training set. Defaults
            to that of the base.
        val (dict, optional): The same of the validation set. Defaults to that of the base.
        test (dict, optional): The same of the test set. Defaults to ``val``.

    Returns:
        dict[str, Any]: ``model``, ``codec``, the three data loaders, ``input_size`` and ``heatmap_size``.

    Raises:
        FileNotFoundError: if the file of the metainfo does not exist.
        ValueError: for another kind of base, a metainfo without keypoints, or sizes that do not fit the
            stride.
    """
    names = ('model', 'codec', *LOADERS)
    if base.get('codec') is None or base.get('model') is None:
        raise ValueError('the base has no codec and model to change; use a config of rnnpose_plugin as _base_')
    cfg = {name: copy.deepcopy(base[name]) for name in names if base.get(name) is not None}
    cfg.update(_set_sizes(cfg, input_size, stride))
    if metainfo is not None:
        info = _read_metainfo(metainfo)
        _set_keypoints(cfg, len(info['keypoint_info']))
        for name in LOADERS:
            if name in cfg:
                cfg[name]['dataset'].update(metainfo=info, type='CocoDataset')
    for name, place in zip(LOADERS, (train, val, test or val)):
        if place:
            cfg[name]['dataset'].update(place)
    return cfg


def _set_sizes(cfg: dict, input_size: tuple[int, int] | None, stride: int | None) -> dict:
    """Replace every size; a heatmap of the input's size (AE's maps are enlarged in testing) keeps the input's."""
    old_input, old_cells = (tuple(cfg['codec'][name]) for name in ('input_size', 'heatmap_size'))
    size, stride = tuple(input_size or old_input), stride or old_input[0] // old_cells[0]
    if len(size) != 2 or any(not isinstance(side, int) or side <= 0 or side % stride for side in size):
        raise ValueError(f'input_size={size!r} is not two multiples of the stride {stride}; give [width, height]')
    cells = tuple(side // stride for side in size)
    for part in _dicts(cfg):
        if 'heatmap_size' in part:
            part['heatmap_size'] = size if tuple(part['heatmap_size']) == old_input else cells
        if 'input_size' in part:
            part['input_size'] = size
    return dict(input_size=size, heatmap_size=cells)


def _set_keypoints(cfg: dict, K: int) -> None:
    """Replace every number that the number of keypoints decides."""
    backbone, neck, head = (cfg['model'].get(name) or {} for name in ('backbone', 'neck', 'head'))
    head['num_keypoints'] = K
    if 'hidden_channels' in head:  # no layer narrower than the K maps of the last
        head['hidden_channels'] = tuple(max(width, K) for width in head['hidden_channels'])
    for part in _dicts(cfg):
        if 'decode_keypoint_order' in part:
            part['decode_keypoint_order'] = list(range(K))
    if backbone.get('type') not in HOURGLASSES:
        return
    backbone['out_channels'] = 4 * K  # K heatmaps, K tags and twice as many others, as the paper's 68
    if backbone['type'] == 'CrowdHourglassAENet':
        backbone['tag_channels'] = (K, 2 * K)
    if neck:
        neck['in_channels'] = [4 * K] * len(neck['in_channels'])
        stacks = len(neck.get('in_index') or neck['in_channels'])
        if neck.get('channels'):
            neck['channels'] = (2 * K, 4 * K)
        if neck.get('ae_channels'):
            neck['ae_channels'] = 2 * K
        head['in_channels'] = stacks * (2 * K if neck.get('channels') else 4 * K)


def _read_metainfo(metainfo: str | dict) -> dict:
    info = metainfo
    if isinstance(metainfo, str):
        content = Config.fromfile(metainfo)  # one sentence if it does not exist
        info = content.get('dataset_info')
        if info is None:
            raise ValueError(f'{metainfo} has no dataset_info; docs/real_data.md shows one')
        info = info.to_dict() if hasattr(info, 'to_dict') else dict(info)
    try:
        K = parse_pose_metainfo(dict(info))['num_keypoints']
    except (AssertionError, KeyError) as error:
        raise ValueError(f'the metainfo {metainfo!r} is incomplete or names an unknown keypoint: {error}') from None
    for name in ('joint_weights', 'sigmas'):
        if len(info[name]) != K:
            raise ValueError(f'the metainfo has {K} keypoints, but {len(info[name])} {name}; give one for each')
    return info


def _dicts(node: Any) -> Iterator[dict]:
    """All dicts inside a config, itself included."""
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from _dicts(part)
