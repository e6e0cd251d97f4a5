"""Every form, order of LSTM2, backbone and runtime, and the shipped model on many images; each export takes a while."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.apis import inference_bottomup, init_model
from narrow_export import ROOT, SIZES, coloured_blocks, narrow_model
from test_export import assert_same, predict, save

from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split
from rnnpose_plugin.export.check import check_file
from rnnpose_plugin.export.command import ExportOptions, export_model, load_model, size_unit
from rnnpose_plugin.export.graph import Axes, trace, write_onnx
from rnnpose_plugin.export.steps import Encode
from rnnpose_plugin.models.second_lstm import ORDERS
from rnnpose_runtime import Poser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
CONFIG = 'configs/rnnpose_context_crowdbench.py'
SHIPPED = 'model_zoo/rnnpose_context_crowdbench.pth'
PHOTO_MODEL = 'model_zoo/rnnpose_movenet_photo.pth'
PHOTOGRAPHS = Path(os.environ.get('RNNPOSE_TEST_DATA', ROOT.parent / 'shared' / 'data'), 'coco_mini')


def exported(model, folder, form='whole', out='model.onnx', **options):
    checkpoint = save(model, folder / 'model.pth')
    export_model(model, checkpoint, str(folder / out), ExportOptions(form, **options))
    return Poser(folder / out, threads=1)


def assert_parity(model, poser, images):
    keypoints, scores, counts = poser.sessions[0].run(None, {'image': images.numpy()})
    assert_same(predict(model, images), keypoints, scores, counts)
    return counts


def test_unrolled_gives_the_models_poses(tmp_path):
    model = narrow_model()
    poser = exported(model, tmp_path, 'unrolled', steps=5)
    for size in SIZES:
        images = coloured_blocks(*size)
        assert set(assert_parity(model, poser, images)) >= {0, 3, 5}
    image = images[2].permute(1, 2, 0).numpy()
    poser.input_size = SIZES[-1][::-1]
    assert len(poser(image)) == 5


def test_fixed_size_and_float_images(tmp_path):
    model = narrow_model()
    poser = exported(model, tmp_path, 'unrolled', steps=2, fixed_size=True, image_type='float32')
    (given,) = poser.sessions[0].get_inputs()
    assert given.shape == [1, 3, 128, 128] and given.type == 'tensor(float)'
    model.head.max_instances = 2
    image = coloured_blocks(128, 128)[2:3]
    keypoints, scores, counts = poser.sessions[0].run(None, {'image': image.float().numpy()})
    assert_same(predict(model, image), keypoints, scores, counts)
    assert len(poser(image[0].permute(1, 2, 0).numpy())) == counts[0]
    with pytest.raises(ValueError, match=r'takes \(128, 128\) only'):
        Poser(tmp_path / 'model.onnx', input_size=(96, 96))


@pytest.mark.parametrize('order', ORDERS)
def test_lstm2_in_one_file(order, tmp_path):
    model = narrow_model(second_lstm=dict(order=order, hidden_channels=(8, 8), feedback_passes=1))
    poser = exported(model, tmp_path)
    for size in SIZES:
        assert set(assert_parity(model, poser, coloured_blocks(*size))) >= {0, 3, 5}


@pytest.mark.parametrize('order', ['learned', 'canonical'])
def test_lstm2_without_a_loop(order, tmp_path):
    model = narrow_model(second_lstm=dict(order=order, hidden_channels=(8, 8)))
    assert_parity(model, exported(model, tmp_path, 'unrolled', steps=5), coloured_blocks(*SIZES[0]))


@pytest.mark.parametrize('form, steps', [('whole', None), ('unrolled', 5)])
def test_lstm2_that_sees_the_others(form, steps, tmp_path):
    model = narrow_model(second_lstm=dict(order='learned', hidden_channels=(8, 8), feedback_passes=1, others=True))
    assert_parity(model, exported(model, tmp_path, form, steps=steps), coloured_blocks(*SIZES[0]))


def test_steps_with_lstm2(tmp_path):
    model = narrow_model(second_lstm=dict(order='learned', hidden_channels=(8, 8)))
    poser = exported(model, tmp_path, 'steps', 'folder')
    poser.input_size = (96, 64)
    images = coloured_blocks(64, 96)
    for image, (places, _, scores) in zip(images, predict(model, images)):
        people = poser(image.permute(1, 2, 0).numpy())
        assert len(people) == len(places)
        for person, keypoints, score in zip(people, places, scores):
            np.testing.assert_allclose(person.keypoints, keypoints, atol=0.05, rtol=0)
            assert person.score == pytest.approx(score, abs=1e-4)


def test_no_loop_feedback_strides_or_context(tmp_path):
    """The paper's decoder, and its "no loop"."""
    for passes in (0, 2):
        model = narrow_model(context='none', layer_strides=None, feedback_passes=passes)
        assert_parity(model, exported(model, tmp_path, out=f'{passes}.onnx'), coloured_blocks(*SIZES[0]))


