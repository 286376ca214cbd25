"""In-place changes, views and version counters: promises B and C, and what follows for gradients (D, A).

Exact, or refused with an error that names the operation: never silently wrong. The last test runs random programs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_programs import compare
from twin import leaf, twin

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.errors import GradError, OutOfRangeError, ShapeError

VECTOR = [0.5, -1.5, 2.0, 1.0]
MATRIX = [[0.5, -1.5, 2.0], [1.0, 3.0, -0.25]]


def total(L: Any, x: Any) -> Any:
    """A scalar with a different weight for every element."""
    return (x * (L.arange(x.numel(), dtype=L.float64) + 1.0).reshape(x.shape)).sum()


# ---- what was saved and then changed -------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "method": lambda L, h: h.add_(1.0),
    "operator": lambda L, h: h.__imul__(2.0),
    "item": lambda L, h: h.__setitem__(0, 5.0),
    "mask": lambda L, h: h.__setitem__(h > 0, 5.0),
    "index": lambda L, h: h.__setitem__(L.tensor([1, 1]), 5.0),
    "view": lambda L, h: h[1:].mul_(2.0),
    "view of a view": lambda L, h: h.view(2, 2).transpose(0, 1)[0].zero_(),
    "detached": lambda L, h: h.detach().add_(1.0),
    "view of the detached": lambda L, h: h.detach()[2:].fill_(0.0),
    "detached view": lambda L, h: h[:1].detach().copy_(L.ones(1)),
    "masked_fill_": lambda L, h: h.masked_fill_(h > 0, 0.0),
    "copy_": lambda L, h: h.copy_(L.ones(4)),
    "normal_": lambda L, h: h.normal_(),
    "uniform_ of a view": lambda L, h: h[:2].uniform_(),
    "init": lambda L, h: (L.nn.init.constant_(h.detach(), 1.0)),
}


@pytest.mark.parametrize("quiet", [False, True], ids=["recorded", "no_grad"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_saved_value_that_was_changed_is_refused(change: str, quiet: bool) -> None:
    """B: through each way to its memory. mul saves its inputs, exp its result."""

    def of_input(L: Any) -> Any:
        h = leaf(L, VECTOR) * 1.0
        y = h * h
        with L.set_grad_enabled(not quiet):
            CHANGES[change](L, h)
        y.sum().backward()

    def of_result(L: Any) -> Any:
        y = (leaf(L, VECTOR) * 1.0).exp()
        with L.set_grad_enabled(not quiet):
            CHANGES[change](L, y)
        y.sum().backward()

    message = "a tensor needed for its gradient was modified by an in-place operation"
    twin(of_input, refused=f"mul: {message}: its input 'x'")()
    twin(of_result, refused=f"exp: {message}: its result")()


@pytest.mark.parametrize("change", ["method", "view", "item", "detached"])
def test_the_message_says_which_version_and_what_to_do(change: str) -> None:
    """B."""
    h = leaf(tl, VECTOR) * 1.0
    y = (h * h).sum()
    CHANGES[change](tl, h)
    with pytest.raises(GradError, match=r"of shape \(4,\) is at version 1, expected version 0.*\.clone\(\)"):
        y.backward()


@twin
def test_a_change_of_what_was_not_saved_does_no_harm(L: Any) -> Any:
    """B: each operation keeps only what its needed rules ask for."""
    x = leaf(L, VECTOR)
    h = x * 2.0
    y = h + 1.0
    constant = L.ones(4, dtype=L.float64)
    z = y * constant
    h.zero_()
    z.add_(3.0)
    total(L, z).backward()
    return x.grad


@twin
def test_dividing_does_not_need_its_result(L: Any) -> Any:
    """B."""
    x, y = leaf(L, VECTOR), leaf(L, [2.0, 4.0, 0.5, 1.0])
    z = x / y
    z += 1.0
    total(L, z).backward()
    return x.grad, y.grad


@pytest.mark.parametrize("writer", ["optimizer", "load_state_dict", "init", "clip", "data", "copy_"])
def test_library_writes_are_noticed_by_a_later_backward(writer: str) -> None:
    """B: an optimizer's step, loaded weights, init and clipping change raw arrays, and say so."""
    layer = nn.Linear(4, 3)
    loss = (layer(tl.ones(2, 4)).sin() @ layer.weight).sum()
    loss.backward(retain_graph=True)
    saved = layer.weight.grad * layer.weight
    if writer == "optimizer":
        optim.SGD(layer.parameters(), lr=0.1).step()
    elif writer == "load_state_dict":
        layer.load_state_dict({"weight": tl.zeros(3, 4), "bias": tl.zeros(3)})
    elif writer == "init":
        nn.init.zeros_(layer.weight)
    elif writer == "clip":
        nn.utils.clip_grad_norm_(layer.parameters(), 1e-3)
        with pytest.raises(GradError, match="modified"):
            saved.sum().backward()
        return
    elif writer == "data":
        layer.weight.data.add_(1.0)  # as in PyTorch, by design unnoticed
        loss.backward()
        return
    else:
        with tl.no_grad():
            layer.weight.copy_(tl.zeros(3, 4))
    with pytest.raises(GradError, match="modified by an in-place operation"):
        loss.backward()


