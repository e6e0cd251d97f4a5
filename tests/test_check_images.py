"""Image files of an annotation file before a run: names, kinds of files, sizes, EXIF rotation."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rnnpose_plugin.datasets.loading import LoadPoseImage, read_header
from rnnpose_plugin.runtime.check_images import check_images


def save(path, size=(48, 64), orientation=None):
    """A JPEG of (height, width) with an EXIF orientation: its left half is black, its right half white."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, size[1] // 2 :] = 255
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def entry(name='1.jpg', size=(48, 64), number=1):
    return dict(id=number, file_name=name, height=size[0], width=size[1])


def check(folder, *images):
    check_images(list(images), str(folder), 'people.json')


def load(path, size):
    return LoadPoseImage()(dict(img_path=str(path), annotated_size=size))['img']


def test_images_of_the_annotated_size_pass(tmp_path, log_lines):
    save(tmp_path / '1.jpg')
    check(tmp_path, entry())
    assert not log_lines() and load(tmp_path / '1.jpg', (48, 64)).shape == (48, 64, 3)


@pytest.mark.parametrize(('size', 'cure'), [((64, 48), 'which are exchanged'), ((96, 128), 'fetch the image again')])
def test_another_size_is_refused_before_the_run_and_at_loading(tmp_path, size, cure):
    save(tmp_path / '1.jpg')
    match = rf'1.jpg has 48 x 64 pixels .* says {size[0]} x {size[1]}; .*{cure}'
    with pytest.raises(ValueError, match=match):
        check(tmp_path, entry(size=size))
    with pytest.raises(ValueError, match=match):
        load(tmp_path / '1.jpg', size)


def test_an_image_is_rotated_as_annotated(tmp_path, log_lines):
    """Orientation 6: shown after a turn clockwise, so that the white right half is below."""
    save(tmp_path / '1.jpg', (48, 64), orientation=6)
    stored, shown = load(tmp_path / '1.jpg', (48, 64)), load(tmp_path / '1.jpg', (64, 48))
    assert stored.shape == (48, 64, 3) and stored[:, 60:].min() > 200 and stored[:, :4].max() < 50
    assert shown.shape == (64, 48, 3) and shown[60:].min() > 200 and shown[:4].max() < 50
    check(tmp_path, entry(size=(64, 48)))
    assert not log_lines()
    check(tmp_path, entry(size=(48, 64)))
    assert 'annotated in the pixels as stored, such as' in log_lines()[-1] and '1.jpg' in log_lines()[-1]


def test_a_rotation_that_keeps_the_size_is_named(tmp_path, log_lines):
    save(tmp_path / '1.jpg', orientation=3)
    check(tmp_path, entry())
    assert 'rotated as in MMPose, check that they are annotated so' in log_lines()[-1]
    assert load(tmp_path / '1.jpg', (48, 64))[:, :4].min() > 200


@pytest.mark.parametrize('other', ['1.jpg', './1.jpg', '../train/1.jpg', 'sub/../1.jpg'])
def test_an_image_named_twice(tmp_path, other):
    (tmp_path / 'train' / 'sub').mkdir(parents=True)
    save(tmp_path / 'train' / '1.jpg')
    with pytest.raises(ValueError, match=r'lists the image .*1.jpg 2 times.*list it once'):
        check(tmp_path / 'train', entry(), entry(other, number=2))


def test_equal_names_in_two_folders_pass(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        save(tmp_path / name / '1.jpg')
    check(tmp_path, entry('a/1.jpg'), entry('b/1.jpg', number=2))


@pytest.mark.parametrize('name', ['/dev/zero', 'pipe', 'folder', 'link'])
def test_names_of_devices_pipes_and_folders(tmp_path, name):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'link').symlink_to('/dev/zero')
    for call in (lambda: check(tmp_path, entry(name)), lambda: load(tmp_path / name, (48, 64))):
        with pytest.raises(ValueError, match='is a folder, a device or a pipe; name an image file'):
            call()


def test_a_link_to_itself_is_missing_and_no_hindrance_to_others(tmp_path):
    (tmp_path / 'loop.jpg').symlink_to('loop.jpg')
    (tmp_path / 'a.jpg').touch()
    check(tmp_path, entry('a.jpg'))
    with pytest.raises(FileNotFoundError, match='loop.jpg does not exist'):
        check(tmp_path, entry('loop.jpg'))


def test_a_link_to_an_image_passes(tmp_path):
    save(tmp_path / 'there.jpg')
    (tmp_path / '1.jpg').symlink_to(tmp_path / 'there.jpg')
    check(tmp_path, entry())


def png(width, height):
    """A PNG of zeros, written without its pixels in memory."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), bytes(1 + 3 * width)
    data = b''.join([packer.compress(row) for _ in range(height)]) + packer.flush()
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


@pytest.mark.parametrize('annotated', [(20_000, 20_000), (48, 64), (None, None)])
def test_a_decompression_bomb_is_not_decoded(tmp_path, annotated, monkeypatch):
    (tmp_path / '1.png').write_bytes(png(20_000, 20_000)[:4000])  # cut off, but its header is whole
    decoded = []
    monkeypatch.setattr(LoadPoseImage, '_decode', lambda *arguments: decoded.append(arguments))
    with pytest.raises(ValueError, match='1.png has more than 178 million pixels; scale it'):
        load(tmp_path / '1.png', annotated)
    assert not decoded
    if annotated[0]:
        with pytest.raises(ValueError, match='more than 178 million pixels'):
            check(tmp_path, entry('1.png', annotated))


def test_the_header_is_read_without_the_pixels(tmp_path):
    (tmp_path / '1.png').write_bytes(png(9_000, 7_000)[:3000])
    assert read_header(str(tmp_path / '1.png'))[:2] == ((7_000, 9_000), (7_000, 9_000))
    (tmp_path / '2.png').write_bytes(b'no image')
    assert read_header(str(tmp_path / '2.png')) is None


def test_up_to_a_thousand_headers_are_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr('rnnpose_plugin.runtime.check_images.read_header', lambda name: read.append(name))
    for number in range(2500):
        (tmp_path / f'{number}.jpg').touch()
    check(tmp_path, *(entry(f'{number}.jpg', number=number) for number in range(2500)))
    assert 800 <= len(set(read)) == len(read) <= 1000
    assert sum(int(name.rpartition('/')[2][:-4]) >= 1250 for name in read) == pytest.approx(len(read) / 2, abs=1)
