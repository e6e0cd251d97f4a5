"""Choosing and writing a subset of an annotation file."""

import json

import pytest
from pycocotools.coco import COCO

from rnnpose_plugin.datasets.subset import choose_clear_images, write_subset


def annotation(i, image, joints=10, area=900, crowd=0):
    return dict(
        id=i,
        image_id=image,
        num_keypoints=joints,
        area=area,
        iscrowd=crowd,
        category_id=1,
        bbox=[0, 0, 30, 30],
        keypoints=[5, 5, 2] * joints + [0] * (51 - 3 * joints),
    )


@pytest.fixture
def file(tmp_path):
    people = [
        annotation(1, 1, area=400),
        annotation(2, 1),
        annotation(3, 2),
        annotation(4, 2, area=1600),
        annotation(5, 3),  # alone
        annotation(6, 4),
        annotation(7, 4, joints=4),  # too few labelled joints
        annotation(8, 5),
        annotation(9, 5, crowd=1),
        *[annotation(10 + i, 6) for i in range(5)],  # too many
    ]
    images = [dict(id=i, width=100, height=50, file_name=f'{i}.jpg') for i in range(1, 7)]
    path = tmp_path / 'all.json'
    path.write_text(json.dumps(dict(images=images, annotations=people, categories=[dict(id=1, name='person')])))
    return path


def test_images_of_the_largest_people_come_first(file):
    assert choose_clear_images(file, 2) == [2, 1]


def test_more_images_than_the_file_has_are_refused(file):
    with pytest.raises(ValueError, match='has 2 images.*3 are needed'):
        choose_clear_images(file, 3)


def test_the_subset_is_a_coco_file(file, tmp_path):
    write_subset(file, [2], tmp_path / 'new' / 'subset.json')
    coco = COCO(tmp_path / 'new' / 'subset.json')
    assert coco.getImgIds() == [2] and sorted(coco.getAnnIds()) == [3, 4]


def test_fields_that_annotation_tools_leave_out_are_completed(file, tmp_path):
    data = json.loads(file.read_text())
    for person in data['annotations']:
        if not person['iscrowd']:
            del person['area'], person['iscrowd'], person['num_keypoints']
    file.write_text(json.dumps(data))
    assert sorted(choose_clear_images(file, 2)) == [1, 2]
    write_subset(file, [2], tmp_path / 'subset.json')
    for person in COCO(tmp_path / 'subset.json').loadAnns([3, 4]):
        assert (person['area'], person['iscrowd'], person['num_keypoints']) == (0.53 * 900, 0, 10)
