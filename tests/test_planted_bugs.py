"""Bugs that were planted in a copy of the code and that no other test noticed: here is one test for each."""

from __future__ import annotations

import gzip
import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim, safetensors_format
from tensorlite.autograd import Function, grad
from tensorlite.backends import get
from tensorlite.data.idx import _CHUNK, encode_idx, read_idx
from tensorlite.nn import functional as F

NAN = float("nan")


def leaf(*values: float, dtype: Any = tl.float32) -> tl.Tensor:
    return tl.tensor(list(values), dtype=dtype, requires_grad=True)


def refused_as_modified(y: tl.Tensor) -> None:
    with pytest.raises(tl.GradError, match="in-place"):
        y.backward()


class Square(Function):
    @staticmethod
    def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
        (x,) = ctx.saved_tensors
        return g * x * x


class AddOneToItsInput(Function):
    @staticmethod
    def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
        x.detach().numpy()[...] += 1
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
        return g


# --- accumulation, and memory of gradients -----------------------------------------------------------------------


def test_accumulating_into_grad_counts_as_a_change_in_place() -> None:
    x, w = leaf(1, 1), leaf(1, 1)
    x.sum().backward()
    assert x.grad is not None
    y = (w * x.grad).sum()
    x.sum().backward()
    refused_as_modified(y)


def test_accumulating_with_create_graph_keeps_the_history() -> None:
    x = tl.tensor(2.0, requires_grad=True)
    x.grad = tl.tensor(1.0)
    (x**3).backward(create_graph=True)
    assert grad(x.grad, x)[0] == 12.0


def test_a_retained_gradient_is_not_the_callers() -> None:
    h = leaf(1, 1) * 2.0
    h.retain_grad()
    given = tl.ones(2)
    h.backward(given)
    assert h.grad is not None and not np.shares_memory(h.grad.array, given.array)


def test_grad_of_one_tensor_named_twice_gives_two_arrays() -> None:
    x = leaf(1, 1)
    a, b = grad((x * 2.0).sum(), [x, x])
    assert a is not None and b is not None and not np.shares_memory(a.array, b.array)


def test_broadcasting_is_undone_before_promotion() -> None:
    w = tl.tensor(1.0, dtype=tl.float16, requires_grad=True)
    (w * tl.tensor([2049.0, -2048.0] * 4)).sum().backward()
    assert w.grad is not None and w.grad.item() == 4.0


def test_a_given_gradient_takes_the_outputs_dtype() -> None:
    x = leaf(1, 1)
    x.backward(tl.ones(2, dtype=tl.float64))
    assert x.grad is not None and x.grad.dtype is tl.float32


def test_what_lies_beside_the_way_to_the_inputs_is_left_alone() -> None:
    class Add(Function):
        @staticmethod
        def forward(ctx: Any, a: tl.Tensor, b: tl.Tensor) -> tl.Tensor:
            return a + b

        @staticmethod
        def backward(ctx: Any, g: tl.Tensor) -> tuple[tl.Tensor, tl.Tensor]:
            return g, g

    a, c = leaf(1, 1), leaf(1, 1) * 2.0
    c.retain_grad()
    Add.apply(a, c).sum().backward(inputs=[a])
    assert a.grad is not None and c.grad is None


# --- changes in place --------------------------------------------------------------------------------------------


def test_data_taken_from_another_tensor_is_watched() -> None:
    x, v = leaf(1, 1), tl.full((2,), 2.0)
    x.data = v
    y = (x * x).sum()
    v.mul_(10.0)
    refused_as_modified(y)


def test_a_view_given_new_data_is_no_view_any_more() -> None:
    base = tl.zeros(4)
    view = base[:2]
    view.data = tl.ones(2)
    base.mul_(leaf(1, 1, 1, 1))
    assert not view.requires_grad and view.tolist() == [1, 1]


def test_a_function_that_changes_its_input_is_noticed() -> None:
    h = leaf(1, 1) * 2.0
    y = (h * h).sum()
    AddOneToItsInput.apply(h)
    refused_as_modified(y)


def test_tensors_saved_by_a_function_are_watched_in_second_derivatives() -> None:
    h = leaf(1, 1) * 1.0
    (g,) = grad(Square.apply(h), h, leaf(1, 1), create_graph=True)
    with tl.no_grad():
        h.mul_(2.0)
    assert g is not None
    refused_as_modified(g.sum())


def test_keyword_arguments_of_a_checkpoint_are_watched() -> None:
    x, k = leaf(1, 1), tl.ones(2)
    y = tl.autograd.checkpoint(lambda t, k: (t * k).sum(), x, k=k)
    k.mul_(5.0)
    refused_as_modified(y)


def test_item_assignment_is_watched() -> None:
    c = tl.ones(2)
    y = (leaf(1, 1) * c).sum()
    c[0] = 5.0
    refused_as_modified(y)


def test_filling_gradients_with_zeros_is_watched() -> None:
    w, p = leaf(1, 1), leaf(1, 1)
    p.sum().backward()
    assert p.grad is not None
    y = (w * p.grad).sum()
    optim.SGD([p], lr=1.0).zero_grad(set_to_none=False)
    refused_as_modified(y)


# --- values --------------------------------------------------------------------------------------------------------


def test_a_rule_computes_in_the_promoted_dtype() -> None:
    x = leaf(300, dtype=tl.float16)
    tl.atan2(x, tl.tensor([1.0])).backward()
    assert x.grad is not None and x.grad.item() == pytest.approx(1 / 90001, rel=0.01)


