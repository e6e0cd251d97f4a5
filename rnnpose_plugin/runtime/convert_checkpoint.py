"""Convert published weights of two hourglasses for Associative Embedding into those of MMPose's HourglassAENet.

``mmpose0``
    MMPose 0.x, config ``hourglass_ae_coco_512x512``: four stacks of 34 channels (17 heatmaps, 17 tags). Its backbone
    has the layers and names of MMPose 1.3's, and its head has no weights, so nothing changes but prefixes.
    https://github.com/open-mmlab/mmpose/blob/v0.29.0/mmpose/models/backbones/hourglass_ae.py
    https://github.com/open-mmlab/mmpose/blob/v0.29.0/mmpose/models/heads/ae_multi_stage_head.py

``pose-ae``
    The authors' https://github.com/princeton-vl/pose-ae-train (``models/posenet.py``, ``models/layers.py``,
    ``task/pose.py``): four stacks of 68 channels (17 heatmaps, 17 tags, 34 intermediate ones). The same layers by other
    names, with biases instead of batch norms. HourglassAENet always has norms (its inner hourglasses are not handed
    ``norm_cfg``), so each is set to add only a bias: weight 1, mean 0, variance 1 - eps. That holds in evaluation
    mode, that of a frozen backbone; in training mode a norm uses its batch and the network differs.
    Its images are RGB from 0 to 1. Another mean cannot be folded into the first convolution, whose border of zeros
    would move along, so the config's ``data_preprocessor`` has to be set; `usage` says how.
    A network trained with that repository's ``bn=True`` is refused: its norms come after the ReLU.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import OrderedDict

import torch
from mmpose.models.backbones import HourglassAENet
from torch import Tensor

from . import convert_movenet
from .checkpoint_file import check_checkpoint_file, check_output_file, check_output_folder
from .publish import write_checkpoint

# What the images go through before the network, for PoseDataPreprocessor. Both networks want RGB.
PREPROCESSING = {
    'mmpose0': dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    'pose-ae': dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], bgr_to_rgb=True),
}
HOURGLASS_SOURCES = tuple(PREPROCESSING)
PREPROCESSING[convert_movenet.SOURCE] = convert_movenet.PREPROCESSING
SOURCES = tuple(PREPROCESSING)

# Names inside the hourglass of a stack, and the stack's number.
HOURGLASSES = {
    'mmpose0': re.compile(r'backbone\.hourglass_modules\.(\d+)\.0\.(?:up1|low[123])\.'),
    'pose-ae': re.compile(r'features\.(\d+)\.0\.(?:up1|low[123])\.'),
}

# Layers of HourglassAENet -> of pose-ae-train.
POSE_AE_LAYERS = (
    (r'stem\.(\d+)', r'pre.\1'),
    (r'hourglass_modules\.(\d+)\.(.+)', r'features.\1.\2'),
    (r'out_convs\.(\d+)', r'outs.\1'),
    (r'remap_out_convs\.(\d+)', r'merge_preds.\1.conv'),
    (r'remap_feature_convs\.(\d+)', r'merge_features.\1.conv'),
)

BATCH_NORM_EPS = 1e-5  # torch's default, which HourglassAENet keeps

# By the channels of a stack, or the source.
CONFIGS = {
    34: 'configs/rnnpose_hg34_coco.py',
    68: 'configs/rnnpose_hg_coco.py',
    convert_movenet.SOURCE: 'configs/rnnpose_movenet_photo.py',
}


def convert_file(source_file: str, target_file: str, source: str = 'auto', force: bool = False) -> dict:
    """Convert a checkpoint file. After an error the target is unchanged.

    Args:
        source_file (str): a published checkpoint, or one trained by that code.
        target_file (str): what to write, for ``init_cfg=dict(type='Pretrained', prefix='backbone.')`` or ``load_from``.
        source (str): one of `SOURCES`, or 'auto' to recognise it by the names in the file; json is `movenet`. Defaults
            to 'auto'.
        force (bool): replace an existing target. Defaults to False.

    Returns:
        dict: the target's ``meta``: ``source``, ``backbone`` (its config) and ``data_preprocessor`` (its settings).

    Raises:
        FileExistsError: if the target exists and ``force`` is not set.
        FileNotFoundError: if the source or the target's folder does not exist.
        OSError: if the target cannot be written.
        ValueError: if the source is neither kind of checkpoint, or weights are missing, misshaped or without a place.
    """
    if os.path.exists(target_file) and not force:
        raise FileExistsError(f'{target_file} exists already; choose another name, or --force to replace it')
    check_output_file('OUT', target_file, '', [source_file])
    check_output_folder(target_file)
    if source == 'auto' and source_file.endswith('.json'):
        source = convert_movenet.SOURCE
    if source == convert_movenet.SOURCE:
        state_dict, backbone = convert_movenet.convert_movenet(source_file)
    else:
        weights = read_weights(source_file)
        source = detect_source(weights, source_file) if source == 'auto' else source
        state_dict, backbone = convert_weights(weights, source, source_file)
    meta = dict(source=source, backbone=backbone, data_preprocessor=PREPROCESSING[source])
    write_checkpoint(dict(state_dict=state_dict, meta=meta), target_file)
    return meta


def read_weights(path: str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint without running any code in it.

    Args:
        path (str): a checkpoint with a ``state_dict``, or a bare state dict.

    Returns:
        dict[str, Tensor]: the weights by name, without the prefixes that wrapping modules add.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged or has no weights.
    """
    check_checkpoint_file(path)
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file breaks the unpickler in any way
        raise ValueError(
            f'{path} cannot be read ({type(error).__name__}): it is damaged or holds other objects than weights; '
            'download it again, or save only its state_dict'
        ) from error
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ValueError(f'{path} holds no state_dict of tensors; {_cure()}')
    # DataParallel adds `module.`, and the trainer of pose-ae-train `model.`.
    stripped = {re.sub(r'^(?:(?:module|model)\.)+', '', name): value for name, value in weights.items()}
    if len(stripped) < len(weights):
        raise ValueError(
            f'{path} holds {len(weights) - len(stripped)} weights twice, with and without "module."; {_cure()}'
        )
    return stripped


