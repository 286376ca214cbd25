"""Backpropagation twice, by hand and by the tape, so that the chain rule can be seen.

    python examples/backprop_by_hand.py                     # all four networks
    python examples/backprop_by_hand.py N3                  # one of them
    python examples/backprop_by_hand.py N4 --sizes 3 5 4 2  # sigmoid layers of any depth

The forward pass is written once, in NumPy's words. On arrays it computes, and `by_hand` then walks back through the
layers with the formulas of a textbook. On tensors the very same lines are recorded on tensorlite's tape, and one
`backward()` does the walking. A sample is a column, so the formulas of one sample serve for many:

    forward    a0 = x     zl = Wl a(l-1) + bl                  al = f(zl)               L = sum(w * loss(ŷ, y)) / N
    backward   ∂L/∂al = W(l+1)ᵀ δ(l+1)   δl = ∂L/∂al ∘ f'(zl)   ∂L/∂Wl = δl a(l-1)ᵀ   ∂L/∂bl = δl, summed over samples
    update     W ← W - η ∂L/∂W           b ← b - η ∂L/∂b
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import tensorlite as tl


class Activation(NamedTuple):
    """f, its derivative given z and a = f(z), and that derivative in writing."""

    name: str
    f: Callable[[Any], Any]
    derivative: Callable[[Any, Any], Any]
    slope: str


class Loss(NamedTuple):
    """The loss of one prediction ŷ, its derivative in ŷ, and both in writing."""

    of: Callable[[Any, Any], Any]
    gradient: Callable[[Any, Any], Any]
    formula: str
    gradient_formula: str


class Problem(NamedTuple):
    """A network with its data: W and b of each layer, x and y with a sample per column, a weight per sample."""

    layers: list[tuple[Any, Any]]
    activations: list[Activation]
    loss: Loss
    x: Any
    y: Any
    w: Any = 1.0


class Pass(NamedTuple):
    """What one forward and one backward pass found; entry l - 1 of each list belongs to layer l."""

    loss: float
    z: list[np.ndarray]
    a: list[np.ndarray]
    da: list[np.ndarray]  # ∂L/∂a
    delta: list[np.ndarray]  # δ = ∂L/∂z
    dw: list[np.ndarray]
    db: list[np.ndarray]


LINEAR = Activation("linear", lambda z: z, lambda z, a: np.ones_like(z), "1")
RELU = Activation("ReLU", lambda z: z * (z > 0), lambda z, a: (z > 0) * 1.0, "1 where z > 0, else 0")
SIGMOID = Activation("sigmoid", lambda z: 1 / (1 + np.exp(-z)), lambda z, a: a * (1 - a), "a(1 - a)")

HALF_SQUARED = Loss(lambda p, y: (p - y) ** 2 / 2, lambda p, y: p - y, "½(ŷ - y)²", "(ŷ - y)")
SQUARED = Loss(lambda p, y: (p - y) ** 2, lambda p, y: 2 * (p - y), "(ŷ - y)²", "2(ŷ - y)")
CROSS_ENTROPY = Loss(
    lambda p, y: -(y * np.log(p) + (1 - y) * np.log(1 - p)),
    lambda p, y: (p - y) / (p * (1 - p)),
    "-(y ln ŷ + (1 - y) ln(1 - ŷ))",
    "(ŷ - y) / (ŷ(1 - ŷ))",
)


def forward(problem: Problem) -> tuple[Any, list[Any], list[Any]]:
    """The loss, and z and a of every layer, of whatever the problem is made of: arrays or tensors."""
    z, a = [], [problem.x]
    for (weight, bias), activation in zip(problem.layers, problem.activations, strict=True):
        z.append(weight @ a[-1] + bias)
        a.append(activation.f(z[-1]))
    losses = problem.w * problem.loss.of(a[-1], problem.y)
    return losses.sum() / losses.shape[1], z, a[1:]


def by_hand(problem: Problem) -> Pass:
    """The formulas of the docstring, from the last layer to the first."""
    loss, z, a = forward(problem)
    da = [problem.w / problem.x.shape[1] * problem.loss.gradient(a[-1], problem.y)]
    delta: list[Any] = []
    dw: list[Any] = []
    db: list[Any] = []
    for layer in reversed(range(len(z))):
        before = a[layer - 1] if layer else problem.x
        delta.insert(0, da[0] * problem.activations[layer].derivative(z[layer], a[layer]))
        dw.insert(0, delta[0] @ before.T)
        db.insert(0, delta[0].sum(axis=1, keepdims=True))
        if layer:
            da.insert(0, problem.layers[layer][0].T @ delta[0])
    return Pass(float(loss), z, a, da, delta, dw, db)


def by_tape(problem: Problem, device: str) -> tuple[Pass, str]:
    """The same from tensorlite: record the forward pass, call backward, read every `.grad`; and the tape in words."""
    layers = [tuple(tl.tensor(p, device=device, requires_grad=True) for p in layer) for layer in problem.layers]
    weights, biases = zip(*layers, strict=True)
    x, y, w = (tl.tensor(np.asarray(data), device=device) for data in (problem.x, problem.y, problem.w))
    loss, z, a = forward(problem._replace(layers=layers, x=x, y=y, w=w))
    for tensor in z + a:
        tensor.retain_grad()  # without this only the leaves, W and b, keep their gradient
    words = tape_in_words(loss)
    loss.backward()
    values = [[t.detach() for t in tensors] for tensors in (z, a)]
    gradients = [[t.grad for t in tensors] for tensors in (a, z, weights, biases)]
    return Pass(loss.item(), *([t.cpu().numpy() for t in ts] for ts in values + gradients)), words


def tape_in_words(loss: tl.Tensor) -> str:
    """The operations that backward will undo, from the loss along one path to the first layer."""
    names, node = [], loss.grad_fn
    while hasattr(node, "next_functions"):
        names.append(node.name().removesuffix("Backward0"))
        parents = [parent for parent, _ in node.next_functions]
        node = next((p for p in parents if hasattr(p, "next_functions")), None)
    return " ← ".join(names)


def train(
    problem: Problem, find: Callable[[Problem], Pass], rate: float, max_iterations: int, min_error: float
) -> tuple[Problem, list[float]]:
    """Gradient descent until the error is below `min_error` or `max_iterations` are done, whichever comes first."""
    errors: list[float] = []
    while len(errors) < max_iterations:
        found = find(problem)
        errors.append(found.loss)
        if found.loss < min_error:
            break
        gradients = zip(problem.layers, found.dw, found.db, strict=True)
        problem = problem._replace(layers=[(w - rate * dw, b - rate * db) for (w, b), dw, db in gradients])
    return problem, errors


def explain(problem: Problem, device: str) -> None:
    """Print one pass: shapes, values, how each gradient is formed, and what the hand and the tape found."""
    hand, (tape, words) = by_hand(problem), by_tape(problem, device)
    inputs = [problem.x, *hand.a]
    last, count = len(problem.layers), problem.x.shape[1]
    share = "" if count == 1 else "1/N · " if np.ndim(problem.w) == 0 else "w/N ∘ "

    print("  forward")
    line("a0 = x", shape(problem.x), problem.x)
    for i, ((weight, bias), f) in enumerate(zip(problem.layers, problem.activations, strict=True), start=1):
        shapes = f"{shape(weight)} {shape(inputs[i - 1])} + {shape(bias)} → {shape(inputs[i])}"
        line(f"z{i} = W{i} a{i - 1} + b{i}", shapes, hand.z[i - 1])
        line(f"a{i} = {f.name}(z{i})", shape(inputs[i]), inputs[i])
    if share.startswith("w"):
        line("w, the weights of the samples", shape(problem.w), problem.w)
    line(f"L = {share and f'Σ {share}'}{problem.loss.formula}", "a number", hand.loss, tape.loss)
    print(textwrap.indent(textwrap.fill(f"the tape, newest first: {words}", 114), "  ") + "\n")

    for i in range(last, 0, -1):
        f = problem.activations[i - 1]
        da, delta, dw, db = ((mine[i - 1], theirs[i - 1]) for mine, theirs in zip(hand[3:], tape[3:], strict=True))
        print(f"  backward, layer {i}: {f.name}'(z) = {f.slope}")
        if i == last:
            source = f"∂L/∂a{i}"
            line(f"{source} = {share}{problem.loss.gradient_formula}", shape(da[0]), *da)
        else:
            source = f"(W{i + 1}ᵀ δ{i + 1})"
            shapes = f"{shape(problem.layers[i][0].T)} {shape(hand.delta[i])} → {shape(da[0])}"
            line(f"∂L/∂a{i} = W{i + 1}ᵀ δ{i + 1}", shapes, *da)
        line(f"δ{i} = ∂L/∂z{i} = {source} ∘ {f.name}'(z{i})", shape(delta[0]), *delta)
        if i == last and problem.loss is CROSS_ENTROPY:
            simple = problem.w / count * (hand.a[-1] - problem.y)
            line(f"δ{i} in short, as ŷ(1 - ŷ) cancels: {share}(ŷ - y)", shape(simple), simple, delta[1])
        line(f"∂L/∂W{i} = δ{i} a{i - 1}ᵀ", f"{shape(delta[0])} {shape(inputs[i - 1].T)} → {shape(dw[0])}", *dw)
        line(f"∂L/∂b{i} = δ{i}{' summed over samples' if count > 1 else ''}", shape(db[0]), *db)
    differences = [largest(mine, theirs) for mine, theirs in zip(hand[3:], tape[3:], strict=True)]
    print(f"  hand and tape differ by at most {max(differences):.0e}\n")


def descend(problem: Problem, device: str, rate: float, max_iterations: int, min_error: float = 0.0) -> None:
    """Repeat forward, backward and update, by hand and by the tape, and print how the error falls."""
    ours, errors = train(problem, by_hand, rate, max_iterations, min_error)
    theirs, _ = train(problem, lambda p: by_tape(p, device)[0], rate, max_iterations, min_error)
    shown = sorted({n for n in (1, 10, 100, 1000, len(errors)) if n <= len(errors)})
    print(f"  repeated with η = {rate}: " + ", ".join(f"L = {errors[n - 1]:.4f} at {n}" for n in shown))
    reason = f"the error is below {min_error}" if errors[-1] < min_error else "the maximum of iterations"
    difference = max(largest(mine, other) for mine, other in zip(ours.layers, theirs.layers, strict=True))
    print(f"  stopped at iteration {len(errors)}: {reason}; the two sets of weights differ by {difference:.0e}\n")


def line(text: str, shapes: str, hand: Any, tape: Any = None) -> None:
    """A formula with its shapes, and below it the value; or two values side by side, where they are compared."""
    print(f"    {text:<52} {shapes}")
    mine = show(hand)
    if tape is None:
        print(*(f"      {row}" for row in mine), sep="\n")
        return
    width = max(map(len, mine))
    for i, (ours, theirs) in enumerate(zip(mine, show(tape), strict=True)):
        print(f"      {'' if i else 'hand':4} {ours:<{width}}    {'' if i else 'tape':4} {theirs}")


def show(values: Any) -> list[str]:
    """Lines that show a number, a single column lying down as (1, 1.9), or a matrix row by row."""
    if np.ndim(values) == 0:
        return [f"{values:.4g}"]
    cells = [[f"{value + 0.0:.4g}" for value in row] for row in values]  # + 0.0 turns -0 into 0
    if values.shape[1] == 1:
        return ["(" + ", ".join(row[0] for row in cells) + ")"]
    width = max(len(cell) for row in cells for cell in row)
    return ["[" + "  ".join(f"{cell:>{width}}" for cell in row) + "]" for row in cells]


def shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))


def largest(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The largest difference between the arrays of two sequences."""
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def random_layers(sizes: list[int], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    normal = np.random.default_rng(seed).normal
    return [(normal(size=(outputs, inputs)), np.zeros((outputs, 1))) for inputs, outputs in pairwise(sizes)]


def n1(device: str, sizes: list[int]) -> None:
    """N1, a two-layer classifier with either loss: 2 → 3 (ReLU) → 1 (sigmoid)"""
    first = np.array([[0.5, -0.4], [0.8, 0.2], [-0.6, 0.4]]), column(0.1, 0.0, 0.3)
    second = np.array([[0.7, -0.5, 0.9]]), column(0.1)
    for loss in (CROSS_ENTROPY, SQUARED):
        problem = Problem([first, second], [RELU, SIGMOID], loss, column(1, 2), column(1))
        explain(problem, device)
        descend(problem, device, rate=0.5, max_iterations=100)


def n2(device: str, sizes: list[int]) -> None:
    """N2, exclusive or with weighted samples, two ways to stop: 2 → 3 (sigmoid) → 1 (sigmoid)"""
    x, y, w = np.array([[0.0, 0, 1, 1], [0, 1, 0, 1]]), np.array([[0.0, 1, 1, 0]]), np.array([[1.0, 1, 1, 3]])
    problem = Problem(random_layers([2, 3, 1], seed=1), [SIGMOID, SIGMOID], CROSS_ENTROPY, x, y, w)
    explain(problem, device)
    descend(problem, device, rate=2.0, max_iterations=100, min_error=0.05)
    descend(problem, device, rate=2.0, max_iterations=1000, min_error=0.05)


def n3(device: str, sizes: list[int]) -> None:
    """N3, small enough for pencil and paper: 2 → 2 (ReLU) → 1 (linear)"""
    layers = [(np.array([[0.5, 0.2], [0.3, 0.7]]), column(0.1, 0.2)), (np.array([[0.6, 0.9]]), column(0.3))]
    explain(Problem(layers, [RELU, LINEAR], HALF_SQUARED, column(1, 2), column(3)), device)


def n4(device: str, sizes: list[int]) -> None:
    """N4, sigmoid layers of any depth: is the number of ones odd, are all inputs one?"""
    x = np.array([[n >> bit & 1 for n in range(2 ** sizes[0])] for bit in range(sizes[0])], float)
    answers = [x.sum(axis=0) % 2, x.min(axis=0)]
    y = np.array([answers[output % 2] for output in range(sizes[-1])])
    problem = Problem(random_layers(sizes, seed=0), [SIGMOID] * (len(sizes) - 1), HALF_SQUARED, x, y)
    explain(problem, device)
    descend(problem, device, rate=4.0, max_iterations=1000, min_error=0.01)


NETWORKS = {"N1": n1, "N2": n2, "N3": n3, "N4": n4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="N1 N2 N3 N4", help="which to show; all by default")
    parser.add_argument("--sizes", nargs="+", type=int, default=[2, 3, 3, 2], help="of N4's layers, the input first")
    parser.add_argument("--device", default="cpu", help="where the tape runs")
    options = parser.parse_args()
    for name in options.networks or NETWORKS:
        if name not in NETWORKS:
            parser.error(f"unknown network {name!r}; there are {', '.join(NETWORKS)}")
        print(f"{NETWORKS[name].__doc__}\n")
        NETWORKS[name](options.device, options.sizes)


if __name__ == "__main__":
    main()
