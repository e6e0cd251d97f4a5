"""Own keypoints: the ten-line config of docs/real_data.md on 5 joints, trained, tested, drawn and overfitted."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmpose.registry import DATASETS, TRANSFORMS
from mmpose.visualization import PoseLocalVisualizer
from rectangle_people import joints_of

from rnnpose_plugin.datasets.occlusion import LabelledImage, occlude
from rnnpose_plugin.own_data import own_data

ROOT = Path(__file__).parent.parent
NAMES = ['head', 'left_hand', 'right_hand', 'left_foot', 'right_foot']
PLACES = [(0.5, 0.1), (0.1, 0.4), (0.9, 0.4), (0.3, 0.9), (0.7, 0.9)]
SMALL = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'default_hooks.logger.interval=1']


def write_people(folder, K=5, count=4):
    """Images of 96 x 64 pixels with two people, rectangles with the first K of five joints."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    images, people = [], []
    for i in range(1, count + 1):
        image = np.full((64, 96, 3), 40, np.uint8)
        for x, colour in ((6 + i, (200, 60, 30)), (56 - i, (30, 200, 60))):
            cv2.rectangle(image, (x, 8), (x + 28, 56), colour, -1)
            joints = [value for a, b in PLACES[:K] for value in (x + a * 28, 8 + b * 48, 2)]
            people.append(
                dict(
                    id=len(people) + 1, image_id=i, category_id=1, iscrowd=0, bbox=[x, 8, 28, 48], area=28 * 48,
                    keypoints=joints, num_keypoints=K,
                    segmentation=[[x, 8, x + 28, 8, x + 28, 56, x, 56]],
                )
            )  # fmt: skip
        cv2.imwrite(str(folder / f'images/{i}.png'), image)
        images.append(dict(id=i, file_name=f'{i}.png', width=96, height=64))
    content = dict(images=images, annotations=people, categories=[dict(id=1, name='person', keypoints=NAMES[:K])])
    for name in ('train', 'val'):
        (folder / f'{name}.json').write_text(json.dumps(content))
    return folder / 'train.json'


def documented(name):
    """A file shown in docs/real_data.md: the code block that begins with its name."""
    page = (ROOT / 'docs' / 'real_data.md').read_text()
    block = re.search(rf'^    # {re.escape(name)}\n((?:    .*\n|\n)+)', page, re.MULTILINE).group(1)
    return re.sub('^    ', '', block, flags=re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of the page, but for the base, which would need weights from the internet and minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    write_people(tmp_path / 'DIR')
    (tmp_path / 'five_points.py').write_text(documented('five_points.py'))
    own = documented('five_points_res50.py')
    assert len(own.strip().splitlines()) <= 10
    assert Config.fromfile(write(tmp_path / 'as_documented.py', own)).model.head.num_keypoints == 5
    small = own.replace('rnnpose_res50_coco.py', 'rnnpose_hg_overfit.py').replace('(192, 192)', '(96, 64)')
    write(tmp_path / 'own.py', small)
    return tmp_path


def write(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def tool(monkeypatch, capsys):
    monkeypatch.setattr(PoseLocalVisualizer, '_instance_dict', OrderedDict())  # an earlier test's writes elsewhere

    def run(name, *arguments, status=0):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / f'tools/{name}.py'), run_name='__main__')
        except SystemExit as stop:
            assert (stop.code or 0) == status, capsys.readouterr().err[-2000:]
        return capsys.readouterr()

    return run


