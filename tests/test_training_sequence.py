"""Lengths, targets and matching of whole batches, against Algorithm 1 run on one image at a time."""

import pytest
import torch

from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

C, K, H, W = 4, 3, 5, 6
OMEGA = 0.27


class Scripted(FirstLSTM):
    """LSTM1 with scripted stop logits: (B, steps), the last one repeated."""

    def __init__(self, logits):
        torch.manual_seed(0)
        super().__init__(C, K, hidden_channels=(6, 4))
        self.logits, self.steps, self.fed = torch.tensor(logits), 0, []

    def step(self, static_gates, states, first=None):
        self.fed.append(first)
        heatmaps, logits, states = super().step(static_gates, states, torch.zeros(len(static_gates), K, H, W))
        scripted = self.logits[:, min(self.steps, self.logits.shape[1] - 1)]
        self.steps += 1
        return heatmaps, logits * 0 + scripted, states


def targets(counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    heatmaps = torch.rand(len(counts), max(counts, default=0), K, H, W, generator=generator)
    for image, count in enumerate(counts):
        heatmaps[image, count:] = 0
    return Targets(heatmaps, torch.ones(heatmaps.shape[:3]), counts)


def run(logits, counts, losses=None, batch_targets=None, **rules):
    decoder = Scripted(logits)
    losses = losses or (HungarianHeatmapLoss(), StopLoss())
    rules = SequenceRules(OMEGA, **rules)
    sequence = TrainingSequence(decoder, *losses, batch_targets or targets(counts), rules)
    torch.manual_seed(3)
    features = torch.randn(len(counts), C, H, W)
    return sequence, list(sequence.chunks(decoder.start(features)[0]))


YES, NO = 3.0, -3.0


@pytest.mark.parametrize(
    'logits, z, length',
    [
        ([NO], 0, 1),  # an image without people: one step, target [0]
        ([YES, YES, NO], 0, 3),  # z^ = 2
        ([YES, YES, NO], 2, 3),
        ([NO, NO, NO, NO], 3, 4),  # z^ = 0: it runs on to z + 1
        ([YES, NO, YES, YES, YES, YES], 3, 4),  # z^ = 1, whatever comes after
        ([YES, YES, YES, NO], 1, 4),
    ],
)
def test_length_is_that_of_equation_1(logits, z, length):
    sequence, _ = run([logits], [z])
    assert sequence.steps_done == length


def test_stop_targets_are_equation_1():
    class Record(StopLoss):
        def forward(self, logits, is_person, running):
            self.seen = [row[mask].int().tolist() for row, mask in zip(is_person, running)]
            return super().forward(logits, is_person, running)

    record = Record()
    logits = [[YES, YES, NO, NO], [YES, YES, YES, NO], [NO, NO, NO, NO], [NO, YES, YES, YES]]
    run(logits, [2, 1, 3, 0], (HungarianHeatmapLoss(), record))
    assert record.seen == [[1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0]]


def test_batch_equals_images_alone():
    logits = [[YES, YES, NO, NO, NO], [YES, YES, YES, YES, NO], [NO, NO, NO, NO, NO], [NO] * 5]
    counts, together = [2, 1, 4, 0], targets([2, 1, 4, 0])
    _, (batch,) = run(logits, counts, batch_targets=together)
    torch.manual_seed(3)
    features, expected = torch.randn(4, C, H, W), dict(heatmap=0, stop=0)
    for image, z in enumerate(counts):
        alone = Targets(together.heatmaps[image : image + 1], together.keypoint_weights[image : image + 1], [z])
        decoder = Scripted(logits[image : image + 1])
        losses = HungarianHeatmapLoss(), StopLoss()
        sequence = TrainingSequence(decoder, *losses, alone, SequenceRules(OMEGA))
        (parts,) = sequence.chunks(decoder.start(features[image : image + 1])[0])
        expected = {name: expected[name] + parts[name] / 4 for name in parts}
    for name in batch:
        torch.testing.assert_close(batch[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('chunk_size, sizes', [(1, 5), (2, 3), (4, 2), (5, 1), (9, 1)])
def test_number_of_chunks(chunk_size, sizes):
    _, chunks = run([[YES] * 4 + [NO]], [4], chunk_size=chunk_size)
    assert len(chunks) == sizes


def test_people_assigned_in_one_chunk_are_gone_in_the_next():
    seen = []

    class Record(HungarianHeatmapLoss):
        def match(self, predicted, target, keypoint_weights, free, candidates, mask=None):
            seen.append((int(free.sum()), int(candidates.sum())))
            return super().match(predicted, target, keypoint_weights, free, candidates, mask)

    run([[YES] * 5 + [NO]], [5], (Record(), StopLoss()), chunk_size=2)
    assert seen == [(5, 2), (3, 2), (1, 1)]


def test_hidden_state_is_kept_but_detached_between_chunks():
    sequence, chunks = run([[YES] * 3 + [NO]], [3], chunk_size=2)
    _, (whole,) = run([[YES] * 3 + [NO]], [3])
    stop = sum(chunk['stop'] for chunk in chunks)
    torch.testing.assert_close(stop, whole['stop'])  # the same numbers come out: the state went on
    decoder = sequence.first_lstm
    (first,) = torch.autograd.grad(chunks[1]['heatmap'], decoder.lstm.layers[1].gates.weight, retain_graph=True)
    assert first.abs().sum() > 0
    nodes, names = [chunks[1]['heatmap'].grad_fn], set()
    chunk_0 = chunks[0]['heatmap'].grad_fn
    while nodes:
        node = nodes.pop()
        if node is not None and node not in names:
            names.add(node)
            nodes += [parent for parent, _ in node.next_functions]
    assert chunk_0 not in names and len([n for n in names if 'Tanh' in n.name()]) == 2 * 2 * 2 * 2


def test_surplus_steps_are_capped():
    assert run([[YES] * 30], [2])[0].steps_done == 30
    assert run([[YES] * 30], [2], max_surplus=3)[0].steps_done == 6
    assert run([[YES] * 30], [2], max_steps=5)[0].steps_done == 5
    assert run([[YES] * 30], [7], max_steps=5)[0].steps_done == 5
    assert run([[YES, NO]], [1], max_steps=9)[0].steps_done == 2


def test_a_device_sync_is_needed_only_beyond_the_largest_image(monkeypatch):
    asked, ask = [], torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, '__bool__', lambda self: asked.append(1) or ask(self))
    run([[YES] * 6 + [NO]], [6])
    assert len(asked) == 1  # once, after step z + 1
