"""backward, grad, higher derivatives, modes, hooks: PyTorch's behaviour, and the promises A, B, D, E, N, X, K'.

A letter in a docstring is that of the promise. Views and in-place changes: test_inplace_views.py; operations of one's
own and checkpoint: test_function_checkpoint.py; threads, interrupts, memory: the files of these names.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from twin import leaf, twin

import tensorlite as tl
from tensorlite import autograd
from tensorlite.autograd.mode import is_anomaly_enabled
from tensorlite.errors import DTypeError, GradError, ShapeError

VECTOR = [0.5, -1.5, 2.0]
WEIGHTS = [3.0, 1.0, -2.0]


# ---- backward ------------------------------------------------------------------------------------------------------


@twin
def test_gradients_accumulate_until_they_are_dropped(L: Any) -> Any:
    x = leaf(L, VECTOR)
    (x * x).sum().backward()
    first = x.grad.clone()
    (x * 3.0).sum().backward()
    second = x.grad.clone()
    x.grad = None
    x.sin().sum().backward()
    return first, second, x.grad


@twin
def test_a_gradient_weights_the_outputs(L: Any) -> Any:
    x = leaf(L, VECTOR)
    (x * x).backward(L.tensor(WEIGHTS, dtype=L.float64))
    return x.grad


@twin(refused=r"only for scalar outputs, got shape \(3,\).*\.sum\(\)")
def test_without_a_gradient_the_output_must_be_a_scalar(L: Any) -> Any:
    (leaf(L, VECTOR) * 2.0).backward()


@twin
def test_one_element_of_any_shape_is_scalar_enough(L: Any) -> Any:
    x = leaf(L, [[2.0]])
    (x * x).backward()
    return x.grad


@twin(refused=r"gradient of shape \(2,\) for an output of shape \(3,\)")
def test_a_gradient_of_another_shape(L: Any) -> Any:
    leaf(L, VECTOR).sin().backward(L.ones(2, dtype=L.float64))


@pytest.mark.parametrize("gradient", [1.0, np.ones(3), "x"])
def test_a_gradient_that_is_no_tensor_is_refused(gradient: Any) -> None:
    with pytest.raises(DTypeError, match="gradient 0 must be a Tensor"):
        leaf(tl, VECTOR).sin().backward(gradient)


@twin(refused="does not require grad")
def test_an_output_without_graph(L: Any) -> Any:
    L.ones(3).sum().backward()


@twin
def test_several_outputs_at_once(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    outputs = [(x * y).sum(), x.sin(), y * 2.0]
    L.autograd.backward(outputs, [None, L.ones(3, dtype=L.float64), y.detach()])
    return x.grad, y.grad


@twin
def test_a_leaf_is_its_own_output(L: Any) -> Any:
    x = leaf(L, 3.0)
    x.backward()
    x.backward(L.tensor(5.0, dtype=L.float64))
    return x.grad


@twin
def test_only_the_listed_inputs_get_gradients(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    h = x * y
    k = h.sin()
    k.sum().backward(inputs=[x, h], retain_graph=True)
    first = x.grad.clone(), y.grad, h.grad.clone()
    k.sum().backward(inputs=y)
    return *first, x.grad, y.grad, h.grad


@twin(refused="the list of inputs is empty")
def test_no_inputs_at_all(L: Any) -> Any:
    leaf(L, VECTOR).sum().backward(inputs=[])


@twin
def test_an_input_that_was_not_used_is_left_alone(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    x.sum().backward(inputs=[x, y])
    return x.grad, y.grad


@twin
def test_the_same_value_used_often(L: Any) -> Any:
    """D: contributions add."""
    x = leaf(L, VECTOR)
    y = x * x
    z = y + y * x - y.sin() * y + L.cat([y, x]).sum()
    (z + z).sum().backward()
    return x.grad


@twin
def test_a_diamond_of_many_paths(L: Any) -> Any:
    """D: 2^30 paths, each node visited once."""
    x = leaf(L, 1.0)
    y = x
    for _ in range(30):
        y = y + y
    y.backward()
    return x.grad


@pytest.mark.parametrize("make", [
    lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * 1 + y.reshape(3), lambda x, y: tl.stack([x, y]),
    lambda x, y: tl.cat([x, x]), lambda x, y: x.expand(2, 3) + y, lambda x, y: x.clone(), lambda x, y: x.detach() + x,
], ids=range(8))
def test_gradients_share_memory_with_nothing(make: Any) -> None:
    """D: two gradients never share memory, and the caller's is neither kept nor changed."""
    x, y = leaf(tl, VECTOR), leaf(tl, WEIGHTS)
    out = make(x, y)
    given = tl.ones(out.shape, dtype=tl.float64)
    out.backward(given, retain_graph=True)
    grads = [t.grad for t in (x, y) if t.grad is not None]
    arrays = [g.array for g in grads]
    for i, a in enumerate(arrays):
        assert not np.shares_memory(a, given.array)
        assert not any(np.shares_memory(a, b) for b in arrays[i + 1:])
    before = [g.clone() for g in grads]
    given.mul_(100.0)
    for g, kept in zip(grads, before, strict=True):
        assert tl.equal(g, kept)
        g.add_(7.0)
    assert bool((given == 100.0).all())
    out.backward(tl.ones(out.shape, dtype=tl.float64))
    for g, kept in zip(grads, before, strict=True):
        np.testing.assert_array_equal(g.numpy(), 2 * kept.numpy() + 7.0)


