"""Rows of the test table: functions that are composed of the primitives, sums without NaN, quantiles, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from case import (
    ANY,
    FLOATS,
    FULL,
    INTS,
    MATRIX,
    ONE,
    ROWS,
    TWO,
    Case,
    accumulated,
    along,
    boolean,
    floating,
    integer,
    numbered,
    same,
)

from tensorlite import ops

TEST: dict[str, Any] = {"dtypes": ANY, "result": boolean, "gradient": False}
BATCHES = (((2, 3, 4), (2, 3, 2), (2, 2, 4)), ((4,), (2, 3, 2), (2, 2, 4)))
WEIGHTS = np.array([[1.0, 2.0, 0.5], [0.25, 3.0, 1.5]])


def cross_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]])


def counted(x: np.ndarray) -> np.ndarray:
    return np.bincount(x, minlength=5)


def distances(p: float) -> Any:
    return lambda x, y: np.linalg.norm(x[..., :, None, :] - y[..., None, :, :], p, -1)


def log_odds(x: np.ndarray) -> np.ndarray:
    return np.log(x / (1 - x))


def extrema(x: np.ndarray) -> Any:
    return x.min(1), x.max(1)


def quantiles(x: np.ndarray) -> np.ndarray:
    return np.quantile(x, [0.25, 0.5, 1.0], 1)


STATISTICS = [
    Case("clamp_min", lambda x: ops.clamp_min(x, 1), lambda x: np.maximum(x, 1), ONE, kinks=(1,), dtypes=ANY,
         result=numbered),
    Case("clamp_max", lambda x: ops.clamp_max(x, 1), lambda x: np.minimum(x, 1), ONE, kinks=(1,), dtypes=ANY,
         result=numbered),
    Case("frac", ops.frac, lambda x: x - np.trunc(x), ONE, kinks=(-1.0, 0.0, 1.0)),
    Case("deg2rad", ops.deg2rad, np.deg2rad, ONE, (-180, 180), dtypes=ANY, result=floating),
    Case("rad2deg", ops.rad2deg, np.rad2deg, ONE, dtypes=ANY, result=floating),
    Case("logit", ops.logit, log_odds, ONE, (0.2, 0.8), dtypes=FLOATS, strict=False),
    Case("logit eps", lambda x: ops.logit(x, eps=0.3), lambda x: log_odds(np.clip(x, 0.3, 0.7)), ONE,
         (0.0, 1.0), kinks=(0.3, 0.7), dtypes=FLOATS, strict=False),
    Case("fmax", ops.fmax, np.fmax, TWO, dtypes=ANY),
    Case("fmin", ops.fmin, np.fmin, TWO, dtypes=ANY),
    Case("isposinf", ops.isposinf, np.isposinf, ONE, **TEST),
    Case("isneginf", ops.isneginf, np.isneginf, ONE, **TEST),
    Case("baddbmm", lambda x, a, b: ops.baddbmm(x, a, b, beta=0.5, alpha=2), lambda x, a, b: x / 2 + 2 * (a @ b),
         BATCHES, dtypes=FLOATS, strict=False),
    Case("addmv", ops.addmv, lambda x, a, v: x + a @ v, (((3,), (3, 4), (4,)),), strict=False),
    Case("inner", ops.inner, np.inner, (((2, 3), (4, 3)), ((3,), (3,)), ((2, 3), (3,)), ((), (3,))), strict=False),
    Case("kron", ops.kron, np.kron, (((2, 3), (3, 2)), ((3,), (2, 2)), ((), (2,))), dtypes=ANY, strict=False),
    Case("cross", ops.cross, cross_product, (((3, 4), (3, 4)), ((3,), (3,))), strict=False),
    Case("cross dim", lambda x, y: ops.cross(x, y, 1), lambda x, y: cross_product(x.T, y.T).T, (((3, 3), (3, 3)),),
         strict=False),
    *[Case(f"cdist {p}", lambda x, y, p=p: ops.cdist(x, y, p), distances(p), (((3, 2), (4, 2)), ((2, 3, 4), (2, 2, 4))),
           dtypes=FLOATS, strict=False) for p in (1.0, 2.0, np.inf)],
    Case("msort", ops.msort, lambda x: np.sort(x, 0), MATRIX, dtypes=ANY, distinct=True),
    Case("argwhere", ops.argwhere, np.argwhere, MATRIX, dtypes=ANY, result=integer, gradient=False),
    Case("diagflat", lambda x: ops.diagflat(x, 1), lambda x: np.diagflat(x, 1), FULL, dtypes=ANY),
    Case("nansum", lambda x: ops.nansum(x, 1), lambda x: np.nansum(x, 1), ROWS, dtypes=ANY, result=accumulated),
    Case("nanmean", lambda x: ops.nanmean(x, 1), lambda x: np.nanmean(x, 1), ROWS, dtypes=FLOATS),
    Case("std_mean", lambda x: ops.std_mean(x, 1), lambda x: (x.std(1, ddof=1), x.mean(1)), ROWS, dtypes=FLOATS,
         result=(same, same)),
    Case("var_mean", lambda x: ops.var_mean(x, 1, correction=0), lambda x: (x.var(1), x.mean(1)), ROWS, dtypes=FLOATS,
         result=(same, same)),
    Case("aminmax", lambda x: ops.aminmax(x, dim=1), extrema, ROWS, dtypes=ANY, distinct=True, result=(same, same)),
    Case("quantile", lambda x: ops.quantile(x, along(x, [0.25, 0.5, 1.0]), 1), quantiles, ROWS, dtypes=FLOATS,
         distinct=True),
    *[Case(f"quantile {how}", lambda x, how=how: ops.quantile(x, 0.4, interpolation=how),
           lambda x, how=how: np.quantile(x, 0.4, method=how), (((3, 4),), ((5,),)), dtypes=FLOATS, distinct=True)
      for how in ("lower", "higher", "midpoint", "nearest")],
    Case("bincount", lambda x: ops.bincount(x, minlength=5), counted, (((6,),), ((0,),)),
         (0, 6), dtypes=INTS, result=integer, gradient=False),
    Case("histc", lambda x: ops.histc(x, 4, -1, 2), lambda x: np.histogram(x, 4, (-1, 2))[0].astype(np.float64), FULL,
         dtypes=FLOATS, gradient=False, nan=False),
    Case("isin", lambda x: ops.isin(x, along(x, [1, 0]).to(x.dtype)), lambda x: np.isin(x, [1, 0]), ONE, **TEST),
    Case("cov", ops.cov, np.cov, (((3, 4),), ((5,),)), dtypes=FLOATS),
    Case("corrcoef", ops.corrcoef, np.corrcoef, (((3, 5),),), dtypes=FLOATS),
]
