"""Importing the package registers everything, whichever test file runs alone."""

import gc
import os
import signal

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import rnnpose_plugin  # noqa: F401

# The tests' tensors are small; on a busy machine threads that wait for each other cost far more than they bring.
torch.set_num_threads(1)
os.environ['OMP_NUM_THREADS'] = '1'  # of the commands that tests start

# MMEngine collects garbage whenever it builds a data set; without this a collection looks at all that the imports made.
gc.freeze()

# A shell without job control starts background jobs with SIGINT ignored, nohup with SIGHUP; tests that send them, and
# the commands they start, need the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def mmpose_scope():
    """Every config's default scope; a Runner of an earlier test may have left another."""
    with DefaultScope.overwrite_default_scope('mmpose'):
        yield


@pytest.fixture
def log_lines(caplog):
    """A function that gives the lines logged so far, whatever level another test has given MMEngine's logger."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel('INFO')
    yield lambda: [record.getMessage() for record in caplog.records]
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)
