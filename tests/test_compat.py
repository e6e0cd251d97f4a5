"""The repairs of compat.py. Import-time rules show only in a fresh process, so most tests start one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmpose.models.backbones import HourglassAENet

ROOT = Path(__file__).parents[1]
HAS_COMPILED_OPS = importlib.util.find_spec('mmcv._ext') is not None

needs_lite = pytest.mark.skipif(HAS_COMPILED_OPS, reason='the full mmcv is installed, so nothing is replaced')
needs_full = pytest.mark.skipif(not HAS_COMPILED_OPS, reason='only mmcv-lite is installed')

# A model of two weights, trained by MMEngine's Runner. Its data set has MMPose's meta information and its metric gives
# a numpy number, the two sources of numpy objects in a real checkpoint.
TINY_RUN = """
import json, os, sys
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner


class Points(torch.utils.data.Dataset):
    metainfo = dict(sigmas=np.ones(3, np.float32), keypoint_colors=np.ones((3, 3), np.uint8),
                    skeleton_link_colors=np.array([], np.uint8))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((2,), float(index + 1)), data_samples=index)


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        output = self.linear(torch.stack(list(inputs)))
        return dict(loss=output.square().mean()) if mode == 'loss' else list(output)


class Fixed(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(AP=np.float64(0.5), people=np.int64(3))


def make_runner(work_dir, epochs, **settings):
    loader = dict(dataset=Points(), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True))
    return Runner(
        model=Line(), work_dir=work_dir, experiment_name=f'{os.getpid()}', log_level='ERROR',
        train_dataloader=dict(loader), train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_dataloader=dict(loader), val_cfg=dict(), val_evaluator=[Fixed(prefix='tiny')],
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=dict(type='LinearLR', by_epoch=False, end=2),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=dict(type='CheckpointHook', interval=1, save_best='tiny/AP', rule='greater')),
        **settings)


def plain(node):
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [plain(value) for value in node]
    if type(node).__name__ == 'HistoryBuffer':
        return dict(data=plain(node.data), mean=float(node.statistics('mean')), last=float(node.statistics('current')))
    if isinstance(node, (np.ndarray, np.generic, torch.Tensor)):
        return [type(node).__name__, str(node.dtype), node.tolist()]
    return node
"""


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs code in a fresh interpreter that imports the package from this checkout."""
    path = os.pathsep.join(
        filter(None, [environment.pop('first_path', ''), str(ROOT), os.environ.get('PYTHONPATH', '')])
    )
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': path, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def facts(code: str, *arguments: str, **environment: str) -> dict:
    """Runs code and reads the JSON object that is the last line it prints."""
    run = run_python(code, *arguments, **environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.strip().splitlines()[-1])


# --- mmcv without compiled ops


@needs_lite
def test_replaced_op_imports_and_raises_when_used():
    found = facts("""
import json
import rnnpose_plugin
from mmcv.ops import MultiScaleDeformableAttention
class Subclass(MultiScaleDeformableAttention):
    pass
try:
    MultiScaleDeformableAttention(embed_dims=8)
except ImportError as error:
    print(json.dumps(dict(message=str(error), subclass=Subclass.__name__)))
""")
    assert 'MultiScaleDeformableAttention' in found['message']
    assert 'full mmcv' in found['message']
    assert found['subclass'] == 'Subclass'


@needs_lite
def test_guards_of_mmpose_still_see_an_mmcv_without_ops():
    found = facts("""
import importlib.util, json
import rnnpose_plugin
import mmcv.ops
from mmcv.utils.env import collect_env
from mmengine.model import revert_sync_batchnorm
from mmengine.utils.dl_utils import mmcv_full_available
from mmpose.models.heads.hybrid_heads import dekr_head
from mmpose.models.necks import posewarper_neck
import torch
try:
    from mmcv.ops import nms
except ModuleNotFoundError as error:
    message = str(error)
print(json.dumps(dict(
    dekr=dekr_head.has_mmcv_full, posewarper=posewarper_neck.has_mmcv_full, full=mmcv_full_available(),
    compiler=collect_env()['MMCV Compiler'], reverted=type(revert_sync_batchnorm(torch.nn.SyncBatchNorm(2))).__name__,
    file=hasattr(mmcv.ops, '__file__'), spec=importlib.util.find_spec('mmcv.ops').name, nms=message)))
""")
    assert 'nms' in found.pop('nms')
    assert found == {
        'dekr': False,
        'posewarper': False,
        'full': False,
        'compiler': 'n/a',
        'reverted': '_BatchNormXd',
        'file': False,
        'spec': 'mmcv.ops',
    }


