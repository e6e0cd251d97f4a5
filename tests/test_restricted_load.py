"""Nothing in a checkpoint is run, wherever it comes from; a file served on this machine tries to."""

from __future__ import annotations

import functools
import http.server
import threading
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import checkpoint, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from narrow_network import NARROW

from rnnpose_plugin.runtime.publish import publish
from rnnpose_plugin.runtime.restricted_load import read_checkpoint, restrict_checkpoint_loader

CONFIG = str(Path(__file__).parent.parent / 'configs' / 'rnnpose_hg_crowd.py')
MARK = Path('code_ran')


class Code:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return open, (str(MARK), 'w')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    """A folder whose files are served, and its address."""
    folder = tmp_path_factory.mktemp('served')
    torch.save(dict(state_dict=dict(weight=torch.ones(2, 3), code=Code())), folder / 'code.pth')
    torch.save(dict(state_dict=dict(weight=torch.ones(2, 3), bias=torch.ones(2))), folder / 'weights.pth')
    torch.save(dict(weight=torch.ones(2, 3), code=Code()), folder / 'old.pth', _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(folder / 'zipped.pth', 'w') as archive:  # torch.hub unpacks an archive of one file
        archive.write(folder / 'old.pth', 'inner.pth')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{running.server_port}'
        running.shutdown()


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))  # where downloads are kept
    monkeypatch.setenv('no_proxy', '127.0.0.1')


class Pretrained(BaseModule):
    """A module whose weights come from ``init_cfg``."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.weight, self.bias = torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(2))


def by_init_cfg(url):
    Pretrained(dict(type='Pretrained', checkpoint=url)).init_weights()


def by_init_model(url):
    from mmpose.apis import init_model

    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({key: eval(value) for key, value in (option.split('=') for option in NARROW)})
    init_model(cfg, url, device='cpu')


ROADS = {
    'load_checkpoint': lambda url: load_checkpoint(torch.nn.Linear(3, 2), url, map_location='cpu'),
    'init_cfg': by_init_cfg,
    'init_model': by_init_model,
    'read_checkpoint': read_checkpoint,
    'publish': lambda url: publish(url, 'out.pth'),
}


@pytest.mark.parametrize('file', ['code.pth', 'old.pth', 'zipped.pth'])
@pytest.mark.parametrize('road', ROADS)
def test_a_served_file_runs_nothing(server, road, file, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')  # of a user who needed it for MMEngine's checkpoints
    with pytest.raises(ValueError, match=rf'{file} holds more than weights \(io.open\).*nothing was read') as caught:
        ROADS[road](f'{server}/{file}')
    assert not MARK.exists()
    assert 'weights_only' not in str(caught.value) and caught.value.__suppress_context__


@pytest.mark.parametrize('folder', ['', 'torch/hub/checkpoints/'])
def test_neither_does_a_local_one(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=dict(code=Code())), tmp_path / f'{folder}a.pth')
    for name in (f'{folder}a.pth', tmp_path / f'{folder}a.pth'):
        with pytest.raises(ValueError, match='holds more than weights'):
            load_checkpoint(torch.nn.Linear(3, 2), name)
    assert not MARK.exists()


@pytest.mark.parametrize('scheme', ['torchvision://resnet50', 'open-mmlab://resnet50', 'mmcls://resnet50'])
def test_names_of_published_weights_are_restricted_too(server, monkeypatch, scheme):
    for table in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(checkpoint, table, lambda: dict(resnet50=f'{server}/code.pth'))
    with pytest.raises(ValueError, match='holds more than weights'):
        read_checkpoint(scheme)
    assert not MARK.exists()


def test_a_loader_that_asks_for_everything_gets_weights_only():
    """As the http loader of a fork of MMEngine does."""
    torch.save(dict(code=Code()), 'a.pth')
    CheckpointLoader.register_scheme('all://', lambda name, _: torch.load(name[6:], weights_only=False))
    try:
        with pytest.raises(ValueError, match='holds more than weights'):
            read_checkpoint('all://a.pth')
    finally:
        del CheckpointLoader._schemes['all://']
    assert not MARK.exists()


class Globals:
    """A method's globals, which a checkpoint could change."""

    def __reduce__(self):
        return getattr, (Method(), '__globals__')


