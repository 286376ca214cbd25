"""einsum: products of any number of tensors over named dimensions, as matrix products of two at a time.

Of the orders in which operands can be joined the cheapest is taken, so that no intermediate result is larger than it
must be; it is found once for each equation and shapes.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ArgumentError, ShapeError
from .matmul import matmul
from .movement import diagonal, permute
from .reduce import sum

if TYPE_CHECKING:
    from ..tensor import Tensor

Term = tuple[Any, list[str]]  # a Tensor and the labels of its dimensions
Order: TypeAlias = "int | tuple[Order, Order]"
Price = Callable[[frozenset[int], frozenset[int]], int]


def einsum(equation: str, *operands: Any) -> Tensor:
    """Einstein summation: 'bik,bkj->bij'. Letters name dimensions, '...' stands for broadcast ones; letters that are
    not in the result are summed. Without '->' the result holds, in alphabetic order, the letters that occur once.

    Raises ArgumentError for an equation that does not fit the operands, ShapeError for sizes that differ.

    >>> tl.einsum("ij,j->i", tl.ones(2, 3), tl.ones(3))
    tensor([3., 3.])
    """
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    inputs, output = _parse(equation, tensors)
    terms = [_diagonals(x, labels) for x, labels in zip(tensors, inputs, strict=True)]
    sizes: dict[str, int] = {}
    for x, labels in terms:
        _note_sizes(sizes, x, labels)
    order = contraction_order(tuple(tuple(labels) for _, labels in terms), tuple(output), tuple(sizes.items()))
    result, labels = _evaluate(order, terms, set(output))
    result, labels = _sum_out(result, labels, set(output))
    return permute(result, [labels.index(label) for label in output]) if labels else result


def _evaluate(order: Order, terms: list[Term], kept: set[str]) -> Term:
    """The product of the terms in an order, with the labels that are kept."""
    if isinstance(order, int):
        return terms[order]
    left, right = order
    x, xs = _evaluate(left, terms, kept.union(*[terms[i][1] for i in _leaves(right)]))
    y, ys = _evaluate(right, terms, kept.union(*[terms[i][1] for i in _leaves(left)]))
    return _contract(x, xs, y, ys, kept)


def _leaves(order: Order) -> list[int]:
    return [order] if isinstance(order, int) else _leaves(order[0]) + _leaves(order[1])


# --- in which order ---------------------------------------------------------------------------------------------------

_TRIED = 7  # operands of which all orders are compared; of more, the cheapest pair is taken again and again


@functools.lru_cache(maxsize=1024)
def contraction_order(inputs: tuple[tuple[str, ...], ...], output: tuple[str, ...],
                      sizes: tuple[tuple[str, int], ...]) -> Order:
    """The tree of products of two that needs the fewest multiplications: numbers of operands, and pairs of such trees.

    >>> from tensorlite.ops.einsum import contraction_order
    >>> contraction_order((("i", "j"), ("j", "k"), ("k",)), ("i",), (("i", 9), ("j", 9), ("k", 9)))
    (0, (1, 2))
    """
    count, known = len(inputs), dict(sizes)

    def visible(group: frozenset[int]) -> set[str]:
        """The labels of a group of operands that the result or other operands have too."""
        outside = set(output).union(*[inputs[i] for i in range(count) if i not in group])
        return set().union(*[inputs[i] for i in group]) & outside

    def price(a: frozenset[int], b: frozenset[int]) -> int:
        return math.prod(known[label] for label in visible(a) | visible(b))

    return (_best_order if count <= _TRIED else _greedy_order)(count, price)


def _best_order(count: int, price: Price) -> Order:
    """By the best orders of all smaller groups."""
    best: dict[frozenset[int], tuple[int, Order]] = {frozenset([i]): (0, i) for i in range(count)}
    for size in range(2, count + 1):
        for members in itertools.combinations(range(count), size):
            first, *rest = members
            group, found = frozenset(members), []
            for others in range(size - 1):
                for beside in itertools.combinations(rest, others):
                    a = frozenset((first, *beside))
                    b = group - a
                    found.append((best[a][0] + best[b][0] + price(a, b), (best[a][1], best[b][1])))
            best[group] = min(found, key=operator.itemgetter(0))
    return best[frozenset(range(count))][1]


def _greedy_order(count: int, price: Price) -> Order:
    groups: dict[frozenset[int], Order] = {frozenset([i]): i for i in range(count)}
    while len(groups) > 1:
        a, b = min(itertools.combinations(groups, 2), key=lambda pair: price(*pair))
        groups[a | b] = groups.pop(a), groups.pop(b)
    return next(iter(groups.values()))


# --- equations and products ------------------------------------------------------------------------------------------


def _parse(equation: str, tensors: list[Any]) -> tuple[list[list[str]], list[str]]:
    """Labels per operand and of the result; the dimensions of '...' are labelled '0', '1', … from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ArgumentError(f"einsum: {equation!r} names {len(terms)} operands, got {len(tensors)}")
    inputs, widest = [], 0
    for term, tensor in zip(terms, tensors, strict=True):
        named = len(term.replace("...", ""))
        rest = tensor.ndim - named
        if rest < 0 or (rest and "..." not in term) or (not term.replace("...", "", 1).isalpha() and named):
            raise ArgumentError(f"einsum: term {term!r} of {equation!r} does not fit shape {tuple(tensor.shape)}")
        before, _, after = term.partition("...")
        inputs.append([*before, *[str(i) for i in reversed(range(rest))], *after])
        widest = max(widest, rest)
    spread = [str(i) for i in reversed(range(widest))]
    if arrow:
        before, dots, after = right.partition("...")
        output = [*before, *(spread if dots else []), *after]
    else:
        letters = "".join(terms).replace(".", "")
        output = spread + sorted(c for c in set(letters) if letters.count(c) == 1)
    known = set().union(*inputs)
    if len(set(output)) != len(output) or not set(output) <= known:
        raise ArgumentError(f"einsum: the result {right!r} of {equation!r} repeats a letter or names an unknown one")
    return inputs, output


