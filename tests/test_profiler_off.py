"""tl.profile: what it leaves behind, which is nothing, whatever happens in the block; nested, and in threads."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
from in_threads import THREADS, in_threads
from profiles import FAST, by_name, everything, train

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.autograd.op import op
from tensorlite.backends import Device, cpu, get
from tensorlite.insight import spans
from tensorlite.insight.spans import KERNEL, MODULE, OP, Span


@op
def badly_derived(be: Any, x: Any) -> Any:
    return be.elementwise("neg", x)


badly_derived.rules(x=lambda g: g.reshape(1, -1)[:, :2])


class Stop(BaseException):
    """Like KeyboardInterrupt: caught by nobody."""


def failing(where: str) -> None:
    x = tl.ones(3, requires_grad=True)
    if where == "block":
        raise Stop
    if where == "kernel":
        tl.matmul(tl.ones(2, 2, dtype=tl.bool), tl.ones(2, 2, dtype=tl.bool))
    if where == "module":
        nn.Linear(3, 2)(tl.ones(4))
    if where == "hook":
        y = x * 2
        y.register_hook(lambda g: "no tensor")
        y.sum().backward()
    if where == "engine":
        badly_derived(x).sum().backward()
    if where == "rule":
        y = x.exp()
        y.detach().add_(1)
        y.sum().backward()


@pytest.mark.parametrize("where", ["nowhere", "block", "kernel", "module", "hook", "engine", "rule"])
def test_afterwards_everything_is_as_before(where: str, device: str) -> None:
    get(device)
    before = everything()
    try:
        with tl.profile(**FAST) as p:
            within = everything()
            failing(where)
    except (Stop, tl.TensorliteError) as error:
        assert where != "nowhere", error
    assert everything() == before
    exchanged = {name for name in before if within[name] != before[name]}
    assert exchanged >= {"Op.__call__", "Op.gradients", "Module.__call__", "backward", "Optimizer.step",
                         str(get(device).device)}
    assert not spans._here.stack
    assert spans.sinks == ()
    count = len(p.spans)
    (tl.ones(3, requires_grad=True) * 2).sum().backward()
    assert len(p.spans) == count


def test_an_error_that_nobody_sees_leaves_the_order_of_spans_intact() -> None:
    x = tl.ones(3, requires_grad=True)
    with tl.profile(**FAST) as p:
        with pytest.raises(tl.GradError):
            failing("rule")
        with pytest.raises(tl.DTypeError):
            failing("kernel")
        (x * 2).sum()
    row = by_name(p)["mul"]
    assert (row.calls, row.launches) == (1, 1)
    assert "matmul" not in {s.name for s in p.spans if s.kind is KERNEL}  # it failed


def test_a_span_that_was_left_open_ends_with_the_one_around_it() -> None:
    with tl.profile(**FAST) as p:
        with Span(OP, "around"):
            left = Span(OP, "left").__enter__()
        assert not spans._here.stack
        with Span(OP, "later"):
            left.__exit__(None, None, None)  # as when a generator is tidied up
            tl.ones(3)
    assert [(s.name, s.op) for s in p.spans] == [("around", "around"), ("fill", "later"), ("later", "later")]


def test_a_name_that_somebody_else_exchanged_meanwhile_stays() -> None:
    backend = cpu.CpuBackend()
    with tl.profile(**FAST):
        tl.neg(tl.Tensor._wrap(np.ones(3, np.float32), backend))
        backend.run = mine = lambda *args, **kwargs: None
    assert vars(backend)["run"] is mine
    assert backend.observers == ()


def test_a_method_that_somebody_else_exchanged_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(*args: Any) -> None:
        """Another one's."""

    monkeypatch.setattr(nn.Module, "__call__", vars(nn.Module)["__call__"])  # put back at the end
    with tl.profile(**FAST):
        nn.Module.__call__ = mine  # type: ignore[method-assign]
    assert vars(nn.Module)["__call__"] is mine


