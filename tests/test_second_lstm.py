"""LSTM2: its orders on a hand-made sequence, its sequence against loops over single images, its loss and gradients."""

from itertools import permutations

import pytest
import torch

from rnnpose_plugin.models import heatmap_lstm
from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.second_lstm import ORDERS, SecondLSTM, order_people, rearrange
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

C, K, H, W = 5, 2, 4, 6


def peaks(*places):
    """One image of people whose K joints all peak at the (x, y) of one place."""
    heatmaps = torch.zeros(1, len(places), K, H, W)
    for person, (x, y) in enumerate(places):
        heatmaps[0, person, :, y, x] = 1
    return heatmaps


SEQUENCE = peaks((5, 1), (0, 3), (2, 0), (1, 1))
CONFIDENCE = torch.tensor([[0.5, 0.9, 0.4, 0.7]])
EVERYONE = torch.ones(1, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    'order, everyone, without_the_second',
    [
        ('learned', [0, 1, 2, 3], [0, 2, 3, 1]),
        ('inverse', [3, 2, 1, 0], [3, 2, 0, 1]),
        ('confidence', [1, 3, 0, 2], [3, 0, 2, 1]),
        ('canonical', [2, 3, 0, 1], [2, 3, 0, 1]),  # rows 0, 1, 1, 3, and in row 1 from left to right
    ],
)
def test_orders_of_a_hand_made_sequence(order, everyone, without_the_second):
    assert order_people(order, SEQUENCE, CONFIDENCE, EVERYONE)[0].tolist() == everyone
    three = torch.tensor([[True, False, True, True]])
    assert order_people(order, SEQUENCE, CONFIDENCE, three)[0].tolist() == without_the_second


def test_canonical_order_looks_at_every_joint():
    heatmaps = peaks((0, 1), (0, 1))
    heatmaps[0, 0, 1] = 0
    heatmaps[0, 0, 1, 3, 0] = 5  # the first person's second joint is lower in the image
    assert order_people('canonical', heatmaps, CONFIDENCE[:, :2], EVERYONE[:, :2])[0].tolist() == [1, 0]


@pytest.mark.seeded
def test_random_order_is_drawn_for_each_image_and_keeps_absent_people_last():
    torch.manual_seed(0)
    batch = SEQUENCE.expand(400, -1, -1, -1, -1)
    present = torch.tensor([True, True, False, True]).expand(400, 4)
    drawn = [tuple(row) for row in order_people('random', batch, CONFIDENCE.expand(400, 4), present).tolist()]
    assert all(row[-1] == 2 for row in drawn)
    counts = [drawn.count((*p, 2)) for p in permutations((0, 1, 3))]
    assert min(counts) > 40  # 400 / 6 = 67 each, standard deviation 7.5
    again = [order_people('random', SEQUENCE, CONFIDENCE, EVERYONE, torch.Generator().manual_seed(3)) for _ in '12']
    assert torch.equal(*again)


@pytest.mark.parametrize('order', ORDERS)
def test_an_order_of_no_people(order):
    assert order_people(order, torch.zeros(2, 0, K, H, W), torch.zeros(2, 0), torch.zeros(2, 0).bool()).shape == (2, 0)


def test_rearrange_is_undone_by_the_inverse_permutation():
    values, order = torch.rand(2, 4, 3), torch.tensor([[2, 0, 3, 1], [0, 1, 3, 2]])
    there = rearrange(values, order)
    assert torch.equal(there[0, 0], values[0, 2]) and torch.equal(there[1, 3], values[1, 2])
    assert torch.equal(rearrange(there, order.argsort(1)), values)


def make(order='learned', passes=0, others=False):
    torch.manual_seed(0)
    return SecondLSTM(C, K, hidden_channels=(6, 4), feedback_passes=passes, order=order, noise=0.0, others=others)


def with_others(heatmaps):
    """Each person's maps and, pixel by pixel, the largest of anyone else's: (n, 2 K, H, W) of (n, K, H, W)."""
    rows = []
    for person, maps in enumerate(heatmaps):
        others = torch.zeros(K, H, W).to(maps)
        for other in range(len(heatmaps)):
            if other != person:
                others = torch.maximum(others, heatmaps[other].clamp(0, 1))
        rows.append(torch.cat([maps, others]))
    return torch.stack(rows) if rows else heatmaps


