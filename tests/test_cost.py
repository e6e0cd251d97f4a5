"""What the decoder computes, allocates and waits for, counted: a regression guard without a clock."""

from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from projects.benchmark.decoder import PlainDecoder
from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

ROOT = Path(__file__).parent.parent
PAPER = dict(feature_channels=136, num_keypoints=17, hidden_channels=(68, 34, 17))
CELLS = 128**2
SMALL = dict(feature_channels=6, num_keypoints=3, hidden_channels=(8, 4))


# Operations.


def flops(kind, people):
    """Of that many steps at the paper's size; shapes alone, nothing is computed."""
    with torch.device('meta'), torch.no_grad(), FlopCounterMode(display=False) as counter:
        decoder = kind(**PAPER)
        static_gates, states = decoder.start(torch.empty(1, 136, 128, 128))
        noise = torch.empty(1, 17, 128, 128)
        for _ in range(people):
            _, _, states = decoder.step(static_gates, states, noise)
    return counter.get_total_flops()


# Multiply-adds count 2. Layers: (17 heatmaps + 68, 34 + 68, 17 + 34) -> four gates each; then 1 x 1 to 17 heatmaps.
PASS = 2 * CELLS * (9 * (85 * 272 + 102 * 136 + 51 * 68) + 17 * 17)
STOP = 2 * (68 + 34 + 17)
FEATURES = 2 * CELLS * 9 * 136 * 272


@pytest.mark.parametrize('people', [1, 2, 7])
def test_operations_of_an_image_and_of_a_person(people):
    assert flops(FirstLSTM, people) == FEATURES + people * (2 * PASS + STOP)


def test_the_plain_step_convolves_the_features_in_every_pass():
    assert flops(PlainDecoder, 3) == 3 * (2 * (PASS + FEATURES) + STOP)


def billions_per_person(config):
    """Multiply-adds of one person at 128 x 128 cells by the head of a config, LSTM2 included."""
    settings = Config.fromfile(ROOT / 'configs' / f'{config}.py').model.head
    with torch.device('meta'), torch.no_grad():
        head = MODELS.build(settings)
        features = torch.empty(1, head.in_channels, 128, 128)
        maps = torch.empty(1, 17, 128, 128)
        started = [lstm.start(features) for lstm in (head.first_lstm, head.second_lstm) if lstm]
        with FlopCounterMode(display=False) as counter:
            head.first_lstm.step(*started[0], maps)
            if head.second_lstm:
                given = torch.empty(1, 17 * (1 + head.second_lstm.others), 128, 128)
                head.second_lstm.run_passes(*started[1], maps, given)
    return counter.get_total_flops() / 2e9


def test_our_decoder_costs_less_than_the_papers_and_what_the_card_says():
    paper, small, ours = map(
        billions_per_person, ('rnnpose_hg_coco', 'rnnpose_hg_crowdbench', 'rnnpose_full_crowdbench')
    )
    assert paper == pytest.approx((2 * PASS + STOP) / 2e9)  # written out above
    assert max(ours, billions_per_person('rnnpose_full_coco')) < paper
    card = (ROOT / 'model_zoo' / 'README.md').read_text()
    assert f'| {ours:.1f} billion multiply-adds per person' in card
    assert f'(32, 24, 24), {small:.1f};' in card and f'(68, 34, 17), {paper:.1f} |' in card


# Waiting for the device.

# Both ways: a copy from the host's ordinary memory waits for the device, too.
WAITING = ('to', 'cpu', 'item', 'tolist', '__bool__', '__int__', '__float__', '__index__', '__getitem__')
# numpy() needs cpu() first


class Selections(TorchDispatchMode):
    """Counts operators whose result has as many elements as the values say, for which a device has to be waited for."""

    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name.startswith('index') and any(
            index is not None and index.dtype == torch.bool
            for index in (arguments[1] if isinstance(arguments[1], (list, tuple)) else ())
        )
        if masks or name in ('nonzero', 'masked_select', 'unique', 'equal'):
            self.counts[name] += 1
        return function(*arguments, **(kwargs or {}))


@contextmanager
def waits(monkeypatch):
    """Every way in which a value can come from the device to the host, counted; none within another."""
    counts, inside = Counter(), []

    def counted(name, method):
        def call(self, *args, **kwargs):
            by_device = name != 'to' or isinstance(args[0], (str, torch.device))
            by_list = name != '__getitem__' or isinstance(args[0], list)
            if not inside and by_device and by_list:
                counts[name] += 1
            inside.append(name)
            try:
                return method(self, *args, **kwargs)
            finally:
                inside.pop()

        return call

    with monkeypatch.context() as patch, Selections(counts):
        for name in WAITING:
            patch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
        yield counts


