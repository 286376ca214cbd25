"""`@op`: makes a differentiable operation of a function on raw arrays.

    @op(promote=FLOAT)
    def exp(be, x):                       # be: the backend; x: a raw array; parameters are keyword-only
        return be.elementwise("exp", x)

    exp.rules(x=lambda g, out: g * out)   # per input: its gradient, in differentiable operations on Tensors

A rule's parameter names say what it needs, and so what is saved: `g` (the incoming gradient), `out`, inputs and
parameters by their names, `shapes` (of all inputs), and for a variadic input its `position`. Only what the inputs that
require grad need is saved. A rule works on the promoted, broadcast problem; the engine brings its result to the
input's shape and dtype.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self, overload

import numpy as np

from .. import dtypes
from ..backends import SCALARS, Array, Backend
from ..errors import DeviceError, DTypeError, GradError, user_line
from ..mistakes import expected_tensor
from .autocast import POLICY, cast_inputs, use
from .mode import LINES_AND_NAN, anomaly_level, autocast_regions, grad_enabled, run_with_grad
from .tape import Node, Replay, Var, intact, wrap

if TYPE_CHECKING:
    from ..tensor import Tensor

Rule = Callable[..., Any]

NONE, ANY, FLOAT = "none", "any", "float"  # leave dtypes alone; one common dtype; one common floating dtype


class Plan(NamedTuple):
    """For one pattern of inputs that require grad: what to save (name, input position; -1 the result), which rules
    to run (input position, rule, names of its arguments), and whether one of them asks for the shapes."""

    saves: tuple[tuple[str, int], ...]
    rules: tuple[tuple[int, Rule, tuple[str, ...]], ...]
    wants_shapes: bool


class Op:
    """A differentiable operation; call it with Tensors (or Python numbers) and keyword parameters."""

    def __init__(self, forward: Callable[..., Array], promote: str, view: bool) -> None:
        functools.update_wrapper(self, forward)
        self.forward = forward
        self.name = forward.__name__.rstrip("_")
        self.promote = promote
        self.view = view
        self.autocast = POLICY.get(forward.__name__.strip("_"))
        self.adds: Callable[..., None] | None = None  # see add_by
        self.fresh = True  # a rule returns g itself, a view of g, or a new array: never a saved or shared one
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        self.inputs = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.rule_of: dict[str, tuple[Rule, tuple[str, ...]]] = {}
        self._has_rule = [False] * len(self.inputs)
        self._plans: dict[tuple[bool, ...], Plan] = {}

    def rules(self, **rules: Rule) -> None:
        """Set the gradient of each named input; an input without a rule gets no gradient."""
        for name, rule in rules.items():
            if name not in self.inputs:
                raise ValueError(f"{self.name} has no input {name!r}")
            self.rule_of[name] = rule, tuple(inspect.signature(rule).parameters)
        self._has_rule = [name in self.rule_of for name in self.inputs]
        self._plans.clear()

    def add_by(self, function: Callable[..., None]) -> None:
        """Say how the gradient of an op with one input, which saves nothing, is added to a sum of others in its memory.

        `function(backend, total, g, **params)` works on raw arrays. Where a tensor is used in many parts, each part's
        gradient then costs what the part is, not what the tensor is.
        """
        self.adds = function

    def input_name(self, position: int) -> str:
        """The name of an input; all inputs of a variadic op share the last name."""
        return self.inputs[min(position, len(self.inputs) - 1)]

    def __call__(self, *inputs: Any, **params: Any) -> Tensor:
        if use.begun and self.autocast is not None and (regions := autocast_regions.get()):
            inputs = cast_inputs(self.autocast, regions, inputs)
        backend: Backend | None = None
        recording = False
        arrays = []
        for x in inputs:
            if isinstance(x, Var):
                if x._base is not None:
                    refresh(x)
                if backend is not x.backend:
                    if backend is not None:
                        _refuse_devices(self.name, inputs)
                    backend = x.backend
                if x._requires_grad:
                    recording = True
                arrays.append(x.array)
            elif type(x) in SCALARS or (x is None and self.promote is NONE):  # None: an input left out
                arrays.append(x)
            else:
                return self(*as_inputs(self.name, inputs, self.promote is NONE), **params)
        if backend is None:
            raise DTypeError(f"{self.name}: at least one argument must be a Tensor")
        if self.promote is not NONE:
            arrays = _promoted(self, backend, arrays)
        array = self.forward(backend, *arrays, **params)
        out = wrap(array, backend)
        if self.view:
            _link_view(out, inputs[0], self, params)
        if recording and grad_enabled.get():
            self._record(out, inputs, params)
        return out

    def _record(self, out: Tensor, inputs: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Hang a node on `out` if it can require grad, and some input that does has a rule."""
        if out.array.dtype.kind in "biu":
            return
        has_rule = self._has_rule
        parents: list[Node | Var | None] = []
        metas = []
        needs = []
        for position, x in enumerate(inputs):
            parent, meta = None, None
            if isinstance(x, Var):
                meta = x.array.shape, x.array.dtype
                if x._requires_grad and (self.variadic or has_rule[position]):
                    parent = x._node or x
            parents.append(parent)
            metas.append(meta)
            needs.append(parent is not None)
        if True not in needs:
            return
        plan = self._plans.get(tuple(needs)) or self._plan(tuple(needs))
        saved: dict[str, Any] = {}
        for name, position in plan.saves:
            source = out if position < 0 else inputs[position]
            if isinstance(source, Var):
                version = source._version or source._shared_version()
                saved[name] = source.array, version, version[0]
            else:
                saved[name] = source
        out._node = node = Node(self, tuple(parents), tuple(metas), saved, params, plan)
        out._requires_grad = True
        level = anomaly_level.get()
        if level:
            node.trace, node.check_nan = user_line(), level == LINES_AND_NAN

    def _plan(self, needs: tuple[bool, ...]) -> Plan:
        """What to save and to run when the inputs marked in `needs` require grad; made once for each such pattern."""
        rules = [(i, *self.rule_of[self.input_name(i)]) for i, need in enumerate(needs) if need]
        wanted = {name for _, _, names in rules for name in names}
        fixed = self.inputs[:-1] if self.variadic else self.inputs
        saves = [(name, i) for i, name in enumerate(fixed) if name in wanted and i < len(needs)]
        plan = Plan((*saves, *([("out", -1)] if "out" in wanted else [])), tuple(rules), "shapes" in wanted)
        self._plans[needs] = plan
        return plan

    def gradients(self, node: Node, g: Any, create_graph: bool,
                  useful: Container[Any] | None) -> Iterable[tuple[int, Any]]:
        """Per input that needs one: its position and its gradient, still in the promoted, broadcast shape."""
        plan = node.plan
        assert plan is not None
        values = unpack(node, g.backend, create_graph)
        values["g"] = g
        if self.promote is not NONE:
            dtype = g.array.dtype
            for name in node.saved or ():
                value = values[name]
                if isinstance(value, Var) and value.array.dtype is not dtype:
                    values[name] = value.to(dtypes.from_numpy(dtype))  # type: ignore[attr-defined]
        if plan.wants_shapes:
            values["shapes"] = [meta and meta[0] for meta in node.metas]
        results = []
        for position, rule, names in plan.rules:
            if useful is None or node.parents[position] in useful:
                if self.variadic:
                    values["position"] = position
                result = rule(*[values[name] for name in names])
                if result is not None:
                    results.append((position, result))
        return results

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[..., Tensor]: ...
    def __get__(self, instance: object, owner: type) -> Any:
        """An Op in a class body is a method, as a function is."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


@overload
def op(forward: Callable[..., Array]) -> Op: ...
@overload
def op(*, promote: str = NONE, view: bool = False) -> Callable[[Callable[..., Array]], Op]: ...
def op(forward: Callable[..., Array] | None = None, *, promote: str = NONE, view: bool = False) -> Any:
    """Make an Op of a function `forward(backend, *arrays, **params)`; see the module's docstring.

    promote  NONE: inputs keep their dtypes; ANY: all inputs are brought to one dtype first; FLOAT: to one
             floating dtype (integers and bools to the default dtype)
    view     the result may share its first input's memory
    """
    if forward is None:
        return lambda function: Op(function, promote, view)
    return Op(forward, promote, view)


def unpack(node: Node, backend: Backend, create_graph: bool) -> dict[str, Any]:
    """The values that rules may ask for, by name."""
    if node.saved is None:
        raise GradError(
            f"{node.op.name}: trying to backward through the graph a second time: its saved values are freed. "
            "Pass retain_graph=True to the first backward if the graph is needed again"
        )
    values: dict[str, Any] = {**node.op.defaults, **node.params} if node.params else node.op.defaults.copy()
    for name, saved in node.saved.items():
        if type(saved) is tuple:
            tensor = wrap(saved[0] if saved[1][0] == saved[2] else intact(saved, node.op.name, name), backend)
            tensor._version = saved[1]
            values[name] = _at_its_place(node, name, tensor) if create_graph else tensor
        else:
            values[name] = saved
    return values


def _at_its_place(node: Node, name: str, tensor: Tensor) -> Tensor:
    """A saved tensor in its place in the graph, for rules that are recorded in their turn."""
    parent = node if name == "out" else node.parents[node.op.inputs.index(name)]
    return tensor if parent is None else in_graph(tensor, parent, node.op.name)


def in_graph(tensor: Tensor, parent: Node | Var, name: str) -> Tensor:
    """A saved tensor as the result of `parent`, or that leaf itself. Raises GradError if a leaf has new memory now."""
    if isinstance(parent, Var):
        if parent.array is not tensor.array:
            raise GradError(f"{name}: a tensor that it saved was given other memory since; call forward again")
        return parent  # type: ignore[return-value]
    tensor._node, tensor._requires_grad = parent, True
    return tensor


# --- promotion -------------------------------------------------------------------------------------------------


def _promoted(op: Op, backend: Backend, arrays: list[Any]) -> list[Any]:
    """The inputs in their common dtype. Python numbers stay numbers: kernels take them as they are."""
    dtype = None
    for a in arrays:  # the usual case: floating arrays of one dtype, and Python numbers
        if type(a) not in SCALARS:
            if dtype is None:
                dtype = a.dtype
            elif a.dtype is not dtype:
                break
    else:
        if dtype is not None and dtype.kind == "f":
            return arrays
    target = result_dtype(arrays)
    if op.promote is FLOAT and not target.is_floating_point:
        target = dtypes.get_default_dtype()
    wanted = target.numpy
    return [a if type(a) in SCALARS else backend.cast(a, wanted) for a in arrays]


def result_dtype(arrays: list[Any]) -> dtypes.DType:
    """The dtype in which raw arrays and Python numbers combine."""
    tensors = [(dtypes.from_numpy(a.dtype), a.ndim) for a in arrays if type(a) not in SCALARS]
    return dtypes.promote(
        [d for d, ndim in tensors if ndim],
        [d for d, ndim in tensors if not ndim],
        [type(a) for a in arrays if type(a) in SCALARS],
    )


def as_inputs(name: str, inputs: tuple[Any, ...], optional: bool = False) -> list[Any]:
    """Inputs with NumPy arrays and scalars turned into Tensors beside the first Tensor's device."""
    backend = next((x.backend for x in inputs if isinstance(x, Var)), None)
    result: list[Any] = []
    for x in inputs:
        if isinstance(x, (bool, int, float)):  # subclasses, such as numpy.float64 and IntEnum
            kind = next(kind for kind in (bool, int, float) if isinstance(x, kind))
            result.append(kind(x))
        elif isinstance(x, (np.ndarray, np.generic)) and backend is not None:
            dtypes.from_numpy(x.dtype)  # refuses what no tensor can hold
            result.append(wrap(backend.from_numpy(np.asarray(x)), backend))
        elif isinstance(x, Var) or (x is None and optional):
            result.append(x)
        else:
            raise expected_tensor(name, x, "Tensors or numbers")
    return result


