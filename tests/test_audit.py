"""The published audit is true: nothing public is missing, nothing became worse, and what is not exact says why.

All of it is made anew by `tools/audit.py --check`, which CI runs; here a part, another one whenever the file changes.
"""

from __future__ import annotations

import copy
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case import ANY, ONE, Case
from cases import CASES
from cases_functional import FUNCTIONAL

import tensorlite as tl
from tensorlite import ops

pytest.importorskip("mpmath", reason="the audit computes with mpmath's numbers")
if "cuda:sim" not in tl.testing.devices():
    pytest.skip("the audit looks at device cuda:sim, which needs a C++ compiler", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import audit
from auditing import accuracy, devices, page, reasons, record, surface
from auditing.exact import Exact, exactly, ulps

ROWS = [*CASES, *FUNCTIONAL]
SAMPLE = 5  # ops that are audited anew here


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    return record.read()


# --- the published record ---------------------------------------------------------------------------------------------


def test_every_public_function_is_audited() -> None:
    assert surface.unaudited(ROWS) == []
    assert surface.excused() <= {path.partition(".")[2] for path, _ in surface.public()}


def test_a_public_function_without_a_row_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tl, "cube", lambda x: x * x * x, raising=False)
    assert surface.unaudited(ROWS) == ["tl.cube"]
    assert "F.mse_loss" in surface.unaudited([row for row in ROWS if row.op != "mse_loss"])


def test_there_is_a_row_for_each_op_dtype_and_device(published: dict[str, Any]) -> None:
    expected = {(case.op, dtype.name, device) for case in ROWS for dtype in ANY if dtype in case.dtypes
                for device in audit.DEVICES}
    assert {record.key(row) for row in published["rows"]} == expected


def test_every_row_that_is_not_exact_says_why(published: dict[str, Any]) -> None:
    assert reasons.complaints(published["rows"]) == []
    for row in published["rows"]:
        assert row["note"] == reasons.note(row), record.key(row)


def test_the_page_is_made_of_the_record(published: dict[str, Any]) -> None:
    assert page.FILE.read_text(encoding="utf-8") == page.text(published), "run tools/audit.py"


def test_a_sample_of_ops_is_as_published(published: dict[str, Any]) -> None:
    names = sorted({case.op for case in ROWS})
    random = np.random.default_rng(zlib.crc32(record.FILE.read_bytes()))
    chosen = {str(name) for name in random.choice(names, SAMPLE, replace=False)}
    found = audit.audit(chosen)
    if not audit.parity:
        record.keep_parity(found, published)
    assert record.differences(published, found, chosen) == []


# --- what differences are --------------------------------------------------------------------------------------------