def test_pt2_is_read_without_mmpose(tmp_path):
    model = narrow_model()
    checkpoint = save(model, tmp_path / 'model.pth')
    export_model(model, checkpoint, str(tmp_path / 'model.pt2'), ExportOptions('whole'))
    images = coloured_blocks(*SIZES[0])
    torch.save(images, tmp_path / 'images.pt')
    code = f"""
import sys
for name in ('mmpose', 'mmengine', 'mmcv', 'rnnpose_plugin'):
    sys.modules[name] = None
import torch
texts = dict(form='')
program = torch.export.load({str(tmp_path / 'model.pt2')!r}, extra_files=texts)
assert texts['form'] in ('"whole"', b'"whole"'), texts
torch.save(program.module()(torch.load({str(tmp_path / 'images.pt')!r})), {str(tmp_path / 'found.pt')!r})
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found = [part.numpy() for part in torch.load(tmp_path / 'found.pt')]
    assert_same(predict(model, images), *found)


def test_openvino_gives_the_same_poses(tmp_path):
    openvino = pytest.importorskip('openvino', reason='openvino is not installed')
    model = narrow_model()
    exported(model, tmp_path)
    compiled = openvino.compile_model(tmp_path / 'model.onnx', 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    for size in SIZES:
        images = coloured_blocks(*size)
        found = compiled(images.numpy())
        assert_same(predict(model, images), *(found[name] for name in ('keypoints', 'scores', 'num_people')))


# --- the backbones of configs/, narrowed where they are large

BACKBONES = {
    'rnnpose_hg_coco': dict(num_stacks=2, feat_channels=16, stage_channels=(16,) * 5),
    'rnnpose_context_coco': dict(num_stacks=2, feat_channels=16, stage_channels=(16,) * 5),
    'rnnpose_res50_coco': {},
    'rnnpose_hrnet-w32_coco': {},
    'rnnpose_cspnext-m_coco': {},
}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbone(name, tmp_path):
    """Image to static maps, which is all of the graph that a backbone changes, on sizes it was not traced with."""
    init_default_scope('mmpose')
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    cfg.model.update(freeze_backbone=False)
    cfg.model.backbone.update(init_cfg=None, **BACKBONES[name])
    if BACKBONES[name]:
        cfg.model.neck.in_channels = [68] * 2
        cfg.model.head.in_channels = 68
    cfg.model.head.max_instances = 3
    torch.manual_seed(0)
    model = init_model(cfg, None, device='cpu')
    unit, encode = size_unit(model), Encode(model)
    images = torch.randint(0, 256, (2, 3, 2 * unit, 3 * unit), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    program = trace(encode, (images,), (Axes(unit).of(1),))
    write_onnx(program, tmp_path / 'encode.onnx', ['image'], encode.names, {}, 20)
    check_file(encode, tmp_path / 'encode.onnx', images[:1, :, :, :unit])
    check_file(encode, tmp_path / 'encode.onnx', images[:, :, :unit, : 2 * unit])


def test_swin_has_a_fixed_size(tmp_path):
    """MMPose's windows are counted in Python."""
    init_default_scope('mmpose')
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_swin-t_coco.py')
    cfg.model.backbone.update(init_cfg=None, depths=[2, 2, 2, 2])
    model = init_model(cfg, None, device='cpu')
    encode, image = Encode(model), torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8)
    program = trace(encode, (image,), (Axes(0).of(1),))
    write_onnx(program, tmp_path / 'encode.onnx', ['image'], encode.names, {}, 20)
    check_file(encode, tmp_path / 'encode.onnx', image.flip(2))


