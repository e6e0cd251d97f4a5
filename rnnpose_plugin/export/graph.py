"""From a module to a file: traced by torch.export, written as ONNX or as torch's own .pt2."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import Dim, ExportedProgram

FIRST_OPSET, DEFAULT_OPSET = 18, 20  # the exporter's functions begin at 18
ONE_FILE = 2**31 - 2**24  # bytes; protobuf holds less than 2 GiB, larger weights lie in a second file


class Axes:
    """Names of the axes that may have any size: batch, and height and width in units that every grid divides.

    Args:
        unit (int): pixels of the image that one unit of height and width covers; 0 for fixed sizes.
    """

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.batch, self.height, self.width = Dim('batch'), Dim('height'), Dim('width')

    def of(self, stride: float) -> dict[int, Dim] | None:
        """Of maps (B, C, H, W).

        Args:
            stride (float): pixels of the image along one side of a cell; 1 for the image itself.

        Returns:
            dict[int, Dim] | None: as ``torch.export`` takes it; None where all is fixed.
        """
        if not self.unit:
            return None
        cells = int(self.unit / stride)
        height, width = (cells * side if cells > 1 else side for side in (self.height, self.width))
        return {0: self.batch, 2: height, 3: width}


def trace(module: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple) -> ExportedProgram:
    """The module as a graph.

    Its weights change their memory order to the usual one, since a loop's state may not change its order, and want no
    gradients any more, since a loop in a .pt2 has none.

    Args:
        module (nn.Module): takes tensors.
        inputs (tuple[Tensor, ...]): examples, with more than one image and different sides wherever shapes are free.
        shapes (tuple): for each input, of :class:`Axes`.

    Returns:
        ExportedProgram: the graph.

    Raises:
        ValueError: if the module fixes a size that is open in ``shapes``.
    """
    module = module.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporter's own parts
        try:
            return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
        except UserError as error:
            if 'Constraints violated' not in str(error):
                raise
            raise ValueError(
                'the network cannot be exported for any size and batch, as Swin; add --fixed-size'
            ) from error


def import_onnx() -> tuple[ModuleType, ModuleType]:
    """onnx and onnxruntime, with a sentence where one is missing.

    Returns:
        tuple[ModuleType, ModuleType]: the two packages.

    Raises:
        ImportError: if onnx, onnxscript or onnxruntime is not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise ImportError(
            f'{error.name} is not installed, and the export needs it; run `pip install rnnpose_plugin[export]`'
        ) from error
    return onnx, onnxruntime


def check_opset(opset: int) -> None:
    """Refuse a version of the operators that the exporter cannot write.

    Args:
        opset (int): the version.

    Raises:
        ValueError: if it is too low.
    """
    if opset < FIRST_OPSET:
        raise ValueError(
            f"--opset {opset}: torch's exporter writes {FIRST_OPSET} and later, and has no Loop for earlier ones; "
            f'leave it out for {DEFAULT_OPSET}'
        )


def write_onnx(
    program: ExportedProgram, path: Path, inputs: Sequence[str], outputs: Sequence[str], facts: dict, opset: int
) -> None:
    """Write a graph as ONNX.

    Args:
        program (ExportedProgram): the graph.
        path (Path): the file.
        inputs (Sequence[str]): names of the inputs.
        outputs (Sequence[str]): names of the outputs.
        facts (dict[str, str]): metadata.
        opset (int): version of the operators.
    """
    with torch.no_grad(), warnings.catch_warnings():  # with gradients a loop is not decomposed
        warnings.simplefilter('ignore')
        written = torch.onnx.export(
            program, (), input_names=list(inputs), output_names=list(outputs), opset_version=opset, verbose=False
        )
    for value in (*written.model.graph.inputs, *written.model.graph.outputs):
        _name_open_axes(value)
    _forget_where(written.model)
    written.model.metadata_props.update(facts)
    written.model.producer_name = 'rnnpose_plugin'
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    written.save(str(path), external_data=weights > ONE_FILE)


def _forget_where(model: Any) -> None:
    """The exporter notes for every node the source lines, with this machine's paths, and makes the file larger."""
    model.metadata_props.clear()
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None


def _name_open_axes(value: Any) -> None:
    """The exporter's own names are s40 and the like."""
    prefix = '' if value.name == 'image' else f'{value.name}_'
    names = ('batch', 'people', f'{prefix}height', f'{prefix}width')
    value.shape = type(value.shape)(
        [size if isinstance(size, int) else names[axis] for axis, size in enumerate(value.shape)]
    )


def write_pt2(program: ExportedProgram, path: Path, facts: dict) -> None:
    """Write a graph as torch's own file, which ``torch.export.load`` reads without this package.

    Args:
        program (ExportedProgram): the graph.
        path (Path): the file.
        facts (dict[str, str]): metadata, each in a file of the archive.
    """
    torch.export.save(program, str(path), extra_files=facts)


@contextmanager
def finished_only(out: Path) -> Iterator[Path]:
    """A folder to write in, whose files take their places under ``out``'s folder only if all of them are finished.

    Args:
        out (Path): a file, or for several files a folder, which is made.

    Yields:
        Path: the folder beside ``out``.
    """
    unfinished = out.with_name(f'{out.name}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        target = out.parent if out.suffix else out
        target.mkdir(exist_ok=True)
        for file in sorted(unfinished.iterdir()):
            os.replace(file, target / file.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
