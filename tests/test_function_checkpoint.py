"""Operations of one's own (`Function`), and `checkpoint`. A letter in a docstring is that of the promise."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
from twin import leaf, plain, twin

import tensorlite as tl
from tensorlite import autograd, nn
from tensorlite.errors import DTypeError, GradError, ShapeError

VECTOR = [0.5, -1.5, 2.0]
WEIGHTS = [3.0, 1.0, -2.0]


def weighted_product(L: Any) -> Any:
    """(x, y, k) -> (x·y·k, x + y), which saves two inputs and a result."""

    class WeightedProduct(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any, k: float) -> Any:
            product = x * y * k
            ctx.save_for_backward(x, None, y, product)
            ctx.k = k
            return product, x + y

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            x, nothing, y, product = ctx.saved_tensors
            assert nothing is None
            assert product.shape == x.shape
            return g * y * ctx.k + h, g * x * ctx.k + h, None

    return WeightedProduct


# ---- Function: values and gradients --------------------------------------------------------------------------------


@twin
def test_function_with_two_outputs_and_a_number(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    a, b = weighted_product(L).apply(x, y, 2.0)
    (a * b.sin()).sum().backward()
    return a, b, x.grad, y.grad


@twin
def test_function_second_and_third_derivative(L: Any) -> Any:
    """E: backward is recorded when asked for, with saved inputs and results in their places in the graph."""

    class Exp(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            out = x.exp()
            ctx.save_for_backward(out)
            return out

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            out, = ctx.saved_tensors
            return g * out

    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    a, b = weighted_product(L).apply(Exp.apply(x * 0.5), y, 2.0)
    first = L.autograd.grad((a * b).sum(), [x, y], create_graph=True)
    second = L.autograd.grad((first[0] * first[1]).sum(), [x, y], create_graph=True)
    return *first, *second, *L.autograd.grad((second[0].sin() + second[1]).sum(), [x, y])


@twin
def test_function_one_output_unused(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    weighted_product(L).apply(x, y, 2.0)[1].sum().backward()
    return x.grad, y.grad


@twin
def test_function_one_input_twice(L: Any) -> Any:
    """D."""
    x = leaf(L, VECTOR)
    a, b = weighted_product(L).apply(x, x, 2.0)
    (a * b).sum().backward()
    return x.grad


@twin
def test_function_of_constants_and_under_no_grad(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS, requires_grad=False)
    results = [weighted_product(L).apply(y, y, 2.0)[0]]
    with L.no_grad():
        results.append(weighted_product(L).apply(x, y, 2.0)[0])
    mixed, _ = weighted_product(L).apply(x, y, 2.0)
    mixed.sum().backward()
    return results, mixed.is_leaf, x.grad, y.grad


@twin
def test_function_says_which_inputs_need_gradients_and_runs_unrecorded(L: Any) -> Any:
    seen = []

    class Curious(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            seen.append((ctx.needs_input_grad, L.is_grad_enabled(), (args[0] * 2.0).requires_grad))
            return args[0] * args[1]

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            seen.append((ctx.needs_input_grad, L.is_grad_enabled()))
            return g, g, None, None

    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS, requires_grad=False)
    out = Curious.apply(x, y, 3, "text")
    L.autograd.grad(out.sum(), x, create_graph=True)
    out.sum().backward()
    return seen, x.grad, L.is_grad_enabled()


@twin
def test_function_outputs_that_carry_no_gradient(L: Any) -> Any:
    class Several(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            marked = x * 2.0
            ctx.mark_non_differentiable(marked)
            return x * 3.0, marked, x.argmax(), 5, None

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0] * 3.0 if all(g is None or not g.any() for g in grads[1:]) else None

    x = leaf(L, VECTOR)
    out = Several.apply(x)
    out[0].sum().backward()
    return out, x.grad


@twin
def test_function_missing_gradients_are_zeros_or_none(L: Any) -> Any:
    seen = []

    def make(materialize: bool) -> Any:
        class Pair(L.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.set_materialize_grads(materialize)
                return x * 2.0, x * 3.0

            @staticmethod
            def backward(ctx: Any, g: Any, h: Any) -> Any:
                seen.append(None if g is None else g.clone())
                return h * 3.0

        return Pair

    x = leaf(L, VECTOR)
    for materialize in (True, False):
        make(materialize).apply(x)[1].sum().backward()
    return seen, x.grad


@twin
def test_function_gradient_none(L: Any) -> Any:
    class Wall(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x * y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return None, g

    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    (Wall.apply(x * 2.0, y) + x).sum().backward()
    return x.grad, y.grad


def returning(L: Any, gradient: Any) -> Any:
    """x -> 3x, whose backward returns gradient(g)."""

    class Returning(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 3.0

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return gradient(g)

    return Returning


@twin
def test_function_gradients_are_brought_to_dtype_and_shape(L: Any) -> Any:
    """A."""
    x, y = leaf(L, VECTOR, "float32"), leaf(L, [1.0], "float64")
    returning(L, lambda g: g.double() * 3.0).apply(x).sum().backward()
    returning(L, lambda g: g.expand(3)).apply(y).sum().backward()
    return x.grad, y.grad


@pytest.mark.parametrize(("gradient", "error", "message"), [
    (lambda g: g[:2], ShapeError, r"Returning.*shape \(2,\) for an input of shape \(3,\)"),
    (lambda g: 3.0, DTypeError, "Returning.backward must return Tensors or None, got float"),
    (lambda g: (), GradError, "returned 0 gradients for 1 inputs"),
    (lambda g: (g, g), GradError, "returned 2 gradients for 1 inputs"),
])
def test_function_gradients_that_do_not_fit(gradient: Any, error: Any, message: str) -> None:
    """A."""
    x = leaf(tl, VECTOR)
    with pytest.raises(error, match=message):
        returning(tl, gradient).apply(x).sum().backward()
    assert x.grad is None
    pytest.importorskip("torch")

    @twin(refused=message)
    def both(L: Any) -> Any:
        returning(L, gradient).apply(leaf(L, VECTOR)).sum().backward()

    both()


def test_function_may_return_trailing_nones() -> None:
    x = leaf(tl, VECTOR)
    returning(tl, lambda g: (g, None, None)).apply(x).sum().backward()
    assert x.grad.tolist() == [1.0] * 3


def test_function_gradients_share_memory_with_nothing() -> None:
    """D: backward may return what it was given, saved, or returned before."""
    stored = tl.ones(3, dtype=tl.float64)
    for gradient in (lambda g: g, lambda g: stored):
        x, y = leaf(tl, VECTOR), leaf(tl, VECTOR)
        given = tl.ones(3, dtype=tl.float64)
        (returning(tl, gradient).apply(x) + returning(tl, gradient).apply(y)).backward(given)
        x.grad.mul_(7.0)
        assert y.grad.tolist() == stored.tolist() == given.tolist() == [1.0] * 3


def test_function_takes_keywords_but_none_that_requires_grad() -> None:
    class Scaled(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, *, factor: Any) -> Any:
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.factor

    x = leaf(tl, VECTOR)
    Scaled.apply(x, factor=tl.tensor(2.0, dtype=tl.float64)).sum().backward()
    assert x.grad.tolist() == [2.0] * 3
    with pytest.raises(GradError, match="'factor' requires grad and must be passed by position"):
        Scaled.apply(x, factor=leaf(tl, 2.0))
    with tl.no_grad():
        assert Scaled.apply(x, factor=leaf(tl, 2.0)).tolist() == [1.0, -3.0, 4.0]


def test_function_without_forward_or_backward_says_so() -> None:
    class Empty(autograd.Function):
        pass

    class Half(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1.0

    with pytest.raises(NotImplementedError, match="static method forward"):
        Empty.apply(leaf(tl, VECTOR))
    with pytest.raises(NotImplementedError, match="static method backward"):
        Half.apply(leaf(tl, VECTOR)).sum().backward()


@twin
def test_function_errors_pass_through_and_leave_the_mode(L: Any) -> Any:
    """V."""
    seen = []

    def fail(g: Any) -> Any:
        raise KeyError("mine")

    for call in (lambda: returning(L, fail).apply(leaf(L, VECTOR)).sum().backward(),
                 lambda: returning(L, fail).apply("text")):
        try:
            call()
        except (KeyError, TypeError, AttributeError) as error:
            seen.append(type(error) is KeyError)
        seen.append(L.is_grad_enabled())
    return seen


# ---- Function: freed, saved, changed in place ----------------------------------------------------------------------


@twin(refused="WeightedProduct.*second time.*retain_graph=True")
def test_function_second_backward_is_refused(L: Any) -> Any:
    """E."""
    a, _ = weighted_product(L).apply(leaf(L, VECTOR), leaf(L, WEIGHTS), 2.0)
    a.sum().backward()
    a.sum().backward()


@twin
def test_function_second_backward_with_retain_graph(L: Any) -> Any:
    """E."""
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    a, _ = weighted_product(L).apply(x, y, 2.0)
    a.sum().backward(retain_graph=True)
    a.sum().backward()
    return x.grad, y.grad


@twin(refused="WeightedProduct.*modified by an in-place operation")
def test_function_saved_input_changed(L: Any) -> Any:
    """B."""
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    h = x * 1.0
    a, _ = weighted_product(L).apply(h, y, 2.0)
    h.add_(1.0)
    a.sum().backward()


@twin(refused="WeightedProduct.*modified by an in-place operation")
def test_function_saved_output_changed(L: Any) -> Any:
    """B."""
    a, _ = weighted_product(L).apply(leaf(L, VECTOR), leaf(L, WEIGHTS), 2.0)
    a.add_(1.0)
    a.sum().backward()


@twin
def test_function_unsaved_output_changed(L: Any) -> Any:
    """B."""
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    _, b = weighted_product(L).apply(x, y, 2.0)
    b.mul_(x)
    b.sum().backward()
    return x.grad, y.grad


def test_function_context_dies_with_the_graph() -> None:
    """S: saved values are freed by backward, the rest by reference counts."""
    x, y = leaf(tl, VECTOR), leaf(tl, WEIGHTS)
    h = x * 1.0
    saved = weakref.ref(h.array)
    gc.disable()
    try:
        a, b = weighted_product(tl).apply(h, y, 2.0)
        node = weakref.ref(a.grad_fn)
        del h
        assert saved() is not None
        a.sum().backward()
        assert saved() is None
        del a, b
        assert node() is None
    finally:
        gc.enable()


def adding_in_place(L: Any, mark: bool = True) -> Any:
    """x += 1 in place, with the gradient 7g."""

    class AddingInPlace(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            if mark:
                ctx.mark_dirty(x)
            x.add_(1.0)
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 7.0

    return AddingInPlace


@twin
def test_function_that_changes_its_input(L: Any) -> Any:
    """B: the input takes the new history, views of it too."""
    x = leaf(L, VECTOR)
    h = x * 2.0
    part = h[:2]
    out = adding_in_place(L).apply(h)
    (h * h + out).sum().backward(retain_graph=True)
    first = x.grad.clone()
    part.sum().backward()
    return out is h, h, first, x.grad


@twin(refused="modified by an in-place operation")
def test_function_that_changes_what_was_saved(L: Any) -> Any:
    """B."""
    h = leaf(L, VECTOR) * 2.0
    y = h * h
    adding_in_place(L).apply(h)
    y.sum().backward()


@twin(refused="leaf Variable that requires grad")
def test_function_that_changes_a_leaf(L: Any) -> Any:
    """B."""
    adding_in_place(L).apply(leaf(L, VECTOR))


def test_function_that_changes_a_view_is_refused() -> None:
    """B."""
    h = leaf(tl, VECTOR) * 2.0
    with pytest.raises(GradError, match="a view is marked as dirty"):
        adding_in_place(tl).apply(h[:2])


@twin(refused="marked")
def test_function_that_marks_what_it_does_not_return(L: Any) -> Any:
    class Forgetful(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x * 2.0

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    Forgetful.apply(leaf(L, VECTOR) * 1.0)


def test_function_that_changes_a_constant() -> None:
    x = tl.ones(3)
    assert adding_in_place(tl).apply(x) is x
    assert x.tolist() == [2.0] * 3


def identity(L: Any) -> Any:
    class Identity(L.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 5.0

    return Identity


@twin
def test_function_that_returns_its_input(L: Any) -> Any:
    x = leaf(L, VECTOR)
    h = x * 2.0
    y = identity(L).apply(h)
    (h.sum() + y.sum()).backward()
    return y is h, x.grad


@twin(refused="returned by a Function.*modified in place")
def test_an_input_that_was_returned_cannot_be_changed_in_place(L: Any) -> Any:
    """B: the input, which shares the memory, would know nothing of it."""
    identity(L).apply(leaf(L, VECTOR) * 2.0).mul_(2.0)


@twin(refused="returned by a Function.*used after a change in place")
def test_an_input_that_was_changed_cannot_be_used_as_the_output_it_was(L: Any) -> Any:
    """B."""
    h = leaf(L, VECTOR) * 2.0
    y = identity(L).apply(h)
    h.mul_(2.0)
    y.sum().backward()


# ---- checkpoint ----------------------------------------------------------------------------------------------------


def checkpoint(L: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
    if L is tl:
        return autograd.checkpoint(function, *args, **kwargs)
    from torch.utils.checkpoint import checkpoint

    return checkpoint(function, *args, use_reentrant=False, **kwargs)


@twin
def test_checkpoint_reaches_arguments_closures_and_keywords(L: Any) -> Any:
    x, w, k = leaf(L, VECTOR), leaf(L, WEIGHTS), leaf(L, [1.0, 2.0, 0.5])
    h = w * 2.0
    y = checkpoint(L, lambda t, n, scale: (t * h).sin() * scale + w * n, x, 3.0, scale=k)
    y.sum().backward()
    return y, x.grad, w.grad, k.grad


@twin
def test_checkpoint_of_constants_with_parameters_in_the_closure(L: Any) -> Any:
    w = leaf(L, WEIGHTS)
    x = leaf(L, VECTOR, requires_grad=False)
    checkpoint(L, lambda t: (t * w).sin(), x).sum().backward()
    plain = checkpoint(L, lambda t: t * 2.0, x)
    return w.grad, x.grad, plain


@twin
def test_checkpoint_second_derivative(L: Any) -> Any:
    """E."""
    x, w = leaf(L, VECTOR), leaf(L, WEIGHTS)
    y = checkpoint(L, lambda t: (t * w).sin() * t, x * 2.0)
    first = L.autograd.grad(y.sum(), [x, w], create_graph=True)
    second = L.autograd.grad((first[0] * first[1]).sum(), [x, w], create_graph=True)
    return *first, *second, *L.autograd.grad((second[0] * second[0]).sum(), [x, w])


@twin
def test_checkpoint_in_checkpoint(L: Any) -> Any:
    x, w = leaf(L, VECTOR), leaf(L, WEIGHTS)

    def inner(t: Any) -> Any:
        return (t * w).sin()

    def outer(t: Any) -> Any:
        return checkpoint(L, inner, t * t).tanh() + checkpoint(L, inner, t)

    checkpoint(L, outer, x).sum().backward()
    return x.grad, w.grad


@twin
def test_checkpoint_of_several_outputs(L: Any) -> Any:
    x, w = leaf(L, VECTOR), leaf(L, WEIGHTS)
    a, b, constant, number, same = checkpoint(L, lambda t: (t * 2.0, t.exp() * w, t.detach(), 5, w), x)
    (a * same).sum().backward(retain_graph=True)
    first = x.grad.clone(), w.grad.clone()
    (a * b).sum().backward()
    return a, b, constant, number, *first, x.grad, w.grad


@twin
def test_checkpoint_under_no_grad_and_with_unused_arguments(L: Any) -> Any:
    x, y = leaf(L, VECTOR), leaf(L, WEIGHTS)
    with L.no_grad():
        quiet = checkpoint(L, lambda t: t.exp(), x)
    checkpoint(L, lambda t, u: t.exp(), x, y).sum().backward()
    return quiet, x.grad, y.grad


@twin
def test_checkpoint_gives_grad_only_where_it_is_asked_for(L: Any) -> Any:
    x, w = leaf(L, VECTOR), leaf(L, WEIGHTS)
    y = checkpoint(L, lambda t: (t * w).sin(), x)
    return *L.autograd.grad(y.sum(), w), x.grad, w.grad


def test_checkpoint_of_a_network_equals_the_network_bit_for_bit() -> None:
    """W', R: dropout draws the same numbers again, and the stream goes on as if there were no checkpoint."""
    results = []
    for stored in (False, True):
        tl.manual_seed(3)
        net = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))
        x = tl.randn(4, 5, requires_grad=True)
        out = autograd.checkpoint(net, x) if stored else net(x)
        later = tl.rand(3)
        out.sin().sum().backward()
        results.append([out, later, tl.rand(3), x.grad, *[p.grad for p in net.parameters()]])
    for expected, recomputed in zip(*results, strict=True):
        assert tl.equal(expected, recomputed)


