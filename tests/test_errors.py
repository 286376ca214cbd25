"""Every error that the core raises on purpose: its class and its message. No `raise` may be without a row."""

from __future__ import annotations

import ast
import copy
import itertools
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import errors_conv
import errors_statistics
import numpy as np
import pytest

import tensorlite as tl
from tensorlite import dtypes, ops, testing
from tensorlite.autograd.op import op
from tensorlite.backends import Backend, Device, cpu, get

PACKAGE = Path(tl.__file__).parent
CORE = ["dtypes.py", "creation.py", "tensor.py", "inplace.py", "numpy_protocol.py", "testing.py",
        "backends/__init__.py", "backends/cpu.py", "backends/cpu_index.py", "backends/cpu_layers.py",
        *sorted(f"{folder}/{path.name}" for folder in ("autograd", "ops") for path in (PACKAGE / folder).glob("*.py"))]
# Not reached here: ml_dtypes is installed; guards of what cannot happen unless the core itself has a bug.
UNREACHED = {"bfloat16 needs the package ml_dtypes"}

Row = tuple[Callable[[], Any], type[Exception], str]


def vector(*shape: int, **options: Any) -> tl.Tensor:
    return tl.ones(*(shape or (3,)), **options)


def elsewhere() -> tl.Tensor:
    """A tensor on a second device, made up for the test."""
    backend = cpu.CpuBackend()
    backend.device = Device("cuda", 7)
    return tl.Tensor._wrap(np.ones(3, np.float32), backend)


leaf = {"requires_grad": True}
integers = tl.tensor([1, 2, 3])
bools = tl.tensor([True, False, True])


class Cube(tl.autograd.Function):
    """x³, whose backward returns what the test says."""

    returned: Any = None

    @staticmethod
    def forward(ctx: Any, x: tl.Tensor, extra: Any = None) -> tl.Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: tl.Tensor) -> Any:
        return Cube.returned


class DirtyView(tl.autograd.Function):
    """Marks its input as changed in place; returns it if `give` says so."""

    @staticmethod
    def forward(ctx: Any, x: tl.Tensor, give: bool) -> tl.Tensor:
        ctx.mark_dirty(x)
        return x if give else x + 1


def cube_backward(returned: Any) -> None:
    Cube.returned = returned
    Cube.apply(vector(**leaf), 2.0).sum().backward()


def function_twice() -> None:
    Cube.returned = (vector(), None)
    twice(Cube.apply(vector(**leaf), 2.0))


@op
def wrong_rule(be: Any, x: Any) -> Any:
    return be.elementwise("neg", x)


wrong_rule.rules(x=lambda g: g.reshape(1, -1)[:, :2])


def twice(y: tl.Tensor) -> None:
    y.backward(tl.ones_like(y))
    y.backward(tl.ones_like(y))


def changed_after_use() -> None:
    x = vector(**leaf) * 1
    y = x.exp()
    y.add_(1)
    y.sum().backward()


def other_memory_after_use() -> None:
    x = vector(**leaf)
    y = x * x
    x.data = tl.zeros(3)
    tl.autograd.grad(y.sum(), x, create_graph=True)


def view_without_root() -> None:
    x = vector()
    view = x[:2]
    x.data = tl.zeros(3)
    view.add_(vector(2, **leaf))


def not_followed_back() -> None:
    x = tl.from_numpy(np.asfortranarray(np.ones((2, 3), np.float32)))
    x.add_(vector(2, 3, **leaf))
    x.t().reshape(-1)[:2].mul_(2)  # a view of this memory, which no row-major memory has
    x.sum().backward()


def frozen_view() -> None:
    x = vector(**leaf) * 1
    with tl.no_grad():
        view = x[:2]
    view.add_(x[:2])


def hooked(returned: Any) -> None:
    x = vector(**leaf)
    x.register_hook(lambda g: returned)
    (x * 2).sum().backward()


def anomaly() -> None:
    with tl.autograd.detect_anomaly():
        x = tl.zeros(1, **leaf)
        (x.sqrt() * 0).backward()


def flaky(x: tl.Tensor) -> tl.Tensor:
    """A function whose gradient is another one each time."""
    y, count = x * 1, itertools.count(1)
    y.register_hook(lambda g: g * next(count))
    return y


@op
def spoiling(be: Any, x: Any) -> Any:
    return be.copy(x)


spoiling.rules(x=lambda g: g.fill_(7))


double = {"dtype": tl.float64}
ROWS: dict[str, Row] = {
    # types of arguments
    "from_dlpack of a list": (lambda: tl.from_dlpack([1]), tl.DTypeError, "array of a library with DLPack, got list"),
    "eye negative": (lambda: tl.eye(-1), tl.ArgumentError, "eye: sizes must not be negative, got -1"),
    "repeats of another length": (lambda: tl.repeat_interleave(vector(3), tl.tensor([1, 2])),
                                  tl.ShapeError, r"repeats has shape \(2,\)"),
    "isin of numbers": (lambda: tl.isin(1, 2), tl.DTypeError, "isin: expected a Tensor, got int"),
    "mode": (lambda: tl.set_grad_enabled("no"), tl.DTypeError, "mode must be True or False, got 'no'"),
    "jacobian": (lambda: tl.autograd.functional.jacobian(lambda x: (x, x), vector()),
                 tl.GradError, "one Tensor, got tuple"),
    # dtypes
    "default dtype": (lambda: tl.set_default_dtype(tl.int64), tl.DTypeError, "takes a floating dtype"),
    "big-endian": (lambda: tl.from_numpy(np.ones(1, ">f4")),
                   tl.DTypeError, "little-endian data expected.*newbyteorder"),
    "NumPy dtype": (lambda: tl.from_numpy(np.ones(1, np.complex64)),
                    tl.DTypeError, "no tensor dtype for NumPy's 'complex64'"),
    "no dtype": (lambda: tl.zeros(1, dtype="float31"), tl.DTypeError, "not a dtype: 'float31'; use one of bool, uint8"),
    "no dtype of NumPy": (lambda: tl.zeros(1, dtype=np.complex128),
                          tl.DTypeError, "no tensor dtype for NumPy's 'complex128'"),
    "nothing to promote": (lambda: dtypes.promote([], [], []), tl.DTypeError, "nothing to promote"),
    "finfo": (lambda: tl.finfo(tl.int8), tl.DTypeError, "use iinfo"),
    "iinfo": (lambda: tl.iinfo(tl.float32), tl.DTypeError, "use finfo"),
    # devices and shapes in general
    "gpu": (lambda: vector().to("gpu"), tl.DeviceError, "unknown device 'gpu'; did you mean 'cuda'"),
    "cuda:sim:0": (lambda: vector().to("cuda:sim:0"), tl.DeviceError, "did you mean 'cuda:sim'"),
    "CUDA:0": (lambda: tl.device("CUDA:0"), tl.DeviceError, "did you mean 'cuda'"),
    "tpu": (lambda: tl.zeros(1, device="tpu"), tl.DeviceError, "unknown device 'tpu' \\(known: 'cpu'"),
    "no device": (lambda: tl.device(1.5), tl.DeviceError, "a device is a name such as 'cpu' or 'cuda:0', got 1.5"),
    "kernel": (lambda: get("cpu").run("nonesuch", np.zeros(1)),
               tl.DeviceError, "device 'cpu' has no kernel 'nonesuch'"),
    "recorder": (lambda: Backend.recorder(get("cpu")), tl.DeviceError,
                 "device 'cpu' cannot record work for replay; run the step without tl.capture"),
    "two devices": (lambda: vector() + elsewhere(), tl.DeviceError,
                    r"add: expected all tensors on one device, got \(3,\) on 'cpu', \(3,\) on 'cuda:7'"),
    "broadcast": (lambda: vector(2, 3) + vector(4), tl.ShapeError,
                  r"add: shapes \(2, 3\) and \(4,\) do not broadcast: sizes \[3, 4\] meet in dimension -1"),
    "dimension": (lambda: vector(2, 3).sum(2),
                  tl.OutOfRangeError, r"sum: dimension out of range \(expected -2 to 1, got 2\)"),
    "dimension of 0-d": (lambda: tl.narrow(tl.tensor(1.0), 0, 0, 1),
                         tl.ShapeError, "narrow: a 0-d tensor has no dimension 0"),
    "dimension twice": (lambda: vector(2, 3).sum((0, -2)),
                        tl.ShapeError, r"sum: dimension \(0, -2\) names one dimension twice"),
    "two holes": (lambda: vector(6).reshape(-1, -1), tl.ShapeError, "one -1 and no other negative size"),
    "negative size": (lambda: vector(6).reshape(-2, -3), tl.ShapeError, "no other negative size"),
    "ambiguous hole": (lambda: tl.zeros(0).reshape(0, -1), tl.ShapeError, "the size for -1 is ambiguous"),
    "size": (lambda: vector(6).reshape(4, 2), tl.ShapeError, r"reshape: shape \(4, 2\) is invalid for 6 elements"),
    # what an operation takes
    "bool - bool": (lambda: bools - bools,
                    tl.DTypeError, r"sub does not take \(bool, bool\): bool tensors are not numbers"),
    "matmul of bools": (lambda: bools @ bools, tl.DTypeError, "matmul does not take"),
    "number out of range": (lambda: integers.to(tl.uint8) + 300,
                            tl.DTypeError, "add does not take .uint8, 300.*out of bounds for uint8"),
    "no operand": (lambda: ops.exp("1"), tl.DTypeError, "exp: expected Tensors or numbers, got str"),
    "no tensor": (lambda: ops.exp(1.0), tl.DTypeError, "exp: at least one argument must be a Tensor"),
    "division by zero": (lambda: integers // 0, tl.ArgumentError, "integer division or modulo by zero"),
    "remainder by zero": (lambda: integers % tl.zeros(3, dtype=tl.int64),
                          tl.ArgumentError, "integer division or modulo by zero"),
    "negative power": (lambda: integers ** -1, tl.ArgumentError, "integers to negative integer powers are not allowed"),
    "bits of floats": (lambda: vector() & vector(), tl.DTypeError, "bitwise_and takes integers or bools"),
    "not of floats": (lambda: ~vector(), tl.DTypeError, "bitwise_not takes integers or bools"),
    "gelu": (lambda: ops.gelu(vector(), "fast"), tl.ArgumentError, "approximate must be 'none' or 'tanh', got 'fast'"),
    "rounding mode": (lambda: tl.div(vector(), 2, rounding_mode="up"),
                      tl.ArgumentError, "rounding_mode must be None, 'floor' or 'trunc'"),
    "clamp": (lambda: vector().clamp(), tl.ArgumentError, "at least one of min and max must be given"),
    "where": (lambda: tl.where(integers, vector(), 0.0), tl.DTypeError, "the condition must be bool, got int64"),
    "lerp": (lambda: tl.lerp(integers, integers, 1), tl.DTypeError, "lerp: expected a floating dtype, got int64"),
    "imag": (lambda: tl.imag(vector()), tl.DTypeError, "imag: float32 tensors are real"),
    # fused
    "linear": (lambda: ops.linear(vector(2, 5), vector(4, 3)), tl.ShapeError,
               r"linear expects last dim 3, got 5 \(input \(2, 5\), weight \(4, 3\)\)"),
    "linear with a vector": (lambda: ops.linear(vector(2, 4), vector(4)), tl.ShapeError,
                             r"linear: weight has shape \(4,\), expected a matrix \(out, in\)"),
    "linear of an array": (lambda: ops.linear(np.ones((2, 3)), vector(4, 3)),  # type: ignore[arg-type]
                           tl.DTypeError, r"linear: expected a Tensor, got ndarray; wrap it in tl.tensor\(\.\.\.\)"),
    "linear array": (lambda: ops.linear(np.ones((2, 3)), vector(4, 3)), tl.DTypeError,
                     "linear: expected a Tensor, got ndarray"),
    "linear 0-d": (lambda: ops.linear(tl.tensor(1.0), vector(4, 3)), tl.ShapeError, "got a 0-d tensor"),
    "linear dtype": (lambda: ops.linear(vector(2, 3, **double), vector(4, 3)),
                     tl.DTypeError, "linear: expected operands of one dtype, got float64"),
    "linear bias": (lambda: ops.linear(vector(2, 3), vector(4, 3), vector(3)),
                    tl.ShapeError, r"bias has shape \(3,\), expected \(4,\)"),
    "cross entropy shapes": (lambda: ops.cross_entropy(vector(2, 3), integers),
                             tl.ShapeError, r"logits \(2, 3\) and target \(3,\) do not fit"),
    "cross entropy target": (lambda: ops.cross_entropy(vector(3, 2), vector(3)),
                             tl.DTypeError, "class targets must be integers, got float32"),
    "cross entropy logits": (lambda: ops.cross_entropy(tl.ones(3, 2, dtype=tl.int64), integers),
                             tl.DTypeError, "logits must be floating"),
    "gradient of a norm": (lambda: ops.layer_norm_weight_grad(tl.ones(3), tl.ones(2, 3), dims=(1,), eps=0.1),
                           tl.ShapeError, r"layer_norm_weight_grad: a gradient of shape \(3,\) for an input of"),
    "recurrent batches": (lambda: ops.gru(tl.ones(1, 1, 1), tl.ones(2, 2), tl.ones(6, 1), tl.ones(6, 2)),
                          tl.ShapeError, r"gru: h0 has shape \(2, 2\), expected \(1, 2\)"),
    "recurrent bias": (lambda: ops.rnn(tl.ones(1, 1, 3), tl.ones(1, 2), tl.ones(2, 3), tl.ones(2, 2), tl.ones(1)),
                       tl.ShapeError, r"rnn: a bias has shape \(1,\), expected \(2,\)"),
    "recurrent cells": (lambda: ops.lstm(tl.ones(1, 1, 3), tl.ones(1, 2), tl.ones(1, 1), tl.ones(8, 3), tl.ones(8, 2)),
                        tl.ShapeError, r"lstm: c0 has shape \(1, 1\), expected \(1, 2\)"),
    "recurrent weight": (lambda: ops.rnn(tl.ones(1, 1, 3), tl.ones(1, 2), tl.ones(2), tl.ones(2, 2)),
                         tl.ShapeError, r"weight_ih has shape \(2,\), expected \(2, 3\)"),
    "recurrent input": (lambda: ops.rnn(tl.ones(2, 3), tl.ones(2, 3), tl.ones(3, 3), tl.ones(3, 3)), tl.ShapeError,
                        r"rnn: expected an input \(steps, batch, features\)"),
    "fliplr": (lambda: ops.fliplr(vector()), tl.ShapeError, "fliplr: expected at least 2 dimensions"),
    "flipud": (lambda: ops.flipud(tl.tensor(1.0)), tl.ShapeError, "flipud: expected at least 1 dimension"),
    "rot90": (lambda: ops.rot90(vector()), tl.ShapeError, "rot90: expected two dimensions"),
    "rot90 dims": (lambda: ops.rot90(vector(2, 2), 1, (0, -2)), tl.ShapeError, "must differ"),
    "cartesian_prod": (lambda: ops.cartesian_prod(vector(2, 2)), tl.ShapeError, "cartesian_prod: expected vectors"),
    "combinations": (lambda: ops.combinations(vector(2, 2)), tl.ShapeError, "combinations: expected a vector"),
    "combinations r": (lambda: ops.combinations(vector(), -1), tl.ArgumentError, "must not be negative, got -1"),
    "kthvalue": (lambda: ops.kthvalue(vector(), 0), tl.OutOfRangeError, "kthvalue: k=0 is outside"),
    "searchsorted side": (lambda: ops.searchsorted(vector(), 1.0, side="left", right=True), tl.ArgumentError,
                          "side='left' and right=True"),
    "searchsorted": (lambda: ops.searchsorted(vector(2, 3), vector(3, 3)), tl.ShapeError, "do not fit sequences"),
    "bucketize": (lambda: ops.bucketize(1.0, vector(2, 2)), tl.ShapeError, "boundaries must be a vector"),
    "index_fill": (lambda: ops.index_fill(vector(), 0, integers, vector()), tl.ShapeError, "0-d tensor"),
    "index_copy": (lambda: ops.index_copy(vector(), 0, integers, vector(1)), tl.ShapeError, "index_copy: source has"),
    "scatter_reduce": (lambda: ops.scatter_reduce(vector(), 0, integers, vector(), "prod"), tl.ArgumentError,
                       "one of sum, mean, amax, amin, got 'prod'"),
    "cross entropy range": (lambda: ops.cross_entropy(vector(3, 3), integers), tl.OutOfRangeError,
                            "Target 3 is out of bounds: row 2 of 3, 3 classes"),
    "attention of numbers": (lambda: ops.scaled_dot_product_attention(vector(3, 4), 2.0, vector(3, 4)),
                             tl.DTypeError, "query, key, value and mask must be Tensors, got Tensor, float, Tensor"),
    "attention dtypes": (lambda: ops.scaled_dot_product_attention(vector(3, 4), vector(3, 4, **double), vector(3, 4)),
                         tl.DTypeError, "one floating dtype, got float32, float64, float32"),
    "attention of vectors": (lambda: ops.scaled_dot_product_attention(vector(), vector(), vector()),
                             tl.ShapeError, r"at least 2 dimensions, got \(3,\), \(3,\), \(3,\)"),
    "attention shapes": (lambda: ops.scaled_dot_product_attention(vector(3, 4), vector(5, 4), vector(6, 4)),
                         tl.ShapeError, r"value \(\.\.\., S, Ev\), got \(3, 4\), \(5, 4\), \(6, 4\)"),
    "attention heads": (lambda: ops.scaled_dot_product_attention(
        vector(4, 3, 4), *[vector(3, 3, 4)] * 2, enable_gqa=True),  # type: ignore[arg-type]
                        tl.ShapeError, "the heads of key and value must divide those of query"),
    "attention mask and causal": (lambda: ops.scaled_dot_product_attention(
        *[vector(3, 4)] * 3, vector(3, 3), is_causal=True),  # type: ignore[arg-type]
                                  tl.ArgumentError, "attn_mask and is_causal exclude each other"),
    "attention mask dtype": (lambda: ops.scaled_dot_product_attention(
        *[vector(3, 4)] * 3, vector(3, 3, **double)), tl.DTypeError, "must be bool or of query's dtype float32"),
    "attention mask shape": (lambda: ops.scaled_dot_product_attention(
        *[vector(3, 4)] * 3, vector(2, 3, 3)), tl.ShapeError, r"attn_mask \(2, 3, 3\) does not broadcast to the"),
    "attention dropout": (lambda: ops.scaled_dot_product_attention(
        *[vector(3, 4)] * 3, dropout_p=1.5), tl.ArgumentError, "has to be between 0 and 1, but got 1.5"),
    "layer norm dtype": (lambda: ops.layer_norm(integers, None, None, normalized_ndim=1),
                         tl.DTypeError, "layer_norm: expected a floating dtype"),
    "layer norm weight": (lambda: ops.layer_norm(vector(2, 3), vector(2), None, normalized_ndim=1), tl.ShapeError,
                          r"layer_norm: weight has shape \(2,\), expected \(3,\)"),
    "batch norm weight dtype": (lambda: ops.batch_norm(vector(2, 3), vector(3, **double), None,
                                                       *ops.moments(vector(2, 3)), training=True), tl.DTypeError,
                                "batch_norm: weight is float64 but the input float32; bring them to one dtype"),
    # indexing
    "index dtype": (lambda: vector()[1.5], tl.DTypeError, "an index must hold integers, got float64"),
    "too many indices": (lambda: vector()[0, 0],
                         tl.OutOfRangeError, "too many indices for tensor of dimension 1: got 2"),
    "two ellipses": (lambda: vector(2, 3)[..., ...], tl.ArgumentError, "a single ellipsis"),
    "mask": (lambda: vector()[tl.tensor([True])],
             tl.OutOfRangeError, r"the mask of shape \(1,\) does not fit \(3,\) from dimension 0 on"),
    "index": (lambda: vector()[3], tl.OutOfRangeError, "index 3 is out of bounds for dimension 0 with size 3"),
    "indices": (lambda: vector()[[0, 4]],
                tl.OutOfRangeError, r"index 4 at position \(1,\) is out of bounds for dimension 0 with size 3"),
    "slice": (lambda: vector()[1.0:], tl.DTypeError, "a slice takes integers"),
    "slice step": (lambda: vector()[::0], tl.ArgumentError, "the step of a slice cannot be 0"),
    "setitem": (lambda: vector().__setitem__(slice(2), tl.ones(3)),
                tl.ShapeError, r"a value of shape \(3,\) does not broadcast to the indexed \(2,\)"),
    "gather shape": (lambda: tl.gather(vector(2, 3), 0, integers),
                     tl.ShapeError, r"gather: index of shape \(3,\) does not fit \(2, 3\)"),
    "gather negative": (lambda: tl.gather(vector(), 0, tl.tensor([-1])),
                        tl.OutOfRangeError, r"index -1 at position \(0,\) is out of bounds for dimension 0"),
    "gather range": (lambda: tl.gather(vector(), 0, tl.tensor([3])), tl.OutOfRangeError, "index 3 at position"),
    "index_select": (lambda: tl.index_select(vector(), 0, tl.zeros(1, 1, dtype=tl.int64)),
                     tl.ShapeError, "expected a vector of indices"),
    "scatter dtype": (lambda: tl.scatter(vector(), 0, tl.tensor([0]), tl.ones(1, **double)),
                      tl.DTypeError, "scatter: x is float32 but the source float64"),
    "index_add shape": (lambda: tl.index_add(vector(), 0, tl.tensor([0]), tl.ones(2)),
                        tl.ShapeError, r"source has shape \(2,\), expected \(1,\)"),
    "index_add dtype": (lambda: tl.index_add(vector(), 0, tl.tensor([0]), tl.ones(1, **double)),
                        tl.DTypeError, "index_add: x is float32"),
    "topk": (lambda: tl.topk(vector(), 4), tl.OutOfRangeError, r"topk: k=4 is outside dimension 0 of shape \(3,\)"),
    "tril": (lambda: tl.tril(vector()), tl.ShapeError, "tril: expected at least 2 dimensions"),
    "triu": (lambda: tl.triu(vector()), tl.ShapeError, "triu: expected at least 2 dimensions"),
    # products
    "matmul dtype": (lambda: vector(2, 3) @ vector(3, 2, **double),
                     tl.DTypeError, r"got float32 \(2, 3\) and float64 \(3, 2\); NumPy arrays of floats are float64"),
    "matmul number": (lambda: tl.matmul(vector(), 2),
                      tl.DTypeError, "matmul: expected two Tensors, got Tensor and int"),
    "matmul 0-d": (lambda: vector() @ tl.tensor(1.0), tl.ShapeError, "both factors need at least one dimension"),
    "matmul shapes": (lambda: vector(2, 5) @ vector(3, 4),
                      tl.ShapeError, r"shapes \(2, 5\) and \(3, 4\) cannot be multiplied: 5 columns meet 3 rows"),
    "mm": (lambda: tl.mm(vector(), vector()), tl.ShapeError, "mm: expected 2-D and 2-D tensors"),
    "bmm": (lambda: tl.bmm(vector(2, 3, 3), vector(1, 3, 3)), tl.ShapeError, "bmm: batch sizes differ"),
    "outer": (lambda: tl.outer(vector(2, 2), vector()), tl.ShapeError, "outer: expected two vectors"),
    "trace": (lambda: tl.trace(vector()), tl.ShapeError, "trace: expected a matrix"),
    "tensordot": (lambda: tl.tensordot(vector(), vector(), 2), tl.ShapeError, "tensordot: dims=2"),
    "tensordot sizes": (lambda: tl.tensordot(vector(2, 3), vector(2, 3), 1),
                        tl.ShapeError, r"tensordot: dims \(1,\) of \(2, 3\) do not match \(0,\)"),
    "einsum count": (lambda: tl.einsum("i,j", vector()), tl.ArgumentError, "names 2 operands, got 1"),
    "einsum term": (lambda: tl.einsum("ij", vector()),
                    tl.ArgumentError, r"term 'ij' of 'ij' does not fit shape \(3,\)"),
    "einsum result": (lambda: tl.einsum("i->j", vector()),
                      tl.ArgumentError, "repeats a letter or names an unknown one"),
    "einsum diagonal": (lambda: tl.einsum("ii", vector(2, 3)), tl.ShapeError, "'i' has sizes 2 and 3 in one operand"),
    "einsum sizes": (lambda: tl.einsum("i,i", vector(2), vector(3)), tl.ShapeError, "'i' has sizes 2 and 3"),
    # movement
    "view": (lambda: vector(2, 3).T.view(6), tl.ShapeError, r"does not fit the strides of \(3, 2\); use .reshape"),
    "flatten": (lambda: vector(2, 3).flatten(1, 0), tl.ShapeError, "start_dim 1 lies behind end_dim 0"),
    "expand": (lambda: vector(2, 3).expand(4, 3), tl.ShapeError, r"shape \(2, 3\) cannot expand to \(4, 3\)"),
    "repeat_interleave": (lambda: vector(2, 3).repeat_interleave(-1, 0), tl.ArgumentError, "must not be negative"),
    "permute": (lambda: vector(2, 3).permute(0), tl.ShapeError, "2 dimensions need an order of as many"),
    "t": (lambda: vector(2, 3, 4).T, tl.ShapeError, "at most 2 dimensions.*use .mT or .permute"),
    "mT": (lambda: vector().mT, tl.ShapeError, "mT: expected at least 2 dimensions"),
    "movedim": (lambda: tl.movedim(vector(2, 3), (0, 1), 0), tl.ShapeError, "name different numbers of dimensions"),
    "narrow": (lambda: vector().narrow(0, 2, 2), tl.ShapeError, "start 2 and length 2 exceed dimension 0 of size 3"),
    "diagonal": (lambda: vector().diagonal(), tl.OutOfRangeError, "diagonal: dimension out of range"),
    "diagonal of one": (lambda: vector(2, 3).diagonal(0, 0, -2), tl.ShapeError, "two different dimensions are needed"),
    "diag": (lambda: tl.diag(vector(2, 2, 2)), tl.ShapeError, "diag: expected a vector or a matrix"),
    "cat of nothing": (lambda: tl.cat([]), tl.ArgumentError, "non-empty list"),
    "cat": (lambda: tl.cat([vector(2, 3), vector(2, 4)]),
            tl.ShapeError, r"shapes \[\(2, 3\), \(2, 4\)\] must agree in all dimensions but 0"),
    "cat of 0-d": (lambda: tl.cat([tl.tensor(1.0)]), tl.ShapeError, "0-d tensors cannot be joined, use stack"),
    "stack of nothing": (lambda: tl.stack([]), tl.ArgumentError, "non-empty list"),
    "stack": (lambda: tl.stack([vector(2), vector(3)]), tl.ShapeError, "stack expects each tensor to be equal size"),
    "split size": (lambda: vector().split(0), tl.ArgumentError, "split_size must be positive, got 0"),
    "split sizes": (lambda: vector().split([1, 1]), tl.ShapeError, r"sizes \[1, 1\] do not add up to 3"),
    "chunk": (lambda: vector().chunk(0), tl.ArgumentError, "chunks must be positive"),
    "tensor_split": (lambda: vector().tensor_split(0), tl.ArgumentError, "sections must be positive"),
    "roll": (lambda: vector(2, 3).roll((1, 2), 0), tl.ArgumentError, "must be equally many"),
    "repeat": (lambda: vector(2, 3).repeat(2),
               tl.ShapeError, "1 counts for 2 dimensions; give one per dimension, or use tile"),
    "pad mode": (lambda: ops.pad(vector(), (1, 1), "mirror"), tl.ArgumentError, "mode 'mirror' is not supported"),
    "pad widths": (lambda: ops.pad(vector(), (1, 1, 1)), tl.ShapeError, "3 widths for 1 dimensions"),
    "pad value": (lambda: ops.pad(vector(), (1, 1), "reflect", 2.0), tl.ArgumentError, "does not use a value"),
    "pad cut": (lambda: ops.pad(vector(), (-2, -2)), tl.ShapeError, r"\(-2, -2\) cuts more than dimension 0"),
    "pad reflect": (lambda: ops.pad(vector(), (3, 0), "reflect"), tl.ShapeError, "needs widths below the size"),
    "pad replicate": (lambda: ops.pad(tl.zeros(0), (1, 0), "replicate"), tl.ShapeError, "needs an element"),
    "pad circular": (lambda: ops.pad(vector(), (4, 0), "circular"), tl.ShapeError, "goes round at most once"),
    "unfold size": (lambda: vector().unfold(0, -1, 1), tl.ArgumentError, "got -1 and 1"),
    "unfold too long": (lambda: vector().unfold(0, 4, 1), tl.ShapeError, "windows of 4 do not fit dimension 0"),
    "pool dtype": (lambda: ops.max_pool2d(tl.ones(1, 2, 2, dtype=tl.int64), 2), tl.DTypeError, "got int64; convert"),
    "pool shape": (lambda: ops.max_pool2d(vector(2, 2), 2), tl.ShapeError, r"expected an input \(N, C, H, W\)"),
    "pool no plane": (lambda: ops.avg_pool2d(tl.zeros(1, 1, 0, 2), 1), tl.ShapeError, "planes that are not empty"),
    "pool size": (lambda: ops.max_pool2d(vector(1, 2, 2), (1, 2, 3)), tl.ArgumentError, "kernel_size must be"),
    "batch_norm integers": (lambda: tl.nn.functional.batch_norm(vector(3, 2).long(), None, None, training=True),
                            tl.DTypeError, "batch_norm: expected a floating dtype, got int64"),
    "local_response_norm size": (lambda: tl.nn.functional.local_response_norm(vector(1, 2, 2), 0), tl.ArgumentError,
                                 "size must be at least 1, got 0"),
    "lstm integers": (lambda: tl.nn.LSTM(2, 2)(vector(3, 1, 2).long()), tl.DTypeError, "LSTM: expected a floating"),
    "pool array": (lambda: ops.max_pool2d(np.ones((1, 2, 2)), 2), tl.DTypeError, "expected a Tensor, got ndarray"),
    "pool stride": (lambda: ops.avg_pool2d(vector(1, 2, 2), 2, 0), tl.ArgumentError, "stride must be an integer >= 1"),
    "pool padding": (lambda: ops.max_pool2d(vector(1, 2, 2), 2, 2, 2), tl.ArgumentError, r"padding \(2, 2\) may be at"),
    "pool too small": (lambda: ops.max_pool2d(vector(1, 2, 2), 3), tl.ShapeError, r"windows of \(3, 3\) do not fit"),
    "pool divisor": (lambda: ops.avg_pool2d(vector(1, 2, 2), 2, divisor_override=0), tl.ArgumentError, "must not be 0"),
    "meshgrid": (lambda: tl.meshgrid(vector(), indexing="xz"), tl.ArgumentError, "indexing must be 'ij' or 'xy'"),
    "meshgrid vectors": (lambda: tl.meshgrid(vector(2, 2)), tl.ShapeError, "expected vectors"),
    # reductions
    "two names": (lambda: vector().sum(dim=0, axis=0), tl.ArgumentError, "got both dim= and axis="),
    "mean of integers": (lambda: integers.mean(),
                         tl.DTypeError, "mean: expected a floating dtype, got int64; convert with .float()"),
    "max of nothing": (lambda: tl.zeros(0).max(), tl.ShapeError, r"amax: dimensions \(0,\) of shape \(0,\) are empty"),
    "argmin of nothing": (lambda: tl.zeros(2, 0).argmin(1), tl.ShapeError, "no argmin of nothing"),
    "norm": (lambda: vector().norm("two"), tl.ArgumentError, "p must be a number or 'fro', got 'two'"),
    # creation and conversion
    "from_numpy": (lambda: tl.from_numpy([1]), tl.DTypeError, "expected a NumPy array, got list; use tl.tensor"),
    "negative shape": (lambda: tl.zeros(2, -1), tl.ArgumentError, r"negative size in \(2, -1\)"),
    "arange": (lambda: tl.arange(3, 0), tl.ArgumentError, "step 1 does not lead from 3 to 0"),
    "arange step": (lambda: tl.arange(3, 0, 0), tl.ArgumentError, "step 0 does not lead"),
    "ragged": (lambda: tl.tensor([[1, 2], [3]]), tl.ShapeError, "rectangular data, got a ragged sequence"),
    "text": (lambda: tl.tensor("abc"), tl.DTypeError, "cannot make a tensor of str"),
    "objects": (lambda: tl.tensor([object()]),
                tl.DTypeError, "cannot make a tensor of list with elements of type object"),
    "overflow": (lambda: tl.tensor([300], dtype=tl.uint8), tl.DTypeError, "300 does not fit uint8"),
    "to": (lambda: vector().to(color="red"), tl.ArgumentError, r"to: unexpected arguments \['color'\]"),
    "item": (lambda: vector().item(), tl.ShapeError, "a Tensor with 3 elements cannot be converted to Scalar"),
    "len": (lambda: len(tl.tensor(1)), tl.DTypeError, "len.. of a 0-d tensor"),
    "iter": (lambda: iter(tl.tensor(1)), tl.DTypeError, "iteration over a 0-d tensor"),
    "bool": (lambda: bool(vector()), tl.ShapeError, "Boolean value of Tensor with more than one value is ambiguous"),
    "bool of nothing": (lambda: bool(tl.zeros(0)), tl.ShapeError, "Boolean value of Tensor with no value is ambiguous"),
    "__index__": (lambda: [1][tl.tensor(0.0)],
                  tl.DTypeError, "only integer tensors of a single element can be an index"),
    "__array__": (lambda: np.asarray(vector(), np.int8, copy=False),
                  tl.ArgumentError, "a copy is needed to convert float32 to int8"),
    "numpy": (lambda: vector(**leaf).numpy(), tl.GradError, "Can't call numpy.. on Tensor that requires grad"),
    "dlpack": (lambda: np.from_dlpack(vector(**leaf)), tl.GradError, "Can't export tensors that require gradient"),
    "ufunc": (lambda: np.hypot(vector(), 1.0), tl.DTypeError, r"np.hypot\(...\) does not take Tensors"),
    "function": (lambda: np.median(vector()), tl.DTypeError, "np.median does not take Tensors"),
    "option": (lambda: np.sum(vector(), initial=1), tl.DTypeError, "np.sum with a Tensor: .*initial"),
    "matrix norm": (lambda: np.linalg.norm(vector(2, 2), 2), tl.ArgumentError, "matrix norm ord=2"),
    # autograd
    "integers require grad": (lambda: tl.zeros(1, dtype=tl.int64, **leaf),
                              tl.DTypeError, "only floating tensors can require gradients, got int64"),
    "requires_grad of a result": (lambda: (vector(**leaf) * 1).requires_grad_(False),
                                  tl.GradError, "only change requires_grad of leaf"),
    "grad is no Tensor": (lambda: setattr(vector(**leaf), "grad", 1),
                          tl.DTypeError, "grad must be a Tensor or None, got int"),
    "grad of another shape": (lambda: setattr(vector(**leaf), "grad", vector(2)),
                              tl.ShapeError, r"assigned grad has float32 \(2,\)"),
    "detach_": (lambda: (vector(**leaf) * 1)[:2].detach_(), tl.GradError, "a view cannot be detached in place"),
    "retain_grad": (lambda: vector().retain_grad(), tl.GradError, "can't retain_grad"),
    "hook": (lambda: vector().register_hook(print), tl.GradError, "cannot register a hook"),
    "data of a result": (lambda: setattr(vector(**leaf) * 1, "data", vector()),
                         tl.GradError, "only a leaf tensor can do this"),
    "deepcopy": (lambda: copy.deepcopy(vector(**leaf) * 1),
                 tl.GradError, "only leaf tensors support deepcopy and pickling"),
    "pickle": (lambda: pickle.dumps(vector(**leaf) * 1),
               tl.GradError, "only leaf tensors support deepcopy and pickling"),
    "no graph": (lambda: vector().sum().backward(), tl.GradError, "element 0 of tensors does not require grad"),
    "no scalar": (lambda: (vector(**leaf) * 1).backward(), tl.GradError, r"only for scalar outputs, got shape \(3,\)"),
    "gradient shape": (lambda: (vector(**leaf) * 1).backward(vector(2)),
                       tl.ShapeError, r"gradient of shape \(2,\) for an output of shape \(3,\)"),
    "gradient device": (lambda: (vector(**leaf) * 1).backward(elsewhere()),
                        tl.DeviceError, "gradient on 'cuda:7' for an output on 'cpu'"),
    "gradient type": (lambda: (vector(**leaf) * 1).backward(1.0),
                      tl.DTypeError, "gradient 0 must be a Tensor, got float"),
    "gradient count": (lambda: tl.autograd.backward([vector(**leaf).sum()], [None, None]),
                       tl.GradError, "got 1 tensors and 2 gradients"),
    "second backward": (lambda: twice(vector(**leaf).exp()), tl.GradError, "a second time.*retain_graph=True"),
    "changed in place": (changed_after_use,
                         tl.GradError, "exp: a tensor needed for its gradient was modified by an in-place operation"),
    "other memory": (other_memory_after_use, tl.GradError, "was given other memory since"),
    "unused input": (lambda: tl.autograd.grad(vector(**leaf).sum(), vector(**leaf)),
                     tl.GradError, "was not used to compute"),
    "no inputs": (lambda: tl.autograd.grad(vector(**leaf).sum(), []), tl.GradError, "the list of inputs is empty"),
    "input without grad": (lambda: tl.autograd.grad(vector(**leaf).sum(), vector()),
                           tl.GradError, "input 0 of shape .* does not require grad"),
    "rule shape": (lambda: wrong_rule(vector(**leaf)).sum().backward(),
                   tl.ShapeError, "wrong_rule: its rule gave a gradient of shape"),
    "rule name": (lambda: wrong_rule.rules(y=lambda g: g), ValueError, "wrong_rule has no input 'y'"),
    "hook type": (lambda: hooked(1.0), tl.DTypeError, "a gradient hook must return a Tensor or None, got float"),
    "hook shape": (lambda: hooked(vector(2)), tl.ShapeError, r"a gradient hook returned float32 \(2,\)"),
    "anomaly": (anomaly, tl.GradError, "sqrt: its gradient for input 'x' holds NaN; recorded at .*test_errors.py"),
    "Function twice": (function_twice, tl.GradError, "Cube: trying to backward through the graph a second time"),
    "Function count": (lambda: cube_backward((None,)), tl.GradError, "Cube.backward returned 1 gradients for 2 inputs"),
    "Function type": (lambda: cube_backward((1.0, None)),
                      tl.DTypeError, "Cube.backward must return Tensors or None, got float"),
    "Function keyword": (lambda: Cube.apply(vector(), extra=vector(**leaf)),
                         tl.GradError, "'extra' requires grad and must be passed by position"),
    "Function forward": (lambda: tl.autograd.Function.forward(None), NotImplementedError, "a static method forward"),
    "Function backward": (lambda: tl.autograd.Function.backward(None), NotImplementedError, "a static method backward"),
    "dirty but not returned": (lambda: DirtyView.apply(vector(**leaf) * 1, False),
                               tl.GradError, "marked an input as dirty that it does not return"),
    "dirty leaf": (lambda: DirtyView.apply(vector(**leaf), True), tl.GradError, "a leaf Variable that requires grad"),
    "dirty view": (lambda: DirtyView.apply((vector(**leaf) * 1)[:2], True), tl.GradError, "a view is marked as dirty"),
    "huge number": (lambda: vector() * 10**400, tl.DTypeError, r"mul does not take \(float32, 10+\): int too large"),
    "pinned elsewhere": (lambda: elsewhere().pin_memory(), tl.DeviceError, r"pin_memory: .* use .cpu\(\) first"),
    "pinned leaf": (lambda: vector(**leaf).pin_memory(), tl.GradError, "the copy is not recorded"),
    "numpy elsewhere": (lambda: elsewhere().numpy(), tl.DeviceError, r"tensor.cpu\(\)"),
    # in place
    "leaf in place": (lambda: vector(**leaf).add_(1),
                      tl.GradError, "a leaf Variable that requires grad is being used in an in-place operation"),
    "view of a leaf": (lambda: vector(**leaf)[:2].add_(1), tl.GradError, "a view of a leaf Variable"),
    "expanded": (lambda: vector(1).expand(3).add_(1),
                 tl.GradError, "add_: the tensor of shape .* shares memory among its elements"),
    "in place shape": (lambda: vector(3).add_(vector(2, 3)), tl.ShapeError, r"add_: the result has shape \(2, 3\)"),
    "in place dtype": (lambda: tl.tensor([1, 2]).div_(2),
                       tl.DTypeError, "div_: result type float32 can't be cast to the tensor's int64"),
    "copy_": (lambda: vector(3).copy_(vector(2)), tl.ShapeError, r"copy_: values of shape \(2,\) do not broadcast"),
    "frozen view": (frozen_view, tl.GradError, "a view that was made under no_grad"),
    "not followed back": (not_followed_back, tl.GradError, "cannot be followed back; modify a .clone"),
    "view without root": (view_without_root, tl.GradError, "no longer shares memory with the tensor"),
    # testing
    "gradcheck without grad": (lambda: testing.gradcheck(lambda x: x, vector(**double)),
                               tl.ArgumentError, "no input requires grad"),
    "gradcheck float32": (lambda: testing.gradcheck(lambda x: x, vector(**leaf)),
                          tl.DTypeError, "differences need float64, got an input of float32"),
    "gradcheck wrong": (lambda: testing.gradcheck(lambda x: x * x.detach(), vector(**double, **leaf)), tl.GradError,
                        "the Jacobian of output 0 for input 0 is wrong"),
    "gradcheck random": (lambda: testing.gradcheck(flaky, vector(**double, **leaf)),
                         tl.GradError, "two backward passes gave different"),
    "gradcheck spoilt": (lambda: testing.gradcheck(spoiling, vector(**double, **leaf)),
                         tl.GradError, "backward changed the gradient"),
    "assert_close length": (lambda: testing.assert_close([1], [1, 2]), AssertionError, "lengths differ: 1 and 2"),
    "assert_close device": (lambda: testing.assert_close(vector(), elsewhere()),
                            AssertionError, "devices differ: 'cpu' and 'cuda:7'"),
    "assert_close dtype": (lambda: testing.assert_close(vector(), vector(**double)),
                           AssertionError, "dtypes differ: float32 and float64"),
    "assert_close shape": (lambda: testing.assert_close(vector(), vector(2)),
                           AssertionError, r"shapes differ: \(3,\) and \(2,\)"),
    "assert_close values": (lambda: testing.assert_close(vector(), tl.tensor([1.0, 2.0, 1.0])),
                            AssertionError, r"1 of 3 values differ, the first at \(1,\): 1.0 and 2.0"),
    **errors_conv.ROWS,
    **errors_statistics.ROWS,
}
for name in ("cuda", "cuda:sim"):
    if name not in testing.devices():
        ROWS[f"no {name}"] = (lambda name=name: vector().to(name), tl.DeviceError, "use device 'cpu'|install|driver")


@pytest.mark.parametrize("name", ROWS)
def test_error(name: str) -> None:
    call, error, message = ROWS[name]
    with pytest.raises(error, match=message) as caught:
        call()
    if issubclass(error, tl.TensorliteError):
        assert type(caught.value) is error
        assert len(str(caught.value)) > 20, "a message says what to do"


@pytest.mark.parametrize(("ours", "builtin"), [
    (tl.ShapeError, ValueError), (tl.DTypeError, TypeError), (tl.OutOfRangeError, IndexError),
    (tl.ArgumentError, ValueError), (tl.FileFormatError, ValueError), (tl.OutOfMemoryError, MemoryError),
    (tl.DeviceError, RuntimeError), (tl.GradError, RuntimeError)])
def test_each_class_is_also_what_others_catch(ours: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(ours, builtin)
    assert issubclass(ours, RuntimeError)
    assert issubclass(ours, tl.TensorliteError)


def raise_statements() -> Iterator[tuple[str, int, int, str]]:
    """(file, first line, last line, text) of every `raise Error(...)` of the core."""
    for name in CORE:
        source = (PACKAGE / name).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield str(PACKAGE / name), node.lineno, node.end_lineno or node.lineno, ast.unparse(node)


def test_every_raise_of_the_core_is_reached_by_some_row() -> None:
    reached: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "exception":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace if frame.f_code.co_filename.startswith(str(PACKAGE)) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for call, error, _ in ROWS.values():
            with pytest.raises(error):
                call()
    finally:
        sys.settrace(before)
    missing = [text for file, first, last, text in raise_statements()
               if not any((file, line) in reached for line in range(first, last + 1))
               and not any(known in text for known in UNREACHED)]
    assert not missing
