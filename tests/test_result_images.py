"""tools/test.py --show-dir: an image is drawn for each one of the test, whatever its name."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict

import cv2
import pytest
from mmengine.visualization import Visualizer
from mmpose.visualization import PoseLocalVisualizer
from rectangle_people import ROOT

from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split
from rnnpose_plugin.engine.result_images_hook import free_name
from rnnpose_plugin.runtime import launch

NAMES = ['first/picture', 'second/picture', 'first/a b.gif', 'second/a b.PNG', 'ü.bmp']
DRAWN = ['picture_0.png', 'picture_1.png', 'a b.gif_0.png', 'a b_0.PNG', 'ü_0.bmp']


@pytest.fixture
def test_set(tmp_path):
    """Five images of the benchmark, all PNG inside, under the names above."""
    folder = tmp_path / 'data'
    write_split(folder, 'plain', len(NAMES), 0, CROWDBENCH)
    path = folder / 'annotations' / 'plain.json'
    data = json.loads(path.read_text())
    for image, name in zip(data['images'], NAMES):
        target = folder / 'plain' / name
        target.parent.mkdir(exist_ok=True)
        (folder / 'plain' / image['file_name']).rename(target)
        image['file_name'] = name
    path.write_text(json.dumps(data))
    return folder


def test_each_image_has_its_own_file(test_set, tmp_path, monkeypatch):
    for kind in (Visualizer, PoseLocalVisualizer):  # MMPose's hook takes the process's last one, of another test
        monkeypatch.setattr(kind, '_instance_dict', OrderedDict())
    args = argparse.Namespace(
        config=str(ROOT / 'configs' / 'rnnpose_context_crowdbench.py'), work_dir=str(tmp_path / 'run'), launcher='none',
        local_rank=0, checkpoint=str(ROOT / 'model_zoo' / 'rnnpose_context_crowdbench.pth'), out=None, dump=None,
        show_dir='drawn', cfg_options={
            'log_level': 'ERROR',
            'test_dataloader': dict(num_workers=0, persistent_workers=False, batch_size=2),
            'test_dataloader.dataset.data_root': f'{test_set}/',
        },
    )  # fmt: skip
    cfg = launch.load_config(args)
    launch.prepare_test(cfg, args)
    launch.run_test(cfg, None)
    (folder,) = (tmp_path / 'run').glob('*/drawn')
    assert sorted(path.name for path in folder.iterdir()) == sorted(DRAWN)
    for name, drawn in zip(NAMES, DRAWN):
        image, result = cv2.imread(str(test_set / 'plain' / name)), cv2.imread(str(folder / drawn))
        different = (image != result).any(-1).mean()
        assert 0 < different < 0.5, name  # poses are drawn on this image and not on another


@pytest.mark.parametrize('name', ['a.jpg', 'a.tar.JPEG', 'a', 'a.gif', '.png'])
def test_a_name_that_is_taken_gets_the_next_number(tmp_path, name):
    names = []
    for _ in range(3):
        names.append(free_name(tmp_path, f'somewhere/{name}'))
        names[-1].touch()
    assert len(set(names)) == 3 and all(cv2.haveImageWriter(str(path)) for path in names)
    assert {path.parent for path in names} == {tmp_path}
