"""The head in MMPose's signatures: targets, losses, predictions, and the settings it refuses."""

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData, PixelData
from mmpose.registry import HOOKS, MODELS
from mmpose.structures import PoseDataSample

K, C = 3, 6
CODEC = dict(type='InstanceHeatmap', input_size=(32, 24), heatmap_size=(8, 6), sigma=1.0)


def build(**settings):
    torch.manual_seed(0)
    cfg = dict(type='RecurrentPoseHead', in_channels=C, num_keypoints=K, hidden_channels=(6, 4), decoder=CODEC)
    return MODELS.build({**cfg, **settings})


def sample(people, mask=True):
    """A sample as the pipeline packs it: joints in cells and weights, and the heatmap mask."""
    generator = torch.Generator().manual_seed(people)
    data = PoseDataSample()
    data.gt_instance_labels = InstanceData(
        keypoint_labels=torch.rand(people, K, 2, generator=generator) * torch.tensor([7.0, 5.0]),
        keypoint_weights=torch.ones(people, K),
    )
    if mask:
        data.gt_fields = PixelData(heatmap_mask=torch.ones(1, 6, 8, dtype=torch.bool))
    return data


def features(batch):
    return (torch.randn(batch, C, 6, 8, generator=torch.Generator().manual_seed(1)),)


@pytest.mark.parametrize('chunk_size', [None, 1, 2, 8])
@pytest.mark.parametrize('people', [[0], [3], [2, 0, 5]])
def test_loss_of_any_batch_reaches_every_parameter(chunk_size, people):
    head = build()
    head.chunk_size = chunk_size
    losses = head.loss(features(len(people)), [sample(n) for n in people])
    assert sorted(losses) == ['heatmap', 'loss', 'stop'] and losses['loss'].isfinite()
    torch.testing.assert_close(losses['loss'], losses['heatmap'] + losses['stop'])
    losses['loss'].backward()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize('chunk_size', [None, 2])
@pytest.mark.parametrize('settings', [{}, dict(first_lstm_loss=False), dict(second_lstm=dict(feedback_passes=2))])
def test_two_lstms_train_in_every_parameter(settings, chunk_size):
    head = build(**{**dict(second_lstm=dict(hidden_channels=(5, 4), order='inverse')), **settings})
    head.first_lstm.to_stop.bias.data.fill_(3)  # so that the steps count as people
    head.chunk_size = chunk_size
    losses = head.loss(features(2), [sample(3), sample(1)])
    names = {'heatmap', 'second_lstm_heatmap', 'stop'} - ({'heatmap'} if 'first_lstm_loss' in settings else set())
    torch.testing.assert_close(losses['loss'], sum(losses[name] for name in names))
    assert set(losses) == {'loss', *names}
    losses['loss'].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_with_two_lstms_the_output_is_the_second_ones_heatmaps():
    one, two = build(max_instances=3).eval(), build(max_instances=3, second_lstm=dict(order='inverse')).eval()
    two.load_state_dict(one.state_dict(), strict=False)
    one.first_lstm.to_stop.bias.data.fill_(9)
    two.first_lstm.to_stop.bias.data.fill_(9)
    x = features(2)
    first, second = one(x), two(x)
    expected = two.second_lstm.refine_people(two._features(x), first)
    for found, refined in zip(second, expected):
        assert torch.equal(found[0], refined[0]) and torch.equal(found[1], refined[1])
    assert torch.equal(second[0][1], first[0][1].flip(0))  # LSTM1's probabilities, in LSTM2's order


def test_training_may_stop_after_fewer_people_than_inference():
    head = build(max_instances=6, max_train_instances=2)
    head.first_lstm.to_stop.bias.data.fill_(9)
    calls = []
    head.first_lstm.to_heatmaps.register_forward_hook(lambda *_: calls.append(1))
    head.loss(features(1), [sample(4)])
    assert len(calls) == 2 * 2  # two steps of two passes
    assert len(head.eval()(features(1))[0][1]) == 6


def test_the_parts_are_logged_and_not_added_twice():
    from mmengine.model import BaseModel

    losses = build().loss(features(1), [sample(2)])
    total, log = BaseModel.parse_losses(None, losses)
    torch.testing.assert_close(total, losses['loss'])
    assert {'heatmap', 'stop'} <= set(log)


