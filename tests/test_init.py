"""nn.init: moments, bounds, structure, generators; gradient mode and versions; clipping and vectors in nn.utils."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, GradError, ShapeError
from tensorlite.nn import init


@pytest.mark.parametrize(("name", "param", "gain"), [
    ("linear", None, 1), ("conv2d", None, 1), ("conv_transpose3d", None, 1), ("sigmoid", None, 1),
    ("tanh", None, 5 / 3), ("relu", None, math.sqrt(2)), ("leaky_relu", None, math.sqrt(2 / 1.0001)),
    ("leaky_relu", 0.2, math.sqrt(2 / 1.04)),
    ("selu", None, 0.75),
])
def test_calculate_gain(name, param, gain):
    assert init.calculate_gain(name, param) == pytest.approx(gain)


def test_calculate_gain_refuses_what_it_does_not_know():
    with pytest.raises(ArgumentError, match="Unsupported nonlinearity swish"):
        init.calculate_gain("swish")
    with pytest.raises(ArgumentError, match="not a valid number"):
        init.calculate_gain("leaky_relu", True)


SHAPE = (60, 50, 2)  # fan_in 100, fan_out 120
SLOPE = math.sqrt(2 / (1 + 0.2**2))
RANDOM = [
    # function, arguments, standard deviation, largest absolute value (None: unbounded)
    ("uniform_", (-3.0, 3.0), 3 / math.sqrt(3), 3.0),
    ("normal_", (0.0, 2.0), 2.0, None),
    ("trunc_normal_", (), 0.8796, 2.0),
    ("xavier_uniform_", (2.0,), 2 * math.sqrt(2 / 220), 2 * math.sqrt(6 / 220)),
    ("xavier_normal_", (2.0,), 2 * math.sqrt(2 / 220), None),
    ("kaiming_uniform_", (), math.sqrt(2 / 100), math.sqrt(6 / 100)),
    ("kaiming_uniform_", (0.2, "fan_out"), SLOPE / math.sqrt(120), SLOPE * math.sqrt(3 / 120)),
    ("kaiming_normal_", (0.0, "fan_out", "relu"), math.sqrt(2 / 120), None),
    ("kaiming_normal_", (0.0, "fan_in", "tanh"), 5 / 3 / 10, None),
]


@pytest.mark.parametrize(("name", "args", "std", "bound"), RANDOM)
def test_random_init_has_its_moments_and_bounds(name, args, std, bound):
    tensor = tl.empty(*SHAPE)
    assert getattr(init, name)(tensor, *args, generator=tl.Generator().manual_seed(3)) is tensor
    values = tensor.numpy()
    assert abs(values.mean()) < 5 * std / math.sqrt(values.size)
    assert values.std() == pytest.approx(std, rel=0.04)
    if bound is None:
        assert np.abs(values).max() > 3 * std
    else:
        assert 0.98 * bound < np.abs(values).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize(("name", "args"), [(r[0], r[1]) for r in RANDOM] + [("orthogonal_", ()), ("sparse_", (0.3,))])
def test_random_init_follows_its_generator_and_touches_no_other(name, args):
    def draw(seed):
        shape = SHAPE[:2] if name == "sparse_" else SHAPE
        return getattr(init, name)(tl.empty(*shape), *args, generator=tl.Generator().manual_seed(seed)).tolist()

    before = tl.get_rng_state().tolist()
    first = draw(1)
    assert draw(1) == first != draw(2)
    assert tl.get_rng_state().tolist() == before


@pytest.mark.parametrize(("name", "args"), [
    *[(r[0], r[1]) for r in RANDOM], ("orthogonal_", ()), ("sparse_", (0.3,)), ("eye_", ()), ("dirac_", ()),
    ("constant_", (0.3,)), ("ones_", ()), ("zeros_", ()),
])
def test_init_writes_parameters_without_recording(name, args):
    shape = {"sparse_": (4, 5), "eye_": (4, 5)}.get(name, (4, 5, 3))
    parameter = nn.Parameter(tl.full(shape, 7.0))
    result = getattr(init, name)(parameter, *args)
    assert result is parameter
    assert parameter.requires_grad and parameter.is_leaf
    assert not (parameter == 7.0).any()
    assert tl.is_grad_enabled()


@pytest.mark.parametrize("fill", [init.uniform_, init.ones_, init.orthogonal_, init.trunc_normal_, init.eye_])
def test_init_bumps_the_version_so_that_a_stale_backward_refuses(fill):
    parameter = nn.Parameter(tl.ones(2, 2))
    out = (parameter * parameter).sum()
    fill(parameter)
    with pytest.raises(GradError, match="modified by an in-place operation"):
        out.backward()


def test_constants():
    assert init.constant_(tl.empty(2), 0.5).tolist() == [0.5, 0.5]
    assert init.ones_(tl.empty(2)).tolist() == [1, 1]
    assert init.zeros_(tl.empty(2)).tolist() == [0, 0]
    assert init.eye_(tl.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(("shape", "groups"), [((3, 2, 5), 1), ((4, 2, 3, 3), 2), ((2, 2, 1, 2, 3), 1)])
def test_dirac_equals_torch(shape, groups):
    torch = pytest.importorskip("torch")
    expected = torch.nn.init.dirac_(torch.empty(*shape), groups)
    np.testing.assert_array_equal(init.dirac_(tl.empty(*shape), groups).numpy(), expected.numpy())


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3), (4, 2, 3)])
def test_orthogonal_rows_or_columns(shape):
    matrix = init.orthogonal_(tl.empty(*shape, dtype=tl.float64), gain=2.0).numpy().reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_sparse_has_its_zeros_in_every_column():
    matrix = init.sparse_(tl.empty(10, 6), 0.25, std=2.0).numpy()
    assert ((matrix == 0).sum(axis=0) == 3).all()
    assert len({tuple(column) for column in (matrix == 0).T}) > 1


@pytest.mark.parametrize(("mean", "std", "a", "b"), [
    (0.0, 1.0, 0.5, 3.0), (5.0, 1.0, -1.0, 2.0), (0.0, 0.02, -2.0, 2.0),
])
def test_trunc_normal_keeps_its_bounds_and_mean(mean, std, a, b):
    tensor = tl.empty(20000, dtype=tl.float64)
    values = init.trunc_normal_(tensor, mean, std, a, b, tl.Generator().manual_seed(0)).numpy()
    assert values.min() >= a and values.max() <= b
    lower, upper = (a - mean) / std, (b - mean) / std

    def density(z):
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    share = (math.erf(upper / math.sqrt(2)) - math.erf(lower / math.sqrt(2))) / 2
    expected = mean + std * (density(lower) - density(upper)) / share
    assert values.mean() == pytest.approx(expected, abs=5 * std / math.sqrt(len(values)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_init_of_other_floating_dtypes(dtype):
    tensor = tl.empty(20, 10, dtype=getattr(tl, dtype))
    for fill in (init.uniform_, init.normal_, init.trunc_normal_, init.orthogonal_, init.ones_, init.eye_):
        assert fill(tensor).dtype.name == dtype
        assert np.isfinite(tensor.float().numpy()).all()


def test_init_of_a_transposed_tensor_fills_what_it_shows():
    base = tl.zeros(3, 2)
    init.eye_(base.T)
    assert base.tolist() == [[1, 0], [0, 1], [0, 0]]
    init.uniform_(base.T, 1.0, 2.0)
    assert (base.numpy() >= 1).all()


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda: init.xavier_uniform_(tl.empty(3)), ShapeError, "fewer than 2 dimensions"),
    (lambda: init.kaiming_normal_(tl.empty(3)), ShapeError, "fewer than 2 dimensions"),
    (lambda: init.kaiming_uniform_(tl.empty(3, 2), mode="both"), ArgumentError, "Mode both not supported"),
    (lambda: init.eye_(tl.empty(3)), ShapeError, "2 dimensions"),
    (lambda: init.dirac_(tl.empty(3, 3)), ShapeError, "3, 4, or 5 dimensions"),
    (lambda: init.dirac_(tl.empty(3, 3, 3), groups=2), ShapeError, "groups=2"),
    (lambda: init.orthogonal_(tl.empty(3)), ShapeError, "2 or more dimensions"),
    (lambda: init.sparse_(tl.empty(3), 0.1), ShapeError, "2 dimensions"),
    (lambda: init.sparse_(tl.empty(3, 3), 1.1), ArgumentError, "sparsity"),
    (lambda: init.trunc_normal_(tl.empty(3), std=0.0), ArgumentError, "std > 0"),
    (lambda: init.uniform_(tl.empty(3), 2.0, 1.0), ArgumentError, "low <= high"),
])
def test_init_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("fill", [init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_, init.orthogonal_])
def test_init_of_nothing_is_nothing(fill):
    assert fill(tl.empty(0, 0)).shape == (0, 0)


# --- clipping -----------------------------------------------------------------------------------------------


def _with_grads(*values):
    parameters = []
    for value in values:
        grad = tl.tensor(value)
        parameter = nn.Parameter(tl.zeros_like(grad))
        parameter.grad = grad
        parameters.append(parameter)
    return parameters


def test_clip_grad_norm_golden():
    (p,) = _with_grads([3.0] * 4)
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == pytest.approx(6.0)
    assert p.grad.tolist() == pytest.approx([3 / (6 + 1e-6)] * 4)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm_equals_torch(norm_type, max_norm):
    torch = pytest.importorskip("torch")
    values = [[1.0, -2.0], [[0.5, 3.0, -4.0]], 2.0]
    ours, theirs = _with_grads(*values), []
    for value in values:
        theirs.append(torch.nn.Parameter(torch.zeros(np.shape(value))))
        theirs[-1].grad = torch.tensor(value)
    ours.append(nn.Parameter(tl.zeros(2)))  # without a gradient
    total = nn.utils.clip_grad_norm_(iter(ours), max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    for p, q in zip(ours, theirs, strict=False):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-6)


def test_clip_grad_norm_of_float16_does_not_overflow():
    (p,) = _with_grads(np.full(100, 3e4, np.float16))
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == pytest.approx(3e5, rel=1e-3)
    assert np.isfinite(p.grad.numpy()).all()


def test_clip_grad_norm_without_gradients_is_zero():
    assert nn.utils.clip_grad_norm_([nn.Parameter(tl.zeros(2))], 1.0).item() == 0


def test_clip_grad_norm_refuses_nonfinite_gradients_before_scaling():
    (p,) = _with_grads([1.0, math.inf])
    with pytest.raises(GradError, match="cannot be clipped"):
        nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [1.0, math.inf]


def test_clip_grad_value():
    p, q = _with_grads([5.0, -0.5], [-7.0])
    nn.utils.clip_grad_value_([p, q], 1)
    assert p.grad.tolist() == [1, -0.5] and q.grad.tolist() == [-1]
    with pytest.raises(ArgumentError, match="clip_value"):
        nn.utils.clip_grad_value_([p], -1.0)


def test_parameters_to_vector_and_back():
    layer = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (9,)
    vector.sum().backward()
    assert layer.bias.grad.tolist() == [1, 1, 1]
    weight = layer.weight
    nn.utils.vector_to_parameters(tl.arange(9.0), layer.parameters())
    assert layer.weight is weight
    assert weight.tolist() == [[0, 1], [2, 3], [4, 5]] and layer.bias.tolist() == [6, 7, 8]


def test_vector_of_another_size_is_refused_before_writing():
    layer = nn.Linear(2, 3)
    before = layer.weight.tolist()
    with pytest.raises(ShapeError, match="hold 9 elements"):
        nn.utils.vector_to_parameters(tl.zeros(10), layer.parameters())
    assert layer.weight.tolist() == before
