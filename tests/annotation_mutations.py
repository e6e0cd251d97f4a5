"""A seeded mutator of COCO keypoint files and of image files: what exporters, disks and people do to them.

``mutated_file(content, seed)`` and ``mutated_image(seed)`` return a description and the bytes of a file.
"""

from __future__ import annotations

import json
import random
from copy import deepcopy

import cv2
import numpy as np

NAN, INFINITY = float('nan'), float('inf')
ODD = [None, True, '', 'x', '7', -1, 0, 0.5, 3, 1e308, NAN, INFINITY, 2**70, [], [[]], {}, [None], [1, 2, 3, 4], 'a\0b']
SEGMENTATIONS = [
    ..., None, [], [[]], [[5, 5]], [[5, 5, 9, 9]], [5, 5, 20, 5, 20, 20], '', {}, [[5, 5, 9, NAN, 9, 9]], [None],
    dict(size=[7, 7], counts=[49]), dict(size=[96, 128], counts='abc'), dict(counts=[1]), [[5, 5, 20, 5, 20, 20, 7]],
    [[-164.1, -221.8, 2.1e8, 3.5e8, 226.0, 236.6, 272.0, 384.3]], [[1e300] * 6], [dict(size=[96, 128], counts=[5])],
]  # fmt: skip
FIELDS = dict(
    images=['id', 'file_name', 'width', 'height'],
    annotations=['id', 'image_id', 'category_id', 'iscrowd', 'keypoints', 'num_keypoints', 'bbox', 'area'],
    categories=['id', 'name', 'keypoints', 'skeleton'],
)
NAMES = ['gone.png', '/dev/zero', '../train', '', 'a\0b.png', 'pipe', '\ud800.png', '000001.png', './000001.png']


def mutated_file(content, seed):
    """A file with one or two faults; some are harmless.

    Args:
        content (dict): A whole COCO file.
        seed (int): Of the mutation.

    Returns:
        tuple[str, bytes]: What was done, and the file.
    """
    draw, content = random.Random(seed), deepcopy(content)
    steps = [draw.choice(MUTATIONS) for _ in range(draw.choice([1, 1, 2]))]
    texts = [f'{step.__name__}: {step(content, draw)}' for step in steps]
    text = json.dumps(content).encode()
    if draw.random() < 0.08:
        damage = draw.choice(DAMAGE)
        texts, text = [*texts, damage.__name__], damage(text, draw)
    return '; '.join(texts), text


def some(content, draw, *parts):
    """A part's name, by default any, and one or all of its entries."""
    part = draw.choice(parts or ['images', 'annotations', 'annotations', 'annotations', 'categories'])
    found = content.get(part)
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return part, entries if draw.random() < 0.4 or not entries else [draw.choice(entries)]


def set_field(content, draw):
    part, entries = some(content, draw)
    name, value = draw.choice(FIELDS[part]), draw.choice(ODD)
    for entry in entries:
        entry[name] = value
    return f'{name} = {value!r} in {len(entries)} {part}'


def remove_field(content, draw):
    part, entries = some(content, draw)
    name = draw.choice(FIELDS[part])
    for entry in entries:
        entry.pop(name, None)
    return f'{name} of {len(entries)} {part}'


def change_type(content, draw):
    """Numbers as text or as floats, and ids with a prefix."""
    part, entries = some(content, draw)
    kind, name = draw.choice([str, float, lambda v: f'frame_{v}', lambda v: -v]), draw.choice(FIELDS[part])
    for entry in entries:
        if type(entry.get(name)) in (int, float):
            entry[name] = kind(entry[name])
    return f'{name} of {len(entries)} {part}'


def set_number(content, draw):
    _, people = some(content, draw, 'annotations')
    name, value = draw.choice(['keypoints', 'bbox']), draw.choice(ODD)
    for person in people:
        if isinstance(person.get(name), list) and person[name]:
            person[name][draw.randrange(len(person[name]))] = value
    return f'{value!r} in the {name} of {len(people)}'


