"""The runtime without an exported model: its letterbox against MMPose's on OpenCV, and what it refuses."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest
from mmpose.datasets.transforms import BottomupResize
from onnx import TensorProto, helper

from rnnpose_runtime import Poser, letterbox

FACTS = dict(
    contract=1, form='whole', input_size=[64, 32], size_multiple=32, image_type='uint8', max_people=4, omega=0.5
)  # fmt: skip


def write(path, nodes, inputs, outputs, **facts):
    kinds = {'image': TensorProto.UINT8, 'num_people': TensorProto.INT64, 'number': TensorProto.INT64}
    values = [[helper.make_tensor_value_info(n, kinds.get(n, 1), s) for n, s in v] for v in (inputs, outputs)]
    model = helper.make_model(
        helper.make_graph(nodes, 'hand-made', *values), opset_imports=[helper.make_opsetid('', 20)]
    )
    model.ir_version = 9
    for name, value in facts.items():
        model.metadata_props.add(key=name, value=json.dumps(value))
    onnx.save(model, path)
    return path


def constant(name, values, kind=np.float32):
    return helper.make_node('Constant', [], [name], value=onnx.numpy_helper.from_array(np.asarray(values, kind), name))


def write_whole(path, **facts):
    """Two people of one joint each, at (0, 0) and at (63, 31) of the input, whatever the image."""
    nodes = [
        constant('keypoints', [[[[0, 0, 0.5]], [[63, 31, 0.25]]]]),
        constant('scores', [[0.75, 0.5]]),
        constant('num_people', [2], np.int64),
    ]
    outputs = [('keypoints', [1, 2, 1, 3]), ('scores', [1, 2]), ('num_people', [1])]
    return write(path, nodes, [('image', [1, 3, None, None])], outputs, **{**FACTS, **facts})


def write_steps(folder, pair='one', stops=(0.9, 0.8, 0.3, 0.6)):
    """Stop probabilities by the number of the step; h counts the steps; the second step is a person without a joint."""
    folder.mkdir(exist_ok=True)
    facts = dict(FACTS, form='steps', pair=pair)
    encode = [constant('maps_1', np.zeros((1, 1, 8, 16))), constant('h_1', [[10.0]])]
    given = [('maps_1', [1, 1, 8, 16]), ('h_1', [1, 1])]
    write(folder / 'encode.onnx', encode, [('image', [1, 3, None, None])], given, **facts)
    step = [
        constant('all_stops', stops),
        constant('all_scores', [0.5, 0.0, 0.5, 0.5]),
        constant('zero', [0], np.int64),
        constant('one', [[1.0]]),
        constant('y_and_score', [[[2.0, 0.5]]]),
        helper.make_node('Unsqueeze', ['number', 'zero'], ['index']),
        helper.make_node('Gather', ['all_stops', 'index'], ['stop_probability']),
        helper.make_node('Gather', ['all_scores', 'index'], ['score']),
        helper.make_node('Add', ['h_1', 'one'], ['next_h_1']),
        helper.make_node('Unsqueeze', ['h_1', 'zero'], ['x']),
        helper.make_node('Concat', ['x', 'y_and_score'], ['keypoints'], axis=2),
    ]
    outputs = [('keypoints', [1, 1, 3]), ('score', [1]), ('stop_probability', [1]), ('next_h_1', [1, 1])]
    write(folder / 'step.onnx', step, [('number', []), *given], outputs, **facts)
    return folder


@pytest.mark.parametrize('height, width', [(128, 128), (480, 640), (333, 517), (50, 20), (427, 640), (1, 1), (601, 77)])
@pytest.mark.parametrize('size', [(128, 128), (96, 160), (512, 256)])
def test_letterbox_is_mmposes(height, width, size):
    """OpenCV 4 rounds places to 1/32 pixel: up to 255 / 64 along each axis; points go back to the same place."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (5, 5), 1) if min(height, width) > 5 else image
    expected = BottomupResize(input_size=size)(dict(img=image, ori_shape=(height, width)))
    fitted, (scale, offset) = letterbox(image, size)
    rounds = cv2.__version__.startswith('4.')
    assert np.abs(fitted.astype(int) - expected['img']).max() <= (8 if rounds else 1) and fitted.dtype == np.uint8
    assert rounds or (fitted != expected['img']).mean() < 1e-3
    points = random.uniform(0, 500, (20, 2))
    back = points / size * expected['input_scale'] + expected['input_center'] - 0.5 * expected['input_scale']
    np.testing.assert_allclose(points * scale + offset, back, atol=1e-3)  # MMPose's numbers are float32


