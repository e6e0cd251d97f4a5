"""Cases of inference: caching static gates, batching, AE by number of people, memory format and precision.

A case takes the name of a size and a timer. Weights and features are random.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch import Tensor, nn

from rnnpose_plugin.codecs.instance_heatmap import InstanceHeatmap
from rnnpose_plugin.models.conv_lstm import State
from rnnpose_plugin.models.first_lstm import FirstLSTM

from .measure import NUM_KEYPOINTS, SIZES, Row, Size, Timer, in_ms

# Relative, between the step with cached gates and the plain one. float32 sums a gradient over all cells in another
# order, and the terms largely cancel: the two differed by up to 3e-5, and either as much from float64.
TOLERANCE = 1e-4
BATCH = (1, 2, 3, 4, 5, 6, 8, 10)  # people of each image
STRIDE = 4  # pixels of an image per cell
PEOPLE = (1, 2, 5, 10, 20, 30)
COMPARED_AT = 5  # people
CONFIGS = {
    'paper': ('configs/ae_hg_coco.py', 'configs/rnnpose_hg_coco.py'),
    'crowd': ('configs/ae_hg_crowd.py', 'configs/rnnpose_hg_crowd.py'),
}


class PlainDecoder(FirstLSTM):
    """The step as the paper writes it: every pass convolves the concatenation of F, heatmaps and h."""

    def start(self, features: Tensor) -> tuple[Tensor, list[State]]:
        """The features (N, C, H, W) in place of static gates, and the initial h and c of each layer."""
        return features, self.lstm.initial_state(len(features), *features.shape[-2:])

    def run_passes(self, features: Tensor, states: list[State], first: Tensor) -> tuple[Tensor, list[State]]:
        """All passes of a step: heatmaps (N, K, H, W) and the new h and c of each layer."""
        heatmaps, (layer, *layers) = first, self.lstm.layers
        for _ in range(self.feedback_passes):
            h, c = states[0]
            gates = layer.gates(torch.cat([features, heatmaps, h], dim=1))
            new_states = [layer.next_state(gates, c)]
            for above, state in zip(layers, states[1:]):
                new_states.append(above(new_states[-1][0], state))
            states, heatmaps = new_states, self.to_heatmaps(new_states[-1][0])
        return heatmaps, states


class Counted:
    """In front of a decoder: computes what that computes, but stops after a given number of people.

    ``counts`` (N,) has the number of people of each image; a batch of n images takes the next n counts, cyclically. The
    people left travel with the hidden state, so that they stay with their image when others leave the batch.
    """

    counts: Tensor

    def start(self, features: Tensor) -> tuple[Tensor, list[State]]:
        """As in the base class; the counts are appended to the states."""
        static_gates, states = super().start(features)
        counts = self.counts[: len(features)]
        self.counts = self.counts.roll(-len(features))
        return static_gates, [*states, (counts, counts)]

    def step(
        self, static_gates: Tensor, states: list[State], first: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[State]]:
        """As in the base class; the stop logit is 9 as long as people are left, then -9."""
        heatmaps, logits, new_states = super().step(static_gates, states[:-1], first)
        left, _ = states[-1]
        counted_logits = torch.where(left > 0, 9.0, -9.0).to(logits)
        return heatmaps, counted_logits + 0 * logits, [*new_states, (left - 1, left)]


class CountedDecoder(Counted, FirstLSTM):
    """The paper's LSTM1, counted."""


def make_decoder(size: Size, device: str, kind: type = FirstLSTM, training: bool = False) -> FirstLSTM:
    """A decoder with random weights, the same for every ``kind``."""
    torch.manual_seed(0)
    return kind(size.channels, NUM_KEYPOINTS, size.hidden).to(device).train(training)


