"""Damaged, incomplete and hostile checkpoints: resuming from each goes on, or ends in one sentence before it trains.

Figures of all mutations, without asserting anything: ``python tests/test_fuzz_checkpoints.py``.
"""

from __future__ import annotations

import collections
import copy
import io
import json
import os
import pickle
import random
import re
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmpose.registry import HOOKS
from test_resumable_loop import EPOCHS, LENGTH, make_runner

from rnnpose_plugin.runtime.checkpoint_file import check_checkpoint_file
from rnnpose_plugin.runtime.errors import one_sentence_errors

DONE = EPOCHS * LENGTH - 2  # iterations; two are left to the resumed run
FIRST = 'first.weight'  # of the model
MARK = Path('code_ran')


class Code:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return open, (str(MARK), 'w')


def saved(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def flip(content, first, last, times=1):
    """Turn over bits between two fractions of a file."""
    content, rng = bytearray(content), random.Random(7)
    for _ in range(times):
        content[rng.randrange(int(first * len(content)), int(last * len(content)))] ^= 1 << rng.randrange(8)
    return bytes(content)


def another_archive():
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as file:
        file.writestr('a.txt', 'a')
    return content.getvalue()


def in_pickle(content):
    """A bit of the pickle itself; the archive begins with it."""
    return flip(content, 0.02, 0.05)


def in_weights(content):
    """A bit of the last tensor."""
    place = content.rindex(zipfile.ZipFile(io.BytesIO(content)).read('archive/data/0'))
    return content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :]