def _refuse_devices(name: str, inputs: tuple[Any, ...]) -> None:
    operands = ", ".join(f"{tuple(x.array.shape)} on '{x.backend.device}'" for x in inputs if isinstance(x, Var))
    raise DeviceError(f"{name}: expected all tensors on one device, got {operands}; move one with .to(device)")


# --- views and in-place changes ------------------------------------------------------------------------------------


def _link_view(out: Tensor, source: Tensor, op: Op, params: dict[str, Any]) -> None:
    """Tie a view to its root: one version counter, and the way to make its history anew."""
    if out.array.size and not source.backend.shares_memory(out.array, source.array):
        return
    tie_to_root(out, source)
    out._replay = source._replay, op, params
    out._frozen_view = source._frozen_view or (source._requires_grad and not grad_enabled.get())


def tie_to_root(view: Var, source: Var) -> None:
    """Give a tensor that shares memory with another one its version counter and its root."""
    root = view._base = source if source._base is None else source._base
    view._version = source._shared_version()
    view._generation = root._generation


def refresh(view: Var) -> None:
    """Make a view's history anew if its memory took part in a recorded in-place change since it was made."""
    base = view._base
    if base is None or view._generation == base._generation:
        return
    require_shared(view, base)
    if view._frozen_view:
        if view._requires_grad or grad_enabled.get():
            refuse_frozen("used after a change in place of the memory it shares")
        return
    view._take_node(run_with_grad(True, follow, base, view._replay)._node)
    view._generation = base._generation


def refuse_frozen(what: str) -> NoReturn:
    raise GradError("a view that was made under no_grad, or returned by a Function or checkpoint of its input, is "
                    f"being {what} while recording; make the view with grad enabled, use a .clone() of it, or change "
                    "it under no_grad")


def needs_grad(x: Var) -> bool:
    """`x.requires_grad`, with the history of a view made anew where that is due."""
    if x._base is not None:
        refresh(x)
    return x._requires_grad


def follow(root: Any, replay: Replay) -> Any:
    """The view of `root` to which a replay leads."""
    steps = []
    while replay is not None:
        replay, op, params = replay
        steps.append((op, params))
    for op, params in reversed(steps):
        root = op(root, **params)
    return root


def require_shared(view: Var, base: Var) -> None:
    """Refuse a view whose root was given other memory (through `.data = ...`): their histories have parted."""
    if view.array.size and not base.backend.shares_memory(base.array, view.array):
        raise GradError(f"a view of shape {tuple(view.array.shape)} no longer shares memory with the tensor it was "
                        "made of, and one of them is changed in place; make the view anew")
