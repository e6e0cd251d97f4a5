"""Donors: faulty people are skipped and counted, files without donors refused, and a file is read once."""

from __future__ import annotations

import os

import pytest
from rectangle_people import DONOR_COLOUR, LEFT_OUT, NO_MASK, UNLABELLED, broken, every, person, write_coco

from rnnpose_plugin.datasets.donors import Donors, read_donors

BAD = {
    'without a mask': [*NO_MASK, dict(segmentation=[[200, 5, 210, 5, 210, 9]])],
    'whose box is outside the image': [dict(bbox=[200, 5, 20, 20]), dict(bbox=[20, 5, -9, 20])],
    'whose image is missing': [dict(image_id=8)],
    **LEFT_OUT,
    **UNLABELLED,
}


def test_bad_donors_are_skipped_with_one_line(tmp_path, log_lines):
    people = [
        person(1, 7, 9, 9, 9, 9),
        *broken(every(BAD), 2, 7, 20, 10, 20, 44),
        person(60, 7, 5, 5, 20, 20, iscrowd=1),
        person(61, 7, 20, 10, 20, 44, v=1),
        person(62, 7, 9, 9, 9, 9),
    ]
    path = write_coco(tmp_path, people, {7: DONOR_COLOUR, 8: DONOR_COLOUR})
    (tmp_path / 'images' / '8.png').unlink()
    donors = Donors(str(path), str(tmp_path / 'images'), 5)
    assert [donor.id for donor in donors.people] == [1, 62]
    (line,) = log_lines()
    assert '2 people to cut out' in line
    for fault, changes in BAD.items():
        assert f' {len(changes)} {fault}' in line, line


def test_a_file_without_donors_is_refused(tmp_path):
    path = write_coco(tmp_path / 'bad', broken(NO_MASK[:3], 1, 7, 20, 10, 20, 44), {7: DONOR_COLOUR})
    with pytest.raises(ValueError, match='no person with a mask.*3 without a mask.*give a COCO keypoint file'):
        Donors(str(path), str(tmp_path / 'bad' / 'images'), 5)
    with pytest.raises(FileNotFoundError, match='does not exist; give'):
        read_donors(str(tmp_path / 'nothing.json'), '', 5)
    (tmp_path / 'text.json').write_text('{')
    with pytest.raises(ValueError, match='not valid JSON.*download it again'):
        Donors(str(tmp_path / 'text.json'), '', 5)
    for text in ('{"images": []}', '[]', '{"images": [], "annotations": null, "categories": []}'):
        (tmp_path / 'other.json').write_text(text)
        with pytest.raises(ValueError, match='lacks one of annotations, categories, images; give'):
            Donors(str(tmp_path / 'other.json'), '', 5)


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path):
    path = write_coco(tmp_path, [person(1, 7, 20, 10, 20, 44)], {7: DONOR_COLOUR})
    arguments = str(path), str(tmp_path / 'images')
    first = read_donors(*arguments, 5)
    assert read_donors(*arguments, 5) is first
    assert read_donors(*arguments, 6) is not first
    os.utime(path, (0, 0))
    assert read_donors(*arguments, 5) is not first
