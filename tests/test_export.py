"""Exported files against the model itself, which decodes in Python: no shared loop, no shared dropping of images."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from copy import copy
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from mmpose.apis import inference_bottomup
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from narrow_export import COUNTS, ROOT, SIZES, coloured_blocks, fit_stop, narrow_model

from rnnpose_plugin.export.check import check_file
from rnnpose_plugin.export.command import ExportOptions, export_model, load_model, size_unit
from rnnpose_plugin.export.graph import finished_only
from rnnpose_plugin.export.int8 import quantise_step
from rnnpose_plugin.export.networks import keep_poses
from rnnpose_plugin.export.unrolled import UnrolledPose
from rnnpose_plugin.models.second_lstm import ORDERS, order_by_comparisons
from rnnpose_runtime import Poser

# float32 sums in another order; the nearest wrong answer, the next cell, is 4 pixels off, and 1 with refinement none.
PIXELS, SCORES = 0.05, 1e-4
SHIPPED = 'model_zoo/rnnpose_context_crowdbench.pth'


def save(model, path):
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta)), path)
    return str(path)


@pytest.fixture(scope='module')
def model():
    """With claimed maps, the one more state that a decoder may have; tests/test_export_forms.py has those without."""
    return narrow_model(claimed_maps=True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('export')


@pytest.fixture(scope='module')
def checkpoint(model, folder):
    return save(model, folder / 'narrow.pth')


@pytest.fixture(scope='module')
def whole(model, checkpoint, folder):
    export_model(model, checkpoint, str(folder / 'whole.onnx'), ExportOptions('whole'))
    return Poser(folder / 'whole.onnx', threads=1)


@pytest.fixture(scope='module')
def steps(model, checkpoint, folder):
    export_model(model, checkpoint, str(folder / 'steps'), ExportOptions('steps'))
    return Poser(folder / 'steps', threads=1)


def predict(model, images):
    """MMPose's own way: of each image keypoints (n, K, 2), keypoint scores (n, K) and scores (n,)."""
    height, width = images.shape[-2:]
    facts = dict(input_size=(width, height), input_center=np.array([width / 2, height / 2]))
    facts.update(input_scale=np.array([width, height]), img_shape=(height, width), batch_input_shape=(height, width))
    samples = [PoseDataSample(metainfo=facts) for _ in images]
    bgr = [image.flip(0) for image in images]
    found = [sample.pred_instances for sample in model.test_step(dict(inputs=bgr, data_samples=samples))]
    return [(poses.keypoints, poses.keypoint_scores, poses.bbox_scores) for poses in found]


def assert_same(expected, keypoints, scores, counts):
    assert [len(poses) for poses, _, _ in expected] == counts.tolist()
    for image, (places, joint_scores, instance_scores) in enumerate(expected):
        n = len(places)
        np.testing.assert_allclose(keypoints[image, :n, :, :2], places, atol=PIXELS, rtol=0)
        np.testing.assert_allclose(keypoints[image, :n, :, 2], joint_scores, atol=SCORES, rtol=0)
        np.testing.assert_allclose(scores[image, :n], instance_scores, atol=SCORES, rtol=0)
        assert not keypoints[image, n:].any() and not scores[image, n:].any()


@pytest.mark.parametrize('size', SIZES)
def test_whole_gives_the_models_poses(model, whole, size):
    """A batch with an image without people, one that max_instances cuts, and others; then each image alone."""
    images = coloured_blocks(*size)
    expected = predict(model, images)
    found = [len(poses) for poses, _, _ in expected]
    assert found[:3] == list(COUNTS[:3]) and found[3] in (1, 2)  # as the fit meant it, nearly
    keypoints, scores, counts = whole.sessions[0].run(None, {'image': images.numpy()})
    assert keypoints.shape == (4, 5, 17, 3) and scores.shape == (4, 5)
    assert_same(expected, keypoints, scores, counts)
    for image, alone in zip(images, expected):
        keypoints, scores, counts = whole.sessions[0].run(None, {'image': image[None].numpy()})
        assert keypoints.shape == (1, len(alone[0]), 17, 3)  # T is what ran
        assert_same([alone], keypoints, scores, counts)


