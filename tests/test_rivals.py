"""Other bottom-up methods of MMPose on CrowdBench: targets, two iterations of training, and the comparison."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import mmpose.models.heads.hybrid_heads.dekr_head as dekr_head
import numpy as np
import pytest
from mmengine.config import Config
from mmpose.codecs import DecoupledHeatmap

from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split
from rnnpose_plugin.codecs import CenteredDecoupledHeatmap

ROOT = Path(__file__).parents[1]
SIZES = dict(input_size=(128, 128), heatmap_size=(32, 32))


def people(number, seed=0):
    """Poses of one joint in the corner of each box and one within, of many sizes, some at the border."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 90, (number, 1, 2))
    joints = corners + generator.uniform(0, 1, (number, 17, 2)) * generator.uniform(4, 37, (number, 1, 1))
    return joints.clip(0, 127.9)


def peak(heatmap):
    return np.array(np.unravel_index(heatmap.argmax(), heatmap.shape)[::-1])


def test_a_joint_is_drawn_in_its_cell_and_decoded_in_its_middle():
    """MMPose's own codec is off by a cell for some people: the test would see it."""
    wrong = 0
    for pose in people(40):
        ours, theirs = CenteredDecoupledHeatmap(**SIZES), DecoupledHeatmap(**SIZES)
        for codec in (ours, theirs):
            maps = codec.encode(pose[None])['instance_heatmaps']
            off = [(peak(cells) != pixel // 4).any() for cells, pixel in zip(maps, pose)]
            if codec is ours:
                assert maps.shape == (17, 32, 32) and maps.max(axis=(1, 2)) == pytest.approx(1)
                assert not any(off)
                keypoints, _ = codec.decode(maps[None], np.ones((1, 1)))
                error = keypoints[0] + 2 - pose  # MMPose's head adds half a cell
                assert np.abs(error).max() <= 3 + 1e-3  # half a cell, and a quarter towards the neighbour
            else:
                wrong += any(off)
    assert wrong > 20


def test_cids_config_draws_and_decodes_with_this_codec():
    cfg = Config.fromfile(ROOT / 'configs/cid_hg_crowdbench.py')
    (generate,) = (step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'GenerateTarget')
    assert generate.encoder == cfg.model.head.decoder and generate.encoder.type == 'CenteredDecoupledHeatmap'


def test_coupled_maps_hold_the_joints_of_all_people():
    poses = people(3, seed=1)
    encoded = CenteredDecoupledHeatmap(**SIZES).encode(poses)
    assert encoded['heatmaps'].shape == (18, 32, 32) and encoded['instance_coords'].shape == (3, 2)
    for person, joint in itertools.product(range(3), range(17)):
        x, y = (poses[person, joint] // 4).astype(int)
        assert encoded['heatmaps'][joint, y, x] == pytest.approx(1)


@pytest.fixture(scope='module')
def crowd(tmp_path_factory):
    """Four images to train on, two to validate and three to test on."""
    folder = tmp_path_factory.mktemp('rivals')
    for split, number in (('train', 4), ('val', 2), ('plain', 3)):
        write_split(folder, split, number, 0, CROWDBENCH)
    return folder


def tool(name, *arguments):
    command = [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize('name', ['cid_hg_crowdbench', 'dekr_hg_crowdbench'])
def test_two_iterations_and_the_comparison_with_ours(name, crowd, tmp_path):
    if name.startswith('dekr') and not dekr_head.has_mmcv_full:
        pytest.skip('DEKR needs the compiled ops of a full mmcv')
    config, ours = (ROOT / 'configs' / f'{stem}.py' for stem in (name, 'rnnpose_context_crowdbench'))
    data = [f'{loader}_dataloader.dataset.data_root={crowd}/' for loader in ('train', 'val', 'test')]
    short = ['train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'train_dataloader.num_workers=0']
    tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', *data, *short)
    weights = ROOT / 'model_zoo' / 'rnnpose_context_crowdbench.pth'
    options = [f'--cfg-options-{model}' for model in 'ab']
    place = data[2]
    tool(
        'compare', config, tmp_path / 'run' / 'epoch_2.pth', ours, weights, '--out', tmp_path / 'report',
        options[0], place, options[1], place,
    )  # fmt: skip
    rival, shipped = json.loads((tmp_path / 'report' / 'report.json').read_text())['models']
    assert rival['images'] == shipped['images'] == 3
    assert shipped['figures']['AP'] > 0.3 > rival['figures']['AP'] >= 0
    assert rival['counts']['true'] == shipped['counts']['true'] > 0
