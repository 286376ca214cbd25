"""Formulas of the dialect as a reader wants them: g*(x > 0) as "g·[x > 0]", x**2 as "x²", log(x) as "ln(x)"."""

from __future__ import annotations

import ast
import functools

_CHOICE, _COMPARE, _OR, _AND, _NOT, _SUM, _PRODUCT, _MINUS, _POWER, _ATOM = range(10)
_OPERATORS: dict[type[ast.AST], tuple[int, str]] = {
    ast.Add: (_SUM, " + "), ast.Sub: (_SUM, " - "), ast.Mult: (_PRODUCT, "·"), ast.Div: (_PRODUCT, " / "),
    ast.MatMult: (_PRODUCT, " @ "), ast.FloorDiv: (_PRODUCT, " // "), ast.BitAnd: (_AND, " and "),
    ast.BitOr: (_OR, " or "),
}
COMPARISONS: dict[type[ast.AST], str] = {
    ast.Gt: ">", ast.GtE: "≥", ast.Lt: "<", ast.LtE: "≤", ast.Eq: "=", ast.NotEq: "≠",
}
NAMES = {"pi": "π", "inf": "∞", "sigmoid": "σ", "log": "ln", "log2": "log₂", "log10": "log₁₀", "Phi": "Φ",
          "phi": "φ", "top": "max", "bottom": "min"}
_AROUND = {"abs": "|{}|", "floor": "⌊{}⌋", "ceil": "⌈{}⌉"}
_BEFORE = {"shape_of": "shape of ", "sum": "Σ ", "prod": "Π ", "sqrt": "√"}
_SUPERSCRIPT = {"2": "²", "3": "³", "4": "⁴", "-1": "⁻¹", "y": "ʸ", "x": "ˣ", "p": "ᵖ"}


@functools.cache
def pretty(formula: str) -> str:
    """A formula of the dialect, typeset in Unicode.

    >>> pretty("g*exp(-x**2)/sqrt(pi)")
    'g·exp(-x²) / √π'
    """
    return _text(ast.parse(formula, mode="eval").body)[1]


def _text(node: ast.expr) -> tuple[int, str]:
    """How tightly a part holds together, and its text."""
    match node:
        case ast.Name(id=name):
            return _ATOM, NAMES.get(name, name)
        case ast.Constant(value=value):
            return _ATOM, str(value)
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
            return _power(base, exponent)
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(left, op, right)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _MINUS, f"-{_within(operand, _PRODUCT)}"
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return _NOT, f"not {_within(operand, _NOT)}"
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARE, f"{_within(left, _SUM)} {COMPARISONS[type(op)]} {_within(right, _SUM)}"
        case ast.Call(func=ast.Name(id=name), args=args):
            return _call(name, args)
        case ast.Subscript(value=value, slice=key):
            return _ATOM, f"{_within(value, _ATOM)}[{_text(key)[1]}]"
        case ast.Tuple(elts=items):
            return _ATOM, f"({', '.join(_text(item)[1] for item in items)})"
    return _ATOM, ast.unparse(node)


def _within(node: ast.expr, least: int) -> str:
    level, text = _text(node)
    return text if level >= least else f"({text})"


def _binary(left: ast.expr, op: ast.operator, right: ast.expr) -> tuple[int, str]:
    level, sign = _OPERATORS[type(op)]
    if isinstance(op, ast.Mult):
        return level, sign.join(_IN_PRODUCTS.get(_operator(part), "{}").format(_factor(part, level))
                                for part in (left, right))
    after = level + 1 if isinstance(op, (ast.Sub, ast.Div, ast.MatMult)) else level
    if isinstance(op, (ast.BitAnd, ast.BitOr)):
        parts = [_text(node)[1] if isinstance(node, ast.Compare) else _within(node, level) for node in (left, right)]
        return level, sign.join(parts)
    return level, f"{_factor(left, level)}{sign}{_factor(right, after)}"


# In a product quotients and products of matrices stand in parentheses: (a / b)·c, not a / b·c.
_IN_PRODUCTS: dict[type[ast.AST], str] = {ast.Div: "({})", ast.MatMult: "({})"}


def _operator(node: ast.expr) -> type[ast.AST]:
    return type(node.op) if isinstance(node, ast.BinOp) else type(node)


def _factor(node: ast.expr, least: int) -> str:
    """An operand; a comparison as a number is Iverson's bracket, 1 where it holds."""
    level, text = _text(node)
    if _COMPARE <= level <= _NOT:
        return f"[{text}]"
    return text if level >= least else f"({text})"


def _power(base: ast.expr, exponent: ast.expr) -> tuple[int, str]:
    text = _text(exponent)[1]
    body = _within(base, _ATOM)
    if text in _SUPERSCRIPT:
        return _POWER, body + _SUPERSCRIPT[text]
    return _POWER, f"{body}^{_within(exponent, _ATOM)}"


def _call(name: str, args: list[ast.expr]) -> tuple[int, str]:
    texts = [_text(arg)[1] for arg in args]
    if name in _AROUND:
        return _ATOM, _AROUND[name].format(texts[0])
    if name in _BEFORE:
        return _POWER, _BEFORE[name] + _factor(args[0], _POWER)
    if name == "T":
        return _ATOM, _within(args[0], _ATOM) + "ᵀ"
    if name == "where":
        return _CHOICE, f"{texts[1]} where {texts[0]}, else {texts[2]}"
    if name == "einsum":
        return _PRODUCT, _einsum(args)
    return _ATOM, f"{NAMES.get(name, name)}({', '.join(texts)})"


def _einsum(args: list[ast.expr]) -> str:
    """einsum('ij,jk->ik', a, b) as "Σ_j a_ij·b_jk"."""
    spec, *factors = args
    assert isinstance(spec, ast.Constant)
    inputs, _, result = str(spec.value).partition("->")
    summed = "".join(sorted(set(inputs) - set(result) - {",", "."}))
    product = "·".join(f"{_within(a, _ATOM)}_{letters}" for a, letters in zip(factors, inputs.split(","), strict=True))
    return f"Σ_{summed} {product}" if summed else product