def test_poser_gives_what_mmpose_gives_on_an_image_of_any_size(model, whole, steps):
    """Through MMPose's own pipeline, letterbox and back included; OpenCV 4 rounds places in the image."""
    tolerance = 1e-3 if cv2.__version__.startswith('4.') else SCORES
    model.cfg.test_dataloader.dataset.pipeline[1].input_size = (96, 64)
    model.head.decoder.input_size, model.head.decoder.heatmap_size = (96, 64), (24, 16)
    for height, width in ((64, 96), (51, 200), (150, 70)):
        image = coloured_blocks(160, 208)[2].permute(1, 2, 0).numpy()[:height, :width]
        (sample,) = inference_bottomup(model, image[..., ::-1].copy())
        poses = sample.pred_instances
        scale = max(width / 96, height / 64)
        for poser in map(copy, (whole, steps)):
            poser.input_size = (96, 64)
            people = poser(image)
            assert len(people) == len(poses.keypoints)
            for person, places, joint_scores, score in zip(
                people, poses.keypoints, poses.keypoint_scores, poses.bbox_scores
            ):
                np.testing.assert_allclose(person.keypoints, places, atol=PIXELS * scale, rtol=0)
                np.testing.assert_allclose(person.keypoint_scores, joint_scores, atol=tolerance, rtol=0)
                assert person.score == pytest.approx(score, abs=tolerance)
            again = poser(np.ascontiguousarray(image[..., ::-1]), channels='bgr')
            assert [person.score for person in again] == [person.score for person in people]


def test_steps_stream_people_with_a_threshold_of_ones_own(model, steps):
    image = coloured_blocks(128, 128)[2].permute(1, 2, 0).numpy()
    people = list(steps.stream(image, stop_threshold=0.0))
    assert len(people) == 5 and all(0 < person.stop_probability < 1 for person in people)
    highest = max(person.stop_probability for person in people)
    assert not list(steps.stream(image, stop_threshold=min(1.0, highest + 1e-6)))


def test_file_says_what_it_is(model, whole, checkpoint):
    facts = whole.metadata
    assert facts['form'] == 'whole' and facts['input_size'] == [128, 128] and facts['stride'] == 4
    assert facts['size_multiple'] == 32 and facts['image_type'] == 'uint8' and facts['channel_order'] == 'rgb'
    assert facts['keypoint_names'][0] == 'nose' and len(facts['keypoint_names']) == len(facts['sigmas']) == 17
    assert len(facts['skeleton']) == 19 and max(map(max, facts['skeleton'])) == 16
    assert facts['omega'] == model.head.stop_threshold and facts['tau'] == 0.015 and facts['max_people'] == 5
    np.testing.assert_allclose(facts['mean'], [123.675, 116.28, 103.53], rtol=1e-6)
    head = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert f"license='{facts['licence']}'" in (ROOT / 'setup.py').read_text()
    assert facts['commit'] in ('', head) and facts['checkpoint'] == 'narrow.pth'
    assert [axis.name for axis in whole.sessions[0].get_inputs()] == ['image']
    assert [axis.shape for axis in whole.sessions[0].get_inputs()] == [['batch', 3, 'height', 'width']]
    assert [(axis.name, axis.shape) for axis in whole.sessions[0].get_outputs()] == [
        ('keypoints', ['batch', 'people', 17, 3]),
        ('scores', ['batch', 'people']),
        ('num_people', ['batch']),
    ]


def test_whole_has_a_loop_and_passes_the_checker(whole, folder):
    loaded = onnx.load(folder / 'whole.onnx')
    onnx.checker.check_model(loaded)
    assert 'Loop' in {node.op_type for node in loaded.graph.node}


