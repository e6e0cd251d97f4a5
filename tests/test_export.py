"""Exported files against the model itself, which decodes in Python: no shared loop, no shared dropping of images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mmpose.apis import inference_bottomup
from mmpose.structures import PoseDataSample
from narrow_export import COUNTS, ROOT, SIZES, coloured_blocks, narrow_model

from rnnpose_plugin.export.command import ExportOptions, export_model, load_model
from rnnpose_plugin.export.graph import finished_only
from rnnpose_plugin.export.networks import keep_poses
from rnnpose_plugin.models.second_lstm import order_by_comparisons
from rnnpose_runtime import Poser

# float32 sums in another order; the nearest wrong answer, the next cell, is 4 pixels off, and 1 with refinement none.
PIXELS, SCORES = 0.05, 1e-4


def save(model, path):
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta)), path)
    return str(path)


@pytest.fixture(scope='module')
def model():
    return narrow_model()


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
    """Through MMPose's own pipeline, letterbox and back included."""
    model.cfg.test_dataloader.dataset.pipeline[1].input_size = (96, 64)
    model.head.decoder.input_size, model.head.decoder.heatmap_size = (96, 64), (24, 16)
    for height, width in ((64, 96), (51, 200), (150, 70)):
        image = coloured_blocks(160, 208)[2].permute(1, 2, 0).numpy()[:height, :width]
        (sample,) = inference_bottomup(model, image[..., ::-1].copy())
        poses = sample.pred_instances
        scale = max(width / 96, height / 64)
        for poser in (whole, steps):
            poser.input_size = (96, 64)
            people = poser(image)
            assert len(people) == len(poses.keypoints)
            for person, places, joint_scores, score in zip(
                people, poses.keypoints, poses.keypoint_scores, poses.bbox_scores
            ):
                np.testing.assert_allclose(person.keypoints, places, atol=PIXELS * scale, rtol=0)
                np.testing.assert_allclose(person.keypoint_scores, joint_scores, atol=SCORES, rtol=0)
                assert person.score == pytest.approx(score, abs=SCORES)
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
for name in ('torch', 'mmpose', 'mmengine', 'mmcv', 'cv2', 'onnx', 'rnnpose_plugin'):
    sys.modules[name] = None
import numpy as np
from rnnpose_runtime import Poser
print(len(Poser({str(folder / 'whole.onnx')!r})(np.zeros((40, 50, 3), np.uint8))))
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert done.stdout.strip().isdigit()


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
    shipped = str(ROOT / 'model_zoo/rnnpose_context_crowdbench.pth')
    assert load_model(config, shipped, {'model.test_cfg.stop_threshold': 0.6}).head.stop_threshold == 0.6
    with pytest.raises(ValueError, match='flip_test=True, which is not exported'):
        load_model(config, shipped, {'model.test_cfg.flip_test': True})


def test_command_says_one_sentence(tmp_path):
    command = [sys.executable, str(ROOT / 'tools' / 'export.py'), 'missing.py', 'missing.pth', '--out', 'x.onnx']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and 'error: ' in done.stderr and 'Traceback' not in done.stderr
    assert not list(tmp_path.iterdir())


def test_metadata_are_json_and_name_no_machine(whole, folder):
    texts = {prop.key: prop.value for prop in onnx.load(folder / 'whole.onnx').metadata_props}
    assert all(json.loads(text) is not None for text in texts.values())
    content = Path(folder, 'whole.onnx').read_bytes()
    assert str(ROOT).encode() not in content and sys.prefix.encode() not in content
