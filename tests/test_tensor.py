"""Tensor as a Python object: creation, properties, conversion, Python's protocols, memory shared and not shared."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.backends import Device

# --- creation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("made", "dtype", "values"), [
    (lambda: tl.tensor([1, 2]), tl.int64, [1, 2]),
    (lambda: tl.tensor([1.0]), tl.float32, [1.0]),
    (lambda: tl.tensor([True, False]), tl.bool, [True, False]),
    (lambda: tl.tensor([True, 2]), tl.int64, [1, 2]),
    (lambda: tl.tensor([1, 2.5]), tl.float32, [1.0, 2.5]),
    (lambda: tl.tensor(3), tl.int64, 3),
    (lambda: tl.tensor([]), tl.float32, []),
    (lambda: tl.tensor(np.ones(2)), tl.float64, [1.0, 1.0]),
    (lambda: tl.tensor(np.float64(2)), tl.float64, 2.0),
    (lambda: tl.tensor(np.arange(2, dtype=np.int16)), tl.int16, [0, 1]),
    (lambda: tl.tensor([tl.tensor(1.0), tl.tensor(2.0)]), tl.float32, [1.0, 2.0]),
    (lambda: tl.tensor([[1, 2], (3, 4)]), tl.int64, [[1, 2], [3, 4]]),
    (lambda: tl.tensor(range(3)), tl.int64, [0, 1, 2]),
    (lambda: tl.tensor([1, 2], dtype=tl.float16), tl.float16, [1.0, 2.0]),
    (lambda: tl.tensor([1.9], dtype=int), tl.int64, [1]),
    (lambda: tl.tensor(np.array([1, 2], ">i4")), tl.int32, [1, 2]),
    (lambda: tl.Tensor([1.0, 2.0]), tl.float32, [1.0, 2.0]),
    (lambda: tl.arange(3), tl.int64, [0, 1, 2]),
    (lambda: tl.arange(1, 7, 2), tl.int64, [1, 3, 5]),
    (lambda: tl.arange(5, 0, -2), tl.int64, [5, 3, 1]),
    (lambda: tl.arange(0, 1, 0.5), tl.float32, [0.0, 0.5]),
    (lambda: tl.arange(2, dtype=tl.float64), tl.float64, [0.0, 1.0]),
    (lambda: tl.arange(0), tl.int64, []),
    (lambda: tl.linspace(0, 1, 3), tl.float32, [0.0, 0.5, 1.0]),
    (lambda: tl.linspace(0, 1, 1), tl.float32, [0.0]),
    (lambda: tl.logspace(0, 2, 3), tl.float32, [1.0, 10.0, 100.0]),
    (lambda: tl.zeros(2), tl.float32, [0.0, 0.0]),
    (lambda: tl.zeros((1, 2)), tl.float32, [[0.0, 0.0]]),
    (lambda: tl.ones(1, 2, dtype=tl.int8), tl.int8, [[1, 1]]),
    (lambda: tl.ones([2]), tl.float32, [1.0, 1.0]),
    (lambda: tl.zeros(()), tl.float32, 0.0),
    (lambda: tl.full((2,), 1), tl.int64, [1, 1]),
    (lambda: tl.full((2,), True), tl.bool, [True, True]),
    (lambda: tl.full((2,), 1.5), tl.float32, [1.5, 1.5]),
    (lambda: tl.full((), 2, dtype=tl.float64), tl.float64, 2.0),
    (lambda: tl.eye(2, 3), tl.float32, [[1, 0, 0], [0, 1, 0]]),
    (lambda: tl.zeros_like(tl.ones(2, dtype=tl.int16)), tl.int16, [0, 0]),
    (lambda: tl.ones_like(tl.zeros(1), dtype=tl.bool), tl.bool, [True]),
    (lambda: tl.full_like(tl.zeros(2), 3), tl.float32, [3.0, 3.0]),
    (lambda: tl.zeros(2, dtype=tl.int32).new_ones(1, 2), tl.int32, [[1, 1]]),
    (lambda: tl.zeros(2).new_full((2,), 7), tl.float32, [7.0, 7.0]),
    (lambda: tl.zeros(2, dtype=tl.float64).new_tensor([1, 2]), tl.float64, [1.0, 2.0]),
    (lambda: tl.tril_indices(2, 2), tl.int64, [[0, 1, 1], [0, 0, 1]]),
    (lambda: tl.triu_indices(2, 2), tl.int64, [[0, 0, 1], [0, 1, 1]]),
    (lambda: tl.as_tensor([1, 2]), tl.int64, [1, 2]),
    (lambda: tl.as_tensor(2.5), tl.float32, 2.5),
], ids=lambda value: getattr(value, "name", None))
def test_creation(made: Any, dtype: Any, values: Any) -> None:
    x = made()
    assert x.dtype is dtype
    assert x.tolist() == values
    assert not x.requires_grad
    assert x.is_leaf
    assert x.is_contiguous()


def test_creation_options() -> None:
    leaf = {"requires_grad": True}
    for x in (tl.tensor([1.0], **leaf), tl.zeros(2, **leaf), tl.arange(0.0, 2, **leaf), tl.eye(2, **leaf),
              tl.ones_like(tl.zeros(1), **leaf), tl.full((2,), 1.5, **leaf), tl.zeros(1).requires_grad_()):
        assert x.requires_grad
        assert x.is_leaf
    x = tl.zeros(2)
    for made in (tl.empty(2), tl.empty_like(x), tl.ones(1), tl.ones_like(x), tl.full_like(x, 1), tl.zeros_like(x),
                 tl.eye(2), x.new_empty(2), x.new_zeros(2), x.new_ones(2), x.new_full((2,), 1), x.new_tensor([1.0])):
        assert not made.requires_grad
    assert tl.zeros(2, device="cpu").device == Device("cpu")
    assert tl.empty(2, 3).shape == (2, 3)
    assert tl.empty_like(tl.zeros(3, dtype=tl.int8)).dtype is tl.int8


def test_tensor_copies_and_as_tensor_and_from_numpy_share() -> None:
    array = np.zeros(3, np.float32)
    copied, shared, same = tl.tensor(array), tl.as_tensor(array), tl.from_numpy(array)
    array[0] = 1
    assert copied[0].item() == 0
    assert shared[0].item() == same[0].item() == 1
    same[1] = 2
    assert array[1] == 2
    assert tl.as_tensor(shared) is shared
    assert tl.as_tensor(array, dtype=tl.float64).dtype is tl.float64
    x = tl.ones(2, requires_grad=True)
    assert not tl.tensor(x).requires_grad


@pytest.mark.parametrize("view", [lambda a: a[::-1], lambda a: a.T, lambda a: a[:, 1], lambda a: a[::2, ::-2]],
                         ids=["negative", "transposed", "column", "both"])
def test_from_numpy_takes_any_strides(view: Any) -> None:
    array = np.arange(12, dtype=np.float64).reshape(3, 4)
    x = tl.from_numpy(view(array))
    assert x.tolist() == view(array).tolist()
    assert (x * 2).tolist() == (view(array) * 2).tolist()
    assert np.shares_memory(x.numpy(), array)


# --- properties and conversion ----------------------------------------------------------------------------------------


def test_properties() -> None:
    x = tl.zeros(2, 3, 4, dtype=tl.int16)
    assert (x.shape, x.size(), x.size(-1), x.ndim, x.dim(), len(x)) == ((2, 3, 4), (2, 3, 4), 4, 3, 3, 2)
    assert (x.numel(), x.nelement(), x.itemsize, x.element_size(), x.nbytes) == (24, 24, 2, 2, 48)
    assert (x.stride(), x.stride(1), x.transpose(0, 2).stride()) == ((12, 4, 1), 4, (1, 4, 12))
    assert x.is_contiguous()
    assert not x.transpose(0, 1).is_contiguous()
    assert x.mT.shape == (2, 4, 3)
    assert tl.zeros(2, 3).T.shape == (3, 2)
    assert not x.is_floating_point()
    assert not x.is_cuda
    assert x.real is x
    assert x.data_ptr() == x.numpy().ctypes.data


def test_item_and_tolist_give_python_values() -> None:
    for dtype, value in ((tl.float32, 1.5), (tl.float16, 1.5), (tl.bfloat16, 1.5), (tl.int8, 3), (tl.bool, True)):
        x = tl.tensor([value], dtype=dtype)
        assert x.item() == value
        assert type(x.item()) is type(value)
        assert x.tolist() == [value]
        assert type(x.tolist()[0]) is type(value)
    assert tl.tensor([[[7]]]).item() == 7
    assert tl.zeros(2, 0).tolist() == [[], []]


def test_numpy_shares_memory() -> None:
    x = tl.zeros(3)
    x.numpy()[1] = 5
    assert x.tolist() == [0, 5, 0]
    assert x.detach().numpy() is not None
    y = tl.ones(2, requires_grad=True)
    assert y.numpy(force=True).tolist() == [1, 1]
    assert np.asarray(x).dtype == np.float32
    assert np.array(x, dtype=np.float64).dtype == np.float64
    copied = np.array(x)
    copied[0] = 9
    assert x[0].item() == 0
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype=np.int64, copy=False)


def test_to() -> None:
    x = tl.tensor([1.5, -2.5], requires_grad=True)
    assert x.to("cpu") is x
    assert x.to(tl.float32) is x
    assert x.to(device="cpu", dtype=tl.float32) is x
    assert x.to("cpu", copy=True) is not x
    assert x.to(tl.float64).dtype is tl.float64
    assert x.to("float64").dtype is tl.float64
    assert x.to("cpu", tl.float16).dtype is tl.float16
    assert x.to(tl.zeros(1, dtype=tl.int8)).dtype is tl.int8
    assert x.type_as(tl.zeros(1, dtype=tl.float64)).dtype is tl.float64
    assert x.type(tl.int64).tolist() == [1, -2]
    assert x.cpu() is x
    for name, dtype in (("float", tl.float32), ("double", tl.float64), ("half", tl.float16), ("bfloat16", tl.bfloat16),
                        ("int", tl.int32), ("long", tl.int64), ("short", tl.int16), ("bool", tl.bool)):
        assert getattr(x, name)().dtype is dtype
    x.to(tl.float64).sum().backward()
    assert x.grad.dtype is tl.float32
    assert x.grad.tolist() == [1, 1]
    assert not x.to(tl.int64).requires_grad


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "cuda:sim"])
def test_device_names(name: str) -> None:
    device = tl.device(name)
    assert tl.device(device) is device
    assert str(device) == {"cuda": "cuda:0"}.get(name, name)
    assert device == tl.device(str(device))
    assert hash(device) == hash(tl.device(str(device)))


def test_a_bare_index_is_a_gpu() -> None:
    assert tl.device(1) == tl.device("cuda:1")
    assert repr(tl.device("cuda")) == "device(type='cuda', index=0)"
    assert repr(tl.device("cpu")) == "device(type='cpu')"


# --- Python's protocols -----------------------------------------------------------------------------------------------


def test_truth() -> None:
    assert tl.tensor(2.0)
    assert not tl.tensor([[0]])
    for x in (tl.ones(2), tl.ones(0)):
        with pytest.raises(ValueError, match="ambiguous"):
            bool(x)


def test_numbers() -> None:
    x = tl.tensor([3])
    assert float(x) == 3.0
    assert int(x) == 3
    assert operator.index(x) == 3
    assert [10, 11, 12, 13][x] == 13
    assert list(range(5))[tl.tensor(1):tl.tensor(3)] == [1, 2]
    with pytest.raises(TypeError, match="only integer tensors"):
        operator.index(tl.tensor(1.0))
    assert math.sqrt(tl.tensor(4.0)) == 2


def test_format() -> None:
    assert f"{tl.tensor(3.14159):.2f}" == "3.14"
    assert f"{tl.tensor(5):03d}" == "005"
    assert f"{tl.tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    with pytest.raises(TypeError):
        format(tl.tensor([1.0, 2.0]), ".2f")


def test_length_iteration_membership() -> None:
    x = tl.tensor([[1, 2], [3, 4], [5, 6]])
    assert len(x) == 3
    assert [row.tolist() for row in x] == [[1, 2], [3, 4], [5, 6]]
    assert [row.tolist() for row in reversed(x)] == [[5, 6], [3, 4], [1, 2]]
    assert 4 in x
    assert 7 not in x
    first, *rest = x
    assert first.tolist() == [1, 2]
    assert len(rest) == 2
    for fails in (lambda: len(tl.tensor(1)), lambda: list(tl.tensor(1))):
        with pytest.raises(TypeError, match="0-d"):
            fails()


def test_equality_is_elementwise_and_hash_by_identity() -> None:
    x, y = tl.tensor([1, 2]), tl.tensor([1, 2])
    assert (x == y).tolist() == [True, True]
    assert (x != tl.tensor([1, 3])).tolist() == [False, True]
    assert (x == 1).tolist() == [True, False]
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


def test_operators_with_python_and_numpy_operands_on_either_side() -> None:
    x = tl.tensor([1.0, 4.0])
    array = np.array([2.0, 3.0], np.float32)
    for symbol in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        function = getattr(operator, symbol)
        for other in (2, 0.5, array):
            for result, expected in ((function(x, other), function(x.numpy(), other)),
                                     (function(other, x), function(other, x.numpy()))):
                assert isinstance(result, tl.Tensor)
                np.testing.assert_allclose(result.numpy(), expected, 1e-6)
    assert (~tl.tensor([True])).tolist() == [False]
    assert (tl.tensor([6]) & 3 | 8 ^ 1).tolist() == [11]
    assert (1 << tl.tensor([1, 2])).tolist() == [2, 4]
    assert (+x).tolist() == x.tolist()
    assert abs(-x).tolist() == x.tolist()
    assert (tl.ones(2, 2) @ x).tolist() == [5, 5]


@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_in_place_operators_keep_the_object_and_its_memory(symbol: str) -> None:
    x = tl.tensor([5.0, 7.0])
    before, address = x, x.data_ptr()
    expected = getattr(operator, symbol)(tl.tensor([5.0, 7.0]), 2.0)
    x = getattr(operator, "i" + symbol)(x, 2.0)
    assert x is before
    assert x.data_ptr() == address
    assert x.tolist() == expected.tolist()


def test_in_place_bit_operators() -> None:
    x = tl.tensor([6])
    x &= 3
    x |= 8
    x ^= 1
    x <<= 1
    x >>= 2
    assert x.tolist() == [5]


IN_PLACE = {
    "add_": (2,), "sub_": (2,), "mul_": (2,), "div_": (2,), "pow_": (2,), "floor_divide_": (2,), "remainder_": (2,),
    "neg_": (), "abs_": (), "square_": (), "reciprocal_": (), "exp_": (), "log_": (), "sqrt_": (), "sin_": (),
    "cos_": (), "tanh_": (), "sigmoid_": (), "relu_": (), "floor_": (), "ceil_": (), "round_": (),
    "clamp_": (1, 2), "clip_": (1, 2), "lerp_": (tl.ones(3), 0.5), "addcmul_": (tl.ones(3), tl.ones(3)),
    "addcdiv_": (tl.ones(3), tl.ones(3)),
    "masked_fill_": (tl.tensor([True, False, True]), 9), "scatter_": (0, tl.tensor([1]), 5.0),
    "scatter_add_": (0, tl.tensor([1]), tl.ones(1)), "index_add_": (0, tl.tensor([1]), tl.ones(1)),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_methods_equal_their_functions(name: str) -> None:
    x = tl.tensor([0.5, 1.5, 2.5])
    expected = getattr(x, name.rstrip("_"))(*IN_PLACE[name])
    address, result = x.data_ptr(), getattr(x, name)(*IN_PLACE[name])
    assert result is x
    assert x.data_ptr() == address
    assert x.tolist() == expected.tolist()


def test_in_place_filling() -> None:
    x = tl.zeros(2, 2)
    assert x.fill_(3).tolist() == [[3, 3], [3, 3]]
    assert x.copy_(tl.tensor([1, 2])).tolist() == [[1, 2], [1, 2]]
    assert x.tril_().tolist() == [[1, 0], [1, 2]]
    assert x.triu_(1).tolist() == [[0, 0], [0, 0]]
    assert x.logical_not_().tolist() == [[1, 1], [1, 1]]
    assert x.zero_().sum().item() == 0


def test_deepcopy_and_pickle_of_leaves() -> None:
    x = tl.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (x * x).sum().backward()
    for made in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert made.tolist() == x.tolist()
        assert made.requires_grad
        assert made.is_leaf
        assert not np.shares_memory(made.detach().numpy(), x.detach().numpy())
    copied = copy.deepcopy([x, x])
    assert copied[0] is copied[1]
    assert copied[0].grad.tolist() == x.grad.tolist()
    assert copied[0].grad is not x.grad
    for fails in (lambda: copy.deepcopy(x * 2), lambda: pickle.dumps(x * 2)):
        with pytest.raises(RuntimeError, match="only leaf tensors"):
            fails()
    for special in (tl.tensor(2, dtype=tl.int8), tl.zeros(0, 3), tl.tensor([1.5], dtype=tl.bfloat16), tl.ones(3, 2).T):
        again = pickle.loads(pickle.dumps(special))
        assert (again.shape, again.dtype, again.tolist()) == (special.shape, special.dtype, special.tolist())


# --- DLPack -----------------------------------------------------------------------------------------------------------


def test_dlpack_with_numpy_shares_memory() -> None:
    x = tl.arange(3)
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.numpy())
    back = tl.from_dlpack(array)
    back[0] = 7
    assert x.tolist() == [7, 1, 2]
    with pytest.raises(RuntimeError, match="require gradient"):
        np.from_dlpack(tl.ones(2, requires_grad=True))


def test_dlpack_with_torch_shares_memory() -> None:
    torch = pytest.importorskip("torch")
    x = tl.tensor([[1.0, 2.0], [3.0, 4.0]])
    theirs = torch.from_dlpack(x)
    theirs[0, 0] = 9
    assert x[0, 0].item() == 9
    ours = tl.from_dlpack(theirs.T)
    assert ours.tolist() == theirs.T.tolist()
    ours[1, 0] = 5
    assert theirs[0, 1].item() == 5
    assert tl.tensor(torch.ones(2)).tolist() == [1, 1]


# --- names -----------------------------------------------------------------------------------------------------------

# Operations that at least four of six libraries have (PyTorch, tinygrad, MLX, JAX, Chainer, the array API standard).
FUNCTIONS = """
    abs acos add argmax argmin asin atan atanh broadcast_to ceil clip cos cosh cumprod cumsum diagonal exp flip
    floor log log10 log2 matmul max maximum min minimum prod reshape sign sin sinh sqrt square squeeze sum tan
    tanh trunc unsqueeze where acosh all any argsort asinh atan2 bitwise_and bitwise_left_shift bitwise_not
    bitwise_or bitwise_right_shift bitwise_xor cat div eq expm1 eye flatten gather isfinite isinf isnan log1p
    logaddexp logical_not mean moveaxis mul ne neg permute pow reciprocal remainder roll round sort split stack
    std sub tile transpose tril triu unbind var allclose arange conj copysign count_nonzero diag diff einsum
    empty empty_like erf floor_divide fmod full full_like ge gt imag isclose le linspace logical_and logical_or
    logical_xor logsumexp lt meshgrid nonzero ones ones_like outer positive real rsqrt scatter sigmoid softmax
    swapaxes take tensordot trace zeros zeros_like
