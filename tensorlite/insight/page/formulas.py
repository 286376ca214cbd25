"""Formulas of cards in the words of one recorded operation: its tensors' names in place of x and y, its numbers for
what is a number, and only the branch that was taken.

`parts` gives a formula as text between references to tensors, so that the page can show it twice: with names, and with
the values in their places.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..cards.pretty import pretty

Part = str | dict[str, Any]
_FIRST = 0xA000  # names that stand for tensors while a formula is set: letters of a script that no formula has
_TOKENS = re.compile("([\ua000-\ua3ff])")

_FOLDED: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}


def parts(formula: str, tensors: Mapping[str, dict[str, Any]], numbers: Mapping[str, Any]) -> list[Part]:
    """A formula of the dialect, with references for the tensors and with numbers put in.

    >>> parts("where(y == 0, 0, g*y*x**(y - 1))", {"g": {"name": "δ"}, "x": {"name": "w"}}, {"y": 2})
    [{'name': 'δ'}, '·2·', {'name': 'w'}]
    """
    listed = list(tensors)
    tokens = {name: chr(_FIRST + i) for i, name in enumerate(listed)}
    tree = _PutIn(tokens, numbers).visit(ast.parse(formula, mode="eval"))
    text = pretty(ast.unparse(tree))
    return [tensors[listed[ord(piece) - _FIRST]] if _TOKENS.match(piece) else piece
            for piece in _TOKENS.split(text) if piece]


class _PutIn(ast.NodeTransformer):
    """Puts names and numbers in, and carries out what can be said at once: 1·x is x, and 2 = 0 is never so."""

    def __init__(self, tokens: Mapping[str, str], numbers: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._numbers = numbers

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._tokens:
            return ast.Name(self._tokens[node.id], ast.Load())
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
        if not (isinstance(node.func, ast.Name) and node.func.id == "where"):
            return node
        taken = _constant(node.args[0])
        return node if taken is None else node.args[1 if taken else 2]


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)) else None
