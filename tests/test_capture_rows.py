"""Every row of the test table in a captured step: its results and gradients are those of an eager one."""

from __future__ import annotations

import numpy as np
import pytest
from case import Case, Constants, listed
from cases import CASES

import tensorlite as tl

# Their shape depends on values, or they decide on the host.
ON_THE_HOST = {"allclose", "argwhere", "bincount", "combinations", "equal", "masked_select", "nonzero", "unique"}
INDEXED = {"getitem", "setitem", "setitem_raw", "repeat_interleave counts"}  # by lists and masks, which lie on the host


def is_captured(case: Case) -> bool:
    fixed = "dropout" not in case.name  # whose numbers differ from call to call
    return fixed and not {case.op, case.name} & (ON_THE_HOST | INDEXED)


@pytest.mark.parametrize("case", [*filter(is_captured, CASES)], ids=lambda case: case.name)
def test_captured_rows_equal_eager_ones(case: Case, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = tl.float32 if tl.float32 in case.dtypes else case.dtypes[0]
    def step(*inputs: tl.Tensor) -> list[tl.Tensor]:
        leaves = [x.detach().clone().requires_grad_(case.gradient) for x in inputs]
        results = listed(case.function(*leaves))
        roots = [x for x in results if x.requires_grad]
        incoming = [x.detach() for x in roots]
        gradients = tl.autograd.grad(roots, leaves, incoming, materialize_grads=True) if roots else ()
        return [*[x.detach() for x in results], *gradients]

    captured = tl.capture(step)
    passes = [[tl.tensor(a, device=device) for a in case.arrays(case.shapes[0], dtype, seed)] for seed in range(4)]
    monkeypatch.setattr(tl, "tensor", Constants())
    for inputs in passes:
        for ours, wanted in zip(captured(*inputs), step(*inputs), strict=True):
            np.testing.assert_array_equal(ours.cpu().numpy(), wanted.cpu().numpy())
