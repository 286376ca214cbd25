"""Formulas of cards in the words of one recorded operation: its tensors' names in place of x and y, its numbers for
what is a number, and only the branch that was taken.

`Formulas.parts` gives a formula as text between references to tensors, so that the page can show it twice: with names,
and with the values in their places.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..cards.pretty import pretty

Part = str | dict[str, Any]
Shape = tuple[int, ...]
PLAIN_WORDS = frozenset("max min exp ln tanh sin cos σ Σ where else".split())
_FIRST = 0xA000  # names that stand for tensors while a formula is set: letters of a script that no formula has
_TOKENS = re.compile("([\ua000-\ua3ff])")

_FOLDED: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}


class Formulas:
    """What formulas say of one operation.

    tensors  what the formulas' names for tensors stand for, as the page is to know it
    numbers  the values of names for numbers
    shapes   of the tensors, by which what has no effect on them is left out: rows(x) is x, if x is a matrix
    where    abbreviations; those without functions are written out
    """

    def __init__(self, tensors: Mapping[str, dict[str, Any]], numbers: Mapping[str, Any],
                 shapes: Mapping[str, Shape] | None = None, where: Mapping[str, str] | None = None) -> None:
        self._tensors = list(tensors.values())
        self._tokens = {name: chr(_FIRST + i) for i, name in enumerate(tensors)}
        self._numbers = numbers
        self._shapes = {self._tokens[name]: shape for name, shape in (shapes or {}).items() if name in self._tokens}
        self._where = where or {}

    def parts(self, formula: str) -> list[Part]:
        """A formula of the dialect as text between references to tensors, with numbers put in.

        >>> Formulas({"g": {"name": "δ"}, "x": {"name": "w"}}, {"y": 2}).parts("where(y == 0, 0, g*y*x**(y - 1))")
        [{'name': 'δ'}, '·2·', {'name': 'w'}]
        """
        text = pretty(ast.unparse(self._put_in(formula)))
        return [self._tensors[ord(piece) - _FIRST] if _TOKENS.match(piece) else piece
                for piece in _TOKENS.split(text) if piece]

    def abbreviations(self, formula: str) -> dict[str, list[Part]]:
        """What the abbreviations mean that are left in a formula, and those in these."""
        found: dict[str, list[Part]] = {}
        waiting = [formula]
        while waiting:
            tree = self._put_in(waiting.pop())
            for name in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & self._where.keys()):
                if name not in found:
                    found[name] = self.parts(self._where[name])
                    waiting.append(self._where[name])
        return found

    def _put_in(self, formula: str) -> ast.AST:
        tree = ast.parse(formula, mode="eval")
        return _PutIn(self._tokens, self._numbers, self._shapes, self._where).visit(tree)  # type: ignore[no-any-return]


def is_plain(parts: list[Part]) -> bool:
    """Whether a formula reads as mathematics, with no word that needs an explanation."""
    words = re.findall(r"[A-Za-z\u0391-\u03c9]\w*", " ".join(part for part in parts if isinstance(part, str)))
    return PLAIN_WORDS.issuperset(words)


class _PutIn(ast.NodeTransformer):
    """Puts names and numbers in, and carries out what can be said at once: 1·x is x, and 2 = 0 is never so."""

    def __init__(self, tokens: Mapping[str, str], numbers: Mapping[str, Any], shapes: Mapping[str, Shape],
                 where: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._numbers = numbers
        self._shapes = shapes
        self._where = where

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self._tokens:
            return ast.Name(self._tokens[node.id], ast.Load())
        if node.id in self._where:
            meaning: ast.AST = self.visit(ast.parse(self._where[node.id], mode="eval").body)
            return node if any(isinstance(inner, ast.Call) for inner in ast.walk(meaning)) else meaning
        value = self._numbers.get(node.id)
        return ast.Constant(value) if isinstance(value, (int, float)) else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right = _constant(node.left), _constant(node.right)
        if left is not None and right is not None and type(node.op) in _FOLDED:
            return ast.Constant(_FOLDED[type(node.op)](left, right))
        match node.op:
            case ast.Mult() if left == 1:
                return node.right
            case ast.Mult() | ast.Div() | ast.Pow() if right == 1:
                return node.left
            case ast.Mult() if left == -1:
                return ast.UnaryOp(ast.USub(), node.right)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        value = _constant(node.operand)
        return ast.Constant(-value) if isinstance(node.op, ast.USub) and value is not None else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        left, right = _constant(node.left), _constant(node.comparators[0])
        if len(node.ops) == 1 and left is not None and right is not None and type(node.ops[0]) in _FOLDED:
            return ast.Constant(_FOLDED[type(node.ops[0])](left, right))
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="where"), args=[condition, yes, no]):
                taken = _constant(condition)
                return node if taken is None else yes if taken else no
            case ast.Call(func=ast.Name(id="rows"), args=[rows]) if self._are_matrices(rows):
                return rows
            case ast.Call(func=ast.Name(id="expand" | "reshape"), args=[spread, ast.Subscript() | ast.Call()]):
                return spread  # in the shape of an input
            case ast.Call(func=ast.Name(id="count"), args=[counted]) if (shape := self._shape(counted)) is not None:
                return ast.Constant(self._count(shape))
            case ast.Call(func=ast.Name(id="sum_to"), args=[summed, ast.Call(args=[target])]):
                shape = self._shape(summed)
                alike = shape is not None and shape == self._shape(target)
                return summed if alike else ast.Call(ast.Name("sum", ast.Load()), [summed], [])
        return node

    def _count(self, shape: Shape) -> int:
        """How many elements a reduction makes one of."""
        dims = self._numbers.get("dims")
        return math.prod(shape if dims is None else [shape[dim] for dim in dims])

    def _shape(self, node: ast.expr) -> Shape | None:
        return self._shapes.get(node.id) if isinstance(node, ast.Name) else None

    def _are_matrices(self, node: ast.expr) -> bool:
        """Whether all tensors in an expression are known to be matrices."""
        named = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name) and _TOKENS.match(inner.id)]
        return all(len(self._shape(name) or ()) == 2 for name in named)


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)) else None
