"""Random programs, run step by step in tensorlite and in torch: operations, views, in-place changes, all with reuse.

`compare(seed)` grows a program, in which every step takes tensors made before. A step is refused by both libraries or
by none, and values, requires_grad, and after backward the gradients of all leaves must agree. What differs on purpose
is left out: no in-place change of an expanded tensor (tensorlite refuses more of them), no `view` of a tensor that is
not dense (torch keeps strides through elementwise operations), and torch gets a clone of an operand that lies over
the target in part (it refuses, or computes with half-changed numbers; tensorlite copies).

Where torch alone refuses a backward (an in-place operation of tensorlite saves a private copy of its result, torch
the shared memory), torch runs the program again with saved tensors cloned, and the gradients must agree with those.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorlite as tl

UNARY = ("sin", "cos", "tanh", "sigmoid", "exp", "neg", "square", "abs", "relu", "clone", "atan", "erf", "expm1",
         "asinh")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
FOLDS = ("sum", "mean", "amax", "amin", "logsumexp", "prod")
MIXED: dict[str, Callable[[Any, Any], Any]] = {  # of one tensor of at least one dimension, which is not empty
    "softmax(v, -1)": lambda L, v: L.softmax(v, -1), "log_softmax(v, 0)": lambda L, v: L.log_softmax(v, 0),
    "clamp(v, -1, 0.8)": lambda L, v: L.clamp(v, -1, 0.8), "v**3": lambda L, v: v**3,
    "v * 1.5 - 0.25": lambda L, v: v * 1.5 - 0.25,
    "where(v > 0.5, v, 2 * v)": lambda L, v: L.where(v > 0.5, v, 2 * v), "flip(v, (0,))": lambda L, v: L.flip(v, (0,)),
    "roll(v, 1, 0)": lambda L, v: L.roll(v, 1, 0), "stack([v, v], 1)": lambda L, v: L.stack([v, v], 1),
    "gelu(v)": lambda L, v: L.nn.functional.gelu(v), "silu(v)": lambda L, v: L.nn.functional.silu(v),
    "layer_norm(v, last)": lambda L, v: L.nn.functional.layer_norm(v, v.shape[-1:], eps=0.1),
    "pad(v, (1, 2))": lambda L, v: L.nn.functional.pad(v, (1, 2), value=0.5),
    "tril(v)": lambda L, v: L.tril(L.atleast_2d(v)),
    "einsum('...i,...i->...', v, v)": lambda L, v: L.einsum("...i,...i->...", v, v),
    "cumprod(v, -1)": lambda L, v: L.cumprod(v, -1),
    "v.repeat_interleave(2, 0)": lambda L, v: v.repeat_interleave(2, 0),
    "linear(v, v)": lambda L, v: L.nn.functional.linear(v, v if v.ndim == 2 else v.reshape(1, -1)[:, :v.shape[-1]]),
    "mse_loss(v, v.detach() / 2 + 1)": lambda L, v: L.nn.functional.mse_loss(v, v.detach() / 2 + 1),
    "huber_loss(v, 2 * v)": lambda L, v: L.nn.functional.huber_loss(v, 2 * v),
    "normalize(v + 3)": lambda L, v: L.nn.functional.normalize(v + 3, dim=0),
}
IN_PLACE = ("sin_", "cos_", "tanh_", "sigmoid_", "exp_", "neg_", "square_", "relu_", "abs_", "zero_")
IN_PLACE_BINARY = ("add_", "sub_", "mul_", "div_", "copy_")
SHAPES = ((3, 4), (4,), (3, 1), (2, 3, 4), (), (4, 4))
LARGEST, HIGHEST = 2000, 1e4  # elements and absolute values; a program that grows beyond is given up

Step = tuple[str, Callable[[Any, list[Any]], Any]]  # its text, and the function of library and tensors


def fits_into(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a shape broadcasts to another one."""
    return len(part) <= len(whole) and all(n in (1, m) for n, m in zip(reversed(part), reversed(whole), strict=False))


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(n == m or 1 in (n, m) for n, m in zip(reversed(a), reversed(b), strict=False))


@dataclass
class Outcome:
    """How a comparison ended, and the program as text."""

    verdict: str  # "equal", "both refuse", or what differs
    text: list[str]
    arrays: int = 0  # how many values and gradients were compared

    @property
    def good(self) -> bool:
        return self.verdict in ("equal", "both refuse", "torch refuses a step", "too large")

    def __str__(self) -> str:
        return "\n".join([*self.text, self.verdict])


