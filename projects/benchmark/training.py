"""The benchmark's cases of training: matching, memory and time of a training step with random weights and features."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from projects.compare.predictions import PeakMemory
from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.matching import assign, heatmap_distances
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

from .decoder import make_decoder, make_features
from .measure import NUM_KEYPOINTS, SIZES, Clock, Row, Size

CHUNK = 4  # T


def matching(name: str, clock: Clock) -> dict:
    """The cost matrix and the Hungarian assignment against a loop over persons and joints.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    size = SIZES[name]
    maps = torch.rand(2, 1, size.crowd, NUM_KEYPOINTS, size.cells, size.cells, device=clock.device)
    predicted, target = maps
    free = torch.ones(1, size.crowd, dtype=torch.bool, device=clock.device)

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
    ratio = clock.ratio(loop, ours)
    figure = f'loop over matching of {size.crowd} x {size.crowd} persons'
    return dict(rows=[Row(figure, name, ratio.value, '>= 20', str(ratio))], curves={})


def memory(name: str, clock: Clock) -> dict:
    """Peak memory of a training step, chunked against full backprop, at several numbers of people.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    people = [SIZES[name].crowd // 3, SIZES[name].crowd]
    peaks = {}
    for chunk_size in (CHUNK, None):
        for count in people:
            # A process each: what one has freed its allocator may keep.
            with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
                task = pool.submit(training_memory, name, clock.device, count, chunk_size, torch.get_num_threads())
                peaks[chunk_size, count] = task.result()
    chunked, full = ([peaks[size, count] for count in people] for size in (CHUNK, None))
    slope = (chunked[1] - chunked[0]) / (full[1] - full[0])
    note = f'{chunked[1]:.0f} / {full[1]:.0f} MiB, T = {CHUNK}, {people[1]} people'
    grown = f'{chunked[1] - chunked[0]:.0f} / {full[1] - full[0]:.0f} MiB from {people[0]} to {people[1]} people'
    rows = [
        Row('peak memory of training, chunked over full', name, chunked[1] / full[1], '<= 0.25', note),
        Row('its growth with people, chunked over full', name, slope, '<= 0.05', grown),
    ]
    return dict(rows=rows, curves={})


def training_memory(name: str, device: str, people: int, chunk_size: int | None, threads: int) -> float:
    """Peak memory of one training step over what was held before it; to be called in a process of its own.

    Args:
        name (str): of the size.
        device (str): where it runs.
        people (int): in the image.
        chunk_size (int, optional): T; None for full backprop.
        threads (int): of torch.

    Returns:
        float: MiB.
    """
    torch.set_num_threads(threads)
    step = training_step(SIZES[name], device, people, chunk_size)
    held = torch.cuda.memory_allocated() / 2**20 if device == 'cuda' else 0.0
    peak = PeakMemory()
    step()
    return peak.read() - held


def chunk_time(name: str, clock: Clock) -> dict:
    """Time of a training step, chunked against full backprop.

    Args:
        name (str): of the size.
        clock (Clock): the clock.

    Returns:
        dict: rows and curves.
    """
    size = SIZES[name]
    steps = [training_step(size, clock.device, size.people, chunk_size) for chunk_size in (CHUNK, None)]
    ratio = clock.ratio(*steps)
    note = f'{ratio}; T = {CHUNK}, {size.people} people'
    return dict(rows=[Row('time of training, chunked over full', name, ratio.value, '<= 1.15', note)], curves={})


def training_step(size: Size, device: str, people: int, chunk_size: int | None) -> Callable[[], object]:
    """Forward and backward of one image, with the matched losses; ready to run.

    Args:
        size (Size): of the decoder.
        device (str): where it runs.
        people (int): in the image.
        chunk_size (int, optional): T; None for full backprop.

    Returns:
        Callable: runs it.
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
