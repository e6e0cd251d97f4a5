"""The decoder that is shown what has been claimed, against a loop over plain cells that draws the maps itself."""

import pytest
import torch
from mmpose.registry import MODELS

from rnnpose_plugin.models.claiming_lstm import ClaimingLSTM
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

C, K, H, W = 6, 3, 5, 7


def make(kind=ClaimingLSTM, **settings):
    torch.manual_seed(0)
    decoder = kind(C, K, **{**dict(hidden_channels=(8, 4)), **settings})
    with torch.no_grad():  # large enough maps to be claimed, some of them beyond 1
        decoder.to_heatmaps.weight *= 20
    return decoder


def test_steps_are_given_the_maxima_of_all_before():
    """Their values, and their gradients through all steps: by the hidden states, and not by what is claimed."""
    decoder, features = make(), torch.randn(2, C, H, W, requires_grad=True)
    static_maps, states = decoder.start(features)
    expected_states, shown, sums = states[:-1], [torch.zeros(2, K, H, W)], [0.0, 0.0]
    for _ in range(4):
        noise = decoder.draw_noise(2, H, W)
        heatmaps, logits, states = decoder.step(static_maps, states, noise)
        claimed, expected = torch.stack(shown).amax(0), noise
        for _ in range(2):
            inputs, new_states = torch.cat([features, claimed, expected], 1), []
            for layer, (h, c) in zip(decoder.lstm.layers, expected_states):
                i, f, o, g = layer.gates(torch.cat([inputs, h], 1)).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                inputs = o.sigmoid() * c.tanh()
                new_states.append((inputs, c))
            expected_states, expected = new_states, decoder.to_heatmaps(inputs)
        maxima = torch.cat([h.flatten(2).max(-1).values for h, _ in expected_states], 1)
        # float32 sums in another order; leaving the clamp out changes the maps by tenths.
        torch.testing.assert_close(heatmaps, expected, rtol=0, atol=1e-4)
        expected_logits = decoder.to_stop(maxima)[:, 0]
        torch.testing.assert_close(logits, expected_logits, rtol=0, atol=1e-4)
        for number, (maps, stops) in enumerate([(heatmaps, logits), (expected, expected_logits)]):
            sums[number] = sums[number] + maps.square().mean() + stops.sum()
        shown.append(expected.detach().clamp(0, 1))
    inputs = [features, *decoder.parameters()]
    for ours, theirs in zip(*(torch.autograd.grad(total, inputs) for total in sums)):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())
    assert (torch.stack(shown) == 1).any() and (torch.stack(shown) == 0).any()
    assert torch.equal(states[-1][0], torch.stack(shown).amax(0)) or torch.allclose(
        states[-1][0], torch.stack(shown).amax(0), atol=1e-4
    )


def test_with_columns_of_zeros_it_is_the_plain_decoder():
    claiming, plain = make(), make(FirstLSTM)
    weights = plain.state_dict()
    first = 'lstm.layers.0.gates.weight'
    wide = torch.zeros_like(claiming.state_dict()[first])
    wide[:, :C], wide[:, C + K :] = weights[first][:, :C], weights[first][:, C:]
    claiming.load_state_dict({**weights, first: wide})
    features = torch.randn(2, C, H, W)
    ours, theirs = (decoder.eval().decode_people(features, 1e-6, 4)[0] for decoder in (claiming, plain))
    for (maps, p), (expected, expected_p) in zip(ours, theirs):
        assert len(p) == 4
        torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(p, expected_p, rtol=0, atol=1e-5)


def test_pictures_that_end_earlier_leave_the_others_theirs():
    decoder, features = make().eval(), 3 * torch.randn(6, C, H, W)
    static_maps, states = decoder.start(features)
    _, logits, _ = decoder.step(static_maps, states, decoder.draw_noise(1, H, W).expand(6, -1, -1, -1))
    threshold = logits.sigmoid().median().item()  # some pictures end at the first step, others go on
    together, _ = decoder.decode_people(features, threshold, 5)
    assert len({len(p) for _, p in together}) > 1
    for image, (maps, _) in enumerate(together):
        ((alone, _),), _ = decoder.decode_people(features[image : image + 1], threshold, 5)
        torch.testing.assert_close(maps, alone, rtol=0, atol=1e-5)


def given_maps(chunk_size):
    """What the steps of a training sequence of four people are given."""
    decoder, given = make(), []
    run_passes = decoder.run_passes
    decoder.run_passes = lambda *args, **kwargs: given.append(kwargs['given']) or run_passes(*args, **kwargs)
    torch.manual_seed(1)
    targets = Targets(torch.rand(1, 4, K, H, W), torch.ones(1, 4, K), [4])
    losses = HungarianHeatmapLoss(undercount='all'), StopLoss()
    sequence = TrainingSequence(decoder, *losses, targets, SequenceRules(0.99, chunk_size))
    list(sequence.chunks(*sequence.static_maps(torch.randn(1, C, H, W))))
    return given


def test_a_new_chunk_forgets_no_claim_and_claims_keep_no_graph():
    whole, single = given_maps(None), given_maps(1)
    assert len(whole) == len(single) == 5
    assert not any(maps.requires_grad for maps in whole + single)
    for maps, expected in zip(single, whole):
        assert torch.equal(maps, expected)
    assert all((after >= before).all() for before, after in zip(whole, whole[1:])) and whole[-1].max() > 0


def test_the_head_has_it_as_an_option():
    codec = dict(type='InstanceHeatmap', input_size=(32, 32), heatmap_size=(8, 8))
    head = dict(type='RecurrentPoseHead', in_channels=C, num_keypoints=K, hidden_channels=(4,), decoder=codec)
    assert type(MODELS.build(head).first_lstm) is FirstLSTM
    claiming = MODELS.build(dict(head, claimed_maps=True, max_instances=3, stop_threshold=1e-6)).eval()
    ((maps, _),) = claiming((torch.randn(1, C, 8, 8),))
    assert maps.shape == (3, K, 8, 8)
    with pytest.raises(ValueError, match='claimed_maps=True, but feedback_passes is 0'):
        MODELS.build(dict(head, claimed_maps=True, feedback_passes=0))
    with pytest.raises(ValueError, match="claimed_maps is 'no'"):
        MODELS.build(dict(head, claimed_maps='no'))
