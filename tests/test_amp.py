"""Autocast: which dtype each operation chooses, the casts of parameters, and where the mode holds.

The dtypes are PyTorch's for CUDA. Its dispatcher can be asked without a GPU, through tensors that have no contents.
"""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, ops
from tensorlite.amp import autocast, get_autocast_dtype, is_autocast_enabled
from tensorlite.autograd.autocast import POLICY, in_force
from tensorlite.autograd.op import Op
from tensorlite.backends import get
from tensorlite.nn import functional as F

Call = Callable[..., Any]


def bf16(device: str = "cpu", **options: Any) -> autocast:
    return autocast(device, tl.bfloat16, **options)


# --- the table -------------------------------------------------------------------------------------------------------

# By a name that both libraries have, in `torch` or `torch.nn.functional`: arguments made of two 4 x 4 matrices.
ONE = "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh " \
      "erf abs floor square reciprocal sum mean var std prod norm amax relu sigmoid gelu silu elu leaky_relu mish " \
      "celu selu softsign hardswish tanhshrink softplus logsigmoid"
TWO = "matmul mm linear atan2 maximum add mul div pow logaddexp mse_loss l1_loss smooth_l1_loss huber_loss kl_div " \
      "binary_cross_entropy_with_logits cosine_similarity pairwise_distance cross_entropy"
CALLS: dict[str, tuple[str, Call]] = {
    **{name: (name, lambda a, b: (a,)) for name in ONE.split()},
    **{name: (name, lambda a, b: (a, b)) for name in TWO.split()},
    "addmm": ("addmm", lambda a, b: (a, a, b)),
    "addcmul": ("addcmul", lambda a, b: (a, a, b)),
    "addcdiv": ("addcdiv", lambda a, b: (a, a, b)),
    "tensordot": ("tensordot", lambda a, b: (a, b, 1)),
    "einsum": ("einsum", lambda a, b: ("ij,jk->ik", a, b)),
    "cat": ("cat", lambda a, b: ([a, b],)),
    "where": ("where", lambda a, b: (a > 0, a, b)),
    "power of a number": ("pow", lambda a, b: (2.0, a)),
    "square as a power": ("pow", lambda a, b: (a, 2)),
    "softmax": ("softmax", lambda a, b: (a, 1)),
    "log_softmax": ("log_softmax", lambda a, b: (a, 1)),
    "softmin": ("softmin", lambda a, b: (a, 1)),
    "logsumexp": ("logsumexp", lambda a, b: (a, 1)),
    "cumsum": ("cumsum", lambda a, b: (a, 0)),
    "cumprod": ("cumprod", lambda a, b: (a, 0)),
    "layer_norm": ("layer_norm", lambda a, b: (a, (4,))),
    "rms_norm": ("rms_norm", lambda a, b: (a, (4,))),
    "group_norm": ("group_norm", lambda a, b: (a, 2)),
    "instance_norm": ("instance_norm", lambda a, b: (a.reshape(1, 4, 4),)),
    "local_response_norm": ("local_response_norm", lambda a, b: (a.reshape(1, 4, 4), 2)),
    "normalize": ("normalize", lambda a, b: (a,)),
    "cross entropy of ids": ("cross_entropy", lambda a, b: (a, a.argmax(1))),
    "nll_loss": ("nll_loss", lambda a, b: (a, a.argmax(1))),
    "batch_norm": ("batch_norm", lambda a, b: (a, None, None, None, None, True)),
}
DTYPES = [("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")]
# Not as PyTorch: our products of cosines stay as wide as its norms are.
WIDER = {"cosine_similarity"}


def called(library: Any, name: str) -> Call:
    found: Call = getattr(library.nn.functional, name, None) or getattr(library, name)
    return found


