"""Chunked backprop against plain autograd, and its behaviour under scaling, autocast and the stock train loop."""

import copy

import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.structures import InstanceData
from mmpose.registry import HOOKS, MODELS
from mmpose.structures import PoseDataSample

from rnnpose_plugin.engine.chunk_hook import ChunkedBackpropHook
from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.training_controls import TrainingControls
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

C, K, H, W = 5, 3, 6, 8
COUNTS = [5, 2]


def make(chunk_size, **settings):
    torch.manual_seed(0)
    decoder = FirstLSTM(C, K, **{'hidden_channels': (6, 4), **settings}).double()
    for parameter in decoder.context.parameters():  # zero at the start, and then nothing would come through
        torch.nn.init.normal_(parameter, std=0.3)
    decoder.to_stop.bias.data.fill_(-9)  # sequences end at z + 1
    features = torch.randn(2, C, H, W).double().requires_grad_()
    heatmaps = torch.rand(2, 5, K, H, W)
    heatmaps[1, 2:] = 0
    targets = Targets(heatmaps, torch.ones(2, 5, K), COUNTS)
    rules = SequenceRules(0.27, chunk_size)
    losses = HungarianHeatmapLoss(undercount='all'), StopLoss()
    return decoder, features, TrainingSequence(decoder, *losses, targets, rules)


def chunked(chunk_size, scale=1.0, **settings):
    decoder, features, sequence = make(chunk_size, **settings)
    torch.manual_seed(1)  # the noise
    static_gates, _ = decoder.start(features)
    loss, parts = backprop_in_chunks(sequence.chunks, [static_gates], list(decoder.parameters()), scale)
    loss.backward()
    return loss.detach(), [features.grad, *(p.grad for p in decoder.parameters())], parts


def by_hand(chunk_size, **settings):
    """The paper's way: backward after every chunk, gradients add up in ``.grad``; no op, no hand-over."""
    decoder, features, sequence = make(chunk_size, **settings)
    torch.manual_seed(1)
    static_gates, _ = decoder.start(features)
    total = 0
    for parts in sequence.chunks(static_gates):
        loss = sum(parts.values())
        loss.backward(retain_graph=True)
        total = total + loss.detach()
    return total, [features.grad, *(p.grad for p in decoder.parameters())]


def assert_same(ours, expected):
    # float64: sums in another order differ by 1e-15 of their size.
    for a, b in zip(ours, expected):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    'settings',
    [
        dict(context='pooled'),
        dict(context='read'),
        dict(context='read', hidden_channels=(6, 5, 4), layer_strides=(1, 2, 1)),
    ],
)
def test_chunks_reach_what_the_context_reads(settings):
    expected, gradients = by_hand(2, **settings)
    loss, ours, _ = chunked(2, **settings)
    torch.testing.assert_close(loss, expected)
    assert_same(ours, gradients)
    assert all(gradient.abs().max() > 0 for gradient in ours)


@pytest.mark.parametrize('chunk_size', [6, 30])
def test_chunk_as_long_as_the_sequence_equals_plain_autograd(chunk_size):
    decoder, features, sequence = make(None)
    torch.manual_seed(1)
    (parts,) = sequence.chunks(decoder.start(features)[0])
    expected = sum(parts.values())
    expected.backward()
    loss, gradients, _ = chunked(chunk_size)
    torch.testing.assert_close(loss, expected.detach())
    assert_same(gradients, [features.grad, *(p.grad for p in decoder.parameters())])


@pytest.mark.parametrize('chunk_size', [1, 2, 4])
def test_smaller_chunks_equal_the_sum_of_chunk_losses_with_detached_state(chunk_size):
    expected, gradients = by_hand(chunk_size)
    loss, ours, parts = chunked(chunk_size)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(sum(parts.values()), expected)
    assert_same(ours, gradients)
    assert not torch.allclose(ours[1], chunked(30)[1][1])  # and differ from the whole sequence's


def test_outer_gradient_scales_and_accumulates():
    _, expected, _ = chunked(2)
    decoder, features, sequence = make(2)
    for _ in range(2):
        torch.manual_seed(1)
        static_gates, _ = decoder.start(features)
        loss, _ = backprop_in_chunks(sequence.chunks, [static_gates], list(decoder.parameters()))
        (1.5 * loss).backward()
    assert_same([features.grad], [3 * expected[0]])


def test_frozen_parameters_stay_out_and_unreached_ones_get_zeros():
    frozen, used, idle = (torch.ones(2, requires_grad=flag) for flag in (False, True, True))
    loss, _ = backprop_in_chunks(lambda x: [dict(a=(x * used * frozen).sum())], [torch.ones(2)], [frozen, used, idle])
    loss.backward()
    assert frozen.grad is None and used.grad.tolist() == [1, 1] and idle.grad.tolist() == [0, 0]


def test_inner_scale_saves_half_precision_gradients():
    weight, x = torch.ones(1, requires_grad=True), torch.full((1,), 1e-5)
    tiny = 1e-4  # 1e-5 * 1e-4 is below half precision's smallest number, 6e-8

    def run():
        yield dict(a=((weight.half() * x.half()).float() * tiny).sum())

    for scale, expected in [(1.0, 0.0), (2.0**16, 1e-9 * 2.0**16)]:
        weight.grad = None
        loss, _ = backprop_in_chunks(run, [], [weight], scale)
        (loss * 2.0**16).backward()  # what the loss scaler does
        # Half precision keeps 11 bits.
        assert weight.grad.item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize('chunk_size', [2, 30])
