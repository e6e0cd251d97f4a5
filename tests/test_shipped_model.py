"""The model of model_zoo: file, metafile, and AP on slices of CrowdBench."""

import hashlib
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.apis import inference_bottomup, init_model
from mmpose.registry import METRICS

from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split

ROOT = Path(__file__).parent.parent
METAFILE = ROOT / 'model_zoo' / 'rnnpose_full_crowdbench.yml'
META = yaml.safe_load(METAFILE.read_text())
(MODEL,) = META['Models']
WEIGHTS, CONFIG = ROOT / MODEL['Weights'], ROOT / MODEL['Config']
RESULTS = {result['Dataset']: result['Metrics'] for result in MODEL['Results']}
SPLITS, SLICE = ('plain', 'occluded', 'crowded'), 40


@pytest.fixture(scope='module')
def model():
    return init_model(str(CONFIG), str(WEIGHTS), device='cpu')


def test_the_file_has_the_size_and_checksum_of_the_metafile():
    content = WEIGHTS.read_bytes()
    assert len(content) == MODEL['Metadata']['Bytes'] <= 8e6
    assert hashlib.sha256(content).hexdigest() == MODEL['Metadata']['SHA256']
    card = (ROOT / 'model_zoo' / 'README.md').read_text()
    assert MODEL['Metadata']['SHA256'] in card and MODEL['Name'] in card
    assert MODEL['In Collection'] in [collection['Name'] for collection in META['Collections']]


@pytest.mark.parametrize('split', SPLITS)
def test_tables_show_the_numbers_of_the_metafile(split):
    """The model card and, for the first images, docs/crowdbench.md print percent; the metafile holds fractions."""

    def percent(dataset):
        return [f'{100 * RESULTS[dataset][name]:.1f}' for name in ('AP', 'AP@0.5', 'AP@0.75', 'AR')]

    card = (ROOT / 'model_zoo' / 'README.md').read_text()
    (row,) = [line.split('|')[2:-1] for line in card.splitlines() if line.startswith(f'| {split} |')]
    of_all, of_slice = percent(f'CrowdBench {split}'), percent(f'CrowdBench {split}, first {SLICE}')
    assert (row[0].strip(), row[3].strip()) == (of_all[0], of_slice[0])
    page = [line.split() for line in (ROOT / 'docs' / 'crowdbench.md').read_text().splitlines()]
    assert [split, *of_slice] in [words[:5] for words in page]


def without_paths(node):
    """A part of a config without paths of data and weights and numbers of workers."""
    if isinstance(node, (list, tuple)):
        return [without_paths(part) for part in node]
    if not isinstance(node, dict):
        return node
    paths = ('data_root', 'data_prefix', 'ann_file', 'num_workers', 'persistent_workers')
    node = {key: part for key, part in node.items() if key not in paths}
    if isinstance(node.get('checkpoint'), str):
        del node['checkpoint']
    return {key: without_paths(part) for key, part in node.items()}


def test_the_config_is_that_of_the_training():
    """Apart from paths: after a change of the config the numbers of the model card would be those of another model."""
    saved = torch.load(WEIGHTS, weights_only=False, map_location='cpu')['meta']
    trained = Config.fromstring(saved['cfg'], '.py')
    now = Config.fromfile(CONFIG)
    trained.model.head.decoder.keypoint_threshold = now.model.head.decoder.keypoint_threshold  # chosen afterwards
    parts = ('model', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_hooks', 'default_hooks')
    for part in (*parts, 'train_dataloader', 'test_dataloader', 'test_evaluator'):
        assert without_paths(trained[part]) == without_paths(now[part]), part
    # The weights it started from are those in the command of the model card.
    card = (ROOT / 'model_zoo' / 'README.md').read_text()
    assert f'load_from={trained.load_from}\n' in card
    assert trained.model.backbone.init_cfg.checkpoint == now.model.backbone.init_cfg.checkpoint
    assert '/' + 'work' + '/' not in saved['cfg']


def test_its_parameters_are_those_of_the_metafile(model):
    assert sum(parameter.numel() for parameter in model.parameters()) == MODEL['Metadata']['Parameters']


@pytest.mark.parametrize('split', SPLITS)
def test_its_ap_on_a_slice(split, model, tmp_path):
    """Poses as in the example of the README, AP by MMPose's metric: 40 images, whose AP is in the metafile."""
    init_default_scope('mmpose')
    path = write_split(tmp_path, split, SLICE, 0, CROWDBENCH)
    metric = METRICS.build(dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox', ann_file=str(path)))
    metric.dataset_meta = model.dataset_meta
    for image in json.loads(path.read_text())['images']:
        (sample,) = inference_bottomup(model, str(tmp_path / split / image['file_name']))
        # A list of ids, as from bottom-up data sets: with a single id MMPose would keep one person per image.
        sample.set_metainfo(dict(id=[image['id']], img_id=image['id']))
        metric.process({}, [sample.to_dict()])
    metrics = metric.evaluate(SLICE)
    # Another order of summation, on another processor, may move a joint to another cell.
    assert metrics['coco/AP'] == pytest.approx(RESULTS[f'CrowdBench {split}, first {SLICE}']['AP'], abs=0.005)


def test_it_is_tested_from_another_folder(tmp_path, monkeypatch):
    """By tools/test.py, where the AE network of its config, which the file contains, is not found."""
    write_split(tmp_path, 'plain', 2, 0, CROWDBENCH)
    arguments = ['test.py', str(CONFIG), str(WEIGHTS), '--out', 'out.json']
    arguments += ['--cfg-options', f'test_dataloader.dataset.data_root={tmp_path}/', 'test_dataloader.num_workers=0']
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(ROOT / 'tools' / 'test.py'), run_name='__main__')
    assert json.loads((tmp_path / 'out.json').read_text())['coco/AP'] > 0
