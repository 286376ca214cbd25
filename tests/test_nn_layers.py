"""Every layer against torch: outputs, gradients, parameters, buffers, names and repr; and errors of bad input."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorlite as tl
from tensorlite import nn
from tensorlite.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tensorlite.nn import functional as F

# name, positional arguments, keyword arguments, input shapes
LAYERS = [
    ("Linear", (5, 3), {}, [(4, 5)]),
    ("Linear", (5, 3), {"bias": False}, [(5,)]),
    ("Linear", (1, 2), {}, [(2, 3, 1)]),
    ("Linear", (3, 2), {}, [(0, 3)]),
    ("Bilinear", (2, 3, 4), {}, [(5, 2), (5, 3)]),
    ("Bilinear", (2, 3, 1), {"bias": False}, [(2, 5, 2), (2, 5, 3)]),
    ("Identity", (1, "ignored"), {"also": 2}, [(2, 3)]),
    ("Flatten", (), {}, [(2, 3, 4)]),
    ("Flatten", (0, 1), {}, [(2, 3, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [(4, 6)]),
    ("Unflatten", (-1, (3, -1)), {}, [(4, 6)]),
    ("ReLU", (), {}, [(3, 4)]),
    ("ReLU6", (), {}, [(3, 4)]),
    ("LeakyReLU", (), {}, [(3, 4)]),
    ("LeakyReLU", (0.3,), {}, [(3, 4)]),
    ("PReLU", (), {}, [(3, 4)]),
    ("PReLU", (4,), {"init": 0.1}, [(3, 4, 2)]),
    ("PReLU", (), {}, [(3,)]),
    ("ELU", (), {}, [(3, 4)]),
    ("ELU", (0.7,), {}, [(3, 4)]),
    ("CELU", (), {}, [(3, 4)]),
    ("CELU", (2.0,), {}, [(3, 4)]),
    ("SELU", (), {}, [(3, 4)]),
    ("GELU", (), {}, [(3, 4)]),
    ("GELU", ("tanh",), {}, [(3, 4)]),
    ("SiLU", (), {}, [(3, 4)]),
    ("Mish", (), {}, [(3, 4)]),
    ("Sigmoid", (), {}, [(3, 4)]),
    ("LogSigmoid", (), {}, [(3, 4)]),
    ("Hardsigmoid", (), {}, [(3, 4)]),
    ("Hardtanh", (), {}, [(3, 4)]),
    ("Hardtanh", (-0.5, 2.0), {}, [(3, 4)]),
    ("Hardswish", (), {}, [(3, 4)]),
    ("Tanh", (), {}, [(3, 4)]),
    ("Tanhshrink", (), {}, [(3, 4)]),
    ("Softplus", (), {}, [(3, 4)]),
    ("Softplus", (2.0, 1.0), {}, [(3, 4)]),
    ("Softsign", (), {}, [(3, 4)]),
    ("Softmin", (1,), {}, [(3, 4)]),
    ("Softmax", (), {"dim": 0}, [(3, 4)]),
    ("LogSoftmax", (-1,), {}, [(2, 3, 4)]),
    ("Dropout", (0.0,), {}, [(3, 4)]),
    ("LayerNorm", (4,), {}, [(3, 4)]),
    ("LayerNorm", ((3, 4),), {"eps": 1e-3}, [(2, 3, 4)]),
    ("LayerNorm", ([4],), {"bias": False}, [(3, 4)]),
    ("LayerNorm", (4,), {"elementwise_affine": False}, [(3, 4)]),
    ("BatchNorm1d", (4,), {}, [(5, 4)]),
    ("BatchNorm1d", (4,), {"momentum": None}, [(5, 4)]),
    ("BatchNorm1d", (4,), {"momentum": 0.3, "eps": 1e-2}, [(5, 4, 3)]),
    ("BatchNorm1d", (4,), {"affine": False}, [(5, 4)]),
    ("BatchNorm1d", (4,), {"bias": False}, [(5, 4)]),
    ("BatchNorm1d", (4,), {"track_running_stats": False}, [(5, 4)]),
    ("CosineSimilarity", (), {}, [(3, 4), (3, 4)]),
    ("CosineSimilarity", (-1, 0.5), {}, [(2, 3, 4), (3, 4)]),
    ("PairwiseDistance", (), {}, [(3, 4), (3, 4)]),
    ("PairwiseDistance", (1.0,), {"keepdim": True}, [(3, 4), (3, 4)]),
    ("PairwiseDistance", (3.0,), {}, [(3, 4), (1, 4)]),
    ("PairwiseDistance", (math.inf,), {}, [(3, 4), (3, 4)]),
]


def _pair(name, args, kwargs, dtype="float64"):
    """The layer and torch's, with the same numbers in all parameters."""
    torch = pytest.importorskip("torch")
    ours = getattr(nn, name)(*args, **kwargs).to(getattr(tl, dtype))
    theirs = getattr(torch.nn, name)(*args, **kwargs).to(getattr(torch, dtype))
    rng = np.random.default_rng(7)
    for parameter in theirs.parameters():
        parameter.data.copy_(torch.from_numpy(np.asarray(rng.normal(size=parameter.shape))))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def _compare_step(ours, theirs, arrays, *, rtol=1e-10, atol=1e-12):
    """One forward and backward through both; everything that comes out must agree."""
    torch = pytest.importorskip("torch")
    mine = [tl.tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = ours(*mine), theirs(*other)
    assert tuple(out.shape) == tuple(expected.shape)
    assert out.dtype.name == str(expected.dtype).removeprefix("torch.")
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol, atol)
    g = np.random.default_rng(3).normal(size=expected.shape).astype(arrays[0].dtype)
    out.backward(tl.tensor(g))
    expected.backward(torch.tensor(g))
    pairs = [*zip(mine, other, strict=True)]
    if isinstance(ours, nn.Module):
        pairs += zip(ours.parameters(), theirs.parameters(), strict=True)
        for buffer, wanted in zip(ours.buffers(), theirs.buffers(), strict=True):
            assert buffer.dtype.name == str(wanted.dtype).removeprefix("torch.")
            np.testing.assert_allclose(buffer.numpy(), wanted.numpy(), rtol, atol)
    for tensor, wanted in pairs:
        assert tensor.grad is not None and tensor.grad.shape == tensor.shape and tensor.grad.dtype is tensor.dtype
        np.testing.assert_allclose(tensor.grad.numpy(), wanted.grad.numpy(), rtol, atol)