def test_gradients_of_grad_share_memory_with_nothing() -> None:
    """D."""
    for create_graph in (False, True):
        x, y = leaf(tl, VECTOR), leaf(tl, WEIGHTS)
        given = tl.ones(3, dtype=tl.float64)
        grads = autograd.grad(x + y, [x, y, x], given, create_graph=create_graph)
        arrays = [g.array for g in grads] + [given.array]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1:])


def test_a_gradient_that_cannot_be_written_is_added_to_in_a_copy() -> None:
    """C: an expanded tensor assigned to .grad repeats one element."""
    x = leaf(tl, VECTOR)
    x.grad = tl.ones(1, dtype=tl.float64).expand(3)
    x.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


@twin
def test_gradients_have_the_dtype_and_shape_of_their_leaf(L: Any) -> Any:
    """A: also where broadcasting, promotion and casts lie between."""
    leaves = [leaf(L, 2.0, "float32"), leaf(L, [[1.0], [2.0]], "float16"), leaf(L, VECTOR, "float64"),
              leaf(L, [[[0.5]]], "bfloat16")]
    a, b, c, d = leaves
    out = (a * b + c).double() * d.to(L.float32) + b.sum().to(L.float64)
    out.sum().backward()
    return [t.grad for t in leaves]


@twin
def test_assigning_gradients(L: Any) -> Any:
    x = leaf(L, VECTOR)
    x.grad = L.tensor(WEIGHTS, dtype=L.float64)
    x.sum().backward()
    return x.grad


@pytest.mark.parametrize("value", [[1.0, 2.0], np.ones(3), tl.ones(2), tl.ones(3)], ids=range(4))
def test_a_gradient_that_does_not_fit_cannot_be_assigned(value: Any) -> None:
    with pytest.raises((DTypeError, ShapeError)):
        leaf(tl, VECTOR).grad = value


# ---- freeing and walking again -------------------------------------------------------------------------------------


@twin(refused="second time.*retain_graph=True")
def test_a_second_backward_is_refused(L: Any) -> Any:
    """E."""
    y = leaf(L, VECTOR).exp().sum()
    y.backward()
    y.backward()


@twin
def test_a_second_backward_with_retain_graph_is_exact(L: Any) -> Any:
    """E."""
    x = leaf(L, VECTOR)
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


@twin
def test_nodes_that_saved_nothing_can_be_walked_again(L: Any) -> Any:
    """E."""
    x = leaf(L, VECTOR)
    y = (x + x.reshape(3, 1)).sum()
    y.backward()
    y.backward()
    return x.grad


@twin(refused="second time")
def test_a_part_of_a_freed_graph_is_freed(L: Any) -> Any:
    """E."""
    h = leaf(L, VECTOR).exp()
    h.sum().backward()
    (h * 2.0).sum().backward()


@twin
def test_what_lies_beyond_the_inputs_is_not_freed(L: Any) -> Any:
    """E."""
    x = leaf(L, VECTOR)
    h = x * x
    y = h.sin().sum()
    g, = L.autograd.grad(y, h, retain_graph=True)
    again, = L.autograd.grad(y, h)
    h.sum().backward()
    return g, again, x.grad


def test_a_refused_backward_changes_no_gradient() -> None:
    """E: sums reach .grad, also retained ones, only after all rules have run."""
    x, y = leaf(tl, VECTOR), leaf(tl, WEIGHTS)
    h = y * 2.0
    h.retain_grad()
    spoiled = x.exp()
    total = spoiled.sum() + h.sum()
    spoiled.detach().zero_()
    with pytest.raises(GradError, match="exp"):
        total.backward()
    assert x.grad is None
    assert y.grad is None
    assert h.grad is None


# ---- autograd.grad -------------------------------------------------------------------------------------------------


@twin
def test_grad_returns_and_leaves_grad_alone(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    h = x * y
    grads = L.autograd.grad((h * h).sum(), [x, h, y])
    return *grads, x.grad, y.grad


@twin
def test_grad_of_several_outputs_weighted(L: Any) -> Any:
    x = leaf(L, VECTOR)
    return L.autograd.grad([x * x, x.sum()], [x], [L.tensor(WEIGHTS, dtype=L.float64), None])


@twin(refused="was not used")
def test_grad_of_what_was_not_used(L: Any) -> Any:
    L.autograd.grad(leaf(L, VECTOR).sum(), leaf(L, WEIGHTS))


@twin
def test_grad_allows_unused_inputs_on_demand(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, [1.0], "float32")
    absent = L.autograd.grad(x.sum(), [x, y], allow_unused=True)
    return *absent, *L.autograd.grad(x.sum(), [x, y], materialize_grads=True)


@twin(refused="does not require grad")
def test_grad_of_an_input_that_requires_none(L: Any) -> Any:
    x = leaf(L, VECTOR)
    L.autograd.grad((x * L.ones(3)).sum(), L.ones(3))


@twin
def test_grad_of_an_output_by_itself(L: Any) -> Any:
    y = leaf(L, 2.0).exp()
    return L.autograd.grad(y, y)


@twin
def test_grad_fills_what_retains(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * x
    h.retain_grad()
    L.autograd.grad(h.sin().sum(), x)
    return h.grad, x.grad


@pytest.mark.parametrize("inputs", [np.ones(3), [1.0], "x"])
def test_grad_by_what_is_no_tensor_is_refused(inputs: Any) -> None:
    with pytest.raises(DTypeError, match="input 0 must be a Tensor"):
        autograd.grad(leaf(tl, VECTOR).sum(), inputs)


# ---- higher derivatives --------------------------------------------------------------------------------------------

SMOOTH = {
    "polynomial": lambda L, x: (x**3 - 2.0 * x * x).sum(),
    "waves": lambda L, x: (x.sin() * x.cos().exp()).sum(),
    "division": lambda L, x: ((x + 3.0) / (x * x + 1.0)).sum(),
    "logistic": lambda L, x: (x.sigmoid() * x.tanh()).sum(),
    "matmul": lambda L, x: L.matmul(x.reshape(3, 1), x.reshape(1, 3)).sin().sum(),
    "logsumexp": lambda L, x: x.logsumexp(0) ** 2,
    "softmax": lambda L, x: (x.softmax(0) * x).sum(),
    "norm": lambda L, x: ((x * x).sum() + 1.0).sqrt().log(),
    "prod": lambda L, x: x.prod() * x.var(),
    "index": lambda L, x: (x[[0, 2, 2]] * x[1:].sum()).cumsum(0).prod(),
    "view": lambda L, x: (x.reshape(3, 1) * x).transpose(0, 1).exp().mean(),
    "where": lambda L, x: L.where(x > 0, x**2, x**3).sum(),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_three_derivatives(name: str) -> None:
    """E: create_graph, repeated, equals torch."""

    def derivatives(L: Any) -> Any:
        x = leaf(L, VECTOR)
        value = SMOOTH[name](L, x)
        results = []
        for weights in (WEIGHTS, [1.0, -0.5, 0.25], VECTOR):
            g, = L.autograd.grad(value, x, create_graph=True)
            results.append(g.detach())
            value = (g * L.tensor(weights, dtype=L.float64)).sum()
        return results

    twin(derivatives)()


@twin
def test_backward_through_a_gradient_penalty(L: Any) -> Any:
    """E: first and second derivative in one step."""
    x, w = leaf(L, VECTOR), leaf(L, WEIGHTS)
    loss = (x * w).tanh().sum()
    g, = L.autograd.grad(loss, x, create_graph=True)
    (loss + (g * g).sum()).backward()
    return x.grad, w.grad


@twin
def test_backward_with_create_graph_leaves_gradients_with_history(L: Any) -> Any:
    """E."""
    x = leaf(L, 2.0)
    (x**3).backward(create_graph=True)
    first, x.grad = x.grad, None
    first.backward()
    return first, x.grad


@twin
def test_create_graph_under_no_grad(L: Any) -> Any:
    """E: backward records by its own argument, not by the mode it is called in."""
    x = leaf(L, 2.0)
    y = x**3
    with L.no_grad():
        g, = L.autograd.grad(y, x, create_graph=True)
        y.backward(create_graph=True)
        y.backward(create_graph=True)
    return g, x.grad, L.autograd.grad(g, x)


@twin
def test_without_create_graph_nothing_is_recorded(L: Any) -> Any:
    """E: not even where the given gradient, or a hook's factor, requires grad."""
    x, v = leaf(L, VECTOR), leaf(L, WEIGHTS)
    modes = []
    h = x * x
    h.register_hook(lambda g: (modes.append(L.is_grad_enabled()), g * v)[1])
    h.backward(v)
    return x.grad, v.grad, modes


@twin
def test_constants_have_zero_second_derivative(L: Any) -> Any:
    """E."""
    x = leaf(L, VECTOR)
    g, = L.autograd.grad((x * 2.0).sum() + (x * x).sum(), x, create_graph=True)
    return L.autograd.grad(g.sum(), x)


@twin(refused="modified by an in-place operation")
def test_a_second_derivative_notices_a_change_of_what_the_first_one_saved(L: Any) -> Any:
    """B."""
    x = leaf(L, VECTOR)
    h = x * 1.0
    g, = L.autograd.grad((h**3).sum(), h, create_graph=True)
    with L.no_grad():
        h.mul_(2.0)
    g.sum().backward()


# ---- modes ---------------------------------------------------------------------------------------------------------


@twin
def test_modes_nest_and_end(L: Any) -> Any:
    seen = [L.is_grad_enabled()]
    with L.no_grad():
        seen.append(L.is_grad_enabled())
        with L.enable_grad():
            seen.append(L.is_grad_enabled())
            with L.inference_mode():
                seen.append(L.is_grad_enabled())
            with L.set_grad_enabled(False), L.inference_mode(False):
                seen.append(L.is_grad_enabled())
            seen.append(L.is_grad_enabled())
        seen.append(L.is_grad_enabled())
    return *seen, L.is_grad_enabled()


def test_a_mode_object_can_be_used_again_and_inside_itself() -> None:
    """V: in PyTorch recording stays off after this."""
    mode = tl.no_grad()
    seen = []
    for _ in range(2):
        with mode:
            with mode:
                seen.append(tl.is_grad_enabled())
            seen.append(tl.is_grad_enabled())
        seen.append(tl.is_grad_enabled())
    assert seen == [False, False, True] * 2


@twin
def test_an_exception_ends_a_mode(L: Any) -> Any:
    seen = []
    for mode in (L.no_grad, L.enable_grad, L.inference_mode, lambda: L.set_grad_enabled(False)):
        try:
            with mode():
                raise KeyError
        except KeyError:
            seen.append(L.is_grad_enabled())
        try:
            mode()(lambda: {}["missing"])()
        except KeyError:
            seen.append(L.is_grad_enabled())
    return seen


@twin
def test_set_grad_enabled_as_a_statement_a_block_and_a_decorator(L: Any) -> Any:
    seen = []
    L.set_grad_enabled(False)
    seen.append(L.is_grad_enabled())
    L.set_grad_enabled(True)
    with L.set_grad_enabled(False):
        seen.append(L.is_grad_enabled())
    seen.append(L.is_grad_enabled())

    @L.set_grad_enabled(False)
    def inside() -> bool:
        return L.is_grad_enabled()

    return *seen, L.is_grad_enabled(), inside(), L.is_grad_enabled()


@twin
def test_modes_as_decorators(L: Any) -> Any:
    x = leaf(L, VECTOR)

    @L.no_grad()
    def called(factor: float, *, shift: float = 0.0) -> Any:
        """Its docstring."""
        return x * factor + shift

    @L.no_grad
    def bare() -> Any:
        return L.enable_grad()(lambda: x * 2.0)()

    @L.inference_mode
    def inference() -> bool:
        return (x * 2.0).requires_grad

    @L.inference_mode()
    def inference_called() -> bool:
        return (x * 2.0).requires_grad

    return (called(2.0, shift=1.0), bare(), inference(), inference_called(), called.__name__, called.__doc__,
            L.is_grad_enabled())


@twin
def test_a_decorated_function_may_call_itself(L: Any) -> Any:
    seen = []

    @L.no_grad()
    def down(n: int) -> None:
        if n:
            with L.enable_grad():
                down(n - 1)
        seen.append(L.is_grad_enabled())

    down(3)
    return *seen, L.is_grad_enabled()


@twin
def test_a_decorated_generator_is_under_the_mode_while_it_runs(L: Any) -> Any:
    seen = []

    @L.no_grad()
    def numbers() -> Iterator[Any]:
        try:
            sent = yield L.is_grad_enabled()
            seen.append(sent)
            try:
                yield L.is_grad_enabled()
            except KeyError:
                seen.append("caught")
                yield L.is_grad_enabled()
            return "result"
        finally:
            seen.append(L.is_grad_enabled())

    def outer() -> Iterator[Any]:
        seen.append((yield from numbers()))

    running = outer()
    seen.append(next(running))
    seen.append(L.is_grad_enabled())
    seen.append(running.send("sent"))
    seen.append(running.throw(KeyError()))
    seen.append(L.is_grad_enabled())
    for _ in running:
        pass
    closed = numbers()
    next(closed)
    closed.close()
    return *seen, L.is_grad_enabled()


def test_a_decorated_coroutine_is_under_the_mode_in_its_own_task() -> None:
    """P: the mode belongs to a task, as it does to a thread."""

    @tl.no_grad()
    async def quiet() -> bool:
        await asyncio.sleep(0)
        return tl.is_grad_enabled()

    async def loud() -> bool:
        await asyncio.sleep(0)
        return tl.is_grad_enabled()

    async def main() -> list[bool]:
        return [*await asyncio.gather(quiet(), loud(), quiet(), loud()), await quiet(), tl.is_grad_enabled()]

    assert asyncio.run(main()) == [False, True, False, True, False, True]


def test_a_new_thread_starts_with_recording_on() -> None:
    """P."""
    seen = []
    with tl.no_grad():
        thread = threading.Thread(target=lambda: seen.append(tl.is_grad_enabled()))
        thread.start()
        thread.join()
        seen.append(tl.is_grad_enabled())
    assert seen == [True, False]


@twin
def test_what_is_made_under_no_grad_has_no_history(L: Any) -> Any:
    x = leaf(L, VECTOR)
    with L.no_grad():
        y = x * 2.0
        z = leaf(L, 1.0) * 1.0
        p = leaf(L, 2.0)
    (x.sum() * y.sum() * p).backward()
    return y.requires_grad, y.is_leaf, y.grad_fn is None, z.requires_grad, p.grad, x.grad


@twin
def test_the_library_switches_no_mode(L: Any) -> Any:
    """V: not while forward runs, nor in backward, hooks or optimizers."""
    seen = []
    x = leaf(L, VECTOR)
    with L.no_grad():
        y = x.clone().requires_grad_()
    optimizer = L.optim.SGD([y], lr=0.1)
    h = y * y
    h.sum().backward()
    optimizer.step()
    seen.append(L.is_grad_enabled())
    with L.no_grad():
        optimizer.step()
        seen.append(L.is_grad_enabled())
    return *seen, L.is_grad_enabled()


# ---- leaves, detach, retain_grad -----------------------------------------------------------------------------------


@twin
def test_detach_cuts_history_and_shares_memory(L: Any) -> Any:
    x = leaf(L, VECTOR)
    y = x * x
    d = y.detach()
    d[0] = 5.0
    (d * x).sum().backward()
    return y, d.requires_grad, d.is_leaf, x.grad


@twin
def test_detach_in_place(L: Any) -> Any:
    x = leaf(L, VECTOR)
    y = x.exp()
    z = y * 2.0
    y.detach_()
    z.sum().backward()
    return y.requires_grad, y.is_leaf, x.grad


@twin
def test_is_leaf_and_grad_fn(L: Any) -> Any:
    x = leaf(L, VECTOR)
    y, z = x * 2.0, L.ones(3)
    return [(t.is_leaf, t.requires_grad, t.grad_fn is None) for t in (x, y, z, z + 1.0, y.detach())]


@twin
def test_names_of_the_graph(L: Any) -> Any:
    x = leaf(L, VECTOR)
    y = (x * 2.0).exp()
    return y.grad_fn.name(), y.grad_fn.next_functions[0][0].name(), y.grad_fn.next_functions[0][1]


@twin(refused="only change requires_grad")
def test_requires_grad_of_a_result_cannot_be_taken_away(L: Any) -> Any:
    (leaf(L, VECTOR) * 2.0).requires_grad_(False)


@twin(refused="only floating")
def test_integers_cannot_require_grad(L: Any) -> Any:
    """N."""
    L.tensor([1, 2]).requires_grad_()


@twin(refused="only floating")
def test_bools_cannot_require_grad(L: Any) -> Any:
    """N."""
    L.tensor([True]).requires_grad = True


@twin
def test_integer_results_require_none(L: Any) -> Any:
    """N: casts, dtype arguments, comparisons, indices."""
    x = leaf(L, VECTOR)
    return [r.requires_grad for r in (x.long(), x.to(L.int32), x.bool(), x.argmax(), x.argsort(), x > 0, x == x,
                                      x.isnan(), x.sort().indices, x.max(0).indices)]


@twin
def test_retained_gradients_accumulate(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * x
    h.retain_grad()
    h.retain_grad()
    h.sum().backward(retain_graph=True)
    (h * 2.0).sum().backward()
    return h.grad, x.grad, h.retains_grad, x.retains_grad


@twin
def test_retained_gradients_follow_the_hooks(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * x
    h.retain_grad()
    h.register_hook(lambda g: g * 10.0)
    g, = L.autograd.grad(h.sum(), h)
    return g, h.grad


@twin(refused="can't retain_grad")
def test_a_constant_retains_nothing(L: Any) -> Any:
    L.ones(3).retain_grad()


def test_reading_the_gradient_of_a_result_warns() -> None:
    x = leaf(tl, VECTOR)
    y = x * 2.0
    with pytest.warns(UserWarning, match="retain_grad"):
        assert y.grad is None
    y.retain_grad()
    y.sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert y.grad is not None
        assert x.grad is not None
        assert tl.ones(2).grad is None


# ---- hooks ---------------------------------------------------------------------------------------------------------


@twin
def test_hooks_see_and_replace_gradients_in_order(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * x
    seen: list[Any] = []
    h.register_hook(lambda g: g * 2.0)
    h.register_hook(lambda g: seen.append(g.clone()))
    x.register_hook(lambda g: seen.append(g.clone()))
    x.register_hook(lambda g: g + 1.0)
    h.sum().backward()
    return seen, x.grad


@twin
def test_a_hook_sees_the_complete_gradient_once(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * 2.0
    seen: list[Any] = []
    h.register_hook(lambda g: seen.append(g.clone()))
    x.register_hook(lambda g: seen.append(g.clone()))
    (h * h + h.exp() + x).sum().backward()
    return seen, x.grad


@twin
def test_removed_hooks_are_silent(L: Any) -> Any:
    x = leaf(L, VECTOR)
    handles = [x.register_hook(lambda g: g * 3.0), x.register_hook(lambda g: g + 1.0)]
    handles[0].remove()
    handles[0].remove()
    x.sum().backward()
    with x.register_hook(lambda g: g * 100.0):
        x.sum().backward()
    x.sum().backward()
    return x.grad


@twin
def test_hooks_of_what_lies_outside_the_inputs_are_not_called(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    seen: list[str] = []
    y.register_hook(lambda g: seen.append("y"))
    x.register_hook(lambda g: seen.append("x"))
    return *L.autograd.grad((x * y).sum(), x), seen


@twin(refused="doesn't require grad")
def test_a_constant_has_no_hooks(L: Any) -> Any:
    L.ones(3).register_hook(lambda g: g)


@pytest.mark.parametrize(("returned", "message"), [
    (lambda g: 1.0, "must return a Tensor or None, got float"),
    (lambda g: g[:2], r"returned float64 \(2,\) for a gradient that is float64 \(3,\)"),
    (lambda g: g.float(), r"returned float32 \(3,\)"),
])
@pytest.mark.parametrize("on_leaf", [True, False])
def test_a_hook_must_return_a_fitting_gradient(returned: Any, message: str, on_leaf: bool) -> None:
    """A."""
    x = leaf(tl, VECTOR)
    h = x * 2.0
    (x if on_leaf else h).register_hook(returned)
    with pytest.raises((DTypeError, ShapeError), match=message):
        h.sum().backward()
    assert x.grad is None


def test_a_hook_may_change_and_keep_its_argument() -> None:
    """D: neither the other branches nor the caller's gradient see it, nor does .grad change what it kept."""
    x, y = leaf(tl, VECTOR), leaf(tl, VECTOR)
    kept = []
    h = x * 1.0
    h.register_hook(lambda g: g.mul_(10.0))
    x.register_hook(kept.append)
    given = tl.ones(3, dtype=tl.float64)
    out = h + y
    out.backward(given, retain_graph=True)
    out.backward(given)
    assert given.tolist() == [1.0] * 3
    assert y.grad.tolist() == [2.0] * 3
    assert x.grad.tolist() == [20.0] * 3
    assert [g.tolist() for g in kept] == [[10.0] * 3] * 2


def test_an_error_in_a_hook_leaves_everything_as_it_was() -> None:
    """V."""
    x = leaf(tl, VECTOR)
    h = x * x
    handle = h.register_hook(lambda g: {}["missing"])
    with pytest.raises(KeyError):
        h.sum().backward(retain_graph=True)
    assert x.grad is None
    assert tl.is_grad_enabled()
    handle.remove()
    h.sum().backward()
    assert x.grad.tolist() == [1.0, -3.0, 4.0]


# ---- anomaly mode --------------------------------------------------------------------------------------------------


def test_anomaly_mode_names_operation_and_line() -> None:
    """X, K': the classic trap of the branch not taken."""
    x = leaf(tl, [0.0, 4.0])
    with tl.autograd.detect_anomaly():
        root = x.sqrt()  # THE LINE
        y = tl.where(x > 0, root * 0.0, x).sum()
    with pytest.raises(GradError, match=r"sqrt.*input 'x' holds NaN.*test_autograd.py:\d+: root = .*  # THE LINE"):
        y.backward()
    assert x.grad is None


def test_anomaly_mode_names_the_line_in_other_errors_too() -> None:
    """X, B."""
    x = leaf(tl, VECTOR)
    with tl.autograd.detect_anomaly(check_nan=False):
        y = x.exp()  # THE LINE
    y.detach().zero_()
    with pytest.raises(GradError, match="modified") as caught:
        y.sum().backward()
    assert any("exp was recorded at" in note and "# THE LINE" in note for note in caught.value.__notes__)


def test_anomaly_mode_around_backward_alone_still_finds_the_operation() -> None:
    """X."""
    x = leaf(tl, [0.0])
    y = (x.sqrt() * 0.0).sum()
    with tl.autograd.detect_anomaly(), pytest.raises(GradError, match=r"sqrt.*NaN.*detect_anomaly too"):
        y.backward(retain_graph=True)
    y.backward()
    assert np.isnan(x.grad.item())


def test_anomaly_mode_without_nan_check_and_after_its_end() -> None:
    """X."""
    x = leaf(tl, [0.0])
    with tl.autograd.detect_anomaly(check_nan=False):
        assert is_anomaly_enabled()
        y = (x.sqrt() * 0.0).sum()
    assert not is_anomaly_enabled()
    y.backward()
    assert np.isnan(x.grad.item())


def test_anomaly_mode_lets_sound_gradients_pass() -> None:
    """X."""

    @tl.autograd.detect_anomaly()
    def loss(x: Any) -> Any:
        return (x.sin() * x[[0, 0, 1]] / (x * x + 1.0)).sum()

    x, y = leaf(tl, VECTOR), leaf(tl, VECTOR)
    loss(x).backward()
    loss.__wrapped__(y).backward()  # type: ignore[attr-defined]
    assert tl.equal(x.grad, y.grad)


def test_gradients_of_parts_are_added_in_the_memory_of_their_sum(device: str) -> None:
    """A tensor taken apart costs its own size once, not once for each part; and the numbers are those of the sum."""
    values = np.random.default_rng(0).standard_normal((40, 6))
    weights = tl.tensor(np.random.default_rng(1).standard_normal((40, 6)), device=device)
    x = tl.tensor(values, device=device, requires_grad=True)
    touched: list[int] = []
    backend = weights.backend
    part_of = (x * 1).unbind(0)
    loss = sum((part * part * weights[i]).sum() for i, part in enumerate(part_of)) + part_of[3].sum()
    backend.observers = (*backend.observers, lambda be, kernel, out, *_: touched.append(
        out.size if kernel in ("fill", "copy", "add") else 0))
    try:
        loss.backward()
    finally:
        backend.observers = backend.observers[:-1]
    expected = 2 * values * weights.cpu().numpy()
    expected[3] += 1
    np.testing.assert_allclose(x.grad.cpu().numpy(), expected, 1e-12)
    assert sum(touched) < 6 * x.numel()


def test_a_sum_that_others_hold_is_not_written(device: str) -> None:
    """The gradient that arrives is handed on to both inputs of an addition; each gets parts added to it."""
    x, y = (tl.ones(4, device=device, requires_grad=True) for _ in range(2))
    a, b = x * 1, y * 1
    seen: list[tl.Tensor] = []
    total = a + b
    total.register_hook(lambda g: seen.append(g))
    (total.sum() + a[1:].sum() + b[:2].sum() * 3).backward()
    assert x.grad.tolist() == [1, 2, 2, 2] and y.grad.tolist() == [4, 4, 1, 1] and seen[0].tolist() == [1, 1, 1, 1]
    x.grad = None
    parts = x[:2], x[2:]
    (g,) = tl.autograd.grad((parts[0] * parts[1]).sum(), x, create_graph=True)
    assert g.requires_grad
    tl.autograd.backward((g * g).sum())
    assert x.grad.tolist() == [2, 2, 2, 2]
