"""The wheel alone: built, installed into an empty folder, and used from another one, with MMPose on the path."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split
from rnnpose_plugin.shipped import find_shipped, shipped_folder, shipped_models

ROOT = Path(__file__).parent.parent
SOURCES = ('configs', 'model_zoo', 'rnnpose_plugin', 'tools')
FILES = ('setup.py', 'pyproject.toml', 'requirements.txt', 'README.md', 'LICENSE', 'model-index.yml', 'MANIFEST.in')
FILES += ('rnnpose_runtime.py',)
PIP = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
CONFIG, WEIGHTS = 'rnnpose_plugin::rnnpose_context_crowdbench.py', 'model_zoo/rnnpose_context_crowdbench.pth'

INFERENCE = """
import json, sys
import rnnpose_plugin
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.infer import BaseInferencer
from mmpose.apis import MMPoseInferencer
pretrained = get_config('rnnpose_plugin::rnnpose_context_crowdbench.py', pretrained=True)
base = "_base_ = ['rnnpose_plugin::rnnpose_context_coco.py']"
open('own.py', 'w').write(base + chr(10) + 'model = dict(head=dict(max_instances=3))')
own = Config.fromfile('own.py')
inferencer = MMPoseInferencer(pose2d='rnnpose_context_crowdbench', device='cpu')
facts = dict(
    place=rnnpose_plugin.__file__,
    config=pretrained.filename,
    weights=pretrained.model_path,
    own=[own.model.head.max_instances, own.model.head.num_keypoints, own.model.get('_scope_')],
    row=get_config('rnnpose_plugin::ablations/ae.py').filename,
    theirs=get_config('mmpose::body_2d_keypoint/cid/coco/cid_hrnet-w32_8xb20-140e_coco-512x512.py').model.type,
    people=[len(result['predictions'][0]) for result in inferencer(sys.argv[1:])],
)
try:
    get_config('rnnpose_plugin::no_such.py')
except FileNotFoundError as error:
    facts['missing'] = str(error)
json.dump(facts, open('facts.json', 'w'))
"""


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp('wheel')
    options = ['--no-build-isolation', '--no-deps', '--no-cache-dir', '--no-index', '--wheel-dir', str(out)]
    subprocess.run([*PIP, 'wheel', *options, str(source)], check=True)
    return next(out.glob('*.whl'))


@pytest.fixture(scope='module')
def run(wheel, tmp_path_factory):
    """Runs Python in an empty folder, where the installed wheel comes before this checkout."""
    installed, folder = tmp_path_factory.mktemp('installed'), tmp_path_factory.mktemp('elsewhere')
    options = ['--no-deps', '--no-compile', '--no-index', '--target', str(installed)]
    subprocess.run([*PIP, 'install', *options, str(wheel)], check=True)
    for split, count in (('train', 4), ('plain', 2)):
        write_split(folder / 'data', split, count, 0, CROWDBENCH)
    environment = {**os.environ, 'PYTHONPATH': str(installed), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    environment.pop('RNNPOSE_TRACEBACK', None)

    def run_python(*arguments, status=0):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout[-1000:] + done.stderr[-2000:]
        return done

    run_python.folder, run_python.installed = folder, installed
    return run_python


def files_below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(ROOT)) for path in folder.rglob('*') if path.is_file() and '__pycache__' not in str(path)
    }


def test_it_holds_configs_models_and_the_tools_that_need_no_project(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if '/.mim/' in name}
    tools = {name for name in files_below(ROOT / 'tools') if 'from projects' not in (ROOT / name).read_text()}
    expected = files_below(ROOT / 'configs') | files_below(ROOT / 'model_zoo') | tools | {'model-index.yml'}
    assert names == {f'rnnpose_plugin/.mim/{name}' for name in expected}
    assert {'tools/train.py', 'tools/test.py', 'tools/overfit.py'} <= tools and 'tools/demo.py' not in tools


def test_inference_by_name_and_configs_by_name(run):
    images = sorted((run.folder / 'data/plain').glob('*.png'))
    (run.folder / 'use.py').write_text(INFERENCE)
    run('use.py', *images)
    facts, mim = json.loads((run.folder / 'facts.json').read_text()), run.installed / 'rnnpose_plugin' / '.mim'
    assert facts['place'] == str(run.installed / 'rnnpose_plugin' / '__init__.py')
    assert (facts['config'], facts['weights']) == (find_shipped_in(mim, CONFIG), str(mim / WEIGHTS))
    assert facts['row'] == str(mim / 'configs/ablations/ae.py')
    assert facts['own'] == [3, 17, None] and facts['theirs'] == 'BottomupPoseEstimator'
    assert facts['missing'] == f'rnnpose_plugin has no config no_such.py; they are in {mim}/configs'
    truth = json.loads((run.folder / 'data/annotations/plain.json').read_text())
    true = [sum(a['image_id'] == image['id'] for a in truth['annotations']) for image in truth['images']]
    assert facts['people'] == true  # on plain images the model counts all people


def test_the_installed_index_leads_to_configs_and_weights(run):
    """As openmim lists a package: the files of Import in .mim/model-index.yml, relative to .mim, and their Models."""
    mim = run.installed / 'rnnpose_plugin' / '.mim'
    metafiles = [mim / name for name in yaml.safe_load((mim / 'model-index.yml').read_text())['Import']]
    models = [model for path in metafiles for model in yaml.safe_load(path.read_text())['Models']]
    assert {model['Name'] for model in models} == {path.stem for path in (ROOT / 'model_zoo').glob('*.pth')}
    for model in models:
        assert (mim / model['Config']).is_file() and (mim / model['Weights']).is_file()


def find_shipped_in(mim: Path, name: str) -> str:
    return str(mim / 'configs' / name.partition('::')[2])


def test_two_iterations_of_training_on_shipped_features(run):
    """The backbone's weights are in model_zoo of the wheel; nothing of that name is in the current folder."""
    options = ['train_dataloader.dataset.data_root=data/', 'train_dataloader.num_workers=0']
    options += ['default_hooks.logger.interval=1', 'custom_hooks=[]']
    launcher = ['-m', 'rnnpose_plugin', 'tools/train.py', CONFIG, '--work-dir', 'work', '--no-validate']
    run(*launcher, '--cfg-options', *options)
    scalars = next((run.folder / 'work').glob('*/vis_data/scalars.json')).read_text().splitlines()
    assert [json.loads(line)['iter'] for line in scalars] == [1, 2]
    trained = torch.load(run.folder / 'work/epoch_1.pth', weights_only=False)['state_dict']
    shipped = torch.load(ROOT / 'model_zoo/ae_hg_crowdbench.pth')['state_dict']
    key = next(key for key in shipped if key.startswith('backbone.') and key.endswith('conv.weight'))
    assert torch.equal(trained[key], shipped[key].float())


