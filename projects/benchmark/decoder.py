"""The benchmark's decoders and its cases of decoding and of one step: plain torch, random weights and features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rnnpose_plugin.models.conv_lstm import State
from rnnpose_plugin.models.first_lstm import FirstLSTM

from .measure import NUM_KEYPOINTS, SIZES, Clock, Row, Size

# Relative, of the plain and the hoisted step. float32 sums a gradient over all cells in another order, and the terms
# largely cancel: with random weights and noise the two differed by up to 3e-5, and as much from float64.
TOLERANCE = 1e-4


class PlainDecoder(FirstLSTM):
    """The paper's step as it is written: every pass concatenates F, heatmaps and h, and convolves everything."""

    def start(self, features: Tensor) -> tuple[Tensor, list[State]]:
        """Nothing is computed once per image.

        Args:
            features (Tensor): (N, C, H, W).

        Returns:
            tuple[Tensor, list[tuple[Tensor, Tensor]]]: the features themselves, and h, c of each layer.
        """
        return features, self.lstm.initial_state(len(features), *features.shape[-2:])

    def run_passes(self, static_gates: Tensor, states: list[State], first: Tensor) -> tuple[Tensor, list[State]]:
        """As of ``FirstLSTM``.

        Args:
            static_gates (Tensor): the features.
            states (list[tuple[Tensor, Tensor]]): h and c of each layer.
            first (Tensor): (N, K, H, W).

        Returns:
            tuple[Tensor, list[tuple[Tensor, Tensor]]]: heatmaps and the new h and c.
        """
        heatmaps, (layer, *layers) = first, self.lstm.layers
        for _ in range(self.feedback_passes):
            h, c = states[0]
            gates = layer.gates(torch.cat([static_gates, heatmaps, h], dim=1))
            new_states = [layer.next_state(gates, c)]
            for above, state in zip(layers, states[1:]):
                new_states.append(above(new_states[-1][0], state))
            states, heatmaps = new_states, self.to_heatmaps(new_states[-1][0])
        return heatmaps, states


class CountedDecoder(FirstLSTM):
    """Computes what a decoder computes, and then stops after the number of people it is told.

    ``counts`` is (N,), how many people the images have. Whatever number of them is started takes the next counts, round
    and round. What is left of them travels with the hidden state, so that images that leave the batch take it along.
    """

    counts: Tensor

    def start(self, features: Tensor) -> tuple[Tensor, list[State]]:
        """As of ``FirstLSTM``.

        Args:
            features (Tensor): (N, C, H, W).

        Returns:
            tuple[Tensor, list[tuple[Tensor, Tensor]]]: gates, and h, c of each layer, and the counts.
        """
        static_gates, states = super().start(features)
        counts = self.counts[: len(features)]
        self.counts = self.counts.roll(-len(features))
        return static_gates, [*states, (counts, counts)]

    def step(
        self, static_gates: Tensor, states: list[State], first: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[State]]:
        """As of ``FirstLSTM``.

        Args:
            static_gates (Tensor): from :meth:`start`.
            states (list[tuple[Tensor, Tensor]]): h and c of each layer, and the counts.
            first (Tensor, optional): (N, K, H, W). Defaults to noise.

        Returns:
            tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]: heatmaps, stop logits, and the new states.
        """
        heatmaps, logits, new_states = super().step(static_gates, states[:-1], first)
        left, _ = states[-1]
        told = torch.where(left > 0, 9.0, -9.0).to(logits)
        return heatmaps, told + 0 * logits, [*new_states, (left - 1, left)]


def make_decoder(size: Size, device: str, kind: type[FirstLSTM] = FirstLSTM, training: bool = False) -> FirstLSTM:
    """A decoder with random weights, the same ones for every kind.

    Args:
        size (Size): its layers.
        device (str): where it lives.
        kind (type): its class. Defaults to FirstLSTM.
        training (bool): whether it is to be trained. Defaults to False.

    Returns:
        FirstLSTM: ready.
    """
    torch.manual_seed(0)
    return kind(size.channels, NUM_KEYPOINTS, size.hidden).to(device).train(training)


def make_features(size: Size, device: str, batch: int = 1) -> Tensor:
    """Features like normalised ones.

    Args:
        size (Size): channels and cells.
        device (str): where they live.
        batch (int): images. Defaults to 1.

    Returns:
        Tensor: (batch, C, H, W).
    """
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, size.channels, size.cells, size.cells, generator=generator).to(device)