def test_an_environment_without_torch_runs_it(whole, folder):
    code = f"""
import sys
from copy import copy
for name in ('torch', 'mmpose', 'mmengine', 'mmcv', 'cv2', 'onnx', 'rnnpose_plugin'):
    sys.modules[name] = None
import numpy as np
from rnnpose_runtime import Poser
print(len(Poser({str(folder / 'whole.onnx')!r})(np.zeros((40, 50, 3), np.uint8))))
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert done.stdout.strip().isdigit()


# --- every setting of the head, in torch: what is traced, before it is


def assert_modules_agree(model, images):
    with torch.no_grad():
        found = UnrolledPose(model.eval(), model.head.max_instances)(images)
    assert_same(predict(model, images), *(part.numpy() for part in found))


@pytest.mark.parametrize('claimed_maps', [False, True])
@pytest.mark.parametrize('settings', [None, *(dict(order=order) for order in ORDERS), dict(others=True)])
def test_settings_of_the_decoder(settings, claimed_maps):
    second_lstm = None if settings is None else dict(settings, hidden_channels=(8, 8), feedback_passes=1)
    assert_modules_agree(narrow_model(second_lstm=second_lstm, claimed_maps=claimed_maps), coloured_blocks(*SIZES[0]))


def test_who_comes_after_the_stop_is_nobody():
    """Omega between two steps' stop probabilities, the later of which is higher."""
    model, images = narrow_model(stop_threshold=1e-6), coloured_blocks(*SIZES[0])
    with torch.no_grad():
        inputs = (images.float() - model.data_preprocessor.mean) / model.data_preprocessor.std
        probabilities = torch.stack([p for _, p in model.head(model.extract_feat(inputs))])  # (4, 5)
    rises = probabilities.diff(dim=1)
    image, step = divmod(int(rises.argmax()), 4)
    assert rises.max() > 1e-5
    model.head.stop_threshold = float(probabilities[image, step : step + 2].mean())
    assert_modules_agree(model, images)


def snapping(model):
    """The narrow model on MoveNet, whose random weights give some peaks everywhere."""
    torch.manual_seed(0)
    model.backbone = MODELS.build(dict(type='MoveNetBackbone', levels=('features', 'regression', 'tags', 'peaks')))
    model.neck = MODELS.build(dict(type='StackedFeatures', in_channels=[24, 34, 34, 51], in_index=[1, 2], beside=3))
    model.backbone.requires_grad_(False)
    model.test_cfg = dict(snap_to_peaks=True)
    fit_stop(model)
    return model


def test_joints_on_the_backbones_peaks():
    images = coloured_blocks(*SIZES[0])
    model = snapping(narrow_model())
    expected = predict(model, images)
    assert sum(len(scores) for _, _, scores in expected) > 5
    assert_modules_agree(model, images)
    model.test_cfg.update(snap_to_peaks=False)
    assert np.abs(predict(model, images)[2][0] - expected[2][0]).max() > 1  # pixels


@pytest.mark.parametrize('make', [lambda: narrow_model(), lambda: snapping(narrow_model())])
def test_people_below_the_score_threshold_are_left_out(make):
    model, images = make(), coloured_blocks(*SIZES[0])
    scores = np.concatenate([found[2] for found in predict(model, images)])
    model.test_cfg = dict(model.test_cfg, score_threshold=float(np.median(scores) + 1e-5))
    assert 0 < sum(len(found[2]) for found in predict(model, images)) < len(scores)
    assert_modules_agree(model, images)


# --- int8


@pytest.fixture(scope='module')
def images(folder):
    (folder / 'images').mkdir()
    for number, image in enumerate(coloured_blocks(128, 128)):
        cv2.imwrite(str(folder / 'images' / f'{number}.png'), image.permute(1, 2, 0).numpy())
    return folder / 'images'


