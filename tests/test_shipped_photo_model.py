"""The photographs' model of model_zoo: file, metafile, card, and AP on COCO photographs where they are."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmpose.apis import init_model
from mmpose.registry import DATASETS
from xtcocotools.coco import COCO

from projects.photographs.table import Evaluation, results_of

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get('RNNPOSE_TEST_DATA', ROOT.parent / 'shared/data')) / 'coco_mini'
LABELS = DATA / 'annotations/person_keypoints_val2017.json'
META = yaml.safe_load((ROOT / 'model_zoo/rnnpose_movenet_photo.yml').read_text())
(MODEL,) = META['Models']
WEIGHTS, CONFIG = ROOT / MODEL['Weights'], ROOT / MODEL['Config']
METRICS = {result['Dataset']: result['Metrics'] for result in MODEL['Results']}
PHOTOGRAPHS, COMPOSITES = METRICS
SLICE, SLICE_AP = 20, [22.8, 38.3]  # images, and the AP and AP50 that the run of the metafile's figures has on them


def test_the_file_is_the_one_described():
    content = WEIGHTS.read_bytes()
    assert len(content) == MODEL['Metadata']['Bytes'] <= 16e6
    assert hashlib.sha256(content).hexdigest() == MODEL['Metadata']['SHA256']
    assert MODEL['Metadata']['SHA256'] in (ROOT / 'model_zoo/README.md').read_text()


def test_the_card_has_the_metafiles_numbers():
    card = (ROOT / 'model_zoo/README.md').read_text()
    rows = [[cell.strip() for cell in line.split('|')] for line in card.splitlines() if line.startswith('| | ours |')]
    for row, name in zip(rows, (PHOTOGRAPHS, COMPOSITES)):
        shown = [row[3], row[5], row[7]]
        assert shown == [f'{100 * METRICS[name][key]:.1f}' for key in ('AP', 'AP@0.5', 'AR')]


def test_model_and_parameters_are_the_configs():
    saved = Config.fromstring(torch.load(WEIGHTS, weights_only=False, map_location='cpu')['meta']['cfg'], '.py')
    assert saved.model == Config.fromfile(CONFIG).model
    model = init_model(str(CONFIG), str(WEIGHTS), device='cpu')
    assert sum(parameter.numel() for parameter in model.parameters()) == MODEL['Metadata']['Parameters']


@pytest.mark.skipif(not LABELS.is_file(), reason=f'no coco_mini under {DATA}')
def test_ap_on_photographs():
    """The first 20 images of COCO's val2017 in coco_mini's file, as tools/test.py gives them to the model."""
    cfg = Config.fromfile(CONFIG)
    places = dict(data_root=f'{DATA}/', ann_file=str(LABELS), data_prefix=dict(img='val2017/'))
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, **places))
    model = init_model(cfg, str(WEIGHTS), device='cpu')
    dump = []
    for number in range(SLICE):
        item = dataset[number]
        with torch.no_grad():
            (sample,) = model.test_step(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
        dump.append(dict(img_id=sample.img_id, pred_instances=sample.pred_instances))
    coco = COCO(str(LABELS))
    ids = [found['img_id'] for found in dump]
    stats = Evaluation(coco, results_of(dump, 0), ids).stats(torch.arange(len(ids)).numpy())
    # Other processors sum in another order; a person more or less among 49 is about 2 AP.
    assert stats[:2] == pytest.approx(SLICE_AP, abs=2.5)