BYTES = {
    'half of the file': lambda content: content[: len(content) // 2],
    'ten bytes': lambda content: content[:10],
    'the index is missing': lambda content: content[:-200],
    'empty': lambda content: b'',
    'a bit of a weight': in_weights,
    'a bit of the pickle': in_pickle,
    'bits of the index': lambda content: flip(content, 0.97, 1, 20),
    'bits everywhere': lambda content: flip(content, 0, 1, 200),
    'a block of zeros': lambda content: content[:3000] + bytes(2000) + content[5000:],
    'noise': lambda content: random.Random(1).randbytes(3000),
    'text': lambda content: b'<html>404 Not Found</html>',
    'json': lambda content: json.dumps(dict(state_dict={})).encode(),
    'another archive': lambda content: another_archive(),
    'code in a pickle': lambda content: pickle.dumps(Code(), protocol=2),
    'code in an archive': lambda content: saved(dict(state_dict={FIRST: Code()})),
    'a list': lambda content: saved([torch.ones(2)]),
    'a tensor': lambda content: saved(torch.ones(2)),
}


def without(*path):
    def change(checkpoint):
        *parents, last = path
        for name in parents:
            checkpoint = checkpoint[name]
        del checkpoint[last]

    return change


def put(value, *path):
    """Set a value, or change what is there by a function."""

    def change(checkpoint):
        *parents, last = path
        for name in parents:
            checkpoint = checkpoint[name]
        checkpoint[last] = value(checkpoint[last]) if callable(value) else value

    return change


CONTENTS = {
    'no meta': without('meta'),
    'meta is a list': put([1], 'meta'),
    'no weights': without('state_dict'),
    'weights are a list': put(list, 'state_dict'),
    'no optimizer': without('optimizer'),
    'optimizer is a list': put([], 'optimizer'),
    'no schedulers': without('param_schedulers'),
    'no averaged weights': without('ema_state_dict'),
    'no message hub': without('message_hub'),
    'an empty message hub': put({}, 'message_hub'),
    'negative iteration': put(-3, 'meta', 'iter'),
    'absurd iteration': put(10**12, 'meta', 'iter'),
    'iteration of another epoch': put(4, 'meta', 'iter'),
    'iteration in words': put('three', 'meta', 'iter'),
    'no iteration': without('meta', 'iter'),
    'negative epoch': put(-1, 'meta', 'epoch'),
    'epochs beyond the schedule': put(dict(epoch=9, iter=45), 'meta'),
    'seed in words': put('three', 'meta', 'seed'),
    'no iterations in an epoch': put(0, 'message_hub', 'runtime_info', 'iterations_per_epoch'),
    'complex weights': put(lambda value: value.to(torch.complex64), 'state_dict', FIRST),
    'a complex counter': put(lambda value: value.to(torch.complex64), 'state_dict', 'norm.num_batches_tracked'),
    'whole weights': put(lambda value: value.long(), 'state_dict', FIRST),
    'weights that are not a number': put(lambda value: value * torch.nan, 'state_dict', FIRST),
    'infinite weights': put(lambda value: value / 0, 'state_dict', FIRST),
    'a weight is a text': put('w', 'state_dict', FIRST),
    'a weight is named by a number': put(torch.ones(1), 'state_dict', 7),
    'a weight is missing': without('state_dict', FIRST),
    'a weight has another shape': put(lambda value: value[:1], 'state_dict', FIRST),
    'moments of another shape': put(torch.ones(2, 2), 'optimizer', 'state', 0, 'exp_avg'),
    'moments that are not a number': put(lambda value: value * torch.nan, 'optimizer', 'state', 0, 'exp_avg'),
    'no groups': without('optimizer', 'param_groups'),
    'groups of other weights': put([0, 1], 'optimizer', 'param_groups', 0, 'params'),
    'learning rate in words': put('high', 'optimizer', 'param_groups', 0, 'lr'),
    'a scheduler before its start': put(-5, 'param_schedulers', 0, 'last_step'),
    'scheduler step in words': put('one', 'param_schedulers', 0, 'last_step'),
    'a scheduler is a number': put(1, 'param_schedulers', 0),
    'averages of another shape': put(lambda value: value[:1], 'ema_state_dict', f'module.{FIRST}'),
    'averages that are not a number': put(lambda value: value * torch.nan, 'ema_state_dict', f'module.{FIRST}'),
    'an average is missing': without('ema_state_dict', f'module.{FIRST}'),
    'config that runs code': put(f"open('{MARK}', 'w')", 'meta', 'config'),
    'cfg that runs code': put(f"open('{MARK}', 'w')", 'meta', 'cfg'),
    'another optimizer': put('optim_wrapper = dict(optimizer=dict(type="SGD"))', 'meta', 'cfg'),
    'weights in half precision': put(lambda value: value.half(), 'state_dict', FIRST),
    'something more': put(dict(a=1), 'notes'),
}
# Those that any run resumes from; all others are to be refused.
FINE = {
    'config that runs code', 'cfg that runs code', 'another optimizer', 'something more', 'weights in half precision',
}  # fmt: skip


class Steps(Hook):
    """Counts the iterations of a run."""

    done = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.done += 1


def whole_checkpoint(folder):
    make_runner(folder / 'whole', train_cfg=dict(type='mmpose.ResumableEpochLoop', max_epochs=EPOCHS)).train()
    return (folder / 'whole' / f'iter_{DONE}.pth').read_bytes()


@pytest.fixture(scope='module')
def content(tmp_path_factory):
    return whole_checkpoint(tmp_path_factory.mktemp('fuzz'))


def mutated(name, content):
    if name in BYTES:
        return BYTES[name](content)
    checkpoint = torch.load(io.BytesIO(content), weights_only=False)
    CONTENTS[name](checkpoint)
    return saved(checkpoint)


def resume(path, steps):
    """What ``tools/train.py --resume`` does with a checkpoint."""
    check_checkpoint_file(str(path))
    added = [HOOKS.get('ResumeHook')()] if HOOKS.get('ResumeHook') else []
    runner = make_runner(path.parent / 'run', steps, *added, load_from=str(path), resume=True)
    runner.train()
    assert all(weight.isfinite().all() for weight in runner.model.state_dict().values())


def outcome(path, capsys=None):
    """'goes on', 'sentence' or 'raw', the line of the error, and the iterations that were trained."""
    steps, stderr = Steps(), io.StringIO()
    kept, sys.stderr = sys.stderr, stderr
    try:
        with one_sentence_errors():
            resume(path, steps)
        return 'goes on', '', steps.done
    except SystemExit:
        line = stderr.getvalue().strip().splitlines()[-1]
        ours = path.name in line and ';' in line and not re.match(r'error: \w*(Error|Exception)\b', line)
        return ('sentence' if ours and 'weights_only=False' not in line else 'raw'), line, steps.done
    finally:
        sys.stderr = kept


@pytest.mark.parametrize('name', [*BYTES, *CONTENTS])
def test_each_goes_on_or_ends_in_a_sentence_before_training(name, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    path = tmp_path / 'given.pth'
    path.write_bytes(mutated(name, content))
    kind, line, steps = outcome(path)
    assert not MARK.exists()
    assert path.exists()
    if name in FINE:
        assert (kind, steps) == ('goes on', EPOCHS * LENGTH - DONE), line
    else:
        assert (kind, steps) == ('sentence', 0), line


def test_the_unchanged_checkpoint_goes_on(content, tmp_path):
    (tmp_path / 'given.pth').write_bytes(content)
    assert outcome(tmp_path / 'given.pth') == ('goes on', '', EPOCHS * LENGTH - DONE)


if __name__ == '__main__':
    import tempfile

    import rnnpose_plugin  # noqa: F401

    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    whole, kinds = whole_checkpoint(folder), collections.Counter()
    for name in [*BYTES, *CONTENTS]:
        (folder / 'given.pth').write_bytes(mutated(name, copy.copy(whole)))
        kind, line, steps = outcome(folder / 'given.pth')
        kind = 'code ran' if MARK.exists() else kind if steps in (0, EPOCHS * LENGTH - DONE) else f'{kind}, late'
        kind = 'silent' if kind == 'goes on' and name not in FINE else kind
        MARK.unlink(missing_ok=True)
        kinds[kind] += 1
        print(f'{kind:12} {name:36} {line[:150]}')
    print(dict(kinds))
