"""One step and the unrolling at inference, against loops that follow Algorithm 1 line by line."""

import pytest
import torch

from rnnpose_plugin.models import heatmap_lstm
from rnnpose_plugin.models.first_lstm import FirstLSTM

C, K, H, W = 6, 3, 5, 7


def make(**settings):
    torch.manual_seed(0)
    return FirstLSTM(C, K, **{**dict(hidden_channels=(8, 4)), **settings})


def algorithm_step(decoder, features, states, heatmaps):
    """Lines 4 to 8 for two passes: concat(F, H^), through the plain cells."""
    for _ in range(2):
        inputs, new_states = torch.cat([features, heatmaps], 1), []
        for layer, (h, c) in zip(decoder.lstm.layers, states):
            i, f, o, g = layer.gates(torch.cat([inputs, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            inputs = o.sigmoid() * c.tanh()
            new_states.append((inputs, c))
        states, heatmaps = new_states, decoder.to_heatmaps(inputs)
    maxima = torch.cat([h.flatten(2).max(-1).values for h, _ in states], 1)
    return heatmaps, decoder.to_stop(maxima)[:, 0], states


def test_step_follows_the_algorithm():
    decoder, features = make(), torch.randn(2, C, H, W)
    static_gates, states = decoder.start(features)
    expected_states = states
    for _ in range(3):
        noise = decoder.draw_noise(2, H, W)
        heatmaps, logits, states = decoder.step(static_gates, states, noise)
        expected, expected_logits, expected_states = algorithm_step(decoder, features, expected_states, noise)
        torch.testing.assert_close(heatmaps, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(logits, expected_logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize('passes, runs', [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_number_of_passes(passes, runs):
    decoder, calls = make(feedback_passes=passes), []
    decoder.lstm.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0]))
    static_gates, states = decoder.start(torch.randn(1, C, H, W))
    heatmaps, logits, _ = decoder.step(static_gates, states)
    assert heatmaps.shape == (1, K, H, W) and logits.shape == (1,)
    assert len(calls) == runs
    if passes == 0:
        assert calls[0] is None
    else:
        assert 0 <= calls[0].min() and calls[0].max() <= 0.1
    if passes == 3:
        assert torch.equal(calls[1], decoder.to_heatmaps(hidden_after(decoder, static_gates, states, calls[0])))


def hidden_after(decoder, static_gates, states, noise):
    return decoder.lstm(noise, states, static_gates)[-1][0]


def test_the_features_are_convolved_once_per_image():
    decoder = make()
    features = torch.randn(1, C, H, W)
    static_gates, states = decoder.start(features)
    features.fill_(float('nan'))  # any later use would show
    for _ in range(2):
        heatmaps, _, states = decoder.step(static_gates, states)
    assert heatmaps.isfinite().all()


def stop_after(decoder, maxima_gain):
    """Make the stop probability fall as the hidden state fills, so that images stop at different steps."""
    with torch.no_grad():
        decoder.to_stop.weight.fill_(-maxima_gain)
        decoder.to_stop.bias.fill_(maxima_gain * 1.2)


def people_one_by_one(decoder, features, omega, limit):
    found = []
    for image in features.split(1):
        static_gates, states = decoder.start(image)
        generator, maps = torch.Generator().manual_seed(0), []
        for _ in range(limit):
            noise = decoder.draw_noise(1, H, W, generator)
            heatmaps, logits, states = decoder.step(static_gates, states, noise)
            if logits.sigmoid() < omega:
                break
            maps.append(heatmaps[0])
        found.append(maps)
    return found


@torch.no_grad()
def test_batched_decoding_equals_one_by_one():
    decoder = make()
    stop_after(decoder, 4.0)
    features = torch.randn(6, C, H, W) * torch.linspace(0.2, 3, 6)[:, None, None, None]
    expected = people_one_by_one(decoder, features, 0.3, 9)
    people, unfinished = decoder.decode_people(features, 0.3, 9)
    counts = [len(maps) for maps in expected]
    assert len(set(counts)) > 1  # else the test would not see images leave at different times
    assert [len(heatmaps) for heatmaps, _ in people] == counts
    assert unfinished == [i for i, count in enumerate(counts) if count == 9]
    for (heatmaps, probabilities), maps in zip(people, expected):
        assert (probabilities >= 0.3).all()
        for ours, theirs in zip(heatmaps, maps):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_an_image_ends_at_its_first_low_stop_probability(monkeypatch):
    """Another image goes on; the confident step that comes after is not run for the one that has ended."""
    decoder = make()
    scripted = iter([[5.0, 5.0], [-5.0, 5.0], [5.0], [-5.0]])
    plain_step = decoder.step

    def step(static_gates, states, first):
        heatmaps, _, states = plain_step(static_gates, states, first)
        return heatmaps, torch.tensor(next(scripted)), states

    monkeypatch.setattr(decoder, 'step', step)
    people, unfinished = decoder.decode_people(torch.randn(2, C, H, W), 0.3, 5)
    assert [len(maps) for maps, _ in people] == [1, 3] and unfinished == []


def test_no_people_and_too_many():
    decoder = make()
    features = torch.randn(2, C, H, W)
    decoder.to_stop.bias.data.fill_(-100)
    people, unfinished = decoder.decode_people(features, 0.3, 4)
    assert [maps.shape for maps, _ in people] == [(0, K, H, W)] * 2 and unfinished == []
    decoder.to_stop.bias.data.fill_(100)
    people, unfinished = decoder.decode_people(features, 0.3, 4)
    assert [len(maps) for maps, _ in people] == [4, 4] and unfinished == [0, 1]


def test_decoding_repeats_itself_and_leaves_the_global_generator_alone():
    decoder, features = make(), torch.randn(1, C, H, W)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = decoder.decode_people(features, 0.1, 3)[0][0][0]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(decoder.decode_people(features, 0.1, 3)[0][0][0], first)


@torch.no_grad()
def test_order_of_the_weights_changes_with_the_mode_and_nothing_else():
    decoder, features = make(), torch.randn(2, C, H, W)
    noise = decoder.draw_noise(2, H, W)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    parameters = list(decoder.parameters())

    def outputs():
        static_gates, states = decoder.start(features)
        return decoder.step(static_gates, states, noise)[:2]

    training = outputs()
    weight = decoder.lstm.layers[0].gates.weight
    assert weight.is_contiguous() and not weight.is_contiguous(memory_format=torch.channels_last)
    testing = decoder.eval() and outputs()
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    for ours, theirs in zip(testing, training):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)  # summed in another order
    decoder.train()
    assert weight.is_contiguous() and all(a is b for a, b in zip(decoder.parameters(), parameters))
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(outputs(), training))


@torch.no_grad()
def test_everything_keeps_the_order_of_the_weights_when_images_leave(monkeypatch):
    decoder, scripted, orders = make().eval(), iter([[5.0, 5.0, 5.0], [5.0, -5.0, 5.0], [-5.0, -5.0]]), []
    plain_step = decoder.step

    def step(static_gates, states, first):
        tensors = [static_gates, *(part for state in states for part in state)]
        orders.append([part.is_contiguous(memory_format=torch.channels_last) for part in tensors])
        heatmaps, _, states = plain_step(static_gates, states, first)
        return heatmaps, torch.tensor(next(scripted)), states

    monkeypatch.setattr(decoder, 'step', step)
    decoder.decode_people(torch.randn(3, C, H, W), 0.3, 9)
    assert orders == [[True] * 5] * 3


@torch.no_grad()
def test_images_are_decoded_in_groups_that_fit_a_block(monkeypatch):
    decoder = make()
    stop_after(decoder, 4.0)
    features = torch.randn(5, C, H, W) * torch.linspace(3, 0.2, 5)[:, None, None, None]
    expected, unfinished = decoder.decode_people(features, 0.3, 9)
    assert unfinished and unfinished[-1] > 1  # beyond the first group
    sizes, start = [], decoder.start
    monkeypatch.setattr(decoder, 'start', lambda images: sizes.append(len(images)) or start(images))
    for block, groups in ((2 * 4 * 8 * H * W * 4, [2, 2, 1]), (1, [1] * 5), (2**25, [5])):
        monkeypatch.setattr(heatmap_lstm, 'CPU_BLOCK', block)
        sizes.clear()
        people, still = decoder.decode_people(features, 0.3, 9)
        assert sizes == groups and still == unfinished
        for (ours, _), (theirs, _) in zip(people, expected):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_negative_passes_are_refused():
    with pytest.raises(ValueError, match='-1'):
        make(feedback_passes=-1)
