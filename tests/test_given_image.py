"""Arrays and paths given to inference_bottomup: the answer of the image file, or one sentence."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmpose.apis import inference_bottomup, init_model

from rnnpose_plugin.datasets.given_image import as_bgr
from rnnpose_plugin.datasets.loading import LoadPoseImage

ROOT = Path(__file__).parents[1]
IMAGE = np.random.RandomState(0).randint(0, 256, (48, 64, 3), dtype=np.uint8)
GREY = IMAGE[..., 0]
META = dict(dataset_name='coco')  # a part of the model's metainfo, which inference_bottomup adds


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (IMAGE, IMAGE),
        (GREY, np.stack([GREY] * 3, -1)),
        (GREY[..., None], np.stack([GREY] * 3, -1)),
        (np.dstack([IMAGE, GREY]), IMAGE),
        (IMAGE.astype(np.uint16), IMAGE),
        (IMAGE.astype(np.int64), IMAGE),
        (IMAGE.astype(np.float64), IMAGE.astype(np.float32)),
        (IMAGE - np.float32(12.5), IMAGE - np.float32(12.5)),  # bicubic resizing overshoots
        (IMAGE + np.float32(12.5), IMAGE + np.float32(12.5)),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.float32)),
        (np.ones((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)),  # dark, not of 0 to 1
        (IMAGE[:1, :1], IMAGE[:1, :1]),
    ],
)
def test_arrays_that_are_images(given, expected):
    found = as_bgr(given)
    assert found.dtype == expected.dtype and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ('given', 'parts'),
    [
        (None, ['the image is None', 'give a path']),
        ([1, 2], ['is a list', 'give a path']),
        (b'png', ['is a bytes', 'give a path']),
        (IMAGE[:0], ['shape (0, 64, 3)']),
        (np.zeros(0), ['shape (0,)']),
        (IMAGE.transpose(2, 0, 1), ['shape (3, 48, 64)', '(height, width, 3)']),
        (IMAGE[None], ['shape (1, 48, 64, 3)']),
        (IMAGE[..., :2], ['shape (48, 64, 2)']),
        (IMAGE.astype(np.uint16) * 257, ['uint16 values from 0 to 6.554e+04', 'convert them to 0 to 255']),
        (IMAGE.astype(np.int32) - 128, ['int32 values from -128 to 127']),
        (IMAGE / 255, ['float64 values from 0 to 1', 'multiply by 255']),
        (IMAGE > 128, ['bool values from 0 to 1', 'multiply by 255']),
        (IMAGE / 127.5 - 1, ['values from -1 to 1', 'convert them']),
        ((IMAGE - 116.0) / 57, ['values from -2.0', 'convert them']),
        (IMAGE * 4.0, ['values from 0 to 1020', 'convert them']),
        (IMAGE * 2.0 - 300, ['values from -300 to 210', 'convert them']),
        (np.full((4, 4, 3), np.nan), ['values from nan to nan']),
        (IMAGE.astype(complex), ['dtype complex128']),
        (IMAGE.astype(object), ['dtype object']),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(given, parts):
    with pytest.raises(ValueError) as error:
        LoadPoseImage()(dict(img=given, **META))
    assert all(part in str(error.value) for part in parts), error.value
    assert '\n' not in str(error.value)


def test_a_grey_pipeline_keeps_its_arrays():
    assert LoadPoseImage(color_type='grayscale')(dict(img=GREY))['img'] is GREY


def test_a_path_object_is_read(tmp_path):
    path = tmp_path / 'ä b.png'
    path.write_bytes(cv2.imencode('.png', IMAGE)[1].tobytes())
    results = LoadPoseImage()(dict(img=path, **META))
    assert results['img_path'] == str(path) and np.array_equal(results['img'], IMAGE)


@pytest.mark.parametrize(('data', 'sentence'), [(None, 'does not exist; check the path$'), (b'text', '; replace it$')])
def test_advice_at_inference_names_no_annotations(tmp_path, data, sentence):
    path = tmp_path / 'image.png'
    if data:
        path.write_bytes(data)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        LoadPoseImage()(dict(img_path=str(path), **META))
    with pytest.raises((ValueError, FileNotFoundError), match='annotation file|data_root'):
        LoadPoseImage()(dict(img_path=str(path), img_id=1, **META))


def test_inference_gives_the_poses_of_the_file(tmp_path):
    model = init_model(
        str(ROOT / 'configs/rnnpose_context_crowdbench.py'),
        str(ROOT / 'model_zoo/rnnpose_context_crowdbench.pth'),
        device='cpu',
    )
    image = np.full((96, 80, 3), 90, np.uint8)
    cv2.circle(image, (40, 20), 10, (200, 180, 160), -1)
    cv2.rectangle(image, (28, 30), (52, 80), (200, 30, 10), -1)
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), image)

    def poses(given):
        (sample,) = inference_bottomup(model, given)
        return sample.pred_instances.keypoints

    expected = poses(str(path))
    for given in (path, image, np.dstack([image, image[..., 0]]), image.astype(np.float32), image.astype(np.int64)):
        # Pixels; floats are not rounded when they are resized.
        np.testing.assert_allclose(
            poses(given), expected, atol=0.1 if getattr(given, 'dtype', None) == 'float32' else 0
        )
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    np.testing.assert_array_equal(poses(grey[..., 0]), poses(grey))
    for given in (image[:1, :1], image[:, :1], np.repeat(image[:6], 40, axis=1)):  # 1 x 1, 96 x 1, 6 x 3200
        assert np.isfinite(poses(given)).all()
