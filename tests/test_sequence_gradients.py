"""Gradients of a training sequence, by value, against Algorithm 1 written out with plain convolutions and autograd."""

from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.second_lstm import SecondLSTM
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

C, K, H, W = 3, 2, 4, 5
PEOPLE = 4  # z; the sequence has z + 1 steps


def make(two_lstms):
    """Weights, features, targets and mask, in float64."""
    torch.manual_seed(0)
    first = FirstLSTM(C, K, hidden_channels=(4, 3)).double()
    first.to_stop.bias.data.fill_(-9)  # z^ = 0: the sequence ends after z + 1 steps
    second = SecondLSTM(C, K, hidden_channels=(4, 3)).double() if two_lstms else None
    features = torch.randn(1, C, H, W).double().requires_grad_()
    mask = torch.ones(1, H, W).double()
    mask[:, :2] = 0
    heatmaps = torch.rand(1, PEOPLE, K, H, W).double()
    # Large and different for each person where the mask is 0, so that unmasked cells alone decide the assignment.
    heatmaps[..., :2, :] *= torch.tensor([10.0, 40.0, 20.0, 30.0])[:, None, None, None]
    return first, second, features, heatmaps, mask


def gradients(features, first, second):
    parameters = [*first.named_parameters(), *(second.named_parameters() if second else [])]
    return {'F': features.grad, **{f'{i} {name}': parameter.grad for i, (name, parameter) in enumerate(parameters)}}


def by_the_sequence(chunk_size, two_lstms):
    first, second, features, heatmaps, mask = make(two_lstms)
    targets = Targets(heatmaps, torch.ones(1, PEOPLE, K), [PEOPLE], mask)
    losses = HungarianHeatmapLoss(undercount='all'), StopLoss()
    sequence = TrainingSequence(first, *losses, targets, SequenceRules(0.27, chunk_size), second)
    torch.manual_seed(1)
    if chunk_size is None:
        (parts,) = sequence.chunks(*sequence.static_maps(features))
        loss = sum(parts.values())
    else:
        loss, _ = backprop_in_chunks(sequence.chunks, sequence.static_maps(features), sequence.parameters())
    loss.backward()
    return loss.item(), gradients(features, first, second)


def plain_pass(lstm, inputs, states):
    new_states = []
    for layer, (h, c) in zip(lstm.lstm.layers, states):
        gates = F.conv2d(torch.cat([inputs, h], 1), layer.gates.weight, layer.gates.bias, padding=1)
        i, f, o, g = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        inputs = o.sigmoid() * c.tanh()
        new_states.append((inputs, c))
    return F.conv2d(inputs, lstm.to_heatmaps.weight, lstm.to_heatmaps.bias), new_states


def best_assignment(maps, truth, free, mask):
    """The true person of each step: all assignments tried, sums of norms (section 3.2)."""

    def cost(order):
        return sum(
            ((truth[person] - step) * mask)[k].norm().item() for person, step in zip(order, maps) for k in range(K)
        )

    return min(permutations(free, len(maps)), key=cost)


def by_hand(chunk_size, two_lstms, masked_matching=True):
    """Also returns the assignment of all chunks."""
    first, second, features, (truth,), (mask,) = make(two_lstms)
    zeros = [tuple(torch.zeros(2, 1, hidden, H, W).double()) for hidden in (4, 3)]
    states, second_states, free, assigned, total = zeros, zeros, list(range(PEOPLE)), [], 0.0
    torch.manual_seed(1)
    for begin in range(0, PEOPLE + 1, chunk_size or PEOPLE + 1):
        loss, maps = 0.0, []
        for t in range(begin, min(begin + (chunk_size or PEOPLE + 1), PEOPLE + 1)):
            heatmaps = 0.1 * torch.rand(1, K, H, W, dtype=torch.float64)  # line 2: for each person anew
            for _ in range(2):
                heatmaps, states = plain_pass(first, torch.cat([features, heatmaps], 1), states)
            maxima = torch.cat([h.amax(dim=(2, 3)) for h, _ in states], 1)
            logit = (first.to_stop.weight * maxima).sum() + first.to_stop.bias[0]
            loss = loss - (logit if t < PEOPLE else -logit).sigmoid().log()
            if t < PEOPLE:
                maps.append(heatmaps[0])
        order = best_assignment(maps, truth, free, mask if masked_matching else torch.ones_like(mask))
        for person, step_maps in zip(order, maps):
            loss = loss + ((truth[person] - step_maps) * mask).square().sum()
            if second:
                inputs = torch.cat([features, step_maps[None]], 1)
                refined, second_states = plain_pass(second, inputs, second_states)
                loss = loss + ((truth[person] - refined[0]) * mask).square().sum()
        free = [person for person in free if person not in order]
        assigned += order
        loss.backward()
        total += loss.item()
        states, second_states = ([(h.detach(), c.detach()) for h, c in part] for part in (states, second_states))
    return total, gradients(features, first, second), assigned


@pytest.mark.parametrize('two_lstms', [False, True])
@pytest.mark.parametrize('chunk_size', [1, 2, 3, None])
def test_gradients_are_those_of_algorithm_1(chunk_size, two_lstms):
    loss, ours = by_the_sequence(chunk_size, two_lstms)
    expected_loss, expected, _ = by_hand(chunk_size, two_lstms)
    # The losses compute in float32, with 24 bits; a broken line changes the first or second digit.
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda t, n=name: f'{n}: {t}')


@pytest.mark.parametrize('chunk_size', [1, 2, 3, None])
def test_the_mask_decides_the_assignment_of_these_targets(chunk_size):
    """Else the test above would not notice a matching without the mask."""
    assert by_hand(chunk_size, False)[2] != by_hand(chunk_size, False, masked_matching=False)[2]
