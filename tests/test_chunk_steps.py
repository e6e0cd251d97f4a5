"""Mode 'step', an optimizer step per chunk, against Algorithm 1 written out with autograd and a plain optimizer."""

from itertools import permutations

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.structures import InstanceData
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch import nn

from rnnpose_plugin.engine.chunk_hook import ChunkedBackpropHook, OptimizerChunkStep
from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks, backprop_with_steps
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.training_controls import TrainingControls
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

C, K, H, W = 5, 3, 6, 7
PEOPLE = 5  # six steps with the one that stops
LEARNING_RATE = 0.01


class Model(nn.Module):
    """A feature convolution, in the place of the backbone, and the decoder."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.below = nn.Conv2d(3, C, 3, padding=1)
        self.decoder, self.second_lstm = FirstLSTM(C, K, hidden_channels=(6, 4), noise=0.0), None
        self.decoder.to_stop.bias.data.fill_(-9)  # the sequence ends after z + 1
        self.image = torch.randn(1, 3, H, W)
        self.truth = torch.rand(1, PEOPLE, K, H, W)

    def features(self):
        return self.below(self.image)

    def sequence(self, chunk_size):
        targets = Targets(self.truth, torch.ones(1, PEOPLE, K), [PEOPLE])
        losses = HungarianHeatmapLoss(undercount='all'), StopLoss()
        return TrainingSequence(self.decoder, *losses, targets, SequenceRules(0.27, chunk_size))

    def optimizer(self):
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


class CpuAmp(AmpOptimWrapper):
    """MMEngine's wrapper, whose constructor refuses machines without accelerator, with torch's scaler of the CPU."""

    def __init__(self, optimizer, scale=None, **kwargs):
        OptimWrapper.__init__(self, optimizer, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale or 1.0, enabled=scale is not None)
        self.cast_dtype = torch.bfloat16
        self._scale_update_param = None


def by_the_hook(model, wrapper, people_per_step, backprops=1, autocast=False):
    """One batch as the head and the stock train loop run it."""
    step = OptimizerChunkStep(wrapper, backprops)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        sequence = model.sequence(people_per_step // backprops)
        loss, _ = backprop_with_steps(
            sequence.chunks_afresh, lambda: sequence.done, [model.below(model.image)], sequence.parameters(), step
        )
    wrapper.update_params(loss)
    return loss.detach()


def accumulated(model, wrapper, chunk, autocast=False):
    """One batch in mode 'accumulate'."""
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        sequence = model.sequence(chunk)
        gates = sequence.static_maps(model.below(model.image))
        scale = wrapper.loss_scaler.get_scale() if isinstance(wrapper, CpuAmp) else 1.0
        loss, _ = backprop_in_chunks(sequence.chunks, gates, sequence.parameters(), scale)
    wrapper.update_params(loss)


def algorithm_1(model, chunk, max_norm=None, backprops=1, autocast=False):
    """Lines 1 to 19 for one image: every assignment of a chunk tried, ``optimizer.step()`` at line 14."""
    optimizer, decoder = model.optimizer(), model.decoder
    optimizer.zero_grad()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        features = model.features()
    leaf = features.detach().requires_grad_()
    free, states, total, done = list(range(PEOPLE)), decoder.lstm.initial_state(1, H, W), 0.0, 0
    second_states = model.second_lstm and model.second_lstm.lstm.initial_state(1, H, W)
    part = chunk // backprops
    while done < PEOPLE + 1:
        steps = range(done, min(done + part, PEOPLE + 1))
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            gates, loss, maps = decoder.start(leaf)[0], 0.0, {}
            for t in steps:
                maps[t], logit, states = decoder.step(gates, states)
                target = torch.full_like(logit.float(), float(t < PEOPLE))
                loss = loss + nn.functional.binary_cross_entropy_with_logits(logit.float(), target)
        people = [t for t in steps if t < PEOPLE]

        def norms(order, maps=maps, people=people):
            return sum(
                torch.dist(model.truth[0, n, j], maps[t][0, j].float()).item()
                for n, t in zip(order, people)
                for j in range(K)
            )

        order = min(permutations(free, len(people)), key=norms)
        outputs = [maps]
        if model.second_lstm:  # in the order of LSTM1
            outputs.append({})
            gates = model.second_lstm.start(leaf)[0]
            for t in people:
                outputs[1][t], second_states = model.second_lstm.run_passes(gates, second_states, given=maps[t])
            second_states = [(h.detach(), c.detach()) for h, c in second_states]
        for n, t in zip(order, people):
            for shown in outputs:
                loss = loss + (shown[t][0].float() - model.truth[0, n]).square().sum()
        free = [n for n in free if n not in order]
        loss.backward()
        total, done = total + loss.item(), steps[-1] + 1
        states = [(h.detach(), c.detach()) for h, c in states]
        if done == PEOPLE + 1:
            features.backward(leaf.grad)  # what is below steps with the last chunk
        if done == PEOPLE + 1 or done % chunk == 0:
            if max_norm:
                nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], max_norm)
            optimizer.step()
            optimizer.zero_grad()
    return total


def assert_same_weights(ours, expected, **tolerance):
    start = Model()
    for (name, a), b, before in zip(ours.named_parameters(), expected.parameters(), start.parameters()):
        assert not torch.equal(a, before), f'{name} was not trained'
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f'{name}: {text}', **tolerance)


# Adam's first steps are about as long as the learning rate whatever the gradient, so rounding (1e-6 of a gradient) can
# show only where a gradient is almost 0; a chunk left out moves weights by whole learning rates.
CLOSE = dict(rtol=0, atol=LEARNING_RATE / 100)


@pytest.mark.parametrize('chunk', [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize('max_norm', [None, 0.5])
def test_steps_are_algorithm_1(chunk, max_norm):
    ours, expected = Model(), Model()
    clip = dict(max_norm=max_norm) if max_norm else None
    loss = by_the_hook(ours, OptimWrapper(ours.optimizer(), clip_grad=clip), chunk)
    assert loss.item() == pytest.approx(algorithm_1(expected, chunk, max_norm), rel=1e-5)
    assert_same_weights(ours, expected, **CLOSE)


@pytest.mark.parametrize('chunk, backprops', [(2, 2), (4, 2), (6, 3)])
def test_accumulation_is_within_the_chunk(chunk, backprops):
    ours, expected = Model(), Model()
    by_the_hook(ours, OptimWrapper(ours.optimizer()), chunk, backprops)
    algorithm_1(expected, chunk, backprops=backprops)
    assert_same_weights(ours, expected, **CLOSE)


@pytest.mark.parametrize('scale', [2.0**16, 2.0**-10])
def test_loss_scaling_changes_nothing(scale):
    ours, expected = Model(), Model()
    wrapper = CpuAmp(ours.optimizer(), scale, clip_grad=dict(max_norm=0.5))
    by_the_hook(ours, wrapper, 2)
    algorithm_1(expected, 2, max_norm=0.5)
    assert_same_weights(ours, expected, **CLOSE)  # powers of two scale without rounding
    assert wrapper.loss_scaler._growth_tracker == 3  # three chunks, three steps of the scaler


@pytest.mark.parametrize('scale', [None, 2.0**16])
@pytest.mark.parametrize('batches', [1, 2])
def test_accumulate_takes_one_step_under_scaling_clipping_and_accumulation(scale, batches):
    """Mode 'accumulate' with T = 2: as Algorithm 1 with a step after all people, back-propagated two at a time."""
    ours, expected = Model(), Model()
    settings = dict(clip_grad=dict(max_norm=0.5), accumulative_counts=batches)
    wrapper = CpuAmp(ours.optimizer(), scale, **settings) if scale else OptimWrapper(ours.optimizer(), **settings)
    for _ in range(batches):  # the same batch, so that the mean over batches is the gradient of one
        assert torch.equal(ours.below.weight, Model().below.weight)
        accumulated(ours, wrapper, 2)
    algorithm_1(expected, 8, max_norm=0.5, backprops=4)
    assert_same_weights(ours, expected, **CLOSE)


def test_accumulate_under_autocast():
    ours, expected = Model(), Model()
    accumulated(ours, CpuAmp(ours.optimizer()), 2, autocast=True)
    algorithm_1(expected, 8, backprops=4, autocast=True)
    # The features' gates are back-propagated once and not per chunk, which rounds otherwise in bfloat16; Adam's first
    # step can then go the other way where a gradient is almost 0, but only in few weights.
    for a, b in zip(ours.parameters(), expected.parameters()):
        assert (torch.isclose(a, b, rtol=0, atol=LEARNING_RATE / 10)).float().mean() > 0.95


def test_an_overflow_skips_steps_and_lowers_the_scale():
    model = Model()
    wrapper = CpuAmp(model.optimizer(), 2.0**127)
    by_the_hook(model, wrapper, 2)
    for a, b in zip(model.parameters(), Model().parameters()):
        assert torch.equal(a, b)
    assert wrapper.loss_scaler.get_scale() < 2.0**127


def test_under_autocast_every_chunk_sees_the_weights_of_the_step_before():
    """Autocast keeps cast weights until its context ends, and the whole batch is one context."""
    ours, expected = Model(), Model()
    by_the_hook(ours, CpuAmp(ours.optimizer()), 2, autocast=True)
    algorithm_1(expected, 2, autocast=True)  # a context per chunk
    assert_same_weights(ours, expected, **CLOSE)


class WithHead(Model):
    """The real head, with norm and LSTM2, in the place of the decoder."""

    def __init__(self):
        super().__init__()
        self.head = MODELS.build(
            dict(
                type='RecurrentPoseHead',
                in_channels=C,
                num_keypoints=K,
                decoder=dict(type='InstanceHeatmap', input_size=(4 * W, 4 * H), heatmap_size=(W, H), sigma=1.0),
                hidden_channels=(6, 4),
                second_lstm=dict(hidden_channels=(5,)),
                heatmap_loss=dict(type='HungarianHeatmapLoss', undercount='all'),
            )
        )
        self.decoder, self.second_lstm = self.head.first_lstm, self.head.second_lstm
        self.decoder.noise = 0.0
        self.decoder.to_stop.bias.data.fill_(-9)
        joints = torch.rand(PEOPLE, K, 2) * 5
        self.truth = self.head.decoder.render(joints, torch.ones(PEOPLE, K))[None]
        self.labels = InstanceData(keypoint_labels=joints, keypoint_weights=torch.ones(PEOPLE, K))

    def features(self):
        return self.head.norm(super().features())


def test_the_head_steps_with_backbone_norm_and_both_lstms():
    """Three chunks: two steps inside the loss and the train loop's own, which takes what is below along."""
    ours, expected = WithHead(), WithHead()
    wrapper = OptimWrapper(ours.optimizer())
    ours.head.chunk_size, ours.head.training_controls.chunk_step = 2, OptimizerChunkStep(wrapper)
    sample = PoseDataSample()
    sample.gt_instance_labels = ours.labels
    losses = ours.head.loss((ours.below(ours.image),), [sample])
    wrapper.update_params(losses['loss'])
    assert losses['loss'].item() == pytest.approx(algorithm_1(expected, 2), rel=1e-5)
    for (name, a), b, before in zip(ours.named_parameters(), expected.parameters(), WithHead().parameters()):
        assert not torch.equal(a, before), f'{name} was not trained'
        torch.testing.assert_close(a, b, **CLOSE)


