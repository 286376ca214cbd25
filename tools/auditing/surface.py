"""What is public, and what of it the audit calls: every function of `tl`, `F` and Tensor that is an operation."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from case import Case, tensors

import tensorlite as tl
from tensorlite.autograd.op import Op

NO_OPERATIONS = {
    "makes a tensor of no other one": """arange as_tensor asarray empty empty_like eye from_dlpack from_numpy full
        full_like linspace logspace ones ones_like tensor tril_indices triu_indices zeros zeros_like new_empty new_full
        new_ones new_tensor new_zeros bernoulli multinomial normal rand rand_like randint randint_like randn randn_like
        randperm""",
    "draws random numbers, by tests of their distribution": """bernoulli_ exponential_ normal_ random_ uniform_
        gumbel_softmax""",
    "asks or says something about a tensor": """data_ptr dim element_size is_contiguous is_floating_point is_pinned
        numel nelement size stride item numpy tolist backward detach detach_ register_hook requires_grad_
        retain_grad is_tensor is_nonzero
        tape backward_steps""",
    "moves it, with another dtype by `to` (op cast)": """bfloat16 bool cpu cuda double float half int long pin_memory
        short to type type_as""",
    "writes values, which `setitem` and `clone` do": "copy_ fill_ zero_",
    "takes the shape of another tensor (ops expand, reshape and view)": "expand_as reshape_as view_as",
    "always raises": "imag",
    "no function of tensors": """as_device can_cast capture device get_autocast_dtype get_default_dtype initial_seed
        get_float32_matmul_precision get_rng_state is_autocast_enabled is_grad_enabled load load_checkpoint manual_seed
        promote_types save save_checkpoint seed set_default_dtype set_float32_matmul_precision set_printoptions
        set_rng_state""",
}
"""Public functions without a row in the audit, and why."""


def excused() -> set[str]:
    return {name for names in NO_OPERATIONS.values() for name in names.split()}


def public() -> Iterator[tuple[str, Any]]:
    """(path, function) of what is public and may be an operation."""
    for prefix, namespace in (("tl", tl), ("F", tl.nn.functional), ("Tensor", tl.Tensor)):
        for name in dir(namespace):
            value = inspect.getattr_static(namespace, name)
            if not name.startswith("_") and callable(value) and not inspect.isclass(value) and _is_core(value):
                yield f"{prefix}.{name}", value


def _is_core(value: Any) -> bool:
    """Not of what makes the rest visible, which no other layer imports."""
    return not str(getattr(value, "__module__", "")).startswith("tensorlite.insight")


def called_by(cases: Iterable[Case]) -> set[CodeType | Op]:
    """The functions and ops that rows call, themselves or through others."""
    seen: set[CodeType | Op] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen.add(frame.f_locals["self"] if frame.f_code is Op.__call__.__code__ else frame.f_code)

    for case in cases:
        dtype = tl.float64 if tl.float64 in case.dtypes else case.dtypes[0]
        inputs = tensors(case.arrays(case.shapes[0], dtype), "cpu", case.gradient)
        sys.setprofile(note)
        try:
            case.function(*inputs)
        finally:
            sys.setprofile(None)
    return seen


def unaudited(cases: Iterable[Case]) -> list[str]:
    """The paths of public functions that no row calls and that are not excused; a form in place counts as its op."""
    seen = called_by(cases)

    def is_called(value: Any) -> bool:
        plain = inspect.unwrap(value)
        return value in seen or plain in seen or getattr(plain, "__code__", None) in seen

    called = {path.partition(".")[2] for path, value in public() if is_called(value)}
    return sorted(path for path, value in public() if not is_called(value)
                  and not {path.partition(".")[2], path.partition(".")[2].removesuffix("_")} & (called | excused()))