def _tolerance(name):
    """torch multiplies by 1/6 in float32 in the derivatives of these two, also for float64."""
    return 1e-7 if name.lower() in ("hardsigmoid", "hardswish") else 1e-10


@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), LAYERS, ids=lambda v: str(v)[:30])
def test_layer_equals_torch(name, args, kwargs, shapes):
    ours, theirs = _pair(name, args, kwargs)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    rng = np.random.default_rng(5)
    for step in range(3):
        if step == 2:
            ours.eval(), theirs.eval()
        ours.zero_grad(), theirs.zero_grad()
        _compare_step(ours, theirs, [rng.normal(size=shape) * 2 for shape in shapes], rtol=_tolerance(name))


@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), LAYERS[:1] + LAYERS[42:48], ids=lambda v: str(v)[:30])
def test_layer_equals_torch_in_float32(name, args, kwargs, shapes):
    ours, theirs = _pair(name, args, kwargs, "float32")
    arrays = [np.random.default_rng(5).normal(size=shape).astype(np.float32) for shape in shapes]
    _compare_step(ours, theirs, arrays, rtol=2e-5, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.booleans(), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 99))
def test_linear_equals_torch_over_random_shapes(inputs, outputs, bias, batch, seed):
    ours, theirs = _pair("Linear", (inputs, outputs), {"bias": bias})
    _compare_step(ours, theirs, [np.random.default_rng(seed).normal(size=(*batch, inputs))])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.booleans(),
       st.sampled_from([None, 0.1, 1.0]), st.integers(0, 99))
def test_batch_norm_equals_torch_over_random_shapes(rows, channels, length, affine, track, momentum, seed):
    ours, theirs = _pair("BatchNorm1d", (channels,),
                         {"affine": affine, "track_running_stats": track, "momentum": momentum})
    rng = np.random.default_rng(seed)
    shape = (rows, channels, length) if length else (rows, channels)
    for _ in range(2):
        ours.zero_grad(), theirs.zero_grad()
        _compare_step(ours, theirs, [rng.normal(size=shape)], rtol=1e-8, atol=1e-9)


# --- activations: kinks and extremes ------------------------------------------------------------------------