def test_under_autocast(chunk_size):
    decoder, features, sequence = make(chunk_size)
    decoder.float()
    features = features.detach().float().requires_grad_()
    torch.manual_seed(1)
    with torch.autocast('cpu', torch.bfloat16):
        static_gates, _ = decoder.start(features)
        loss, _ = backprop_in_chunks(sequence.chunks, [static_gates], list(decoder.parameters()))
    loss.backward()
    expected, gradients, _ = chunked(chunk_size)
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)  # bfloat16 keeps 8 bits
    for ours, exact in zip([features.grad, *(p.grad for p in decoder.parameters())], gradients):
        similarity = torch.cosine_similarity(ours.double().flatten(), exact.flatten(), dim=0)
        assert ours.dtype == torch.float32 and similarity > 0.98


def saved_bytes(chunk_size, people):
    """The most bytes that autograd held at once, counted as they come and go."""
    torch.manual_seed(0)
    decoder = FirstLSTM(C, K, hidden_channels=(6, 4))
    decoder.to_stop.bias.data.fill_(-9)
    targets = Targets(torch.rand(1, people, K, 16, 16), torch.ones(1, people, K), [people])
    sequence = TrainingSequence(
        decoder, HungarianHeatmapLoss(), StopLoss(), targets, SequenceRules(0.27, chunk_size, max_steps=99)
    )
    held = dict(now=0, most=0)

    class Packed:
        def __init__(self, tensor):
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            held['now'] += self.size
            held['most'] = max(held['most'], held['now'])

        def __del__(self):
            held['now'] -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Packed, lambda packed: packed.tensor):
        static_gates, _ = decoder.start(torch.randn(1, C, 16, 16))
        loss, _ = backprop_in_chunks(sequence.chunks, [static_gates], list(decoder.parameters()))
        loss.backward()
    return held['most']


def test_memory_is_bounded_by_the_chunk_and_not_by_the_people():
    assert saved_bytes(4, 30) <= saved_bytes(31, 30) / 4
    assert saved_bytes(4, 30) <= 1.05 * saved_bytes(4, 15)


def test_no_chunk_at_all_is_an_error():
    with pytest.raises(ValueError, match='No chunk'):
        backprop_in_chunks(lambda: [], [], [])


def test_an_unknown_mode_is_refused_with_its_value():
    with pytest.raises(ValueError, match="mode is 'sometimes'; use one of"):
        ChunkedBackpropHook('sometimes')


def test_the_hook_is_in_the_registry_and_can_be_copied():
    hook = HOOKS.build(dict(type='ChunkedBackpropHook', mode='step'))
    assert isinstance(hook, ChunkedBackpropHook) and copy.deepcopy(hook).mode == 'step'


HEAD = dict(
    type='RecurrentPoseHead',
    in_channels=C,
    num_keypoints=K,
    hidden_channels=(6, 4),
    decoder=dict(type='InstanceHeatmap', input_size=(4 * W, 4 * H), heatmap_size=(W, H), sigma=1.0),
)


def head_and_batch(people=5, **settings):
    torch.manual_seed(0)
    head, sample = MODELS.build({**HEAD, **settings}), PoseDataSample()
    joints = torch.rand(people, K, 2) * 5
    sample.gt_instance_labels = InstanceData(keypoint_labels=joints, keypoint_weights=torch.ones(people, K))
    return head, ((torch.randn(1, C, H, W),), [sample])


def test_the_hook_passes_the_loss_scalers_factor_to_the_head():
    class Runner:
        model = torch.nn.Module()
        # mmengine's wrapper refuses to be built on a machine without an accelerator, its scaler works on any.
        optim_wrapper = AmpOptimWrapper.__new__(AmpOptimWrapper)

    Runner.model.head, _ = head_and_batch()
    Runner.optim_wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
    hook = ChunkedBackpropHook()
    hook.before_train(Runner)
    hook.before_train_iter(Runner, 0)
    assert Runner.model.head.training_controls == TrainingControls(loss_scale=1024.0)
    hook.after_train(Runner)
    assert Runner.model.head.training_controls == TrainingControls()


@pytest.mark.parametrize('scale', [None, 1.0, 2.0**10])
def test_the_head_chunks_without_a_hook_and_with_any_scale_alike(scale):
    """By default T = 8; the gradients are those of a chunk loss with a detached state, whatever the scale inside."""
    head, batch = head_and_batch(people=12)
    assert head.chunk_size == 8
    head.first_lstm.to_stop.bias.data.fill_(-9)
    head.training_controls.loss_scale = scale
    torch.manual_seed(1)
    head.loss(*batch)['loss'].backward()
    expected, _ = head_and_batch(people=12)
    expected.first_lstm.to_stop.bias.data.fill_(-9)
    torch.manual_seed(1)
    features = expected._features(batch[0])
    sequence = expected._sequence(batch[1], features)
    chunks = 0
    for parts in sequence.chunks(*sequence.static_maps(features)):
        sum(parts.values()).backward(retain_graph=True)
        chunks += 1
    assert chunks == 2  # 13 steps
    for (name, ours), theirs in zip(head.named_parameters(), expected.parameters()):
        # float32, sums in another order
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=lambda t, n=name: f'{n}: {t}')


def test_float16_without_the_hook_is_refused():
    """Gradients inside a chunk would underflow before the loss scaler's factor reaches them."""
    head, batch = head_and_batch()
    for dtype, chunk_size in ((torch.bfloat16, 8), (torch.float16, None)):
        head.chunk_size = chunk_size
        with torch.autocast('cpu', dtype):
            assert head.loss(*batch)['loss'].isfinite()
    head.chunk_size = 8
    with torch.autocast('cpu', torch.float16), pytest.raises(ValueError, match='chunk_size is 8.*ChunkedBackpropHook'):
        head.loss(*batch)
    head.training_controls.loss_scale = 2.0**10
    with torch.autocast('cpu', torch.float16):
        assert head.loss(*batch)['loss'].isfinite()
