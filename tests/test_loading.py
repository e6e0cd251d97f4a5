"""Images that are missing, cut off or not images."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from mmpose.datasets.transforms import LoadImage
from mmpose.registry import TRANSFORMS
from PIL import Image

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


def test_a_format_that_opencv_was_built_without(tmp_path):
    """OpenCV raises for OpenEXR, where it returns None for others."""
    with pytest.raises(ValueError, match=r'image .*image.jpg cannot be decoded \(54 bytes\)'):
        load(tmp_path, b'v/1\x01' + bytes(50))


def test_a_server_that_does_not_answer_is_named_with_the_image():
    with pytest.raises(OSError, match='image http://127.0.0.1:9/a.jpg cannot be read: .*refused'):
        LoadPoseImage()(dict(img_path='http://127.0.0.1:9/a.jpg'))


@pytest.mark.parametrize('kind', ['16-bit', 'CMYK', 'LA', 'P', '1', 'RGBA'])
def test_images_of_other_kinds_are_read_as_colours_of_0_to_255(tmp_path, kind):
    """Against Pillow; PNG has no CMYK."""
    if kind == '16-bit':
        data, expected = cv2.imencode('.png', IMAGE.astype(np.uint16) * 257)[1].tobytes(), IMAGE[..., ::-1]
    else:
        grey = Image.fromarray(IMAGE[..., 0])
        given = Image.merge('LA', (grey, grey)) if kind == 'LA' else Image.fromarray(IMAGE).convert(kind)
        file = io.BytesIO()
        given.save(file, 'TIFF' if kind == 'CMYK' else 'PNG')
        data, expected = file.getvalue(), np.asarray(given.convert('RGB'))
    read = load(tmp_path, data)['img']
    assert read.dtype == np.uint8
    np.testing.assert_allclose(read[..., ::-1].astype(int), expected, atol=1)


def test_unreadable_images_can_be_skipped(tmp_path):
    assert load(tmp_path, b'not an image', ignore_empty=True) is None
    assert LoadPoseImage(ignore_empty=True)(dict(img_path='gone.jpg')) is None


@pytest.mark.parametrize('kind', ['jpg', 'png'])
@pytest.mark.parametrize('appended', [b'\0' * 20, b'data of the camera'])
def test_bytes_after_the_end_are_accepted(kind, appended):
    assert not is_cut_off(encoded(kind) + appended)


def test_transform_is_registered():
    assert TRANSFORMS.get('LoadPoseImage') is LoadPoseImage
