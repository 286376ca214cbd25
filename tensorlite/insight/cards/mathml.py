"""Formulas of the dialect as MathML, which browsers set as mathematics: fractions, roots, exponents, cases."""

from __future__ import annotations

import ast
import functools
from html import escape

from .pretty import COMPARISONS, NAMES, pretty

_SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "·", ast.MatMult: "@", ast.FloorDiv: "//", ast.BitAnd: "and",
    ast.BitOr: "or",
}
_LOOSE = (ast.Add, ast.Sub, ast.BitAnd, ast.BitOr)  # what a product or a big operator takes in parentheses
_FENCES = {"abs": ("|", "|"), "floor": ("⌊", "⌋"), "ceil": ("⌈", "⌉")}
_BIG = {"sum": "∑", "prod": "∏"}


@functools.cache
def mathml(formula: str, left: str = "") -> str:
    """A `<math>` element of a formula, behind "left =" where that is given.

    >>> mathml("x/2")
    '<math displaystyle="true" alttext="x / 2"><mfrac><mrow><mi>x</mi></mrow><mrow><mn>2</mn></mrow></mfrac></math>'
    """
    text = f"{left} = {pretty(formula)}" if left else pretty(formula)
    head = f"{_left(left)}<mo>=</mo>" if left else ""
    body = _math(ast.parse(formula, mode="eval").body)
    return f'<math displaystyle="true" alttext="{escape(text)}">{head}{body}</math>'


def _left(text: str) -> str:
    """∂L/∂x as a fraction; any other name as it is."""
    above, _, below = text.partition("/")
    if below and above.startswith("∂"):
        parts = (f"<mrow><mo>∂</mo><mi>{escape(part[1:])}</mi></mrow>" for part in (above, below))
        return f"<mfrac>{''.join(parts)}</mfrac>"
    return f"<mi>{escape(text)}</mi>"


def _math(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return f"<mi>{NAMES.get(name, name)}</mi>"
        case ast.Constant(value=value):
            return f"<mn>{escape(str(value))}</mn>"
        case ast.BinOp(left=above, op=ast.Div(), right=below):
            return f"<mfrac>{_row(above)}{_row(below)}</mfrac>"
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
            return f"<msup>{_tight(base)}{_row(exponent)}</msup>"
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(left, op, right)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"<mo>-</mo>{_factor(operand)}"
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return f"<mtext>not&nbsp;</mtext>{_fenced(_math(operand))}"
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return f"{_math(left)}<mo>{escape(COMPARISONS[type(op)])}</mo>{_math(right)}"
        case ast.Call(func=ast.Name(id=name), args=args):
            return _call(name, args)
    return f"<mtext>{escape(pretty(ast.unparse(node)))}</mtext>"


def _row(node: ast.expr) -> str:
    return f"<mrow>{_math(node)}</mrow>"


def _fenced(inside: str, fences: tuple[str, str] = ("(", ")")) -> str:
    return f"<mrow><mo>{fences[0]}</mo>{inside}<mo>{fences[1]}</mo></mrow>"


def _binary(left: ast.expr, op: ast.operator, right: ast.expr) -> str:
    sign = _SIGNS[type(op)]
    if isinstance(op, (ast.BitAnd, ast.BitOr)):
        return f"{_math(left)}<mtext>&nbsp;{sign}&nbsp;</mtext>{_math(right)}"
    if isinstance(op, (ast.Add, ast.Sub)):
        behind = _factor(right) if isinstance(op, ast.Sub) else _term(right)
        return f"{_term(left)}<mo>{sign}</mo>{behind}"
    return f"{_factor(left, op)}<mo>{sign}</mo>{_factor(right, op)}"


def _term(node: ast.expr) -> str:
    """A summand: a comparison in Iverson's brackets."""
    return _fenced(_math(node), ("[", "]")) if isinstance(node, ast.Compare) else _math(node)


def _factor(node: ast.expr, of: ast.operator | None = None) -> str:
    """An operand that holds together: sums, and in a product of numbers one of matrices, stand in parentheses."""
    if isinstance(node, ast.Compare) or (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr))):
        return _fenced(_math(node), ("[", "]"))
    matrices = isinstance(of, ast.Mult) and isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
    if matrices or (isinstance(node, ast.BinOp) and isinstance(node.op, _LOOSE)) or _is_choice(node):
        return _fenced(_math(node))
    return _math(node)


def _tight(node: ast.expr) -> str:
    """The base of a power."""
    plain = isinstance(node, (ast.Name, ast.Constant))
    return _row(node) if plain else f"<mrow>{_fenced(_math(node))}</mrow>"


def _is_choice(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "where"


def _call(name: str, args: list[ast.expr]) -> str:
    if name == "exp":
        return f"<msup><mi>e</mi>{_row(args[0])}</msup>"
    if name == "sqrt":
        return f"<msqrt>{_math(args[0])}</msqrt>"
    if name in _FENCES:
        return _fenced(_math(args[0]), _FENCES[name])
    if name in _BIG:
        return f"<mo>{_BIG[name]}</mo>{_factor(args[0])}"
    if name == "T":
        return f"<msup>{_tight(args[0])}<mi>T</mi></msup>"
    if name == "shape_of":
        return f"<mtext>shape of&nbsp;</mtext>{_math(args[0])}"
    if name == "where":
        return _cases(*args)
    if name == "einsum":
        return _einsum(args)
    inside = "<mo>,</mo>".join(map(_math, args))
    return f"<mi>{NAMES.get(name, name)}</mi>{_fenced(inside)}"


def _cases(condition: ast.expr, then: ast.expr, other: ast.expr) -> str:
    cases = (then, f"<mtext>where&nbsp;</mtext>{_math(condition)}"), (other, "<mtext>else</mtext>")
    rows = "".join(f"<mtr><mtd>{_math(value)}</mtd><mtd>{when}</mtd></mtr>" for value, when in cases)
    return f'<mrow><mo stretchy="true">{{</mo><mtable>{rows}</mtable></mrow>'


def _einsum(args: list[ast.expr]) -> str:
    spec, *factors = args
    assert isinstance(spec, ast.Constant)
    inputs, _, result = str(spec.value).partition("->")
    summed = "".join(sorted(set(inputs) - set(result) - {",", "."}))
    product = "<mo>·</mo>".join(
        f"<msub>{_tight(a)}<mi>{letters}</mi></msub>" for a, letters in zip(factors, inputs.split(","), strict=True))
    return f"<munder><mo>∑</mo><mi>{summed}</mi></munder>{product}" if summed else product
