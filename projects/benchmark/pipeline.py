"""The benchmark's cases around the decoder: targets through the data loader, and whole pictures against AE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpose.datasets.transforms import GenerateTarget, PackPoseInputs
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rnnpose_plugin.codecs.instance_heatmap import InstanceHeatmap

from .decoder import CountedDecoder, make_decoder
from .measure import NUM_KEYPOINTS, SIZES, Clock, Row, Size, in_ms

STRIDE = 4
PEOPLE = (1, 2, 5, 10, 20, 30)
COMPARED_AT = 5  # people
CONFIGS = {
    'paper': ('configs/ae_hg_coco.py', 'configs/rnnpose_hg_coco.py'),
    'crowd': ('configs/ae_hg_crowd.py', 'configs/rnnpose_hg_crowd.py'),
}


class Pictures(Dataset):
    """Pictures with people, as a training's data set gives them; empty, so that their loading costs nothing.

    Args:
        codec (dict): that encodes the people.
        size (Size): of the maps.
        count (int): pictures.
    """

    def __init__(self, codec: dict, size: Size, count: int) -> None:
        self.pipeline = [GenerateTarget(encoder=codec), PackPoseInputs()]
        self.size, self.count = size, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        side, people = STRIDE * self.size.cells, self.size.crowd
        joints = np.random.default_rng(index).uniform(0, side - 1, (people, NUM_KEYPOINTS, 2)).astype(np.float32)
        data = dict(
            img=np.zeros((8, 8, 3), np.uint8),
            keypoints=joints,
            keypoints_visible=np.ones(joints.shape[:2], np.float32),
            transformed_keypoints=joints,
        )
        for step in self.pipeline:
            data = step(data)
        return data


def targets(name: str, clock: Clock) -> dict:
    """Targets rendered where the model is against heatmaps that come through the data loader.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    size = SIZES[name]
    side = STRIDE * size.cells
    codec = dict(type='InstanceHeatmap', input_size=(side, side), heatmap_size=(size.cells, size.cells))
    init_default_scope('mmpose')
    bytes_of, load = {}, {}
    for shipped in (False, True):
        dataset = Pictures(dict(codec, encode_heatmaps=shipped), size, 8)
        bytes_of[shipped] = _bytes(dataset[0]['data_samples'])
        load[shipped] = _loading(dataset)
    ratio = clock.ratio(load[False], load[True])
    joints = Pictures(codec, size, 1)[0]['data_samples'].gt_instance_labels.to(clock.device)
    maker = InstanceHeatmap(**{key: value for key, value in codec.items() if key != 'type'})
    rendering = clock.median(lambda: maker.render(joints.keypoint_labels, joints.keypoint_weights))
    shares = f'{bytes_of[False]:,} / {bytes_of[True]:,} bytes, {size.crowd} people'
    times = f'{ratio} for 8 pictures; rendering one on the device {in_ms(rendering)}'
    rows = [
        Row(
            'bytes of targets per image, joints over heatmaps',
            name,
            bytes_of[False] / bytes_of[True],
            '<= 0.01',
            shares,
        ),
        Row('data time per image, joints over heatmaps', name, ratio.value, '<= 0.333', times),
    ]
    return dict(rows=rows, curves={})