@needs_full
def test_full_mmcv_is_not_changed():
    found = facts("""
import json
import rnnpose_plugin
import mmcv.ops
attention = mmcv.ops.MultiScaleDeformableAttention(embed_dims=32, num_heads=4)
print(json.dumps(dict(file=mmcv.ops.__file__, module=type(attention).__module__)))
""")
    assert Path(found['file']).parts[-3:] == ('mmcv', 'ops', '__init__.py')
    assert found['module'] == 'mmcv.ops.multi_scale_deform_attn'


def test_apply_twice_changes_nothing():
    found = facts("""
import json, sys
import torch
import rnnpose_plugin
from rnnpose_plugin import compat

def state():
    listed = getattr(torch.serialization, 'get_safe_globals', list)()
    return sorted(map(str, listed)), id(sys.modules['mmcv.ops'])

before = state()
compat.apply()
print(json.dumps(dict(same=before == state())))
""")
    assert found['same']


# --- checkpoints


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory) -> Path:
    """A work directory with the checkpoint of a tiny training run, made without this package."""
    folder = tmp_path_factory.mktemp('tiny_run')
    code = "make_runner(sys.argv[1], 1).train(); print('{}')"
    facts(TINY_RUN + code, folder)
    return folder


def test_training_checkpoint_loads_safely_and_equals_what_was_saved(work_dir):
    found = facts(
        TINY_RUN
        + """
import pickle
path = sys.argv[1]
try:
    torch.load(path, weights_only=True)
    refused = False
except pickle.UnpicklingError:
    refused = True
import rnnpose_plugin
from mmengine.runner.checkpoint import _load_checkpoint
loaded, saved = plain(_load_checkpoint(path)), plain(torch.load(path, weights_only=False))
hub = loaded['message_hub']
print(json.dumps(dict(refused=refused, same=loaded == saved, best=hub['runtime_info']['best_score'],
                      sigmas=loaded['meta']['dataset_meta']['sigmas'], loss=hub['log_scalars']['train/loss'])))
""",
        work_dir / 'epoch_1.pth',
        TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='0',
    )
    assert found['refused'], 'this torch reads the checkpoint by itself, so the allow-list can be deleted'
    assert found['same']
    assert found['best'] == ['float64', 'float64', 0.5]
    assert found['sigmas'] == ['ndarray', 'float32', [1.0, 1.0, 1.0]]
    assert found['loss']['last'] == found['loss']['data'][0][2][-1]


def test_training_checkpoint_loads_from_numpy_1_and_2(work_dir, tmp_path):
    # numpy 2 calls its private module `_core`; a global is a line of its own in the pickle, so it can be renamed.
    for core in (b'core', b'_core'):
        with ZipFile(work_dir / 'epoch_1.pth') as written, ZipFile(tmp_path / core.decode(), 'w') as renamed:
            for name in written.namelist():
                record = re.sub(rb'numpy\._?core\.multiarray', b'numpy.%s.multiarray' % core, written.read(name))
                renamed.writestr(name, record)
    found = facts(
        TINY_RUN
        + """
import rnnpose_plugin
one, two = (plain(torch.load(f'{sys.argv[1]}/{core}', weights_only=True)) for core in ('core', '_core'))
print(json.dumps(dict(same=one == two, best=one['message_hub']['runtime_info']['best_score'])))
""",
        tmp_path,
    )
    assert found == {'same': True, 'best': ['float64', 'float64', 0.5]}