def _diagonals(x: Any, labels: list[str]) -> Term:
    """x with each repeated label reduced to one dimension, by taking the diagonal."""
    labels = list(labels)
    for label in [c for c in dict.fromkeys(labels) if labels.count(c) > 1]:
        while labels.count(label) > 1:
            a = labels.index(label)
            b = labels.index(label, a + 1)
            if x.shape[a] != x.shape[b]:
                raise ShapeError(f"einsum: '{label}' has sizes {x.shape[a]} and {x.shape[b]} in one operand")
            x = diagonal(x, 0, a, b)
            labels = [c for i, c in enumerate(labels) if i not in (a, b)] + [label]
    return x, labels


def _sum_out(x: Any, labels: list[str], kept: set[str]) -> Term:
    gone = tuple(i for i, c in enumerate(labels) if c not in kept)
    return (sum(x, gone, dtype=x.dtype) if gone else x), [c for c in labels if c in kept]


def _contract(x: Any, xs: list[str], y: Any, ys: list[str], later: set[str]) -> Term:
    """One matrix product over two operands; labels shared and still needed become batch dimensions."""
    x, xs = _sum_out(x, xs, set(ys) | later)
    y, ys = _sum_out(y, ys, set(xs) | later)
    shared = [c for c in xs if c in ys]
    sizes: dict[str, int] = {}
    _note_sizes(sizes, x, xs)
    _note_sizes(sizes, y, ys)
    batch = [c for c in shared if c in later]
    inner = [c for c in shared if c not in later]
    left_free = [c for c in xs if c not in shared]
    right_free = [c for c in ys if c not in shared]
    left = _arranged(x, xs, [batch, left_free, inner], sizes)
    right = _arranged(y, ys, [batch, inner, right_free], sizes)
    labels = batch + left_free + right_free
    return matmul(left, right).reshape(tuple(sizes[c] for c in labels)), labels


def _note_sizes(sizes: dict[str, int], x: Any, labels: list[str]) -> None:
    """Add the sizes of a term's dimensions; those of size 1 broadcast. Raises ShapeError for sizes that differ."""
    for label, n in zip(labels, x.shape, strict=True):
        known = sizes.setdefault(label, n)
        if known != n and 1 not in (known, n):
            raise ShapeError(f"einsum: '{label}' has sizes {known} and {n}")
        sizes[label] = max(known, n) if 0 not in (known, n) else 0


def _arranged(x: Any, labels: list[str], groups: list[list[str]], sizes: dict[str, int]) -> Any:
    """x permuted to the groups' order, size-1 dimensions expanded, each group joined into one dimension."""
    order = [c for group in groups for c in group]
    x = permute(x, [labels.index(c) for c in order]) if order else x
    x = x.expand(tuple(sizes[c] for c in order))
    return x.reshape(tuple(math.prod(sizes[c] for c in group) for group in groups))