def make(people=0, **rules):
    torch.manual_seed(0)
    decoder = FirstLSTM(**SMALL)
    features = torch.randn(2, 6, 5, 7)
    targets = Targets(torch.rand(2, people, 3, 5, 7), torch.ones(2, people, 3), [people, people - 1])
    sequence = TrainingSequence(
        decoder, HungarianHeatmapLoss(), StopLoss(), targets, SequenceRules(0.3, **rules)
    )  # fmt: skip
    return decoder, features, sequence


def test_the_counter_counts(monkeypatch):
    values = torch.tensor([1.0, 0.0])
    with waits(monkeypatch) as counts:
        values.tolist(), values[0].item(), bool(values[0] > 0), values[values > 0], values.nonzero(), values.cpu()
    assert counts.total() >= 6 and {'tolist', 'cpu', 'nonzero', '__bool__', 'item', 'index'} <= set(counts)


def test_a_step_waits_for_nothing(monkeypatch):
    decoder, features, _ = make()
    with waits(monkeypatch) as counts, torch.no_grad():
        static_gates, states = decoder.start(features)
        for _ in range(3):
            _, _, states = decoder.step(static_gates, states)
    assert counts == {}


def test_decoding_waits_once_per_step(monkeypatch):
    decoder, features, _ = make()
    decoder.to_stop.bias.data.fill_(9)
    with waits(monkeypatch) as counts:
        people, _ = decoder.decode_people(features, 0.3, 12)
    assert [len(maps) for maps, _ in people] == [12, 12]
    assert counts == {'tolist': 12}


def test_an_image_that_leaves_sends_no_list_to_the_device(monkeypatch):
    decoder, features, _ = make()
    scripted = iter([torch.tensor([5.0, 5.0]), torch.tensor([5.0, -5.0]), torch.tensor([5.0]), torch.tensor([-5.0])])
    plain_step = decoder.step

    def step(static_gates, states, first):
        heatmaps, _, states = plain_step(static_gates, states, first)
        return heatmaps, next(scripted), states

    monkeypatch.setattr(decoder, 'step', step)
    with waits(monkeypatch) as counts:
        people, _ = decoder.decode_people(features, 0.3, 12)
    assert [len(maps) for maps, _ in people] == [3, 1]
    assert counts == {'tolist': 4}


@pytest.mark.parametrize('chunk_size, chunks', [(3, 4), (4, 3), (12, 1)])
def test_training_waits_once_per_chunk_and_once_at_the_end(monkeypatch, chunk_size, chunks):
    """For the matching, and once after the largest image to see whether any still runs."""
    decoder, features, sequence = make(people=10, chunk_size=chunk_size)
    decoder.to_stop.bias.data.fill_(-9)
    with waits(monkeypatch) as counts:
        backprop_in_chunks(sequence.chunks, sequence.static_maps(features), sequence.parameters())
    assert sequence.steps_done == 11
    assert counts == {'cpu': chunks, 'to': chunks, '__bool__': 1}  # the costs there, the pairs back


# Memory.


class Allocations(TorchDispatchMode):
    """Bytes of the storages that operators make."""

    total = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in _tensors((arguments, kwargs or {}))}
        made = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(result)}
        self.total += sum(size for pointer, size in made.items() if pointer not in known)
        return result


def _tensors(value):
    leaves, _ = torch.utils._pytree.tree_flatten(value)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


@torch.no_grad()
def test_a_step_allocates_the_same_every_time_and_little():
    decoder, features, _ = make()
    static_gates, states = decoder.start(features)
    noise = torch.zeros(2, 3, 5, 7)
    bytes_of_steps = []
    for _ in range(6):
        with Allocations() as counter:
            _, _, states = decoder.step(static_gates, states, noise)
        bytes_of_steps.append(counter.total)
    assert len(set(bytes_of_steps)) == 1
    # Per pass and layer its input and h side by side, four gates, c and h; then the heatmaps. Two passes; and twice the
    # fed heatmaps in a list of one, the weights' share in one piece, the maxima and what is made of them.
    cells = 4 * 2 * 5 * 7
    layers = [(3 + 8, 8), (8 + 4, 4)]
    maps = sum(inputs + 4 * hidden + 2 * hidden for inputs, hidden in layers) + 3
    assert bytes_of_steps[0] <= 2 * cells * (maps + 3) + 2 * 4 * 9 * 32 * 11 + 1024