def test_training_checkpoint_resumes(work_dir, tmp_path):
    found = facts(
        TINY_RUN
        + """
import rnnpose_plugin
saved = torch.load(sys.argv[1], weights_only=False)
runner = make_runner(sys.argv[2], 2, load_from=sys.argv[1], resume=True)
runner.load_or_resume()
at_start = dict(epoch=runner.epoch, iter=runner.iter)
weights = all(torch.equal(value, saved['state_dict'][name]) for name, value in runner.model.state_dict().items())
runner.train()
losses = runner.message_hub.get_scalar('train/loss').data[0]
print(json.dumps(dict(at_start=at_start, weights=weights, end=runner.iter, losses=len(losses),
                      first=bool(losses[0] == saved['message_hub']['log_scalars']['train/loss'].data[0][0]))))
""",
        work_dir / 'epoch_1.pth',
        tmp_path,
    )
    # 4 samples in batches of 2: two iterations an epoch, each logged.
    assert found == {'at_start': {'epoch': 1, 'iter': 2}, 'weights': True, 'end': 4, 'losses': 4, 'first': True}


@pytest.fixture(scope='module')
def refusals(tmp_path_factory) -> dict:
    """Loads one malicious file per case; gives the error of each, and whether any of them could act."""
    folder = tmp_path_factory.mktemp('malicious')
    return facts(
        """
import json, os, pickle, sys
import torch
import rnnpose_plugin
from mmengine.logging import HistoryBuffer

class Call:
    def __init__(self, function, *arguments):
        self.recipe = function, arguments
    def __reduce__(self):
        return self.recipe

os.chdir(sys.argv[1])
cases = dict(
    method=Call(getattr, HistoryBuffer, 'mean'),
    os_system=Call(os.system, 'touch acted'),
    eval=Call(eval, "open('acted', 'w')"),
    getattr_of_module_name=Call(getattr, 'text', 'format'),
    getattr_of_tensor_class=Call(getattr, torch.Tensor, 'backward'),
    getattr_of_buffer_init=Call(getattr, HistoryBuffer, '__init__'),
    getattr_of_buffer_setstate=Call(getattr, HistoryBuffer, '__setstate__'),
    getattr_of_buffer_registrar=Call(getattr, HistoryBuffer, 'register_statistics'),
    getattr_chain=Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__'),
    getattr_of_buffer_instance=Call(getattr, HistoryBuffer(), 'mean'),
    call_of_method=Call(HistoryBuffer.mean, 1),
)
errors = {}
for name, value in cases.items():
    torch.save(dict(value=value), name)
    try:
        torch.load(name, weights_only=True)
        errors[name] = None
    except pickle.UnpicklingError as error:
        errors[name] = str(error)
print(json.dumps(dict(errors=errors, acted=os.path.exists('acted'))))
""",
        folder,
    )


def test_the_one_allowed_attribute_loads(refusals):
    assert refusals['errors']['method'] is None


@pytest.mark.parametrize(
    'case',
    [
        'os_system',
        'eval',
        'getattr_of_module_name',
        'getattr_of_tensor_class',
        'getattr_of_buffer_init',
        'getattr_of_buffer_setstate',
        'getattr_of_buffer_registrar',
        'getattr_chain',
        'getattr_of_buffer_instance',
        'call_of_method',
    ],
)
def test_malicious_file_is_refused(refusals, case):
    assert not refusals['acted']
    assert refusals['errors'][case] is not None
    if case.startswith('getattr'):
        assert 'refused: the file asks for attribute' in refusals['errors'][case]


# --- the message of `import rnnpose_plugin` when something is missing

MISSING = [
    ('torch', "but torch is not installed (pip install 'torch>=2.1');"),
    ('mmcv', "but mmcv is not installed (pip install 'mmcv-lite>=2.0,<2.2');"),
    ('mmpose', "but mmpose is not installed (pip install --no-deps 'mmpose>=1.3');"),
    ('scipy', 'but scipy is not installed (pip install scipy);'),
    ('cv2', 'but cv2 is not installed (pip install opencv-python);'),
    ('pycocotools', 'but pycocotools is not installed (pip install pycocotools);'),
    ('munkres', 'which mmpose.models imports, is not installed (pip install munkres);'),
]

