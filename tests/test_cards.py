"""The cards tell the truth: every formula and derivative, evaluated in NumPy beside the op and its rule, in float64.

The rows of the test table call the ops. Each call of an op, also those that composed functions and rules make, is
compared with the formula on the op's card, and what autograd makes of it with the card's derivatives.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import card_calls
import numpy as np
import pytest
from case import listed, tensors
from cases import CASES

import tensorlite as tl
import tensorlite.nn.functional as F
from tensorlite import ops
from tensorlite.autograd.op import Op
from tensorlite.autograd.tape import Var
from tensorlite.insight.cards import CARDS, Card
from tensorlite.insight.cards.dialect import names, vocabulary


class Witness:
    """Stands in for `Op.__call__`, and compares what ops do with what their cards say."""

    def __init__(self, cards: dict[str, Card] = CARDS) -> None:
        self.cards = cards
        self.call = Op.__call__
        self.formulas: set[str] = set()  # names of the ops whose formula was compared
        self.derivatives: set[tuple[str, str]] = set()
        self.wrong: dict[tuple[str, str], str] = {}
        self.seen: Counter[str] = Counter()
        self.looking = True

    def __enter__(self) -> Witness:
        Op.__call__ = lambda op, *inputs, **params: self.watch(op, inputs, params)
        return self

    def __exit__(self, *exc: Any) -> None:
        Op.__call__ = self.call

    def watch(self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        out = self.call(op, *inputs, **params)
        card = self.cards.get(op.name)
        if self.looking and card is not None and card.executable and self.is_new(op, inputs, params):
            self.looking = False
            try:
                self.compare(op, card, inputs, {**op.defaults, **params}, out)
            except Exception as error:
                self.wrong.setdefault((op.name, "raised"), f"{[np.shape(x) for x in inputs]} {params}: {error!r}")
            finally:
                self.looking = True
        return out

    def is_new(self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any]) -> bool:
        """Whether a call is one of the first two that differ only by the values in their inputs."""
        kinds = [(x.shape, x.dtype, x.requires_grad) if isinstance(x, Var) else x for x in inputs]
        key = f"{op.name} {kinds} {params}"
        self.seen[key] += 1
        return self.seen[key] <= 2

    def compare(self, op: Op, card: Card, inputs: tuple[Any, ...], params: dict[str, Any], out: Any) -> None:
        values = {**named(op, [array(x) for x in inputs]), **params,
                  "shapes": [np.shape(array(x)) if x is not None else None for x in inputs], "out": array(out)}
        if any(isinstance(v, np.ndarray) and v.dtype in (np.float16, np.float32) for v in values.values()):
            if op.name != "cast":
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
            exact = 1e-6 if what[0] == "cast" else 1e-9
            np.testing.assert_allclose(said.astype(np.float64), found.astype(np.float64), exact, exact * 0.01 * scale)
        except AssertionError as error:
            self.wrong.setdefault(what, str(error))


def array(x: Any) -> Any:
    return x.detach().cpu().numpy() if isinstance(x, tl.Tensor) else x


def named(op: Op, values: list[Any]) -> dict[str, Any]:
    return {op.inputs[0]: values} if op.variadic else dict(zip(op.inputs, values, strict=False))


def gradient(op: Op, out: Any, position: int, g: np.ndarray) -> Any:
    """What the op's rule gives to one input, brought to its shape."""
    node = out._node
    for at, result in op.gradients(node, tl.tensor(g, dtype=out.dtype, device=out.device), False, None):
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
    """All rows with their gradients, so that rules call ops in their turn; and the programs for what rows avoid."""
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
        for program in card_calls.PROGRAMS:
            program()
    return witness


@pytest.fixture(scope="module")
def witness() -> Witness:
    return run_rows(Witness())


def test_formulas_and_derivatives_agree_with_ops_and_rules(witness: Witness) -> None:
    report = "\n".join(f"{op}, {what}: {text}" for (op, what), text in witness.wrong.items())
    assert not witness.wrong, report


# --- functions made of operations ------------------------------------------------------------------------------------


def call(function: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, tl.Tensor]]:
    """The result of a call by the names of its arguments, and the tensors among them that require grad."""
    given = {name: tl.tensor(value, requires_grad=value.dtype == np.float64 and name not in card_calls.CONSTANT)
             if isinstance(value, np.ndarray) else value for name, value in arguments.items()}
    leaves = {name: x for name, x in given.items() if isinstance(x, tl.Tensor) and x.requires_grad}
    return function(**given), leaves


