"""No tool writes over a file that it reads."""

from __future__ import annotations

import os

import pytest
import torch
from rectangle_people import BACKGROUND, DONOR_COLOUR, person, write_coco

from projects.occluded.occluded_set import write_occluded_set
from rnnpose_plugin.runtime.convert_checkpoint import convert_file
from rnnpose_plugin.runtime.output_files import refuse_overwriting
from rnnpose_plugin.runtime.publish import publish

MATCH = 'would be overwritten, but it is read: write to another file or folder'


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'source'
    path.write_text('content')
    (tmp_path / 'link').symlink_to(path)
    os.link(path, tmp_path / 'hard')
    (tmp_path / 'folder').symlink_to(tmp_path)
    return path


@pytest.mark.parametrize('name', ['source', 'link', 'hard', 'folder/source', 'folder/../source'])
def test_other_names_of_a_source_are_refused(tmp_path, source, name):
    target = tmp_path / name if '..' not in name else tmp_path / 'folder' / '..' / tmp_path.name / 'source'
    with pytest.raises(ValueError, match=MATCH):
        refuse_overwriting([tmp_path / 'new', target], [tmp_path / 'absent', source])


def test_other_files_are_accepted(tmp_path, source):
    (tmp_path / 'old').write_text('content')
    refuse_overwriting([tmp_path / 'old', tmp_path / 'new'], [source, tmp_path / 'new'])


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.fixture
def people(tmp_path):
    """COCO's layout with folders in the names: images/1.png, annotations/occluded.json."""
    everyone = [person(1, 1, 30, 10, 24, 40), person(10, 4, 30, 6, 22, 44)]
    path = write_coco(tmp_path, everyone, {1: BACKGROUND, 4: DONOR_COLOUR})
    text = path.read_text()
    for number in (1, 4):
        (tmp_path / 'images' / f'{number}.png').rename(tmp_path / 'images' / f'00000{number}.jpg')
        text = text.replace(f'"{number}.png"', f'"images/00000{number}.jpg"')
    (tmp_path / 'annotations').mkdir()
    path.unlink()
    path = tmp_path / 'annotations' / 'occluded.json'
    path.write_text(text)
    return path


def test_the_occluded_set_keeps_its_images(tmp_path, people):
    annotations = people.rename(tmp_path / 'people.json')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf'000001\.jpg {MATCH}'):
        write_occluded_set(str(annotations), str(tmp_path), tmp_path, (0.3, 0.7), 1)
    assert contents(tmp_path) == before


def test_the_occluded_set_keeps_its_annotations(tmp_path, people):
    (tmp_path / 'images').rename(tmp_path / 'elsewhere')
    people.write_text(people.read_text().replace('"images/', '"elsewhere/'))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf'occluded\.json {MATCH}'):
        write_occluded_set(str(people), str(tmp_path), tmp_path, (0.3, 0.7), 1)
    assert contents(tmp_path) == before


def test_checkpoints_are_kept(tmp_path):
    torch.save(dict(state_dict={}, meta=dict(cfg='')), tmp_path / 'a.pth')
    (tmp_path / 'link.pth').symlink_to(tmp_path / 'a.pth')
    before = contents(tmp_path)
    for write in (publish, lambda *paths: convert_file(*paths, force=True)):
        with pytest.raises(ValueError, match=MATCH):
            write(str(tmp_path / 'a.pth'), str(tmp_path / 'link.pth'))
    assert contents(tmp_path) == before
