"""Convolutions and their layers beside PyTorch's: results, gradients, state and names, over a grid of arguments."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.backends import get

torch = pytest.importorskip("torch")

TOLERANCE = {"float32": 2e-5, "float64": 1e-11}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)
# input and weight shapes, options
GRID: dict[str, list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]] = {
    "conv2d": [
        ((2, 3, 7, 6), (4, 3, 3, 2), {}),
        ((2, 3, 7, 6), (4, 3, 3, 3), {"padding": 1}),
        ((1, 2, 9, 8), (3, 2, 3, 2), {"stride": (2, 3), "padding": (2, 1)}),
        ((2, 2, 9, 11), (3, 2, 3, 2), {"dilation": (2, 3), "padding": (0, 2)}),
        ((2, 2, 9, 11), (3, 2, 2, 3), {"stride": 2, "dilation": 2, "padding": 3}),
        ((3, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
        ((2, 4, 6, 5), (8, 1, 3, 3), {"groups": 4, "stride": (1, 2)}),
        ((2, 5, 4, 4), (3, 5, 1, 1), {}),
        ((2, 5, 5, 4), (3, 5, 1, 1), {"stride": 2}),
        ((2, 3, 5, 6), (2, 3, 3, 3), {"padding": "same"}),
        ((2, 3, 5, 6), (2, 3, 2, 4), {"padding": "same", "dilation": (1, 3)}),
        ((2, 3, 5, 6), (2, 3, 2, 4), {"padding": "valid"}),
        ((3, 5, 6), (2, 3, 2, 2), {"padding": 1}),
        ((1, 1, 3, 3), (1, 1, 5, 5), {"padding": 4}),
        ((0, 2, 4, 4), (3, 2, 3, 3), {}),
        ((1, 1, 1, 40), (14, 1, 1, 5), {"padding": (0, 2)}),
    ],
    "conv1d": [
        ((2, 3, 8), (4, 3, 3), {}),
        ((2, 4, 9), (6, 2, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}),
        ((3, 9), (2, 3, 4), {"padding": "same"}),
    ],
    "conv_transpose2d": [
        ((2, 3, 4, 5), (3, 4, 3, 2), {}),
        ((2, 3, 4, 3), (3, 2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((1, 4, 3, 4), (4, 3, 2, 3), {"stride": (3, 1), "padding": (1, 2), "groups": 2, "dilation": (2, 3)}),
        ((2, 2, 3, 3), (2, 1, 3, 3), {"dilation": 3, "output_padding": (2, 1)}),  # more room than the stride asks for
        ((3, 4, 5), (3, 2, 2, 2), {"stride": 2}),
        ((2, 3, 4, 4), (3, 5, 1, 1), {}),
    ],
    "conv_transpose1d": [
        ((2, 3, 5), (3, 4, 3), {"stride": 2, "output_padding": 1}),
        ((3, 5), (3, 2, 3), {"padding": 1, "dilation": 2}),
    ],
}
CALLS = [(name, *call) for name, calls in GRID.items() for call in calls]
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]} {call[2]} {call[3]}")


@pytest.fixture
def place(device: str) -> str:
    """Each device with kernels for convolutions."""
    if device != "cpu" and "conv2d" not in get(device).kernels:
        pytest.skip("no kernels")
    return device


def leaves(arrays: list[np.ndarray], device: str | None) -> list[Any]:
    """Tensors that require grad: PyTorch's where no device is given."""
    if device is None:
        return [torch.tensor(a, requires_grad=True) for a in arrays]
    return [tl.tensor(a, device=device, requires_grad=True) for a in arrays]