def make_features(size: Size, device: str, batch: int = 1) -> Tensor:
    """Features (batch, C, H, W) of mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, size.channels, size.cells, size.cells, generator=generator).to(device)


def caching(name: str, timer: Timer) -> dict:
    """The plain step against the step that computes the features' share of the gates once per image."""
    size, device = SIZES[name], timer.device
    features = make_features(size, device)
    noise = 0.1 * torch.rand(1, NUM_KEYPOINTS, size.cells, size.cells, device=device)
    plain, ours = make_decoder(size, device, PlainDecoder), make_decoder(size, device)
    errors = {run: _largest_difference(run, plain, ours, features, noise) for run in (_forward, _train)}
    rows = []
    for title, run in (('forward', _forward), ('training step', _train)):
        for decoder in (plain, ours):
            decoder.train(run is _train)
        runs = [lambda d=decoder, r=run: r(d, features, noise, size.people) for decoder in (plain, ours)]
        ratio = timer.ratio(*runs)
        note = f'{ratio}; largest relative difference {errors[run]:.0e}'
        rows.append(Row(f'speed-up from caching static gates, {title}', name, ratio.value, note))
    return dict(rows=rows)


def batching(name: str, timer: Timer) -> dict:
    """Eight images with 1 to 10 people: decoded one by one against together."""
    size, device = SIZES[name], timer.device
    features, decoder = make_features(size, device, len(BATCH)), make_decoder(size, device, CountedDecoder)

    def decode(images: slice) -> list[Tensor]:
        decoder.counts = torch.tensor(BATCH[images], device=device)
        people, _ = decoder.decode_people(features[images], 0.5, 30)
        return [maps for maps, _ in people]

    def one_by_one() -> list[Tensor]:
        return [decode(slice(i, i + 1))[0] for i in range(len(BATCH))]

    for single, batched, count in zip(one_by_one(), decode(slice(None)), BATCH):
        if single.shape != batched.shape or len(single) != count or not torch.allclose(single, batched, atol=1e-3):
            raise ArithmeticError('images decoded together differ from images decoded one by one')
    ratio = timer.ratio(one_by_one, lambda: decode(slice(None)))
    at_once = min(len(BATCH), decoder.images_at_once(features))
    note = f'{ratio}; {sum(BATCH)} people, {at_once} of {len(BATCH)} images at once'
    return dict(rows=[Row(f'batching speed-up, {len(BATCH)} images', name, ratio.value, note)])