def shown_one_by_one(second_lstm, features, heatmaps):
    """Plain cells on concat(F, H^_t) and, with a loop, LSTM2's own maps; one image (C, H, W), people (n, K, H, W)."""
    state = [(torch.zeros(1, d, H, W), torch.zeros(1, d, H, W)) for d in (6, 4)]
    outputs = []
    for person in heatmaps:
        own = torch.zeros(1, K, H, W)
        for _ in range(max(second_lstm.feedback_passes, 1)):
            inputs = [features[None], person[None], *([own] if second_lstm.feedback_passes else [])]
            below, new_state = torch.cat(inputs, 1), []
            for layer, (h, c) in zip(second_lstm.lstm.layers, state):
                i, f, o, g = layer.gates(torch.cat([below, h], 1)).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                below = o.sigmoid() * c.tanh()
                new_state.append((below, c))
            state, own = new_state, second_lstm.to_heatmaps(below)
        outputs.append(own[0])
    return torch.stack(outputs) if outputs else heatmaps


@torch.no_grad()
@pytest.mark.parametrize('passes', [0, 1, 2])
@pytest.mark.parametrize('order', ['learned', 'inverse', 'confidence', 'canonical'])
def test_inference_equals_plain_cells_image_by_image(order, passes):
    second_lstm, features = make(order, passes), torch.randn(4, C, H, W)
    people = [(torch.rand(n, K, H, W), torch.rand(n)) for n in (2, 0, 4, 1)]
    for image, (found, given) in enumerate(zip(second_lstm.refine_people(features, people), people)):
        n = len(given[1])
        u = order_people(order, given[0][None], given[1][None], torch.ones(1, n).bool())[0]
        expected = shown_one_by_one(second_lstm, features[image], given[0][u])
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-6)
        assert torch.equal(found[1], given[1][u])


@torch.no_grad()
def test_inference_of_an_image_is_independent_of_its_batch():
    second_lstm, features = make('random', 2), torch.randn(3, C, H, W)
    second_lstm.noise = 0.1
    people = [(torch.rand(n, K, H, W), torch.rand(n)) for n in (3, 1, 4)]
    together = second_lstm.refine_people(features, people)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for image in range(3):
        (alone,) = second_lstm.refine_people(features[image][None], people[image : image + 1])
        torch.testing.assert_close(alone[0], together[image][0], rtol=0, atol=1e-6)
        assert torch.equal(alone[1], together[image][1])
    assert torch.equal(torch.get_rng_state(), before)
    no_people = [(torch.zeros(0, K, H, W), torch.zeros(0))]
    assert second_lstm.refine_people(features[:1], no_people)[0][0].shape == (0, K, H, W)


@torch.no_grad()
def test_images_are_refined_in_groups_that_fit_a_block(monkeypatch):
    second_lstm, features = make('inverse'), torch.randn(5, C, H, W)
    people = [(torch.rand(n, K, H, W), torch.rand(n)) for n in (2, 0, 1, 3, 1)]
    expected = second_lstm.refine_people(features, people)
    sizes, start = [], second_lstm.start
    monkeypatch.setattr(second_lstm, 'start', lambda images: sizes.append(len(images)) or start(images))
    gates = 4 * max(layer.hidden_channels for layer in second_lstm.lstm.layers)
    monkeypatch.setattr(heatmap_lstm, 'CPU_BLOCK', 2 * gates * H * W * 4)
    found = second_lstm.refine_people(features, people)
    assert sizes == [1, 2, 1]  # of each two those with people
    for (ours, p), (theirs, other) in zip(found, expected):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        assert torch.equal(p, other)


@pytest.mark.parametrize('order', ['learned', 'inverse', 'confidence', 'canonical'])
def test_chunks_refine_each_images_own_people_and_keep_its_state(order):
    """Two chunks of three steps, in which the images have other numbers of people."""
    second_lstm, features = make(order, 1), torch.randn(3, C, H, W)
    static_gates, states = second_lstm.start(features)
    chunks = [torch.rand(3, 3, K, H, W) for _ in range(2)]
    presents = [
        torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0]]).bool(),
        torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]]).bool(),
    ]
    logits, refined = torch.rand(2, 3, 3), []
    for heatmaps, present, confidence in zip(chunks, presents, logits):
        maps, states = second_lstm.refine_chunk(static_gates, states, heatmaps, confidence, present)
        refined.append(maps)
    for image in range(3):
        shown, places = [], []
        for number in range(2):
            u = order_people(order, chunks[number], logits[number], presents[number])[image]
            steps = [int(t) for t in u if presents[number][image, t]]
            shown += [chunks[number][image, t] for t in steps]
            places += [(number, t) for t in steps]
        expected = shown_one_by_one(second_lstm, features[image], torch.stack(shown))
        for (number, step), maps in zip(places, expected):
            torch.testing.assert_close(refined[number][image, step], maps, rtol=0, atol=1e-6)


