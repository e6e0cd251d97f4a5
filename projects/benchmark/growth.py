"""The benchmark's case of growth: how the times of decoding and of training grow with what they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from .decoder import CountedDecoder, make_decoder, make_features
from .measure import SIZES, Clock, Row, Size, growth_exponent, in_ms
from .training import CHUNK, training_step


def growth(name: str, clock: Clock) -> dict:
    """How the times grow with people, pixels, batch and T.

    Args:
        name (str): of the size; people, batch and T are varied at half its cells, which takes a quarter of the time.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    size, device = SIZES[name], clock.device
    half = replace(size, cells=size.cells // 2)

    def decode(size: Size, people: int, batch: int) -> Callable[[], object]:
        decoder, features = make_decoder(size, device, CountedDecoder), make_features(size, device, batch)
        decoder.counts = torch.full((batch,), people, device=device)
        return lambda: decoder.decode_people(features, 0.5, 64)

    def train(people: int, chunk_size: int) -> Callable[[], object]:
        return training_step(half, device, people, chunk_size)

    sides = [size.cells // 4, size.cells // 2, size.cells]
    series = {
        'people, decoding': ([2, 4, 8, 16, 30], lambda n: decode(half, n, 1)),
        'people, training': ([4, 8, 16, 30], lambda n: train(n, CHUNK)),
        'cells, decoding': (
            [side**2 for side in sides],
            lambda n: decode(Size(round(n**0.5), size.channels, size.hidden), 4, 1),
        ),
        'batch, decoding': ([1, 2, 4, 8], lambda n: decode(half, 4, n)),
        'T, training': ([1, 2, 4, 8], lambda n: train(8, n)),
    }
    rows, curves = [], {}
    for what, (numbers, make) in series.items():
        seconds = [clock.median(make(number)) for number in numbers]
        exponent = growth_exponent(numbers, seconds)
        times = ', '.join(f'{number}: {in_ms(time)}' for number, time in zip(numbers, seconds))
        note = times if what.startswith('cells') else f'{half.cells} x {half.cells} cells; {times}'
        rows.append(Row(f'exponent of growth with {what}', name, exponent, '<= 1.1', note))
        curves[f'growth:{what}, {name}'] = dict(x=numbers, seconds=seconds, exponent=exponent)
    return dict(rows=rows, curves=curves)
