"""Unusable annotations are left out or kept without joints, and counted by reason."""

from __future__ import annotations

import pytest
from rectangle_people import HEIGHT, LEFT_OUT, NAN, UNLABELLED, WIDTH, broken, crowd, person

from rnnpose_plugin.datasets.keypoint_file import check_people, counts_text

IMAGE = dict(id=1, file_name='1.png', height=HEIGHT, width=WIDTH)
GOOD = person(1, 1, 20, 10, 20, 44)


def content(*people, image=IMAGE, category=None):
    return dict(images=[image], annotations=[GOOD, *people], categories=[category or dict(id=1)])


def cases(table):
    return [(reason, change) for reason, changes in table.items() for change in changes]


def test_complete_annotations_are_not_changed():
    people = [person(2, 1, 5, 5, 9, 9, area=33.5), crowd(3, 1, 0, 0, 9, 9)]
    found = check_people(content(*people))
    assert found.usable == [GOOD, *people] and not found.left_out and not found.unlabelled


@pytest.mark.parametrize(('reason', 'change'), cases(LEFT_OUT))
def test_unusable_annotations_are_left_out_and_counted(reason, change):
    found = check_people(content(*broken([change], 2, 1, 5, 5, 9, 9)))
    assert found.usable == [GOOD]
    assert found.left_out == {reason: 1} and not found.unlabelled


def test_values_that_are_not_objects_are_left_out():
    assert check_people(content(None, 7)).left_out == {'without an id': 2}


@pytest.mark.parametrize('iscrowd', [0, 1])
@pytest.mark.parametrize(('reason', 'change'), cases(UNLABELLED))
def test_people_with_malformed_joints_stay_without_joints(reason, change, iscrowd):
    (annotation,) = broken([change], 2, 1, 5, 5, 9, 9)
    found = check_people(content(dict(annotation, iscrowd=iscrowd), person(3, 1, 5, 5, 9, 9)))
    assert found.usable[1] == person(2, 1, 5, 5, 9, 9, keypoints=[0] * 51, num_keypoints=0, iscrowd=iscrowd)
    assert found.unlabelled == {reason: 1} and not found.left_out


@pytest.mark.parametrize(
    'change',
    [
        dict(height=None), dict(width=...), dict(height=0), dict(width='96'), dict(file_name=None), dict(id=None),
        dict(id=[1]),
    ],
)  # fmt: skip
def test_people_of_an_image_without_name_or_size_are_left_out(change):
    image = {key: value for key, value in {**IMAGE, **change}.items() if value is not ...}
    found = check_people(content(image=image))
    assert not found.usable
    assert found.left_out == {'whose image is not listed with file_name, height and width': 1}


@pytest.mark.parametrize('category', [dict(name='person'), dict(id=None), dict(id=[1]), 'person'])
def test_a_category_without_an_id_is_unknown(category):
    assert check_people(content(category=category)).left_out == {'of an unknown category': 1}


@pytest.mark.parametrize('missing', [None, ...])
def test_other_missing_fields_are_filled_in(missing):
    people = broken([dict(area=missing, iscrowd=missing, num_keypoints=missing)], 2, 1, 5, 5, 10, 20)
    annotation = check_people(content(*people)).usable[1]
    assert annotation == person(2, 1, 5, 5, 10, 20, area=0.53 * 10 * 20, iscrowd=0, num_keypoints=17)
    (annotation,) = broken([dict(area=NAN)], 2, 1, 5, 5, 1, 1)
    assert check_people(content(annotation)).usable[1]['area'] == 1  # MMPose's least estimate
    large = person(2, 1, 5, 5, 9, 9, area=5e6)  # in an image of 6000 x 4000
    assert check_people(content(large)).usable[1] == large


def test_counts_in_one_line():
    found = check_people(content(*broken([dict(bbox=None), dict(bbox=[]), dict(id=None)], 2, 1, 5, 5, 9, 9)))
    assert counts_text(found.left_out) == '2 whose box is not four numbers, 1 without an id'