def sequence(chunk_size, order='inverse', first_lstm_loss=True, counts=(5, 2)):
    torch.manual_seed(0)
    decoder = FirstLSTM(C, K, hidden_channels=(6, 4), noise=0.0).double()
    decoder.to_stop.bias.data.fill_(-9)
    second_lstm = make(order, 1).double()
    heatmaps = torch.rand(2, 5, K, H, W).double()
    heatmaps[1, 2:] = 0
    targets = Targets(heatmaps, torch.ones(2, 5, K), list(counts))
    rules = SequenceRules(0.27, chunk_size, first_lstm_loss=first_lstm_loss)
    losses = HungarianHeatmapLoss(undercount='all'), StopLoss()
    features = torch.randn(2, C, H, W).double().requires_grad_()
    return features, TrainingSequence(decoder, *losses, targets, rules, second_lstm)


def unrolled(features, made):
    """LSTM1's heatmaps (B, 5, K, H, W) of the first five steps, from the decoder alone."""
    gates, states = made.first_lstm.start(features)
    maps = []
    for _ in range(5):
        heatmaps, _, states = made.first_lstm.step(gates, states)
        maps.append(heatmaps)
    return torch.stack(maps, 1)


def best_pairs(predicted, truth):
    n = len(truth)
    cost = [[sum(torch.dist(a[j], b[j]).item() for j in range(K)) for b in predicted] for a in truth]
    return min(permutations(range(n)), key=lambda p: sum(cost[person][p[person]] for person in range(n)))


def test_equation_4_supervises_by_the_assignment_of_equation_2():
    features, made = sequence(None)
    (parts,) = made.chunks(*made.static_maps(features))
    expected = dict(heatmap=0.0, second_lstm_heatmap=0.0)
    first = unrolled(features, made)
    for image, z in enumerate((5, 2)):
        u = list(range(z))[::-1]  # inverse
        second = shown_one_by_one(made.second_lstm.float(), features[image].float(), first[image, :z].flip(0).float())
        steps = best_pairs(first[image, :z], made.targets.heatmaps[image, :z])
        for person, step in enumerate(steps):
            truth = made.targets.heatmaps[image, person]
            expected['heatmap'] += (truth - first[image, step]).square().sum().item() / 2
            expected['second_lstm_heatmap'] += (truth - second[u.index(step)]).square().sum().item() / 2
    for name, value in expected.items():  # the cells of the independent answer are in float32
        assert parts[name].item() == pytest.approx(value, rel=1e-5)
    assert sorted(parts) == ['heatmap', 'second_lstm_heatmap', 'stop']


def test_loss_on_lstm2_only_matches_by_lstm2_and_still_trains_lstm1():
    features, made = sequence(None, first_lstm_loss=False)
    (parts,) = made.chunks(*made.static_maps(features))
    assert sorted(parts) == ['second_lstm_heatmap', 'stop']
    first, expected = unrolled(features, made), 0.0
    (gradient,) = torch.autograd.grad(parts['second_lstm_heatmap'], made.first_lstm.to_heatmaps.weight)
    assert gradient.abs().sum() > 0
    for image, z in enumerate((5, 2)):
        second = shown_one_by_one(made.second_lstm.float(), features[image].float(), first[image, :z].flip(0).float())
        steps = best_pairs(second, made.targets.heatmaps[image, :z])
        for person, step in enumerate(steps):
            expected += (made.targets.heatmaps[image, person] - second[step]).square().sum().item() / 2
    assert parts['second_lstm_heatmap'].item() == pytest.approx(expected, rel=1e-5)


def gradients_of(features, made):
    return [features.grad, *(p.grad for p in made.parameters())]


@pytest.mark.parametrize('chunk_size', [1, 2, 4, 30])
def test_chunked_backprop_covers_both_lstms(chunk_size):
    features, made = sequence(chunk_size)
    loss, _ = backprop_in_chunks(made.chunks, made.static_maps(features), made.parameters())
    loss.backward()
    ours = gradients_of(features, made)
    features, made = sequence(chunk_size)
    total = 0
    for parts in made.chunks(*made.static_maps(features)):
        chunk_loss = sum(parts.values())
        chunk_loss.backward(retain_graph=True)
        total += chunk_loss.item()
    assert loss.item() == pytest.approx(total)
    for a, b in zip(ours, gradients_of(features, made)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)  # float64, sums in another order


def test_lstm2_goes_on_from_chunk_to_chunk(monkeypatch):
    features, made = sequence(2)
    calls, refine = [], made.second_lstm.refine_chunk

    def recorded(maps, states, *chunk):
        refined, new_states = refine(maps, states, *chunk)
        calls.append((states, new_states))
        return refined, new_states

    monkeypatch.setattr(made.second_lstm, 'refine_chunk', recorded)
    for _ in made.chunks(*made.static_maps(features)):
        pass
    assert len(calls) > 1 and all(not state.any() for pair in calls[0][0] for state in pair)
    for (_, left), (taken, _) in zip(calls, calls[1:]):
        for old, new in zip(left, taken):
            assert all(torch.equal(a, b) and b.any() and not b.requires_grad for a, b in zip(old, new))


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="'alphabetical'.*canonical"):
        make('alphabetical')
    with pytest.raises(ValueError, match="others of LSTM2 is 'no'"):
        make(others='no')