class Runner:
    """What the hook reads of a runner."""

    iter, max_iters = 3, 10

    def __init__(self, accumulative_counts=1, chunk_size=8):
        self.model = WithHead()
        self.model.head.chunk_size = chunk_size
        self.optim_wrapper = OptimWrapper(self.model.optimizer(), accumulative_counts)


def test_the_hook_divides_a_step_among_the_wrappers_accumulation_and_restores_it():
    runner, hook = Runner(accumulative_counts=4), ChunkedBackpropHook('step')
    head, sample = runner.model.head, PoseDataSample()
    sample.gt_instance_labels = runner.model.labels
    hook.before_train(runner)
    assert head.training_controls.chunk_step.backprops == 4
    assert head._sequence([sample], torch.randn(1, C, H, W)).rules.chunk_size == 2
    assert runner.optim_wrapper.should_update()  # the train loop steps after every batch
    hook.after_train(runner)
    assert head.chunk_size == 8 and head.training_controls == TrainingControls()
    assert runner.optim_wrapper._accumulative_counts == 4


def test_what_the_hook_refuses():
    with pytest.raises(ValueError, match='chunk_size=8 .*accumulative_counts=3'):
        ChunkedBackpropHook('step').before_train(Runner(accumulative_counts=3))
    runner = Runner()
    runner.optim_wrapper = dict(a=runner.optim_wrapper)
    with pytest.raises(ValueError, match="mode='step' needs one optimizer.*dict"):
        ChunkedBackpropHook('step').before_train(runner)
    with pytest.raises(ValueError, match="'step', but the head's chunk_size is None"):
        ChunkedBackpropHook('step').before_train(Runner(chunk_size=None))


@pytest.mark.parametrize('autograd', [True, False])
def test_exact_sgd_and_no_autograd_run_the_whole_sequence_at_once(autograd):
    """Where gradients are off, as in a loss computed on validation data, there is nothing to back-propagate."""
    model, sample = WithHead(), PoseDataSample()
    sample.gt_instance_labels = model.labels
    losses = {}
    for chunk_size in (None, 2):
        model.head.chunk_size = chunk_size
        with torch.set_grad_enabled(autograd):
            losses[chunk_size] = model.head.loss((model.below(model.image),), [sample])['loss']
        assert losses[chunk_size].requires_grad is autograd
    # In chunks the matching may differ, so equality is asked for only where both are the whole sequence.
    assert autograd or torch.equal(losses[None], losses[2])
