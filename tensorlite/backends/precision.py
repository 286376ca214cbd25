"""How exactly float32 matrices are multiplied where the hardware offers a faster, coarser way."""

from __future__ import annotations

from ..errors import ArgumentError

_PRECISIONS = ("highest", "high", "medium")
_float32 = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Let products of float32 matrices, convolutions and attention on GPUs round their factors, for speed.

    "highest" (the start) computes in float32; "high" and "medium" let tensor cores round the factors to TensorFloat-32,
    10 bits of mantissa instead of 23, several times as fast on GPUs since 2020. Sums stay float32. Device "cuda:sim"
    rounds in convolutions and attention alone; other devices and dtypes are not concerned. Raises ArgumentError for
    another name.

    >>> tl.set_float32_matmul_precision("high")
    >>> tl.get_float32_matmul_precision()
    'high'
    >>> tl.set_float32_matmul_precision("highest")
    """
    global _float32
    if precision not in _PRECISIONS:
        raise ArgumentError(f"set_float32_matmul_precision takes one of {', '.join(map(repr, _PRECISIONS))}, "
                            f"got {precision!r}")
    _float32 = precision


def get_float32_matmul_precision() -> str:
    """The precision of float32 products: "highest", "high" or "medium"; see set_float32_matmul_precision."""
    return _float32