KINKS = {
    "relu": [-1.0, 0.0, 1.0], "relu6": [-1.0, 0.0, 3.0, 6.0, 7.0], "leaky_relu": [-1.0, 0.0, 1.0],
    "elu": [-1.0, 0.0, 1.0], "celu": [-1.0, 0.0, 1.0], "selu": [-1.0, 0.0, 1.0],
    "hardtanh": [-2.0, -1.0, 0.0, 1.0, 2.0],
    "hardsigmoid": [-4.0, -3.0, 0.0, 3.0, 4.0], "hardswish": [-4.0, -3.0, 0.0, 3.0, 4.0], "softsign": [-1.0, 0.0, 1.0],
}


@pytest.mark.parametrize("name", KINKS)
def test_activation_at_its_kinks_equals_torch(name):
    torch = pytest.importorskip("torch")
    _compare_step(getattr(F, name), getattr(torch.nn.functional, name), [np.array(KINKS[name])], rtol=_tolerance(name))


SMOOTH = ["relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid", "logsigmoid",
          "hardsigmoid", "hardtanh", "hardswish", "tanh", "tanhshrink", "softplus", "softsign"]


@pytest.mark.parametrize("name", SMOOTH)
def test_activation_of_large_values_equals_torch(name):
    torch = pytest.importorskip("torch")
    values = np.array([-1e4, -750.0, -100.0, -30.0, 30.0, 100.0, 750.0, 1e4])
    _compare_step(getattr(F, name), getattr(torch.nn.functional, name), [values], rtol=_tolerance(name))


@pytest.mark.parametrize("name", SMOOTH)
def test_activation_keeps_nan(name):
    assert math.isnan(getattr(F, name)(tl.tensor([math.nan])).item())


def test_prelu_has_no_nan_in_the_gradient_of_its_weight_at_inf():
    weight = tl.tensor([0.25], requires_grad=True)
    F.prelu(tl.tensor([math.inf, -2.0]), weight).sum().backward()
    assert weight.grad.tolist() == [-2.0]


def test_gelu_golden_values():
    assert nn.GELU()(tl.tensor(1.0)).item() == pytest.approx(0.8413, abs=5e-5)
    assert nn.GELU("tanh")(tl.tensor(1.0)).item() == pytest.approx(0.8412, abs=5e-5)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "celu", "selu", "silu", "mish", "hardsigmoid",
                                  "hardtanh", "hardswish"])
def test_inplace_activation_writes_its_input_and_has_the_same_gradient(name):
    values = [-2.0, -0.5, 0.5, 7.0]
    leaf = tl.tensor(values, requires_grad=True)
    x = leaf * 1.0
    out = getattr(F, name)(x, inplace=True)
    assert out is x
    out.sum().backward()
    other = tl.tensor(values, requires_grad=True)
    expected = getattr(F, name)(other)
    expected.sum().backward()
    assert x.tolist() == expected.tolist()
    assert leaf.grad.tolist() == other.grad.tolist()


@pytest.mark.parametrize(("layer", "text"), [
    (lambda n: n.ReLU(inplace=True), "ReLU(inplace=True)"),
    (lambda n: n.LeakyReLU(0.1, True), "LeakyReLU(negative_slope=0.1, inplace=True)"),
    (lambda n: n.ELU(inplace=True), "ELU(alpha=1.0, inplace=True)"),
    (lambda n: n.Hardtanh(inplace=True), "Hardtanh(min_val=-1.0, max_val=1.0, inplace=True)"),
    (lambda n: n.Hardswish(inplace=True), "Hardswish()"),
    (lambda n: n.Dropout(0.2, inplace=True), "Dropout(p=0.2, inplace=True)"),
    (lambda n: n.Embedding(4, 3, padding_idx=-1), "Embedding(4, 3, padding_idx=3)"),
    (lambda n: n.Embedding(4, 3), "Embedding(4, 3)"),
])
def test_repr_golden(layer, text):
    assert repr(layer(nn)) == text
    assert repr(layer(pytest.importorskip("torch").nn)) == text


@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
def test_softmax_needs_dim(name):
    with pytest.raises(ArgumentError, match=r"dim is required; write .*dim=-1"):
        getattr(F, name)(tl.zeros(2, 3))


def test_softmax_dtype_casts_first():
    assert F.softmax(tl.tensor([1, 2]), dim=0, dtype=tl.float64).dtype is tl.float64


