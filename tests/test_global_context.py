"""The global context and layers on coarser grids, against loops that share no code with them."""

import pytest
import torch
from mmpose.registry import MODELS
from torch.nn import functional as F

import rnnpose_plugin  # noqa: F401
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.global_context import GlobalContext
from rnnpose_plugin.models.second_lstm import SecondLSTM

N, C, K, H, W = 2, 5, 3, 8, 12
HIDDEN = (6, 4)
COARSE = dict(hidden=(6, 5, 4), layer_strides=(1, 4, 1))


def make(hidden=HIDDEN, **settings) -> FirstLSTM:
    torch.manual_seed(0)
    decoder = FirstLSTM(C, K, hidden, **settings)
    for parameter in decoder.context.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


def halved(maps: torch.Tensor) -> torch.Tensor:
    """Means of 2 x 2 cells."""
    return (maps[..., ::2, ::2] + maps[..., 1::2, ::2] + maps[..., ::2, 1::2] + maps[..., 1::2, 1::2]) / 4


def doubled(maps: torch.Tensor) -> torch.Tensor:
    """Between the middles of two cells a fine one lies a quarter from the nearer; over the border there is nothing."""
    for axis in (2, 3):
        maps = maps.transpose(axis, 3)
        before = torch.cat([maps[..., :1], maps[..., :-1]], dim=3)
        after = torch.cat([maps[..., 1:], maps[..., -1:]], dim=3)
        maps = torch.stack([0.75 * maps + 0.25 * before, 0.75 * maps + 0.25 * after], dim=4).flatten(3)
        maps = maps.transpose(axis, 3)
    return maps


def inputs_of(states: list, strides: tuple) -> torch.Tensor:
    """What the next layer takes, for the strides that are tested."""
    number, h = len(states), states[-1][0]
    if strides[number] > strides[number - 1]:
        return halved(h)
    if strides[number] < strides[number - 1]:
        beside = {(1, 2, 1): {2: 0}, (1, 2, 4, 4, 2, 1): {4: 1, 5: 0}}[strides][number]
        return torch.cat([states[beside][0], doubled(h)], dim=1)
    return h


def plain_step(decoder: FirstLSTM, features, states, noise):
    """A step written out: whole convolutions, every vector of the context by a loop over images and keypoints."""
    context, heatmaps = decoder.context, noise
    gate_channels = [4 * layer.hidden_channels for layer in decoder.lstm.layers]
    for _ in range(decoder.feedback_passes):
        context_gates_of = [torch.zeros(N, channels) for channels in gate_channels]
        if context.kind != 'none':
            for image in range(N):
                parts = [h[image].flatten(1).max(dim=1).values for h, _ in states]
                if context.kind == 'read':
                    read = torch.zeros(context.to_values.out_channels)
                    for maps in heatmaps[image]:
                        weight = maps.clamp(min=0) ** 2
                        mean = (features[image] * weight).sum(dim=(1, 2)) / (weight.sum() + 1e-4)
                        share = weight.sum() / (weight.sum() + 1e-4)
                        kernel = context.to_values.weight[:, :, 0, 0]
                        read += (kernel @ mean + share * context.to_values.bias) / len(heatmaps[image])
                    parts.append(read)
                made = context.to_gates.weight @ torch.cat(parts) + context.to_gates.bias
                for layer, part in enumerate(made.split(gate_channels)):
                    context_gates_of[layer][image] = part
        below, new_states = torch.cat([features, heatmaps], dim=1), []
        for layer, parts, (h, c) in zip(decoder.lstm.layers, context_gates_of, states):
            if new_states:
                below = inputs_of(new_states, decoder.lstm.strides)
            inputs = torch.cat([below, h], dim=1)
            gates = F.conv2d(inputs, layer.gates.weight, layer.gates.bias, padding=1) + parts[:, :, None, None]
            i, f, o, g = gates.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new_states.append((o.sigmoid() * c.tanh(), c))
        states, heatmaps = new_states, decoder.to_heatmaps(new_states[-1][0])
    return heatmaps, states


@pytest.mark.parametrize('trains', [True, False])
@pytest.mark.parametrize('strides', [None, (1, 2, 1), (1, 2, 4, 4, 2, 1)])
@pytest.mark.parametrize('context', ['none', 'pooled', 'read'])
def test_steps_equal_the_written_out_ones(context, strides, trains):
    hidden = (6, 5, 7, 3, 2, 4)[: len(strides)] if strides else HIDDEN
    decoder = make(hidden, context=context, layer_strides=strides)
    features = torch.randn(N, C, H, W)
    with torch.set_grad_enabled(trains):
        static_maps, states = decoder.start(features)
        expected_states = states
        for _ in range(3):
            noise = decoder.draw_noise(N, H, W)
            heatmaps, _, states = decoder.step(static_maps, states, noise)
            expected, expected_states = plain_step(decoder, features, expected_states, noise)
            # float32, sums in another order over three steps
            torch.testing.assert_close(heatmaps, expected, rtol=1e-4, atol=1e-5)
    assert heatmaps.shape == (N, K, H, W)


def test_without_settings_it_is_the_papers():
    decoder = FirstLSTM(C, K, HIDDEN)
    assert decoder.context.kind == 'none' and set(decoder.lstm.strides) == {1}
    assert not [name for name in decoder.state_dict() if 'context' in name]


