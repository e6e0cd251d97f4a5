"""Case of whole methods on one backbone: AE, CID, the paper's decoder and ours, from the image to the poses.

The configs of CrowdBench with random weights. The number of people is given: AE's grouping gets maps drawn for it, CID
takes as many centres, and the decoders stop after it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine.registry import init_default_scope
from mmpose.structures import PoseDataSample
from torch import nn

from .decoder import COMPARED_AT, STRIDE, Counted, ae_maps, build_model
from .measure import SIZES, Row, Timer, in_ms

PEOPLE = (1, 5, 10)
CONFIGS = {
    'CID': 'configs/cid_hg_crowdbench.py',
    "the paper's decoder": 'configs/rnnpose_hg_crowdbench.py',
    'ours, context': 'configs/rnnpose_context_crowdbench.py',
    'ours, full': 'configs/rnnpose_full_crowdbench.py',
}
AE = 'configs/ae_hg_crowdbench.py'


def methods(name: str, timer: Timer) -> dict:
    """Time of an image by each method over AE's."""
    init_default_scope('mmpose')
    side = (STRIDE * SIZES[name].cells,) * 2
    sample = PoseDataSample(metainfo=dict(img_shape=side, input_size=side, batch_input_shape=side))
    image = torch.zeros(1, 3, *side, device=timer.device)
    ae = build_model(AE, timer.device)
    rows = []
    with torch.no_grad():
        feats, backbone = ae.backbone(image), timer.median(lambda: ae.backbone(image))
        for method, path in CONFIGS.items():
            model, ratios = build_model(path, timer.device), {}
            for number in PEOPLE:
                maps = [ae_maps(SIZES[name], number).to(timer.device)]
                heads = timer.ratio(_poses(model, feats, sample, number), _grouping(ae, maps, sample))
                ratios[number] = (backbone + heads.first) / (backbone + heads.second)
                if number == COMPARED_AT:
                    times = f'{in_ms(heads.first)} / {in_ms(heads.second)}; the backbone takes {in_ms(backbone)}'
            by_number = ', '.join(f'{count}: {ratio:.2f}' for count, ratio in ratios.items())
            title = f'time of an image with {COMPARED_AT} people, {method} / AE'
            rows.append(Row(title, name, ratios[COMPARED_AT], f'by people: {by_number}; heads {times}'))
    return dict(rows=rows)


def _grouping(ae: nn.Module, maps: list, sample: PoseDataSample) -> Callable[[], list]:
    """The function to time: from AE's maps to the poses."""
    return lambda: ae.head.predict(maps, [sample], ae.test_cfg)


def _poses(model: nn.Module, feats: list, sample: PoseDataSample, number: int) -> Callable[[], int]:
    """The function to time: from the backbone's output to the poses of so many people."""
    cfg, decoder = model.test_cfg, getattr(model.head, 'first_lstm', None)
    if decoder is None:
        cfg = dict(cfg, max_instances=number, score_threshold=-1)
    elif not isinstance(decoder, Counted):
        decoder.__class__ = type('CountedDecoder', (Counted, type(decoder)), {})  # the same weights

    def run() -> int:
        if decoder is not None:
            decoder.counts = torch.tensor([number], device=feats[0].device)
        return len(model.head.predict(model.neck(feats), [sample], cfg)[0].keypoints)

    if run() != number:
        raise ArithmeticError(f'{type(model.head).__name__} gave {run()} people, not {number}')
    return run
