"""For tests: numerical gradients, comparison of results, the devices present. Public, as `tl.testing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import autograd, dtypes, sampling
from .backends import get
from .creation import from_numpy
from .errors import ArgumentError, DeviceError, DTypeError, GradError
from .random import Generator
from .tensor import Tensor

# How far results of one dtype may lie apart unless told otherwise: (rtol, atol), PyTorch's.
TOLERANCES = {
    dtypes.float16: (1e-3, 1e-5), dtypes.bfloat16: (1.6e-2, 1e-5), dtypes.float32: (1.3e-6, 1e-5),
    dtypes.float64: (1e-7, 1e-7),
}


def devices() -> list[str]:
    """The names of the devices that can be used here, 'cpu' first.

    >>> tl.testing.devices()[0]
    'cpu'
    """
    present = []
    for name in ("cpu", "cuda:sim", "cuda"):
        try:
            get(name)
        except DeviceError:
            continue
        present.append(name)
    return present


def assert_close(actual: Any, expected: Any, *, rtol: float | None = None, atol: float | None = None,
                 equal_nan: bool = False, check_dtype: bool = True, check_device: bool = True) -> None:
    """Raise AssertionError unless |actual - expected| <= atol + rtol·|expected| in every element.

    Takes Tensors, NumPy arrays, numbers, and lists and tuples of them. Shapes must be equal, and dtypes and devices
    where both have one (unless not checked). The default tolerance follows the coarser dtype; integers must be equal.

    >>> tl.testing.assert_close(tl.tensor([1.0, 2.0]), tl.tensor([1.0, 2.0 + 1e-6]))
    """
    if isinstance(actual, (list, tuple)) and isinstance(expected, (list, tuple)):
        if len(actual) != len(expected):
            raise AssertionError(f"lengths differ: {len(actual)} and {len(expected)}")
        for a, e in zip(actual, expected, strict=True):
            assert_close(a, e, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=check_dtype,
                         check_device=check_device)
        return
    if check_device and len({x.device for x in (actual, expected) if isinstance(x, Tensor)}) == 2:
        raise AssertionError(f"devices differ: '{actual.device}' and '{expected.device}'")
    a, e = _as_numpy(actual), _as_numpy(expected)
    kinds = [dtypes.from_numpy(x.dtype) for x, given in ((a, actual), (e, expected)) if hasattr(given, "dtype")]
    if check_dtype and len(kinds) == 2 and kinds[0] is not kinds[1]:
        raise AssertionError(f"dtypes differ: {kinds[0].name} and {kinds[1].name}")
    if a.shape != e.shape:
        raise AssertionError(f"shapes differ: {a.shape} and {e.shape}")
    defaults = [TOLERANCES.get(kind, (0.0, 0.0)) for kind in kinds or [dtypes.float64]]
    rtol = max(d[0] for d in defaults) if rtol is None else rtol
    atol = max(d[1] for d in defaults) if atol is None else atol
    _assert_values(a, e, rtol, atol, equal_nan)


def _as_numpy(value: Any) -> np.ndarray:
    return value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)


def _assert_values(a: np.ndarray, e: np.ndarray, rtol: float, atol: float, equal_nan: bool) -> None:
    if a.dtype.kind in "biu" and e.dtype.kind in "biu" and not (rtol or atol):
        wrong = a != e  # exact: int64 does not fit a float64
    else:
        a, e = a.astype(np.float64), e.astype(np.float64)
        wrong = ~np.isclose(a, e, rtol, atol, equal_nan=equal_nan)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        raise AssertionError(f"{int(wrong.sum())} of {a.size} values differ, the first at {at}: {a[at]} and {e[at]} "
                             f"(allowed: {atol} + {rtol}·|expected|)")


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, fast_mode: bool = False) -> bool:
    """Whether the gradients of `func(*inputs)` agree with central differences (f(x + eps) - f(x - eps)) / 2·eps.

    Inputs that require grad are checked, and must be float64 (else DTypeError). The whole Jacobian is compared; with
    `fast_mode` one random projection of it. Also checked: a second backward gives the same bits, and the incoming
    gradient is not changed. Raises GradError where a check fails, or returns False if not `raise_exception`;
    ArgumentError if no input requires grad.

    >>> x = tl.tensor([0.5, 2.0], dtype=tl.float64, requires_grad=True)
    >>> tl.testing.gradcheck(lambda x: (x * x).sum(), x)
    True
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    try:
        _check(func, args, eps, atol, rtol, fast_mode)
    except GradError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6,
                  atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
                  fast_mode: bool = False) -> bool:
    """`gradcheck` of the gradients of `func`, as a function of the inputs and of the incoming gradients.

    `grad_outputs` are those incoming gradients; random ones unless given.

    >>> x = tl.tensor([0.5, 2.0], dtype=tl.float64, requires_grad=True)
    >>> tl.testing.gradgradcheck(lambda x: x ** 3, x)
    True
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if grad_outputs is None:
        random = Generator().manual_seed(0)
        outputs = [o for o in _floating(func(*args)) if o.requires_grad]
        incoming = [sampling.randn(o.shape, generator=random, dtype=o.dtype).to(o.device).requires_grad_()
                    for o in outputs]
    else:
        incoming = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)

    def gradients(*values: Any) -> Any:
        first, last = values[:len(args)], values[len(args):]
        outputs = [o for o in _floating(func(*first)) if o.requires_grad]
        return autograd.grad(outputs, _differentiable(first), list(last), create_graph=True, materialize_grads=True)

    return gradcheck(gradients, (*args, *incoming), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     fast_mode=fast_mode)


def _differentiable(inputs: tuple[Any, ...]) -> list[Tensor]:
    return [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]


def _floating(outputs: Any) -> list[Tensor]:
    listed = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [o for o in listed if isinstance(o, Tensor) and o.is_floating_point()]


def _check(func: Callable[..., Any], inputs: tuple[Any, ...], eps: float, atol: float, rtol: float, fast: bool) -> None:
    checked = _differentiable(inputs)
    if not checked:
        raise ArgumentError("gradcheck: no input requires grad; make one with requires_grad=True")
    for x in checked:
        if x.dtype is not dtypes.float64:
            raise DTypeError(f"gradcheck: differences need float64, got an input of {x.dtype.name}; use .double()")
    random = np.random.default_rng(0)
    outputs = _floating(func(*inputs))
    weights = [_directions(o.numel(), fast, random) for o in outputs]
    exact = [_gradients(o, w, checked) for o, w in zip(outputs, weights, strict=True)]
    position = 0
    for i, x in enumerate(inputs):
        if not any(x is c for c in checked):
            continue
        directions = _directions(x.numel(), fast, random)
        numeric = _differences(func, inputs, i, directions, eps, [o.numel() for o in outputs])
        for j, w in enumerate(weights):
            n, a = numeric[j] @ w.T, directions @ exact[j][position].T
            if not np.allclose(a, n, rtol, atol):
                raise GradError(f"gradcheck: the Jacobian of output {j} for input {i} is wrong by up to "
                                f"{np.max(np.abs(a - n))}\nnumerical:\n{n}\nfrom backward:\n{a}")
        position += 1


def _directions(n: int, fast: bool, random: np.random.Generator) -> np.ndarray:
    """Unit vectors of all n coordinates, or one random vector."""
    return random.standard_normal((1, n)) if fast else np.eye(n)


def _differences(func: Callable[..., Any], inputs: tuple[Any, ...], i: int, directions: np.ndarray, eps: float,
                 sizes: list[int]) -> list[np.ndarray]:
    """Per output, (directions, size): its central differences along each direction of input i."""
    x = inputs[i]
    values = x.numpy(force=True)

    def at(step: np.ndarray) -> list[np.ndarray]:
        moved = from_numpy(np.asarray(values + step.reshape(values.shape))).to(x.device).requires_grad_()
        return [o.numpy(force=True).reshape(-1) for o in _floating(func(*inputs[:i], moved, *inputs[i + 1:]))]

    pairs = [(at(eps * d), at(-eps * d)) for d in directions]
    return [np.array([(up[j] - down[j]) / (2 * eps) for up, down in pairs]).reshape(len(directions), size)
            for j, size in enumerate(sizes)]


def _gradients(output: Tensor, weights: np.ndarray, inputs: list[Tensor]) -> list[np.ndarray]:
    """Per input, (weights, numel): the gradient of <weight, output> for each weight, computed twice."""
    rows: list[list[np.ndarray]] = [[] for _ in inputs]
    if not output.requires_grad:
        return [np.zeros((len(weights), x.numel())) for x in inputs]
    for weight in weights:
        incoming = from_numpy(weight.reshape(output.shape).copy()).to(output.device)
        passes: Any = [autograd.grad(output, inputs, incoming, retain_graph=True, materialize_grads=True)
                       for _ in range(2)]
        if not np.array_equal(incoming.cpu().numpy().reshape(-1), weight):
            raise GradError("gradcheck: backward changed the gradient that it was given")
        for row, g, again in zip(rows, *passes, strict=True):
            values = g.numpy(force=True).reshape(-1)
            if not np.array_equal(values, again.numpy(force=True).reshape(-1), equal_nan=True):
                raise GradError("gradcheck: two backward passes gave different gradients")
            row.append(values)
    return [np.array(row).reshape(len(weights), x.numel()) for row, x in zip(rows, inputs, strict=True)]