def test_a_step_in_int8(steps, folder, images, tmp_path):
    shutil.copytree(folder / 'steps', tmp_path / 'steps')
    facts = {prop.key: prop.value for prop in onnx.load(tmp_path / 'steps' / 'step.onnx').metadata_props}
    quantise_step(tmp_path / 'steps', str(images), dict(facts, precision='"int8"'))
    quantised = onnx.load(tmp_path / 'steps' / 'step.onnx')
    assert {'QuantizeLinear', 'DequantizeLinear'} <= {node.op_type for node in quantised.graph.node}
    assert len(quantised.SerializeToString()) < (folder / 'steps' / 'step.onnx').stat().st_size
    assert {prop.key: prop.value for prop in quantised.metadata_props} == dict(facts, precision='"int8"')
    image = cv2.imread(str(images / '2.png'))
    plain, ours = (list(poser.stream(image, 'bgr', 0)) for poser in (steps, Poser(tmp_path / 'steps')))
    stops = np.array([[person.stop_probability for person in people] for people in (plain, ours)])
    assert 0 < np.median(np.abs(stops[0] - stops[1])) < 0.1  # other numbers, nearly; random weights make one far off


def test_int8_without_readable_images(steps, folder, tmp_path):
    shutil.copytree(folder / 'steps', tmp_path / 'steps')
    with pytest.raises(FileNotFoundError):
        quantise_step(tmp_path / 'steps', str(tmp_path / 'none'), {})
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(ValueError, match='none of its images can be read'):
        quantise_step(tmp_path / 'steps', str(tmp_path / 'text.png'), {})


def test_people_without_a_joint_are_left_out():
    keypoints = torch.arange(24.0).reshape(1, 4, 2, 3)
    scores = torch.tensor([[0.5, 0.0, 0.7, 0.9]])
    kept, kept_scores, counts = keep_poses(keypoints, scores, torch.tensor([[True, True, True, False]]))
    assert counts.tolist() == [2] and kept_scores.tolist() == [[0.5, pytest.approx(0.7), 0, 0]]
    assert torch.equal(kept[0, :2], keypoints[0, [0, 2]]) and not kept[0, 2:].any()


@pytest.mark.seeded
def test_order_by_comparisons_is_a_stable_argsort():
    torch.manual_seed(0)
    key = torch.randint(0, 4, (50, 7)).float().masked_fill(torch.rand(50, 7) < 0.3, torch.inf)
    assert torch.equal(order_by_comparisons(key), key.argsort(dim=1, stable=True))


# --- refusals


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match='--form unrolled needs --steps'):
        ExportOptions('unrolled')
    with pytest.raises(ValueError, match='--form whole has no use for --steps'):
        ExportOptions('whole', steps=3)
    with pytest.raises(ValueError, match='--opset 7.* no Loop'):
        ExportOptions('whole', opset=7)
    with pytest.raises(ValueError, match="image_type is 'int8'"):
        ExportOptions('whole', image_type='int8')
    with pytest.raises(ValueError, match="form is 'all'"):
        ExportOptions('all')
    with pytest.raises(ValueError, match='--form whole has no int8'):
        ExportOptions('whole', int8='images')


