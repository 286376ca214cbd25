"""Recurrent layers and packed sequences against torch: outputs, gradients, names; dropout, capture, errors."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, ops
from tensorlite.errors import ArgumentError, DTypeError, ShapeError
from tensorlite.nn.utils import rnn as R
from tensorlite.testing import gradcheck, gradgradcheck

STEPS, BATCH, IN, HIDDEN = 4, 3, 5, 6
LENGTHS = [2, 4, 1]
GRID = [
    *[(name, options) for name in ("RNN", "GRU", "LSTM") for options in (
        {}, {"bias": False}, {"num_layers": 2}, {"bidirectional": True}, {"batch_first": True},
        {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False})],
    ("RNN", {"nonlinearity": "relu"}),
    ("RNN", {"nonlinearity": "relu", "bidirectional": True, "num_layers": 2}),
    ("LSTM", {"proj_size": 2}),
    ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True, "bias": False}),
]
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
every_layer = pytest.mark.parametrize(("name", "options"), GRID, ids=str)
CELLS = [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu", "bias": False}), ("GRUCell", {}),
         ("GRUCell", {"bias": False}), ("LSTMCell", {}), ("LSTMCell", {"bias": False})]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)


def twins(name: str, sizes: tuple[int, ...], options: dict[str, Any], dtype: str, device: str) -> tuple[Any, Any]:
    """The same layer twice, with torch's weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*sizes, **options).to(getattr(torch, dtype))
    ours = getattr(nn, name)(*sizes, **options)
    ours.load_state_dict({key: tl.tensor(value.numpy()) for key, value in theirs.state_dict().items()})
    return ours.to(device=device, dtype=getattr(tl, dtype)), theirs


def both(array: np.ndarray, dtype: str, device: str) -> tuple[tl.Tensor, Any]:
    torch = pytest.importorskip("torch")
    array = array.astype(dtype)
    return tl.tensor(array, device=device, requires_grad=True), torch.tensor(array, requires_grad=True)


def flat(result: Any) -> list[Any]:
    if isinstance(result, tuple):
        return [x for part in result for x in flat(part)]
    return [result]


def compare(ours: Any, theirs: Any, run: Callable[[Any, Any], Any], arrays: list[np.ndarray], dtype: str,
            device: str) -> None:
    """Outputs, and gradients of inputs and parameters for one loss."""
    pairs = [both(a, dtype, device) for a in arrays]
    mine, wanted = flat(run(ours, [a for a, _ in pairs])), flat(run(theirs, [b for _, b in pairs]))
    tolerance = TOLERANCE[dtype]
    loss: Any = 0
    reference: Any = 0
    for k, (a, b) in enumerate(zip(mine, wanted, strict=True)):
        assert a.shape == tuple(b.shape)
        np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().numpy(), tolerance, tolerance)
        if b.requires_grad:
            weight, other = both(drawn(*a.shape, seed=7 + k), dtype, device)
            loss, reference = loss + (a * weight.detach()).sum(), reference + (b * other.detach()).sum()
    loss.backward()
    reference.backward()
    parameters = zip(ours.named_parameters(), theirs.named_parameters(), strict=True)
    for (key, p), (other_key, q) in parameters:
        assert (key, p.shape) == (other_key, tuple(q.shape))
        np.testing.assert_allclose(p.grad.cpu().numpy(), q.grad.numpy(), 20 * tolerance, 20 * tolerance, err_msg=key)
    for a, b in pairs:
        np.testing.assert_allclose(a.grad.cpu().numpy(), b.grad.numpy(), 10 * tolerance, 10 * tolerance)


def states_of(name: str, options: dict[str, Any], batch: tuple[int, ...]) -> list[np.ndarray]:
    rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    widths = [options.get("proj_size") or HIDDEN] + ([HIDDEN] if name == "LSTM" else [])
    return [drawn(rows, *batch, width, seed=k + 1) for k, width in enumerate(widths)]


def hx(name: str, states: list[Any]) -> Any:
    return tuple(states) if name == "LSTM" else states[0]


@every_layer
@pytest.mark.parametrize(("dtype", "with_states"), [("float32", False), ("float64", True)])
def test_layers_equal_torch(name: str, options: dict[str, Any], dtype: str, with_states: bool, device: str) -> None:
    ours, theirs = twins(name, (IN, HIDDEN), options, dtype, device)
    shape = (BATCH, STEPS, IN) if options.get("batch_first") else (STEPS, BATCH, IN)
    arrays = [drawn(*shape), *(states_of(name, options, (BATCH,)) if with_states else [])]
    compare(ours, theirs, lambda layer, x: layer(x[0], *([hx(name, x[1:])] if with_states else [])), arrays, dtype,
            device)


