"""Event files for TensorBoard, written by tensorboardX (extra `tensorboard`): `tl.SummaryWriter`.

Contract. Methods have the names and arguments of torch.utils.tensorboard's, and take Tensors on any device, arrays and
numbers; a tensor is read when it is given, which waits for its device. tensorboardX is imported when a writer is made.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Callable, Mapping
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..nn import Module
from ..tensor import Tensor
from .graph_nodes import GraphNode, graph_nodes

_numbers = itertools.count()


class SummaryWriter:
    """Writes what a training run does for TensorBoard: `tensorboard --logdir runs` shows it.

    `log_dir` is the folder of this run, by default runs/<date and time>_<host><comment>. Methods that do not stand
    here, such as add_figure, add_pr_curve and add_embedding, are tensorboardX's, and take Tensors too. Raises
    ImportError where tensorboardX is not installed.

    >>> with tl.SummaryWriter("runs/demo") as writer:                    # doctest: +SKIP
    ...     writer.add_scalar("loss", loss, step)
    """

    def __init__(self, log_dir: str | PathLike[str] | None = None, comment: str = "", purge_step: int | None = None,
                 max_queue: int = 10, flush_secs: int = 120, filename_suffix: str = "") -> None:
        self._comment, self._purge_step = comment, purge_step
        self._queue, self._seconds = max_queue, flush_secs
        self._suffix = filename_suffix
        self._writer: Any = None
        self.log_dir = str(self._open(None if log_dir is None else fspath(log_dir)).logdir)

    def _open(self, log_dir: str | None = None) -> Any:
        """tensorboardX's writer; after `close`, one with a new file.

        Files of one second would have one name, and overwrite each other: a number of their own keeps them apart.
        """
        if self._writer is None:
            try:
                import tensorboardX
            except ImportError as error:
                raise ImportError("SummaryWriter needs tensorboardX: pip install 'tensorlite[tensorboard]'") from error
            suffix = f".{os.getpid()}.{next(_numbers)}{self._suffix}"
            folder = log_dir or vars(self).get("log_dir")
            self._writer = tensorboardX.SummaryWriter(folder, self._comment, self._purge_step, self._queue,
                                                      self._seconds, suffix)
            self._purge_step = None  # what this writer itself wrote stays
        return self._writer

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None,
                   walltime: float | None = None) -> None:
        """Add a number, or a tensor of one element, to the curve of that name."""
        self._open().add_scalar(tag, _number(tag, scalar_value), global_step, walltime)

    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: int | None = None,
                    walltime: float | None = None) -> None:
        """Add numbers by name to curves that share one panel; each is a run of its own, in a folder below."""
        numbers = {tag: _number(tag, value) for tag, value in tag_scalar_dict.items()}
        self._open().add_scalars(main_tag, numbers, global_step, walltime)

    def add_histogram(self, tag: str, values: Any, global_step: int | None = None, bins: str = "tensorflow",
                      walltime: float | None = None, max_bins: int | None = None) -> None:
        """Add the distribution of a tensor's elements; raises ArgumentError for one without, or with none finite.

        Elements that are not finite are left out: they are in no bin.
        """
        flat = np.asarray(as_numpy(values), np.float64).reshape(-1)
        finite = flat[np.isfinite(flat)]
        if not finite.size:
            raise ArgumentError(f"add_histogram: '{tag}' has no finite element (of {flat.size})")
        self._open().add_histogram(tag, finite, global_step, bins, walltime, max_bins)

    def add_image(self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: float | None = None,
                  dataformats: str = "CHW") -> None:
        """Add an image of floats in [0, 1] or uint8, 1, 3 or 4 channels, laid out as `dataformats` says; needs Pillow.

        Raises ImportError where Pillow is not installed.
        """
        _require_pillow("add_image")
        self._open().add_image(tag, as_numpy(img_tensor), global_step, walltime, dataformats)

    def add_images(self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: float | None = None,
                   dataformats: str = "NCHW") -> None:
        """Add a batch of images as one; see `add_image`."""
        _require_pillow("add_images")
        self._open().add_images(tag, as_numpy(img_tensor), global_step, walltime, dataformats)

    def add_text(self, tag: str, text_string: str, global_step: int | None = None,
                 walltime: float | None = None) -> None:
        """Add a text in Markdown."""
        self._open().add_text(tag, text_string, global_step, walltime)

    def add_graph(self, model: Module, input_to_model: Any = None, verbose: bool = False,
                  use_strict_trace: bool = True) -> None:
        """Add the graph of one forward pass: operations by module, parameters, inputs, results and their shapes.

        `input_to_model` is a tensor, or a tuple or list of what the model takes. The model is left as it was. `verbose`
        prints the nodes; `use_strict_trace` is accepted for PyTorch's sake. Raises ArgumentError without inputs and
        DTypeError for a model that is no Module.
        """
        if not isinstance(model, Module):
            raise DTypeError(f"add_graph: expected an nn.Module, got {type(model).__name__}")
        if input_to_model is None:
            raise ArgumentError("add_graph: give what the model takes: add_graph(model, x) or add_graph(model, (x, y))")
        inputs = tuple(input_to_model) if isinstance(input_to_model, (tuple, list)) else (input_to_model,)
        nodes = graph_nodes(model, *inputs)
        if verbose:
            print("\n".join(f"{node.name} = {node.op}({', '.join(node.inputs)})" for node in nodes))
        self._open()._get_file_writer().add_onnx_graph(_graph_def(nodes))  # an event with a GraphDef, whatever of

    def flush(self) -> None:
        """Put on the disk what the writer's thread has written; what is on its way there follows. `close` waits."""
        self._open().flush()

    def close(self) -> None:
        """Wait until all is written, and close the files; a later call of another method opens new ones."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """tensorboardX's other methods, for which tensors become arrays."""
        method = getattr(self._open(), name, None) if name.startswith("add_") else None
        if method is None:
            raise AttributeError(f"SummaryWriter has no attribute {name!r}")

        def call(*args: Any, **kwargs: Any) -> Any:
            arrays = [as_numpy(x) if isinstance(x, Tensor) else x for x in args]
            return method(*arrays, **{k: as_numpy(x) if isinstance(x, Tensor) else x for k, x in kwargs.items()})

        return call


