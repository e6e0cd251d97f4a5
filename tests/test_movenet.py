"""MoveNet in plain torch against its published graph, executed node by node by tests/tfjs_graph.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from tfjs_graph import convolve, execute

from rnnpose_plugin.models.movenet_decoding import COUNTED, SPREAD, STRIDE, find_people
from rnnpose_plugin.models.movenet_network import HEADS, MoveNet, SameConv
from rnnpose_plugin.runtime.convert_checkpoint import convert_file, usage
from rnnpose_plugin.runtime.convert_movenet import EXTRACTOR, ROOT, convert_movenet, graph_names, read_graph

ROOT_FOLDER = Path(__file__).parents[1]
DATA = Path(os.environ.get('RNNPOSE_TEST_DATA', Path(__file__).parents[2] / 'shared/data'))
GRAPH = DATA.parent / 'photos/movenet/movenet-multipose.json'
PICTURE = DATA.parent / 'photos/coco_extra/images/000000000785.jpg'
SIZE = (256, 160)  # width and height
missing = not (GRAPH.exists() and PICTURE.exists())
needs_graph = pytest.mark.skipif(missing, reason=f'{GRAPH} or {PICTURE} is not there')

# Where the graph has what MoveNet.forward gives.
NODES = dict(
    features=f'{EXTRACTOR}re_lu_2/Relu',
    centre=f'{ROOT}Sigmoid',
    heatmaps=f'{ROOT}Sigmoid_1',
    regression=f'{ROOT}kpt_regress_0/conv2d_8/BiasAdd',
    offsets=f'{ROOT}kpt_offset_0/conv2d_9/BiasAdd',
    box_offset=f'{ROOT}box_offset_0/conv2d_6/BiasAdd',
    box_scale=f'{ROOT}box_scale_0/conv2d_5/BiasAdd',
)


@pytest.fixture(scope='module')
def graph_run():
    """The graph's values on a photograph of two people, wider than high, and our network's outputs."""
    image = cv2.resize(cv2.imread(str(PICTURE)), SIZE)[None, :, :, ::-1].astype(np.int32)
    nodes, weights = read_graph(str(GRAPH))
    network = load(convert_movenet(str(GRAPH))[0])
    x = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        return execute(nodes, weights, image), network(x)


def load(state):
    network = MoveNet()
    network.load_state_dict({name.removeprefix('backbone.network.'): value for name, value in state.items()})
    return network.eval()


@needs_graph
@pytest.mark.parametrize('name', NODES)
def test_outputs_are_the_graphs(graph_run, name):
    values, outputs = graph_run
    theirs, ours = values[NODES[name]].transpose(0, 3, 1, 2), outputs[name].numpy()
    assert theirs.shape == ours.shape and np.abs(theirs).max() > 1e-3
    # The graph multiplies by 2 / 255 rounded to float16, off by 2e-5; padding on the other side changes a tenth.
    assert np.abs(theirs - ours).max() <= 1e-4 * max(1, np.abs(theirs).max())


@needs_graph
def test_decoding_is_the_graphs(graph_run):
    values, outputs = graph_run
    rows, (w, h) = values['Identity'][0], SIZE
    people = find_people({name: maps[0] for name, maps in outputs.items()}, max_people=len(rows))
    real = rows[:, 55] > 0  # beyond the peaks the graph fills up with cells of no height
    assert real.sum() >= 1
    keypoints = rows[:, :51].reshape(-1, 17, 3)
    places = np.stack([keypoints[..., 1] * w, keypoints[..., 0] * h], axis=-1)
    assert np.abs(places - people.keypoints.numpy())[real].max() < 0.01  # pixels; a cell is 4
    assert np.abs(keypoints[..., 2] - people.keypoint_scores.numpy())[real].max() < 1e-4
    assert np.abs(rows[:, 55] - people.scores.numpy()).max() < 1e-4
    boxes = rows[:, [52, 51, 54, 53]] * [w, h, w, h]
    assert np.abs(boxes - people.boxes.numpy())[real].max() < 0.01


def naive_people(maps, count):
    """One loop after the other, for maps of numpy; the score of a cell is the highest that any person gives it."""
    centre = maps['centre'][0]
    H, W = centre.shape
    peaks = [
        (centre[i, j], i, j)
        for i in range(H)
        for j in range(W)
        if centre[i, j] >= centre[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3].max()
    ]
    peaks = sorted(peaks, reverse=True)[:count]
    weighed = np.zeros((len(peaks), 17, H, W))
    for n, (_, i, j) in enumerate(peaks):
        y, x = (c + maps['box_offset'][a, i, j] for a, c in enumerate((i, j)))
        half = [max(maps['box_scale'][a, i, j], 0) / 2 for a in (0, 1)]
        for k in range(17):
            ky, kx = i + maps['regression'][2 * k, i, j], j + maps['regression'][2 * k + 1, i, j]
            for r in range(H):
                for c in range(W):
                    if y - half[0] <= r < y + half[0] and x - half[1] <= c < x + half[1]:
                        distance = (r - ky) ** 2 + (c - kx) ** 2
                        weighed[n, k, r, c] = maps['heatmaps'][k, r, c] * np.exp(-distance / (SPREAD * min(H, W)))
    found = []
    for n, (height, _, _) in enumerate(peaks):
        pose = []
        for k in range(17):
            r, c = np.unravel_index(weighed[n, k].argmax(), (H, W))
            dy, dx = maps['offsets'][2 * k : 2 * k + 2, r, c]
            pose.append((STRIDE * (c + dx), STRIDE * (r + dy), weighed[:, k, r, c].max()))
        good = [score for *_, score in pose if score > COUNTED]
        found.append((np.array(pose), height * (np.mean(good) if good else 0)))
    return found


def random_maps(seed, rows=9, columns=12):
    random = np.random.RandomState(seed)
    maps = {name: random.rand(channels, rows, columns) for name, channels in HEADS.items()}
    maps['regression'] = 6 * maps['regression'] - 3
    maps['box_scale'] = 8 * maps['box_scale'] + 4
    return maps


@pytest.mark.parametrize('seed', range(3))
def test_decoding_is_the_slow_loops(seed):
    maps = random_maps(seed)
    people = find_people({name: torch.from_numpy(values) for name, values in maps.items()}, 4)
    expected = naive_people(maps, 4)
    assert len(expected) == len(people.scores) == 4
    for n, (pose, score) in enumerate(expected):
        # float64 on both sides.
        assert np.allclose(people.keypoints[n], pose[:, :2], atol=1e-9)
        assert np.allclose(people.keypoint_scores[n], pose[:, 2], atol=1e-9)
        assert abs(people.scores[n] - score) < 1e-9


def test_a_low_centre_is_nobody():
    maps = {name: torch.zeros(channels, 8, 8) for name, channels in HEADS.items()}
    assert len(find_people(maps, 5, min_centre=0.1).scores) == 0
    maps['centre'][0, 3, 4] = 0.5
    assert len(find_people(maps, 5, min_centre=0.1).scores) == 1


@pytest.mark.parametrize('size', [(6, 10), (8, 4)])
def test_stride_2_pads_behind_the_last_row_and_column(size):
    conv = SameConv(2, 3, 3, stride=2, bias=False).double()
    x = torch.rand(1, 2, *size, dtype=torch.float64)
    node = dict(attr=dict(strides=dict(list=dict(i=['1', '2', '2', '1'])), padding=dict(s='U0FNRQ==')))  # "SAME"
    kernel = conv.weight.detach().permute(2, 3, 1, 0).numpy()
    expected = convolve(node, x.permute(0, 2, 3, 1).numpy(), kernel).transpose(0, 3, 1, 2)
    assert np.allclose(conv(x).detach(), expected, atol=1e-12)


def test_levels_are_what_the_neck_wants():
    levels = ('features', 'heatmaps', 'centre', 'tags', 'position')
    backbone = MODELS.build(dict(type='MoveNetBackbone', levels=levels))
    neck = MODELS.build(dict(type='StackedFeatures', in_channels=backbone.out_channels))
    (features,) = neck(backbone(torch.rand(2, 3, 64, 96) * 2 - 1))
    assert features.shape == (2, 78, 16, 24)
    x, y = features[1, -2:]
    # Cell centres, in halves of the longer side: 24 cells across, 16 down.
    assert torch.allclose(x[0, [0, 23]], torch.tensor([-23 / 24, 23 / 24]))
    assert torch.allclose(y[[0, 15], 5], torch.tensor([-15 / 24, 15 / 24]))


def test_odd_sizes_and_unknown_levels_are_refused():
    backbone = MODELS.build(dict(type='MoveNetBackbone'))
    with pytest.raises(ValueError, match='multiples of 32, but the picture came with 250 x 64 pixels'):
        backbone(torch.zeros(1, 3, 64, 250))
    with pytest.raises(ValueError, match="name some of .*'regression'"):
        MODELS.build(dict(type='MoveNetBackbone', levels=('tag',)))


def test_the_head_wants_all_six_levels():
    backbone = MODELS.build(dict(type='MoveNetBackbone', levels=tuple(HEADS)))
    head = MODELS.build(dict(type='MoveNetHead', centre_threshold=0))
    feats = backbone(torch.rand(1, 3, 64, 64))
    (people,) = head.predict(feats, [None], {})
    assert people.keypoints.shape[1:] == (17, 2) and len(people.keypoints) == len(people.bbox_scores)
    with pytest.raises(ValueError, match='set levels='):
        head.predict(feats[:3], [None], {})
    with pytest.raises(ValueError, match='flip_test=True'):
        head.predict(feats, [None], dict(flip_test=True))
    with pytest.raises(ValueError, match='max_instances is 0'):
        MODELS.build(dict(type='MoveNetHead', max_instances=0))
    with pytest.raises(NotImplementedError, match='train a RecurrentPoseHead'):
        head.loss(feats, [None])


def test_the_head_leaves_out_low_scores():
    feats = tuple(torch.from_numpy(maps)[None] for maps in random_maps(0).values())
    head = dict(type='MoveNetHead', centre_threshold=0)
    (people,) = MODELS.build(head).predict(feats, [None])
    least = float(people.bbox_scores.max())
    (surest,) = MODELS.build(dict(head, score_threshold=least)).predict(feats, [None])
    assert surest.bbox_scores.tolist() == [least] and len(people.bbox_scores) > 1


def write_graph(folder, network, leave_out=None, cut=0):
    """A graph file without nodes, with the weights of a network of ours."""
    entries, content = [], b''
    for ours, theirs in graph_names().items():
        value = network.state_dict()[ours].numpy().astype(np.float16)
        if ours != leave_out and value.ndim == 4:
            value = value.transpose(2, 3, 0, 1) if '.depthwise.' in ours else value.transpose(2, 3, 1, 0)
        if ours != leave_out:
            quantization = dict(dtype='float16', original_dtype='float32')
            entries.append(dict(name=theirs, shape=list(value.shape), dtype='float32', quantization=quantization))
            content += value.tobytes()
    graph = dict(modelTopology=dict(node=[]), weightsManifest=[dict(paths=['weights.bin'], weights=entries)])
    (folder / 'graph.json').write_text(json.dumps(graph))
    (folder / 'weights.bin').write_bytes(content[: len(content) - cut])
    return str(folder / 'graph.json')


def test_conversion_brings_every_weight_home(tmp_path):
    torch.manual_seed(0)
    network = MoveNet()
    converted = load(convert_movenet(write_graph(tmp_path, network))[0])
    for name, value in network.state_dict().items():
        assert torch.equal(converted.state_dict()[name], value.half().float()), name


def test_other_files_are_refused_in_one_sentence(tmp_path):
    network = MoveNet()
    with pytest.raises(ValueError, match='have 9[0-9]* bytes, but the graph lists'):
        convert_movenet(write_graph(tmp_path, network, cut=2))
    with pytest.raises(
        ValueError, match='another model than MoveNet MultiPose: 1 weights do not fit, first .*conv2d_8'
    ):
        convert_movenet(write_graph(tmp_path, network, leave_out='heads.regression.1.weight'))
    (tmp_path / 'weights.bin').unlink()
    with pytest.raises(FileNotFoundError, match="'weights.bin', which is not beside it"):
        convert_movenet(str(tmp_path / 'graph.json'))
    (tmp_path / 'graph.json').write_text('{"format": "layers-model"}')
    with pytest.raises(ValueError, match='is no graph model of TensorFlow.js'):
        convert_movenet(str(tmp_path / 'graph.json'))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        convert_movenet(str(tmp_path / 'none.json'))


def test_the_tool_converts_it_for_the_config(tmp_path):
    torch.manual_seed(0)
    network, out = MoveNet(), str(tmp_path / 'movenet.pth')
    meta = convert_file(write_graph(tmp_path, network), out)
    assert meta['source'] == 'movenet' and meta['backbone'] == dict(type='MoveNetBackbone')
    cfg = Config.fromfile(ROOT_FOLDER / 'configs/rnnpose_movenet_photo.py')
    assert {key: cfg.model.data_preprocessor[key] for key in meta['data_preprocessor']} == meta['data_preprocessor']
    assert usage(meta, out).split() == [
        'configs/rnnpose_movenet_photo.py', '--cfg-options', f'model.backbone.init_cfg.checkpoint={out}',
    ]  # fmt: skip
    backbone = MODELS.build(dict(cfg.model.backbone, init_cfg=dict(cfg.model.backbone.init_cfg, checkpoint=out)))
    backbone.init_weights()
    for name, value in network.state_dict().items():
        assert torch.equal(backbone.network.state_dict()[name], value.half().float()), name