def test_checkpoint_without_its_random_state_draws_anew() -> None:
    """R."""
    x = tl.ones(100, requires_grad=True)
    out = autograd.checkpoint(lambda t: t * tl.rand(100), x, preserve_rng_state=False)
    out.sum().backward()
    assert not tl.equal(x.grad, out)


def test_an_error_in_recomputing_leaves_the_random_state_and_the_mode() -> None:
    """V."""
    calls = []

    def fails_the_second_time(t: Any) -> Any:
        calls.append(tl.is_grad_enabled())
        draw = tl.rand(3)
        if len(calls) == 2:
            raise KeyError
        return t * draw

    x = tl.ones(3, requires_grad=True)
    out = autograd.checkpoint(fails_the_second_time, x).sum()
    before = tl.get_rng_state()
    with pytest.raises(KeyError):
        out.backward()
    assert np.array_equal(np.asarray(tl.get_rng_state()), np.asarray(before))
    assert tl.is_grad_enabled()
    assert x.grad is None
    out.backward()
    assert calls == [True] * 3
    assert x.grad is not None


@pytest.mark.parametrize("which", ["argument", "keyword", "closure"])
def test_checkpoint_notices_changes_of_what_it_needs_again(which: str) -> None:
    """B: where PyTorch recomputes with the changed values, without a word."""
    x, w, k = leaf(tl, VECTOR), leaf(tl, WEIGHTS), leaf(tl, [1.0, 2.0, 3.0])
    y = autograd.checkpoint(lambda t, scale: t * w * scale, x, scale=k)
    with tl.no_grad():
        {"argument": x, "keyword": k, "closure": w}[which].add_(1.0)
    with pytest.raises(GradError, match="checkpoint: a tensor needed for its gradient was modified"):
        y.sum().backward()