def test_the_test_tool_and_names_that_are_not_there(run):
    options = ['test_dataloader.dataset.data_root=data/', 'test_dataloader.num_workers=0']
    run('-m', 'rnnpose_plugin', 'test', CONFIG, WEIGHTS, '--out', 'out.json', '--cfg-options', *options)
    assert json.loads((run.folder / 'out.json').read_text())['coco/AP'] > 0.5
    for arguments, sentence in {
        ('tools/demo.py', '--fast'): 'tools/demo.py needs projects/, which is not installed; run it in a checkout',
        ('test', 'rnnpose_plugin::no.py', WEIGHTS): "no.py' does not exist; check the path",
        ('test', CONFIG, 'model_zoo/no.pth'): "checkpoint 'model_zoo/no.pth' does not exist; check the path",
    }.items():
        (line,) = run('-m', 'rnnpose_plugin', *arguments, status=1).stderr.strip().splitlines()
        assert line.startswith('error: ') and sentence in line


def test_a_file_of_the_users_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped(WEIGHTS) == str(shipped_folder() / WEIGHTS)
    assert find_shipped('README.md') == 'README.md' and find_shipped('model_zoo/no.pth') == 'model_zoo/no.pth'
    (tmp_path / 'model_zoo').mkdir()
    (tmp_path / WEIGHTS).touch()
    assert find_shipped(WEIGHTS) == WEIGHTS


def test_the_index_lists_every_model_with_its_checksum():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert sorted(index['Import']) == sorted(f'model_zoo/{path.name}' for path in (ROOT / 'model_zoo').glob('*.yml'))
    models = {Path(model['Weights']): model for model in shipped_models()}
    assert set(models) == set((ROOT / 'model_zoo').glob('*.pth'))
    for path, model in models.items():
        content = path.read_bytes()
        assert model['Name'] == path.stem == Path(model['Config']).stem and Path(model['Config']).is_file()
        assert model['Metadata']['Bytes'] == len(content)
        assert model['Metadata']['SHA256'] == hashlib.sha256(content).hexdigest()
