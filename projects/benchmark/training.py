"""Cases of training: matching, and memory and time of chunked against full backpropagation.

A case takes the name of a size and a timer. Weights, features and targets are random.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from projects.peak_memory import PeakMemory
from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.matching import assign, heatmap_distances
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

from .decoder import make_decoder, make_features
from .measure import NUM_KEYPOINTS, SIZES, Row, Size, Timer

CHUNK = 4  # T


def matching(name: str, timer: Timer) -> dict:
    """Cost matrix and Hungarian assignment against the cost matrix from a loop over people and joints."""
    size = SIZES[name]
    maps = torch.rand(2, 1, size.crowd, NUM_KEYPOINTS, size.cells, size.cells, device=timer.device)
    predicted, target = maps
    free = torch.ones(1, size.crowd, dtype=torch.bool, device=timer.device)

    def ours() -> Tensor:
        cost = heatmap_distances(predicted, target)
        assign(cost, free, free)
        return cost[0]

    def loop() -> Tensor:
        cost = torch.empty(size.crowd, size.crowd)
        for n in range(size.crowd):
            for t in range(size.crowd):
                cost[n, t] = sum(torch.linalg.norm(target[0, n, j] - predicted[0, t, j]) for j in range(NUM_KEYPOINTS))
        return cost

    torch.testing.assert_close(ours().cpu(), loop(), rtol=1e-4, atol=1e-3)
    ratio = timer.ratio(loop, ours)
    figure = f'matching speed-up over a loop, {size.crowd} x {size.crowd} people'
    return dict(rows=[Row(figure, name, ratio.value, str(ratio))])


def memory(name: str, timer: Timer) -> dict:
    """Peak memory of a training step at two numbers of people, chunked against full backpropagation."""
    few, many = SIZES[name].crowd // 3, SIZES[name].crowd
    # A fresh process for each: memory that a step frees may stay with the allocator. The fork server saves the imports,
    # but they look for a GPU, after which a forked process cannot use it.
    context = get_context('spawn' if timer.device == 'cuda' else 'forkserver')
    context.set_forkserver_preload([__name__])
    peaks = {}
    for chunk_size in (CHUNK, None):
        for count in (few, many):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                task = pool.submit(training_memory, name, timer.device, count, chunk_size, torch.get_num_threads())
                peaks[chunk_size, count] = task.result()
    chunked, full = peaks[CHUNK, many], peaks[None, many]
    more_chunked, more_full = chunked - peaks[CHUNK, few], full - peaks[None, few]
    note = f'{chunked:.0f} / {full:.0f} MiB, T = {CHUNK}, {many} people'
    growth = f'{more_chunked:.0f} / {more_full:.0f} MiB from {few} to {many} people'
    return dict(
        rows=[
            Row('peak memory of training, chunked / full', name, chunked / full, note),
            Row('its growth with people, chunked / full', name, more_chunked / more_full, growth),
        ]
    )


def training_memory(name: str, device: str, people: int, chunk_size: int | None, threads: int) -> float:
    """Peak memory of one training step less what was held before it, in MiB; run it in a process of its own."""
    torch.set_num_threads(threads)
    step = training_step(SIZES[name], device, people, chunk_size)
    held = torch.cuda.memory_allocated() / 2**20 if device == 'cuda' else 0.0
    peak = PeakMemory(device)
    step()
    return peak.read() - held


def chunk_time(name: str, timer: Timer) -> dict:
    """Time of a training step, chunked against full backpropagation."""
    size = SIZES[name]
    steps = [training_step(size, timer.device, size.people, chunk_size) for chunk_size in (CHUNK, None)]
    ratio = timer.ratio(*steps)
    note = f'{ratio}; T = {CHUNK}, {size.people} people'
    return dict(rows=[Row('time of training, chunked / full', name, ratio.value, note)])


def training_step(size: Size, device: str, people: int, chunk_size: int | None) -> Callable[[], object]:
    """A function that runs forward and backward of one image with the matched losses.

    Args:
        size (Size): of the decoder.
        device (str): ``'cpu'`` or ``'cuda'``.
        people (int): in the image.
        chunk_size (int, optional): T; None for full backpropagation.

    Returns:
        Callable: takes nothing.
    """
    decoder = make_decoder(size, device, training=True)
    decoder.to_stop.bias.data.fill_(-9)  # the sequence ends after the last person
    targets = Targets(
        torch.rand(1, people, NUM_KEYPOINTS, size.cells, size.cells, device=device),
        torch.ones(1, people, NUM_KEYPOINTS, device=device),
        [people],
    )
    rules = SequenceRules(0.27, chunk_size or people + 1, max_steps=people + 1)
    sequence = TrainingSequence(decoder, HungarianHeatmapLoss(), StopLoss(), targets, rules)
    features, parameters = make_features(size, device), sequence.parameters()

    def run() -> None:
        gates = sequence.static_maps(features)
        if chunk_size is None:
            (losses,) = sequence.chunks(*gates)
            loss = sum(losses.values())
        else:
            loss, _ = backprop_in_chunks(sequence.chunks, gates, parameters)
        loss.backward()
        decoder.zero_grad()

    return run