def test_a_leaf_with_other_memory_keeps_old_graphs_exact() -> None:
    """B: p.data = other does not touch what was saved; recording on top of it would, and is refused."""
    x = leaf(tl, VECTOR)
    y = (x * x).sum()
    x.data = tl.zeros(4, dtype=tl.float64)
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [2 * v for v in VECTOR]
    with pytest.raises(GradError, match="given other memory"):
        y.backward(create_graph=True)


def test_a_view_of_memory_that_was_exchanged_is_refused() -> None:
    """B."""
    base, w = tl.zeros(4), tl.ones(2, requires_grad=True)
    part = base[:2]
    base.data = tl.ones(4)
    with pytest.raises(GradError, match="no longer shares memory"):
        part.mul_(w)
    base.mul_(3.0 * w.sum())
    with pytest.raises(GradError, match="no longer shares memory"):
        part * 2.0


# ---- leaves --------------------------------------------------------------------------------------------------------

ON_LEAF: dict[str, Callable[[Any, Any], Any]] = {
    "add_": lambda L, x: x.add_(1.0), "operator": lambda L, x: x.__iadd__(1.0),
    "item": lambda L, x: x.__setitem__(0, 1.0),
    "zero_": lambda L, x: x.zero_(), "copy_": lambda L, x: x.copy_(L.ones(4)), "relu_": lambda L, x: x.relu_(),
    "view": lambda L, x: x[1:].add_(1.0), "view of a view": lambda L, x: x.view(2, 2)[0].zero_(),
    "index": lambda L, x: x.__setitem__([0, 1], 3.0), "normal_": lambda L, x: x.normal_(),
}


@pytest.mark.parametrize("change", ON_LEAF)
def test_a_leaf_that_requires_grad_is_not_changed_while_recording(change: str) -> None:
    """B: refused before anything is written; allowed under no_grad."""
    twin(refused="a leaf Variable that requires grad is being used in an in-place operation")(
        lambda L: ON_LEAF[change](L, leaf(L, VECTOR)))()
    x = leaf(tl, VECTOR)
    with pytest.raises(GradError):
        ON_LEAF[change](tl, x)
    assert x.tolist() == VECTOR
    with tl.no_grad():
        ON_LEAF[change](tl, x)
    assert x.tolist() != VECTOR
    assert x.is_leaf
    assert x.requires_grad


@twin(refused="a leaf Variable that requires grad")
def test_a_view_that_was_made_a_leaf_is_one(L: Any) -> Any:
    """B."""
    L.ones(4)[:2].requires_grad_().add_(1.0)


@twin
def test_a_constant_that_takes_gradients_in(L: Any) -> Any:
    """B: it is a leaf no longer."""
    x, w = L.zeros(4, dtype=L.float64), leaf(L, [3.0, 5.0])
    x[1:3] = w
    x *= 2.0
    total(L, x).backward()
    return x, x.is_leaf, w.grad


# ---- in-place operations and their gradients -----------------------------------------------------------------------

