"""Fused training operations: they give what their parts give, to the last bit, and keep less."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import amp, nn, ops, random, simulator
from tensorlite.backends import cpu, get
from tensorlite.nn import functional as F
from tensorlite.testing import gradgradcheck


def bits(x: Any) -> bytes:
    return bytes(x.detach().cpu().numpy().tobytes())


def assert_same(results: list[list[Any]], device: str) -> None:
    """The same bits in both results; on a GPU, whose libraries may add a bias before or after rounding, within that."""
    for a, b in zip(*results, strict=True):
        if device != "cuda":
            assert bits(a) == bits(b)
        else:
            tolerance = {2: 2e-2, 4: 1e-5, 8: 1e-12}[a.dtype.itemsize]
            wide = [t.detach().double().cpu().numpy() for t in (a, b)]
            np.testing.assert_allclose(*wide, tolerance, tolerance * np.max(np.abs(wide[0]), initial=1.0))


def draws(seed: int, device: str, start: int = 0) -> tl.Generator:
    return tl.Generator(device).set_state([seed, start])


# --- dropout ----------------------------------------------------------------------------------------------------------


def by_mask(x: tl.Tensor, p: float, generator: tl.Generator) -> tl.Tensor:
    """Dropout as a product with a mask that is kept."""
    mask = tl.empty_like(x)
    random.fill_bernoulli_(mask, 1 - p, generator)
    return x * (mask * (1 / (1 - p) if p < 1 else 0.0))


LAYOUTS: dict[str, Any] = {
    "dense": lambda x: x, "transposed": lambda x: x.t(), "every second": lambda x: x[:, ::2],
    "expanded": lambda x: x[:1].expand(7, -1), "off a boundary": lambda x: x.reshape(-1)[1:], "one": lambda x: x[0, 0],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16, tl.float32, tl.float64], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.75, 1.0])
def test_dropout_is_a_product_with_a_mask(p: float, dtype: Any, layout: Any, device: str) -> None:
    """Values, gradients and the state that the generator is left in."""
    values = tl.tensor(np.random.default_rng(3).normal(size=(6, 43)), dtype=dtype, device=device)
    g = tl.randn_like(layout(values))
    results = []
    for function in (by_mask, ops.dropout):
        x = values.clone().requires_grad_()
        generator = draws(9, device, start=5)
        y = function(layout(x), p, generator)
        y.backward(g)
        results.append([bits(y), bits(x.grad), generator.get_state().tolist()])
    assert results[0] == results[1]


def test_dropout_stays_within_its_memory(device: str) -> None:
    """Calls that differ in one thing, under the simulator's checks."""
    x = tl.randn(6, 43, device=device)
    expected = [by_mask(layout(x), p, draws(1, device)) for layout in LAYOUTS.values() for p in (0.5, 0.25)]
    watched = simulator.check(schedules=1) if device == "cuda:sim" else contextlib.nullcontext()
    with watched:
        actual = [ops.dropout(layout(x), p, draws(1, device)) for layout in LAYOUTS.values() for p in (0.5, 0.25)]
    assert [bits(y) for y in actual] == [bits(y) for y in expected]


def test_dropout_by_the_door_has_a_plan_for_each_chance_and_alignment(device: str) -> None:
    backend = get(device)
    memory = tl.ones(49, device=device).array
    for start, chance, scale in ((0, 0.5, 2.0), (1, 0.5, 2.0), (0, 0.25, 2.0), (0, 0.25, 3.0), (1, 0.25, 3.0)):
        noise = backend.empty(*(((2,), np.dtype(np.int64)) if backend.redraws_masks else ((48,), np.dtype(np.bool_))))
        random.draw(backend, "dropout_noise", noise, generator=draws(3, device), count=48, chance=chance)
        out = backend.empty((48,), np.dtype(np.float32))
        with simulator.check(schedules=1) if device == "cuda:sim" else contextlib.nullcontext():
            backend.run("dropout", out, memory[start:start + 48], noise, chance=chance, scale=scale)
        kept = tl.empty(48)
        random.fill_bernoulli_(kept, chance, draws(3, "cpu"))
        assert backend.to_numpy(out).tolist() == (kept * scale).tolist()


def test_dropout_of_any_number_of_elements(device: str) -> None:
    """The last thread has one to four of them."""
    for count in (*range(1, 10), 1023):
        x = tl.randn(count, device=device)
        assert bits(ops.dropout(x, 0.25, draws(1, device))) == bits(by_mask(x, 0.25, draws(1, device)))


def test_dropout_of_special_values(device: str) -> None:
    """What is dropped is multiplied by 0, as by a mask: NaN and infinities stay visible."""
    x = tl.tensor([np.nan, np.inf, -np.inf, -1.0] * 9, device=device)
    assert bits(ops.dropout(x, 0.5, draws(1, device))) == bits(by_mask(x, 0.5, draws(1, device)))


def test_dropout_of_integers_and_bools_is_floating(device: str) -> None:
    for values in ([3] * 9, [True] * 9):
        out = F.dropout(tl.tensor(values, device=device), 0.5, generator=draws(1, device))
        assert out.dtype is tl.float32
        assert bits(out) == bits(F.dropout(tl.tensor(values, device=device).float(), 0.5, generator=draws(1, device)))


def test_dropout_has_all_higher_derivatives(device: str) -> None:
    x = tl.randn(5, 6, dtype=tl.float64, device=device).requires_grad_()

    def cubed(t: tl.Tensor) -> tl.Tensor:
        return ops.dropout(t * t * t, 0.4, draws(2, device))

    assert gradgradcheck(cubed, [x])


def test_dropout_keeps_a_state_or_a_byte_per_element(device: str) -> None:
    """Nothing but noise is kept, and backward neither draws from the generator nor waits for the device."""
    generator = draws(4, device)
    x = tl.ones(1000, device=device, requires_grad=True)
    y = ops.dropout(x, 0.5, generator)
    (noise, *_), = y._node.saved.values()
    assert noise.nbytes == (16 if get(device).redraws_masks else 1000)
    after = generator.get_state().tolist()
    generator.manual_seed(77)
    y.backward(tl.ones_like(y))
    assert generator.get_state().tolist() == [77, 0] and after == [4, 250]
    assert bits(x.grad) == bits(y)


def test_dropout_in_place_changes_its_input_and_has_its_gradient(device: str) -> None:
    results = []
    for inplace in (False, True):
        x = tl.arange(1.0, 41.0, device=device).requires_grad_()
        hidden = x * 1.0
        out = F.dropout(hidden, 0.5, inplace=inplace, generator=draws(3, device))
        assert (out is hidden) is inplace
        (out * out).sum().backward()
        results.append([bits(out), bits(x.grad)])
    assert results[0] == results[1]


def test_dropout_in_place_refuses_a_leaf_and_integers(device: str) -> None:
    with pytest.raises(tl.GradError, match="a leaf Variable that requires grad"):
        F.dropout(tl.ones(3, device=device, requires_grad=True), 0.5, inplace=True)
    with pytest.raises(tl.DTypeError, match="can't be cast"):
        F.dropout(tl.tensor([1, 2], device=device), 0.5, inplace=True)


def test_the_door_refuses_dropout_of_integers(device: str) -> None:
    backend = get(device)
    if not backend.redraws_masks:
        pytest.skip("NumPy promotes")
    x, state = backend.empty((3,), np.dtype(np.int32)), backend.empty((2,), np.dtype(np.int64))
    with pytest.raises(tl.DTypeError, match=r"dropout does not take \(int32\)"):
        backend.run("dropout", x, x, state, chance=0.5, scale=2.0)


def test_a_checkpoint_draws_dropout_again(device: str) -> None:
    results = []
    for wrapped in (False, True):
        tl.manual_seed(6)
        x = tl.ones(64, device=device, requires_grad=True)

        def block(t: tl.Tensor) -> tl.Tensor:
            return F.dropout(F.dropout(t * t, 0.3), 0.5)

        y = tl.autograd.checkpoint(block, x) if wrapped else block(x)
        tl.rand(9, device=device)
        y.sum().backward()
        results.append([bits(y), bits(x.grad)])
    assert results[0] == results[1]


def test_dropout_of_a_generator_elsewhere_is_refused(device: str) -> None:
    if device == "cpu":
        pytest.skip("needs two devices")
    with pytest.raises(tl.DeviceError, match="the generator is on device 'cpu'"):
        F.dropout(tl.ones(3, device=device), 0.5, generator=tl.Generator())


# --- linear and ReLU --------------------------------------------------------------------------------------------------

SHAPES = {  # x, weight: in the second, sums of columns are split over blocks; one column; no rows; no sums
    "small": ((5, 4), (3, 4)), "many rows": ((3000, 2), (6, 2)), "one column": ((40, 3), (1, 3)), "a batch":
    ((2, 9, 4), (33, 4)), "one row": ((1, 4), (8, 4)), "a vector": ((4,), (8, 4)), "no rows": ((0, 4), (3, 4)),
    "no depth": ((5, 0), (3, 0)), "wide": ((65, 7), (130, 7)),
}


def separate(x: tl.Tensor, weight: tl.Tensor, bias: tl.Tensor | None) -> tl.Tensor:
    return ops.relu(ops.linear(x, weight, bias))


def operands(shapes: Any, with_bias: bool, dtype: Any, device: str) -> list[Any]:
    random = np.random.default_rng(5)
    arrays = [random.normal(size=shape) for shape in (*shapes, shapes[1][:1])]
    tensors = [tl.tensor(a, dtype=dtype, device=device, requires_grad=True) for a in arrays]
    return [*tensors[:2], tensors[2] if with_bias else None]


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", [tl.float16, tl.bfloat16, tl.float32, tl.float64], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_linear_relu_is_linear_then_relu(shapes: Any, dtype: Any, with_bias: bool, device: str) -> None:
    """The same bits: values, gradients, and gradients of gradients."""
    results = []
    for function in (separate, ops.linear_relu):
        inputs = operands(shapes, with_bias, dtype, device)
        given = [x for x in inputs if x is not None]
        y = function(*inputs)
        g = tl.tensor(np.random.default_rng(6).normal(size=y.shape), dtype=dtype, device=device, requires_grad=True)
        first = tl.autograd.grad(y, given, g, retain_graph=True)
        again = tl.autograd.grad(y, given, g, create_graph=True)
        second = tl.autograd.grad([f.square().sum() for f in again], [*given, g], allow_unused=True)
        assert_same([first, again], device)
        results.append([t for t in (y, *first, *second) if t is not None])
    assert_same(results, device)


@pytest.mark.parametrize("needs", [(x, w, b) for x in (0, 1) for w in (0, 1) for b in (0, 1) if x or w or b])
def test_linear_relu_gives_the_gradients_that_are_needed(needs: tuple[int, ...], device: str) -> None:
    results = []
    for function in (separate, ops.linear_relu):
        inputs = [x.detach().requires_grad_(bool(need)) for x, need in zip(
            operands(((6, 4), (5, 4)), True, tl.float32, device), needs, strict=True)]
        function(*inputs).sum().backward()
        assert [x.grad is not None for x in inputs] == list(map(bool, needs))
        results.append([x.grad for x in inputs if x.grad is not None])
    assert_same(results, device)


@pytest.mark.parametrize("wanted", range(3))
def test_linear_relu_gives_one_gradient_that_is_asked_for(wanted: int, device: str) -> None:
    inputs = operands(((6, 4), (5, 4)), True, tl.float32, device)
    expected, = tl.autograd.grad(separate(*inputs).sum(), inputs[wanted])
    actual, = tl.autograd.grad(ops.linear_relu(*inputs).sum(), inputs[wanted])
    assert_same([[expected], [actual]], device)


VIEWS: dict[str, Any] = {  # the first is dense: none of the others may be taken for it
    "dense": lambda t: t, "transposed": lambda t: t.t().contiguous().t(),
    "apart": lambda t: t.repeat_interleave(2, 1)[:, ::2], "expanded": lambda t: t[:, :1].expand(t.shape),
    "off a boundary": lambda t: tl.cat([t.reshape(-1)[:1], t.reshape(-1)])[1:].view(t.shape),
}


def test_linear_relu_of_gradients_of_any_layout(device: str) -> None:
    values = tl.tensor(np.random.default_rng(6).normal(size=(40, 8)), dtype=tl.float32, device=device)
    for view in VIEWS.values():
        results = []
        for function in (separate, ops.linear_relu):
            inputs = operands(((40, 4), (8, 4)), True, tl.float32, device)
            function(*inputs).backward(view(values))
            results.append([x.grad for x in inputs])
        assert_same(results, device)


def test_linear_relu_stays_within_its_memory(device: str) -> None:
    for shapes in SHAPES.values():
        inputs = operands(shapes, True, tl.float32, device)
        with simulator.check(schedules=2) if device == "cuda:sim" else contextlib.nullcontext():
            y = ops.linear_relu(*inputs)
            y.backward(tl.ones_like(y))


def test_linear_relu_of_nan_and_infinity(device: str) -> None:
    """NaN passes the ReLU, and a gradient that is infinite where the ReLU is 0 does not."""
    results = []
    for function in (separate, ops.linear_relu):
        x = tl.tensor([[np.nan], [-1.0], [2.0]], device=device, requires_grad=True)
        weight = tl.tensor([[1.0], [-1.0]], device=device, requires_grad=True)
        bias = tl.zeros(2, device=device, requires_grad=True)
        y = function(x, weight, bias)
        y.backward(tl.tensor([[1.0, np.inf], [np.inf, 1.0], [np.nan, np.inf]], device=device))
        results.append([t.detach().cpu().tolist() for t in (y, x.grad, weight.grad, bias.grad)])
    assert str(results[0]) == str(results[1])


def kernels_of(device: str, function: Any, *args: Any) -> list[str]:
    backend, seen = get(device), []
    before = backend.observers
    backend.observers = (*before, lambda be, kernel, *_: seen.append(kernel))
    try:
        function(*args)
    finally:
        backend.observers = before
    return seen


def test_linear_relu_takes_one_kernel_forward_and_four_back(device: str) -> None:
    inputs = operands(((6, 4), (5, 4)), True, tl.float32, device)
    outputs: list[Any] = []
    assert kernels_of(device, lambda: outputs.append(ops.linear_relu(*inputs))) == ["linear_relu"]
    g = tl.ones_like(outputs[0])
    assert kernels_of(device, outputs[0].backward, g)[:3] == ["relu_bias_grad", "matmul", "matmul"]


def test_launches(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fused: product, then bias and ReLU; slope and sums of columns at once; a mask and its use at once."""
    backend: Any = get(device)
    if not backend.redraws_masks:
        pytest.skip("the device has no kernels of its own")
    x, weight, bias = (t.detach().array for t in operands(((6, 4), (5, 4)), True, tl.float32, device))
    out, slope, total = (backend.empty(shape, x.dtype) for shape in ((6, 5), (6, 5), (5,)))
    noise = backend.empty((2,), np.dtype(np.int64))
    launched: list[Any] = []
    launch = backend.launch
    monkeypatch.setattr(backend, "launch", lambda *args: (launched.append(args[0]), launch(*args))[1])
    backend.run("matmul", out, x, weight.T)
    product = len(launched)  # by cuBLAS: none of ours
    counts = []
    for kernel, to, args, params in (
            ("linear_relu", out, (x, weight, bias), {}), ("relu_bias_grad", (slope, total), (out, out), {}),
            ("dropout_noise", noise, (random.default_for(device)._state,), {"count": 30, "chance": 0.5}),
            ("dropout", slope, (out, noise), {"chance": 0.5, "scale": 2.0})):
        launched.clear()
        backend.run(kernel, to, *args, **params)
        counts.append(len(launched))
    assert counts[0] <= product + 1 and counts[1:] == [1, 1, 1]


def test_linear_relu_walked_twice_says_so(device: str) -> None:
    y = ops.linear_relu(*operands(((6, 4), (5, 4)), True, tl.float32, device)).sum()
    y.backward()
    with pytest.raises(tl.GradError, match="a second time"):
        y.backward()


def test_linear_relu_refuses_what_linear_refuses(device: str) -> None:
    x, weight, bias = operands(((6, 4), (5, 4)), True, tl.float32, device)
    for wrong, error in (((x.t(), weight, bias), tl.ShapeError), ((x, weight, bias[:2]), tl.ShapeError),
                         ((x.double(), weight, bias), tl.DTypeError), ((x.bool(), weight.bool(), None), tl.DTypeError)):
        messages = []
        for function in (ops.linear, ops.linear_relu):
            with pytest.raises(error) as caught:
                function(*wrong)
            messages.append(str(caught.value).replace("linear_relu", "linear"))
        assert messages[0] == messages[1]


def test_the_door_refuses_mixed_dtypes(device: str) -> None:
    if device == "cpu":
        pytest.skip("NumPy promotes")
    x, weight, bias = operands(((6, 4), (5, 4)), True, tl.float32, device)
    out = tl.empty(6, 5, device=device)
    with pytest.raises(tl.DTypeError, match=r"linear_relu does not take \(float32, float64, float32\)"):
        get(device).run("linear_relu", out.array, x.array, weight.double().array, bias.array)


# --- Sequential -------------------------------------------------------------------------------------------------------


def mlp(device: str) -> nn.Sequential:
    tl.manual_seed(8)
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)).to(device)


def one_by_one(model: nn.Sequential, x: tl.Tensor) -> tl.Tensor:
    for layer in model:
        x = layer(x)
    return x


def test_sequential_joins_linear_and_relu(device: str) -> None:
    results = []
    for run in (one_by_one, nn.Sequential.__call__):
        model = mlp(device)
        x = tl.tensor(np.random.default_rng(1).normal(size=(5, 6)), dtype=tl.float32, device=device, requires_grad=True)
        y = run(model, x)
        y.square().sum().backward()
        results.append([y, x.grad, *[p.grad for p in model.parameters()]])
    assert_same(results, device)
    assert kernels_of(device, mlp(device), x) == ["linear_relu", "linear_relu", "linear"]


class OwnLinear(nn.Linear):
    pass


class OwnReLU(nn.ReLU):
    def forward(self, input: tl.Tensor) -> tl.Tensor:
        return -super().forward(input)


def hooked(layer: Any, register: str) -> Any:
    getattr(layer, register)(lambda *_: None)
    return layer


def with_own_forward(layer: Any) -> Any:
    plain = layer.forward
    layer.forward = lambda input: plain(input)
    return layer


@pytest.mark.parametrize("layers", [
    lambda: (OwnLinear(2, 2), nn.ReLU()), lambda: (nn.Linear(2, 2), OwnReLU()),
    lambda: (nn.Linear(2, 2), nn.Identity(), nn.ReLU()), lambda: (nn.ReLU(), nn.Linear(2, 2)),
    *[lambda hook=hook: (hooked(nn.Linear(2, 2), hook), nn.ReLU()) for hook in
      ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")],
    *[lambda hook=hook: (nn.Linear(2, 2), hooked(nn.ReLU(), hook)) for hook in
      ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")],
    lambda: (with_own_forward(nn.Linear(2, 2)), nn.ReLU()), lambda: (nn.Linear(2, 2), with_own_forward(nn.ReLU())),
])
def test_sequential_leaves_apart_what_is_more_than_linear_and_relu(layers: Any) -> None:
    model = nn.Sequential(*layers())
    seen = kernels_of("cpu", model, tl.ones(1, 2))
    assert "linear_relu" not in seen and {"linear", "relu"} <= set(seen)


def test_sequential_of_one_layer_twice() -> None:
    layer, relu = nn.Linear(2, 2), nn.ReLU()
    model = nn.Sequential(layer, relu, layer, relu, relu)
    x = tl.ones(1, 2)
    assert bits(model(x)) == bits(one_by_one(model, x))
    assert kernels_of("cpu", model, x) == ["linear_relu", "linear_relu", "relu"]


def test_errors_of_joined_layers_name_the_linear() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(3, 2), nn.ReLU()))
    with pytest.raises(tl.ShapeError, match="expects last dim 3, got 4") as caught:
        model(tl.ones(1, 2))
    assert "0.2" in str(caught.value)
    with pytest.raises(tl.DTypeError) as caught_dtype:
        model(tl.ones(1, 2, dtype=tl.float64))
    assert "0.0" in str(caught_dtype.value)


def test_joined_layers_under_autocast(device: str) -> None:
    """As the layers one by one: products in 16 bits, and parameters' gradients in float32."""
    results = []
    for run in (one_by_one, nn.Sequential.__call__):
        model = mlp(device)
        with amp.autocast(device, dtype=tl.bfloat16):
            y = run(model, tl.ones(5, 6, device=device))
        assert y.dtype is tl.bfloat16
        y.float().sum().backward()
        assert all(p.grad.dtype is tl.float32 for p in model.parameters())
        results.append([y, *[p.grad for p in model.parameters()]])
    assert_same(results, device)


def test_joined_layers_under_anomaly_detection_name_the_line() -> None:
    model = mlp("cpu")
    with tl.autograd.detect_anomaly(), pytest.raises(tl.GradError, match=r"linear_relu.*test_fused\.py"):
        model[:2](tl.full((1, 6), np.nan)).sum().backward()


# --- NumPy's passes ---------------------------------------------------------------------------------------------------

ACTIVATIONS: dict[str, tuple[Any, ...]] = {  # NumPy's kernels, and their numbers
    "relu": (), "sigmoid": (), "silu": (), "gelu": (), "gelu_tanh": (), "erf": (), "elu": (1.3,), "leaky_relu": (0.1,),
    "softplus": (1.5, 20.0), "relu_grad": (), "silu_grad": (), "gelu_grad": (), "gelu_tanh_grad": (),
    "elu_grad": (1.3,), "leaky_relu_grad": (0.1,), "softplus_grad": (1.5, 20.0),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", ACTIVATIONS)
def test_large_arrays_are_computed_as_small_ones(kernel: str, dtype: Any) -> None:
    """NumPy's kernels choose elements by bits where arrays are large: the results must not tell."""
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 30.0, -30.0]
    x = (np.random.default_rng(2).normal(size=(5, 2001)) * 3).astype(dtype)
    g = np.random.default_rng(3).normal(size=x.shape).astype(dtype)
    x[:, :len(special)], g[:, 5:5 + len(special)] = special, special
    arrays = (g, x) if kernel.endswith("_grad") else (x,)
    whole, parts = np.empty_like(x), np.empty_like(x)
    with np.errstate(all="ignore"):
        cpu.KERNELS[kernel](whole, *arrays, *ACTIVATIONS[kernel])
        for row in range(len(x)):
            cpu.KERNELS[kernel](parts[row], *[a[row] for a in arrays], *ACTIVATIONS[kernel])
    assert whole.tobytes() == parts.tobytes()


# --- captured ---------------------------------------------------------------------------------------------------------


def test_captured_steps_draw_new_masks_and_equal_eager_ones(device: str) -> None:
    """Dropout and joined layers in replays: the bits of the eager steps, with numbers of their own in each."""
    runs = []
    for captured in (False, True):
        tl.manual_seed(4)
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4)).to(device)
        optimizer = tl.optim.SGD(model.parameters(), lr=0.1)

        def step(x: tl.Tensor, model: Any = model, optimizer: Any = optimizer) -> tuple[tl.Tensor, tl.Tensor]:
            optimizer.zero_grad()
            out = model(x)
            loss = out.square().mean()
            loss.backward()
            optimizer.step()
            return loss, F.dropout(tl.ones(50, device=device), 0.5)

        run = tl.capture(step) if captured else step
        x = tl.tensor(np.random.default_rng(1).normal(size=(9, 6)), dtype=tl.float32, device=device)
        results = [[t.clone() for t in run(x)] for _ in range(6)]
        assert len({bits(mask) for _, mask in results}) == 6
        runs.append([*[t for pair in results for t in pair], *model.parameters()])
    assert_same(runs, device)
