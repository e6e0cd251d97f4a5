"""Memory of long runs: neither testing nor training keeps anything of an image.

`python tests/test_memory.py MODE BATCH IMAGES FOLDER` runs the shipped decoder on the images of a folder that
`write_split` has written, in this process, and prints anonymous resident memory and live heap, MiB, after each batch.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import rnnpose_plugin  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
# glibc then returns freed blocks to the system instead of keeping them in fragmented arenas.
RETURN_MEMORY = dict(MALLOC_ARENA_MAX='1', MALLOC_MMAP_THRESHOLD_='65536', MALLOC_TRIM_THRESHOLD_='131072')
IMAGES = 1000


class Heap(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    names = 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]


def memory():
    """(anonymous resident memory, live heap) in MiB."""
    libc = ctypes.CDLL('libc.so.6')
    libc.mallinfo2.restype = Heap
    heap = libc.mallinfo2()
    resident = int(re.search(r'RssAnon:\s+(\d+) kB', Path('/proc/self/status').read_text())[1])
    return resident / 2**10, (heap.uordblks + heap.hblkhd) / 2**20


class Memory(Hook):
    """Prints the memory after each iteration."""

    priority = 'LOWEST'

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        print('memory', *memory(), flush=True)

    after_train_iter = after_test_iter


def run(mode, batch, images, folder):
    """Test or train on the first images of a folder's split ``plain``."""
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_context_crowdbench.py')
    cfg.update(work_dir=f'{folder}/run', log_level='ERROR', val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg.load_from = str(ROOT / 'model_zoo' / 'rnnpose_context_crowdbench.pth')
    cfg.model.backbone.init_cfg, cfg.train_cfg.max_epochs = None, 1
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.update(batch_size=batch, num_workers=0, persistent_workers=False)
        files = dict(ann_file='annotations/plain.json', data_prefix=dict(img='plain/'))
        loader.dataset.update(data_root=f'{folder}/', indices=images, **files)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Memory())
    runner.test() if mode == 'test' else runner.train()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split

    folder = tmp_path_factory.mktemp('memory')
    write_split(folder, 'plain', IMAGES, 0, CROWDBENCH)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the heap is counted by glibc')
@pytest.mark.parametrize(('mode', 'batch'), [('test', 1), ('test', 8), ('test', 32), ('train', 8)])
def test_memory_does_not_grow_with_the_images(folder, mode, batch):
    """The features alone of one image are 0.5 MiB, so one tensor kept for each image would be 400 MiB and more."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore', OMP_NUM_THREADS='1', **RETURN_MEMORY)
    command = [sys.executable, __file__, mode, str(batch), str(IMAGES), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = np.array([line.split()[1:] for line in done.stdout.splitlines() if line.startswith('memory')], float)
    assert len(rows) == -(-IMAGES // batch)
    warm, after = rows[: len(rows) // 5], rows[len(rows) // 5 :]
    rise = np.quantile(after, 0.9, axis=0) - warm.max(axis=0)
    print(json.dumps(dict(mode=mode, batch=batch, warm=warm[-1].round().tolist(), end=after[-1].round().tolist())))
    assert (rise < 30).all(), rise


if __name__ == '__main__':
    run(sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4])
