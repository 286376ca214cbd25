"""How a Tensor prints: texts that PyTorch 2.13 gave for the same tensors (test_parity_shapes.py compares many more)."""

from __future__ import annotations

import math

import pytest

import tensorlite as tl

ZEROS = "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
TEXTS = {
    "matrix": (lambda: tl.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
               "tensor([[1., 2.],\n        [3., 4.]], requires_grad=True)"),
    "0-d": (lambda: tl.tensor(3.14159), "tensor(3.1416)"),
    "empty": (lambda: tl.tensor([]), "tensor([])"),
    "empty matrix": (lambda: tl.zeros(2, 0), "tensor([], size=(2, 0))"),
    "empty integers": (lambda: tl.zeros(0, dtype=tl.int64), "tensor([], dtype=tensorlite.int64)"),
    "integers": (lambda: tl.tensor([1, -20, 300]), "tensor([  1, -20, 300])"),
    "bools": (lambda: tl.tensor([True, False]), "tensor([ True, False])"),
    "not finite": (lambda: tl.tensor([1.0, math.nan, math.inf, -math.inf]), "tensor([1., nan, inf, -inf])"),
    "small": (lambda: tl.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    "large": (lambda: tl.tensor([1e9, 1.0]), "tensor([1.0000e+09, 1.0000e+00])"),
    "wide range": (lambda: tl.tensor([0.5, 1e5]), "tensor([5.0000e-01, 1.0000e+05])"),
    "signed zero": (lambda: tl.tensor([-0.0, 0.0]), "tensor([-0., 0.])"),
    "float64": (lambda: tl.tensor([1.5, 2.0], dtype=tl.float64), "tensor([1.5000, 2.0000], dtype=tensorlite.float64)"),
    "float16": (lambda: tl.tensor([0.1, 0.25], dtype=tl.float16), "tensor([0.1000, 0.2500], dtype=tensorlite.float16)"),
    "bfloat16": (lambda: tl.tensor([1.5], dtype=tl.bfloat16), "tensor([1.5000], dtype=tensorlite.bfloat16)"),
    "int8": (lambda: tl.tensor(7, dtype=tl.int8), "tensor(7, dtype=tensorlite.int8)"),
    "three dimensions": (lambda: tl.ones(2, 2, 2), "tensor([[[1., 1.],\n         [1., 1.]],\n\n        [[1., 1.],\n"
                         "         [1., 1.]]])"),
    "recorded": (lambda: tl.tensor([1.0, 2.0], requires_grad=True) * 2, "tensor([2., 4.], grad_fn=<MulBackward0>)"),
    "long vector": (lambda: tl.arange(30),
                    "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
                    "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])"),
    "summarized": (lambda: tl.arange(2000), "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
    "summarized and wrapped": (lambda: tl.arange(2000.0),
                               "tensor([0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 1.9970e+03, "
                               "1.9980e+03,\n        1.9990e+03])"),
    "summarized matrix": (lambda: tl.zeros(100, 100), "tensor([" + (ZEROS * 3).strip() + "\n        ...,\n" + ZEROS * 2
                          + "        [0., 0., 0.,  ..., 0., 0., 0.]])"),
    "exactly the threshold": (lambda: tl.zeros(1, 1000)[:, :2], "tensor([[0., 0.]])"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str) -> None:
    make, expected = TEXTS[name]
    assert repr(make()) == expected
    assert str(make()) == expected


def test_1000_elements_print_in_full_and_1001_do_not() -> None:
    assert "..." not in repr(tl.zeros(1000))
    assert "..." in repr(tl.zeros(1001))


def test_a_view_prints_its_own_elements() -> None:
    assert repr(tl.arange(6).reshape(2, 3).T[::2]) == "tensor([[0, 3],\n        [2, 5]])"
