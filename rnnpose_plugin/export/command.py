"""From a config and a checkpoint to exported files: what ``tools/export.py`` does."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import load_checkpoint
from mmpose.apis import init_model
from torch import Tensor

from ..engine.checkpoint_fit_hook import refuse_misfit, refuse_other_normalisation
from ..models.recurrent_head import RecurrentPoseHead
from ..runtime.checkpoint_file import check_checkpoint_file
from ..runtime.launch import check_options, read_config
from .check import check_file
from .graph import DEFAULT_OPSET, Axes, check_opset, finished_only, import_onnx, trace, write_onnx, write_pt2
from .int8 import quantise_step
from .metadata import describe
from .networks import ImageEncoder
from .steps import Encode, Step
from .unrolled import UnrolledPose
from .whole import WholePose

FORMS = ('whole', 'steps', 'unrolled')
IMAGE_TYPES = ('uint8', 'float32')
OUTPUTS = ('keypoints', 'scores', 'num_people')
UNITS = (32, 64, 128, 256)  # of image sides, in pixels; the pipelines need 32 anyway


@dataclass
class ExportOptions:
    """How a model is exported.

    Args:
        form (str): ``'whole'``, ``'steps'`` or ``'unrolled'``.
        image_type (str): ``'uint8'`` or ``'float32'``, both 0 to 255. Defaults to ``'uint8'``.
        steps (int, optional): of the unrolled form, which needs it. Defaults to None.
        fixed_size (bool): one image of the codec's input size, so that no shape is left open. Defaults to False.
        opset (int): version of ONNX's operators, 18 or later. Defaults to 20.
        licence (str): of the weights, for the metadata. Defaults to '', that of this package.
        int8 (str): images by which a step's convolutions become int8, for the form ``steps``. Defaults to '', float32.

    Raises:
        ValueError: for an unknown form or type, or settings that are missing or have no use.
    """

    form: str
    image_type: str = 'uint8'
    steps: int | None = None
    fixed_size: bool = False
    opset: int = DEFAULT_OPSET
    licence: str = ''
    int8: str = ''

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f'form is {self.form!r}; use one of {FORMS}.')
        if self.image_type not in IMAGE_TYPES:
            raise ValueError(f'image_type is {self.image_type!r}; use one of {IMAGE_TYPES}.')
        if (self.form == 'unrolled') != (self.steps is not None):
            needed = 'needs --steps, the most people per image' if self.form == 'unrolled' else 'has no use for --steps'
            raise ValueError(f'--form {self.form} {needed}.')
        if self.int8 and self.form != 'steps':
            raise ValueError(f'--form {self.form} has no int8: onnxruntime measures no loop; add --form steps.')
        check_opset(self.opset)


def load_model(config: str, checkpoint: str, cfg_options: dict | None = None) -> BaseModel:
    """The model on the CPU, refused where its predictions would not be those of the exported file.

    Args:
        config (str): path of a config with a ``RecurrentPoseHead``.
        checkpoint (str): path of its checkpoint.
        cfg_options (dict, optional): changes of the config. Defaults to None.

    Returns:
        BaseModel: in evaluation mode.

    Raises:
        ValueError: for another head, a checkpoint that does not fit, or test settings that are not exported.
    """
    check_checkpoint_file(checkpoint)
    cfg = read_config(config)
    check_options(cfg, cfg_options or {})
    cfg.merge_from_dict(cfg_options or {})
    cfg.model.backbone.init_cfg = None
    model = init_model(cfg, None, device='cpu')
    if not isinstance(getattr(model, 'head', None), RecurrentPoseHead):
        kind = type(getattr(model, 'head', model)).__name__
        raise ValueError(f'{config} has a {kind}, which is not exported; use a config with a RecurrentPoseHead.')
    weights = load_checkpoint(model, checkpoint, map_location='cpu')
    refuse_misfit(model, weights, checkpoint)
    refuse_other_normalisation(model, weights, checkpoint)
    model.dataset_meta = (weights.get('meta') or {}).get('dataset_meta') or model.dataset_meta
    _refuse_settings(model, cfg)
    model.head.stop_threshold = (model.test_cfg or {}).get('stop_threshold') or model.head.stop_threshold
    return model


def _refuse_settings(model: BaseModel, cfg: Config) -> None:
    """Settings that change poses and that the exported graph does not have."""
    for name in ('flip_test', 'multiscale_test', 'ae_refinement'):
        if (model.test_cfg or {}).get(name):
            raise ValueError(
                f'test_cfg has {name}=True, which is not exported, so poses would differ; add --cfg-options '
                f'model.test_cfg.{name}=False'
            )
    if getattr(model, 'precision', 'float32') != 'float32':
        raise ValueError(f'model.precision is {model.precision}; the export is float32, add model.precision=float32')
    norm = model.data_preprocessor
    if not norm._enable_normalize or not norm._channel_conversion:
        raise ValueError(
            'data_preprocessor has to have mean, std and bgr_to_rgb=True: exported files take RGB and normalise it.'
        )


@torch.no_grad()
def size_unit(model: BaseModel) -> int:
    """What the sides of an image have to be multiples of, found by trying shapes without numbers.

    Args:
        model (BaseModel): with a ``RecurrentPoseHead``.

    Returns:
        int: pixels.

    Raises:
        ValueError: if no multiple up to 256 works.
    """
    encoder, codec, lstms = ImageEncoder(model), model.head.decoder, [model.head.first_lstm, model.head.second_lstm]
    coarsest = codec.stride * max(max(lstm.lstm.strides) for lstm in lstms if lstm is not None)
    tensors = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    shapes = {name: tensor.to('meta') for name, tensor in tensors.items()}
    for unit in UNITS:
        image = torch.zeros(1, 3, 3 * unit, unit, device='meta')
        try:
            features, *_ = torch.func.functional_call(encoder, shapes, (image,))
        except RuntimeError:  # two maps that should have one size
            continue
        covered = tuple(cells * codec.stride for cells in features.shape[2:])
        if covered == (3 * unit, unit) and unit % coarsest == 0:
            return unit
    raise ValueError(
        f'No multiple of {UNITS} pixels gives features at stride {codec.stride:g}, which the codec of the config has; '
        "set the codec's heatmap_size to input_size / the neck's stride."
    )


def export_model(model: BaseModel, checkpoint: str, out: str, options: ExportOptions) -> list[str]:
    """Write the file, or for the form ``steps`` the two files. Each is run once and compared before it gets its name.

    Args:
        model (BaseModel): of :func:`load_model`; it is changed as :func:`trace` says, and cannot be trained after it.
        checkpoint (str): the file that its weights came from, for the metadata.
        out (str): a file that ends in ``.onnx`` or ``.pt2``; for the form ``steps`` a folder.
        options (ExportOptions): how.

    Returns:
        list[str]: paths of the files written.

    Raises:
        ValueError: for another name of the file.
        FileNotFoundError: if the folder to write to is not there.
        ArithmeticError: if a file does not give what the model gives.
    """
    target = Path(out)
    endings = ('',) if options.form == 'steps' else ('.onnx', '.pt2')
    if target.suffix not in endings:
        wanted = 'a folder' if options.form == 'steps' else 'a file that ends in .onnx or .pt2'
        raise ValueError(f'--out {out}: the form {options.form} is {wanted}')
    if not target.parent.is_dir():
        raise FileNotFoundError(f'there is no folder {target.parent} to write {target.name} to; make it first')
    if target.suffix != '.pt2':
        import_onnx()
    unit = size_unit(model)
    most = options.steps or model.head.max_instances
    describe_as = partial(describe, model, max_people=most, size_multiple=0 if options.fixed_size else unit)
    facts = describe_as(
        form=options.form, image_type=options.image_type, checkpoint=checkpoint, licence=options.licence
    )
    axes, image = Axes(0 if options.fixed_size else unit), _example(model, unit, options)
    with finished_only(target) as folder:
        write = _write_steps if options.form == 'steps' else _write_one
        return [
            str((target if options.form == 'steps' else target.parent) / name)
            for name in write(model, folder, target.name, image, axes, facts, options)
        ]


def _example(model: BaseModel, unit: int, options: ExportOptions) -> Tensor:
    """Random pixels: two images with different sides, or one of the codec's input size."""
    width, height = model.head.decoder.input_size
    shape = (1, 3, height, width) if options.fixed_size else (2, 3, 2 * unit, 3 * unit)
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    return pixels.to(getattr(torch, options.image_type))