def set_segmentation(content, draw):
    _, people = some(content, draw, 'annotations')
    value, without_joints = draw.choice(SEGMENTATIONS), draw.random() < 0.6
    for person in people:
        person['segmentation'] = value
        if value is ...:
            del person['segmentation']
        if without_joints:
            person.update(keypoints=[0] * 51, num_keypoints=0, iscrowd=draw.choice([0, 1]))
    return f'{value!r} in {len(people)}, without joints {without_joints}'


def repeat_entry(content, draw):
    part, entries = some(content, draw)
    copies = deepcopy(entries)
    if draw.random() < 0.5:
        for i, entry in enumerate(copies):
            entry['id'] = 1000 + i
    if isinstance(content.get(part), list):
        content[part] += copies
    return f'{len(copies)} {part}'


def change_size(content, draw):
    _, images = some(content, draw, 'images')
    how = draw.choice(['swapped', 'halved', 'zero'])
    for image in images:
        width, height = image.get('width'), image.get('height')
        image.update(dict(swapped=dict(width=height, height=width), halved=dict(width=64, height=48),
                          zero=dict(width=0, height=0))[how])  # fmt: skip
    return f'{how} in {len(images)}'


def rename_image(content, draw):
    _, images = some(content, draw, 'images')
    name = draw.choice(NAMES)
    for image in images:
        image['file_name'] = name
    return f'{name!r} in {len(images)}'


def change_part(content, draw):
    part, value = draw.choice(['images', 'annotations', 'categories']), draw.choice([..., None, [], {}, 'x', [None], 5])
    content[part] = value
    if value is ...:
        del content[part]
    return f'{part} = {value!r}'


def change_box(content, draw):
    _, people = some(content, draw, 'annotations')
    box = draw.choice([[0, 0, 0, 0], [5, 5, -9, 9], [500, 500, 9, 9], [-50, -50, 400, 400], [10, 10, 40, 0]])
    for person in people:
        person['bbox'] = box
    return f'{box} in {len(people)}'


def cut(text, draw):
    return text[: draw.randrange(len(text))]


def replace_bytes(text, draw):
    place = draw.randrange(len(text))
    return text[:place] + draw.choice([b'\xff', b'}', b'\0', b'1e999', b'"']) + text[place + 1 :]


def nest(text, draw):
    return text[:-1] + b', "info": ' + b'[' * 100_000 + b']' * 100_000 + b'}'


def begin_with_a_mark(text, draw):
    return b'\xef\xbb\xbf' + text


DAMAGE = [cut, replace_bytes, nest, begin_with_a_mark]
MUTATIONS = [set_field, set_field, remove_field, change_type, set_number, set_segmentation, set_segmentation]
MUTATIONS += [repeat_entry, change_size, rename_image, change_part, change_box]


def mutated_image(seed, size=(96, 128)):
    """An image file with a fault; some are harmless.

    Args:
        seed (int): Of the mutation.
        size (tuple[int, int]): Height and width of the whole image.

    Returns:
        tuple[str, bytes]: What was done, and the file.
    """
    draw = random.Random(seed)
    kind, image = draw.choice(['png', 'jpg']), np.random.RandomState(seed).randint(0, 255, (*size, 3), dtype=np.uint8)
    kinds = ['cut', 'flip', 'empty', 'text', 'grey', 'alpha', 'sixteen', 'other size', 'turned', 'appended', 'claims']
    how = draw.choice(kinds)
    image = dict(
        grey=image[..., 0], alpha=np.dstack([image, image[..., :1]]), sixteen=image.astype(np.uint16) * 257,
        turned=image.swapaxes(0, 1),
    ).get(how, image)  # fmt: skip
    image = image[: draw.randrange(1, 96)] if how == 'other size' else image
    data = bytearray(cv2.imencode('.png' if how in ('alpha', 'sixteen', 'claims') else f'.{kind}', image)[1].tobytes())
    if how == 'flip':
        for _ in range(draw.randrange(1, 20)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    if how == 'claims':  # another size in the header
        data[16:24] = draw.choice([20_000, 2**31 - 1, 0]).to_bytes(4, 'big') * 2
    data = dict(cut=data[: draw.randrange(len(data))], empty=b'', text=b'<html>', appended=data + b'more').get(
        how, data
    )
    return f'{how} {kind}', bytes(data)