def whole_image(name: str, clock: Clock) -> dict:
    """From the picture to the poses by number of people: the decoder against the toolbox's grouping.

    Both have the backbone of the configs, with random weights. So that there are people to be found, AE's grouping gets
    maps drawn for them, and the decoder is told when to stop; it computes what it always does.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    init_default_scope('mmpose')
    ae, rnn = (_build(path, clock.device) for path in CONFIGS[name])
    size = SIZES[name]
    rnn.head.first_lstm = make_decoder(size, clock.device, CountedDecoder)
    side = STRIDE * size.cells
    picture = torch.zeros(1, 3, side, side, device=clock.device)
    sample = PoseDataSample(
        metainfo=dict(img_shape=(side, side), input_size=(side, side), batch_input_shape=(side, side))
    )
    with torch.no_grad():
        backbone = clock.median(lambda: rnn.backbone(picture))
        feats = rnn.backbone(picture)
        curves = {'people': [], 'AE': [], 'decoder': [], 'ratio': [], 'backbone': backbone}
        for people in PEOPLE:
            maps = [_ae_maps(size, people).to(clock.device)]
            rnn.head.first_lstm.counts = torch.tensor([people], device=clock.device)

            def group(maps: list[Tensor] = maps) -> list:
                return ae.head.predict(maps, [sample], ae.test_cfg)

            def decode() -> list:
                return rnn.head.predict(rnn.neck(feats), [sample], rnn.test_cfg)

            found = len(group()[0].keypoints)
            if found != people:
                raise ArithmeticError(f'AE grouped {found} people out of maps drawn for {people}')
            both = clock.ratio(decode, group)
            curves['people'].append(people)
            curves['AE'].append(both.second)
            curves['decoder'].append(both.first)
            curves['ratio'].append((backbone + both.first) / (backbone + both.second))
    return dict(rows=_rows(name, clock.device, curves), curves={f'people:{name}': curves})


def _rows(name: str, device: str, curves: dict) -> list[Row]:
    at = curves['people'].index(COMPARED_AT)
    decoder, ae, backbone = curves['decoder'][at], curves['AE'][at], curves['backbone']
    note = f'backbone {in_ms(backbone)} and {in_ms(decoder)} / {in_ms(ae)}; {_crossover(curves)}'
    total = Row(f'whole picture of {COMPARED_AT} people, decoder over AE', name, curves['ratio'][at], '<= 1.5', note)
    alone = Row('the same without the backbone', name, decoder / ae)
    if device == 'cuda':
        worst = max(a / b for n, a, b in zip(curves['people'], curves['decoder'], curves['AE']) if n >= COMPARED_AT)
        total.target = ''
        alone = Row(f"decoder over AE's decoding, worst from {COMPARED_AT} people on", name, worst, '<= 1')
    return [total, alone]


def _crossover(curves: dict) -> str:
    faster = [str(people) for people, ratio in zip(curves['people'], curves['ratio']) if ratio <= 1]
    return f'the decoder is the faster one at {", ".join(faster) or "no number of"} people'


def _build(path: str, device: str):
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model).to(device).eval()


def _ae_maps(size: Size, people: int) -> Tensor:
    """Heatmaps and tags of people who stand on a grid, with 34 channels more, (1, 68, H, W)."""
    side = STRIDE * size.cells
    codec = InstanceHeatmap((side, side), (size.cells, size.cells), sigma=1.0)
    # A person's joints are the same step away from each other's on every map, so that no two of a kind meet.
    spots = (torch.arange(people) + 0.5) * size.cells**2 / people
    rows, columns = (spots // size.cells).floor(), spots % size.cells
    generator = torch.Generator().manual_seed(people)
    shifts = torch.randint(0, size.cells, (NUM_KEYPOINTS, 2), generator=generator)
    joints = (torch.stack([columns, rows], dim=-1)[:, None].floor() + shifts) % size.cells
    heatmaps = codec.render(joints, torch.ones(people, NUM_KEYPOINTS))
    tags = heatmaps.argmax(dim=0).float()
    return torch.cat([heatmaps.amax(dim=0), tags, torch.zeros(34, size.cells, size.cells)])[None]


def _bytes(sample: PoseDataSample) -> int:
    """Of all tensors that a sample's targets hold."""
    parts = [part for part in (sample.get('gt_instance_labels'), sample.get('gt_fields')) if part is not None]
    tensors = [value for part in parts for value in part.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _loading(dataset: Pictures) -> Callable[[], None]:
    """An epoch through one worker; the worker is started before the clock is."""
    loader = DataLoader(dataset, batch_size=1, num_workers=1, collate_fn=pseudo_collate, persistent_workers=True)
    for _ in loader:
        pass

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch
