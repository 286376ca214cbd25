"""The cards tell the truth: every formula and derivative, evaluated in NumPy beside the op and its rule, in float64.

The rows of the test table call the ops. Each call of an op, also those that composed functions and rules make, is
compared with the formula on the op's card, and what autograd makes of it with the card's derivatives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cases import CASES
from test_ops import listed, tensors

import tensorlite as tl
from tensorlite.autograd.op import Op
from tensorlite.autograd.tape import Var
from tensorlite.insight.cards import CARDS, Card


class Witness:
    """Stands in for `Op.__call__`, and compares what ops do with what their cards say."""

    def __init__(self, cards: dict[str, Card] = CARDS) -> None:
        self.cards = cards
        self.call = Op.__call__
        self.formulas: set[str] = set()  # names of the ops whose formula was compared
        self.derivatives: set[tuple[str, str]] = set()
        self.wrong: dict[tuple[str, str], str] = {}
        self.looking = True

    def __enter__(self) -> Witness:
        Op.__call__ = lambda op, *inputs, **params: self.watch(op, inputs, params)
        return self

    def __exit__(self, *exc: Any) -> None:
        Op.__call__ = self.call

    def watch(self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        out = self.call(op, *inputs, **params)
        card = self.cards.get(op.name)
        if self.looking and card is not None and card.executable:
            self.looking = False
            try:
                self.compare(op, card, inputs, {**op.defaults, **params}, out)
            except Exception as error:
                self.wrong.setdefault((op.name, "raised"), f"{[np.shape(x) for x in inputs]} {params}: {error!r}")
            finally:
                self.looking = True
        return out

    def compare(self, op: Op, card: Card, inputs: tuple[Any, ...], params: dict[str, Any], out: Any) -> None:
        values = {**named(op, [array(x) for x in inputs]), **params,
                  "shapes": [np.shape(array(x)) if x is not None else None for x in inputs], "out": array(out)}
        if any(isinstance(v, np.ndarray) and v.dtype in (np.float16, np.float32) for v in values.values()):
            return
        self.formulas.add(op.name)
        self.expect((op.name, "formula"), card.value(**values), values["out"])
        if not out.requires_grad:
            return
        g = np.random.default_rng(len(self.formulas)).uniform(-1, 1, out.shape)
        for position, x in enumerate(inputs):
            name = op.input_name(position)
            if name in op.rule_of and isinstance(x, Var) and out._node.parents[position] is not None:
                found = gradient(op, out, position, g)
                said = card.gradient(name, g, **values, position=position)
                self.derivatives.add((op.name, name))
                self.expect((op.name, name), reduced(said, x.shape), found)

    def expect(self, what: tuple[str, str], said: Any, found: Any) -> None:
        said, found = np.asarray(said), np.asarray(found)
        if said.size == found.size:
            said = said.reshape(found.shape)
        scale = np.max(np.abs(found[np.isfinite(found)]), initial=1.0)
        try:
            np.testing.assert_allclose(said.astype(np.float64), found.astype(np.float64), 1e-9, 1e-11 * scale)
        except AssertionError as error:
            self.wrong.setdefault(what, str(error))


def array(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, tl.Tensor) else x


def named(op: Op, values: list[Any]) -> dict[str, Any]:
    return {op.inputs[0]: values} if op.variadic else dict(zip(op.inputs, values, strict=False))


def gradient(op: Op, out: Any, position: int, g: np.ndarray) -> Any:
    """What the op's rule gives to one input, brought to its shape."""
    node = out._node
    for at, result in op.gradients(node, tl.tensor(g), False, None):
        if at == position:
            return reduced(array(result), node.metas[position][0])
    raise AssertionError(f"{op.name} gives input {position} no gradient")


def reduced(value: Any, shape: tuple[int, ...]) -> Any:
    """Summed over what broadcasting repeated, as the engine does it; a value that still broadcasts is spread first."""
    value = np.asarray(value)
    if value.size == math.prod(shape):
        return value.reshape(shape)
    wide = np.broadcast_to(value, np.broadcast_shapes(value.shape, shape))
    wide = wide.sum(tuple(range(wide.ndim - len(shape))))
    return wide.sum(tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def run_rows(witness: Witness) -> Witness:
    """All rows with their gradients, so that rules call ops in their turn."""
    with witness:
        for case in CASES:
            if tl.float64 not in case.dtypes:
                continue
            for shapes in case.shapes:
                inputs = tensors(case.arrays(shapes, tl.float64), "cpu", case.gradient)
                outputs = [x for x in listed(case.function(*inputs)) if x.requires_grad]
                if outputs:
                    first = tl.autograd.grad(outputs, inputs, [tl.randn_like(x).requires_grad_() for x in outputs],
                                             create_graph=True, materialize_grads=True)
                    second = [x for x in first if x.requires_grad]
                    if second:
                        tl.autograd.grad(second, inputs, [tl.randn_like(x) for x in second], materialize_grads=True)
    return witness


@pytest.fixture(scope="module")
def witness() -> Witness:
    return run_rows(Witness())


def test_formulas_and_derivatives_agree_with_ops_and_rules(witness: Witness) -> None:
    report = "\n".join(f"{op}, {what}: {text}" for (op, what), text in witness.wrong.items())
    assert not witness.wrong, report