def detect_source(weights: dict[str, Tensor], path: str) -> str:
    """The kind of a checkpoint, by its names.

    Args:
        weights (dict[str, Tensor]): by name, as `read_weights` gives them.
        path (str): their file, for the message.

    Returns:
        str: one of `SOURCES`.

    Raises:
        ValueError: if it is neither.
    """
    for source, hourglass in HOURGLASSES.items():
        if any(hourglass.match(name) for name in weights):
            return source
    raise ValueError(
        f'{path} is neither kind of checkpoint: it has no hourglass, its first weight is '
        f'{next(iter(weights))}; {_cure()}'
    )


def convert_weights(weights: dict[str, Tensor], source: str, path: str) -> tuple[OrderedDict, dict]:
    """Rename the weights, and compare every name and shape with the network whose sizes they have.

    Args:
        weights (dict[str, Tensor]): by name, as `read_weights` gives them.
        source (str): one of `SOURCES`.
        path (str): their file, for messages.

    Returns:
        tuple[OrderedDict, dict]: the state dict, all names beginning with ``backbone.``, and the config of the
        ``HourglassAENet`` it is of.

    Raises:
        ValueError: if the source is unknown, or weights are missing, misshaped or without a place.
    """
    if source not in HOURGLASS_SOURCES:
        raise ValueError(f'source is {source!r}; use one of {", ".join(SOURCES)}')
    backbone = _sizes(weights, source, path)
    with torch.device('meta'):  # names and shapes, without memory
        wanted = HourglassAENet(**{key: value for key, value in backbone.items() if key != 'type'}).state_dict()
    result, missing, misshaped, unknown = OrderedDict(), [], [], dict.fromkeys(weights)
    for name, like in wanted.items():
        origin = _origin(name, source)
        found = weights.get(origin) if origin else None
        if found is None and (origin is None or name.endswith('num_batches_tracked')):
            result[f'backbone.{name}'] = _added(name, like)
        elif found is None:
            missing.append(origin)
        elif found.shape != like.shape:
            misshaped.append(f'{origin}: {tuple(found.shape)}, not {tuple(like.shape)}')
        else:
            result[f'backbone.{name}'] = found.detach().to(like.dtype)
        unknown.pop(origin, None)
    problems = [_count(missing, 'missing'), _count(misshaped, 'of another shape'), _count(list(unknown), 'unknown')]
    if any(problems):
        raise ValueError(
            f'{path} does not fit an hourglass of {source}: {", ".join(filter(None, problems))}; '
            'nothing was written, give the published checkpoint unchanged'
        )
    return result, backbone