@every_layer
def test_a_single_sequence_needs_no_batch(name: str, options: dict[str, Any], device: str) -> None:
    ours, theirs = twins(name, (IN, HIDDEN), options, "float64", device)
    arrays = [drawn(STEPS, IN), *states_of(name, options, ())]
    compare(ours, theirs, lambda layer, x: layer(x[0], hx(name, x[1:])), arrays, "float64", device)


@every_layer
@pytest.mark.parametrize("with_states", [False, True])
def test_packed_sequences_equal_torch(name: str, options: dict[str, Any], with_states: bool, device: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = twins(name, (IN, HIDDEN), options, "float64", device)
    arrays = [drawn(STEPS, BATCH, IN), *(states_of(name, options, (BATCH,)) if with_states else [])]

    def run(layer: Any, x: list[Any]) -> Any:
        library = R if isinstance(layer, nn.Module) else torch.nn.utils.rnn
        packed = library.pack_padded_sequence(x[0], LENGTHS, enforce_sorted=False)
        y, last = layer(packed, *([hx(name, x[1:])] if with_states else []))
        padded, lengths = library.pad_packed_sequence(y, batch_first=True, padding_value=-2.0, total_length=6)
        return y.data, padded, lengths, last

    compare(ours, theirs, run, arrays, "float64", device)


@pytest.mark.parametrize(("name", "options"), CELLS, ids=str)
@pytest.mark.parametrize(("batch", "with_states"), [((BATCH,), True), ((BATCH,), False), ((), True), ((), False)])
def test_cells_equal_torch(name: str, options: dict[str, Any], batch: tuple[int, ...], with_states: bool,
                           device: str) -> None:
    for dtype in TOLERANCE:
        ours, theirs = twins(name, (IN, HIDDEN), options, dtype, device)
        states = [drawn(*batch, HIDDEN, seed=k) for k in range(2 if name == "LSTMCell" else 1)]

        def run(layer: Any, x: list[Any]) -> Any:
            return layer(x[0], *([hx(name[:-4], x[1:])] if with_states else []))

        compare(ours, theirs, run, [drawn(*batch, IN), *(states if with_states else [])], dtype, device)


@pytest.mark.parametrize(("name", "options"), [*GRID, *CELLS], ids=str)
def test_names_and_repr_are_those_of_torch(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(IN, HIDDEN, **options), getattr(torch.nn, name)(IN, HIDDEN, **options)
    assert repr(ours) == repr(theirs)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()]
    if not name.endswith("Cell"):
        assert ours.mode == theirs.mode
        assert [[w.shape for w in ws] for ws in ours.all_weights] == [
            [tuple(w.shape) for w in ws] for ws in theirs.all_weights]
        ours.flatten_parameters()


@pytest.mark.parametrize(("name", "options"), [*GRID, *CELLS], ids=str)
def test_parameters_start_within_the_bound(name: str, options: dict[str, Any]) -> None:
    tl.manual_seed(0)
    values = np.concatenate([p.detach().numpy().ravel() for p in getattr(nn, name)(20, 16, **options).parameters()])
    assert np.abs(values).max() <= 0.25
    assert np.abs(values).max() > 0.24
    assert abs(values.std() - 0.25 / np.sqrt(3)) < 0.01


@pytest.mark.parametrize("options", [{"num_layers": 2, "bidirectional": True}, {"proj_size": 1, "batch_first": True}],
                         ids=str)
def test_derivatives_of_a_layer(options: dict[str, Any], device: str) -> None:
    layer = nn.LSTM(2, 2, dtype=tl.float64, device=device, **options)
    x = tl.tensor(drawn(2, 2, 2), device=device, requires_grad=True)
    assert gradcheck(lambda x: layer(x)[0], x)
    assert gradgradcheck(lambda x: layer(x)[0], x, fast_mode=True)


def test_the_second_derivative_of_inputs_that_are_made_of_each_other(device: str) -> None:
    w = [tl.tensor(drawn(*shape), device=device, requires_grad=True) for shape in ((2, 2), (2, 2))]
    x = tl.tensor(drawn(3, 1, 2), device=device, requires_grad=True)
    function = lambda x, w, u: ops.rnn(x, x[0] * 2, w, u + w)[0]  # noqa: E731
    assert gradcheck(function, [x, *w])
    assert gradgradcheck(function, [x, *w])


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("reverse", [False, True])
def test_differentiable_gradients_are_those_of_the_loop(name: str, reverse: bool, device: str) -> None:
    """Also where the first state is made of the input: its part in the gradient counts once."""
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[name]
    x, w, u = (tl.tensor(drawn(*shape), device=device, requires_grad=True)
               for shape in ((3, 2, 2), (2 * gates, 2), (2 * gates, 2)))
    states = [x[0] * 2] + ([x[1] * u[0, 0]] if name == "lstm" else [])
    outputs = getattr(ops, name)(x, *states, w, u, reverse=reverse, batch_sizes=(2, 1, 1))
    loss = sum((y * y).sum() for y in outputs)
    once = tl.autograd.grad(loss, [x, w, u], retain_graph=True)
    for a, b in zip(once, tl.autograd.grad(loss, [x, w, u], create_graph=True), strict=True):
        np.testing.assert_allclose(a.cpu().numpy(), b.detach().cpu().numpy(), 1e-12, 1e-12)


# --- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_dropout_acts_between_layers_in_training_only(name: str, device: str) -> None:
    x = tl.tensor(drawn(STEPS, BATCH, IN), device=device, dtype=tl.float32)
    layer = getattr(nn, name)(IN, HIDDEN, 2, dropout=1.0).to(device)
    first = getattr(nn, name)(IN, HIDDEN).to(device)
    first.load_state_dict({k: v for k, v in layer.state_dict().items() if k.endswith("l0")})
    second = getattr(nn, name)(HIDDEN, HIDDEN).to(device)
    second.load_state_dict({k.replace("l1", "l0"): v for k, v in layer.state_dict().items() if k.endswith("l1")})
    dropped, kept = layer(x)[0], layer.eval()(x)[0]
    assert tl.equal(dropped, second(first(x)[0] * 0)[0])
    assert tl.equal(kept, second(first(x)[0])[0])


def test_dropout_of_half_changes_with_the_seed(device: str) -> None:
    layer, x = nn.GRU(IN, HIDDEN, 2, dropout=0.5).to(device), tl.ones(STEPS, BATCH, IN, device=device)
    results = []
    for seed in (1, 1, 2):
        tl.manual_seed(seed)
        results.append(layer(x)[0])
    assert tl.equal(results[0], results[1])
    assert not tl.equal(results[0], results[2])


def test_dropout_that_does_nothing_warns() -> None:
    with pytest.warns(UserWarning, match="dropout=0.5 does nothing"):
        nn.LSTM(2, 3, dropout=0.5)


# --- captured steps, mixed precision, memory -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), [("RNN", {}), ("GRU", {"bidirectional": True}),
                                               ("LSTM", {"num_layers": 2, "dropout": 0.3})], ids=str)