@pytest.mark.parametrize('context', ['pooled', 'read'])
def test_a_new_network_begins_as_the_papers(context):
    torch.manual_seed(0)
    ours = FirstLSTM(C, K, HIDDEN, context=context).eval()
    papers = FirstLSTM(C, K, HIDDEN).eval()
    papers.load_state_dict({k: v for k, v in ours.state_dict().items() if 'context' not in k})
    features, noise = torch.randn(N, C, H, W), torch.rand(N, K, H, W)
    torch.testing.assert_close(
        ours.step(*ours.start(features), noise)[0], papers.step(*papers.start(features), noise)[0]
    )


@pytest.mark.parametrize('context', ['pooled', 'read'])
def test_a_far_cell_has_influence_within_one_step(context):
    """What the paper's network cannot: two passes of two layers of 3 x 3 see 4 cells and the heatmaps' one more."""

    def corner(context: str, value: float) -> torch.Tensor:
        decoder = make(context=context)
        features, noise = torch.zeros(1, C, 32, 32), torch.full((1, K, 32, 32), 0.05)
        features[..., -1, -1] = value
        return decoder.step(*decoder.start(features), noise)[0][..., 0, 0]

    assert torch.equal(corner('none', 0.0), corner('none', 30.0))
    assert not torch.allclose(corner(context, 0.0), corner(context, 30.0), atol=1e-4)


@pytest.mark.parametrize('settings', [dict(context='read'), dict(COARSE), dict(COARSE, context='read')])
def test_images_of_a_batch_are_independent(settings):
    decoder = make(**settings)
    features = 3 * torch.randn(5, C, H, W)
    everyone, _ = decoder.decode_people(features, 1e-9, 4)
    omega = torch.stack([p for _, p in everyone]).min(dim=1).values.median().item() + 1e-6  # some stop, some do not
    together, _ = decoder.decode_people(features, omega, 4)
    assert len({len(p) for _, p in together}) > 1, 'no image leaves the batch early'
    for image, (heatmaps, probabilities) in enumerate(together):
        ((alone, p),), _ = decoder.decode_people(features[image : image + 1], omega, 4)
        torch.testing.assert_close(heatmaps, alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(probabilities, p, rtol=1e-4, atol=1e-5)


def test_lstm2_supports_context_and_strides():
    torch.manual_seed(0)
    second_lstm = SecondLSTM(C, K, (6, 5, 4), feedback_passes=2, context='read', layer_strides=(1, 4, 1)).eval()
    features, people = torch.randn(1, C, H, W), [(torch.rand(3, K, H, W), torch.rand(3))]
    ((heatmaps, _),) = second_lstm.refine_people(features, people)
    assert heatmaps.shape == (3, K, H, W)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(context='all'), "context is 'all'; use one of"),
        (dict(context='read', feedback_passes=0), 'no heatmaps to read by'),
        (dict(layer_strides=(1, 1)), 'one whole number for each of the 4 layers'),
        (dict(layer_strides=(1, 0, 1, 1)), 'one whole number for each of the 4 layers'),
        (dict(layer_strides=(1, 1.5, 1, 1)), 'one whole number for each of the 4 layers'),
        (dict(layer_strides=(2, 2, 2, 1)), 'the first and the last layer have the grid of F'),
        (dict(layer_strides=(1, 2, 4, 4)), 'the first and the last layer have the grid of F'),
        (dict(layer_strides=(1, 2, 3, 1)), 'neighbours 2 and 3 do not fit'),
        (dict(layer_strides=(1, 4, 2, 1)), 'neighbours 4 and 2 do not fit'),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        FirstLSTM(C, K, (4, 4, 4, 4), **settings)


def test_grids_that_do_not_divide_are_named_with_the_cure():
    match = r'12 x 10 cells, which layer_strides=\(1, 4, 1\) does not divide; use input sizes that are multiples of 4'
    with pytest.raises(ValueError, match=match):
        make(**COARSE).start(torch.zeros(1, C, 10, 12))


def test_the_head_passes_context_and_strides_on():
    codec = dict(type='InstanceHeatmap', input_size=(64, 64), heatmap_size=(16, 16))
    head = MODELS.build(
        dict(
            type='RecurrentPoseHead', in_channels=C, num_keypoints=K, decoder=codec, context='pooled',
            layer_strides=(1, 2, 1),
        )
    )  # fmt: skip
    assert head.first_lstm.context.kind == 'pooled' and head.first_lstm.lstm.strides == (1, 2, 1)


def test_the_context_has_its_documented_size():
    context = GlobalContext('read', C, HIDDEN)
    values = context.values(torch.randn(N, C, H, W))
    states = [(torch.randn(N, d, H, W), torch.randn(N, d, H, W)) for d in HIDDEN]
    assert [tuple(parts.shape) for parts in context(values, states, torch.rand(N, K, H, W))] == [
        (N, 24, 1, 1),
        (N, 16, 1, 1),
    ]


@pytest.mark.parametrize('context', ['none', 'pooled', 'read'])
def test_gradients_are_the_finite_differences(context):
    """Through the heatmaps that the second pass is fed and reads by, the hidden states and the stop of two steps."""
    decoder = make((3, 2), context=context).double()
    features = torch.randn(1, C, 2, 3, dtype=torch.float64, requires_grad=True)
    noise = decoder.draw_noise(2, 2, 3)

    def two_steps(features):
        static_maps, states = decoder.start(features)
        first, logit, states = decoder.step(static_maps, states, noise[:1])
        second, other, _ = decoder.step(static_maps, states, noise[1:])
        return first, second, torch.stack([logit, other])

    assert torch.autograd.gradcheck(two_steps, features)
