"""What several tools ask of recorded nodes: which led to a result, and what of their parameters can be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tape import Node


def ancestors(roots: Iterable[Any]) -> list[Node]:
    """Some nodes and all that they were computed from, the oldest first; what is no node among the roots is left out.

    >>> x = tl.ones(2, requires_grad=True)
    >>> [node.op.name for node in ancestors([(x * 2).sum().grad_fn])]
    ['mul', 'sum']
    """
    found: set[Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Node) and node not in found:
            found.add(node)
            waiting += node.parents
    return sorted(found, key=lambda node: node.seq)


def is_plain(value: Any) -> bool:
    """Whether a keyword parameter can be read: a number, a word, None, or several of these; no array, no object."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