def usage(meta: dict, path: str) -> str:
    """The config for converted weights and the settings that every training and test with them needs.

    Args:
        meta (dict): what `convert_file` returns.
        path (str): the converted file.

    Returns:
        str: the end of a command line.
    """
    options = [f'model.backbone.init_cfg.checkpoint={path}']
    if meta['source'] == 'pose-ae':  # the configs have the other ones'
        for key in ('mean', 'std'):
            numbers = ','.join(f'{number:g}' for number in meta['data_preprocessor'][key])
            options.append(f'model.data_preprocessor.{key}=[{numbers}]')
    config = CONFIGS.get(meta['backbone'].get('out_channels', meta['source']), 'CONFIG')
    return ' '.join([config, '--cfg-options', *map(shlex.quote, options)])


def _cure() -> str:
    return 'give hourglass_ae_coco_512x512 of MMPose 0.x or the checkpoint of pose-ae-train'


def _origin(name: str, source: str) -> str | None:
    """The source's name of a weight of HourglassAENet, None where the source does not have it."""
    if source == 'mmpose0':
        return f'backbone.{name}'
    layer, module, kind = name.rsplit('.', 2)
    if (module, kind) == ('bn', 'bias'):
        module = 'conv'
    if module != 'conv':
        return None
    for new, old in POSE_AE_LAYERS:
        found = re.fullmatch(new, layer)
        if found:
            return f'{found.expand(old)}.{module}.{kind}'
    raise AssertionError(f'{name} is not a weight of HourglassAENet')


def _added(name: str, like: Tensor) -> Tensor:
    """The parts of a batch norm that only adds its bias."""
    value = dict(weight=1, running_mean=0, running_var=1 - BATCH_NORM_EPS, num_batches_tracked=0)[name.split('.')[-1]]
    return torch.full(like.shape, value, dtype=like.dtype)


def _sizes(weights: dict[str, Tensor], source: str, path: str) -> dict:
    """The config of the HourglassAENet that the weights belong to."""
    # Hourglasses are nested by low2, and each has a low1 and a low3.
    depth = max((name.count('low2.') + 1 for name in weights if re.search(r'\blow[13]\.', name)), default=1)
    levels = [f'hourglass_modules.0.0.{"low2." * level}' for level in range(depth)]
    layers = [*(f'{level}up1' for level in levels), f'{levels[-1]}low1', 'out_convs.0', 'stem.4']
    channels = []
    for layer in layers:
        origin = _origin(f'{layer}.conv.weight', source)
        if origin not in weights or weights[origin].ndim != 4:
            raise ValueError(
                f'{path} does not fit an hourglass of {source}: the convolution {origin}, which gives its size, '
                f'is missing or misshaped; {_cure()}'
            )
        channels.append(len(weights[origin]))
    found = [HOURGLASSES[source].match(name) for name in weights]
    return dict(
        type='HourglassAENet',
        downsample_times=depth,
        num_stacks=len({match[1] for match in found if match}),
        out_channels=channels[-2],
        stage_channels=channels[:-2],
        feat_channels=channels[-1],
    )


def _count(names: list[str], what: str) -> str:
    shown = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
    return f'{len(names)} weight{"s" * (len(names) > 1)} {what} ({shown})' if names else ''