IN_PLACE: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add_": lambda L, h, w: h.add_(w), "add_ alpha": lambda L, h, w: h.add_(w, alpha=2.0),
    "sub_": lambda L, h, w: h.sub_(w), "mul_": lambda L, h, w: h.mul_(w),
    "div_": lambda L, h, w: h.div_(w), "pow_": lambda L, h, w: h.pow_(3),
    "number": lambda L, h, w: h.mul_(2.5),
    "operators": lambda L, h, w: h.__iadd__(w).__imul__(w).__isub__(1.0).__itruediv__(w),
    "exp_": lambda L, h, w: h.exp_(), "tanh_": lambda L, h, w: h.tanh_(), "sigmoid_": lambda L, h, w: h.sigmoid_(),
    "relu_": lambda L, h, w: h.relu_(), "sin_": lambda L, h, w: h.sin_(), "neg_": lambda L, h, w: h.neg_(),
    "abs_": lambda L, h, w: h.abs_(), "square_": lambda L, h, w: h.square_(),
    "clamp_": lambda L, h, w: h.clamp_(-1.0, 1.0), "reciprocal_": lambda L, h, w: h.reciprocal_(),
    "addcmul_": lambda L, h, w: h.addcmul_(w, w, value=0.5),
    "addcdiv_": lambda L, h, w: h.addcdiv_(w, w + 5.0, value=0.5), "lerp_": lambda L, h, w: h.lerp_(w, 0.25),
    "masked_fill_": lambda L, h, w: h.masked_fill_(h > 0, 2.0), "copy_": lambda L, h, w: h.copy_(w),
    "copy_ cast": lambda L, h, w: h.copy_(w.float()), "copy_ of a constant": lambda L, h, w: h.copy_(L.ones(4)),
    "zero_": lambda L, h, w: h.zero_(), "fill_": lambda L, h, w: h.fill_(3.0), "floor_": lambda L, h, w: h.floor_(),
    "round_": lambda L, h, w: h.round_(), "scatter_add_": lambda L, h, w: h.scatter_add_(0, L.tensor([0, 0, 3, 1]), w),
    "index_add_": lambda L, h, w: h.index_add_(0, L.tensor([1, 1, 2, 0]), w),
    "index_add_ by name": lambda L, h, w: h.index_add_(dim=0, index=L.tensor([1, 1, 2, 0]), source=w),
    "scatter_": lambda L, h, w: h.scatter_(0, L.tensor([0, 3, 2, 1]), w),
}