class Method:
    def __reduce__(self):
        return getattr, (HistoryBuffer, 'mean')


def test_a_loader_that_allows_getattr_does_not_get_it(monkeypatch):
    """onedl-mmengine's: which of two functions for one name torch calls depends on their addresses, hence 50 here."""

    def allows_getattr(file, map_location=None):
        others = [(lambda owner, name: 'not ours', 'builtins.getattr') for _ in range(50)]
        with torch.serialization.safe_globals(others):
            return torch.load(file, map_location)

    torch.save(dict(state_dict={}, value=Globals()), 'a.pth')
    monkeypatch.setattr(checkpoint, '_safe_torch_load', allows_getattr, raising=False)
    restrict_checkpoint_loader()
    CheckpointLoader.register_scheme('fork://', lambda name, place: checkpoint._safe_torch_load(name[7:], place))
    try:
        for name in ('fork://a.pth', 'a.pth'):  # the second by the loader of the MMEngine that is installed
            with pytest.raises(ValueError, match='a.pth'):
                read_checkpoint(name)
    finally:
        del CheckpointLoader._schemes['fork://']


@pytest.mark.parametrize('road', ['load_checkpoint', 'init_cfg'])
def test_served_weights_still_load(server, road):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ROADS[road](f'{server}/weights.pth')
    assert torch.equal(read_checkpoint(f'{server}/weights.pth')['state_dict']['weight'], torch.ones(2, 3))


def test_the_environment_is_as_before(server, monkeypatch):
    import os

    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    before = dict(os.environ)
    read_checkpoint(f'{server}/weights.pth')
    with pytest.raises(ValueError):
        read_checkpoint(f'{server}/code.pth')
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('{}/gone.pth', 'cannot be fetched .*404.*; download it and name the file'),
        ('http://127.0.0.1:9/a.pth', 'cannot be fetched .*; download it and name the file'),
        ('torchvision://resnet5', 'torchvision://resnet5: there are no weights of this name'),
        ('nosuch://a.pth', 'nosuch://a.pth'),
    ],
)
def test_what_cannot_be_fetched(server, name, sentence):
    with pytest.raises((ValueError, OSError), match=sentence):
        read_checkpoint(name.format(server))


def test_text_that_the_runner_would_execute_is_left_out(tmp_path):
    torch.save(dict(state_dict=dict(w=torch.ones(1)), meta=dict(config='import os', cfg='a = 1')), 'a.pth')
    assert read_checkpoint('a.pth')['meta'] == dict(cfg='a = 1')


@pytest.mark.parametrize(
    'text',
    ["import os", "a = open('code_ran', 'w')", "a = [dict(b=__import__('os'))]", "a = eval('1')", "exec('a = 1')",
     "a = {{ $X:open('code_ran','w') }}",
     "_base_ = 'other.py'", "a = f'{1}'", "a = 'b' * 9", 'a = "{{ $X:\'+open(1)+\' }}"', 'a = 1; b'],
)  # fmt: skip
def test_a_config_that_is_more_than_values_is_left_out(text):
    """MMEngine's inferencers take the config of a checkpoint where none is given."""
    torch.save(dict(state_dict=dict(w=torch.ones(1)), meta=dict(cfg=text)), 'a.pth')
    assert read_checkpoint('a.pth')['meta'] == {}


def test_every_config_of_the_package_is_kept():
    cfg = Config.fromfile(CONFIG).pretty_text + "\nb = [-1, 1e-3, (None, True), {'a b': dict(c={1, 2})}, float('inf')]"
    torch.save(dict(state_dict=dict(w=torch.ones(1)), meta=dict(cfg=cfg)), 'a.pth')
    assert read_checkpoint('a.pth')['meta'] == dict(cfg=cfg)


def test_a_file_without_checksums_loads():
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(state_dict=dict(w=torch.ones(1))), 'a.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint('a.pth')['state_dict']['w'] == 1