@pytest.mark.parametrize('steps', [0, 6])
def test_numbers_of_steps_that_cannot_be(model, checkpoint, tmp_path, steps):
    with pytest.raises(ValueError, match=f'--steps {steps}: use 1 to 5'):
        export_model(model, checkpoint, str(tmp_path / 'x.onnx'), ExportOptions('unrolled', steps=steps))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_is_named(model, checkpoint, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # what makes an import fail
    with pytest.raises(ImportError, match=rf'{package} is not installed.* run `pip install rnnpose_plugin\[export\]`'):
        export_model(model, checkpoint, str(tmp_path / 'x.onnx'), ExportOptions('whole'))
    assert not list(tmp_path.iterdir())


def test_a_file_that_gives_something_else_is_noticed(model, whole, folder, tmp_path):
    other = narrow_model()
    image = coloured_blocks(*SIZES[0])[:1]
    with pytest.raises(ArithmeticError, match='output 0 of the exported whole.onnx is not what'):
        check_file(UnrolledPose(other, 5), folder / 'whole.onnx', image)
    (tmp_path / 'text.onnx').write_text('no model')
    with pytest.raises(ArithmeticError, match='the exported text.onnx does not run'):
        check_file(UnrolledPose(other, 5), tmp_path / 'text.onnx', image)


def test_sides_are_multiples_of_the_coarsest_layers_cells():
    assert size_unit(narrow_model()) == 32
    model = narrow_model()
    model.head.first_lstm.lstm.strides = (1, 16, 1)
    assert size_unit(model) == 64


def test_a_codec_of_another_stride_is_refused():
    model = narrow_model()
    model.head.decoder.stride = 8
    with pytest.raises(ValueError, match="features at stride 8, which the codec .* set the codec's heatmap_size"):
        size_unit(model)


@pytest.mark.parametrize(
    'form, out, error',
    [
        ('whole', 'x.onxx', 'ends in .onnx or .pt2'),
        ('steps', 'x.onnx', 'the form steps is a folder'),
        ('whole', 'nowhere/x.onnx', 'no folder'),
    ],
)
def test_other_names_are_refused(model, checkpoint, tmp_path, form, out, error):
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        export_model(model, checkpoint, str(tmp_path / out), ExportOptions(form))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('settings', [dict(order='confidence'), dict(others=True)])
def test_steps_of_an_lstm2_that_waits_are_refused_and_nothing_is_left(settings, checkpoint, tmp_path):
    waiting = narrow_model(second_lstm=dict(hidden_channels=(8, 8), **settings))
    with pytest.raises(ValueError, match='order=.* and others=.* use --form whole'):
        export_model(waiting, checkpoint, str(tmp_path / 'out'), ExportOptions('steps'))
    assert not list(tmp_path.iterdir())


def test_a_half_written_file_does_not_stay(tmp_path):
    (tmp_path / 'model.onnx').write_text('of yesterday')
    with pytest.raises(RuntimeError), finished_only(tmp_path / 'model.onnx') as unfinished:
        (unfinished / 'model.onnx').write_text('half')
        raise RuntimeError
    assert [path.read_text() for path in tmp_path.iterdir()] == ['of yesterday']


def test_configs_and_checkpoints_that_do_not_fit(checkpoint):
    with pytest.raises(ValueError, match='has a .*AEHead, which is not exported'):
        load_model(str(ROOT / 'configs/ae_hg_crowdbench.py'), str(ROOT / 'model_zoo/ae_hg_crowdbench.pth'))
    config = str(ROOT / 'configs/rnnpose_context_crowdbench.py')
    with pytest.raises(ValueError, match='does not fit the model'):
        load_model(config, checkpoint)
    with pytest.raises(FileNotFoundError, match='missing.pth'):
        load_model(config, 'missing.pth')
    omega = {'model.test_cfg.stop_threshold': 0.6}
    assert load_model(config, str(ROOT / SHIPPED), omega).head.stop_threshold == 0.6


@pytest.mark.parametrize(
    'option, value, error',
    [
        ('test_cfg.flip_test', True, 'flip_test=True, which is not exported'),
        ('test_cfg.multiscale_test', True, 'multiscale_test=True, which is not exported'),
        ('test_cfg.ae_refinement', True, 'ae_refinement=True, which is not exported'),
        ('precision', 'bfloat16', 'model.precision is bfloat16; the export is float32'),
        ('data_preprocessor.bgr_to_rgb', False, 'has bgr_to_rgb=False'),
    ],
)
def test_settings_that_are_not_exported(option, value, error):
    config, shipped = (str(ROOT / path) for path in ('configs/rnnpose_context_crowdbench.py', SHIPPED))
    with pytest.raises(ValueError, match=error):
        load_model(config, shipped, {f'model.{option}': value})


def test_command_says_one_sentence(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('export', ROOT / 'tools' / 'export.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    monkeypatch.setattr(sys, 'argv', ['export.py', 'missing.py', 'missing.pth', '--out', 'x.onnx'])
    with pytest.raises(SystemExit) as stopped:
        tool.main()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert stopped.value.code == 1 and line.startswith('error: ') and 'missing.pth' in line
    assert not list(tmp_path.iterdir())


def test_metadata_are_json_and_name_no_machine(whole, folder):
    texts = {prop.key: prop.value for prop in onnx.load(folder / 'whole.onnx').metadata_props}
    assert all(json.loads(text) is not None for text in texts.values())
    content = Path(folder, 'whole.onnx').read_bytes()
    assert str(ROOT).encode() not in content and sys.prefix.encode() not in content