def test_captured_steps_equal_eager_ones(name: str, options: dict[str, Any], device: str) -> None:
    losses = []
    for captured in (False, True):
        tl.manual_seed(3)
        layer = getattr(nn, name)(IN, HIDDEN, **options).to(device)
        optimizer = tl.optim.SGD(layer.parameters(), lr=0.1)

        def step(x: tl.Tensor, layer: Any = layer, optimizer: Any = optimizer) -> tl.Tensor:
            loss = layer(x)[0].square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = tl.capture(step) if captured else step
        losses.append([run(tl.tensor(drawn(STEPS, BATCH, IN, seed=k), device=device, dtype=tl.float32)).item()
                       for k in range(5)])
    assert losses[0] == losses[1]


def test_packed_sequences_are_refused_in_captured_steps(device: str) -> None:
    layer, packed = nn.GRU(2, 3).to(device), R.pack_sequence([tl.zeros(2, 2, device=device)])
    step = tl.capture(lambda packed: layer(packed)[0].data)
    step(packed)
    with pytest.raises((tl.CaptureError, tl.DeviceError), match=r"on the host|on device 'cpu'"):
        step(packed)


def test_autocast_runs_layers_in_16_bits(device: str) -> None:
    kind = tl.device(device).type
    layer = nn.LSTM(IN, HIDDEN).to(device)
    x = tl.tensor(drawn(STEPS, BATCH, IN), device=device, dtype=tl.float32)
    exact = layer(x)[0]
    with tl.autocast(kind, tl.bfloat16):
        y, _ = layer(x)
    assert y.dtype is tl.bfloat16
    np.testing.assert_allclose(y.detach().float().cpu().numpy(), exact.detach().cpu().numpy(), atol=0.02)
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype is tl.float32 for p in layer.parameters())