# Forks a process for each package that it hides. What the others import first is imported once, before their forks.
IMPORT_WITHOUT_EACH = """
import json, os, sys

class Hide:
    def __init__(self, package):
        self.package = package
        for name in [name for name in sys.modules if name.split('.')[0] == package]:
            del sys.modules[name]

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == self.package:
            raise ModuleNotFoundError(f'No module named {name!r}', name=self.package)

def message_without(package):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        sys.meta_path.insert(0, Hide(package))
        try:
            import rnnpose_plugin
        except ImportError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    return os.read(read, 10_000).decode()  # '' at the end of an empty pipe

first, *others = sys.argv[1:]
messages = {first: message_without(first)}
import torch, torchvision, cv2, matplotlib.pyplot, scipy.optimize, mmengine.runner
print(json.dumps({**messages, **{package: message_without(package) for package in others}}))
"""

TRY_IMPORT = """
import json
try:
    import rnnpose_plugin
except ImportError as error:
    print(json.dumps(dict(message=str(error))))
"""


def assert_is_one_sentence(message: str) -> None:
    assert message.startswith('rnnpose_plugin needs ')
    assert message.endswith('.')
    assert '\n' not in message
    assert '. ' not in message
    assert '`make install`' in message


@pytest.fixture(scope='module')
def messages() -> dict:
    """The error of `import rnnpose_plugin` without each package of MISSING."""
    return facts(IMPORT_WITHOUT_EACH, *(package for package, _ in MISSING))


@pytest.mark.parametrize(('package', 'phrase'), MISSING)
def test_missing_package_is_named_with_its_cure(messages, package, phrase):
    message = messages[package]
    assert_is_one_sentence(message)
    assert phrase in message
    assert message.count('pip install') == 1


def test_old_package_is_named_with_its_cure(tmp_path):
    (tmp_path / 'mmpose').mkdir()
    (tmp_path / 'mmpose' / '__init__.py').write_text("__version__ = '0.29.0'")
    message = facts(TRY_IMPORT, first_path=str(tmp_path))['message']
    assert_is_one_sentence(message)
    assert "but mmpose 0.29.0 is older than 1.3 (pip install --no-deps 'mmpose>=1.3');" in message


def test_broken_package_is_named_with_its_error(tmp_path):
    (tmp_path / 'pycocotools').mkdir()
    (tmp_path / 'pycocotools' / '__init__.py').write_text('')
    (tmp_path / 'pycocotools' / 'mask.py').write_text("raise ValueError('numpy.dtype size changed.\\nSecond line')")
    message = facts(TRY_IMPORT, first_path=str(tmp_path))['message']
    assert_is_one_sentence(message)
    assert 'but pycocotools.mask does not import (ValueError: numpy.dtype size changed);' in message


@pytest.mark.parametrize(
    ('broken', 'line'),
    [
        ('cv2', "raise ImportError('libGL.so.1: cannot open shared object file')"),
        ('mmengine', "raise RuntimeError('')"),
        pytest.param(
            'xtcocotools',
            "raise ValueError('numpy.dtype size changed')",
            marks=pytest.mark.skipif(not np.__version__.startswith('1.'), reason='beside numpy 2 it is replaced'),
        ),
    ],
)
@pytest.mark.parametrize('tool', ['train', 'compare'])
def test_a_tool_names_a_library_that_does_not_load_without_a_traceback(tmp_path, broken, line, tool):
    (tmp_path / f'{broken}.py').write_text(line)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = subprocess.run([sys.executable, ROOT / 'tools' / f'{tool}.py', '--help'], capture_output=True, text=True,
                         env={**os.environ, 'PYTHONPATH': path, 'PYTHONWARNINGS': 'ignore'})  # fmt: skip
    (sentence,) = run.stderr.splitlines()
    assert run.returncode == 1 and sentence.startswith('error: rnnpose_plugin needs a working MMPose 1.3, but ')
    assert f'but {broken} does not import' in sentence and '`make install`' in sentence
    assert sentence.count('libGL') == (broken == 'cv2')  # not again for each package that imports it