def check_composed(name: str, function: Any, arguments: dict[str, Any], card: Card) -> set[str]:
    """Compare a call with the card; the inputs whose derivative was compared."""
    out, leaves = call(function, arguments)
    bound = inspect.signature(function).bind(**arguments)
    bound.apply_defaults()
    values = {**bound.arguments, "out": array(out)}
    np.testing.assert_allclose(np.reshape(card.value(**values), out.shape), array(out), 1e-9, 1e-11)
    g = np.random.default_rng(1).uniform(-1, 1, out.shape)
    found = tl.autograd.grad(out, list(leaves.values()), tl.tensor(g))
    assert set(card.derivatives) >= set(leaves)
    for (argument, leaf), gradient in zip(leaves.items(), found, strict=True):
        said = reduced(card.gradient(argument, g, **values), leaf.shape)
        np.testing.assert_allclose(said, array(gradient), 1e-9, 1e-11, err_msg=f"∂L/∂{argument}")
    return set(leaves)


FUNCTIONS = {**{name: (getattr(ops, name), calls) for name, calls in card_calls.OPS.items()},
             **{name: (getattr(F, name), calls) for name, calls in card_calls.FUNCTIONAL.items()}}
PROVED = sorted(card.name for card in CARDS.values() if card.made_of and card.executable)


@pytest.mark.parametrize("name", PROVED)
def test_composed_functions_agree_with_their_cards(name: str) -> None:
    function, calls = FUNCTIONS[name]
    seen = set().union(*[check_composed(name, function, arguments, CARDS[name]) for arguments in calls])
    assert seen == set(CARDS[name].derivatives)


def all_ops() -> dict[str, Op]:
    loaded = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "tensorlite"]
    return {value.name: value for module in loaded for value in list(vars(module).values()) if isinstance(value, Op)}


DIFFERENTIABLE_OPS = {name: op for name, op in all_ops().items() if op.rule_of}
PUBLIC = {name for name in {case.op for case in CASES if case.gradient} if hasattr(ops, name)}


def functional_card(name: str) -> Card | None:
    return CARDS.get(f"F.{name}", CARDS.get(name))


def used_by(run: Callable[[], Any]) -> set[str]:
    """The differentiable ops that are called meanwhile."""
    used: set[str] = set()
    original = Op.__call__

    def note(op: Op, *inputs: Any, **params: Any) -> Any:
        used.add(op.name)
        return original(op, *inputs, **params)

    Op.__call__ = note
    try:
        run()
    finally:
        Op.__call__ = original
    return used & set(DIFFERENTIABLE_OPS)


def run_cases(name: str) -> None:
    for case in CASES:
        if case.op == name and tl.float64 in case.dtypes:
            for shapes in case.shapes:
                case.function(*tensors(case.arrays(shapes, tl.float64), "cpu", case.gradient))


def ingredients(names: Iterable[str]) -> set[str]:
    """The ops in a list of ops and composed functions."""
    return set().union(*[ingredients(CARDS[name].made_of) if CARDS[name].made_of else {name} for name in names])


def check_ingredients(card: Card, used: set[str]) -> None:
    assert used <= ingredients(card.made_of), f"{card.name} also uses {used - ingredients(card.made_of)}"
    idle = [name for name in card.made_of if not ingredients([name]) & used]
    assert not idle, f"{card.name} does not use {idle}"


COMPOSED = sorted(card.name for card in CARDS.values() if card.made_of)


@pytest.mark.parametrize("name", [name for name in COMPOSED if name in PUBLIC])
def test_composed_ops_are_made_of_what_their_cards_say(name: str) -> None:
    check_ingredients(CARDS[name], used_by(lambda: run_cases(name)))


@pytest.mark.parametrize("name", [name for name in COMPOSED if name not in PUBLIC])
def test_composed_layers_are_made_of_what_their_cards_say(name: str) -> None:
    plain = name.removeprefix("F.")
    calls = card_calls.FUNCTIONAL[plain]
    check_ingredients(CARDS[name], used_by(lambda: [call(getattr(F, plain), arguments) for arguments in calls]))


@pytest.mark.parametrize(("ask", "message"), [
    (lambda: CARDS["exp"].gradient("y", 1.0, out=1.0), "no gradient for 'y'; there is one for x"),
    (lambda: CARDS["exp"].gradient("x", 1.0), "also needs 'out'"), (lambda: CARDS["add"].value(x=1.0), "also needs"),
    (lambda: CARDS["lstm"].value(), "told in words"), (lambda: CARDS["stack"].gradient("x", 1), "for none"),
])
def test_what_a_card_cannot_be_asked(ask: Callable[[], Any], message: str) -> None:
    with pytest.raises(tl.ArgumentError, match=message):
        ask()


# --- there is a card for everything, and nothing else ----------------------------------------------------------------