""".split()
METHODS = """
    abs acos add argmax argmin asin atan atanh broadcast_to ceil clip cos cosh cumprod cumsum diagonal exp flip
    floor log log10 log2 matmul max maximum min minimum prod repeat reshape sign sin sinh sqrt square squeeze
    sum tan tanh to trunc unsqueeze where acosh all any argsort asinh atan2 bitwise_and bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor div eq expm1 flatten gather isfinite isinf isnan
    log1p logaddexp logical_not mean moveaxis mul ne neg permute pow reciprocal remainder roll round sort split
    std sub tile transpose tril triu unbind var T allclose conj copysign count_nonzero diag diff dtype erf
    floor_divide fmod ge gt isclose item le logical_and logical_or logical_xor logsumexp lt nbytes ndim nonzero
    outer positive real rsqrt scatter shape sigmoid size softmax swapaxes take tolist trace view
""".split()


def test_the_common_operations_are_there_as_functions_and_methods() -> None:
    assert [name for name in FUNCTIONS if not hasattr(tl, name)] == []
    assert [name for name in METHODS if not hasattr(tl.Tensor, name)] == []


def test_a_function_that_is_a_method_in_pytorch_is_a_method_here() -> None:
    torch = pytest.importorskip("torch")
    functions = {name for name, value in vars(tl.ops).items() if callable(value) and not name.startswith("_")}
    functions -= {"imag", "layer_norm", "dropout"}  # a property there; functions of nn.functional here, as these are:
    functions -= {"batch_norm", "group_norm", "rms_norm", "max_pool2d", "gru", "lstm"}
    assert sorted(name for name in functions if hasattr(torch.Tensor, name) and not hasattr(tl.Tensor, name)) == []
    assert sorted(name for name in functions if hasattr(torch, name) and not hasattr(tl, name)) == []
