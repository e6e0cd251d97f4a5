"""The ConvLSTM against the equations of Shi et al. written out, and the hoisted convolution against the plain one."""

import pytest
import torch
from torch.nn import functional as F

from rnnpose_plugin.models.conv_lstm import ConvLSTM, ConvLSTMCell


def plain_step(cell, inputs, h, c):
    """Each gate by a convolution of its own over everything, the way the equations are printed."""
    D = cell.hidden_channels
    weights, biases = cell.gates.weight.split(D), cell.gates.bias.split(D)
    i, f, o, g = (F.conv2d(torch.cat([inputs, h], 1), w, b, padding=1) for w, b in zip(weights, biases))
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def test_hoisted_cell_equals_the_plain_equations():
    torch.manual_seed(0)
    cell = ConvLSTMCell(in_channels=7, hidden_channels=4, static_channels=5)
    static = torch.randn(2, 5, 6, 8)
    state = plain = cell.initial_state(2, 6, 8)
    for _ in range(4):
        changing = torch.randn(2, 2, 6, 8)
        state = cell(changing, state, cell.static_gates(static))
        plain = plain_step(cell, torch.cat([static, changing], 1), *plain)
    for ours, expected in zip(state, plain):
        # Sums of 99 products of unit size in another order; a wrong channel would change the first digit.
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_hoisted_gradients_equal_the_plain_ones():
    torch.manual_seed(0)
    cell = ConvLSTMCell(in_channels=7, hidden_channels=4, static_channels=5).double()
    static, changing = torch.randn(1, 5, 6, 8).double(), torch.randn(1, 2, 6, 8).double()
    start = tuple(torch.randn(1, 4, 6, 8).double() for _ in range(2))
    ours = torch.autograd.grad(cell(changing, start, cell.static_gates(static))[0].sum(), cell.parameters())
    plain = plain_step(cell, torch.cat([static, changing], 1), *start)[0].sum()
    for a, b in zip(ours, torch.autograd.grad(plain, cell.parameters())):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_stack_feeds_each_layer_the_h_below():
    torch.manual_seed(0)
    stack = ConvLSTM(5, 2, (4, 3))
    static, changing = torch.randn(1, 5, 6, 8), torch.randn(1, 2, 6, 8)
    states = stack(changing, stack.initial_state(1, 6, 8), stack.static_gates(static))
    zeros = torch.zeros(1, 3, 6, 8)
    expected = plain_step(stack.layers[1], states[0][0], zeros, zeros)
    torch.testing.assert_close(states[1][0], expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_the_empty_state_is_two_tensors(memory_format):
    """Written into h, the c of the same layer stays as it was; both have the order of the weights."""
    cell = ConvLSTMCell(2, 4).to(memory_format=memory_format)
    h, c = cell.initial_state(2, 3, 5)
    h.fill_(1)
    assert not c.any() and c.shape == (2, 4, 3, 5)
    assert all(part.is_contiguous(memory_format=memory_format) for part in (h, c))


def test_without_changing_channels():
    stack = ConvLSTM(5, 0, (4,))
    ((h, _),) = stack(None, stack.initial_state(1, 6, 8), stack.static_gates(torch.randn(1, 5, 6, 8)))
    assert h.shape == (1, 4, 6, 8)


def test_forget_gate_starts_open():
    cell = ConvLSTMCell(2, 4)
    i, f, o, g = cell.gates.bias.split(4)
    assert (f == 1).all() and (i.abs() < 1).all() and (o.abs() < 1).all() and (g.abs() < 1).all()


@pytest.mark.parametrize('settings', [dict(kernel_size=2), dict(hidden_channels=0), dict(static_channels=9)])
def test_bad_settings_are_refused_with_their_value(settings):
    with pytest.raises(ValueError, match=str(next(iter(settings.values())))):
        ConvLSTMCell(**{**dict(in_channels=7, hidden_channels=4), **settings})
    with pytest.raises(ValueError, match=r'\(\)'):
        ConvLSTM(5, 2, ())


@pytest.mark.parametrize('static', [0, 2])
def test_testing_computes_in_place_what_training_does_and_leaves_the_given_alone(static):
    cell = ConvLSTMCell(5, 4, static_channels=static)
    torch.manual_seed(0)
    state = torch.randn(2, 4, 6, 7), torch.randn(2, 4, 6, 7)
    changing, gates = torch.randn(2, 5 - static, 6, 7), None
    if static:
        gates = cell.static_gates(torch.randn(2, static, 6, 7)).detach()
    given = [part.clone() for part in (*state, changing, *([gates] if static else []))]
    trained = cell(changing, state, gates)
    with torch.no_grad():
        tested = cell(changing, state, gates)
    for ours, theirs in zip(tested, trained):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-6)
    for now, before in zip((*state, changing, *([gates] if static else [])), given):
        assert torch.equal(now, before)


class NextState(torch.nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, gates, c):
        return self.cell.next_state(gates, c)


@torch.no_grad()
def test_an_exported_step_does_not_compute_in_place():
    """Its graph is written without gradients, where the module itself overwrites the gates."""
    torch.manual_seed(0)
    cell, gates, c = ConvLSTMCell(3, 4), torch.randn(2, 16, 5, 6), torch.randn(2, 4, 5, 6)
    program = torch.export.export(NextState(cell), (gates, c))
    called = {node.target.name() for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    assert {'aten::sigmoid', 'aten::tanh'} <= called
    given = gates.clone()
    found = program.module()(given, c)
    assert torch.equal(given, gates)
    torch.testing.assert_close(found, cell.next_state(given, c))
    assert not torch.equal(given, gates)