@pytest.fixture
def torch_cuda() -> Iterator[Any]:
    """PyTorch with autocast for CUDA on, and tensors that have a device and a dtype and nothing else."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch._subclasses.fake_tensor import FakeTensorMode
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    with FakeTensorMode():
        yield torch
    torch.set_autocast_enabled("cuda", False)


@pytest.mark.filterwarnings("ignore:reduction.*batch size")
@pytest.mark.parametrize("call", CALLS)
def test_dtypes_are_pytorchs(call: str, torch_cuda: Any) -> None:
    name, arguments = CALLS[call]
    for kinds in DTYPES:
        theirs = [torch_cuda.empty(4, 4, device="cuda", dtype=getattr(torch_cuda, kind)) for kind in kinds]
        ours = [tl.full((4, 4), 0.5, dtype=getattr(tl, kind)) for kind in kinds]
        expected = str(called(torch_cuda, name)(*arguments(*theirs)).dtype).removeprefix("torch.")
        with bf16():
            result = called(tl, name)(*arguments(*ours)).dtype.name
        assert result == expected or (call in WIDER and result == "float32"), kinds


def test_dtypes_that_pytorch_tells_on_gpus_alone() -> None:
    """From its documentation: products with a batch or a vector in 16 bits, dot in the widest input type."""
    a = tl.ones(4, 4)
    with bf16():
        assert {tl.bmm(a[None], a[None]).dtype, (a @ a[0]).dtype, F.prelu(a, a[0]).dtype} == {tl.bfloat16}
        assert tl.dot(a[0], a[0]).dtype is tl.float32
        assert tl.dot(a[0].bfloat16(), a[0]).dtype is tl.float32
        assert F.bilinear(a.bfloat16(), a, tl.ones(3, 4, 4)).dtype is tl.float32
        assert F.binary_cross_entropy(a.bfloat16() * 0.5, a * 0.5).dtype is tl.float32


def test_each_row_of_the_table_is_an_operation() -> None:
    names = {name.strip("_") for module in (ops, ops.fused, ops.matmul, ops.reduce, F) for name in vars(module)}
    assert set(POLICY) <= names


def test_what_is_never_cast() -> None:
    with bf16():
        assert (tl.ones(2, 2, dtype=tl.float64) @ tl.ones(2, 2, dtype=tl.float64)).dtype is tl.float64
        assert (tl.ones(2, 2, dtype=tl.int64) @ tl.ones(2, 2, dtype=tl.int64)).dtype is tl.int64
        assert tl.tensor([1, 2]).sum().dtype is tl.int64
        for wide in (tl.float64, tl.int64):
            with pytest.raises(tl.DTypeError, match="operands of one dtype"):
                tl.matmul(tl.ones(2, 2, dtype=wide), tl.ones(2, 2))
        with pytest.raises(tl.DTypeError, match="operands of one dtype"):
            F.linear(tl.ones(2, 2), tl.ones(2, 2, dtype=tl.float64))
    with pytest.raises(tl.DTypeError, match="operands of one dtype"):
        tl.matmul(tl.ones(2, 2), tl.ones(2, 2, dtype=tl.bfloat16))


def test_float32_is_computed_before_rounding_not_after() -> None:
    """A sum of squares that bfloat16 could not hold to three digits, and an exponential that float16 could not."""
    x = tl.full((1000,), 3.0, dtype=tl.bfloat16)
    with bf16():
        assert x.norm().item() == pytest.approx(9000**0.5, rel=1e-6)
        assert F.mse_loss(x, tl.zeros(1000, dtype=tl.bfloat16)).item() == 9.0
    with autocast("cpu", tl.float16):
        assert tl.full((1,), 12.0, dtype=tl.float16).exp().item() == pytest.approx(np.exp(12.0))


def test_in_place_operations_keep_the_tensors_dtype() -> None:
    x = tl.full((3,), 2.0, dtype=tl.bfloat16)
    with bf16():
        x.exp_().add_(tl.ones(3))
    assert x.dtype is tl.bfloat16 and x[0].item() == pytest.approx(np.exp(2.0) + 1, rel=0.01)


# --- a model ---------------------------------------------------------------------------------------------------------


def model_and_batch(device: str) -> tuple[nn.Module, tl.Tensor, tl.Tensor]:
    tl.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 5)).to(device)
    return model, tl.randn(8, 12).to(device), (tl.arange(8) % 5).to(device)


def gradients(model: nn.Module) -> list[np.ndarray]:
    found = [p.grad.cpu().numpy().copy() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


@pytest.mark.parametrize("dtype,tolerance", [(tl.bfloat16, 0.04), (tl.float16, 0.005)])
def test_gradients_arrive_in_float32_and_close_to_those_of_float32(device: str, dtype: Any, tolerance: float) -> None:
    model, x, y = model_and_batch(device)
    F.cross_entropy(model(x), y).backward()
    expected = gradients(model)
    with autocast(device, dtype):
        scores = model(x)
        loss = F.cross_entropy(scores, y)
    assert scores.dtype is dtype and loss.dtype is tl.float32
    (loss * 1024).backward()
    assert all(p.grad is not None and p.grad.dtype is tl.float32 for p in model.parameters())
    for g, e in zip(gradients(model), expected, strict=True):
        np.testing.assert_allclose(g / 1024, e, atol=tolerance * np.abs(e).max())


def test_a_backward_inside_the_region_is_the_one_outside(device: str) -> None:
    model, x, y = model_and_batch(device)
    with bf16(device):
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    expected = gradients(model)
    with bf16(device):
        F.cross_entropy(model(x), y).backward()
    for g, e in zip(gradients(model), expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_a_backward_inside_of_a_forward_outside_stays_in_float32(device: str) -> None:
    x, w = tl.full((2, 3), 0.1, device=device), tl.ones(3, 3, device=device, requires_grad=True)
    y = x @ w
    with bf16(device):
        y.backward(tl.full((2, 3), 0.1, device=device))
    assert w.grad is not None and w.grad[0, 0].item() == pytest.approx(0.02, rel=1e-6)


def test_forward_and_gradients_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w, b, v = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 12), (16, 12), (16,), (5, 16)))

    def run(lib: Any, tensor: Call) -> list[np.ndarray]:
        leaves = [tensor(a).requires_grad_() for a in (w, b, v)]
        with lib.autocast("cpu", lib.bfloat16) if lib is torch else bf16():
            hidden = lib.relu(lib.nn.functional.linear(tensor(x), leaves[0], leaves[1]))
            loss = lib.nn.functional.mse_loss(hidden @ leaves[2].T, tensor(np.ones((8, 5), np.float32)))
        loss.backward()
        return [loss.detach().numpy(), *[leaf.grad.numpy() for leaf in leaves]]

    for ours, theirs in zip(run(tl, lambda a: tl.tensor(a)), run(torch, lambda a: torch.tensor(a)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02 * np.abs(theirs).max())


def test_checkpoint_computes_again_in_the_dtypes_of_the_first_time(device: str) -> None:
    model, x, y = model_and_batch(device)
    with bf16(device):
        F.cross_entropy(model(x), y).backward()
    expected = gradients(model)
    with bf16(device):
        loss = F.cross_entropy(tl.autograd.checkpoint(model, x), y)
    loss.backward()
    for g, e in zip(gradients(model), expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_checkpoint_refuses_a_parameter_that_changed_since_its_cast() -> None:
    w, x = tl.ones(3, 3, requires_grad=True), tl.ones(2, 3, requires_grad=True)
    with bf16():
        F.linear(x, w)
        y = tl.autograd.checkpoint(lambda t: F.linear(t, w), x)
    with tl.no_grad():
        w.mul_(2.0)
    with pytest.raises(tl.GradError, match="modified by an in-place operation"):
        y.sum().backward()


# --- casts of parameters ---------------------------------------------------------------------------------------------


def casts(device: str, work: Call) -> int:
    """How many casts to 16 bits `work` makes on a device."""
    backend = get(device)
    made = 0

    def observe(backend: Any, kernel: str, out: Any, args: Any, params: Any) -> None:
        nonlocal made
        made += kernel == "copy" and out.dtype.char in "eE" and args[0].dtype.char == "f"

    backend.observers = (*backend.observers, observe)
    try:
        work()
    finally:
        backend.observers = tuple(o for o in backend.observers if o is not observe)
    return made


def test_a_parameter_is_cast_once_until_it_changes(device: str) -> None:
    w, x = tl.ones(3, 3, device=device, requires_grad=True), tl.ones(2, 3, dtype=tl.bfloat16, device=device)
    with bf16(device):
        assert casts(device, lambda: (F.linear(x, w), x @ w, F.linear(x, w))) == 1
        with bf16(device):
            assert casts(device, lambda: F.linear(x, w)) == 0
        with autocast(device, tl.float16):
            assert casts(device, lambda: tl.matmul(x, w)) == 1  # and bfloat16 to float16
        assert casts(device, lambda: F.linear(x, w)) == 0
        w.data = tl.full((3, 3), 0.5, device=device)
        assert F.linear(x, w)[0, 0].item() == 1.5
        with tl.no_grad():
            w.mul_(2.0)
        assert F.linear(x, w)[0, 0].item() == 3.0
    with bf16(device):
        assert casts(device, lambda: F.linear(x, w)) == 1
    with bf16(device, cache_enabled=False):
        assert casts(device, lambda: (F.linear(x, w), F.linear(x, w))) == 2


def test_an_optimizers_step_in_the_region_is_seen(device: str) -> None:
    w, x = tl.ones(3, 3, device=device, requires_grad=True), tl.ones(2, 3, device=device)
    optimizer = tl.optim.SGD([w], lr=0.25)
    with bf16(device):
        F.linear(x, w).sum().backward()
        optimizer.step()
        assert F.linear(x, w)[0, 0].item() == 1.5


def test_a_cast_made_without_recording_does_not_serve_one_with(device: str) -> None:
    w, x = tl.ones(3, 3, device=device, requires_grad=True), tl.ones(2, 3, device=device)
    with bf16(device):
        with tl.no_grad():
            F.linear(x, w)
        F.linear(x, w).sum().backward()
    assert w.grad is not None


def test_gradients_of_several_uses_add_up(device: str) -> None:
    w, x = tl.ones(3, 3, device=device, requires_grad=True), tl.ones(2, 3, device=device)
    with bf16(device):
        F.linear(F.linear(x, w), w).sum().backward()
        F.linear(x, w).sum().backward()  # the same cast, in another graph
    assert w.grad is not None and w.grad[0, 0].item() == 2 * 3 + 3 * 2 + 2


def test_casts_die_with_the_region() -> None:
    w = tl.ones(3, 3, requires_grad=True)
    region = bf16()
    with region:
        node = F.linear(w + 1.0, w)._node
        of_result, of_parameter = (weakref.ref(parent) for parent in node.parents[:2])
        del node
        gc.collect()
        assert of_result() is None and of_parameter() is not None
    assert of_parameter() is None


# --- the mode --------------------------------------------------------------------------------------------------------


def test_regions_nest_and_end() -> None:
    x = tl.ones(2, 2)
    seen = []
    with bf16():
        seen.append((x @ x).dtype)
        with autocast("cpu", tl.float16):
            seen.append((x @ x).dtype)
            with autocast("cpu", enabled=False):
                seen.append((x @ x).dtype)
            seen.append((x @ x).dtype)
        seen.append((x @ x).dtype)
    seen.append((x @ x).dtype)
    assert seen == [tl.bfloat16, tl.float16, tl.float32, tl.float16, tl.bfloat16, tl.float32]


def test_a_region_is_of_one_type_of_device(device: str) -> None:
    x = tl.ones(2, 2, device=device)
    for other in ("cpu", "cuda:sim", "cuda"):
        with bf16(other):
            assert (x @ x).dtype is (tl.bfloat16 if other == device else tl.float32)
    with bf16("cpu"), autocast("cuda:sim", tl.float16), autocast("cuda", tl.float16):
        assert (x @ x).dtype is (tl.bfloat16 if device == "cpu" else tl.float16)


def test_an_error_or_interrupt_ends_it() -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), bf16():
            raise error
        assert not is_autocast_enabled()


def test_decorated_functions_and_generators() -> None:
    x = tl.ones(2, 2)

    @bf16()
    def product() -> Any:
        return (x @ x).dtype

    @bf16()
    def products() -> Iterator[Any]:
        yield (x @ x).dtype
        yield (x @ x).dtype

    assert product() is tl.bfloat16
    for dtype in products():
        assert dtype is tl.bfloat16 and (x @ x).dtype is tl.float32


def test_a_thread_begins_without_it() -> None:
    seen = []
    with bf16():
        thread = threading.Thread(target=lambda: seen.append(is_autocast_enabled()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_what_is_in_force() -> None:
    assert in_force() == () and not is_autocast_enabled()
    assert (get_autocast_dtype("cpu"), get_autocast_dtype("cuda")) == (tl.bfloat16, tl.float16)
    with autocast("cuda", tl.bfloat16), autocast("cpu", tl.float16):
        assert get_autocast_dtype("cuda:1") is tl.bfloat16
        assert in_force() == (("cpu", "float16"), ("cuda", "bfloat16"))
        assert is_autocast_enabled("cpu") and not is_autocast_enabled("cuda:sim")


@pytest.mark.parametrize("call,error,message", [
    (lambda: autocast("cpu", tl.float32), tl.ArgumentError, "takes float16 or bfloat16, got float32"),
    (lambda: autocast("gpu"), tl.DeviceError, "did you mean 'cuda'"),
    (lambda: autocast("cpu", "float17"), tl.DTypeError, "not a dtype"),
])
def test_misuse(call: Call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_every_policy_of_an_op_is_by_its_own_name() -> None:
    """The table looks at the name of the function that makes an op; errors and graphs show the op's name."""
    known = [value for module in (ops.fused, ops.matmul, ops.reduce, ops) for value in vars(module).values()
             if isinstance(value, Op) and value.autocast is not None]
    assert len(known) > 20 and all(op.autocast is POLICY[op.name] for op in known)


def test_a_cast_made_before_a_recording_does_not_serve_its_replays(device: str) -> None:
    w, x = tl.ones(3, 3, device=device, requires_grad=True), tl.ones(2, 3, device=device)
    step = tl.capture(lambda x: F.linear(x, w).detach() * 1.0)
    with bf16(device):
        for _ in range(3):
            assert step(x)[0, 0].item() == 3.0
        with tl.no_grad():
            w.mul_(2.0)
        assert step(x)[0, 0].item() == 6.0


def test_only_parameters_are_kept_for_their_casts() -> None:
    w, x = tl.ones(3, 3, requires_grad=True), tl.ones(2, 3)
    seen = weakref.ref(x)
    with bf16(), tl.no_grad():
        F.linear(x, w)
        del x
        gc.collect()
        assert seen() is None