@pytest.mark.parametrize("call", [
    lambda: F.celu(tl.zeros(1), alpha=0.0),
    lambda: F.softplus(tl.zeros(1), beta=0.0),
    lambda: F.hardtanh(tl.zeros(1), 2.0, 1.0),
    lambda: F.gelu(tl.zeros(1), approximate="x"),
])
def test_activation_refuses_bad_settings(call):
    with pytest.raises(ArgumentError):
        call()


def test_prelu_refuses_a_wrong_number_of_weights():
    with pytest.raises(ShapeError, match="1 or 4"):
        F.prelu(tl.zeros(3, 4), tl.zeros(3))


# --- linear -------------------------------------------------------------------------------------------------


def test_linear_default_init_is_uniform_in_one_over_root_in():
    layer = nn.Linear(100, 200)
    for parameter in (layer.weight, layer.bias):
        values = parameter.detach().numpy()
        assert np.abs(values).max() <= 0.1
        assert np.abs(values).max() > 0.095
        assert abs(values.std() - 0.1 / math.sqrt(3)) < 0.01


def test_linear_names_the_expected_last_dimension():
    with pytest.raises(ShapeError, match=r"expects last dim 3, got 5 \(input \(2, 5\), weight \(4, 3\)\)"):
        nn.Linear(3, 4)(tl.zeros(2, 5))


def test_linear_refuses_mixed_dtypes_and_says_what_to_do():
    with pytest.raises(DTypeError, match="float"):
        nn.Linear(3, 4)(tl.zeros(2, 3, dtype=tl.float64))


def test_linear_without_bias_keeps_the_name():
    layer = nn.Linear(2, 3, bias=False)
    assert layer.bias is None
    assert list(layer.state_dict()) == ["weight"]
    with pytest.raises(TypeError, match="cannot assign 'Tensor' as parameter 'bias'"):
        layer.bias = tl.zeros(3)
    layer.bias = nn.Parameter(tl.zeros(3))
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


@pytest.mark.parametrize(("make", "shape"), [
    (lambda k: nn.Conv2d(k(2), k(4), k(3), stride=k(2), padding=k(1), groups=k(2)), (1, 2, 5, 5)),
    (lambda k: nn.ConvTranspose1d(2, 4, k(3), k(2), k(1), k(1)), (1, 2, 5)),
    (lambda k: nn.MaxPool2d(k(2)), (1, 4, 5)), (lambda k: nn.MaxPool1d(k(2), padding=k(1)), (1, 5)),
    (lambda k: nn.AvgPool1d(k(2), k(1)), (1, 5)), (lambda k: nn.AdaptiveAvgPool2d(k(2)), (1, 3, 5)),
    (lambda k: nn.LayerNorm(k(4)), (2, 4)), (lambda k: nn.RMSNorm(k(4)), (2, 4)),
    (lambda k: nn.ZeroPad2d(k(1)), (1, 3, 3)),
])
def test_sizes_may_be_integers_of_numpy(make, shape):
    with_numbers, with_integers = make(np.int64), make(int)
    x = tl.rand(*shape)
    assert with_numbers(x).shape == with_integers(x).shape


def test_layer_takes_dtype_and_device():
    layer = nn.Linear(2, 3, device="cpu", dtype=tl.float64)
    assert layer.weight.dtype is layer.bias.dtype is tl.float64


def test_bilinear_refuses_other_shapes():
    with pytest.raises(ShapeError, match="bilinear expects"):
        nn.Bilinear(2, 3, 4)(tl.zeros(5, 3), tl.zeros(5, 2))


# --- dropout ------------------------------------------------------------------------------------------------


def test_dropout_drops_the_share_p_and_scales_the_rest():
    x = tl.ones(200, 100)
    out = F.dropout(x, 0.3, generator=tl.Generator().manual_seed(1)).numpy()
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((out == 0).mean() - 0.3) < 0.02


def test_dropout_gradient_is_the_mask():
    x = tl.ones(50, requires_grad=True)
    out = F.dropout(x, 0.5)
    out.sum().backward()
    assert x.grad.tolist() == out.tolist()


def test_dropout_repeats_with_the_seed_and_differs_between_calls():
    x, layer = tl.ones(64), nn.Dropout(0.5)
    tl.manual_seed(5)
    first, second = layer(x).tolist(), layer(x).tolist()
    tl.manual_seed(5)
    assert layer(x).tolist() == first != second


def test_dropout_is_the_identity_in_eval_mode_and_for_p_0():
    x = tl.ones(8)
    assert nn.Dropout(0.5).eval()(x) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 0.9, training=False) is x