# --- distributed runs without a GPU

TWO_PROCESSES = (
    TINY_RUN
    + """
import torch.distributed
import rnnpose_plugin
from rnnpose_plugin.runtime.cpu_processes import cpu_model_wrapper, end_cpu_process, init_cpu_process_group

assert not init_cpu_process_group('none') and not torch.distributed.is_initialized()
assert init_cpu_process_group('pytorch') and not init_cpu_process_group('pytorch')
os.chdir(os.path.dirname(__file__))  # mmengine gathers results in a folder of the current one
torch.manual_seed(torch.distributed.get_rank())
runner = make_runner(sys.argv[1], 1, launcher='pytorch', cfg=dict(model_wrapper_cfg=cpu_model_wrapper()))
runner.train()
weights = [None, None]
torch.distributed.all_gather_object(weights, plain(runner.model.module.state_dict()))
if torch.distributed.get_rank() == 0:
    print(json.dumps(dict(backend=torch.distributed.get_backend(), world_size=runner.world_size, steps=runner.iter,
                          wrapper=type(runner.model).__name__, same=weights[0] == weights[1])))
end_cpu_process()
"""
)


def test_two_processes_train_on_the_cpu(tmp_path):
    script = tmp_path / 'train.py'
    script.write_text(TWO_PROCESSES)
    torchrun = 'from torch.distributed.run import main; main()'
    options = ('--standalone', '--nproc_per_node=2')
    found = facts(torchrun, *options, script, tmp_path / 'work', CUDA_VISIBLE_DEVICES='-1', OMP_NUM_THREADS='1')
    # 4 samples, two processes, batches of 2: one step an epoch, after which both hold the same weights.
    assert found == {
        'backend': 'gloo',
        'world_size': 2,
        'steps': 1,
        'wrapper': 'MMDistributedDataParallel',
        'same': True,
    }


# --- activation checkpointing


def small_backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    settings = dict(downsample_times=1, num_stacks=2, out_channels=4, stage_channels=(8, 8), feat_channels=8)
    return torch.nn.ModuleDict(dict(backbone=HourglassAENet(**settings))).train()


def gradients_and_buffers(model: torch.nn.Module) -> tuple[dict, dict]:
    """After two backward passes through one graph."""
    outputs = model.backbone(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    outputs[0].square().mean().backward(retain_graph=True)
    outputs[1].square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return gradients, {name: buffer.clone() for name, buffer in model.named_buffers()}


def test_activation_checkpointing_changes_no_gradient_and_no_statistic():
    expected, found = small_backbone(), small_backbone()
    calls = []
    found.backbone.stem[0].register_forward_hook(lambda *_: calls.append(1))
    turn_on_activation_checkpointing(found, ['backbone'])
    for one, other in zip(gradients_and_buffers(expected), gradients_and_buffers(found)):
        assert one.keys() == other.keys() and len(one) > 20
        for name, value in one.items():
            assert torch.equal(value, other[name]), name
    assert len(calls) == 3  # computed again for each of the two backward passes


def test_mmengines_own_checkpointing_trains_no_backbone():
    """The reason for the correction; if this fails, MMEngine has been corrected."""
    own = activation_checkpointing_of_mmengine()
    model = small_backbone()
    own.turn_on_activation_checkpointing(model, ['backbone'])
    with pytest.warns(UserWarning, match='None of the inputs have requires_grad'):
        outputs = model.backbone(torch.rand(2, 3, 32, 32))
    assert not any(output.requires_grad for output in outputs)


def activation_checkpointing_of_mmengine():
    """The module from its file, without the correction."""
    spec = importlib.util.find_spec('mmengine.runner.activation_checkpointing')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
