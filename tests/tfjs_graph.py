"""A TensorFlow.js graph executed node by node, as it stands in the file: slow, and none of the network's code."""

from __future__ import annotations

import base64
import math

import numpy as np


def attribute(node, name, kind):
    """One attribute of a node: ``'i'`` whole number, ``'b'`` flag, ``'ints'``, ``'texts'`` or ``'text'``."""
    entry = node.get('attr', {}).get(name)
    if entry is None:
        return None
    if kind == 'ints':
        return [int(value) for value in entry['list'].get('i', [])]
    if kind == 'texts':
        return [base64.b64decode(value).decode() for value in entry['list'].get('s', [])]
    if kind == 'text':
        return base64.b64decode(entry['s']).decode()
    return int(entry.get(kind, 0))


def windows(x, size, strides, padding, fill):
    """x (1, H, W, C) cut into windows: (1, H', W', size, size, C)."""
    if padding == 'SAME':
        before_after = []
        for length, stride in zip(x.shape[1:3], strides[1:3]):
            total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
            before_after.append((total // 2, total - total // 2))
        x = np.pad(x, ((0, 0), *before_after, (0, 0)), constant_values=fill)
    cut = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return cut[:, :: strides[1], :: strides[2]].transpose(0, 1, 2, 4, 5, 3)


def activate(x, node, bias):
    for step in attribute(node, 'fused_ops', 'texts') or []:
        if step == 'BiasAdd':
            x = x + bias
        elif step == 'Relu6':
            x = np.clip(x, 0, 6)
        elif step == 'Relu':
            x = np.maximum(x, 0)
        else:
            raise NotImplementedError(step)
    return x


def convolve(node, x, kernel, bias=None):
    strides, padding = attribute(node, 'strides', 'ints'), attribute(node, 'padding', 'text')
    assert attribute(node, 'dilations', 'ints') in (None, [1, 1, 1, 1])
    cut = windows(x, kernel.shape[0], strides, padding, 0)
    out = np.einsum('nhwijc,ijco->nhwo', cut, kernel, optimize=True)
    return activate(out, node, bias)


def convolve_depthwise(node, x, kernel, bias=None):
    strides, padding = attribute(node, 'strides', 'ints'), attribute(node, 'padding', 'text')
    assert kernel.shape[3] == 1 and attribute(node, 'dilations', 'ints') in (None, [1, 1, 1, 1])
    cut = windows(x, kernel.shape[0], strides, padding, 0)
    return activate(np.einsum('nhwijc,ijc->nhwc', cut, kernel[..., 0], optimize=True), node, bias)


def pool(node, x):
    size = attribute(node, 'ksize', 'ints')[1]
    cut = windows(x, size, attribute(node, 'strides', 'ints'), attribute(node, 'padding', 'text'), -np.inf)
    return cut.max(axis=(3, 4))


def resize(node, x, size):
    assert attribute(node, 'half_pixel_centers', 'b') and not attribute(node, 'align_corners', 'b')
    for axis, target in zip((1, 2), size):
        length = x.shape[axis]
        place = (np.arange(target) + 0.5) * length / target - 0.5
        low = np.floor(place).astype(int)
        share = (place - low).reshape([-1 if a == axis else 1 for a in range(4)]).astype(x.dtype)
        below, above = (np.take(x, np.clip(index, 0, length - 1), axis) for index in (low, low + 1))
        x = below * (1 - share) + above * share
    return x


def strided_slice(node, x, begin, end, strides):
    masks = {name: attribute(node, f'{name}_mask', 'i') or 0 for name in ('begin', 'end', 'new_axis', 'shrink_axis')}
    assert not attribute(node, 'ellipsis_mask', 'i')
    index = []
    for place, (first, last, step) in enumerate(zip(begin, end, strides)):
        bit = 1 << place
        if masks['new_axis'] & bit:
            index.append(None)
        elif masks['shrink_axis'] & bit:
            index.append(int(first))
        else:
            index.append(
                slice(
                    None if masks['begin'] & bit else int(first), None if masks['end'] & bit else int(last), int(step)
                )
            )
    return x[tuple(index)]


def top_k(node, x, k):
    order = np.argsort(-x, axis=-1, kind='stable')[..., : int(k)]
    return np.take_along_axis(x, order, -1), order.astype(np.int32)


def reduced(function):
    return lambda node, x, axis: function(
        x, axis=tuple(np.atleast_1d(axis)), keepdims=bool(attribute(node, 'keep_dims', 'b'))
    )


TYPES = {'DT_FLOAT': np.float32, 'DT_INT32': np.int32, 'DT_BOOL': np.bool_}
OPERATIONS = {
    'Conv2D': convolve,
    '_FusedConv2D': convolve,
    'DepthwiseConv2dNative': convolve_depthwise,
    'FusedDepthwiseConv2dNative': convolve_depthwise,
    'MaxPool': pool,
    'ResizeBilinear': resize,
    'StridedSlice': strided_slice,
    'TopKV2': top_k,
    'Sigmoid': lambda node, x: 1 / (1 + np.exp(-x)),
    'Relu6': lambda node, x: np.clip(x, 0, 6),
    'Cast': lambda node, x: x.astype(TYPES[node['attr']['DstT']['type']]),
    'Identity': lambda node, x: x,
    'Mul': lambda node, a, b: a * b,
    'AddV2': lambda node, a, b: a + b,
    'Sub': lambda node, a, b: a - b,
    'RealDiv': lambda node, a, b: a / b,
    'FloorDiv': lambda node, a, b: a // b,
    'Maximum': lambda node, a, b: np.maximum(a, b),
    'Minimum': lambda node, a, b: np.minimum(a, b),
    'SquaredDifference': lambda node, a, b: (a - b) ** 2,
    'AddN': lambda node, *parts: sum(parts[1:], parts[0]),
    'Exp': lambda node, x: np.exp(x),
    'Abs': lambda node, x: np.abs(x),
    'Reciprocal': lambda node, x: 1 / x,
    'Less': lambda node, a, b: a < b,
    'Greater': lambda node, a, b: a > b,
    'GreaterEqual': lambda node, a, b: a >= b,
    'Equal': lambda node, a, b: a == b,
    'LogicalAnd': lambda node, a, b: a & b,
    'Select': lambda node, chosen, a, b: np.where(chosen, a, b),
    'Sum': reduced(np.sum),
    'Max': reduced(np.max),
    'ArgMax': lambda node, x, axis: np.argmax(x, axis=int(axis)).astype(np.int32),
    'Shape': lambda node, x: np.array(x.shape, dtype=np.int32),
    'Size': lambda node, x: np.int32(x.size),
    'Reshape': lambda node, x, shape: x.reshape(shape),
    'ExpandDims': lambda node, x, axis: np.expand_dims(x, int(axis)),
    'Squeeze': lambda node, x: np.squeeze(x, tuple(attribute(node, 'squeeze_dims', 'ints')) or None),
    'Pack': lambda node, *parts: np.stack(parts, axis=attribute(node, 'axis', 'i') or 0),
    'Unpack': lambda node, x: tuple(np.moveaxis(x, attribute(node, 'axis', 'i') or 0, 0)),
    'Split': lambda node, axis, x: tuple(np.split(x, attribute(node, 'num_split', 'i'), axis=int(axis))),
    'ConcatV2': lambda node, *parts: np.concatenate(parts[:-1], axis=int(parts[-1])),
    'Tile': lambda node, x, times: np.tile(x, times),
    'Fill': lambda node, shape, value: np.full(shape, value),
    'Range': lambda node, start, limit, step: np.arange(start, limit, step),
    'GatherNd': lambda node, x, index: x[tuple(np.moveaxis(index, -1, 0))],
}


def execute(nodes, weights, image):
    """Every node's value by name, for an image (1, h, w, 3) of whole numbers from 0 to 255."""
    by_name, values = {node['name']: node for node in nodes}, {}

    def value_of(reference):
        name, _, place = reference.partition(':')
        if name not in values:
            node = by_name[name]
            if node['op'] == 'Placeholder':
                values[name] = image
            elif node['op'] == 'Const':
                values[name] = weights[name]
            else:
                parts = [value_of(part) for part in node['input'] if not part.startswith('^')]
                with np.errstate(over='ignore'):
                    values[name] = OPERATIONS[node['op']](node, *parts)
        value = values[name]
        return value[int(place or 0)] if isinstance(value, tuple) else value

    for node in nodes:
        value_of(node['name'])
    return values