def changed(published: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The record of exp, with other fields in its first row of a float dtype."""
    rows = copy.deepcopy([row for row in published["rows"] if row["op"] == "exp"])
    next(row for row in rows if row["dtype"] == "float32").update(fields)
    return {"environment": published["environment"], "rows": rows}


@pytest.mark.parametrize(("fields", "here", "elsewhere"), [
    ({}, False, False), ({"forward_ulp": 5, "forward_ulp_of_terms": 5}, True, False),
    ({"forward_ulp": 1e6, "forward_ulp_of_terms": 1e6}, True, True), ({"gradient_error": None}, True, True),
    ({"gradient_error": 0.0}, True, False), ({"double_gradient": "wrong"}, True, True),
    ({"captured": "differs"}, True, True), ({"parity": {"differs": "values"}}, True, True),
    ({"forward_ulp": 1e6}, True, False),  # strictly worse where terms cancel, but not in units of the terms
])
def test_what_is_a_difference(published: dict[str, Any], fields: dict[str, Any], here: bool, elsewhere: bool) -> None:
    new = changed(published, **fields)
    assert bool(record.differences(published, new, {"exp"})) is here
    new["environment"] = {**new["environment"], "numpy": "another"}
    assert bool(record.differences(published, new, {"exp"})) is elsewhere


def test_rows_that_are_missing_or_new_are_differences(published: dict[str, Any]) -> None:
    new = changed(published)
    row = new["rows"].pop()
    gone = f"{' '.join(record.key(row))}: published, but no longer there"
    assert record.differences(published, new, {"exp"}) == [gone]
    new["rows"] += [row, {**row, "dtype": "float8"}]
    assert record.differences(published, new, {"exp"}) == [f"exp float8 {row['device']}: no such row is published"]


def test_reasons_are_wanted_and_not_kept(published: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(reasons.FORWARD, "exp")
    monkeypatch.setitem(reasons.FORWARD, "neg", ("library",))
    monkeypatch.setitem(reasons.DIFFERENCES, "abs", (("nan",), "no reason"))
    assert reasons.complaints(published["rows"]) == [
        "a reason that no row needs: differences to PyTorch of ('abs', 'nan')",
        "a reason that no row needs: results of neg", "results without a reason: exp"]


# --- what is measured ------------------------------------------------------------------------------------------------


def test_ulps() -> None:
    def error(result: float, exact: float) -> float:
        return ulps(result, Exact(exactly([exact])[0].value), *accuracy.limits(tl.float32))[0]

    assert error(1.0, 1.0) == 0
    assert error(1.0 + 2.0**-23, 1.0) == 1
    assert error(1.0, 1.0 - 2.0**-24) == 1  # numbers lie twice as dense below 1
    assert error(2.0**-149, 0.0) == 1
    assert error(math.inf, 3.5e38) == 0
    assert error(math.inf, 1e38) == error(math.nan, 1.0) == error(1.0, math.nan) == math.inf
    assert error(math.nan, math.nan) == 0


def test_terms_that_cancel_are_told_apart() -> None:
    x = exactly(np.array([1.0, -1.0 + 2.0**-40, 2.0**-52]))
    strict, of_terms = ulps(2.0**-40, x.sum(), *accuracy.limits(tl.float64))
    assert strict == 2.0**40 and of_terms == 1


def figures(function: Any, dtype: Any = tl.float64, device: str = "cpu") -> tuple[float, float, bool]:
    """Of what is said to be exp: the errors of results and gradients, and whether the second derivative is right."""
    case = Case("planted", function, np.exp, ONE, dtypes=(dtype,), strict=False)
    result = accuracy.forward(case, dtype, device, accuracy.References(case, dtype))
    slope = accuracy.gradient(case, dtype, device, accuracy.Slopes(case, dtype))
    assert result.exact and slope.exact
    return result.strict, slope.strict, accuracy.second(case, dtype, device)


def test_planted_errors_are_measured(device: str) -> None:
    assert max(figures(ops.exp, device=device)[:2]) < 3
    result, slope, _ = figures(lambda x: ops.exp(x) * (1 + 2.0**-40), device=device)
    assert 2**12 < result < 2**13 + 3 and 2**11 < slope
    result, slope, second = figures(lambda x: ops.exp(x) + (x - x.detach()) * 1e-9, device=device)
    assert result < 3 and slope > 1e5 and second
    wrong_slope = ops.exp(tl.tensor(0.0))  # a derivative that is a constant: the second one is 0

    class Constant(tl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tl.Tensor) -> tl.Tensor:
            ctx.save_for_backward(x)
            return ops.exp(x)

        @staticmethod
        def backward(ctx: Any, g: tl.Tensor) -> tl.Tensor:
            (x,) = ctx.saved_tensors
            return g * (ops.exp(x.detach()) + (x - x.detach()) * float(wrong_slope.item() + 1))

    result, slope, second = figures(Constant.apply, device=device)
    assert result < 3 and slope < 3 and not second


def test_float32_is_measured_in_its_own_units() -> None:
    assert 2**3 < figures(lambda x: ops.exp(x) * (1 + 2.0**-20), dtype=tl.float32)[0] < 2**5


def test_differences_to_pytorch_are_found() -> None:
    pytest.importorskip("torch")
    from auditing import parity

    def outcome(function: Any, dtype: Any = tl.float32) -> dict[str, str] | None:
        case = Case("planted", function, np.exp, ONE, dtypes=(dtype,))
        return parity.parity(parity.Beside(case, dtype), "cpu")

    assert set((outcome(ops.exp) or {}).values()) == {"same"}
    assert outcome(ops.relu_grad) is None
    wrong = outcome(lambda x: (x.nan_to_num() if isinstance(x, tl.Tensor) else x).exp()) or {}
    assert {aspect for aspect, what in wrong.items() if what == "differs"} == {"nan", "inf"}
    for function in (lambda x: x.double(), lambda x: x * (1 + 1e-4), lambda x: x.unsqueeze(0), lambda x: x.detach()):
        planted = outcome(lambda x, f=function: f(x) if isinstance(x, tl.Tensor) else x * 1) or {}
        assert planted["values"] == "differs"


def test_captured_steps_that_differ_are_found() -> None:
    calls: list[int] = []

    def counting(x: tl.Tensor) -> tl.Tensor:
        calls.append(1)
        return x * float(len(calls))

    case = Case("planted", counting, None, ONE, gradient=False)
    assert devices.captured(case, tl.float32, "cpu") != devices.SAME
    assert devices.captured(Case("planted", ops.exp, None, ONE), tl.float32, "cpu") == devices.SAME


def test_kernels_that_ran_are_seen() -> None:
    x = tl.ones(8, device="cuda:sim")
    with devices.watched() as ran:
        ops.sinh(x).exp()
    assert {"sinh", "exp"} <= {word for i in ran for word in i.expression.replace("<", " ").replace(":", " ").replace(
        ",", " ").split()}
    assert ran < devices.listed_like(ran)