def test_relu_of_a_large_array_has_derivative_0_at_0() -> None:
    x = tl.zeros(4096, requires_grad=True)
    x.relu().sum().backward()
    assert x.grad is not None and not x.grad.any()


def test_prod_over_dimensions_out_of_order() -> None:
    x = (tl.arange(24.0).double() + 1.0).reshape(2, 3, 4).requires_grad_()
    x.prod(dim=(2, 0)).sum().backward()
    values = x.detach().numpy()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), values.prod((2, 0), keepdims=True) / values)


def test_median_of_nan_is_nan() -> None:
    assert np.isnan(tl.tensor([1.0, NAN, 2.0]).median().item())


def test_maximum_with_nan_sends_its_gradient_to_both_as_torch_does() -> None:
    x, y = leaf(1), leaf(NAN)
    tl.maximum(x, y).sum().backward()
    assert x.grad is not None and y.grad is not None and (x.grad.item(), y.grad.item()) == (1.0, 1.0)


def test_layer_norm_of_float16_has_the_gradient_of_float64() -> None:
    gradients = []
    for dtype in (tl.float16, tl.float64):
        x = tl.tensor([[300.0, -300.0, 10.0, 0.0]], dtype=dtype, requires_grad=True)
        (F.layer_norm(x, (4,)) * tl.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=dtype)).sum().backward()
        assert x.grad is not None
        gradients.append(x.grad.double().numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-2, atol=1e-5)


def test_dropout_draws_from_the_given_generator_only() -> None:
    x, generator = tl.ones(64), tl.Generator().manual_seed(1)
    before = tl.get_rng_state()
    first = F.dropout(x, 0.5, generator=generator)
    assert tl.equal(tl.get_rng_state(), before)
    assert tl.equal(first, F.dropout(x, 0.5, generator=generator.manual_seed(1)))


def test_smooth_l1_without_a_smooth_part_weighs_its_samples() -> None:
    x, t, weights = tl.tensor([1.0, 3.0]), tl.zeros(2), tl.tensor([1.0, 0.0])
    assert F.smooth_l1_loss(x, t, beta=0.0, reduction="sum", sample_weight=weights).item() == 1.0


def test_clipping_divides_by_the_norm_plus_a_millionth() -> None:
    w = leaf(0)
    w.grad = tl.tensor([1e-6])
    nn.utils.clip_grad_norm_([w], 1e-6)
    assert w.grad.item() == pytest.approx(0.5e-6, rel=1e-3)


def test_the_norm_of_float16_gradients_does_not_overflow() -> None:
    w = leaf(0, 0, 0, 0, dtype=tl.float16)
    w.grad = tl.full((4,), 300.0, dtype=tl.float16)
    assert nn.utils.clip_grad_norm_([w], 1.0).item() == pytest.approx(600.0)
    assert w.grad.tolist() == [0.5] * 4


# --- state and files -------------------------------------------------------------------------------------------------


def test_each_group_is_replayed_with_its_own_learning_rate() -> None:
    a, b = leaf(0, 0), leaf(0, 0)
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 2.0}])
    a.grad, b.grad = tl.ones(2), tl.ones(2)
    calls: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = []
    backend = get("cpu")
    backend.observers = (lambda _, kernel, out, args, params: calls.append((kernel, out, args, params)),)
    try:
        optimizer.step()
    finally:
        backend.observers = ()
    for kernel, out, args, params in calls:
        if kernel == "sgd_step":
            backend.run(kernel, out, *args, **params)
    assert a.tolist() == [-2, -2] and b.tolist() == [-4, -4]


def test_loading_an_optimizer_forgets_state_that_the_file_lacks() -> None:
    a, b = leaf(1, 1), leaf(1, 1)
    optimizer = optim.SGD([a, b], lr=0.1, momentum=0.9)
    a.grad = tl.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    b.grad = tl.ones(2)
    optimizer.step()
    optimizer.load_state_dict(saved)
    assert b not in optimizer.state


def test_assigning_weights_of_another_dtype_drops_the_gradient() -> None:
    model = nn.Linear(2, 2)
    model.weight.grad = tl.ones(2, 2)
    model.load_state_dict({name: t.double() for name, t in model.state_dict().items()}, assign=True)
    assert model.weight.grad is None


def test_a_tensor_that_changes_while_it_is_written_is_saved_as_it_was_summed() -> None:
    values = np.zeros(4, np.float32)

    class File(io.BytesIO):
        def write(self, data: Any) -> int:
            if isinstance(data, memoryview):
                values[...] = 7
            return super().write(data)

    file = File()
    safetensors_format.write(file, {"a": (tl.float32, (4,))}, lambda name: values)
    file.seek(0)
    assert safetensors_format.read(file, "f").arrays["a"].tolist() == [0, 0, 0, 0]


def test_bytes_behind_a_gzip_stream_that_ends_with_a_chunk_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress(encode_idx(np.frombuffer(os.urandom(250_000), np.uint8)), mtime=0)
    extra = _CHUNK - len(packed) - 2
    head = bytearray(packed[:10])
    head[3] |= 4  # FEXTRA: a field that fills the chunk up
    file = tmp_path / "f"
    file.write_bytes(bytes(head) + struct.pack("<H", extra) + bytes(extra) + packed[10:] + b"\0")
    with pytest.raises(tl.FileFormatError):
        read_idx(file)
