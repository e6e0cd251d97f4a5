"""The model of model_zoo: its file, its metafile, and its AP on slices of CrowdBench computed again."""

import hashlib
import json
import subprocess
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
METAFILE = ROOT / 'model_zoo' / 'rnnpose_context_crowdbench.yml'
META = yaml.safe_load(METAFILE.read_text())
(MODEL,) = META['Models']
WEIGHTS, CONFIG = ROOT / MODEL['Weights'], ROOT / MODEL['Config']
RESULTS = {result['Dataset']: result['Metrics'] for result in MODEL['Results']}
SPLITS, SLICE = ('plain', 'occluded', 'crowded'), 40


@pytest.fixture(scope='module')
def model():
    return init_model(str(CONFIG), str(WEIGHTS), device='cpu')


def test_the_file_is_the_one_that_is_described():
    content = WEIGHTS.read_bytes()
    assert len(content) == MODEL['Metadata']['Bytes'] <= 8e6
    assert hashlib.sha256(content).hexdigest() == MODEL['Metadata']['SHA256']
    card = (ROOT / 'model_zoo' / 'README.md').read_text()
    assert MODEL['Metadata']['SHA256'] in card and MODEL['Name'] in card
    assert MODEL['In Collection'] in [collection['Name'] for collection in META['Collections']]


@pytest.mark.parametrize('split', SPLITS)
def test_tables_show_the_metafiles_numbers(split):
    """The card's and, for the first images, those of docs/crowdbench.md: percent, fractions in the metafile."""

    def percent(dataset):
        return [f'{100 * RESULTS[dataset][name]:.1f}' for name in ('AP', 'AP@0.5', 'AP@0.75', 'AR')]

    card = (ROOT / 'model_zoo' / 'README.md').read_text()
    (row,) = [line.split('|')[2:-1] for line in card.splitlines() if line.startswith(f'| {split} |')]
    of_all, of_slice = percent(f'CrowdBench {split}'), percent(f'CrowdBench {split}, first {SLICE}')
    assert (row[0].strip(), row[3].strip()) == (of_all[0], of_slice[0])
    page = [line.split() for line in (ROOT / 'docs' / 'crowdbench.md').read_text().splitlines()]
    assert [split, *of_slice] in [words[:5] for words in page]


def without_places(node):
    """A part of a config without where data and weights lie and how many processes read them."""
    if isinstance(node, (list, tuple)):
        return [without_places(part) for part in node]
    if not isinstance(node, dict):
        return node
    places = ('data_root', 'data_prefix', 'ann_file', 'num_workers', 'persistent_workers')
    node = {key: part for key, part in node.items() if key not in places}
    if isinstance(node.get('checkpoint'), str):
        del node['checkpoint']
    return {key: without_places(part) for key, part in node.items()}


def as_configs_are_now(cfg):
    """The saved config with settings that have moved since: T to the head; MMEngine's logger prints the ETA."""
    chunked = cfg.default_hooks.chunked_backprop
    cfg.model.head.chunk_size = chunked.pop('chunk_size')
    chunked.mode = 'accumulate'
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'ProgressBarHook']
    return cfg


def test_the_config_is_the_one_it_was_trained_with():
    """But for places, a later change of the config would make the card's numbers those of another model."""
    saved = torch.load(WEIGHTS, weights_only=False, map_location='cpu')['meta']
    trained = as_configs_are_now(Config.fromstring(saved['cfg'], '.py'))
    now = Config.fromfile(CONFIG)
    parts = ('model', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_hooks', 'default_hooks')
    for part in (*parts, 'train_dataloader', 'test_dataloader', 'test_evaluator'):
        assert without_places(trained[part]) == without_places(now[part]), part
    # Of the weights that it was trained on, the place is what the card's command names, and no other's.
    card = (ROOT / 'model_zoo' / 'README.md').read_text()
    assert f'model.backbone.init_cfg.checkpoint={trained.model.backbone.init_cfg.checkpoint}\n' in card
    assert '/' + 'work' + '/' not in saved['cfg']


def test_its_parameters_are_those_of_the_metafile(model):
    assert sum(parameter.numel() for parameter in model.parameters()) == MODEL['Metadata']['Parameters']


@pytest.mark.parametrize('split', SPLITS)
def test_its_ap_on_a_slice(split, model, tmp_path):
    """Poses by the README's example, AP by the toolbox's metric: 40 pictures of which the metafile has the AP."""
    init_default_scope('mmpose')
    path = write_split(tmp_path, split, SLICE, 0, CROWDBENCH)
    metric = METRICS.build(dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox', ann_file=str(path)))
    metric.dataset_meta = model.dataset_meta
    for image in json.loads(path.read_text())['images']:
        (sample,) = inference_bottomup(model, str(tmp_path / split / image['file_name']))
        # A list of ids, as bottom-up data sets give: of a plain one the toolbox would keep one person per picture.
        sample.set_metainfo(dict(id=[image['id']], img_id=image['id']))
        metric.process({}, [sample.to_dict()])
    metrics = metric.evaluate(SLICE)
    # Sums in another order, on another processor, may move one joint of hundreds of people to another cell.
    assert metrics['coco/AP'] == pytest.approx(RESULTS[f'CrowdBench {split}, first {SLICE}']['AP'], abs=0.005)


def test_it_is_tested_from_another_folder(tmp_path):
    """Where the AE network, which its own file holds, is not found."""
    write_split(tmp_path, 'plain', 2, 0, CROWDBENCH)
    command = [sys.executable, str(ROOT / 'tools' / 'test.py'), str(CONFIG), str(WEIGHTS), '--out', 'out.json']
    command += ['--cfg-options', f'test_dataloader.dataset.data_root={tmp_path}/']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert json.loads((tmp_path / 'out.json').read_text())['coco/AP'] > 0
