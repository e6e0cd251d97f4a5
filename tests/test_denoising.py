"""The branch that denoises one given person: its noise against loops over single joints, its gradients by value."""

import math

import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch.nn import functional as F

from rnnpose_plugin.codecs.instance_heatmap import InstanceHeatmap
from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.claiming_lstm import ClaimingLSTM
from rnnpose_plugin.models.denoising import Denoising, nearest_person
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

C, K, H, W = 3, 5, 6, 8
CODEC = InstanceHeatmap((32, 24), (W, H), sigma=1.0)
SIGMAS = [0.02, 0.04, 0.06, 0.08, 0.1]


class Recorder(Denoising):
    """Keeps what was drawn."""

    def draw(self, *args):
        self.people = super().draw(*args)
        return self.people


def make(kind=Denoising, **settings):
    return kind(CODEC.render, K, **{**dict(sigmas=SIGMAS), **settings})


def people_of(counts, labelled=0.7, seed=0):
    """Targets of images with so many people; joints without a label lie at (0, 0), as the codec has it."""
    generator = torch.Generator().manual_seed(seed)
    B, N = len(counts), max(counts)
    joints = torch.rand(B, N, K, 2, generator=generator) * torch.tensor([W - 1.0, H - 1.0])
    weights = (torch.rand(B, N, K, generator=generator) < labelled).float()
    for image, z in enumerate(counts):
        joints[image, z:], weights[image, z:] = 0, 0
    joints = joints * weights[..., None]
    mask = (torch.rand(B, H, W, generator=generator) < 0.8).float()
    return Targets(CODEC.render(joints, weights), weights, list(counts), mask, joints)


