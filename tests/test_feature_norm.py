"""Running statistics against plain averages over all the data seen."""

import pytest
import torch
from mmpose.registry import MODELS

from rnnpose_plugin.models.feature_norm import RunningFeatureNorm


def batches(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(1, 4, 5, 6, generator=generator) + 7 for _ in range(n)]


def test_statistics_are_those_of_all_the_data_together():
    norm = MODELS.build(dict(type='RunningFeatureNorm', num_features=4))
    data = [x + i for i, x in enumerate(batches(20))]  # batches whose means differ
    for x in data:
        norm(x)
    together = torch.cat(data)
    torch.testing.assert_close(norm.running_mean, together.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, together.var((0, 2, 3), unbiased=False))


def test_training_normalises_by_the_running_statistics_and_not_the_batch():
    norm, (first, second) = RunningFeatureNorm(4), batches(2)
    norm.weight.data.fill_(2.0)
    norm.bias.data.fill_(0.5)
    norm(first)
    together = torch.cat([first, second])
    mean, var = (
        moment[:, None, None] for moment in (together.mean((0, 2, 3)), together.var((0, 2, 3), unbiased=False))
    )
    torch.testing.assert_close(norm(second), 2 * (second - mean) / (var + 1e-5).sqrt() + 0.5)


def test_after_enough_batches_it_moves_with_momentum():
    norm = RunningFeatureNorm(4, momentum=0.5)
    for x in batches(2):
        norm(x)
    before, new = norm.running_mean.clone(), batches(1, seed=9)[0] + 100
    norm(new)
    torch.testing.assert_close(norm.running_mean, 0.5 * before + 0.5 * new.mean((0, 2, 3)))


@pytest.mark.parametrize('frozen', [False, True])
def test_evaluation_and_frozen_change_nothing(frozen):
    norm = RunningFeatureNorm(4, frozen=frozen).train(frozen)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(batches(1)[0])
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert norm.weight.requires_grad is norm.bias.requires_grad is (not frozen)


def test_statistics_are_in_the_checkpoint():
    norm, fresh = RunningFeatureNorm(4), RunningFeatureNorm(4)
    for x in batches(3):
        norm(x)
    fresh.load_state_dict(norm.state_dict())
    x = batches(1, seed=5)[0]
    torch.testing.assert_close(fresh.eval()(x), norm.eval()(x))
    assert fresh.num_batches_tracked == 3


def test_two_forwards_before_one_backward():
    norm, (first, second) = RunningFeatureNorm(4), batches(2)
    (norm(first).square().sum() + norm(second).square().sum()).backward()
    assert norm.weight.grad.isfinite().all()


def test_a_model_in_float64_for_gradient_checks():
    norm, reference = RunningFeatureNorm(4).double(), RunningFeatureNorm(4)
    for x in batches(3):
        torch.testing.assert_close(norm(x.double()).float(), reference(x), rtol=1e-4, atol=1e-4)  # float32
    assert norm.running_var.dtype == torch.float64
    assert torch.autograd.gradcheck(norm.eval(), batches(1)[0].double().requires_grad_())


@pytest.mark.parametrize('momentum', [0, 1.5])
def test_bad_momentum_is_refused(momentum):
    with pytest.raises(ValueError, match=str(momentum)):
        RunningFeatureNorm(4, momentum=momentum)