def test_dropout_of_everything_is_zeros_with_zero_gradient():
    x = tl.ones(3, requires_grad=True)
    out = F.dropout(x, 1.0)
    out.sum().backward()
    assert out.tolist() == x.grad.tolist() == [0, 0, 0]


def test_dropout_inplace():
    x = tl.ones(100)
    out = F.dropout(x, 0.5, inplace=True)
    assert out is x
    assert set(x.tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan])
def test_dropout_refuses_p_outside_0_1(p):
    with pytest.raises(ArgumentError, match="dropout probability has to be between 0 and 1, but got"):
        nn.Dropout(p)
    with pytest.raises(ValueError, match="dropout probability"):
        F.dropout(tl.ones(2), p)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_dropout_keeps_the_dtype(dtype):
    assert F.dropout(tl.ones(4, dtype=getattr(tl, dtype))).dtype.name == dtype


# --- normalisation ------------------------------------------------------------------------------------------


def test_batch_norm_golden_running_statistics():
    layer = nn.BatchNorm1d(1)
    layer(tl.tensor([[1.0], [3.0]]))
    assert layer.running_mean.tolist() == pytest.approx([0.2])
    assert layer.running_var.tolist() == pytest.approx([1.1])
    assert layer.num_batches_tracked.item() == 1
    assert layer.num_batches_tracked.dtype is tl.int64


def test_batch_norm_refuses_one_value_per_channel_and_leaves_its_buffers():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(ShapeError, match="Expected more than 1 value per channel when training"):
        layer(tl.ones(1, 3))
    assert layer.num_batches_tracked.item() == 0
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.eval()(tl.ones(1, 3)).shape == (1, 3)


def test_batch_norm_refuses_other_ranks_and_channels():
    with pytest.raises(ShapeError, match="expected 2D or 3D input"):
        nn.BatchNorm1d(3)(tl.ones(3))
    with pytest.raises(ShapeError, match="should contain 4 elements not 3"):
        nn.BatchNorm1d(3)(tl.ones(2, 4))


def test_batch_norm_statistics_are_not_recorded_and_backward_survives_the_next_batch():
    layer = nn.BatchNorm1d(2)
    x = tl.tensor(np.arange(8.0).reshape(4, 2), requires_grad=True)
    out = layer(x.float())
    assert not layer.running_mean.requires_grad
    layer(x.detach().float() + 1)
    out.sum().backward()
    assert x.grad is not None


def test_batch_norm_reset_running_stats():
    layer = nn.BatchNorm1d(2)
    layer(tl.randn(4, 2))
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.running_var.tolist() == [1, 1]
    assert layer.num_batches_tracked.item() == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_norm_layers_in_16_bits_compute_in_32(dtype):
    values = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32) * 100 + 1000
    x = tl.tensor(values).to(getattr(tl, dtype))
    out = nn.BatchNorm1d(3)(x)
    assert out.dtype.name == dtype
    exact = nn.BatchNorm1d(3)(x.float())
    np.testing.assert_allclose(out.float().detach().numpy(), exact.detach().numpy(), atol=0.01)


def test_layer_norm_refuses_another_shape():
    with pytest.raises(ShapeError, match=r"given normalized_shape=\[3\], expected input with shape \['\*', 3\]"):
        nn.LayerNorm(3)(tl.zeros(2, 4))


def test_normalize_equals_torch_and_is_finite_at_zero():
    torch = pytest.importorskip("torch")
    values = np.array([[3.0, 4.0], [0.0, 0.0], [-1.0, 1e-3]])
    for p in (2.0, 1.0):
        _compare_step(lambda x, p=p: F.normalize(x, p), lambda x, p=p: torch.nn.functional.normalize(x, p),
                      [values[[0, 2]]])
    x = tl.tensor(values, requires_grad=True)
    F.normalize(x).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


# --- embedding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [None, 2, -1])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,)])
def test_embedding_equals_torch(padding, shape):
    torch = pytest.importorskip("torch")
    ours, theirs = _pair("Embedding", (5, 3), {"padding_idx": padding})
    index = np.random.default_rng(0).integers(0, 5, size=shape)
    out, expected = ours(tl.tensor(index)), theirs(torch.tensor(index))
    np.testing.assert_array_equal(out.detach().numpy(), expected.detach().numpy())
    (out * 2).sum().backward()
    (expected * 2).sum().backward()
    np.testing.assert_array_equal(ours.weight.grad.numpy(), theirs.weight.grad.numpy())