def as_numpy(x: Any) -> np.ndarray:
    """A tensor of any device, a list of tensors, or an array, as a NumPy array; 16-bit floats as float32."""
    if isinstance(x, Tensor):
        x = x.detach().float() if x.dtype.is_narrow else x.detach()
        array: np.ndarray = x.cpu().numpy()
        return array
    if isinstance(x, (list, tuple)):
        return np.stack([as_numpy(item) for item in x])
    return np.asarray(x)


def _number(tag: str, value: Any) -> float:
    array = as_numpy(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ArgumentError(f"add_scalar: '{tag}' must be one number, got {array.dtype} of shape {array.shape}")
    return float(array.reshape(()))


def _require_pillow(name: str) -> None:
    if importlib.util.find_spec("PIL") is None:
        raise ImportError(f"{name} needs Pillow: pip install 'tensorlite[tensorboard]'")


def _graph_def(nodes: list[GraphNode]) -> Any:
    """The nodes in TensorFlow's format, which TensorBoard reads."""
    from tensorboardX.proto.graph_pb2 import GraphDef
    from tensorboardX.proto.versions_pb2 import VersionDef

    graph = GraphDef(versions=VersionDef(producer=22))
    for node in nodes:
        added = graph.node.add(name=node.name, op=node.op, input=node.inputs)
        if node.attributes:
            added.attr["attr"].s = node.attributes.encode()
        if node.shape is not None:
            shape = added.attr["_output_shapes"].list.shape.add()
            for size in node.shape:
                shape.dim.add(size=size)
    return graph
