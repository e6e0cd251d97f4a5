"""The whole-picture context and the coarser grid of the hidden state, against loops that share no code with them."""

import pytest
import torch
from mmpose.registry import MODELS
from torch.nn import functional as F

import rnnpose_plugin  # noqa: F401
from rnnpose_plugin.models.picture_context import PictureContext
from rnnpose_plugin.models.recurrent_decoder import RecurrentDecoder
from rnnpose_plugin.models.second_lstm import SequenceRefiner

N, C, K, H, W = 2, 5, 3, 8, 12
HIDDEN = (6, 4)


def make(**settings) -> RecurrentDecoder:
    torch.manual_seed(0)
    decoder = RecurrentDecoder(C, K, HIDDEN, **settings)
    for parameter in decoder.context.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


def take_apart(maps: torch.Tensor, stride: int) -> torch.Tensor:
    """Cell (y, x) of channel (c, i, j) is cell (s y + i, s x + j) of c."""
    parts = [
        maps[:, c, i::stride, j::stride] for c in range(maps.shape[1]) for i in range(stride) for j in range(stride)
    ]
    return torch.stack(parts, dim=1)


def put_together(maps: torch.Tensor, stride: int) -> torch.Tensor:
    batch, channels, height, width = maps.shape
    whole = maps.new_zeros(batch, channels // stride**2, height * stride, width * stride)
    for channel in range(channels):
        c, (i, j) = channel // stride**2, divmod(channel % stride**2, stride)
        whole[:, c, i::stride, j::stride] = maps[:, channel]
    return whole


def plain_step(decoder: RecurrentDecoder, features, states, noise):
    """A step written out: whole convolutions, every vector of the context by a loop over images and keypoints."""
    stride, context = decoder.state_stride, decoder.context
    features, heatmaps = take_apart(features, stride), take_apart(noise, stride)
    for _ in range(decoder.feedback_passes):
        gates_told = [torch.zeros(N, 4 * hidden) for hidden in HIDDEN]
        if context.kind != 'none':
            for image in range(N):
                told = [h[image].flatten(1).max(dim=1).values for h, _ in states]
                if context.kind == 'read':
                    read = torch.zeros(context.to_values.out_channels)
                    for maps in heatmaps[image]:
                        weight = maps.clamp(min=0) ** 2
                        mean = (features[image] * weight).sum(dim=(1, 2)) / (weight.sum() + 1e-4)
                        share = weight.sum() / (weight.sum() + 1e-4)
                        kernel = context.to_values.weight[:, :, 0, 0]
                        read += (kernel @ mean + share * context.to_values.bias) / len(heatmaps[image])
                    told.append(read)
                made = context.to_gates.weight @ torch.cat(told) + context.to_gates.bias
                for layer, part in enumerate(made.split([4 * hidden for hidden in HIDDEN])):
                    gates_told[layer][image] = part
        below, new_states = torch.cat([features, heatmaps], dim=1), []
        for layer, told, (h, c) in zip(decoder.lstm.layers, gates_told, states):
            inputs = torch.cat([below, h], dim=1)
            gates = F.conv2d(inputs, layer.gates.weight, layer.gates.bias, padding=1) + told[:, :, None, None]
            i, f, o, g = gates.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new_states.append((o.sigmoid() * c.tanh(), c))
            below = new_states[-1][0]
        states, heatmaps = new_states, decoder.to_heatmaps(below)
    return put_together(heatmaps, stride), states


@pytest.mark.parametrize('trains', [True, False])
@pytest.mark.parametrize('stride', [1, 2, 4])
@pytest.mark.parametrize('context', ['none', 'pooled', 'read'])
def test_steps_equal_the_written_out_ones(context, stride, trains):
    decoder = make(context=context, state_stride=stride)
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
    decoder = RecurrentDecoder(C, K, HIDDEN)
    assert decoder.context.kind == 'none' and decoder.state_stride == 1
    assert not [name for name in decoder.state_dict() if 'context' in name]


@pytest.mark.parametrize('context', ['pooled', 'read'])
def test_a_new_network_begins_as_the_papers(context):
    torch.manual_seed(0)
    ours = RecurrentDecoder(C, K, HIDDEN, context=context).eval()
    papers = RecurrentDecoder(C, K, HIDDEN).eval()
    papers.load_state_dict({k: v for k, v in ours.state_dict().items() if 'context' not in k})
    features, noise = torch.randn(N, C, H, W), torch.rand(N, K, H, W)
    torch.testing.assert_close(
        ours.step(*ours.start(features), noise)[0], papers.step(*papers.start(features), noise)[0]
    )


@pytest.mark.parametrize('context', ['pooled', 'read'])
def test_a_far_cell_matters_within_one_step(context):
    """What the paper's network cannot: two passes of two layers of 3 x 3 see 4 cells and the heatmaps' one more."""

    def corner(context: str, value: float) -> torch.Tensor:
        decoder = make(context=context)
        features, noise = torch.zeros(1, C, 32, 32), torch.full((1, K, 32, 32), 0.05)
        features[..., -1, -1] = value
        return decoder.step(*decoder.start(features), noise)[0][..., 0, 0]

    assert torch.equal(corner('none', 0.0), corner('none', 30.0))
    assert not torch.allclose(corner(context, 0.0), corner(context, 30.0), atol=1e-4)


@pytest.mark.parametrize('settings', [dict(context='read'), dict(state_stride=2), dict(context='read', state_stride=2)])
def test_images_of_a_batch_do_not_know_of_each_other(settings):
    decoder = make(**settings)
    features = 3 * torch.randn(5, C, H, W)
    everyone, _ = decoder.decode_people(features, 1e-9, 4)
    omega = torch.stack([p for _, p in everyone]).min(dim=1).values.median().item() + 1e-6  # some stop, some do not
    together, _ = decoder.decode_people(features, omega, 4)
    assert len({len(p) for _, p in together}) > 1, 'nobody leaves the batch early'
    for image, (heatmaps, probabilities) in enumerate(together):
        ((alone, p),), _ = decoder.decode_people(features[image : image + 1], omega, 4)
        torch.testing.assert_close(heatmaps, alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(probabilities, p, rtol=1e-4, atol=1e-5)


def test_lstm2_knows_both():
    torch.manual_seed(0)
    refiner = SequenceRefiner(C, K, HIDDEN, feedback_passes=2, context='read', state_stride=2).eval()
    features, people = torch.randn(1, C, H, W), [(torch.rand(3, K, H, W), torch.rand(3))]
    ((heatmaps, _),) = refiner.refine_people(features, people)
    assert heatmaps.shape == (3, K, H, W)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(context='all'), "context is 'all'; use one of"),
        (dict(context='read', feedback_passes=0), 'no heatmaps to read by'),
        (dict(state_stride=0), 'state_stride is 0'),
        (dict(state_stride=1.5), 'state_stride is 1.5'),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        RecurrentDecoder(C, K, HIDDEN, **settings)


def test_a_stride_that_does_not_divide_is_named_with_the_cure():
    with pytest.raises(ValueError, match='12 x 9 cells, which state_stride=2 does not divide; use input sizes'):
        make(state_stride=2).start(torch.zeros(1, C, 9, 12))


def test_the_head_hands_them_on():
    codec = dict(type='InstanceHeatmap', input_size=(64, 64), heatmap_size=(16, 16))
    head = MODELS.build(
        dict(type='RecurrentPoseHead', in_channels=C, num_keypoints=K, decoder=codec, context='pooled', state_stride=2)
    )
    assert head.rnn.context.kind == 'pooled' and head.rnn.state_stride == 2


def test_the_context_has_its_documented_size():
    context = PictureContext('read', C, HIDDEN)
    values = context.values(torch.randn(N, C, H, W))
    states = [(torch.randn(N, d, H, W), torch.randn(N, d, H, W)) for d in HIDDEN]
    assert [tuple(told.shape) for told in context(values, states, torch.rand(N, K, H, W))] == [
        (N, 24, 1, 1),
        (N, 16, 1, 1),
    ]