def hoist(name: str, clock: Clock) -> dict:
    """The step with F's share of the gates computed once, against the paper's plain step.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    size, device = SIZES[name], clock.device
    features = make_features(size, device)
    noise = 0.1 * torch.rand(1, NUM_KEYPOINTS, size.cells, size.cells, device=device)
    ours, plain = make_decoder(size, device), make_decoder(size, device, PlainDecoder)
    errors = {run: _largest_difference(run, plain, ours, features, noise) for run in (_forward, _train)}
    rows = []
    for way, run, target in (('forward', _forward, 1.45), ('training step', _train, 1.4)):
        for decoder in (plain, ours):
            decoder.train(run is _train)
        runs = [lambda d=decoder, r=run: r(d, features, noise, size.people) for decoder in (plain, ours)]
        flops = [_flops(run) for run in runs]
        ratio = clock.ratio(*runs)
        note = f'{ratio}; operations {flops[0] / flops[1]:.2f}; numbers equal to a relative {errors[run]:.0e}'
        target = f'>= {target}' if device == 'cpu' else ''
        rows.append(Row(f'plain step over hoisted step, {way}', name, ratio.value, target, note))
    return dict(rows=rows, curves={})


def batch_decoding(name: str, clock: Clock) -> dict:
    """Decoding eight images of 1 to 10 people together against one by one.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    size, device = SIZES[name], clock.device
    counts = [1, 2, 3, 4, 5, 6, 8, 10]
    features = make_features(size, device, len(counts))
    decoder = make_decoder(size, device, CountedDecoder)

    def decode(rows: slice) -> list[Tensor]:
        decoder.counts = torch.tensor(counts[rows], device=device)
        people, _ = decoder.decode_people(features[rows], 0.5, 30)
        return [maps for maps, _ in people]

    def one_by_one() -> list[Tensor]:
        return [decode(slice(i, i + 1))[0] for i in range(len(counts))]

    together = decode(slice(None))
    for one, other, count in zip(one_by_one(), together, counts):
        if one.shape != other.shape or len(one) != count or not torch.allclose(one, other, atol=1e-3):
            raise ArithmeticError('images decoded together differ from those decoded one by one')
    ratio = clock.ratio(one_by_one, lambda: decode(slice(None)))
    # At 128 x 128 cells "no loss" is asked for, and 2 % are the clock's.
    target = '>= 4' if device == 'cuda' else '>= 1.3' if name == 'crowd' else '>= 0.98'
    at_once = min(len(features), decoder.images_at_once(features))
    note = f'{ratio}; {sum(counts)} people, {at_once} of 8 images at once'
    return dict(rows=[Row('8 images one by one over together', name, ratio.value, target, note)], curves={})


def options(name: str, clock: Clock) -> dict:
    """What each way to make a step faster gives over the plain float32 one.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    size, device = SIZES[name], clock.device
    features = make_features(size, device)

    def decode(decoder: CountedDecoder, dtype: torch.dtype | None = None) -> Tensor:
        decoder.counts = torch.tensor([size.people], device=device)
        with torch.autocast(device, dtype, enabled=dtype is not None):
            ((maps, _),), _ = decoder.decode_people(features, 0.5, 30)
        return maps.float()

    plain, other = (make_decoder(size, device, CountedDecoder) for _ in range(2))
    order = torch.contiguous_format if device == 'cpu' else torch.channels_last
    other = other.to(memory_format=order)
    ways = {
        f'weights in {"usual" if device == "cpu" else "channels-last"} order': lambda: decode(other),
        'bfloat16': lambda: decode(plain, torch.bfloat16),
    }
    if device == 'cuda':
        ways['float16'] = lambda: decode(plain, torch.float16)
    expected, rows = decode(plain), []
    for way, run in ways.items():
        error = float((run() - expected).abs().max() / expected.abs().max())
        ratio = clock.ratio(lambda: decode(plain), run)
        note = f'{ratio}; largest difference {error:.1e} of the largest value'
        rows.append(Row(f'decoding, as it is over {way}', name, ratio.value, '', note))
    return dict(rows=rows, curves={})


def _sequence(decoder: FirstLSTM, features: Tensor, noise: Tensor, people: int) -> list[Tensor]:
    """Heatmaps and stop logits of so many steps."""
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
    """Of outputs, or of gradients, after two people; a ratio of times means nothing if the numbers are not the same.

    Relative to the plain one's largest value, each tensor for itself: the loss is a mean, and the gradients of a layer
    may be hundreds of times smaller than those of another, beside which a wrong one would not show.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # whose 10 bits are another matter
        pairs = list(zip(*(run(decoder, *inputs, 2) for decoder in (plain, ours))))
    # torch's maximum, unlike Python's, is NaN if one of them is; so is 0 / 0, where nothing would be compared.
    error = float(torch.stack([(a - b).abs().max() / a.abs().max() for a, b in pairs]).max())
    if not error < TOLERANCE:
        raise ArithmeticError(
            f'the hoisted step is off the plain one by a relative {error:.2g}; it has to be within {TOLERANCE:g}'
        )
    return error


def _flops(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
