"""The image files of an annotation file: present, named once, of the annotated size."""

from __future__ import annotations

import os
from collections import Counter, defaultdict

from mmengine.logging import print_log

from ..datasets.loading import read_header, refuse_size

SAMPLE = 1000  # images whose header is read before a run; LoadPoseImage compares all of them


def check_images(images: list[dict], image_dir: str | None, path: str) -> None:
    """Check the images of a file: all names, and the sizes of up to ``SAMPLE`` images.

    Args:
        images (list[dict]): Entries of an annotation file.
        image_dir (str, optional): Their folder. Without it, or with a URL, only the names are compared.
        path (str): The annotation file, for messages.

    Raises:
        FileNotFoundError: if an image does not exist.
        ValueError: if one is listed twice, is no ordinary file, or has another size than annotated.
    """
    by_folder = defaultdict(list)
    for image in images:
        folder, name = os.path.split(os.path.join(image_dir or '', image['file_name']))
        by_folder[folder].append(name)
    _check_twice(by_folder, path)
    if image_dir is None or '://' in image_dir:
        return
    for folder, names in by_folder.items():
        _check_present(folder, names, path)
    _check_sizes(images[:: -(-len(images) // SAMPLE)], image_dir, path)


def _check_twice(by_folder: dict[str, list[str]], path: str) -> None:
    normal = defaultdict(list)
    for folder, names in by_folder.items():
        normal[os.path.normpath(folder)] += names
    for folder, names in normal.items():
        if len(set(names)) < len(names):
            name, times = Counter(names).most_common(1)[0]
            raise ValueError(
                f'{path} lists the image {os.path.join(folder, name)} {times} times, each with a part of the people; '
                'list it once and give its annotations that image_id'
            )


def _check_present(folder: str, names: list[str], path: str) -> None:
    # One listing instead of 100,000 look-ups on a network disk.
    files, others = set(), set()
    if os.path.isdir(folder or '.'):
        with os.scandir(folder or '.') as entries:
            for entry in entries:
                # A link may lead to itself: then entry.is_file() raises.
                is_file = os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()
                (files if is_file else others).add(entry.name)
    missing = [name for name in names if name not in files]
    if not missing:
        return
    first = os.path.join(folder, missing[0])
    if missing[0] in others and os.path.exists(first):
        raise ValueError(f'image {first} of {path} is a folder, a device or a pipe; name an image file')
    raise FileNotFoundError(
        f'image {first} does not exist ({len(missing)} of {len(names)} images of {path} are missing); check data_root '
        'and data_prefix'
    )


def _check_sizes(images: list[dict], image_dir: str, path: str) -> None:
    stored, ambiguous = [], []
    for image in images:
        name, size = os.path.join(image_dir, image['file_name']), (image['height'], image['width'])
        header = read_header(name)
        if header is None or header.shown == header.stored == size and not header.turned:
            continue  # LoadPoseImage reports a file that is no image, or skips it with ignore_empty
        if size not in (header.shown, header.stored):
            refuse_size(name, header.shown, size)
        if size != header.shown:
            stored.append(name)
        elif header.shown == header.stored:
            ambiguous.append(name)
    if stored:
        print_log(
            f'{path}: {len(stored)} images have an EXIF rotation but are annotated in the pixels as stored, such as '
            f'{stored[0]}; LoadPoseImage reads them without the rotation.', logger='current', level=30,
        )  # fmt: skip
    if ambiguous:
        print_log(
            f'{path}: {len(ambiguous)} images have an EXIF rotation that leaves width and height in pixels the same, '
            f'such as {ambiguous[0]}; they are rotated as in MMPose, check that they are annotated so.',
            logger='current', level=30,
        )  # fmt: skip