class Counted(torch.nn.Module):
    def forward(self, image):
        return image.float().expand(int(image.shape[0]), -1, -1, -1)


def test_a_network_that_counts_its_images_is_refused():
    with pytest.raises(ValueError, match='add --fixed-size'):
        trace(Counted(), (torch.zeros(2, 3, 64, 96, dtype=torch.uint8),), (Axes(32).of(1),))


# --- the shipped model


@pytest.fixture(scope='module')
def shipped():
    return load_model(str(ROOT / CONFIG), str(ROOT / SHIPPED))


@pytest.fixture(scope='module')
def shipped_poser(shipped, tmp_path_factory):
    out = tmp_path_factory.mktemp('shipped') / 'model.onnx'
    export_model(shipped, str(ROOT / SHIPPED), str(out), ExportOptions('whole'))
    return Poser(out, threads=1)


@pytest.mark.parametrize('split', ['plain', 'occluded', 'crowded'])
def test_shipped_model_on_40_images(split, shipped, shipped_poser, tmp_path):
    write_split(tmp_path, split, 40, 0, CROWDBENCH)
    paths = sorted((tmp_path / split).glob('*.png'))
    assert len(paths) == 40
    pixels = [cv2.imread(str(path))[..., ::-1].transpose(2, 0, 1).copy() for path in paths]
    images = torch.from_numpy(np.stack(pixels))
    counts = np.concatenate([assert_parity(shipped, shipped_poser, part) for part in images.split(4)])
    assert counts.max() > 2
    assert_parity(shipped, shipped_poser, images[:1])
    other = torch.nn.functional.interpolate(images[:4].float(), size=(96, 160)).to(torch.uint8)
    assert_parity(shipped, shipped_poser, other)


def test_shipped_model_on_images_without_people_and_at_max_instances(shipped, shipped_poser):
    assert_parity(shipped, shipped_poser, torch.zeros(2, 3, 128, 128, dtype=torch.uint8))


def assert_same_on_photograph(model, poser, image, side):
    """The number of people; images are fitted into squares of so many pixels."""
    (sample,) = inference_bottomup(model, image)
    poses, people = sample.pred_instances, poser(image, channels='bgr')
    assert len(people) == len(poses.keypoints)
    pixel = max(image.shape[:2]) / side  # of the input, in pixels of the photograph
    for person, places, score in zip(people, poses.keypoints, poses.bbox_scores):
        np.testing.assert_allclose(person.keypoints, places, atol=0.05 * pixel, rtol=0)
        assert person.score == pytest.approx(score, abs=1e-4)
    return len(people)


def test_shipped_model_on_real_photographs(shipped, shipped_poser):
    """Poser's own letterbox and way back against MMPose's pipeline."""
    paths = sorted(PHOTOGRAPHS.glob('*/*.jpg'))[:20]
    if not paths:
        pytest.skip(f'there are no photographs under {PHOTOGRAPHS}')
    for path in paths:
        assert_same_on_photograph(shipped, shipped_poser, cv2.imread(str(path)), 128)


@pytest.fixture(scope='module')
def photo_model():
    config = str(ROOT / 'configs/rnnpose_movenet_photo.py')
    return load_model(config, str(ROOT / PHOTO_MODEL), {'model.test_cfg.flip_test': False})


@pytest.mark.parametrize('form, out, steps', [('whole', 'x.onnx', None), ('unrolled', 'x.onnx', 8)])
def test_shipped_photo_model_on_real_photographs(photo_model, form, out, steps, tmp_path):
    """Claimed maps, joints on the backbone's peaks and a score threshold, all in the graph."""
    paths = sorted(PHOTOGRAPHS.glob('train2017/*.jpg'))[:20]
    if not paths:
        pytest.skip(f'there are no photographs under {PHOTOGRAPHS}')
    export_model(photo_model, str(ROOT / PHOTO_MODEL), str(tmp_path / out), ExportOptions(form, steps=steps))
    poser, found = Poser(tmp_path / out, threads=1), 0
    photo_model.head.max_instances = steps or 30
    for path in paths:
        found += assert_same_on_photograph(photo_model, poser, cv2.imread(str(path)), 256)
    photo_model.head.max_instances = 30
    assert found > len(paths)