def test_five_joints_are_trained_tested_and_drawn(folder, tool):
    options = [*SMALL, 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    tool('train', 'own.py', '--work-dir', 'work', '--cfg-options', *options)
    logged = next((folder / 'work').glob('*/vis_data/scalars.json')).read_text()
    assert 'coco/AP' in logged
    tool('test', 'own.py', 'work/iter_2.pth', '--out', 'out.json', '--cfg-options', 'test_dataloader.num_workers=0')
    assert {'coco/AP', 'people/true'} <= set(json.loads((folder / 'out.json').read_text()))
    model = ['--config', 'own.py', '--checkpoint', 'work/iter_2.pth', '--device', 'cpu']
    tool('predict', 'DIR/images', *model, '--out', 'predicted', '--draw')
    category = json.loads((folder / 'predicted/images.json').read_text())['categories'][0]
    assert category['keypoints'] == NAMES and category['skeleton'] == [[1, 2]]
    results = json.loads((folder / 'predicted/results.json').read_text())
    assert results and all(len(person['keypoints']) == 15 for person in results)
    tool('draw_steps', 'own.py', 'work/iter_2.pth', 'DIR/images/1.png', '--out', 'steps.png')
    assert (folder / 'steps.png').stat().st_size > 5000


def test_the_metainfo_travels_with_the_config(folder):
    """The dumped config, as saved in checkpoints, does not need the file of the keypoints."""
    cfg = Config.fromfile('own.py')
    (folder / 'dumped.py').write_text(cfg.pretty_text)
    (folder / 'five_points.py').unlink()
    dumped = Config.fromfile('dumped.py')
    dataset = DATASETS.build(dict(dumped.train_dataloader.dataset, pipeline=[dict(type='LoadPoseImage')]))
    assert dataset.metainfo['flip_indices'] == [0, 2, 1, 4, 3] and dataset.metainfo['num_keypoints'] == 5
    assert dataset[0]['keypoints'].shape == (2, 5, 2)


def every_size(node, key):
    if isinstance(node, dict):
        yield from (tuple(node[name]) for name in node if name == key)
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from every_size(part, key)


@pytest.mark.parametrize('name', ['rnnpose_hg_coco', 'rnnpose_res50_coco', 'ae_hg_coco', 'rnnpose_context_crowdbench'])
def test_one_setting_decides_all_sizes(name):
    base = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    before = base.pretty_text
    cfg = own_data(base, input_size=(192, 128), stride=4)
    parts = {key: cfg[key] for key in ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'codec')}
    assert set(every_size(parts, 'input_size')) == {(192, 128)}
    enlarged = {(192, 128)} if name.startswith('ae') else set()  # AE's heatmaps are enlarged to the input in testing
    assert set(every_size(parts, 'heatmap_size')) == {(48, 32)} | enlarged
    assert base.pretty_text == before and own_data(base)['model'] == base.model


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(input_size=(190, 192)), 'input_size=(190, 192) is not two multiples of the stride 4'),
        (dict(input_size=(192,)), 'is not two multiples of the stride 4; give [width, height]'),
        (dict(metainfo='no.py'), 'no.py'),
        (dict(metainfo='own_empty.py'), 'own_empty.py has no dataset_info'),
        (dict(metainfo=dict(dataset_name='x')), 'is incomplete or names an unknown keypoint'),
    ],
)
def test_bad_settings_are_refused(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'own_empty.py').write_text('a = 1')
    base = Config.fromfile(ROOT / 'configs/rnnpose_hg_coco.py')
    with pytest.raises((ValueError, FileNotFoundError)) as refusal:
        own_data(base, **arguments)
    assert sentence in str(refusal.value) and '\n' not in str(refusal.value)


def test_sigmas_of_another_number_are_refused(folder):
    text = (folder / 'five_points.py').read_text().replace('sigmas=[0.05] * 5', 'sigmas=[0.05] * 4')
    write(folder / 'five_points.py', text)
    with pytest.raises(ValueError, match='has 5 keypoints, but 4 sigmas'):
        Config.fromfile('own.py')


def test_a_base_of_another_kind_is_refused():
    with pytest.raises(ValueError, match='the base has no codec and model'):
        own_data(dict(model=dict()))


def test_five_joints_are_overfitted(folder, tool):
    """The default config with --metainfo; 2 iterations, so that it only has to run."""
    config = write(folder / 'short.py', "_base_ = ['rnnpose_plugin::rnnpose_hg_overfit.py']\n" + SHORT)
    arguments = ['DIR/train.json', 'DIR/images', '--metainfo', 'five_points.py', '--config', config, '--number', '2']
    tool('overfit', *arguments, '--work-dir', 'work', '--least-ap', '0', status=1)  # the number of people is wrong
    assert json.loads((folder / 'work/overfit.json').read_text())['people/true'] == 4


SHORT = 'train_cfg = dict(max_iters=2, val_interval=2)\n'


@pytest.mark.parametrize('K', [4, 5])
def test_people_of_any_number_of_joints_are_pasted(tmp_path, K):
    """Fewer joints than min_keypoints: people with all of them."""
    path = write_people(tmp_path, K)
    step = TRANSFORMS.build(
        dict(type='CopyPasteOcclusion', annotations=str(path), img_prefix=f'{tmp_path}/images/', prob=1.0)
    )
    assert len(step.donors.people) == 8 and step.settings.min_keypoints == K
    image = cv2.imread(str(tmp_path / 'images/1.png'))
    people = json.loads(path.read_text())['annotations'][:2]
    flip = [0, 2, 1, 4, 3][:K] if K == 5 else None
    np.random.seed(0)
    source = LabelledImage(image, people, '1.png', flip)
    tries = [occlude(source, step.donors, step.settings, np.random) for _ in range(20)]
    done = [occlusion for occlusion in tries if occlusion is not None]
    assert done and all(joints_of(one.people[-1]).shape == (K, 3) for one in done)
