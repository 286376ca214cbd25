"""MultiheadAttention and the Transformer's layers against torch, over their arguments; positional encodings."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn
from tensorlite.nn import functional as F
from tensorlite.testing import gradcheck, gradgradcheck

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.filterwarnings(f"ignore:{theirs}:UserWarning")
              for theirs in ("Support for mismatched", "enable_nested_tensor is True")]
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-10}
N, L, S, E, HEADS = 2, 3, 4, 8, 2


def values(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def twins(ours: nn.Module, theirs: Any, device: str, dtype: Any) -> tuple[nn.Module, Any]:
    """Both with torch's parameters, made random, in one dtype; their names and shapes must be the same."""
    theirs = theirs.to(torch.float32 if dtype is np.float32 else torch.float64)
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.copy_(torch.tensor(values(*parameter.shape, seed=i) / 2))
    state = {name: tl.tensor(value.numpy(), device=device) for name, value in theirs.state_dict().items()}
    ours = ours.to(device).to(tl.float32 if dtype is np.float32 else tl.float64)
    assert {name: tuple(x.shape) for name, x in ours.state_dict().items()} == {
        name: tuple(x.shape) for name, x in state.items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    return ours, theirs


def check(ours: nn.Module, theirs: Any, arrays: list[np.ndarray], device: str, dtype: Any = np.float64,
          **options: Any) -> None:
    """Results, and the gradients of inputs and parameters."""
    ours, theirs = twins(ours, theirs, device, dtype)
    arrays = [a.astype(dtype) for a in arrays]
    inputs = [tl.tensor(a, device=device, requires_grad=True) for a in arrays]
    references = [torch.tensor(a, requires_grad=True) for a in arrays]
    results = listed(ours(*inputs, **given(options, lambda a: tl.tensor(a, device=device))))
    wanted = listed(theirs(*references, **given(options, torch.tensor)))
    assert len(results) == len(wanted)
    loss, reference = 0.0, 0.0
    for i, (x, y) in enumerate(zip(results, wanted, strict=True)):
        close(x, y, dtype)
        weight = values(*y.shape, seed=50 + i, dtype=dtype)
        loss = loss + (x * tl.tensor(weight, device=device)).sum()
        reference = reference + (y * torch.tensor(weight)).sum()
    loss.backward()
    reference.backward()
    for x, y in zip((*inputs, *ours.parameters()), (*references, *theirs.parameters()), strict=True):
        close(x.grad, y.grad, dtype)


def given(options: dict[str, Any], convert: Any) -> dict[str, Any]:
    return {name: convert(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}


def listed(result: Any) -> list[Any]:
    return [x for x in (result if isinstance(result, tuple) else (result,)) if x is not None]


def close(x: Any, y: Any, dtype: Any) -> None:
    reference = y.detach().numpy()
    tolerance = TOLERANCE[dtype] * max(1.0, float(np.max(np.abs(reference), initial=0.0)))
    np.testing.assert_allclose(x.detach().cpu().numpy(), reference, tolerance, tolerance)


TRIANGLE = np.triu(np.ones((L, L), bool), 1)
SOME = np.array([[False, True, False, False], [True, False, False, True], [False, False, False, True]])
PADDING = np.array([[False, False, False, True], [False, True, False, False]])
LAYERS: dict[str, dict[str, Any]] = {
    "plain": {}, "batch first": {"batch_first": True}, "no bias": {"bias": False}, "widths": {"kdim": 5, "vdim": 6},
    "only kdim": {"kdim": 5, "bias": False}, "bias kv": {"add_bias_kv": True}, "zero": {"add_zero_attn": True},
    "all": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True, "kdim": 5}, "dropout": {"dropout": 0.3},
}
CALLS: dict[str, dict[str, Any]] = {
    "weights": {}, "no weights": {"need_weights": False}, "each head": {"average_attn_weights": False},
    "mask": {"attn_mask": SOME}, "mask, no weights": {"attn_mask": SOME, "need_weights": False},
    "terms": {"attn_mask": values(L, S), "need_weights": False},
    "masks of heads": {"attn_mask": np.stack([SOME, ~SOME, SOME, SOME[::-1]])},
    "padding": {"key_padding_mask": PADDING, "need_weights": False},
    "padding, mask": {"key_padding_mask": PADDING, "attn_mask": SOME},
    "padding, terms": {"key_padding_mask": PADDING, "attn_mask": values(L, S), "need_weights": False},
    "padding terms": {"key_padding_mask": values(N, S), "need_weights": False},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("layer", LAYERS)
def test_multihead_attention(layer: str, call: str) -> None:
    options = LAYERS[layer]
    first = options.get("batch_first", False)
    shapes = [(n, length, width) if first else (length, n, width) for n, length, width in (
        (N, L, E), (N, S, options.get("kdim", E)), (N, S, options.get("vdim", E)))]
    check(nn.MultiheadAttention(E, HEADS, **options).eval(), torch.nn.MultiheadAttention(E, HEADS, **options).eval(),
          [values(*shape, seed=i) for i, shape in enumerate(shapes)], "cpu", **CALLS[call])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("call", ["weights", "padding", "padding, terms"])
def test_multihead_attention_on_devices(call: str, dtype: Any, device: str) -> None:
    shapes = (L, N, E), (S, N, E), (S, N, E)
    options = {name: x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
               for name, x in CALLS[call].items()}
    check(nn.MultiheadAttention(E, HEADS), torch.nn.MultiheadAttention(E, HEADS),
          [values(*shape, seed=i) for i, shape in enumerate(shapes)], device, dtype, **options)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_without_a_batch(first: bool, need_weights: bool) -> None:
    layers = [library.MultiheadAttention(E, HEADS, batch_first=first) for library in (nn, torch.nn)]
    check(*layers, [values(L, E), values(S, E, seed=1), values(S, E, seed=2)], "cpu", need_weights=need_weights,
          key_padding_mask=PADDING[0])


class Itself:
    """A layer that looks at one tensor: as query, key and value, or with another query."""

    def __init__(self, layer: Any, **options: Any) -> None:
        self.layer, self.options = layer, options

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def to(self, *args: Any) -> Any:
        self.layer = self.layer.to(*args)
        return self

    def __call__(self, query: Any, memory: Any = None, **options: Any) -> Any:
        memory = query if memory is None else memory
        return self.layer(query, memory, memory, **self.options, **options)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("inputs", [1, 2])
def test_one_tensor_as_key_and_value_or_as_all_three(first: bool, inputs: int) -> None:
    layers = [Itself(library.MultiheadAttention(E, HEADS, batch_first=first), need_weights=False)
              for library in (nn, torch.nn)]
    check(*layers, [values(4, 3, E, seed=i) for i in range(inputs)], "cpu")


def test_is_causal_is_the_triangle_that_the_mask_holds() -> None:
    layers = [Itself(library.MultiheadAttention(E, HEADS), is_causal=True) for library in (nn, torch.nn)]
    for need_weights in (False, True):
        check(*layers, [values(L, N, E)], "cpu", attn_mask=TRIANGLE, need_weights=need_weights)
    check(*layers, [values(L, N, E)], "cpu", attn_mask=TRIANGLE, key_padding_mask=PADDING[:, :L], need_weights=False)


def test_rows_that_may_look_at_nothing() -> None:
    """Without weights they give the output's bias, with weights NaN: as in torch."""
    nothing = np.ones((N, S), bool)
    x, memory = tl.tensor(values(L, N, E)), tl.tensor(values(S, N, E))
    layer = nn.MultiheadAttention(E, HEADS).double()
    out, _ = layer(x, memory, memory, key_padding_mask=tl.tensor(nothing), need_weights=False)
    assert tl.equal(out, layer.out_proj.bias.expand(out.shape))
    assert layer(x, memory, memory, key_padding_mask=tl.tensor(nothing))[0].isnan().all()


def test_start_of_the_parameters() -> None:
    """Xavier's bounds, zeros, and for the output the bound of a linear layer."""
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    for weight, bound in ((layer.in_proj_weight, math.sqrt(6 / (64 + 192))), (layer.out_proj.weight, 1 / 8)):
        largest = weight.abs().max().item()
        assert 0.97 * bound < largest <= bound
    assert not layer.in_proj_bias.any() and not layer.out_proj.bias.any()
    assert 0.1 < layer.bias_k.std().item() < 0.2  # Xavier's normal of a (1, 1, 64): as torch, fans of 64 each
    split = nn.MultiheadAttention(64, 4, kdim=32, vdim=16)
    for weight, width in ((split.q_proj_weight, 64), (split.k_proj_weight, 32), (split.v_proj_weight, 16)):
        assert 0.97 < weight.abs().max().item() / math.sqrt(6 / (64 + width)) <= 1


def test_dropout_only_while_training() -> None:
    layer = nn.MultiheadAttention(E, HEADS, dropout=0.5)
    x = tl.ones(L, N, E)
    for need_weights in (False, True):
        assert not tl.equal(layer(x, x, x, need_weights=need_weights)[0], layer(x, x, x, need_weights=need_weights)[0])
    layer.eval()
    assert tl.equal(layer(x, x, x)[0], layer(x, x, x)[0])


# --- layers and stacks -----------------------------------------------------------------------------------------------

SHORT = np.array([[False, False, True], [False, False, False]])
SHAPES = {False: (L, N, E), True: (N, L, E)}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {}, "norm first": {"norm_first": True}, "batch first": {"batch_first": True, "activation": "gelu"},
    "no bias": {"bias": False, "norm_first": True, "layer_norm_eps": 1e-3}, "dropout": {"dropout": 0.2},
}
MASKS: dict[str, dict[str, Any]] = {
    "": {}, "mask": {"src_mask": TRIANGLE}, "causal": {"src_mask": TRIANGLE, "is_causal": True},
    "padding": {"src_mask": TRIANGLE, "src_key_padding_mask": SHORT},
}


def pair(name: str, *args: Any, **options: Any) -> list[Any]:
    return [getattr(library, name)(*args, **options).eval() for library in (nn, torch.nn)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_encoder_layer(kind: str, mask: str) -> None:
    options = {"dim_feedforward": 6, **KINDS[kind]}
    layers = pair("TransformerEncoderLayer", E, HEADS, **options)
    check(*layers, [values(*SHAPES[options.get("batch_first", False)])], "cpu", **MASKS[mask])


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_layer(kind: str) -> None:
    options = {"dim_feedforward": 6, **KINDS[kind]}
    layers = pair("TransformerDecoderLayer", E, HEADS, **options)
    arrays = [values(*SHAPES[options.get("batch_first", False)], seed=i) for i in range(2)]
    check(*layers, arrays, "cpu")
    check(*layers, arrays, "cpu", tgt_mask=TRIANGLE, tgt_is_causal=True, memory_mask=TRIANGLE.T,
          memory_key_padding_mask=SHORT)


def test_layers_on_devices(device: str) -> None:
    for dtype in TOLERANCE:
        check(*pair("TransformerEncoderLayer", E, HEADS, 6), [values(L, N, E)], device, dtype, src_mask=TRIANGLE)
        arrays = [values(L, N, E), values(S, N, E)]
        check(*pair("TransformerDecoderLayer", E, HEADS, 6, norm_first=True), arrays, device, dtype)


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "batch_first": True}, {"bias": False}])
def test_transformer(options: dict[str, Any]) -> None:
    models = pair("Transformer", E, HEADS, 2, 2, 6, **options)
    shapes = ((N, S, E), (N, L, E)) if options.get("batch_first") else ((S, N, E), (L, N, E))
    arrays = [values(*shape, seed=i) for i, shape in enumerate(shapes)]
    check(*models, arrays, "cpu")
    check(*models, arrays, "cpu", tgt_mask=TRIANGLE, src_key_padding_mask=PADDING, memory_key_padding_mask=PADDING,
          tgt_is_causal=True)
    check(*models, [a[0] if options.get("batch_first") else a[:, 0] for a in arrays], "cpu")