def test_what_is_unseen_stays_so_after_what_is_unseen_inside_of_it() -> None:
    with tl.profile(**FAST) as p:
        with spans.unseen():
            with spans.unseen():
                tl.ones(3)
            tl.ones(3)
        tl.zeros(3)
    assert len([s for s in p.spans if s.kind is KERNEL]) == 1


def test_a_start_that_is_interrupted_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything()
    monkeypatch.setattr(optim.Adam, "__subclasses__", mock.Mock(side_effect=Stop), raising=False)
    with pytest.raises(Stop), tl.profile(**FAST):
        pass
    monkeypatch.undo()
    assert everything() == before
    with tl.profile(**FAST) as p:
        tl.ones(3).exp()
    assert "exp" in by_name(p)


def test_nested_profiles_and_profiles_that_overlap() -> None:
    before = everything()
    x = tl.ones(3)
    with tl.profile(**FAST) as outer:
        tl.exp(x)
        with tl.profile(**FAST) as inner:
            tl.sin(x)
        tl.cos(x)
    assert [row.name for row in outer.rows()] and {row.name for row in outer.rows()} == {"exp", "sin", "cos"}
    assert {row.name for row in inner.rows()} == {"sin"}
    first, second = tl.profile(**FAST), tl.profile(**FAST)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    tl.exp(x)
    second.__exit__(None, None, None)
    assert not first.spans
    assert {row.name for row in second.rows()} == {"exp"}
    assert everything() == before


def test_a_profile_within_a_module_knows_where_it_is() -> None:
    class Looking(nn.Module):
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            with tl.profile(**FAST) as self.inner:
                return x.exp()

    model = Looking()
    with tl.profile(**FAST):
        model(tl.ones(3))
    assert {(s.kind, s.module) for s in model.inner.spans} == {(OP, "Looking"), (KERNEL, "Looking")}


def test_a_profile_has_nothing_that_began_before_it() -> None:
    class Looking(nn.Module):
        def forward(self, x: tl.Tensor) -> tl.Tensor:
            self.inner.__enter__()
            return x.exp()

    model = Looking()
    model.inner = tl.profile(**FAST)
    with tl.profile(**FAST) as outer:
        model(tl.ones(3))
        model.inner.__exit__(None, None, None)
    assert {s.kind for s in model.inner.spans} == {OP, KERNEL}
    assert {s.kind for s in outer.spans} == {OP, KERNEL, MODULE}


def test_a_device_first_used_within_a_profile() -> None:
    backend = cpu.CpuBackend()
    backend.device = Device("cuda:sim")
    with tl.profile(**FAST) as p:
        tl.exp(tl.Tensor._wrap(np.ones(3, np.float32), backend))
    assert by_name(p)["exp"].launches == 1
    assert not {"run", "elementwise", "observers"} & vars(backend).keys()


def test_importing_tensorlite_does_not_load_it() -> None:
    command = "import sys, tensorlite; print([name for name in sys.modules if 'insight' in name])"
    finished = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


# --- threads ---------------------------------------------------------------------------------------------------------

def test_threads_are_kept_apart() -> None:
    steps = [train("cpu") for _ in range(THREADS)]
    with tl.profile(**FAST) as alone:
        steps[0]()
    with tl.profile(**FAST) as p:
        in_threads(lambda number: [steps[number]() for _ in range(5)])
    expected = {row.name: (row.calls, row.launches) for row in alone.rows()}
    assert {row.name: (row.calls / 5 / THREADS, row.launches / 5 / THREADS) for row in p.rows()} == expected
    assert len({s.thread for s in p.spans}) == THREADS
    assert {row.name.partition(".")[0].partition(" ")[0] for row in p.rows("module")} == {"Net", "(outside"}


def test_each_thread_with_a_profile_of_its_own() -> None:
    before = everything()

    def profiled(number: int) -> int:
        x = tl.ones(3)
        for _ in range(20):
            with tl.profile(**FAST) as p:
                tl.exp(x)
            mine = [s for s in p.spans if s.thread == spans._here.thread]
            assert [s.kind for s in mine] == [KERNEL, OP]
        return number

    assert in_threads(profiled) == list(range(THREADS))
    assert everything() == before
