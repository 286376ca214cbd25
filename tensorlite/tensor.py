"""Tensor: an array on a device that can be differentiated through. What a user holds in hand.

Here: construction, properties, conversions, Python's protocols, and the entry to autograd. The operations are in
methods.py and ops/, the place in the graph is autograd.tape.Var.
"""

from __future__ import annotations

import importlib
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import autograd, cuda, dtypes, inplace, ops, printing
from .autograd.op import refresh
from .autograd.tape import Node, Var, set_tensor_class, wrap
from .backends import Array, Backend, Device, as_device, dimension, get, recording
from .dtypes import DType
from .errors import ArgumentError, DeviceError, DTypeError, GradError, ShapeError
from .hooks import RemovableHandle
from .methods import InPlaceMethods, Methods
from .numpy_protocol import NumpyProtocol

if TYPE_CHECKING:
    from .insight.records import Tape
    from .insight.steps import Step


def _insight(name: str) -> Any:
    """A module of tl.insight, which nothing of the library imports, loaded when a user asks for it."""
    return importlib.import_module(f"{__package__}.insight.{name}")


class Tensor(Methods, InPlaceMethods, NumpyProtocol, Var):
    """A multi-dimensional array of one dtype on one device, recorded by autograd if `requires_grad`.

    `Tensor(data)` is `tl.tensor(data)`; for uninitialised memory see `tl.empty`.

    >>> x = tl.tensor([1., 2.], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self, data: Any = (), *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> None:
        self.backend = get(device) if device is not None else data.backend if isinstance(data, Var) else get("cpu")
        self.array = as_array(data, dtype, self.backend, copy=True)
        if requires_grad:
            self.requires_grad_()

    @staticmethod
    def _wrap(array: Array, backend: Backend) -> Tensor:
        """A Tensor that owns a raw array."""
        return wrap(array, backend)

    # --- properties ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> DType:
        return dtypes.from_numpy(self.array.dtype)

    @property
    def device(self) -> Device:
        return self.backend.device

    @property
    def ndim(self) -> int:
        return self.array.ndim  # type: ignore[no-any-return]

    @property
    def itemsize(self) -> int:
        return self.array.itemsize  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        return self.array.nbytes  # type: ignore[no-any-return]

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix; a vector as it is. Raises ShapeError above two dimensions."""
        return ops.t(self)

    @property
    def mT(self) -> Tensor:
        """The last two dimensions exchanged."""
        if self.ndim < 2:
            raise ShapeError(f"mT: expected at least 2 dimensions, got shape {self.shape}")
        return ops.transpose(self, -2, -1)

    @property
    def real(self) -> Tensor:
        return self

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one size of it."""
        if dim is None:
            return self.shape
        try:
            return self.shape[dim]
        except IndexError:
            return self.shape[dimension("size", dim, self.shape)]  # which says what is out of range

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return self.array.size  # type: ignore[no-any-return]

    nelement = numel

    def element_size(self) -> int:
        return self.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """The distance in elements between neighbours along each dimension (or one)."""
        strides = tuple(s // self.itemsize for s in self.array.strides)
        return strides if dim is None else strides[dimension("stride", dim, self.shape)]

    def is_contiguous(self) -> bool:
        return self.array.flags.c_contiguous  # type: ignore[no-any-return]

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self.backend.address(self.array)

    # --- autograd -----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        if self._base is not None:
            refresh(self)
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not self.dtype.is_floating_point:
            raise DTypeError(f"only floating tensors can require gradients, got {self.dtype.name}; use .float()")
        if not value and self._node is not None:
            raise GradError("you can only change requires_grad of leaf tensors; use .detach() for one without history")
        if value is not self._requires_grad:
            recording.replaced(self.array)
        self._requires_grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set requires_grad in place. Raises DTypeError for integers."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it: gradients accumulate in leaves."""
        return not self.requires_grad or self._node is None

    @property
    def grad_fn(self) -> Node | None:
        """The recorded operation that made this tensor."""
        return self._node if self.requires_grad else None

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient; None before the first backward. Warns where none will come: see `retain_grad`."""
        if self._grad is None and self._node is not None and not self.retains_grad:
            warnings.warn("the .grad of a tensor that is not a leaf is read: backward() does not fill it, except after "
                          ".retain_grad(); perhaps the leaf it was computed from was meant", stacklevel=2)
        if recording.active is not None and (recorder := recording.here()) is not None:
            recorder.note_grad_read(self)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(f"grad must be a Tensor or None, got {type(value).__name__}")
            if (value.shape, value.array.dtype, value.backend) != (self.shape, self.array.dtype, self.backend):
                raise ShapeError(f"assigned grad has {value.dtype.name} {value.shape} on '{value.device}', "
                                 f"the tensor {self.dtype.name} {self.shape} on '{self.device}'")
        if recording.active is not None and (recorder := recording.here()) is not None:
            recorder.note_grad_written(self)
        self._grad = value

    @property
    def data(self) -> Tensor:
        """The same memory without history; writing to it is not noticed by autograd, prefer `no_grad`."""
        result = wrap(self.array, self.backend)
        return result

    @data.setter
    def data(self, value: Tensor) -> None:
        self._set(value)

    def detach(self) -> Tensor:
        """The same memory without history. In-place changes of either are noticed by backward."""
        result = wrap(self.array, self.backend)
        result._version = self._shared_version()
        return result

    def detach_(self) -> Tensor:
        """Cut this tensor from its history."""
        if self._base is not None:
            raise GradError("detach_: a view cannot be detached in place; use .detach()")
        self._node, self._requires_grad = None, False
        return self

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Any = None) -> None:
        """Add d(self)/d(leaf) to `.grad` of every leaf it was computed from; see tl.autograd.backward."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def tape(self) -> Tape:
        """The recorded operations that this tensor was computed by, as a table: see tl.tape.

        >>> w = tl.tensor(2.0, requires_grad=True)
        >>> (w * w).tape()
        #  operation  result  dtype    bytes  inputs          saved for backward  module  line
        --------------------------------------------------------------------------------------
        0  mul        number  float32    4 B  number, number  x, y
        1 operations, 4 B saved for backward; compute inside `with tl.tape():` to see modules, source lines and values
        """
        return _insight("records").Tape(self)  # type: ignore[no-any-return]

    def backward_steps(self, gradient: Tensor | None = None, retain_graph: bool | None = None,
                       create_graph: bool = False) -> Iterator[Step]:
        """`backward`, one operation at a time: yields what came in and what goes out; `.grad` is filled after the last.

        >>> w = tl.tensor(3.0, requires_grad=True)
        >>> for step in (w * w).backward_steps():
        ...     print(step.op, step.incoming, step.outgoing)
        mul tensor(1.) {'x': tensor(3.), 'y': tensor(3.)}
        >>> w.grad
        tensor(6.)
        """
        return _insight("steps").backward_steps(self, gradient, retain_graph, create_graph)  # type: ignore[no-any-return]

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called for this non-leaf tensor."""
        retained = None if self._node is None else self._node.retained
        return retained is not None and retained() is self

    def retain_grad(self) -> None:
        """Keep `.grad` also for this non-leaf tensor. Raises GradError without requires_grad."""
        if not self.requires_grad:
            raise GradError("can't retain_grad on a tensor that has requires_grad=False")
        if self._node is not None:
            self._node.retain(self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(grad)` when this tensor's gradient is complete; what it returns, if not None, replaces it."""
        if not self.requires_grad:
            raise GradError("cannot register a hook on a tensor that doesn't require gradient")
        recording.replaced(self.array)
        owner: Any = self if self._node is None else self._node
        table = owner._hooks if self._node is None else owner.hooks
        if table is None:
            table = {}
            if self._node is None:
                self._hooks = table
            else:
                owner.hooks = table
        return RemovableHandle(table, hook)

    # --- conversions --------------------------------------------------------------------------------------------

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The values as a NumPy array, which shares memory with a tensor on the CPU.

        Without `force`, raises GradError with requires_grad, and DeviceError for a tensor elsewhere, as PyTorch does.
        """
        if self.requires_grad and not force:
            raise GradError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.device.type != "cpu" and not force:
            raise DeviceError(f"can't convert a tensor of shape {self.shape} on '{self.device}' to NumPy; "
                              "use tensor.cpu() to copy it to host memory first")
        return self.backend.to_numpy(self.array)

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number. Raises ShapeError otherwise."""
        if self.array.size != 1:
            raise ShapeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar; shape {self.shape}")
        value = self.backend.to_numpy(self.array)
        return (value.astype(np.float32) if self.dtype.is_narrow else value).item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        value = self.backend.to_numpy(self.array)
        return (value.astype(np.float32) if self.dtype.is_narrow else value).tolist()

    def to(self, *args: Any, copy: bool = False, non_blocking: bool = False, **kwargs: Any) -> Tensor:
        """On another device, in another dtype, or as another tensor: `to(device)`, `to(dtype)`, `to(device, dtype)`.

        Itself where nothing changes and `copy` is not asked for. Differentiable.
        """
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        if kwargs:
            raise ArgumentError(f"to: unexpected arguments {sorted(kwargs)}")
        for a in args:
            if isinstance(a, Tensor):
                device, dtype = a.device, a.dtype
            elif isinstance(a, (Device, str, int)) and not (isinstance(a, str) and a in dtypes.NAMES):
                device = as_device(a)
            elif a is not None and not isinstance(a, bool):
                dtype = a
        result = self
        if device is not None and as_device(device) != self.backend.device:
            result = ops.movement.transfer_to(result, as_device(device), non_blocking)
        if dtype is not None:
            wanted = dtypes.as_dtype(dtype).numpy
            if result.array.dtype != wanted:
                result = ops.movement.cast(result, dtype=wanted)
        return ops.clone(result) if copy and result is self else result

    def type(self, dtype: Any) -> Tensor:
        return self.to(dtypes.as_dtype(dtype))

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other)

    def pin_memory(self) -> Tensor:
        """A copy in page-locked host memory, from which `.to("cuda", non_blocking=True)` goes on beside Python.

        Raises DeviceError without a GPU or for a tensor that is not on the CPU, GradError for one that requires grad.
        """
        if self.device.type != "cpu":
            raise DeviceError(f"pin_memory: expected a tensor on the CPU, got one on '{self.device}'; use .cpu() first")
        if self.requires_grad:
            raise GradError("pin_memory: the copy is not recorded; use tensor.detach().pin_memory()")
        return wrap(cuda.pinned(self.array), self.backend)

    def is_pinned(self) -> bool:
        """Whether the tensor lies in page-locked host memory."""
        return self.device.type == "cpu" and cuda.is_pinned(self.array)

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Tensor:
        return self.to("cuda" if device is None else device)

    def float(self) -> Tensor:
        return self.to(dtypes.float32)

    def double(self) -> Tensor:
        return self.to(dtypes.float64)

    def half(self) -> Tensor:
        return self.to(dtypes.float16)

    def bfloat16(self) -> Tensor:
        return self.to(dtypes.bfloat16)

    def int(self) -> Tensor:
        return self.to(dtypes.int32)

    def long(self) -> Tensor:
        return self.to(dtypes.int64)

    def short(self) -> Tensor:
        return self.to(dtypes.int16)

    def bool(self) -> Tensor:
        return self.to(dtypes.bool_)

    def contiguous(self) -> Tensor:
        """Itself if dense and row-major, else a dense copy."""
        return self if self.is_contiguous() else ops.movement.contiguous(self)

    def _like(self, size: Any, value: Any, dtype: Any, device: Any, requires_grad: Any) -> Tensor:
        backend = self.backend if device is None else get(device)
        shape = ops.movement.sizes(size)
        value = value.item() if isinstance(value, Var) else value  # type: ignore[attr-defined]
        numpy = self.array.dtype if dtype is None else dtypes.as_dtype(dtype).numpy
        result = wrap(backend.fill("fill", shape, numpy, value), backend)
        return result.requires_grad_() if requires_grad else result

    def new_zeros(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False) -> Tensor:
        """Zeros of this tensor's dtype and device."""
        return self._like(size, 0, dtype, device, requires_grad)

    def new_ones(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False) -> Tensor:
        """Ones of this tensor's dtype and device."""
        return self._like(size, 1, dtype, device, requires_grad)

    def new_empty(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False) -> Tensor:
        """Memory of this tensor's dtype and device, filled with zeros."""
        return self._like(size, 0, dtype, device, requires_grad)

    def new_full(self, size: Any, value: Any, dtype: Any = None, device: Any = None,
                 requires_grad: Any = False) -> Tensor:
        """A constant of this tensor's dtype and device."""
        return self._like((size,), value, dtype, device, requires_grad)

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False) -> Tensor:
        """A copy of data, by default in this tensor's dtype and device."""
        return Tensor(data, dtype=self.dtype if dtype is None else dtype,
                      device=self.device if device is None else device, requires_grad=requires_grad)

    # --- Python's protocols -------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        return ops.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if inplace.is_recorded(self, value):
            inplace.change(self, ops.setitem, key, value)
        else:
            inplace.check_writable(self, "setitem")
            self._bump()
            ops.setitem_raw(self, key, value)

    def __len__(self) -> Any:
        if self.ndim == 0:
            raise DTypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise DTypeError("iteration over a 0-d tensor")
        return iter(ops.unbind(self))

    def __contains__(self, value: Any) -> Any:
        return bool((self == value).any())

    def __bool__(self) -> Any:
        if self.array.size != 1:
            raise ShapeError(f"Boolean value of Tensor with {'no' if self.array.size == 0 else 'more than one'} value "
                             f"is ambiguous (shape {self.shape}); use .any() or .all()")
        return bool(self.item())

    def __float__(self) -> Any:
        return float(self.item())

    def __int__(self) -> Any:
        return int(self.item())

    def __index__(self) -> Any:
        if self.dtype.is_floating_point or self.array.size != 1:
            raise DTypeError("only integer tensors of a single element can be an index, "
                             f"got {self.dtype.name} {self.shape}")
        return operator.index(self.item())

    def __format__(self, spec: str) -> str:
        number = self.ndim == 0 and (spec or type(self) is Tensor)  # f"{loss}" is a number, f"{parameter}" its text
        return format(self.item(), spec) if number else object.__format__(self, spec)

    def __repr__(self) -> str:
        return printing.format_tensor(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Tensor:
        return self._rebuilt(self.backend.copy(self.array), memo)

    def _rebuilt(self, array: Array, memo: dict[Any, Any]) -> Tensor:
        if not self.is_leaf:
            raise GradError("only leaf tensors support deepcopy and pickling; use .detach() or .clone().detach() first")
        result = object.__new__(type(self))
        memo[id(self)] = result
        result.array, result.backend = array, self.backend
        result._requires_grad = self._requires_grad
        result._grad = None if self._grad is None else self._grad.__deepcopy__(memo)
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.is_leaf:
            raise GradError("only leaf tensors support deepcopy and pickling; use .detach() or .clone().detach() first")
        values = np.ascontiguousarray(self.backend.to_numpy(self.array)).reshape(self.shape)
        return _unpickled, (type(self), values, str(self.device), self._requires_grad)

    def __dir__(self) -> list[str]:
        return [name for name in object.__dir__(self) if not name.startswith("_abc")]


def _unpickled(cls: type[Tensor], values: np.ndarray, device: str, requires_grad: Any) -> Tensor:
    result = object.__new__(cls)
    result.backend = get(device)
    result.array = result.backend.from_numpy(values)
    result._requires_grad = requires_grad
    return result


def as_array(data: Any, dtype: Any, backend: Backend, copy: Any) -> Array:
    """Data of any kind as a raw array: Tensors, NumPy arrays, DLPack objects, nested lists, numbers.

    Python floats give the default dtype, integers int64; arrays keep their dtype. Raises ShapeError for ragged lists.
    """
    wanted = None if dtype is None else dtypes.as_dtype(dtype).numpy
    if isinstance(data, Var):
        moved = data.array if data.backend is backend else backend.from_numpy(data.backend.to_numpy(data.array))
        wanted = moved.dtype if wanted is None else wanted
        return backend.fill("copy", moved.shape, wanted, moved) if copy else backend.cast(moved, wanted)
    if isinstance(data, (np.ndarray, np.generic)):
        values = np.asarray(data)
        if not values.dtype.isnative:
            values = values.astype(values.dtype.newbyteorder("="))
    else:
        values = _from_python(data)
        if wanted is None and values.dtype == np.float64:
            wanted = dtypes.get_default_dtype().numpy
        if wanted is not None and wanted.kind in "iu" and values.size:
            _refuse_overflow(values, wanted)
    dtypes.from_numpy(values.dtype)  # refuses what no tensor can hold
    wanted = values.dtype if wanted is None else wanted
    if copy:
        return backend.fill("copy", values.shape, wanted, backend.from_numpy(values))
    return backend.cast(backend.from_numpy(values), wanted)


def _refuse_overflow(values: np.ndarray, wanted: np.dtype[Any]) -> None:
    limits = dtypes.iinfo(wanted)
    for value in (values.min(), values.max()):
        if not limits.min <= value <= limits.max:
            raise DTypeError(f"the value {value} does not fit {limits.dtype.name} ({limits.min} to {limits.max})")


def _from_python(data: Any) -> np.ndarray:
    if hasattr(data, "__dlpack__"):
        return np.from_dlpack(data)
    try:
        values = np.array(_without_tensors(data))
    except ValueError as error:
        raise ShapeError(f"a tensor needs rectangular data, got a ragged sequence: {error}") from None
    if values.dtype == object or values.dtype.kind in "USV":
        raise DTypeError(f"cannot make a tensor of {type(data).__name__} with elements of type "
                         f"{type(values.flat[0]).__name__ if values.size else 'object'}; numbers and bools are taken")
    return values.astype(np.float64) if values.size == 0 else values


def _without_tensors(data: Any) -> Any:
    """Nested sequences with the tensors in them as arrays."""
    if isinstance(data, Var):
        return data.backend.to_numpy(data.array)
    if isinstance(data, (list, tuple)):
        return [_without_tensors(d) if isinstance(d, (Var, list, tuple)) else d for d in data]
    return data


set_tensor_class(Tensor)
