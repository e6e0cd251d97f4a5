"""What makes a comparison unfair if it differs: what has to be equal, and what the report lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmpose.datasets.transforms import BottomupResize
from torch.nn import Module

from rnnpose_plugin.runtime.check_views import last_step

from .contender import Contender, hash_of_file, machine

# What has to be equal unless ``--allow-different`` names it, and how to make it equal.
REQUIRED = {
    'annotations': 'put both on one with --data',
    'images': 'put both on one set with --data, and leave out indices and filters that only one has',
    'input_size': "set input_size of BottomupResize and of the head's codec",
    'resize': 'set resize_mode, size_factor and use_udp of BottomupResize',
    'flip': 'set model.test_cfg.flip_test',
    'use_area': 'set use_area of the CocoMetric',
    'scales': 'set model.test_cfg.multiscale_test and aug_scales of BottomupResize',
}
NONE = 'none'


@dataclass(frozen=True)
class Fact:
    """One property of both models.

    Args:
        name (str): of the property.
        first (str): its value for the first model.
        second (str): its value for the second.
        equal (bool): whether the two are equal.
        key (str, optional): its key in ``REQUIRED``. Defaults to None, it may differ.
    """

    name: str
    first: str
    second: str
    equal: bool
    key: str | None = None


def required_facts(first: Contender, second: Contender) -> list[Fact]:
    """What has to be equal, according to the configs and the data sets.

    Args:
        first (Contender): a model.
        second (Contender): the other.

    Returns:
        list[Fact]: one for each key of ``REQUIRED``.
    """
    files = [annotation_file(contender) for contender in (first, second)]
    same = files[0] == files[1] or (all(Path(f).is_file() for f in files) and len(set(map(hash_of_file, files))) == 1)
    annotations = Fact('annotation file', *files, same, 'annotations')
    views = [_views(contender) for contender in (first, second)]
    names = dict(input_size='input size', resize='resize', flip='flip', scales='scales')
    return [
        annotations,
        _images(first, second),
        *(_fact(name, *(view[key] for view in views), key) for key, name in names.items()),
        _fact('scale of OKS', *(_scale(contender.scoring) for contender in (first, second)), 'use_area'),
    ]


def refuse_unequal(facts: Sequence[Fact], allowed: Sequence[str]) -> list[Fact]:
    """Refuse an unfair comparison.

    Args:
        facts (Sequence[Fact]): from :func:`required_facts`.
        allowed (Sequence[str]): keys of ``REQUIRED`` that may differ.

    Returns:
        list[Fact]: those that differ and may.

    Raises:
        ValueError: for the first that differs and may not.
    """
    different = [fact for fact in facts if not fact.equal]
    for fact in different:
        if fact.key not in allowed:
            raise ValueError(
                f'the two differ in {fact.name}: {fact.first} and {fact.second}; {REQUIRED[fact.key]}, or compare them '
                f'all the same with --allow-different {fact.key}'
            )
    return different


def other_facts(contenders: Sequence[Contender], models: Sequence[Module], metas: Sequence[dict]) -> list[Fact]:
    """What may differ, but has to be known to judge the figures.

    The rest of a training recipe (optimizer, gradient clipping, averaging of weights) stands in the configs.

    Args:
        contenders (Sequence[Contender]): the two.
        models (Sequence[Module]): with the weights of their checkpoints.
        metas (Sequence[dict]): of the checkpoints.

    Returns:
        list[Fact]: in the order of the report.
    """
    columns = {
        'backbone': _backbones(*(contender.cfg.model.backbone for contender in contenders)),
        'parameters': [_parameters(model) for model in models],
        'initial weights, by the config': [_initial_weights(contender.cfg) for contender in contenders],
        'training data, by the config': [_training_data(contender.cfg) for contender in contenders],
        'trained for': [_training_length(meta, contender.cfg) for meta, contender in zip(metas, contenders)],
        'stop threshold': [_omega(model) for model in models],
        'most people per image': [_first_of(model, 'max_instances', 'decode_max_instances') for model in models],
        'keypoint threshold': [_first_of(model, 'keypoint_threshold', 'decode_keypoint_thr') for model in models],
        'non-maximum suppression': [_nms(contender.scoring) for contender in contenders],
        'score of a pose': [_score(contender.scoring) for contender in contenders],
        'latency': [f'one image at a time on {machine()}'] * 2,
    }
    facts = [_fact(name, *values) for name, values in columns.items()]
    facts.insert(1, _weights(*(model.backbone for model in models)))
    return facts


def annotation_file(contender: Contender) -> str:
    """The file with the ground truth.

    Args:
        contender (Contender): a model.

    Returns:
        str: its path, whether or not the file exists.
    """
    return contender.build_dataset(lazy_init=True, pipeline=[]).ann_file


def _fact(name: str, first: Any, second: Any, key: str | None = None) -> Fact:
    return Fact(name, str(first), str(second), str(first) == str(second), key)


def _resize(contender: Contender) -> BottomupResize | None:
    return last_step(contender.dataset_cfg.get('pipeline') or (), BottomupResize)


def _views(contender: Contender) -> dict[str, Any]:
    resize, settings = _resize(contender), contender.cfg.model.get('test_cfg') or {}
    codec = (contender.cfg.model.get('head') or {}).get('decoder') or {}
    size = codec.get('input_size') if resize is None else resize.input_size
    scales = (resize.aug_scales if resize is not None else None) if settings.get('multiscale_test', False) else None
    return dict(
        input_size=' x '.join(map(str, size)) if size else 'unknown',
        resize=_resizing(resize),
        flip='on' if settings.get('flip_test', False) else 'off',
        scales=', '.join(f'{scale:g}' for scale in sorted([1.0, *(scales or ())])),
    )


def _images(first: Contender, second: Contender) -> Fact:
    """Equal if the files have the same names and sizes in the same order, in whatever folder."""
    texts, files = [], []
    for contender in (first, second):
        dataset = contender.build_dataset(pipeline=[])
        paths = [Path(dataset.get_data_info(index)['img_path']) for index in range(len(dataset))]
        texts.append(f'{len(paths)} of {dataset.data_prefix.get("img", "?")}')
        files.append([(path.name, path.stat().st_size if path.is_file() else None) for path in paths])
    return Fact('images', *texts, files[0] == files[1], 'images')


def _resizing(resize: BottomupResize | None) -> str:
    if resize is None:
        return NONE
    return f'{resize.resize_mode}, size_factor {resize.size_factor}{", udp" if resize.use_udp else ""}'


def _backbones(*backbones: dict) -> list[str]:
    """Their types, with the settings in which they differ."""
    settings = [_leaves(backbone) for backbone in backbones]
    names = sorted(name for name in set(chain(*settings)) if len({part.get(name, 'default') for part in settings}) > 1)
    kinds = [backbone['type'] for backbone in backbones]
    kinds = [kind if isinstance(kind, str) else kind.__name__ for kind in kinds]
    words = [', '.join(f'{name}={part.get(name, "default")}' for name in names) for part in settings]
    return [f'{kind}({of_model})' if names else kind for kind, of_model in zip(kinds, words)]


def _leaves(settings: dict, prefix: str = '') -> dict[str, str]:
    """All settings with dotted names, without the type and the initial weights."""
    leaves = {}
    for name, value in settings.items():
        if isinstance(value, dict) and name != 'init_cfg':
            leaves.update(_leaves(value, f'{prefix}{name}.'))
        elif prefix or name not in ('type', 'init_cfg'):
            leaves[f'{prefix}{name}'] = str(list(value) if isinstance(value, tuple) else value)
    return leaves


def _weights(first: Module, second: Module) -> Fact:
    """Compares all tensors except the counters of batch norms."""
    weights = [
        {name: value for name, value in backbone.state_dict().items() if 'num_batches_tracked' not in name}
        for backbone in (first, second)
    ]
    names = set(chain(*weights))
    same = sum(
        all(name in part for part in weights)
        and weights[0][name].shape == weights[1][name].shape
        and torch.equal(weights[0][name], weights[1][name])
        for name in names
    )
    text = 'the same' if same == len(names) else f'differ in {len(names) - same} of {len(names)} tensors'
    return Fact('backbone weights', text, text, same == len(names))


def _parameters(model: Module) -> str:
    total = sum(weight.numel() for weight in model.parameters())
    backbone = sum(weight.numel() for weight in model.backbone.parameters())
    return f'{total:,}, of these backbone {backbone:,}'


def _initial_weights(cfg: Config) -> str:
    """What a training with the config starts from; the checkpoint does not record it."""
    init_cfg = (cfg.model.get('backbone') or {}).get('init_cfg') or []
    parts = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    files = [part['checkpoint'] for part in parts if part.get('checkpoint')]
    frozen = ', backbone frozen' if cfg.model.get('freeze_backbone', False) else ''
    return (cfg.get('load_from') or ', '.join(files) or 'random') + frozen


def _training_data(cfg: Config) -> str:
    loader = cfg.get('train_dataloader')
    if not loader:
        return 'not in the config'
    dataset = loader.dataset
    return str(Path(dataset.get('data_root', ''), dataset.get('ann_file', dataset.get('type'))))


def _training_length(meta: dict, cfg: Config) -> str:
    if 'iter' not in meta:
        return 'not in the checkpoint'
    loader = cfg.get('train_dataloader')
    batch = f' of {loader.batch_size} images' if loader and 'batch_size' in loader else ''
    return f'{meta["iter"]:,} iterations{batch}, {meta.get("epoch", "?")} epochs'


def _omega(model: Module) -> str:
    of_test = (getattr(model, 'test_cfg', None) or {}).get('stop_threshold')
    return f'{of_test:g}' if of_test else _first_of(model, 'stop_threshold')


def _first_of(model: Module, *names: str) -> str:
    """The first of these settings that the head or its codec has."""
    head = getattr(model, 'head', None)
    for place in (head, getattr(head, 'decoder', None)):
        for name in names:
            if getattr(place, name, None) is not None:
                return f'{getattr(place, name):g}'
    return NONE


def _nms(scoring: dict) -> str:
    mode = scoring['nms_mode']
    return mode if mode == 'none' else f'{mode} at {scoring["nms_thr"]:g}'


def _scale(scoring: dict) -> str:
    return 'annotated area' if scoring['use_area'] else '0.53 of the box'


def _score(scoring: dict) -> str:
    mode = scoring['score_mode']
    return f'{mode}, keypoints over {scoring["keypoint_score_thr"]:g}' if mode == 'bbox_keypoint' else mode
