"""The errors of functions that are composed of the primitives: rows of test_errors.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorlite as tl

X, N = tl.ones(2, 3), tl.tensor([0, 1, 2])
ROWS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "inner": (lambda: tl.inner(X, tl.ones(2)), tl.ShapeError, r"last dimensions of \(2, 3\) and \(2,\)"),
    "cross without a 3": (lambda: tl.cross(tl.ones(2), tl.ones(2)), tl.ShapeError, "no dimension of shape"),
    "cross of other sizes": (lambda: tl.cross(X, X, 0), tl.ShapeError, "must have size 3"),
    "cdist shapes": (lambda: tl.cdist(X, tl.ones(2, 2)), tl.ShapeError, r"\(\.\.\., N, D\)"),
    "cdist p": (lambda: tl.cdist(X, X, -1), tl.ArgumentError, "p must not be negative"),
    "nanmean": (lambda: tl.nanmean(N), tl.DTypeError, r"expected a floating dtype, got int64.*\.float\(\)"),
    "quantile of nothing": (lambda: tl.quantile(tl.zeros(0), 0.5), tl.ShapeError, "no quantile of nothing"),
    "quantile interpolation": (lambda: tl.quantile(X, 0.5, interpolation="cubic"), tl.ArgumentError, "one of linear"),
    "quantile integers": (lambda: tl.quantile(N, 0.5), tl.DTypeError, "expected a floating dtype, got int64"),
    "quantile q": (lambda: tl.quantile(X, 1.5), tl.ArgumentError, r"q must be in \[0, 1\], got 1.5"),
    "quantile q matrix": (lambda: tl.quantile(X, X), tl.ShapeError, "a number or a vector"),
    "bincount floats": (lambda: tl.bincount(tl.ones(3)), tl.DTypeError, "expected integers, got float32"),
    "bincount matrix": (lambda: tl.bincount(X.long()), tl.ShapeError, "expected a vector"),
    "bincount weights": (lambda: tl.bincount(N, tl.ones(2)), tl.ShapeError, r"weights \(2,\)"),
    "bincount minlength": (lambda: tl.bincount(N, minlength=-1), tl.ArgumentError, "must not be negative"),
    "bincount negative": (lambda: tl.bincount(N - 1), tl.OutOfRangeError, "no negative numbers, got -1"),
    "histc integers": (lambda: tl.histc(N), tl.DTypeError, "expected a floating dtype"),
    "histc bins": (lambda: tl.histc(X, 0), tl.ArgumentError, "bins=0"),
    "cov": (lambda: tl.cov(tl.ones(1, 2, 3)), tl.ShapeError, "expected a matrix"),
}