def test_every_differentiable_op_has_a_card_with_a_derivative_for_each_rule() -> None:
    assert set(DIFFERENTIABLE_OPS) - set(CARDS) == set()
    wrong = {name for name, op in DIFFERENTIABLE_OPS.items() if set(CARDS[name].derivatives) != set(op.rule_of)}
    assert not wrong


def test_every_public_differentiable_function_has_a_card() -> None:
    assert PUBLIC - set(CARDS) == set()
    layers = {name for name, value in vars(F).items() if inspect.isfunction(value) and value.__module__ != "typing"
              and not name.startswith("_")}
    assert {name for name in layers if functional_card(name) is None} == {"one_hot"}  # integers


def test_no_card_without_an_op() -> None:
    others = {name.removeprefix("F.") for name in CARDS} - set(DIFFERENTIABLE_OPS)
    assert not {name for name in others if not (hasattr(ops, name) or hasattr(F, name))}
    alone = {card.name for card in CARDS.values() if not card.made_of}
    assert alone - set(DIFFERENTIABLE_OPS) == {"real"}


def test_what_is_not_proved_is_known(witness: Witness) -> None:
    """Ops whose card is text, and those that need what no row has."""
    text = {card.name for card in CARDS.values() if not card.executable and not card.made_of}
    assert text == {"rnn", "lstm", "gru", "in_place_through_view"}
    own = [card for card in CARDS.values() if card.executable and card.name in DIFFERENTIABLE_OPS]
    assert {card.name for card in own} - witness.formulas == set()
    assert {(card.name, name) for card in own for name in card.derivatives} - witness.derivatives == set()


def test_cards_say_what_a_reader_needs() -> None:
    for card in CARDS.values():
        assert 1 <= len(card.derivation.splitlines()) <= 5, card.name
        if not card.made_of:
            assert card.shapes, card.name
        if card.executable:
            formulas = (card.formula, *card.derivatives.values(), *card.where.values())
            known = vocabulary() | set(card.where) | {"g", "out", "shapes", "position"}
            assert set().union(*map(names, formulas)) - known <= arguments_of(card), card.name


def arguments_of(card: Card) -> set[str]:
    op = DIFFERENTIABLE_OPS.get(card.name)
    if op is None:
        return set(inspect.signature(FUNCTIONS[card.name][0]).parameters)
    return set(inspect.signature(op.forward).parameters)


# --- and the test would notice a lie ---------------------------------------------------------------------------------

LIES = {
    ("exp", "x"): "g*x", ("sigmoid", "x"): "g*out*(1 + out)", ("atan2", "y"): "g*x/r", ("softmax", "x"): "out*g",
    ("linear", "weight"): "2*(T(rows(g)) @ rows(x))", ("layer_norm", "x"): "(a - mean(a))/s", ("mean", "x"): "g",
    ("conv2d", "x"): "unpatch(einsum('ngkpq,gkcrs->ngcpqrs', G, W*2), shape_of(x))",
    ("max_pool2d", "x"): "untaken(each(g), shape_of(x), windows)", ("cat", "parts"): "split_as(g, shapes, dim)[0]",
    ("index", "x"): "0*x", ("cross_entropy", "logits"): "g*(p - y)/N", ("matmul", "y"): "x @ g",
    ("relu", "x"): "g*(x >= 0)", ("clamp", "x"): "g*(x > min)*(x < max)", ("maximum", "x"): "g*(x >= y)",
    ("amax", "x"): "g*(x == out)", ("binary_cross_entropy", "x"): "g*(x - t)/(x*(1 - x))",
}


@pytest.fixture(scope="module")
def misled() -> Witness:
    """What is found where all cards lie: these in a way that students do, all others by adding a little."""
    cards = {}
    for name, card in CARDS.items():
        lies = {argument: LIES.get((name, argument), f"({formula}) + 0.01*total(abs(g))")
                for argument, formula in card.derivatives.items()}
        cards[name] = replace(card, derivatives=lies)
    cards["tanh"] = replace(CARDS["tanh"], formula="2*sigmoid(x) - 1")
    return run_rows(Witness(cards))


def test_planted_wrong_formulas_are_found(misled: Witness) -> None:
    told = {(card.name, argument) for card in CARDS.values() for argument in card.derivatives
            if card.executable and card.name in DIFFERENTIABLE_OPS and card.name != "tanh"}
    raised = {(name, argument) for name, argument in told if (name, "raised") in misled.wrong}
    assert told - raised - set(misled.wrong) == set()
    assert {name for name, _ in raised} <= {"matmul", "cat"}  # what does not even fit
    assert ("tanh", "formula") in misled.wrong
    assert [what for what in misled.wrong if what[1] == "formula"] == [("tanh", "formula")]