@pytest.mark.parametrize("where", ["whole", "part", "strided", "transposed"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_operations_have_the_gradient_of_their_definition(name: str, where: str) -> None:
    """B: on a whole tensor, and on parts of one: what lies outside keeps its history."""

    def function(L: Any) -> Any:
        x, w = leaf(L, [[0.5, -1.5, 2.0, 1.25]] * 3), leaf(L, [0.75, -2.0, 1.5, 0.5])
        h = x * x.sin()
        square = (L.cat([h, h[:1] * 2.0]) * 1.0) if where == "transposed" else h
        if where == "whole":
            h = x[0] * 1.0
            target = h
        elif where == "transposed":
            h = square
            target = square.transpose(0, 1)[1]
        else:
            target = h[1] if where == "part" else h.view(-1)[1:9:2]
        IN_PLACE[name](L, target, w)
        (total(L, h) + total(L, target.sin())).backward()
        return h, target, x.grad, w.grad

    twin(function)()


@twin
def test_the_old_value_keeps_its_gradient(L: Any) -> Any:
    """B: y reads h before the change, z after it."""
    x = leaf(L, VECTOR)
    h = x * 2.0
    y = h + x
    h.mul_(x)
    z = h + y
    total(L, z).backward()
    return x.grad


@twin
def test_overwriting_cuts_history_with_a_zero_gradient(L: Any) -> Any:
    """B: an infinite gradient of the overwritten part is no NaN."""
    x = leaf(L, [0.0, 4.0, 0.0, 9.0])
    h = x * 1.0
    h[0] = 0.0
    h.view(2, 2)[1, :1].zero_()
    h.sqrt().sum().backward()
    return x.grad


@pytest.mark.parametrize(("change", "message"), [
    (lambda x: x.add_(tl.ones(2, 4)), r"add_: the result has shape \(2, 4\)"),
    (lambda x: x.copy_(tl.ones(3)), r"values of shape \(3,\) do not broadcast"),
    (lambda x: x.__setitem__(slice(0, 2), tl.ones(3)), r"\(3,\) does not broadcast to the indexed \(2,\)"),
    (lambda x: x.__setitem__(7, 1.0), "index 7 is out of bounds"),
    (lambda x: x.__setitem__([0, 9], 1.0), "index 9.*out of bounds"),
], ids=range(5))
@pytest.mark.parametrize("recorded", [False, True])
def test_a_refused_change_changes_nothing(change: Any, message: str, recorded: bool) -> None:
    """B, O: neither values nor history nor shape."""
    x = leaf(tl, VECTOR, requires_grad=recorded)
    h = x * 1.0
    y = (h * h).sum()
    node = h.grad_fn
    with pytest.raises((ShapeError, OutOfRangeError), match=message):
        change(h)
    assert h.tolist() == VECTOR
    assert h.grad_fn is node
    if recorded:
        total(tl, h).backward()
        assert x.grad.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert y.item() == sum(v * v for v in VECTOR)


@twin(refused="result type float64 can't be cast to the tensor's int64")
def test_an_integer_tensor_takes_no_fractions(L: Any) -> Any:
    """M."""
    L.tensor([1, 2]).add_(leaf(L, [0.5, 0.5]))


# ---- views ---------------------------------------------------------------------------------------------------------

VIEWS: dict[str, Callable[[Any, Any], Any]] = {
    "row += 1": lambda L, h: h[0].__iadd__(1.0),
    "column *= 2": lambda L, h: h[:, 1].mul_(2.0),
    "item *= h": lambda L, h: h.__setitem__((1, 2), h[0, 0].clone() * h[1, 2].clone()),
    "step": lambda L, h: h[:, ::2].sin_(),
    "chain": lambda L, h: h.transpose(0, 1)[1:].unsqueeze(0)[0, 0].exp_(),
    "view(-1)": lambda L, h: h.view(-1)[1:4].square_(),
    "two overlapping views": lambda L, h: (h[:, :2].mul_(3.0), h[:, 1:].sin_()),
    "view of a view, then its parent": lambda L, h: (h[0][1:].mul_(2.0), h[0].sin_()),
    "diagonal": lambda L, h: h.diagonal().mul_(4.0),
    "squeeze": lambda L, h: h.unsqueeze(1).squeeze(1)[0].tanh_(),
    "narrow": lambda L, h: h.narrow(1, 0, 2).copy_(h.narrow(1, 1, 2).clone()),
    "select": lambda L, h: h.select(1, 2).add_(h.select(1, 0)),
    "permute": lambda L, h: h.permute(1, 0)[0].cos_(),
    "of itself, overlapping": lambda L, h: h[:, 1:].add_(h[:, :-1].clone()),
    "fill": lambda L, h: h[1].fill_(2.0),
    "zero": lambda L, h: h[:, 0].zero_(),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_change_through_a_view_becomes_history_of_all(view: str) -> None:
    """B: of the root, of views made before and after, and of the view itself."""

    def function(L: Any) -> Any:
        x = leaf(L, MATRIX)
        h = x * 1.5
        before, everything = h[1], h.view(-1)
        VIEWS[view](L, h)
        after = h[:, 2]
        (total(L, h) + total(L, before.sin()) + total(L, after.exp()) + everything.cos().sum()).backward()
        return h, before, after, everything, x.grad

    twin(function)()


@twin
def test_a_change_of_the_root_becomes_history_of_its_views(L: Any) -> Any:
    """B."""
    x = leaf(L, MATRIX)
    h = x * 1.5
    part, chain = h[0], h.transpose(0, 1)[1]
    h.mul_(x)
    with L.no_grad():
        inside = part.requires_grad
    h.add_(1.0)
    (total(L, part) + total(L, chain)).backward()
    return inside, part, chain, x.grad


@twin
def test_backward_from_a_view_whose_root_was_changed(L: Any) -> Any:
    """B: under no_grad too."""
    x = leaf(L, VECTOR)
    h = x * 1.0
    part = h[1]
    h.mul_(3.0)
    with L.no_grad():
        part.backward()
    return x.grad


@twin
def test_history_through_a_view_of_a_constant(L: Any) -> Any:
    """B: the root begins to require grad, and all its views with it."""
    x, w = L.ones(2, 3, dtype=L.float64), leaf(L, [3.0, 5.0])
    column, row = x[:, 1], x[0]
    column.mul_(w)
    (total(L, x) + total(L, row.sin())).backward()
    return x, row, x.requires_grad, row.requires_grad, column.is_leaf, w.grad


@twin
def test_an_operand_whose_root_began_to_require_grad(L: Any) -> Any:
    """B: a stale view as operand of an in-place operation, and as assigned value."""
    w = leaf(L, [3.0, 5.0])
    base = L.ones(2, dtype=L.float64)
    part = base[:2]
    base.mul_(w)
    y, z = L.ones(2, dtype=L.float64), L.ones(4, dtype=L.float64)
    y.add_(part)
    z[1:3] = part
    (total(L, y) + total(L, z)).backward()
    return w.grad


@twin
def test_second_derivatives_through_changed_views(L: Any) -> Any:
    """B, E."""
    x = leaf(L, MATRIX)
    h = x.sin()
    h[:, 1:].mul_(x[:, :2])
    h[0, 0] = h[1, 2].clone() * h[0, 1].clone()
    h.view(-1)[::2].exp_()
    g, = L.autograd.grad((h * h).sum(), x, create_graph=True)
    return g, *L.autograd.grad((g * g).sum(), x)


@twin
def test_retained_gradients_move_to_the_new_history(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * 2.0
    part = h[1:3]
    h.retain_grad()
    part.retain_grad()
    h.mul_(3.0)
    (total(L, h) + total(L, part)).backward()
    return h.grad, part.grad, x.grad


@twin
def test_hooks_stay_with_the_value_they_were_registered_for(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * 2.0
    seen: list[Any] = []
    h.register_hook(lambda g: seen.append(g.clone()))
    h.mul_(3.0)
    h.register_hook(lambda g: seen.append(g.clone()))
    total(L, h).backward()
    return seen, x.grad


@twin(refused="made under no_grad.*modified in place")
def test_a_view_made_under_no_grad_is_not_changed_while_recording(L: Any) -> Any:
    """B: its root would keep a history that is no longer true."""
    h = leaf(L, VECTOR) * 1.0
    with L.no_grad():
        part = h[:2]
    part.mul_(2.0)


@twin(refused="made under no_grad.*used after a change in place")
def test_a_view_made_under_no_grad_is_not_used_after_a_recorded_change(L: Any) -> Any:
    """B."""
    h = leaf(L, VECTOR) * 1.0
    with L.no_grad():
        part = h[:2]
    h.mul_(2.0)
    (part * 1.0).sum()


def test_views_made_under_no_grad_may_be_changed_there() -> None:
    """B."""
    x = leaf(tl, VECTOR)
    h = x * 1.0
    with tl.no_grad():
        part = h[:2]
        part.mul_(2.0)
        x[3:].zero_()
        view = x.view(2, 2)[0]
    assert (part.requires_grad, view.requires_grad) == (False, False)
    h.sum().backward()
    assert x.grad.tolist() == [1.0] * 4
    assert h.tolist() == [1.0, -3.0, 2.0, 1.0]


@twin(refused="view cannot be detached in place")
def test_a_view_is_not_detached_in_place(L: Any) -> Any:
    (leaf(L, VECTOR) * 1.0)[:2].detach_()


# ---- assignment ----------------------------------------------------------------------------------------------------

KEYS: dict[str, Any] = {
    "int": 1, "negative": -1, "slice": slice(0, 2), "step": slice(None, None, 2), "ellipsis": (..., 1),
    "none": (None, 0),
    "pair": (1, 2), "list": [1, 0], "lists": ([0, 1], [2, 0]),
    "mixed": (slice(None), [2, 0]), "empty": slice(2, 2),
    "mask": [[True, False, True], [False, True, False]], "row mask": [True, False],
}


@pytest.mark.parametrize("source", ["number", "constant", "tensor", "broadcast"])
@pytest.mark.parametrize("key", KEYS)
def test_assignment_has_gradients_for_both_sides(key: str, source: str) -> None:
    """A, B: 0 for what was overwritten."""

    def function(L: Any) -> Any:
        k = KEYS[key]
        index = L.tensor(k) if isinstance(k, list) else tuple(L.tensor(p) if isinstance(p, list) else p for p in k) \
            if isinstance(k, tuple) else k
        x = leaf(L, MATRIX)
        h = x * 2.0
        w = (h[index].detach() + 1.0).requires_grad_()
        value = {"number": 7.0, "constant": w.detach(), "tensor": w, "broadcast": w.sum()}[source]
        h[index] = value
        total(L, h).backward()
        return h, x.grad, w.grad

    twin(function)()


def test_of_duplicates_the_last_one_written_counts() -> None:
    """O, Z: in values and gradients, where PyTorch counts all in the gradient of a broadcast value."""
    x, w = leaf(tl, VECTOR), leaf(tl, [10.0, 20.0, 30.0])
    h = x * 1.0
    h[[1, 1, 2]] = w
    total(tl, h).backward()
    assert h.tolist() == [0.5, 20.0, 30.0, 1.0]
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 4.0]
    assert w.grad.tolist() == [0.0, 2.0, 3.0]
    s = leaf(tl, 7.0)
    h = x * 1.0
    h[[0, 1, 0]] = s
    total(tl, h).backward()
    assert s.grad.item() == 1.0 + 2.0


@twin
def test_assignment_to_a_view_of_a_view(L: Any) -> Any:
    """B."""
    x, w = leaf(L, MATRIX), leaf(L, [3.0, 5.0])
    h = x * 2.0
    h.transpose(0, 1)[1:][1] = w
    h[0][:2][1] *= w[0]
    total(L, h).backward()
    return h, x.grad, w.grad


@twin
def test_assignment_of_another_dtype(L: Any) -> Any:
    """A: gradients come back in the source's dtype."""
    w = leaf(L, [3.0, 5.0], "float32")
    h = leaf(L, MATRIX) * 1.0
    h[:, 0] = w
    total(L, h).backward()
    return h, w.grad


# ---- memory that lies over itself ----------------------------------------------------------------------------------

WRITES: dict[str, Callable[[Any], Any]] = {
    "add_": lambda x: x.add_(1.0), "item": lambda x: x.__setitem__(0, 1.0), "relu_": lambda x: x.relu_(),
    "normal_": lambda x: x.normal_(), "fill_": lambda x: x.fill_(1.0), "copy_": lambda x: x.copy_(tl.ones(1)),
    "index": lambda x: x.__setitem__([0, 1], 1.0),
}


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("write", WRITES)
def test_an_expanded_tensor_is_not_changed_in_place(write: str, recorded: bool) -> None:
    """C."""
    x = (leaf(tl, [[0.5], [1.5]], requires_grad=recorded) * 1.0)
    before = x.tolist()
    for expanded in (x.expand(2, 3), x.expand(4, 2, 1), tl.broadcast_to(x[0], (3,)), x.expand(2, 3)[:, 1:]):
        with pytest.raises(GradError, match=r"shares memory among its elements.*\.clone\(\)"):
            WRITES[write](expanded)
    assert x.tolist() == before


@pytest.mark.parametrize("write", WRITES)
def test_memory_that_lies_over_itself_in_part_is_not_changed_in_place(write: str) -> None:
    """C: NumPy's sliding windows, shared without a copy."""
    values = np.arange(6.0)
    windows = tl.from_numpy(np.lib.stride_tricks.sliding_window_view(values, 3, writeable=True))
    skewed = tl.from_numpy(np.lib.stride_tricks.as_strided(values, (3, 2), (8, 8), writeable=True))
    for overlapping in (windows, skewed):
        with pytest.raises(GradError, match="shares memory among its elements"):
            WRITES[write](overlapping)
    assert values.tolist() == list(range(6))


@pytest.mark.parametrize("write", WRITES)
def test_read_only_memory_is_not_written(write: str) -> None:
    """C."""
    values = np.ones(3)
    values.flags.writeable = False
    with pytest.raises(GradError, match="read-only"):
        WRITES[write](tl.from_numpy(values))


@pytest.mark.parametrize("make", [
    lambda x: x.T, lambda x: x[::2], lambda x: x[::-1], lambda x: x[:, 1:2], lambda x: x[1:2, ::-2].T, lambda x: x[:0],
    lambda x: x.reshape(2, 2, 4).swapaxes(0, 2), lambda x: x[3, 3:], lambda x: x[None, :, None, ::3],
], ids=range(9))
def test_strided_memory_is_changed_in_place(make: Any) -> None:
    """C: strides alone are no reason to refuse. As NumPy does it."""
    values, expected = np.arange(16.0).reshape(4, 4), tl.arange(16.0).reshape(4, 4)
    target = make(tl.from_numpy(values))
    target.add_(1.0)
    make(expected.numpy())[...] += 1.0
    assert np.array_equal(values, expected.numpy())
    assert values.sum() == 120 + target.numel()


OVERLAPS: dict[str, Callable[[Any, Any], Any]] = {
    "forwards": lambda x, c: x[1:].add_(c(x[:-1])),
    "backwards": lambda x, c: x[:-1].sub_(c(x[1:])),
    "copied forwards": lambda x, c: x[2:].copy_(c(x[:-2])),
    "copied backwards": lambda x, c: x[:-2].copy_(c(x[2:])),
    "transposed": lambda x, c: x.view(4, 4).copy_(c(x.view(4, 4).transpose(0, 1))),
    "subtracted transposed": lambda x, c: x.view(4, 4).sub_(c(x.view(4, 4).transpose(0, 1))),
    "interleaved": lambda x, c: x[::2].add_(c(x[1::2])),
    "itself": lambda x, c: x.add_(c(x)),
    "broadcast": lambda x, c: x.view(4, 4).add_(c(x[:4])),
    "broadcast into columns": lambda x, c: x.view(4, 4).transpose(0, 1).sub_(c(x[12:])),
    "assigned": lambda x, c: x.__setitem__(slice(1, None), c(x[:-1])),
    "assigned by index": lambda x, c: x.__setitem__([0, 1, 2, 5], c(x[:4])),
    "cumulated": lambda x, c: x[1:].copy_(c(x).cumsum(0)[:-1]),
}


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("change", OVERLAPS)
def test_operands_that_overlap_the_target_are_read_before_it_is_written(change: str, requires_grad: bool) -> None:
    """C: values and gradients are those that PyTorch gives with a clone of the operand."""

    def function(L: Any) -> Any:
        x = leaf(L, np.linspace(0.5, 2.0, 16).tolist(), requires_grad=requires_grad)
        h = x * 1.0
        OVERLAPS[change](h, lambda t: t if L is tl else t.clone())
        if requires_grad:
            total(L, h).backward()
        return h, x.grad

    twin(function)()


@twin(refused="mul: a tensor needed for its gradient was modified")
def test_an_overlapping_operand_that_is_saved_is_refused(L: Any) -> Any:
    """B, C."""
    h = leaf(L, VECTOR) * 1.0
    h[1:].mul_(h[:-1])
    h.sum().backward()


# ---- random programs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "in_place", "order", "least"), [
    (1800, True, 1, 800), (300, True, 2, 130), (300, False, 2, 280),
])
def test_random_programs_equal_torch(count: int, in_place: bool, order: int, least: int) -> None:
    """A to E: 2 to 30 steps with reuse, views and in-place changes: equal gradients, or both refuse."""
    pytest.importorskip("torch")
    verdicts: Counter[str] = Counter()
    for seed in range(count):
        outcome = compare(seed, in_place, order)
        assert outcome.good, f"seed {seed}:\n{outcome}"
        verdicts[outcome.verdict] += 1
    assert verdicts["equal"] >= least, verdicts
