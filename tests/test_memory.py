"""Depth, growth, cycles: promises Q and S. The graph dies by reference counts alone, and nothing recurses.

Whatever is measured runs in a process of its own, so that other tests leave nothing in the figures.
"""

from __future__ import annotations

import contextvars
import copy
import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import autograd, nn, optim
from tensorlite.nn import functional as F

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def run(program: str, *args: object) -> str:
    """What a Python process prints that runs a program."""
    done = subprocess.run([sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- depth ---------------------------------------------------------------------------------------------------------


def repeat(step: Callable[[Any], Any], start: Any, count: int) -> Any:
    for _ in range(count):
        start = step(start)
    return start


def test_backward_through_a_chain_of_100_000_operations() -> None:
    """Q."""
    x = tl.tensor([1.0, 2.0], requires_grad=True)
    y = repeat(lambda t: t + 1.0, x, 100_000)
    y.backward(tl.tensor([1.0, 3.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 3.0]
    assert y.tolist() == [100_001.0, 100_002.0]


@pytest.mark.parametrize("walked", [False, True])
@pytest.mark.parametrize("step", [
    lambda t: t * 1.0, lambda t: (t + t) * 0.5, lambda t: t.unsqueeze(0)[0], lambda t: tl.cat([t[1:], t[:1]]),
], ids=["mul", "diamonds", "views", "slices"])
def test_deep_graphs_are_walked_and_released_without_recursion(step: Any, walked: bool) -> None:
    """Q: far beyond the recursion limit, also when the graph dies unwalked or in the middle of a walk."""
    depth = 10 * sys.getrecursionlimit()
    x = tl.tensor([1.0, 2.0, 3.0], dtype=tl.float64, requires_grad=True)
    y = repeat(step, x * 1.0, depth)
    if walked:
        y.sum().backward(retain_graph=True)
        assert x.grad is not None
        assert x.grad.tolist() == [1.0] * 3
        y.sum().backward()
    del y


def test_deep_graphs_in_other_forms() -> None:
    """Q: in-place chains, chains of views with a change at the root, Functions, checkpoints, second derivatives."""

    class Same(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    def gradient(y: Any) -> list[float]:
        result, = autograd.grad(y.sum(), x)
        assert result is not None
        return result.tolist()  # type: ignore[no-any-return]

    x = tl.tensor([1.0, 2.0], dtype=tl.float64, requires_grad=True)
    assert gradient(repeat(lambda t: t.add_(1.0), x * 1.0, 5_000)) == [1.0, 1.0]
    assert gradient(repeat(lambda t: (t[:1].mul_(1.0), t)[1], x * 1.0, 3_000)) == [1.0, 1.0]
    root = x * 1.0
    view = repeat(lambda t: t.view(2, 1).view(2), root, 3_000)
    root.mul_(2.0)
    assert gradient(view) == [2.0, 2.0]
    assert gradient(repeat(Same.apply, x * 1.0, 3_000)) == [1.0, 1.0]
    assert gradient(repeat(lambda t: autograd.checkpoint(lambda u: u * 1.0, t), x, 3_000)) == [1.0, 1.0]
    first, = autograd.grad(repeat(lambda t: t * 1.0, x * x, 3_000).sum(), x, create_graph=True)
    assert gradient(first) == [2.0, 2.0]


MILLION = """
import gc
gc.disable()
import tensorlite as tl
x = tl.ones(1, requires_grad=True)
y = x
for _ in range(1_000_000):
    y = y + 1.0
y.backward()
assert x.grad.item() == 1.0
del y
y = x
for _ in range(100_000):
    y = y * 1.0
print("released")
"""


def test_a_million_operations() -> None:
    """Q: walked and released; at the end of the process another graph, unwalked."""
    assert run(MILLION) == "released\n"


# ---- growth --------------------------------------------------------------------------------------------------------

TRAINING = """
import gc, os, sys
gc.disable()
import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.nn import functional as F

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

class Cube(tl.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = x * x * x
        ctx.save_for_backward(x, out)
        return out
    @staticmethod
    def backward(ctx, g):
        x, out = ctx.saved_tensors
        return g * 3 * x * x

model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 5))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
x, y = tl.randn(16, 20), tl.randint(0, 5, (16,))

def step(i):
    optimizer.zero_grad()
    hidden = model(x)
    if i % 10 == 0:  # what else may stand in a step
        hidden = tl.autograd.checkpoint(model, x)
        hidden[:, 0] *= 0.5
        hidden.view(-1)[3:].mul_(1.0)
        hidden = hidden + Cube.apply(hidden) * 0.01
        hidden.register_hook(lambda g: g * 1.0)
        hidden.retain_grad()
    loss = F.cross_entropy(hidden, y)
    if i % 50 == 0:
        g, = tl.autograd.grad(loss, model[0].weight, create_graph=True)
        loss = loss + (g * g).sum()
    if i % 70 == 0:
        try:
            (x @ x).sum()
        except RuntimeError:
            pass
    if i % 3 == 0:
        return  # a graph that is never walked
    loss.backward()
    optimizer.step()

for i in range(500):
    step(i)
before = resident()
for i in range(int(sys.argv[1])):
    step(i)
print(resident() - before)
"""


@linux
def test_ten_thousand_training_steps_do_not_grow() -> None:
    """S: by less than 5 MB, with the garbage collector off."""
    assert int(run(TRAINING, 10_000)) < 5_000_000


# ---- released at once, without cycles ------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Any:
    """The garbage collector off, and nothing left that it could find."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Square(autograd.Function):
    """Saves its input and its result."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        out = x * x
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, out = ctx.saved_tensors
        return g * x * 2.0 + out * 0.0


def leaf() -> Any:
    return tl.tensor([[0.5, 1.5], [2.0, -1.0]], dtype=tl.float64, requires_grad=True)


def changed_through_views(x: Any) -> Any:
    h = x * 2.0
    part = h[0]
    part[1:].mul_(x[1, :1])
    h.view(-1)[::2].sin_()
    return h + part


def hooked(x: Any) -> Any:
    h = x * 2.0
    h.register_hook(lambda g: g * 2.0)
    h.retain_grad()
    return h.exp()


def refused(x: Any) -> Any:
    try:
        (x * 2.0) @ tl.ones(7, 7, dtype=tl.float64)
    except RuntimeError:
        pass
    return x.exp()


def twice_derived(x: Any) -> Any:
    g, = autograd.grad((x.exp() * Square.apply(x)).sum(), x, create_graph=True)
    assert g is not None
    return g * x


def under_anomaly_mode(x: Any) -> Any:
    with tl.autograd.detect_anomaly():
        return x.exp() * x


def network(x: Any) -> Any:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.GELU(), nn.Dropout())
    return model.to(tl.float64)(x)


GRAPHS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: x.exp() * x + x.sin() / x,
    "matrices": lambda x: x @ x.T + tl.einsum("ij,kj->ik", x, x),
    "indices": lambda x: x[[0, 1, 1]][:, 0] * x[0].softmax(0)[1] + x.max(0).values.sum(),
    "changed through views": changed_through_views,
    "function": Square.apply,
    "function saved output": lambda x: Square.apply(Square.apply(x)),
    "checkpoint": lambda x: autograd.checkpoint(lambda t: (t * x).exp(), x * 2.0),
    "hooks": hooked,
    "errors": refused,
    "second derivatives": twice_derived,
    "anomaly mode": under_anomaly_mode,
    "network": network,
}


@pytest.mark.parametrize("walk", ["not at all", "once", "retained", "refused"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_dies_with_its_last_tensor(graph: str, walk: str, no_collector: None) -> None:
    """S: at once, and with the collector off; afterwards the collector finds nothing of tensorlite."""
    x = leaf()
    out = GRAPHS[graph](x)
    node = out.grad_fn
    parent = next((p for p, _ in node.next_functions if p is not None), None)
    watched = [weakref.ref(o) for o in (out, out.array, node, parent) if o is not None and o is not x]
    if walk != "not at all":
        out.sum().backward(retain_graph=walk != "once")
    if walk == "refused":
        x.register_hook(lambda g: {}["missing"])
        with pytest.raises(KeyError):
            out.sum().backward()
    del out, node, parent
    assert [ref() for ref in watched] == [None] * len(watched)
    x.grad = None
    found = garbage()
    assert not found, found


def garbage() -> list[str]:
    """What of tensorlite, or which array, only the collector could free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [repr(type(o)) for o in gc.garbage
                if type(o).__module__.startswith("tensorlite") or isinstance(o, np.ndarray)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_a_model_dies_with_its_last_name(no_collector: None) -> None:
    """S: also after it was walked, copied, trained and saved."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ModuleList([nn.ReLU(), nn.BatchNorm1d(3)])[1])
    watched = [weakref.ref(m) for m in model.modules()]
    copied = copy.deepcopy(model)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in copied.named_parameters()]
    copied.load_state_dict(model.state_dict())
    repr(model.apply(lambda m: None).to(tl.float64).eval())
    model(tl.ones(2, 2, dtype=tl.float64)).sum().backward()
    del model
    assert [ref() for ref in watched] == [None] * 3


def test_training_makes_no_garbage(no_collector: None) -> None:
    """S: a whole step with an optimizer."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3))
    optimizer = optim.AdamW(model.parameters())
    x, y = tl.randn(6, 4), tl.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert not garbage()


def test_backward_frees_saved_values_as_it_goes() -> None:
    """S: while the loss, and with it the graph, still lives; a hook further down sees that what lay above is free."""
    x = tl.ones(3, requires_grad=True)
    h = x * 2.0
    middle = h.exp()
    top = middle.sin()
    saved = weakref.ref(middle.array)
    alive = []
    h.register_hook(lambda g: alive.append(saved() is not None))
    loss = top.sum()
    del middle, top
    assert saved() is not None
    loss.backward()
    assert saved() is None
    assert alive == [False]


def test_inference_keeps_nothing() -> None:
    """S."""
    x = tl.ones(3, requires_grad=True)
    for recorded in (True, False):
        with tl.set_grad_enabled(recorded):
            h = x * 2.0
            ref = weakref.ref(h.array)
            y = h.exp().sin() * h
            del h
        assert (ref() is not None) == recorded
        del y
        assert ref() is None


def test_a_detached_result_keeps_no_graph() -> None:
    """S."""
    x = tl.ones(3, requires_grad=True)
    h = x * 2.0
    ref = weakref.ref(h.grad_fn)
    d, values = h.exp().detach(), h.exp().tolist()
    del h
    assert ref() is None
    assert d.tolist() == values


def test_a_view_keeps_its_root_and_a_root_no_view() -> None:
    """S."""
    h = tl.ones(3, requires_grad=True) * 2.0
    part = h[1:]
    root, view = weakref.ref(h), weakref.ref(part)
    del part
    assert view() is None
    part = h[1:]
    del h
    assert root() is not None
    del part
    assert root() is None


def test_kernels_keep_nothing_of_the_users_context() -> None:
    """S: a context variable's value dies when it is reset, whatever ran in between."""

    class Held:
        pass

    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("held", default=None)

    def work() -> weakref.ref[Held]:
        held = Held()
        token = variable.set(held)
        x = tl.ones(3, requires_grad=True)
        autograd.checkpoint(lambda t: Square.apply(t.exp()), x).sum().backward()
        tl.ones(0).sum()
        variable.reset(token)
        return weakref.ref(held)

    backend = tl.ones(1).backend
    kept, backend._contexts = backend._contexts, []  # type: ignore[attr-defined]
    try:
        assert contextvars.copy_context().run(work)() is None
    finally:
        backend._contexts = kept  # type: ignore[attr-defined]


# ---- pages ---------------------------------------------------------------------------------------------------------

ACTIVATIONS = """
import resource
import tensorlite as tl
faults = []
for step in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [tl.ones(700_000) for _ in range(8)]
    del activations
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(max(faults[2:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory by other rules")
def test_the_memory_of_a_step_is_not_mapped_anew_in_the_next() -> None:
    """22 MB of activations are about 5,500 pages."""
    assert int(run(ACTIVATIONS)) < 100