def test_a_view_that_checkpoint_returns_of_its_input_cannot_be_changed_in_place() -> None:
    """B."""
    h = leaf(tl, VECTOR) * 2.0
    y = autograd.checkpoint(lambda t: t.view(3, 1), h)
    with pytest.raises(GradError, match="modified in place"):
        y.mul_(2.0)
    y.sum().backward()


def test_checkpoint_can_be_walked_again() -> None:
    """E: it keeps its arguments, and computes the rest anew each time."""
    x = leaf(tl, VECTOR)
    y = autograd.checkpoint(lambda t: t.exp(), x).sum()
    y.backward()
    once = x.grad.clone()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once.numpy())


def test_checkpoint_keeps_no_intermediate_values() -> None:
    x = tl.ones(100_000, dtype=tl.float64, requires_grad=True)

    def chain(t: Any) -> Any:
        for _ in range(20):
            t = t.sin()
        return t

    held = []
    for function in (chain, lambda t: autograd.checkpoint(chain, t)):
        tracemalloc.start()
        out = function(x)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del out
    assert held[0] > 20 * x.nbytes
    assert held[1] < 2 * x.nbytes


@twin
def test_checkpoint_of_a_value_that_is_argument_and_closure_at_once(L: Any) -> Any:
    """D: each way from the outside in counts once."""
    x, w = leaf(L, VECTOR), leaf(L, WEIGHTS)
    h = x * w
    k = h.sin()
    (checkpoint(L, lambda t: t * h + k * w, h) + k).sum().backward()
    return x.grad, w.grad


@twin
def test_hooks_and_retained_gradients_around_a_checkpoint_count_once(L: Any) -> Any:
    """D."""
    x, w = leaf(L, VECTOR), leaf(L, WEIGHTS)
    h, k = x * 2.0, w * 3.0
    seen: list[Any] = []
    for t in (h, k, x, w):
        t.register_hook(lambda g: seen.append(g.clone()))
        t.register_hook(lambda g: g * 10.0)
    h.retain_grad()
    k.retain_grad()
    y = checkpoint(L, lambda t: t * k * w, h)
    y.retain_grad()
    y.sum().backward()
    return sorted(plain(seen)), x.grad, w.grad, h.grad, k.grad, y.grad