def result_and_gradients(function: Any, inputs: list[Any], second: bool = False) -> list[np.ndarray]:
    """The result and the gradients of Σ result·weights, or with `second` of the sum of the squares of its gradients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's of a copy that 'same' needs
        out = function(*inputs)
    library = torch if isinstance(out, torch.Tensor) else tl
    weights = library.tensor(np.cos(np.arange(out.numel())).reshape(out.shape), dtype=out.dtype, device=out.device)
    weighted = out * weights
    if not second:
        weighted.sum().backward()
    else:
        first = library.autograd.grad((weighted * out).sum(), inputs, create_graph=True)
        sum((g * g).sum() for g in first).backward()
    return [x.detach().cpu().numpy() for x in (out, *[x.grad for x in inputs])]


def operands(name: str, shape: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any],
             dtype: str) -> list[np.ndarray]:
    filters = weight[1] * options.get("groups", 1) if "transpose" in name else weight[0]
    random = np.random.default_rng([*shape, *weight])
    return [random.normal(size=size).astype(dtype) for size in (shape, weight, (filters,))]


def assert_alike(ours: list[np.ndarray], theirs: list[np.ndarray], dtype: str) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        scale = np.max(np.abs(b), initial=1.0)
        np.testing.assert_allclose(a, b, TOLERANCE[dtype], TOLERANCE[dtype] * scale)


@every_dtype
@every_call
def test_results_and_gradients(call: Any, dtype: str, place: str) -> None:
    name, shape, weight, options = call
    arrays = operands(name, shape, weight, options, dtype)
    ours, theirs = getattr(tl, name), getattr(torch.nn.functional, name)
    expected = result_and_gradients(lambda *x: theirs(*x, **options), leaves(arrays, None))
    assert_alike(result_and_gradients(lambda *x: ours(*x, **options), leaves(arrays, place)), expected, dtype)


@every_call
def test_second_gradients(call: Any, place: str) -> None:
    name, shape, weight, options = call
    if place != "cpu" and len(shape) != 4:
        pytest.skip("the same kernels as for other shapes")
    arrays = operands(name, shape, weight, options, "float64")
    ours, theirs = getattr(tl, name), getattr(torch.nn.functional, name)
    expected = result_and_gradients(lambda *x: theirs(*x, **options), leaves(arrays, None), second=True)
    found = result_and_gradients(lambda *x: ours(*x, **options), leaves(arrays, place), second=True)
    assert_alike(found, expected, "float64")


@pytest.mark.parametrize("call", [CALLS[4], CALLS[10], CALLS[18], CALLS[21], CALLS[22]],
                         ids=lambda call: f"{call[0]} {call[3]}")
def test_gradients_are_those_of_differences(call: Any) -> None:
    name, shape, weight, options = call
    inputs = leaves(operands(name, shape, weight, options, "float64"), "cpu")
    assert tl.testing.gradcheck(lambda *x: getattr(tl, name)(*x, **options), inputs)
    assert tl.testing.gradgradcheck(lambda *x: getattr(tl, name)(*x, **options), inputs)


# --- layers ----------------------------------------------------------------------------------------------------------

LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv2d", (3, 6, 5), {}, (2, 3, 8, 9)),
    ("Conv2d", (4, 8, (3, 5), 2, 1, 2, 2, False), {}, (2, 4, 9, 11)),
    ("Conv2d", (3, 4, 3), {"padding": "same", "dtype": "float64"}, (3, 6, 5)),
    ("Conv1d", (3, 6, 3), {"padding": 1, "stride": 2}, (2, 3, 9)),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2), {"dilation": 1}, (2, 4, 5, 4)),
    ("ConvTranspose2d", (3, 2, (2, 3)), {"stride": (1, 3), "bias": False}, (1, 3, 4, 4)),
    ("ConvTranspose1d", (3, 5, 4), {"stride": 3, "output_padding": 2, "dilation": 2}, (2, 3, 6)),
    *[("Conv2d", (2, 3, (3, 2)), {"padding": padding, "padding_mode": mode}, (2, 2, 6, 5))
      for mode, padding in itertools.product(("reflect", "replicate", "circular"), ((1, 2), "same"))],
    ("Conv1d", (2, 3, 4), {"padding": "valid", "padding_mode": "circular"}, (2, 2, 6)),
]


def twins(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    """Our layer and PyTorch's, with PyTorch's parameters."""
    ours = getattr(nn, name)(*args, **{**options, **_dtype(tl, options)})
    theirs = getattr(torch.nn, name)(*args, **{**options, **_dtype(torch, options)})
    ours.load_state_dict({key: tl.tensor(value.numpy()) for key, value in theirs.state_dict().items()})
    return ours, theirs


def _dtype(library: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {"dtype": getattr(library, options["dtype"])} if "dtype" in options else {}


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS)
def test_layers(name: str, args: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...], place: str) -> None:
    ours, theirs = twins(name, args, options)
    assert repr(ours) == repr(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    dtype = options.get("dtype", "float32")
    x = np.random.default_rng(3).normal(size=shape).astype(dtype)
    expected = result_and_gradients(theirs, leaves([x], None))
    expected += [p.grad.numpy() for p in theirs.parameters()]
    ours.to(place)
    found = result_and_gradients(ours, leaves([x], place)) + [p.grad.cpu().numpy() for p in ours.parameters()]
    assert_alike(found, expected, dtype)


def test_transposed_layers_give_the_size_that_is_asked_for() -> None:
    ours, theirs = twins("ConvTranspose2d", (2, 3, 3), {"stride": 2, "padding": 1})
    x = np.ones((1, 2, 4, 5), np.float32)
    for size in ((8, 9), (7, 10), (1, 3, 8, 10)):
        expected = theirs(torch.tensor(x), output_size=size).detach().numpy()
        np.testing.assert_allclose(ours(tl.tensor(x), output_size=size).detach().numpy(), expected, 1e-5, 1e-6)
    with pytest.raises(tl.ShapeError, match=r"output_size \(9, 9\) is not one of \(7, 9\) to \(8, 10\)"):
        ours(tl.tensor(x), output_size=(9, 9))


def test_a_network_trains_as_with_pytorch() -> None:
    """A few steps of a convolutional network, eager and captured, from the same parameters."""
    def network(library: Any) -> Any:
        return library.nn.Sequential(library.nn.Conv2d(1, 4, 3, padding=1), library.nn.ReLU(),
                                     library.nn.Conv2d(4, 6, 3, stride=2), library.nn.Flatten(),
                                     library.nn.Linear(96, 5))

    random = np.random.default_rng(0)
    batches = [random.normal(size=(8, 1, 9, 9)).astype(np.float32) for _ in range(4)]
    labels = random.integers(0, 5, 8)
    theirs = network(torch)
    start = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
    expected = []
    for x in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    for captured in (False, True):
        model = network(tl)
        model.load_state_dict({key: tl.tensor(value) for key, value in start.items()})
        ours = tl.optim.SGD(model.parameters(), 0.1)

        def step(x: tl.Tensor, y: tl.Tensor, model: Any = model, ours: Any = ours) -> tl.Tensor:
            ours.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            ours.step()
            return loss.detach()

        run = tl.capture(step) if captured else step
        found = [run(tl.tensor(x), tl.tensor(labels)).item() for x in batches]
        np.testing.assert_allclose(found, expected, 1e-5)