class Program:
    """A source of random steps."""

    def __init__(self, seed: int, in_place: bool) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.length = self.rng.randint(2, 30)
        self.in_place = in_place
        self.leaves = [self.numbers.uniform(0.3, 1.7, self.rng.choice(SHAPES)) for _ in range(self.rng.randint(1, 3))]
        self.needs = [i == 0 or self.rng.random() < 0.7 for i in range(len(self.leaves))]
        self.cloned = False  # whether torch was ever given a clone

    def tensors(self, library: Any) -> list[Any]:
        return [library.tensor(a, requires_grad=need) for a, need in zip(self.leaves, self.needs, strict=True)]

    def pick(self, tensors: list[Any], accept: Callable[[tuple[int, ...]], bool]) -> int:
        return self.rng.choice([i for i, t in enumerate(tensors) if accept(tuple(t.shape))])

    def step(self, tensors: list[Any], dense_in_torch: Callable[[int], bool]) -> Step:
        rng = self.rng
        self.dense = dense_in_torch
        recent = len(tensors) - 1 - int(rng.expovariate(0.7))
        i = rng.randrange(len(tensors)) if rng.random() < 0.5 else max(0, recent)
        array = tensors[i].array
        kinds = [self.operation, self.view, self.fold_or_index, self.mixed]
        weights = [30, 22, 14, 10 if array.ndim and array.size else 0]
        if self.in_place and array.flags.writeable:
            kinds += [self.change, self.assign]
            weights += [22, 12]
        return rng.choices(kinds, weights)[0](i, tensors)

    # --- steps that make a tensor

    def operation(self, i: int, tensors: list[Any]) -> Step:
        if self.rng.random() < 0.5:
            name = self.rng.choice(UNARY)
            return f"{name}(v{i})", lambda L, v: getattr(v[i], name)()
        j = self.pick(tensors, lambda s: broadcasts(s, tensors[i].shape))
        name = self.rng.choice(BINARY)
        return f"{name}(v{i}, v{j})", lambda L, v: getattr(L, name)(v[i], v[j])

    def mixed(self, i: int, tensors: list[Any]) -> Step:
        name = self.rng.choice(tuple(MIXED))
        return f"{name} of v{i}", lambda L, v: MIXED[name](L, v[i])

    def view(self, i: int, tensors: list[Any]) -> Step:
        rng, array = self.rng, tensors[i].array
        kind = rng.choices(["key", "transpose", "view", "unsqueeze", "expand", "diagonal", "detach"],
                           [50, 12, 12, 8, 6, 6, 6])[0]
        if kind in ("transpose", "diagonal") and array.ndim >= 2:
            a, b = rng.sample(range(array.ndim), 2)
            if kind == "diagonal":
                return f"v{i}.diagonal(0, {a}, {b})", lambda L, v: v[i].diagonal(0, a, b)
            return f"v{i}.transpose({a}, {b})", lambda L, v: v[i].transpose(a, b)
        if kind == "view" and array.flags.c_contiguous and self.dense(i):
            return f"v{i}.view(-1)", lambda L, v: v[i].view(-1)
        if kind == "unsqueeze":
            dim = rng.randint(0, array.ndim)
            return f"v{i}.unsqueeze({dim})", lambda L, v: v[i].unsqueeze(dim)
        if kind == "expand":
            return f"v{i}.expand(2, ...)", lambda L, v: v[i].expand(2, *array.shape)
        if kind == "detach":
            return f"v{i}.detach()", lambda L, v: v[i].detach()
        key = self.key(array.shape)
        return f"v{i}[{key}]", lambda L, v: v[i][key]

    def fold_or_index(self, i: int, tensors: list[Any]) -> Step:
        rng, shape = self.rng, tensors[i].array.shape
        kind = rng.choice(["fold", "fold", "index", "sum", "matmul", "cat", "cumsum"])
        if kind == "fold" and shape:
            name, dim, keepdim = rng.choice(FOLDS), rng.randrange(len(shape)), rng.random() < 0.5
            return f"v{i}.{name}({dim}, {keepdim})", lambda L, v: getattr(v[i], name)(dim, keepdim)
        if kind == "cumsum" and shape:
            return f"v{i}.cumsum(0)", lambda L, v: v[i].cumsum(0)
        if kind == "index" and shape:
            index = self.index(shape)
            return f"v{i}[{index}]", lambda L, v: v[i][L.tensor(index)]
        if kind == "matmul" and len(shape) == 2:
            return f"v{i} @ v{i}.T", lambda L, v: L.matmul(v[i], v[i].transpose(0, 1))
        if kind == "cat" and shape:
            j = self.pick(tensors, lambda s: s == shape)
            return f"cat(v{i}, v{j})", lambda L, v: L.cat([v[i], v[j]])
        return f"v{i}.sum()", lambda L, v: v[i].sum()

    def key(self, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """A random basic key."""
        rng = self.rng
        parts: list[Any] = []
        for n in shape[:rng.randint(1, len(shape))] if shape else ():
            start = rng.randrange(n) if n else 0
            section = slice(start, rng.randint(start + 1, n) if n else 0, rng.choice([None, None, 2]))
            parts.append(rng.choice([rng.randrange(-n, n), section, section]) if n else section)
        if rng.random() < 0.1:
            parts.insert(0, None)
        return (*parts, ...) if not parts or rng.random() < 0.1 else tuple(parts)

    def index(self, shape: tuple[int, ...]) -> Any:
        """A random integer index or bool mask."""
        n = shape[0]
        if n and self.rng.random() < 0.4:
            return [self.rng.randrange(-n, n) for _ in range(self.rng.randint(1, 4))]
        return (self.numbers.random(shape if self.rng.random() < 0.5 else shape[:1]) < 0.6).tolist()

    # --- steps that change one

    def operand(self, L: Any, i: int, j: int, v: list[Any], part: bool = False) -> Any:
        if L is not tl and (part or i != j) and v[i].untyped_storage().data_ptr() == v[j].untyped_storage().data_ptr():
            self.cloned = True
            return v[j].clone()
        return v[j]

    def change(self, i: int, tensors: list[Any]) -> Step:
        rng, shape = self.rng, tensors[i].array.shape
        kind = rng.choice(["unary", "binary", "binary", "number", "masked_fill_"])
        if kind == "unary":
            name = rng.choice(IN_PLACE)
            return self.maybe_quiet(f"v{i}.{name}()", lambda L, v: getattr(v[i], name)())
        if kind == "masked_fill_":
            mask = (self.numbers.random(shape) < 0.5).tolist()
            return self.maybe_quiet(f"v{i}.masked_fill_({mask}, 1.5)",
                                    lambda L, v: v[i].masked_fill_(L.tensor(mask), 1.5))
        if kind == "number":
            name, number = rng.choice(("add_", "mul_", "div_", "fill_")), rng.choice([2.0, 0.5, 3])
            return self.maybe_quiet(f"v{i}.{name}({number})", lambda L, v: getattr(v[i], name)(number))
        j = self.pick(tensors, lambda s: fits_into(s, shape))
        name = rng.choice(IN_PLACE_BINARY)
        return self.maybe_quiet(f"v{i}.{name}(v{j})", lambda L, v: getattr(v[i], name)(self.operand(L, i, j, v)))

    def assign(self, i: int, tensors: list[Any]) -> Step:
        rng, shape = self.rng, tensors[i].array.shape
        if shape and rng.random() < 0.2:
            index = self.index(shape)
            return self.maybe_quiet(f"v{i}[{index}] = 0.7", lambda L, v: v[i].__setitem__(L.tensor(index), 0.7))
        key = self.key(shape)
        target = np.empty(shape)[key].shape
        fitting = [j for j, t in enumerate(tensors) if fits_into(tuple(t.shape), target)]
        if not fitting or rng.random() < 0.3:
            return self.maybe_quiet(f"v{i}[{key}] = 0.7", lambda L, v: v[i].__setitem__(key, 0.7))
        j = rng.choice(fitting)
        if rng.random() < 0.5:
            return self.maybe_quiet(f"v{i}[{key}] = v{j}",
                                    lambda L, v: v[i].__setitem__(key, self.operand(L, i, j, v, True)))

        def multiply(L: Any, v: list[Any]) -> None:
            v[i][key] *= self.operand(L, i, j, v, True)

        return self.maybe_quiet(f"v{i}[{key}] *= v{j}", multiply)

    def maybe_quiet(self, text: str, function: Callable[[Any, list[Any]], Any]) -> Step:
        """A change gives no new tensor; sometimes it is made under no_grad."""
        quiet = self.rng.random() < 0.1

        def changed(L: Any, v: list[Any]) -> None:
            if quiet:
                with L.no_grad():
                    function(L, v)
            else:
                function(L, v)

        return ("no_grad: " if quiet else "") + text, changed


def attempt(function: Callable[..., Any], *args: Any) -> tuple[Any, Exception | None]:
    try:
        return function(*args), None
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return None, error


def touch(torch_tensors: list[Any]) -> None:
    """Have torch make the histories of views anew now; else it takes some of them for leaves."""
    for t in torch_tensors:
        attempt(lambda t=t: t.grad_fn)


def compare(seed: int, in_place: bool = True, order: int = 1, length: int | None = None) -> Outcome:
    """Run the program of this seed in both libraries; `order` 2 compares second derivatives too; `length` cuts it."""
    program = Program(seed, in_place)
    program.length = min(program.length, length or program.length)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about what the program does
        return _compare(program, order)


def _compare(program: Program, order: int) -> Outcome:
    import torch

    ours, theirs = program.tensors(tl), program.tensors(torch)
    leaves = list(ours), list(theirs)
    text = [f"v{i} = leaf{a.shape}{'' if need else ' constant'}"
            for i, (a, need) in enumerate(zip(program.leaves, program.needs, strict=True))]
    steps = []
    for _ in range(program.length):
        name, step = program.step(ours, lambda i: bool(theirs[i].is_contiguous()))
        touch(theirs)
        (expected, torch_error), (actual, error) = attempt(step, torch, theirs), attempt(step, tl, ours)
        if torch_error is not None and error is None and "leaf Variable" in str(torch_error):
            return Outcome("torch refuses a step", text)  # it still takes the view for a leaf
        if (error is None) != (torch_error is None):
            return Outcome(f"{name}: tensorlite {error!r}, torch {torch_error!r}", text)
        text.append(f"v{len(ours)} = {name}" if actual is not None else name if error is None else f"refused: {name}")
        if error is None:
            steps.append(step)
        if actual is not None:
            ours.append(actual)
            theirs.append(expected)
        if any(t.array.size > LARGEST or bool((np.abs(t.array) > HIGHEST).any()) for t in ours):
            return Outcome("too large", text)
    for i, (a, t) in enumerate(zip(ours, theirs, strict=True)):
        if a.requires_grad != t.requires_grad:
            return Outcome(f"v{i}.requires_grad: tensorlite {a.requires_grad}", text)
        if not alike(a.detach().numpy(), t.detach().numpy()):
            return Outcome(f"v{i}: tensorlite {a.tolist()}, torch {t.tolist()}", text)
    weights = program.numbers.uniform(0.5, 1.5, len(ours)).tolist()
    chosen = [i for i in range(len(ours)) if program.rng.random() < 0.6] or [len(ours) - 1]
    text.append(f"backward from {chosen}")

    def derive(L: Any, v: list[Any], of: list[Any]) -> Any:
        return gradients(L, sum(v[i].sum() * weights[i] for i in chosen), of, order)

    actual, error = attempt(derive, tl, ours, leaves[0])
    expected, torch_error = attempt(derive, torch, theirs, leaves[1])
    if error is None and torch_error is not None:
        expected, torch_error = attempt(derive_with_clones, torch, program, steps, derive)
    elif error is not None and torch_error is None and program.cloned:
        return Outcome("both refuse", text, len(ours))  # torch would, without its clones
    if (error is None) != (torch_error is None):
        return Outcome(f"tensorlite {error!r}, torch {torch_error!r}", text)
    if error is not None:
        return Outcome("both refuse", text, len(ours))
    for i, (g, h) in enumerate(zip(actual, expected, strict=True)):
        if (g is None) != (h is None) or (g is not None and not alike(g, h)):
            return Outcome(f"gradient {i}: tensorlite {g}, torch {h}", text)
    return Outcome("equal", text, len(ours) + len(actual))


def gradients(L: Any, total: Any, leaves: list[Any], order: int) -> list[Any]:
    """The gradients of the leaves, and those of the sum of their squares."""
    if not total.requires_grad:
        return []
    total.backward(create_graph=order > 1)
    first = [t.grad for t in leaves]
    result = [None if g is None else g.detach().clone().numpy() for g in first]
    if order > 1:
        needing = [t for t in leaves if t.requires_grad and t.is_leaf]
        curved = [g for g in first if g is not None and g.requires_grad]
        squares = sum((g * g).sum() for g in curved)
        second = L.autograd.grad(squares, needing, allow_unused=True) if curved else [None] * len(needing)
        result += [(L.zeros(t.shape, dtype=L.float64) + (0.0 if g is None else g)).detach().numpy()
                   for g, t in zip(second, needing, strict=True)]
    return result


def derive_with_clones(torch: Any, program: Program, steps: list[Any], derive: Callable[..., Any]) -> Any:
    """The program again in torch, with a clone of all that is saved: then no change in place can matter."""
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda t: t):
        tensors = program.tensors(torch)
        leaves = list(tensors)
        for step in steps:
            touch(tensors)
            made = step(torch, tensors)
            if made is not None:
                tensors.append(made)
        return derive(torch, tensors, leaves)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to rounding of the largest element."""
    scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-8 * scale, equal_nan=True)
