"""Images that are missing, cut off or not images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmpose.datasets.transforms import LoadImage
from mmpose.registry import TRANSFORMS

from rnnpose_plugin.datasets.loading import LoadPoseImage, is_cut_off

IMAGE = np.random.RandomState(0).randint(0, 255, (48, 64, 3), dtype=np.uint8)


def encoded(kind):
    return cv2.imencode(f'.{kind}', IMAGE)[1].tobytes()


def load(tmp_path, data, **kwargs):
    path = tmp_path / 'image.jpg'
    path.write_bytes(data)
    return LoadPoseImage(**kwargs)(dict(img_path=str(path)))


@pytest.mark.parametrize('kind', ['jpg', 'png', 'bmp', 'webp'])
@pytest.mark.parametrize('arguments', [dict(), dict(to_float32=True), dict(color_type='grayscale')])
def test_a_whole_image_is_read_as_by_mmpose(tmp_path, kind, arguments):
    results = load(tmp_path, encoded(kind), **arguments)
    expected = LoadImage(**arguments)(dict(img_path=results['img_path']))
    assert results.keys() == expected.keys()
    assert results['img_shape'] == results['ori_shape'] == expected['img_shape'] == (48, 64)
    assert results['img'].dtype == expected['img'].dtype and np.array_equal(results['img'], expected['img'])


def test_a_loaded_image_is_kept():
    results = LoadPoseImage()(dict(img=IMAGE))
    assert results['img'] is IMAGE and results['img_shape'] == (48, 64)


def test_missing_image(tmp_path):
    path = tmp_path / 'gone.jpg'
    with pytest.raises(FileNotFoundError, match=f'^image {path} does not exist; check data_root and data_prefix$'):
        LoadPoseImage()(dict(img_path=str(path)))


@pytest.mark.parametrize('kind', ['jpg', 'png'])
@pytest.mark.parametrize('kept', [0.3, 0.9])
def test_cut_off_image(tmp_path, kind, kept):
    data = encoded(kind)
    data = data[: int(kept * len(data))]
    with pytest.raises(ValueError, match=f'image.jpg is cut off after {len(data)} bytes; fetch it again'):
        load(tmp_path, data)


@pytest.mark.parametrize('data', [b'', b'not an image', b'BM' + bytes(100)])
def test_undecodable_image(tmp_path, data):
    with pytest.raises(ValueError, match=rf'image.jpg cannot be decoded \({len(data)} bytes\); replace it'):
        load(tmp_path, data)


def test_unreadable_images_can_be_skipped(tmp_path):
    assert load(tmp_path, b'not an image', ignore_empty=True) is None
    assert LoadPoseImage(ignore_empty=True)(dict(img_path='gone.jpg')) is None


@pytest.mark.parametrize('kind', ['jpg', 'png'])
@pytest.mark.parametrize('appended', [b'\0' * 20, b'data of the camera'])
def test_bytes_after_the_end_are_accepted(kind, appended):
    assert not is_cut_off(encoded(kind) + appended)


def test_transform_is_registered():
    assert TRANSFORMS.get('LoadPoseImage') is LoadPoseImage