def test_masked_images_are_supervised_less_and_missing_masks_mean_everywhere():
    head, masked = build(), sample(2)
    masked.gt_fields.heatmap_mask[:] = False
    torch.manual_seed(2)
    assert head.eval().loss(features(1), [masked])['heatmap'] == 0
    torch.manual_seed(2)
    whole = head.loss(features(1), [sample(2)])
    torch.manual_seed(2)
    without = head.loss(features(1), [sample(2, mask=False)])
    torch.testing.assert_close(whole['loss'], without['loss'])
    torch.manual_seed(2)
    alone = head.loss(features(2), [masked, sample(2, mask=False)])  # the other's mask still counts
    torch.manual_seed(2)
    assert alone['heatmap'] < head.loss(features(2), [sample(2), sample(2, mask=False)])['heatmap']


def test_statistics_are_counted_once_per_batch_and_not_per_chunk():
    head = build()
    head.chunk_size = 1
    head.loss(features(2), [sample(4), sample(2)])
    assert head.norm.num_batches_tracked == 1


def test_features_and_norm_get_gradients_through_the_chunks():
    gradients = {}
    for chunk_size in (None, 30):
        head, (x,) = build(), features(2)
        x.requires_grad_()
        head.chunk_size = chunk_size
        torch.manual_seed(2)
        head.loss((x,), [sample(3), sample(1)])['loss'].backward()
        gradients[chunk_size] = [x.grad, head.norm.weight.grad]
    for plain, chunked in zip(*gradients.values()):
        torch.testing.assert_close(chunked, plain, rtol=1e-4, atol=1e-6)


def test_predict_gives_the_codecs_poses_of_the_raw_maps():
    head = build(max_instances=4).eval()
    head.first_lstm.to_stop.bias.data.fill_(9)
    feats = features(2)
    raw = head(feats)
    poses, fields = head.predict(feats, [PoseDataSample(), PoseDataSample()], dict(output_heatmaps=True))
    for (heatmaps, stop), pose, field in zip(raw, poses, fields):
        keypoints, keypoint_scores, scores = head.decoder.decode((heatmaps, stop))
        kept = scores > 0
        np.testing.assert_array_equal(pose.keypoints, keypoints[kept])
        np.testing.assert_array_equal(pose.keypoint_scores, keypoint_scores[kept])
        np.testing.assert_array_equal(pose.bbox_scores, scores[kept])
        assert field.heatmaps.shape == (K, 6, 8) and field.instance_heatmaps.shape == (kept.sum() * K, 6, 8)


def test_predict_without_people():
    head = build().eval()
    head.first_lstm.to_stop.bias.data.fill_(-99)
    (pose,), (field,) = head.predict(features(1), [PoseDataSample()], dict(output_heatmaps=True))
    assert pose.keypoints.shape == (0, K, 2) and pose.bbox_scores.shape == (0,) and not field.heatmaps.any()


def test_hitting_max_instances_is_logged(caplog):
    head = build(max_instances=2).eval()
    head.first_lstm.to_stop.bias.data.fill_(9)
    logger = MMLogger.get_current_instance()  # does not propagate, so caplog has to be let in
    logger.addHandler(caplog.handler)
    for _ in range(2):
        head(features(3))
    logger.removeHandler(caplog.handler)
    assert '3 of 3 images had not stopped' in caplog.text and 'max_instances=2' in caplog.text
    assert 'an untrained model does not stop' in caplog.text
    assert caplog.text.count('had not stopped') == 1  # an untrained model's validation has thousands of images


@pytest.mark.parametrize('settings', [dict(), dict(second_lstm=dict(hidden_channels=(5, 4)), context='read')])
def test_a_head_in_float64_for_gradient_checks(settings):
    losses = []
    for kind in (torch.float32, torch.float64):
        head = build(max_instances=3, **settings).to(kind)
        losses.append(head.loss((features(1)[0].to(kind),), [sample(2)])['loss'])
        losses[-1].backward()
        head.eval().predict((features(1)[0].to(kind),), [PoseDataSample()])
        assert all(p.grad.dtype == kind for p in head.parameters())
    torch.testing.assert_close(losses[0].float(), losses[1].float(), rtol=1e-4, atol=1e-4)  # float32