def test_stacks_with_a_norm_and_a_function_as_activation() -> None:
    def encoder(library: Any, activation: Any) -> Any:
        layer = library.TransformerEncoderLayer(E, HEADS, 6, activation=activation)
        return library.TransformerEncoder(layer, 2, library.LayerNorm(E), enable_nested_tensor=False).eval()

    check(encoder(nn, F.tanh), encoder(torch.nn, torch.tanh), [values(L, N, E)], "cpu", mask=TRIANGLE)


def test_all_matrices_of_a_transformer_start_by_xavier() -> None:
    model = nn.Transformer(32, 2, 1, 1, 64)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.9 * bound < parameter.abs().max().item() <= bound, name


def test_layers_of_a_stack_are_copies() -> None:
    layer = nn.TransformerEncoderLayer(E, HEADS, 6)
    stack = nn.TransformerEncoder(layer, 2)
    parameters = [x.linear1.weight for x in (layer, *stack.layers)]
    assert len({id(x) for x in parameters}) == 3
    assert all(tl.equal(x, parameters[0]) for x in parameters)


def test_subsequent_mask() -> None:
    theirs = torch.nn.Transformer.generate_square_subsequent_mask(4)
    np.testing.assert_array_equal(nn.Transformer.generate_square_subsequent_mask(4).numpy(), theirs.numpy())
    assert nn.Transformer.generate_square_subsequent_mask(2, dtype=tl.float64).dtype is tl.float64