def slowly_noised(own, labelled, other, other_labelled, mixed, uniform, normal, drop, swap, shift):
    """One person, joint by joint: {joint: place}."""
    given = [j for j in range(K) if labelled[j]]
    sides = [max(own[j][axis] for j in given) - min(own[j][axis] for j in given) for axis in (0, 1)]
    size = max(1, (sides[0] + sides[1]) / 2)
    shared = sorted((j for j in given if other_labelled[j]), key=lambda j: uniform[j])
    of_other = [j for j in range(K) if other_labelled[j] and uniform[j] < swap]
    own_left = [j for j in given if j not in of_other and uniform[j] < 1 - drop]
    if mixed:
        of_other, shown = shared[: len(shared) // 2], shared
    elif len(own_left) <= len(of_other):
        of_other, shown = [], given
    else:
        shown = own_left + of_other
    return {
        j: [
            (other if j in of_other else own)[j][axis] + shift * 2 * SIGMAS[j] * size * normal[j][axis]
            for axis in (0, 1)
        ]
        for j in shown
    }


@pytest.mark.parametrize('drop, swap, shift', [(0, 0, 0), (0, 0, 1), (0.9, 0, 0), (0, 0.45, 0), (0.3, 0.3, 2)])
def test_the_noise_is_that_of_a_loop_over_joints(drop, swap, shift):
    M, noise = 200, make(drop=drop, swap=swap, shift=shift)
    torch.manual_seed(1)
    own, other = 6 * torch.rand(M, K, 2), 6 * torch.rand(M, K, 2)
    labelled, other_labelled = torch.rand(M, K) < 0.7, torch.rand(M, K) < 0.7
    labelled[:, 0] |= ~labelled.any(1)
    mixed = (torch.rand(M) < 0.3) & ((labelled & other_labelled).sum(1) >= 2)
    uniform, normal = torch.rand(M, K), torch.randn(M, K, 2)
    joints, shown = noise.noised((own, labelled), (other, other_labelled), mixed, uniform, normal)
    rows = zip(*(part.tolist() for part in (own, labelled, other, other_labelled, mixed, uniform, normal)))
    for image, row in enumerate(rows):
        expected = slowly_noised(*row, drop, swap, shift)
        assert sorted(expected) == shown[image].nonzero().flatten().tolist()
        for joint, place in expected.items():
            assert joints[image, joint].tolist() == pytest.approx(place, abs=1e-5)


def test_a_moved_joint_has_the_oks_that_the_docstring_states():
    for shift in (0.5, 1, 2):
        own = torch.zeros(20000, K, 2)
        own[:, 1] = torch.tensor([30.0, 10.0])  # s = 20
        labelled = torch.ones(20000, K, dtype=torch.bool)
        torch.manual_seed(0)
        noise = make(shift=shift, drop=0, swap=0)
        moved, _ = noise.noised(
            (own, labelled), (own, ~labelled), labelled[:, 0] & False, torch.rand(20000, K), torch.randn(20000, K, 2)
        )
        oks = (-(moved - own).square().sum(-1) / (2 * (20 * 2 * torch.tensor(SIGMAS)) ** 2)).exp()
        # A mean of 20,000 numbers in [0, 1]: its deviation is below 0.004.
        assert oks.mean(0).tolist() == pytest.approx([1 / (1 + shift**2)] * K, abs=0.015)


def test_the_nearest_person_is_that_of_a_loop():
    targets = people_of([5, 1, 2, 4] * 10, labelled=0.4)
    labelled = targets.keypoint_weights > 0
    alone = 0
    for image, z in enumerate(targets.counts):
        for person in range(z):
            means = {}
            for other in set(range(z)) - {person}:
                shared = [k for k in range(K) if labelled[image, person, k] and labelled[image, other, k]]
                places = targets.keypoints[image].tolist()
                if shared:
                    means[other] = sum(math.dist(places[person][k], places[other][k]) for k in shared) / len(shared)
            expected = min(means, key=means.get) if means else person
            alone += not means
            (found,) = nearest_person(targets.keypoints[[image]], labelled[[image]], torch.tensor([person]))
            assert found == expected
    assert alone > 20


@pytest.mark.parametrize('claiming', [False, True])
def test_who_is_drawn_and_who_counts_as_claimed(claiming):
    counts, draws = [3, 1], 4000
    targets, noise = people_of(counts, labelled=2), make(negative=0.4)
    expand = [part.repeat_interleave(draws, 0) for part in (targets.keypoints, targets.keypoint_weights)]
    torch.manual_seed(0)
    people = noise.draw(*expand, torch.tensor(counts).repeat_interleave(draws), claiming)
    several, single = slice(draws), slice(draws, None)
    # Shares of 4,000 draws; their deviation is below 0.008.
    assert (people.person[several].bincount() / draws).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert people.is_person[several].float().mean() == pytest.approx(0.6, abs=0.03)
    assert not people.person[single].any() and not people.claimed[single, 1:].any()
    # A single person cannot be mixed; claimed maps are needed to have been shown already.
    assert people.is_person[single].float().mean() == pytest.approx(0.6 if claiming else 1, abs=0.03)
    chosen = people.claimed.gather(1, people.person[:, None])[:, 0]
    assert not (chosen & people.is_person).any() and bool(chosen.any()) == claiming
    mixed = ~people.is_person[several] & ~chosen[several]
    assert mixed.float().mean() == pytest.approx(0.2 if claiming else 0.4, abs=0.03)
    others = people.claimed[several].sum(1) - chosen[several].int()
    assert set(others[people.is_person[several]].tolist()) == {0, 1, 2}  # none, some or all of the others
    assert others[mixed].max() == 1  # the one who is mixed in is not claimed


def written_out(lstm, features, targets, images, people, noise, ignore):
    """The branch's two losses with plain convolutions, image by image."""
    heatmap, stop = 0.0, 0.0
    for row, image in enumerate(images):
        maps = CODEC.render(people.keypoints[row], people.shown[row]).double() + noise[row]
        claimed = torch.zeros(K, H, W).double()
        for person in range(targets.counts[image]):
            if people.claimed[row, person]:
                claimed = torch.maximum(claimed, targets.heatmaps[image, person].double())
        given = [claimed[None]] if isinstance(lstm, ClaimingLSTM) else []
        states, maps = [tuple(torch.zeros(2, 1, hidden, H, W).double()) for hidden in (4, 3)], maps[None]
        for _ in range(2):
            inputs, new_states = torch.cat([features[image : image + 1], *given, maps], 1), []
            for layer, (h, c) in zip(lstm.lstm.layers, states):
                gates = F.conv2d(torch.cat([inputs, h], 1), layer.gates.weight, layer.gates.bias, padding=1)
                i, f, o, g = gates.chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                inputs = o.sigmoid() * c.tanh()
                new_states.append((inputs, c))
            states, maps = new_states, F.conv2d(inputs, lstm.to_heatmaps.weight, lstm.to_heatmaps.bias)
        maxima = torch.cat([h.amax(dim=(2, 3)) for h, _ in states], 1)
        logit = (lstm.to_stop.weight * maxima).sum() + lstm.to_stop.bias[0]
        person = people.person[row]
        wanted, counted = torch.zeros(K, H, W), torch.ones(K)
        if people.is_person[row]:
            wanted = targets.heatmaps[image, person]
            counted = targets.keypoint_weights[image, person] if ignore else counted
        squares = (maps[0] - wanted).square() * targets.mask[image]
        heatmap = heatmap + (squares.sum(dim=(1, 2)) * counted).sum()
        stop = stop - (logit if people.is_person[row] else -logit).sigmoid().log()
    return heatmap, stop


def gradients_of(kind, chunk_size, ignore, denoising):
    torch.manual_seed(0)
    lstm = kind(C, K, hidden_channels=(4, 3)).double()
    lstm.to_stop.bias.data.fill_(-9)  # sequences of z + 1 steps
    features = torch.randn(8, C, H, W).double().requires_grad_()
    targets, noises, draw_noise = people_of([3, 2, 0, 4, 1, 2, 5, 3]), [], lstm.draw_noise
    lstm.draw_noise = lambda *size: noises.append(draw_noise(*size)) or noises[-1]
    losses = HungarianHeatmapLoss(undercount='all', unlabelled='ignore' if ignore else 'zero'), StopLoss()
    rules = SequenceRules(0.27, chunk_size)
    sequence = TrainingSequence(lstm, *losses, targets, rules, None, denoising and denoising.losses)
    # After the branch the sequence draws the same noise as without one.
    sequence._denoise = lambda maps, run=sequence._denoise: (run(maps), torch.manual_seed(1))[0]
    torch.manual_seed(6)
    if chunk_size is None:
        (parts,) = sequence.chunks(*sequence.static_maps(features))
        loss = sum(parts.values())
    else:
        loss, parts = backprop_in_chunks(sequence.chunks, sequence.static_maps(features), sequence.parameters())
    loss.backward()
    gradients = [features.grad, *(parameter.grad for parameter in lstm.parameters())]
    return gradients, parts, (lstm, features.detach().requires_grad_(), targets), noises


@pytest.mark.parametrize('ignore', [False, True])
@pytest.mark.parametrize('chunk_size', [1, 3, None])
@pytest.mark.parametrize('kind', [FirstLSTM, ClaimingLSTM])
def test_the_branch_adds_the_gradients_of_the_written_out_sum(kind, chunk_size, ignore):
    without, *_ = gradients_of(kind, chunk_size, ignore, None)
    denoising = make(Recorder, negative=0.5, loss_weight=0.5, share=0.9)
    together, parts, (lstm, features, targets), (noise, *_) = gradients_of(kind, chunk_size, ignore, denoising)
    people = denoising.people
    torch.manual_seed(6)
    images = [i for i, draw in enumerate(torch.rand(8).tolist()) if draw < 0.9 and targets.counts[i]]
    claimed_already = people.claimed.gather(1, people.person[:, None])[:, 0]
    assert people.is_person.any() and (~people.is_person & ~claimed_already).any() and 4 < len(images) < 8
    assert bool(claimed_already.any()) == (kind is ClaimingLSTM)
    heatmap, stop = written_out(lstm, features, targets, images, people, noise, ignore)
    # The losses compute in float32, with 24 bits.
    assert parts['denoising_heatmap'].item() == pytest.approx(0.5 * heatmap.item() / 8, rel=1e-5)
    assert parts['denoising_stop'].item() == pytest.approx(0.5 * stop.item() / 8, rel=1e-5)
    expected = torch.autograd.grad(0.5 * (heatmap + stop) / 8, [features, *lstm.parameters()])
    for ours, sequences, branchs in zip(together, without, expected):
        assert branchs.abs().max() > 0
        torch.testing.assert_close(ours - sequences, branchs, rtol=1e-5, atol=1e-5)


class NoMatching(HungarianHeatmapLoss):
    def match(self, *args):
        raise AssertionError('the branch is not matched')


@pytest.mark.parametrize('kind', [FirstLSTM, ClaimingLSTM])
def test_the_pair_is_fixed_and_nothing_waits_for_the_device(kind):
    """On the meta device, which has no values, whatever looks at one fails."""
    lstm = kind(C, K, hidden_channels=(4, 3)).to('meta')
    targets = people_of([3, 0, 1])
    parts = (targets.heatmaps, targets.keypoint_weights, targets.mask, targets.keypoints)
    heatmaps, weights, mask, keypoints = (part.to('meta') for part in parts)
    targets = Targets(heatmaps, weights, targets.counts, mask, keypoints)
    losses = make().losses(lstm, NoMatching(), StopLoss(), targets, lstm.static_maps(torch.rand(3, C, H, W).to('meta')))
    assert [loss.shape for loss in losses.values()] == [(), ()]


def build(**settings):
    torch.manual_seed(0)
    codec = dict(type='InstanceHeatmap', input_size=(32, 24), heatmap_size=(W, H), sigma=1.0)
    cfg = dict(type='RecurrentPoseHead', in_channels=C, num_keypoints=K, hidden_channels=(6, 4), decoder=codec)
    return MODELS.build({**cfg, 'denoising': dict(negative=0.5), **settings})


def samples(counts):
    targets = people_of([*counts, 1], labelled=0.8)
    found = []
    for image, z in enumerate(counts):
        data = PoseDataSample()
        data.gt_instance_labels = InstanceData(
            keypoint_labels=targets.keypoints[image, :z], keypoint_weights=targets.keypoint_weights[image, :z]
        )
        data.gt_fields = PixelData(heatmap_mask=targets.mask[image, None] > 0)
        found.append(data)
    return found


class PlainSteps:
    """SGD after every chunk."""

    scale, backprops, taken = 1.0, 1, 0

    def __call__(self, parameters, gradients):
        self.taken += 1
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                parameter -= 1e-3 * gradient


SETTINGS = [
    {},
    dict(claimed_maps=True),
    dict(second_lstm=dict(hidden_channels=(5,), feedback_passes=1)),
    dict(chunk_size=None),
    dict(chunk_size=1, claimed_maps=True, feedback_passes=1),
    dict(heatmap_loss=dict(type='HungarianHeatmapLoss', unlabelled='ignore', foreground_weight=8)),
    dict(context='read', hidden_channels=(6, 5, 4), layer_strides=(1, 2, 1)),
]


@pytest.mark.parametrize('steps', [False, True])
@pytest.mark.parametrize('counts', [[0], [1], [3, 0, 1]])
@pytest.mark.parametrize('settings', SETTINGS)
def test_every_setting_trains_on_every_batch(settings, counts, steps):
    head = build(**settings)
    if steps and head.chunk_size:
        head.training_controls.chunk_step = PlainSteps()
    features = (torch.randn(len(counts), C, H, W),)
    with torch.autocast('cpu', torch.bfloat16, enabled=steps):
        losses = head.loss(features, samples(counts))
    losses['loss'].backward()
    torch.testing.assert_close(losses['loss'], sum(part for name, part in losses.items() if name != 'loss'))
    people = any(counts)
    assert (losses['denoising_heatmap'] > 0) == people and (losses['denoising_stop'] > 0) == people
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_without_a_share_the_losses_are_those_without_the_branch():
    losses = {}
    for denoising in (None, dict(share=0)):
        head = build(denoising=denoising)
        head.first_lstm.noise = 0  # the branch draws before it
        losses[str(denoising)] = head.loss((torch.ones(2, C, H, W),), samples([2, 3]))
    plain, off = losses.values()
    assert set(off) - set(plain) == {'denoising_heatmap', 'denoising_stop'} and off['denoising_stop'] == 0
    assert all(torch.equal(off[name], plain[name]) for name in plain)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(denoising=dict(share=1.2)), r'denoising\.share is 1\.2; it is a probability in \[0, 1\]'),
        (dict(denoising=dict(share=-0.1)), r'denoising\.share is -0\.1'),
        (dict(denoising=dict(share=True)), r'denoising\.share is True'),
        (dict(denoising=dict(negative=float('nan'))), r'denoising\.negative is nan'),
        (dict(denoising=dict(shift=-1)), r'denoising\.shift is -1; use 0 or more'),
        (dict(denoising=dict(loss_weight='1')), r"denoising\.loss_weight is '1'"),
        (dict(denoising=dict(drop=0.4, swap=0.3)), r'drop is 0\.4 and denoising\.swap 0\.3; drop \+ 2 \* swap must be'),
        (dict(denoising=dict(sigmas=[0.1])), r'denoising\.sigmas is \[0\.1\]; give 5 positive numbers'),
        (dict(denoising=True), 'denoising is True; use None or, in a config file, a dict'),
        (dict(feedback_passes=0), 'feedback_passes is 0: without the loop a step is given no heatmaps'),
        (dict(second_lstm={}, first_lstm_loss=False), 'supervises the heatmaps of LSTM1, but first_lstm_loss is False'),
    ],
)
def test_bad_settings_are_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)
    with pytest.raises(TypeError, match="unexpected keyword argument 'shar'"):
        build(denoising=dict(shar=1))