@torch.no_grad()
@pytest.mark.parametrize('order', ['learned', 'inverse', 'canonical'])
def test_with_others_each_person_comes_with_the_maxima_of_everyone_else(order):
    second_lstm, features = make(order, 1, others=True), torch.randn(4, C, H, W)
    people = [(3 * torch.rand(n, K, H, W) - 1, torch.rand(n)) for n in (2, 0, 4, 1)]  # beyond [0, 1] on both sides
    for image, (found, (maps, p)) in enumerate(zip(second_lstm.refine_people(features, people), people)):
        u = order_people(order, maps[None], p[None], torch.ones(1, len(p)).bool())[0]
        expected = shown_one_by_one(second_lstm, features[image], with_others(maps)[u])
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-6)
    alone = [(maps[:1], p[:1]) for maps, p in people]
    changed = second_lstm.refine_people(features, alone)[2][0]
    assert not torch.allclose(changed[0], second_lstm.refine_people(features, people)[2][0][0], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize('order', ['learned', 'inverse'])
def test_the_others_of_a_chunk_are_its_people_and_those_of_earlier_chunks(order):
    second_lstm, features = make(order, 1, others=True), torch.randn(2, C, H, W)
    static_maps, states = second_lstm.start(features)
    chunks = 3 * torch.rand(2, 2, 3, K, H, W) - 1
    presents = torch.tensor([[[1, 1, 0], [0, 0, 0]], [[1, 0, 0], [1, 0, 1]]]).bool()  # chunk, image, step
    refined = []
    for maps, present in zip(chunks, presents):
        found, states = second_lstm.refine_chunk(static_maps, states, maps, torch.rand(2, 3), present)
        refined.append(found)
    for image in range(2):
        places, shown = [], []
        for number in range(2):
            steps = [t for t in range(3) if presents[number][image, t]]
            steps = steps[::-1] if order == 'inverse' else steps
            earlier = [chunks[before][image, t] for before in range(number) for t in range(3)
                       if presents[before][image, t]]  # fmt: skip
            together = torch.stack([*(chunks[number][image, t] for t in steps), *earlier]) if steps else []
            shown += list(with_others(together)[: len(steps)])
            places += [(number, t) for t in steps]
        expected = shown_one_by_one(second_lstm, features[image], torch.stack(shown))
        for (number, step), maps in zip(places, expected):
            torch.testing.assert_close(refined[number][image, step], maps, rtol=0, atol=1e-6)


def test_others_keep_no_graph():
    second_lstm = make('learned', 0, others=True)
    static_maps, states = second_lstm.start(torch.randn(1, C, H, W))
    maps = torch.rand(1, 3, K, H, W, requires_grad=True)
    refined, states = second_lstm.refine_chunk(static_maps, states, maps, torch.rand(1, 3), torch.ones(1, 3).bool())
    (gradient,) = torch.autograd.grad(refined[:, 0].sum(), maps, retain_graph=True)
    assert gradient[:, 0].any() and not gradient[:, 1:].any()  # the first person comes before the others
    assert not states[-1][0].requires_grad


def test_with_columns_of_zeros_for_the_others_it_is_the_plain_lstm2():
    features, made = sequence(2)
    plain = made.second_lstm
    made.second_lstm = make('inverse', 1, others=True).double()
    weights, first = plain.state_dict(), 'lstm.layers.0.gates.weight'
    wide = torch.zeros_like(made.second_lstm.state_dict()[first])
    wide[:, : C + K], wide[:, C + 2 * K :] = weights[first][:, : C + K], weights[first][:, C + K :]
    made.second_lstm.load_state_dict({**weights, first: wide})
    ours = list(made.chunks(*made.static_maps(features)))
    made.second_lstm = plain
    theirs = list(made.chunks(*made.static_maps(features)))
    assert len(ours) > 1
    for found, expected in zip(ours, theirs):
        for name, loss in expected.items():
            torch.testing.assert_close(found[name], loss)


@pytest.mark.parametrize('chunk_size', [2, 30])
def test_chunked_backprop_with_others(chunk_size):
    gradients = []
    for _ in range(2):
        features, made = sequence(chunk_size)
        made.second_lstm = make('inverse', 1, others=True).double()
        if not gradients:
            backprop_in_chunks(made.chunks, made.static_maps(features), made.parameters())[0].backward()
        else:
            for parts in made.chunks(*made.static_maps(features)):
                sum(parts.values()).backward(retain_graph=True)
        gradients.append(gradients_of(features, made))
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