def test_embedding_padding_row_starts_as_zeros_and_gets_no_gradient():
    layer = nn.Embedding(4, 2, padding_idx=1)
    assert layer.weight.detach().numpy()[1].tolist() == [0, 0]
    layer(tl.tensor([1, 1, 3])).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize("bad", [7, -1])
def test_embedding_names_value_and_position_of_a_wrong_index(bad):
    layer = nn.Embedding(5, 2)
    message = rf"embedding: index {bad} at position \(1, 0\) is out of bounds .*size 5"
    with pytest.raises(OutOfRangeError, match=message):
        layer(tl.tensor([[0, 1], [bad, 2]]))
    with pytest.raises(IndexError):
        layer(tl.tensor(bad))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_embedding_takes_every_integer_dtype(dtype):
    weight = tl.tensor([[1.0], [2.0]])
    assert F.embedding(tl.tensor([1, 0], dtype=getattr(tl, dtype)), weight).tolist() == [[2], [1]]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64"])
def test_embedding_refuses_negatives_of_every_dtype_in_a_large_table(dtype):
    with pytest.raises(OutOfRangeError, match="index -3 at position"):
        F.embedding(tl.tensor([0, -3], dtype=getattr(tl, dtype)), tl.zeros(70000, 1))


def test_embedding_of_a_scalar_index_is_no_view_of_the_table():
    weight = tl.tensor([[1.0], [2.0]])
    F.embedding(tl.tensor(1), weight).zero_()
    assert weight.tolist() == [[1], [2]]


def test_embedding_refuses_floats_and_bad_padding():
    with pytest.raises(DTypeError, match=r"\.long\(\)"):
        nn.Embedding(3, 2)(tl.tensor([0.0]))
    with pytest.raises(ArgumentError, match="padding_idx must be within num_embeddings"):
        nn.Embedding(3, 2, padding_idx=7)


def test_embedding_from_pretrained():
    table = tl.tensor([[1.0, 2.0], [3.0, 4.0]])
    frozen = nn.Embedding.from_pretrained(table)
    assert frozen(tl.tensor([1])).tolist() == [[3, 4]]
    assert not frozen.weight.requires_grad
    assert repr(frozen) == "Embedding(2, 2)"
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad


def test_one_hot_equals_torch():
    torch = pytest.importorskip("torch")
    index = np.array([[0, 2], [1, 2]])
    for classes in (-1, 3, 5):
        out = F.one_hot(tl.tensor(index), classes)
        assert out.dtype is tl.int64
        np.testing.assert_array_equal(out.numpy(), torch.nn.functional.one_hot(torch.tensor(index), classes).numpy())


@pytest.mark.parametrize(("values", "classes"), [([0, 3], 3), ([-1, 0], 3), ([-1], -1)])
def test_one_hot_refuses_classes_outside(values, classes):
    with pytest.raises(OutOfRangeError, match="one_hot: class"):
        F.one_hot(tl.tensor(values), classes)


def test_one_hot_of_nothing_needs_num_classes():
    with pytest.raises(ArgumentError, match="num_classes"):
        F.one_hot(tl.zeros(0, dtype=tl.int64))
    assert F.one_hot(tl.zeros(0, dtype=tl.int64), 3).shape == (0, 3)


# --- double backward and devices of the composed functions --------------------------------------------------


@pytest.mark.parametrize("name", sorted({*SMOOTH} - {"relu", "relu6", "hardtanh", "hardsigmoid", "leaky_relu"}))
def test_second_derivative_equals_torch(name):
    torch = pytest.importorskip("torch")
    values = np.array([-2.5, -0.7, 0.4, 1.9])
    x, other = tl.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    (g,) = tl.autograd.grad(getattr(F, name)(x).sum(), [x], create_graph=True)
    (h,) = torch.autograd.grad(getattr(torch.nn.functional, name)(other).sum(), [other], create_graph=True)
    (g * g).sum().backward()
    (h * h).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_layers_can_be_copied_deeply():
    layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    twin = copy.deepcopy(layer)
    layer(tl.randn(4, 2)).sum().backward()
    assert twin[1].num_batches_tracked.item() == 0
    assert twin[0].weight.grad is None
    assert twin[0].weight is not layer[0].weight