def test_backward_twice_and_after_a_change_of_the_result(device: str) -> None:
    layer = nn.GRU(IN, HIDDEN).to(device)
    y, _ = layer(tl.ones(STEPS, BATCH, IN, device=device))
    y.sum().backward(retain_graph=True)
    first = layer.weight_hh_l0.grad.clone()
    layer.zero_grad()
    y.sum().backward()
    assert tl.equal(layer.weight_hh_l0.grad, first)
    y, _ = layer(tl.ones(STEPS, BATCH, IN, device=device))
    with tl.no_grad():
        y.mul_(2)
    with pytest.raises(tl.GradError):
        y.sum().backward()


def test_only_wanted_gradients_are_made(device: str) -> None:
    x, h, c, w, u, b = (tl.tensor(drawn(*shape), device=device, requires_grad=True)
                        for shape in ((2, 1, 2), (1, 2), (1, 2), (8, 2), (8, 2), (8,)))
    everything = tl.autograd.grad(ops.lstm(x, h, c, w, u, b)[0].sum(), [x, h, c, w, u, b])
    for k, one in enumerate((x, h, c, w, u, b)):
        detached = [t if t is one else t.detach() for t in (x, h, c, w, u, b)]
        g, = tl.autograd.grad(ops.lstm(*detached)[0].sum(), one)
        assert tl.equal(g, everything[k])


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_an_empty_batch_has_zero_gradients(name: str, device: str) -> None:
    layer = getattr(nn, name)(IN, HIDDEN).to(device)
    y, _ = layer(tl.zeros(STEPS, 0, IN, device=device))
    assert y.shape == (STEPS, 0, HIDDEN)
    y.sum().backward()
    assert all(not p.grad.any() for p in layer.parameters())


# --- sequences -------------------------------------------------------------------------------------------------------


def sequences(device: str, *trailing: int) -> list[tl.Tensor]:
    return [tl.tensor(drawn(n, *trailing, seed=n), device=device, requires_grad=True) for n in LENGTHS]