def _other_size(image: Tensor, options: ExportOptions) -> Tensor:
    """Not one unit wide: torch sets a map of one cell apart, and a .pt2 refuses it."""
    return image if options.fixed_size else image[:1].transpose(2, 3).contiguous()


def _write_one(
    model: BaseModel, folder: Path, name: str, image: Tensor, axes: Axes, facts: dict, options: ExportOptions
) -> list[str]:
    module = WholePose(model) if options.form == 'whole' else UnrolledPose(model, options.steps)
    program = trace(module, (image,), (axes.of(1),))
    if name.endswith('.pt2'):
        write_pt2(program, folder / name, facts)
    else:
        write_onnx(program, folder / name, ['image'], OUTPUTS, facts, options.opset)
    check_file(module, folder / name, _other_size(image, options))
    return sorted(file.name for file in folder.iterdir())


def _write_steps(
    model: BaseModel, folder: Path, name: str, image: Tensor, axes: Axes, facts: dict, options: ExportOptions
) -> list[str]:
    # Files of two exports in one folder would not be noticed otherwise.
    facts = dict(facts, pair=f'"{secrets.token_hex(8)}"', precision='"int8"' if options.int8 else facts['precision'])
    encode = Encode(model)
    step, inputs = Step(encode.decoder), encode.names
    write_onnx(trace(encode, (image,), (axes.of(1),)), folder / 'encode.onnx', ['image'], inputs, facts, options.opset)
    with torch.no_grad():
        encoded = encode(image)
    shapes = (None, tuple(axes.of(stride) for stride in encode.strides))
    outputs = ['keypoints', 'score', 'stop_probability', *(f'next_{state}' for state in inputs[step.num_maps :])]
    program = trace(step, (torch.tensor(0), *encoded), shapes)
    write_onnx(program, folder / 'step.onnx', ['number', *inputs], outputs, facts, options.opset)
    other = _other_size(image, options)
    check_file(encode, folder / 'encode.onnx', other)
    with torch.no_grad():
        check_file(step, folder / 'step.onnx', torch.tensor(3), *encode(other))
    if options.int8:
        quantise_step(folder, options.int8, facts)
    return ['encode.onnx', 'step.onnx']