def options(name: str, timer: Timer) -> dict:
    """Memory format of the weights, and reduced precision."""
    size, device = SIZES[name], timer.device
    features, decoder = make_features(size, device), make_decoder(size, device, CountedDecoder)
    contiguous, channels_last = (
        make_decoder(size, device, CountedDecoder).to(memory_format=order)
        for order in (torch.contiguous_format, torch.channels_last)
    )

    def decode(decoder: CountedDecoder, dtype: torch.dtype = torch.float32) -> Tensor:
        decoder.counts = torch.tensor([size.people], device=device)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            ((maps, _),), _ = decoder.decode_people(features, 0.5, 30)
        return maps.float()

    def row(figure: str, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> Row:
        expected = decode(contiguous)
        error = max(float((run() - expected).abs().max() / expected.abs().max()) for run in (first, second))
        ratio = timer.ratio(first, second)
        return Row(figure, name, ratio.value, f'{ratio}; largest difference {error:.1e} of the largest value')

    rows = [row('decoding time, channels-last / contiguous', lambda: decode(channels_last), lambda: decode(contiguous))]
    for precision in ('bfloat16', 'float16') if device == 'cuda' else ('bfloat16',):
        dtype = getattr(torch, precision)
        rows.append(row(f'speed-up from {precision}', lambda: decode(decoder), lambda d=dtype: decode(decoder, d)))
    return dict(rows=rows)


def people(name: str, timer: Timer) -> dict:
    """From the image to the poses by number of people: the decoder against AE's grouping as MMPose has it.

    Both use the backbone of the configs with random weights. AE's grouping gets maps drawn for the number of people,
    and the decoder stops after that number.
    """
    init_default_scope('mmpose')
    size, device = SIZES[name], timer.device
    ae, rnn = (build_model(path, device) for path in CONFIGS[name])
    decoder = rnn.head.first_lstm = make_decoder(size, device, CountedDecoder)
    side = (STRIDE * size.cells,) * 2
    sample = PoseDataSample(metainfo=dict(img_shape=side, input_size=side, batch_input_shape=side))
    image = torch.zeros(1, 3, *side, device=device)
    with torch.no_grad():
        curve = dict(people=list(PEOPLE), AE=[], decoder=[], backbone=timer.median(lambda: rnn.backbone(image)))
        feats = rnn.backbone(image)
        for number in PEOPLE:
            maps = [ae_maps(size, number).to(device)]
            decoder.counts = torch.tensor([number], device=device)
            found = len(ae.head.predict(maps, [sample], ae.test_cfg)[0].keypoints)
            if found != number:
                raise ArithmeticError(f'AE grouped {found} people from maps drawn for {number}')
            ratio = timer.ratio(
                lambda: rnn.head.predict(rnn.neck(feats), [sample], rnn.test_cfg),
                lambda maps=maps: ae.head.predict(maps, [sample], ae.test_cfg),
            )
            curve['decoder'].append(ratio.first)
            curve['AE'].append(ratio.second)
    return dict(rows=_rows_at(COMPARED_AT, name, curve), people=curve)


def _rows_at(number: int, name: str, curve: dict) -> list[Row]:
    backbone, totals = curve['backbone'], list(zip(curve['people'], curve['decoder'], curve['AE']))
    ratios = {count: (backbone + decoder) / (backbone + ae) for count, decoder, ae in totals}
    _, decoder, ae = totals[curve['people'].index(number)]
    by_number = ', '.join(f'{count}: {ratio:.2f}' for count, ratio in ratios.items())
    times = f'{in_ms(decoder)} / {in_ms(ae)}; the backbone takes {in_ms(backbone)}'
    return [
        Row(f'time of an image with {number} people, decoder / AE', name, ratios[number], f'by people: {by_number}'),
        Row('the same without the backbone', name, decoder / ae, times),
    ]


def build_model(path: str, device: str) -> nn.Module:
    """The model of a config with random weights, in evaluation mode."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model).to(device).eval()


def ae_maps(size: Size, people: int) -> Tensor:
    """AE's output (1, 68, H, W) for people on a grid: heatmaps, tags, and 34 channels that the grouping ignores."""
    side = STRIDE * size.cells
    codec = InstanceHeatmap((side, side), (size.cells, size.cells), sigma=1.0)
    # On each map all people are shifted by the same random amount, so that no two joints of a kind meet.
    spots = (torch.arange(people) + 0.5) * size.cells**2 / people
    rows, columns = (spots // size.cells).floor(), spots % size.cells
    generator = torch.Generator().manual_seed(people)
    shifts = torch.randint(0, size.cells, (NUM_KEYPOINTS, 2), generator=generator)
    joints = (torch.stack([columns, rows], dim=-1)[:, None].floor() + shifts) % size.cells
    heatmaps = codec.render(joints, torch.ones(people, NUM_KEYPOINTS))
    tags = heatmaps.argmax(dim=0).float()
    return torch.cat([heatmaps.amax(dim=0), tags, torch.zeros(34, size.cells, size.cells)])[None]


def _sequence(decoder: FirstLSTM, features: Tensor, noise: Tensor, people: int) -> list[Tensor]:
    """Heatmaps and stop logits of each step."""
    static_gates, states = decoder.start(features)
    outputs = []
    for _ in range(people):
        heatmaps, logits, states = decoder.step(static_gates, states, noise)
        outputs += [heatmaps, logits]
    return outputs


@torch.no_grad()
def _forward(decoder: FirstLSTM, features: Tensor, noise: Tensor, people: int) -> list[Tensor]:
    return _sequence(decoder, features, noise, people)


def _train(decoder: FirstLSTM, features: Tensor, noise: Tensor, people: int) -> list[Tensor]:
    decoder.zero_grad()
    sum(output.square().mean() for output in _sequence(decoder, features, noise, people)).backward()
    return [parameter.grad for parameter in decoder.parameters()]


def _largest_difference(run: Callable, plain: PlainDecoder, ours: FirstLSTM, *inputs: Tensor) -> float:
    """Between outputs, or gradients, after two people; each tensor relative to the plain one's largest value.

    Gradients of one layer may be hundreds of times smaller than those of another, so each tensor has its own scale.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 has 10 bits of mantissa
        pairs = list(zip(*(run(decoder, *inputs, 2) for decoder in (plain, ours))))
    # torch's maximum, unlike Python's, is NaN if one of the numbers is, 0 / 0 included.
    error = float(torch.stack([(a - b).abs().max() / a.abs().max() for a, b in pairs]).max())
    if not error < TOLERANCE:
        raise ArithmeticError(
            f'cached static gates change the result by a relative {error:.2g}; it has to be below {TOLERANCE:g}'
        )
    return error