def test_whole_file_by_hand(tmp_path):
    """128 x 128 px into 64 x 32: scale 4, the image in the middle half; (31.5, 15.5) is the middle of both."""
    people = Poser(write_whole(tmp_path / 'whole.onnx'))(np.zeros((128, 128, 3), np.uint8))
    assert [person.score for person in people] == [0.75, 0.5]
    assert [person.keypoint_scores.tolist() for person in people] == [[0.5], [0.25]]
    assert people[0].keypoints.tolist() == [[-64, 0]] and people[1].keypoints.tolist() == [[188, 124]]
    assert people[0].stop_probability is None


def test_grey_images_and_other_sizes(tmp_path):
    poser = Poser(write_whole(tmp_path / 'whole.onnx'), input_size=(32, 32))
    assert len(poser(np.zeros((10, 20), np.uint8))) == 2
    assert poser(np.zeros((64, 64, 3), np.uint8))[0].keypoints.tolist() == [[0, 0]]


def test_steps_by_hand(tmp_path):
    poser = Poser(write_steps(tmp_path / 'steps'))
    image = np.zeros((32, 64, 3), np.uint8)
    (person,) = poser(image)  # the second has no joint, the third step stops
    assert person.keypoints.tolist() == [[10, 2]] and person.stop_probability == pytest.approx(0.9)
    people = list(poser.stream(image, stop_threshold=0))  # all four steps
    assert [person.keypoints[0, 0] for person in people] == [10, 12, 13]  # the state goes from step to step


@pytest.mark.parametrize(
    'image, error',
    [
        (np.zeros((4, 4, 3), np.float32), 'float32'),
        (np.zeros((4, 4, 4), np.uint8), r'\(4, 4, 4\)'),
        (np.zeros((0, 4, 3), np.uint8), r'\(0, 4, 3\)'),
        (np.zeros((2, 4, 4, 3), np.uint8), r'\(2, 4, 4, 3\)'),
    ],
)
def test_arrays_that_are_no_image(tmp_path, image, error):
    with pytest.raises(ValueError, match=error):
        Poser(write_whole(tmp_path / 'whole.onnx'))(image)


def test_other_channel_orders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="channels is 'bgra'"):
        Poser(write_whole(tmp_path / 'whole.onnx'))(np.zeros((4, 4, 3), np.uint8), channels='bgra')


def test_files_of_other_kinds(tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        Poser(tmp_path / 'none.onnx')
    (tmp_path / 'text.onnx').write_text('no model')
    with pytest.raises(ValueError, match='text.onnx is no model'):
        Poser(tmp_path / 'text.onnx')
    node = helper.make_node('Identity', ['x'], ['same'])
    plain = write(tmp_path / 'plain.onnx', [node], [('x', [1])], [('same', [1])])
    with pytest.raises(ValueError, match='was not written by tools/export.py'):
        Poser(plain)
    with pytest.raises(ValueError, match='contract 2'):
        Poser(write_whole(tmp_path / 'later.onnx', contract=2, version='9.9.9'))
    with pytest.raises(ValueError, match='multiples of 32'):
        Poser(write_whole(tmp_path / 'whole.onnx'), input_size=(64, 40))
    with pytest.raises(ValueError, match=r'takes \(64, 32\) only'):
        Poser(write_whole(tmp_path / 'fixed.onnx', size_multiple=0), input_size=(64, 64))


def test_remarks_of_other_programs_are_left_alone(tmp_path):
    model = onnx.load(write_whole(tmp_path / 'whole.onnx'))
    model.metadata_props.add(key='onnx.infer', value='onnxruntime.quant')
    onnx.save(model, tmp_path / 'whole.onnx')
    assert Poser(tmp_path / 'whole.onnx').metadata == FACTS


def test_steps_are_a_folder_of_one_export(tmp_path):
    folder = write_steps(tmp_path / 'steps')
    with pytest.raises(ValueError, match='one of two files'):
        Poser(folder / 'step.onnx')
    (folder / 'step.onnx').replace(tmp_path / 'step.onnx')
    with pytest.raises(FileNotFoundError, match='step.onnx does not exist'):
        Poser(folder)
    write_steps(folder, pair='two')
    (tmp_path / 'step.onnx').replace(folder / 'step.onnx')
    with pytest.raises(ValueError, match='come from two exports'):
        Poser(folder)


def test_stream_needs_the_steps(tmp_path):
    with pytest.raises(ValueError, match="needs the form 'steps'"):
        next(Poser(write_whole(tmp_path / 'whole.onnx')).stream(np.zeros((4, 4, 3), np.uint8)))