@pytest.mark.parametrize('cells', [(1, 12, 16), (1, 6, 6)])
def test_a_mask_of_another_size_names_the_setting(cells):
    masked = sample(1)
    masked.gt_fields = PixelData(heatmap_mask=torch.ones(*cells, dtype=torch.bool))
    size = rf'\({cells[2]}, {cells[1]}\)'
    with pytest.raises(ValueError, match=rf'heatmap_mask has {size} cells.*\(8, 6\); set the heatmap_size of Instance'):
        build().loss(features(2), [sample(2), masked])


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(stop_threshold=0.0), 'omega.*0.0'),
        (dict(stop_threshold=1.0), 'omega.*1.0'),
        (dict(stop_threshold='0.3'), "omega.*'0.3'"),
        (dict(max_instances=0), 'max_instances is 0'),
        (dict(max_instances='30'), "max_instances is '30'"),
        (dict(max_surplus=-1), 'max_surplus is -1'),
        (dict(max_surplus=0.5), 'max_surplus is 0.5'),
        (dict(max_train_instances=0), 'max_train_instances is 0'),
        (dict(max_train_instances=2.5), 'max_train_instances is 2.5'),
        (dict(chunk_size=0), 'chunk_size is 0; T is a number'),
        (dict(chunk_size=2.5), 'chunk_size is 2.5'),
        (dict(hidden_channels=()), r'\(\)'),
        (dict(hidden_channels=(), second_lstm={}), r'second_lstm=.*hidden_channels is \(\)'),
        (dict(second_lstm=dict(order='alphabetical')), "'alphabetical'"),
        (dict(second_lstm=dict(feedback_passes=-1)), '-1'),
        (dict(first_lstm_loss=False), 'first_lstm_loss is False'),
        (dict(second_lstm={}, first_lstm_loss='no'), "first_lstm_loss is 'no'"),
        (dict(hidden_channels=(4, 0)), 'hidden_channels is 0'),
        (dict(feedback_passes=-1), '-1'),
    ],
)
def test_bad_settings_are_refused_at_construction(settings, words):
    with pytest.raises(ValueError, match=words):
        build(**settings)


def test_misspelt_settings_are_refused():
    with pytest.raises(TypeError, match='hidden_chanels'):
        build(hidden_chanels=(4,))
    with pytest.raises(TypeError, match='oder'):
        build(second_lstm=dict(oder='random'))
    with pytest.raises(ValueError, match='flip_tets'):
        build().predict(features(1), [PoseDataSample()], dict(flip_tets=True))
    with pytest.raises(ValueError, match="unmatched is 'forget'"):
        build().predict(features(1), [PoseDataSample()], dict(unmatched='forget'))
    for name, value in [('flip_test', 'no'), ('multiscale_test', 1), ('ae_refinement', 'off')]:
        with pytest.raises(ValueError, match=f'{name} is {value!r}; use'):
            build().predict(features(1), [PoseDataSample()], {name: value})
    with pytest.raises(ValueError, match='feedback_passes is 1.5; use'):
        build(feedback_passes=1.5)


def test_data_and_model_that_do_not_fit_are_named():
    head = build()
    with pytest.raises(ValueError, match='in_channels=6.*gives 5'):
        head((torch.randn(1, 5, 6, 8),))
    with pytest.raises(ValueError, match=r'\(8, 6\).*\(6, 6\)'):
        head.loss((torch.randn(1, C, 6, 6),), [sample(1)])
    wrong = sample(1)
    wrong.gt_instance_labels = InstanceData(keypoint_labels=torch.zeros(1, 5, 2), keypoint_weights=torch.ones(1, 5))
    with pytest.raises(ValueError, match='5 keypoints.*num_keypoints=3'):
        head.loss(features(1), [wrong])


def test_the_hook_refuses_other_heads():
    class Runner:
        model, optim_wrapper = torch.nn.Module(), None

    hook = HOOKS.build(dict(type='ChunkedBackpropHook'))
    with pytest.raises(ValueError, match='ChunkedBackpropHook needs a RecurrentPoseHead, but the head is a NoneType'):
        hook.before_train(Runner)
    Runner.model.head = build(chunk_size=3)
    hook.before_train(Runner)
    hook.after_train(Runner)
    assert Runner.model.head.chunk_size == 3


@pytest.mark.parametrize('max_people, steps', [(None, 4), (2, 2), (9, 4)])
def test_growing_sequences_end_early_and_never_later_than_max_train_instances(max_people, steps):
    head = build(max_train_instances=4)
    head.training_controls.max_people = max_people
    sequence = head._sequence([sample(7)], features(1)[0])
    list(sequence.chunks(*sequence.static_maps(features(1)[0])))
    assert sequence.steps_done == steps
