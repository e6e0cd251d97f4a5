"""tools/publish.py: what is kept, what is refused, and that a model loads the published file."""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmpose.registry import MODELS

from rnnpose_plugin.runtime.publish import publish

ROOT = Path(__file__).parent.parent


CFG = "optimizer = dict(lr=0.1)\nwork_dir = '{}'\n"


def checkpoint_of(state_dict, path, work_dir='somewhere'):
    meta = dict(
        epoch=3, seed=0, cfg=CFG.format(work_dir), dataset_meta={'num_keypoints': 17}, experiment_name='x', hook_msgs={}
    )
    torch.save(dict(state_dict=state_dict, meta=meta, optimizer={'state': torch.zeros(9)}, message_hub={}), path)


def test_what_is_kept(tmp_path):
    values = torch.tensor([0.1, -3.0, 6.1e-5])
    checkpoint_of({'w': values, 'n': torch.tensor(7), 'empty': torch.zeros(0)}, tmp_path / 'in.pth')
    facts = publish(str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth'))
    content = (tmp_path / 'out.pth').read_bytes()
    assert facts == dict(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    small = torch.load(tmp_path / 'out.pth', weights_only=False)
    assert small['meta'] == dict(epoch=3, seed=0, cfg='optimizer = dict(lr=0.1)\n', dataset_meta={'num_keypoints': 17})
    assert set(small) == {'state_dict', 'meta'}
    assert small['state_dict']['n'].dtype == torch.int64 and small['state_dict']['w'].dtype == torch.float16
    # float16 has 11 bits: half a unit in the last place is 2**-11 of the value.
    torch.testing.assert_close(small['state_dict']['w'].float(), values, rtol=2**-11, atol=0)


def test_a_weight_too_large_for_float16_is_named(tmp_path):
    checkpoint_of({'scale': torch.tensor([1.0, 70000.0])}, tmp_path / 'in.pth')
    with pytest.raises(ValueError, match=r'weight scale reaches 7e\+04, more than float16 holds'):
        publish(str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth'))
    assert not (tmp_path / 'out.pth').exists()


def test_the_folder_of_the_training_makes_no_difference(tmp_path):
    facts = []
    for place in ('here', 'there'):
        checkpoint_of({'w': torch.ones(3)}, tmp_path / 'in.pth', place)
        facts.append(publish(str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth')))
    assert facts[0] == facts[1]


def archive():
    """A zip file that torch did not write."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as file:
        file.writestr('a.txt', 'a')
    return content.getvalue()


def saved(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


WEIGHT = {'w': torch.ones(1)}


@pytest.mark.parametrize(
    ('content', 'error'),
    [
        (None, "checkpoint 'in.pth' does not exist"),
        (b'PK half', 'in.pth is cut off'),
        (b'\x80\x67 a pickle of an unknown protocol', 'in.pth is not a checkpoint'),
        (archive(), 'in.pth is not a checkpoint'),
        (saved({'a': 1}), 'in.pth is not a checkpoint: no weights'),
        (saved(dict(state_dict={}, meta=dict(cfg='a = 1'))), 'in.pth is not a checkpoint: no weights'),
        (saved(WEIGHT), 'in.pth does not say with which config'),
        (saved(dict(state_dict=WEIGHT, meta=None)), 'in.pth does not say with which config'),
        (
            saved(dict(state_dict={'w': torch.tensor([1, torch.nan])})),
            'weight w is not finite: the training diverged',
        ),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, monkeypatch, content, error):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path('in.pth').write_bytes(content)
    with pytest.raises((ValueError, OSError), match=error):
        publish('in.pth', 'out.pth')
    assert not Path('out.pth').exists()


def test_folders_that_do_not_exist_or_are_given_as_files_are_refused(tmp_path):
    checkpoint_of(WEIGHT, tmp_path / 'in.pth')
    with pytest.raises(FileNotFoundError, match='the folder .*gone of out.pth does not exist; make it first'):
        publish(str(tmp_path / 'in.pth'), str(tmp_path / 'gone' / 'out.pth'))
    with pytest.raises(IsADirectoryError, match='is a folder; name a file in it'):
        publish(str(tmp_path), str(tmp_path / 'out.pth'))


def test_the_tool_says_one_sentence(tmp_path):
    command = [sys.executable, str(ROOT / 'tools' / 'publish.py'), 'in.pth', 'out.pth']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and 'does not exist' in done.stderr.strip().splitlines()[-1]
    assert 'Traceback' not in done.stderr


def test_a_model_loads_it(tmp_path):
    init_default_scope('mmpose')
    head = Config.fromfile(ROOT / 'configs' / 'rnnpose_context_crowdbench.py').model.head
    large, small = MODELS.build(head), MODELS.build(head)
    checkpoint_of(large.state_dict(), tmp_path / 'in.pth')
    publish(str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth'))
    load_checkpoint(small, str(tmp_path / 'out.pth'), map_location='cpu', strict=True)
    for name, value in small.state_dict().items():
        assert value.dtype == large.state_dict()[name].dtype
        torch.testing.assert_close(value, large.state_dict()[name], rtol=2**-11, atol=2**-25)