@pytest.mark.parametrize(("batch_first", "side"), [*itertools.product([False, True], ["right", "left"])])
def test_pad_sequence_equals_torch(batch_first: bool, side: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    for trailing in ((), (2,), (2, 3)):
        mine = sequences(device, *trailing)
        theirs = [torch.tensor(s.detach().cpu().numpy(), requires_grad=True) for s in mine]
        a = R.pad_sequence(mine, batch_first, -1.5, side)
        b = torch.nn.utils.rnn.pad_sequence(theirs, batch_first, -1.5, side)
        np.testing.assert_array_equal(a.detach().cpu().numpy(), b.detach().numpy())
        a.square().sum().backward()
        b.square().sum().backward()
        for x, y in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(x.grad.cpu().numpy(), y.grad.numpy())


@pytest.mark.parametrize("batch_first", [False, True])
def test_packing_equals_torch_and_comes_back(batch_first: bool, device: str) -> None:
    torch = pytest.importorskip("torch")
    mine = sequences(device, 2)
    theirs = [torch.tensor(s.detach().cpu().numpy()) for s in mine]
    padded = R.pad_sequence(mine, batch_first)
    packed = R.pack_padded_sequence(padded, tl.tensor(LENGTHS), batch_first, enforce_sorted=False)
    wanted = torch.nn.utils.rnn.pack_sequence(theirs, enforce_sorted=False)
    for a, b in zip(packed, wanted, strict=True):
        np.testing.assert_array_equal(a.detach().cpu().numpy(), b.numpy())
    back, lengths = R.pad_packed_sequence(packed, batch_first)
    assert tl.equal(back, padded)
    assert lengths.tolist() == LENGTHS
    for a, b in zip(R.unpack_sequence(R.pack_sequence(mine, enforce_sorted=False)), mine, strict=True):
        assert tl.equal(a, b)
    back.square().sum().backward()
    for x in mine:
        assert x.grad is not None and tl.equal(x.grad, 2 * x)


def test_sorted_sequences_keep_no_order(device: str) -> None:
    packed = R.pack_sequence([tl.ones(3, 2, device=device), tl.ones(1, 2, device=device)])
    assert packed.sorted_indices is None and packed.unsorted_indices is None
    half = packed.to(tl.float16)
    assert half.data.dtype is tl.float16 and half.batch_sizes.tolist() == [2, 1, 1]
    assert R.pack_sequence([tl.ones(1), tl.ones(2)], enforce_sorted=False).to(device).sorted_indices.tolist() == [1, 0]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.LSTM(2, 0), ArgumentError, "greater than zero"),
    (lambda: nn.GRU(2, 3, 0), ArgumentError, "greater than zero"),
    (lambda: nn.RNN(2, 3, dropout=1.5), ArgumentError, r"range \[0, 1\]"),
    (lambda: nn.LSTM(2, 3, proj_size=3), ArgumentError, "smaller than hidden_size"),
    (lambda: nn.RNN(2, 3, nonlinearity="gelu"), ArgumentError, "Unknown nonlinearity 'gelu'"),
    (lambda: nn.RNNCell(2, 3, nonlinearity="gelu"), ArgumentError, "Unknown nonlinearity 'gelu'"),
    (lambda: nn.RNNBase(2, 3)(tl.zeros(1, 1, 2)), NotImplementedError, ""),
    (lambda: nn.LSTM(2, 3)(tl.zeros(2, 2, 5)), ShapeError, "expected 2, got 5"),
    (lambda: nn.LSTM(2, 3)(tl.zeros(2)), ShapeError, "2D or 3D, got 1D"),
    (lambda: nn.LSTM(2, 3)(tl.zeros(0, 1, 2)), ShapeError, "at least one step"),
    (lambda: nn.LSTM(2, 3)(tl.zeros(4, 1, 2), tl.zeros(1, 1, 3)), ArgumentError, r"pair \(h0, c0\)"),
    (lambda: nn.LSTM(2, 3)(tl.zeros(4, 1, 2), (tl.zeros(1, 1, 3), tl.zeros(1, 2, 3))), ShapeError,
     r"expected c0 of shape \(1, 1, 3\)"),
    (lambda: nn.GRU(2, 3)(tl.zeros(4, 1, 2), tl.zeros(1, 3)), ShapeError, "states of 3 dimensions"),
    (lambda: nn.GRU(2, 3)(R.pack_sequence([tl.zeros(2, 4)])), ShapeError, "expected 2, got 4"),
    (lambda: nn.GRU(2, 3)(tl.zeros(4, 1, 2, dtype=tl.float64)), DTypeError, "gru: expected operands of one dtype"),
    (lambda: nn.GRUCell(2, 3)(tl.zeros(1, 1, 2)), ShapeError, "1D or 2D, got 3D"),
    (lambda: nn.GRUCell(2, 3)(tl.zeros(4)), ShapeError, "got 4, expected 2"),
    (lambda: nn.LSTMCell(2, 3)(tl.zeros(4, 2), (tl.zeros(4, 3), tl.zeros(1, 3))), ShapeError, r"of shape \(4, 3\)"),
    (lambda: nn.GRU(2, 3)(tl.zeros(4, 1, 2), (tl.zeros(1, 1, 3),) * 2), ArgumentError, "one tensor h0 .* got tuple"),
    (lambda: nn.RNNCell(2, 3)(tl.zeros(1, 2), (tl.zeros(1, 3),)), ArgumentError, "RNNCell: expected one tensor h0"),
    (lambda: nn.RNN(2, 3)((tl.zeros(4, 1, 2), None)), DTypeError, "RNN: expected a Tensor, got tuple"),
    (lambda: nn.LSTMCell(2, 3)(np.zeros((1, 2))), DTypeError, "LSTMCell: expected a Tensor, got ndarray"),
    (lambda: nn.LSTM(0, 3), ArgumentError, "input_size, .* greater than zero, got 0, 3 and 1"),
    (lambda: R.pack_padded_sequence(tl.zeros(3, 2), tl.tensor([[3], [1]])), ShapeError, "one dimension, got shape"),
    (lambda: R.pad_sequence([]), ArgumentError, "at least one sequence"),
    (lambda: R.pad_sequence([tl.zeros(1)], padding_side="top"), ArgumentError, "'right' or 'left'"),
    (lambda: R.pack_padded_sequence(tl.zeros(3, 2), [1, 2]), ArgumentError, "enforce_sorted=False"),
    (lambda: R.pack_padded_sequence(tl.zeros(3, 2), [4, 2]), ArgumentError, "between 1 and 3"),
    (lambda: R.pack_padded_sequence(tl.zeros(3, 2), [2, 0]), ArgumentError, "between 1 and 3"),
    (lambda: R.pack_padded_sequence(tl.zeros(3, 2), [2]), ShapeError, "expected 2 lengths"),
    (lambda: R.pad_packed_sequence(R.pack_sequence([tl.zeros(3)]), total_length=2), ArgumentError, "total_length 2"),
])
def test_errors(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(error, match=message):
            make()