def test_our_parameters_in_torch() -> None:
    """The other way round: a model that starts here gives the same there."""
    ours, theirs = pair("Transformer", E, HEADS, 1, 1, 6)
    theirs.load_state_dict({name: torch.tensor(x.numpy()) for name, x in ours.state_dict().items()})
    src, tgt = values(S, N, E, dtype=np.float32), values(L, N, E, dtype=np.float32)
    close(ours(tl.tensor(src), tl.tensor(tgt)), theirs(torch.tensor(src), torch.tensor(tgt)), np.float32)


def test_second_derivatives() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 3, dropout=0.0, activation="gelu").double()
    x = tl.tensor(values(3, 2, 4), requires_grad=True)
    mask = nn.Transformer.generate_square_subsequent_mask(3)

    def function(x: tl.Tensor) -> tl.Tensor:
        return layer(x, src_mask=mask, is_causal=True)

    assert gradcheck(function, x, atol=1e-6, rtol=1e-5)
    assert gradgradcheck(function, x, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_captured_training_is_eager_training(device: str) -> None:
    tl.manual_seed(0)
    eager = nn.Transformer(E, HEADS, 1, 1, 6, dropout=0.25).to(device)
    recorded = copy.deepcopy(eager)
    mask = nn.Transformer.generate_square_subsequent_mask(L, device=device)

    def step_of(model: nn.Module) -> Any:
        optimizer = tl.optim.SGD(model.parameters(), 0.1)

        def step(src: tl.Tensor, tgt: tl.Tensor) -> tl.Tensor:
            optimizer.zero_grad()
            loss = (model(src, tgt, tgt_mask=mask, tgt_is_causal=True) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step

    losses = []
    for step in (step_of(eager), tl.capture(step_of(recorded))):
        tl.manual_seed(1)
        losses.append([step(tl.tensor(values(S, N, E, seed=i, dtype=np.float32), device=device),
                            tl.tensor(values(L, N, E, seed=i, dtype=np.float32), device=device)).item()
                       for i in range(5)])
    assert losses[0] == losses[1]
    assert losses[0][4] != losses[0][0]


# --- errors ----------------------------------------------------------------------------------------------------------

X = tl.zeros(L, N, E)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.MultiheadAttention(8, 3), tl.ArgumentError, "embed_dim must be a positive multiple of num_heads"),
    (lambda: nn.MultiheadAttention(0, 1), tl.ArgumentError, "embed_dim=0"),
    (lambda: nn.MultiheadAttention(8, 2)(X, X, X[:2]), tl.ShapeError, r"\(L, N, E\).*got \(3, 2, 8\)"),
    (lambda: nn.MultiheadAttention(8, 2)(X, X[:, :1], X[:, :1]), tl.ShapeError, "expected query, key and value"),
    (lambda: nn.MultiheadAttention(8, 2, kdim=5, batch_first=True)(X, X, X), tl.ShapeError, "kdim=5"),
    (lambda: nn.MultiheadAttention(8, 2)(X, X, X, is_causal=True), tl.ArgumentError, "give the mask too"),
    (lambda: nn.MultiheadAttention(8, 2)(X, X, X, attn_mask=tl.zeros(2, 3)), tl.ShapeError,
     r"attn_mask has shape \(2, 3\), expected \(3, 3\)"),
    (lambda: nn.MultiheadAttention(8, 2)(X, X, X, attn_mask=tl.zeros(3, 3, 3)), tl.ShapeError,
     r"expected \(4, 3, 3\)"),
    (lambda: nn.MultiheadAttention(8, 2)(X, X, X, key_padding_mask=tl.zeros(2, 3, dtype=tl.int64)), tl.DTypeError,
     "key_padding_mask must be bool or floating, got int64"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), tl.ArgumentError, "relu/gelu or a callable"),
    (lambda: nn.Transformer(8, 2, 1, 1, 4)(X, X[:, :1]), tl.ShapeError, "one batch size"),
    (lambda: nn.SinusoidalEncoding(3), tl.ArgumentError, "must be even and positive"),
    (lambda: nn.SinusoidalEncoding(8, 1)(X), tl.ShapeError, "exceed max_length=1"),
    (lambda: nn.SinusoidalEncoding(4)(X), tl.ShapeError, r"expects \(..., L, 4\)"),
    (lambda: nn.RotaryEmbedding(4)(X), tl.ShapeError, r"expects \(..., L, 4\)"),
    (lambda: nn.RotaryEmbedding(8, 4)(X, offset=3), tl.ShapeError, "positions 3 to 4"),
    (lambda: F.apply_rotary(X, tl.zeros(2, 4), tl.zeros(2, 3)), tl.ShapeError, "cos and sin"),
])
def test_errors(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# --- positions -------------------------------------------------------------------------------------------------------


def test_sinusoidal_encoding(device: str) -> None:
    layer = nn.SinusoidalEncoding(6, 10, base=100.0).to(device)
    x = values(2, 4, 6, dtype=np.float32)
    out = layer(tl.tensor(x, device=device), offset=3).cpu().numpy() - x
    for p, row in enumerate(out[1], start=3):
        for i in range(3):
            angle = p / 100.0 ** (2 * i / 6)
            np.testing.assert_allclose(row[2 * i:2 * i + 2], [math.sin(angle), math.cos(angle)], atol=1e-6)
    assert not layer.state_dict()
    assert layer(tl.tensor(x, device=device).double()).dtype is tl.float64


@pytest.mark.parametrize("interleaved", [True, False])
def test_rotary_embedding_turns_pairs_as_complex_numbers(interleaved: bool, device: str) -> None:
    x = values(2, 3, 5, 6)
    layer = nn.RotaryEmbedding(6, 9, 50.0, interleaved, dtype=tl.float64).to(device)
    out = layer(tl.tensor(x, device=device), offset=2)
    angles = np.arange(2, 7)[:, None] * 50.0 ** (-np.arange(0, 6, 2) / 6)
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., :3], x[..., 3:])
    turned = (a + 1j * b) * np.exp(1j * angles)
    parts = turned.real, turned.imag
    expected = np.stack(parts, -1).reshape(x.shape) if interleaved else np.concatenate(parts, -1)
    np.testing.assert_allclose(out.cpu().numpy(), expected, 1e-12, 1e-12)


def test_products_of_turned_vectors_depend_on_the_distance_alone() -> None:
    layer = nn.RotaryEmbedding(4, dtype=tl.float64)
    q, k = tl.tensor(values(1, 4)), tl.tensor(values(1, 4, seed=1))
    products = [(layer(q, offset=p) * layer(k, offset=p + 3)).sum().item() for p in (0, 5, 100)]
    np.testing.assert_allclose(products, products[0], 1e-12)


def test_rotary_embedding_is_differentiable() -> None:
    cos, sin = (tl.tensor(values(3, 2, seed=i), requires_grad=True) for i in range(2))
    x = tl.tensor(values(2, 3, 4), requires_grad=True)
    for interleaved in (True, False):
        def function(x: tl.Tensor, cos: tl.Tensor, sin: tl.Tensor, way: bool = interleaved) -> tl.Tensor:
            return F.apply_rotary(x, cos, sin, way)

        assert gradcheck(function, [x, cos, sin], atol=1e-6, rtol=1e-5)
        assert gradgradcheck(function, [x, cos, sin], atol=1e-5, rtol=1e-4)
