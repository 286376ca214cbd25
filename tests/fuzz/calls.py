"""A call of one function as data: what tensorlite and PyTorch both run, and what a failure prints as a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

import tensorlite as tl

INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
NUMPY = {name: getattr(tl, name).numpy for name in ("bool", *INTEGERS, *FLOATS)}

# How a dimension of n elements lies in the base: the base's size, and the part of it.
WAYS: dict[str, tuple[Callable[[int], int], Callable[[int], slice]]] = {
    "whole": (lambda n: n, lambda n: slice(None)),
    "every second": (lambda n: 2 * n, lambda n: slice(1, None, 2)),
    "inner": (lambda n: n + 3, lambda n: slice(1, n + 1)),
    "backwards": (lambda n: n, lambda n: slice(None, None, -1)),
}


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory: a base, its dimensions in another order, of these a part, and that repeated."""

    order: tuple[int, ...] | None = None
    ways: tuple[str, ...] | None = None
    repeated: tuple[int, ...] = ()  # dimensions along which all elements are one

    def base(self, values: np.ndarray) -> np.ndarray:
        """A new array of which `view` makes `values`; beside them it holds sevens."""
        for dim in self.repeated:
            values = values.take([0], dim)
        if self.ways is not None:
            sizes = zip(values.shape, self.ways, strict=True)
            whole = np.full([WAYS[way][0](n) for n, way in sizes], 7, values.dtype)
            whole[self._key(values.shape)] = values
            values = whole
        if self.order is not None:
            values = values.transpose(np.argsort(self.order))
        return np.array(values, order="C")

    def view(self, base: Any, shape: tuple[int, ...]) -> Any:
        if self.order is not None:
            base = base.permute(self.order)
        if self.ways is not None:
            base = base[self._key(tuple(1 if i in self.repeated else n for i, n in enumerate(shape)))]
        return base.expand(shape) if self.repeated else base

    def text(self, shape: tuple[int, ...]) -> str:
        key = self._key(tuple(1 if i in self.repeated else n for i, n in enumerate(shape))) if self.ways else ()
        return (
            (f".permute{self.order}" if self.order is not None else "")
            + (f"[{key}]" if key else "")
            + (f".expand{shape}" if self.repeated else "")
        )

    def _key(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(WAYS[way][1](n) for n, way in zip(shape, self.ways or (), strict=True))


PLAIN = Layout()


@dataclass(frozen=True, eq=False)
class Leaf:
    """An input. PyTorch gets it dense, which makes its answer the one that no layout may change."""

    values: np.ndarray
    dtype: str
    requires_grad: bool = False
    layout: Layout = PLAIN

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def ours(self, device: str) -> tl.Tensor:
        base = self.layout.base(self.values) if self.layout is not PLAIN else self.values.copy()
        made = tl.from_numpy(base)
        if device != "cpu":
            made = made.to(device)
        if self.layout is not PLAIN:
            made = self.layout.view(made, self.values.shape)
        return made.requires_grad_() if self.requires_grad else made

    def theirs(self, dtype: str | None = None, stretch: float = 0.0, by_place: bool = False) -> Any:
        """PyTorch's tensor; if asked for of another float dtype, and with each value moved up or down by a factor."""
        if dtype is not None and self.dtype in FLOATS:
            wide = self.values.astype(NUMPY[dtype])
            made = torch.from_numpy(np.asarray(wide * (1 + stretch * signs(wide, by_place))) if stretch else wide)
        elif self.dtype == "bfloat16":
            made = torch.from_numpy(self.values.copy().view(np.uint16)).view(torch.bfloat16)
        else:
            made = torch.from_numpy(self.values.copy())
        return made.requires_grad_() if self.requires_grad else made

    def text(self) -> str:
        values = np.array2string(
            self.layout.base(self.values).astype(np.float64 if self.dtype in FLOATS else object),
            threshold=10**6,
            floatmode="unique",
            separator=", ",
            max_line_width=110,
        )
        values = values.replace("nan", "math.nan").replace("inf", "math.inf")
        size = "" if self.values.size else f".reshape{self.layout.base(self.values).shape}"
        return f"tl.tensor({values}, dtype=tl.{self.dtype}){size}{self.layout.text(self.shape)}" + (
            ".requires_grad_()" if self.requires_grad else ""
        )


def signs(values: np.ndarray, by_place: bool) -> np.ndarray:
    """1 or -1: in turn, or by chance, for equal numbers the same."""
    if by_place:
        return np.where(np.arange(values.size).reshape(values.shape) % 2, -1.0, 1.0)
    with np.errstate(all="ignore"):
        return np.where(np.sin(values * 12345.678) < 0, -1.0, 1.0)


@dataclass(frozen=True)
class Named:
    """An argument that each library calls by the same name, such as a dtype."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function by its path in both libraries, and its arguments: leaves, Named, numbers, lists and tuples of these.

    theirs      another name that PyTorch has for it
    exact       whether each element is a function of few others, and so accurate by itself
    in_place    whether the first argument is what changes
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    theirs: str | None = None
    exact: bool = False
    in_place: bool = False

    def leaves(self) -> list[Leaf]:
        return list(_leaves((*self.args, *self.kwargs.values())))

    def run_ours(self, tensors: dict[int, Any]) -> Any:
        return self._run(tl, self.name, tensors)

    def run_theirs(self, tensors: dict[int, Any]) -> Any:
        return self._run(torch, self.theirs or self.name, tensors)

    def _run(self, library: Any, name: str, tensors: dict[int, Any]) -> Any:
        args = [_given(library, a, tensors) for a in self.args]
        kwargs = {key: _given(library, a, tensors) for key, a in self.kwargs.items()}
        if self.in_place and args[0].requires_grad:
            args[0] = args[0] * 1
        return found(library, name)(*args, **kwargs)

    def text(self) -> str:
        """A program of tensorlite that makes the call."""
        names = {id(leaf): f"x{i}" for i, leaf in enumerate(self.leaves())}
        lines = [f"x{i} = {leaf.text()}" for i, leaf in enumerate(self.leaves())]
        given = [_text(a, names) for a in self.args] + [f"{k}={_text(a, names)}" for k, a in self.kwargs.items()]
        if self.in_place and isinstance(self.args[0], Leaf) and self.args[0].requires_grad:
            given[0] += " * 1"
        return "\n".join([*lines, f"y = tl.{self.name}({', '.join(given)})"])

    def replaced(self, old: Leaf, new: Leaf) -> Call:
        def swap(a: Any) -> Any:
            if isinstance(a, (list, tuple)):
                return type(a)(swap(x) for x in a)
            return new if a is old else a

        return replace(self, args=swap(self.args), kwargs={key: swap(a) for key, a in self.kwargs.items()})


@cache
def _path(name: str) -> Callable[[Any], Any]:
    return operator.attrgetter(name)


def found(library: Any, name: str) -> Any:
    return _path(name)(library)


def _leaves(a: Any) -> Iterator[Leaf]:
    if isinstance(a, Leaf):
        yield a
    elif isinstance(a, (list, tuple)):
        for x in a:
            yield from _leaves(x)


def _given(library: Any, a: Any, tensors: dict[int, Any]) -> Any:
    if isinstance(a, Leaf):
        return tensors[id(a)]
    if isinstance(a, Named):
        return getattr(library, a.name)
    if isinstance(a, (list, tuple)):
        return type(a)(_given(library, x, tensors) for x in a)
    return a


def _text(a: Any, names: dict[int, str]) -> str:
    if isinstance(a, Leaf):
        return names[id(a)]
    if isinstance(a, Named):
        return f"tl.{a.name}"
    if isinstance(a, list):
        return f"[{', '.join(_text(x, names) for x in a)}]"
    if isinstance(a, tuple):
        return f"({''.join(_text(x, names) + ', ' for x in a)})"
    return repr(a)
