"""No tool writes over a file that it reads."""

from __future__ import annotations

import os
import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from rectangle_people import BACKGROUND, DONOR_COLOUR, ROOT, person, write_coco

from projects.occluded.occluded_set import write_occluded_set
from rnnpose_plugin.runtime.check_settings import check_settings
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


def command(monkeypatch, capsys, name, *arguments):
    """The error of a command of tools/."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
    assert end.value.code == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize('name', ['subset', 'overfit'])
def test_overfitting_keeps_its_annotations(tmp_path, people, monkeypatch, capsys, name):
    annotations = people.rename(tmp_path / f'{name}.json')
    before = contents(tmp_path)
    words = [annotations, tmp_path, '--work-dir', tmp_path, '--number', 1]
    assert f'{name}.json {MATCH}' in command(monkeypatch, capsys, 'overfit', *words)
    assert contents(tmp_path).items() >= before.items()


@pytest.mark.parametrize('part', [0, 1, 2])
def test_drawing_keeps_config_checkpoint_and_image(tmp_path, monkeypatch, capsys, part):
    read = [tmp_path / name for name in ('config.py', 'model.pth', 'image.png')]
    for path in read:
        path.write_text(path.name)
    (tmp_path / 'sheet.png').symlink_to(read[part])
    line = command(monkeypatch, capsys, 'draw_steps', *read, '--out', tmp_path / 'sheet.png')
    assert f'sheet.png {MATCH}' in line and all(path.read_text() == path.name for path in read)


def start(work_dir, path, resume=False, init_cfg=None, **saving):
    """Check a training of nine epochs that starts from a file."""
    init_cfg = init_cfg and dict(type='Pretrained', checkpoint=str(init_cfg))
    cfg = dict(
        train_dataloader=dict(batch_size=1, num_workers=0), train_cfg=dict(max_epochs=9), optim_wrapper=dict(),
        work_dir=str(work_dir), default_hooks=dict(checkpoint=dict(type='CheckpointHook', **saving)), resume=resume,
        load_from=path and str(path), model=dict(backbone=dict(init_cfg=init_cfg)),
    )  # fmt: skip
    check_settings(Config(cfg), training=True)


@pytest.mark.parametrize('name', ['epoch_3.pth', 'iter_70.pth', 'best_coco_AP_epoch_9.pth'])
def test_a_training_keeps_the_weights_that_it_starts_from(tmp_path, name):
    work_dir, elsewhere = tmp_path / 'run', tmp_path / 'kept' / 'run'
    for folder in (work_dir, elsewhere):
        folder.mkdir(parents=True)
        (folder / name).write_text(str(folder))
    (tmp_path / 'link.pth').symlink_to(work_dir / name)
    for path in (work_dir / name, tmp_path / 'link.pth'):
        for given in (dict(path=path), dict(path=None, init_cfg=path), dict(path=None, init_cfg=path, resume=True)):
            with pytest.raises(ValueError, match=rf'{name} {MATCH}'):
                start(work_dir, save_best='coco/AP', **given)
    with pytest.raises(ValueError, match=rf'{name} {MATCH}'):
        start(work_dir, elsewhere / name, save_best='coco/AP', out_dir=str(tmp_path / 'kept'))
    start(work_dir, elsewhere / name, save_best='coco/AP')
    start(work_dir, work_dir / name, save_best='coco/AP', resume=True)


@pytest.mark.parametrize('name', ['epoch_10.pth', 'best_AP_epoch_3.pth', 'best_AP_epoch_10.pth', 'weights.pth'])
def test_weights_that_no_epoch_of_the_run_replaces_are_accepted(tmp_path, name):
    (tmp_path / name).touch()
    start(tmp_path, tmp_path / name, save_best=None if 'epoch_3' in name else 'coco/AP')
