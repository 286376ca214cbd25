"""What differs from PyTorch on purpose, as a table: the fuzzer's exclusions, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fuzz.calls import FLOATS, Call


class Disagreement(Exception):
    """A difference between the libraries: its kind, what was found, and how far apart two arrays are, relative to 1 or
    their largest element."""

    def __init__(self, kind: str, message: str, apart: float = math.inf) -> None:
        super().__init__(message)
        self.kind, self.apart = kind, apart

    def __str__(self) -> str:
        return f"{self.kind}: {super().__str__()}"


@dataclass(frozen=True)
class Difference:
    """Functions, the kinds of disagreement that are meant, on which calls, how far, and why."""

    reason: str
    names: str
    kinds: str
    when: Callable[[Call, str], bool] = lambda call, message: True
    within: float = math.inf


def saying(*parts: str) -> Callable[[Call, str], bool]:
    """Whether the message has one of these in it."""
    return lambda call, message: any(part in message for part in parts)


def tied(call: Call, message: str) -> bool:
    """Whether a value is a multiple of one half, where all corners are."""
    floats = [leaf.values.astype("float64") for leaf in call.leaves() if leaf.dtype in FLOATS]
    return any(bool((values * 2 % 1 == 0).any()) for values in floats)


def empty(call: Call, message: str) -> bool:
    return any(leaf.values.size == 0 for leaf in call.leaves())


def whole(call: Call, message: str) -> bool:
    """Whether integers are given."""
    return any(leaf.dtype not in FLOATS for leaf in call.leaves())


def mixed(call: Call, message: str) -> bool:
    return len({leaf.dtype for leaf in call.leaves()}) > 1


def subnormal(call: Call, message: str) -> bool:
    least = {"float32": 2.0**-126, "float64": 2.0**-1022}
    return any(
        bool(((leaf.values != 0) & (abs(leaf.values) < least[leaf.dtype])).any())
        for leaf in call.leaves()
        if leaf.dtype in least
    )


def narrow(call: Call, message: str) -> bool:
    return any(leaf.dtype in ("float16", "bfloat16") for leaf in call.leaves())


def with_nan(call: Call, message: str) -> bool:
    return any(bool((leaf.values != leaf.values).any()) for leaf in call.leaves())


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "compiled derivatives, softmax, losses and norms take subnormal numbers for 0 (docs/cpu.md)",
        "*",
        "gradient second",
        subnormal,
    ),
    Difference(
        "a transposed convolution multiplies zeros between the inputs, also by NaN",
        "nn.functional.conv_transpose1d nn.functional.conv_transpose2d",
        "value",
        with_nan,
    ),
    Difference(
        "NaN is beyond no margin for PyTorch; here it is in the sum",
        "nn.functional.multi_margin_loss",
        "value",
        with_nan,
    ),
    Difference(
        "the power of -0 below 0 is inf; PyTorch's root of 16-bit floats keeps the sign of the zero",
        "pow Tensor.pow_ Tensor.__pow__",
        "gradient second",
        tied,
    ),
    Difference(
        "PyTorch has no kernel for the dtype",
        "*",
        "accepted",
        saying("not implemented for", "not supported", "unsupported"),
    ),
    Difference(
        "operands of several dtypes are promoted where PyTorch wants one",
        "lerp addcmul addcdiv Tensor.lerp_ Tensor.addcmul_ Tensor.addcdiv_ matmul mm bmm mv dot addmm tensordot einsum "
        "nn.functional.linear outer nn.functional.bilinear addmv baddbmm cross inner scatter scatter_add "
        "scatter_reduce index_add index_copy masked_scatter",
        "accepted",
        mixed,
    ),
    Difference(
        "integers are divided as floats, or the quotient would be refused", "addcdiv Tensor.addcdiv_", "accepted", whole
    ),
    Difference(
        "logical_not_ has no derivative; PyTorch leaves the history of what was overwritten",
        "Tensor.logical_not_",
        "gradient second",
    ),
    Difference(
        "a Python number outside of an integer dtype is refused; PyTorch wraps it around",
        "*",
        "refused",
        saying("out of bounds for"),
    ),
    Difference(
        "PyTorch keeps 1/6 in float32, and 1/alpha of celu",
        "nn.functional.hardsigmoid nn.functional.celu nn.functional.hardswish nn.functional.elu nn.functional.selu",
        "gradient second",
        within=1e-6,
    ),
    Difference(
        "second derivatives at corners are those of either side",
        "nn.functional.elu nn.functional.celu nn.functional.selu nn.functional.smooth_l1_loss nn.functional.huber_loss "
        "nn.functional.prelu nn.functional.softplus",
        "second",
        tied,
    ),
    Difference(
        "integers to negative integer powers are refused; PyTorch gives 0",
        "pow Tensor.pow_",
        "refused",
        saying("negative integer powers"),
    ),
    Difference("there is no median of nothing; PyTorch gives nan", "median", "refused", empty),
    Difference("unique of nothing is nothing", "unique", "accepted", empty),
    Difference(
        "the count of elements that are not 0 has no derivative; PyTorch gives zeros",
        "norm",
        "requires_grad",
        lambda call, message: call.kwargs.get("p") == 0,
    ),
    Difference("what is made of nothing may have no history", "*", "requires_grad", empty),
    Difference(
        "integers require no gradient; PyTorch's tensor says that it does", "Tensor.fill_", "requires_grad", whole
    ),
    Difference(
        "the logarithms in binary_cross_entropy end at -100 in the target's derivative too; PyTorch's do not",
        "nn.functional.binary_cross_entropy",
        "gradient",
        lambda call, message: any(bool(((leaf.values == 0) | (leaf.values == 1)).any()) for leaf in call.leaves()[:1]),
    ),
    Difference(
        "16-bit floats are compared as float32; PyTorch rounds the tolerance to 16 bits",
        "isclose allclose",
        "value",
        narrow,
    ),
    Difference(
        "second derivatives of distances cancel near 0: of the third root of a cube, of angles at the zero vector",
        "nn.functional.pairwise_distance nn.functional.cosine_similarity nn.functional.triplet_margin_loss",
        "second",
        tied,
        within=1e-6,
    ),
    Difference(
        "second derivatives of distances cancel near 0: of the third root of a cube, of angles at the zero vector",
        "nn.functional.pairwise_distance nn.functional.cosine_similarity nn.functional.triplet_margin_loss",
        "second",
        lambda call, message: any(leaf.dtype != "float64" for leaf in call.leaves()),
    ),
    Difference(
        "running products derive without a division; PyTorch divides by numbers that may be tiny",
        "cumprod",
        "gradient second",
        lambda call, message: any(bool((abs(leaf.values) < 1e-30).any()) for leaf in call.leaves()),
    ),
    Difference(
        "16-bit floats meet integers as 16-bit floats, which integers overflow; PyTorch's meet in float32",
        "mul multiply sub subtract add div true_divide divide Tensor.mul_ Tensor.__mul__",
        "value",
        lambda call, message: narrow(call, message) and whole(call, message),
    ),
    Difference(
        "running sums of e**-1e38 derive exactly; PyTorch's derivative takes logarithms and cancels",
        "logcumsumexp",
        "gradient",
        lambda call, message: any(bool((abs(leaf.values) > 1e4).any()) for leaf in call.leaves()),
    ),
    Difference(
        "a quotient that is broadcast to nothing: its derivative is 0 times infinity",
        "addcdiv Tensor.addcdiv_",
        "gradient second",
        empty,
    ),
    Difference(
        "PyTorch's derivative divides by p(1-p) + 1e-12",
        "nn.functional.binary_cross_entropy",
        "second",
        within=1e-5,
    ),
    Difference("any and all are bool; PyTorch's of uint8 are uint8", "all any", "dtype", whole),
    Difference(
        "a float factor makes integers floats; PyTorch rounds it to an integer, or takes it for one",
        "addmm",
        "dtype refused",
        whole,
    ),
    Difference(
        "numbers that are no integers do not go into integers; PyTorch cuts them",
        "addcmul Tensor.addcmul_",
        "refused",
        whole,
    ),
    Difference(
        "sums of integers in einsum keep the dtype; PyTorch's are int64 where an index is summed alone",
        "einsum",
        "dtype",
        whole,
    ),
    Difference(
        "einsum wants operands of one dtype; PyTorch promotes where it need not multiply matrices",
        "einsum matmul bmm mm tensordot baddbmm Tensor.__matmul__",
        "refused",
        mixed,
    ),
    Difference(
        "bool has no negative",
        "add sub subtract Tensor.index_add_ index_add square",
        "refused",
        lambda call, message: any(leaf.dtype == "bool" for leaf in call.leaves()),
    ),
    Difference(
        "what no index names takes no part in scatter_reduce; PyTorch derives by it where it equals a result",
        "scatter_reduce Tensor.scatter_reduce_",
        "gradient second",
        lambda call, message: call.leaves()[1].shape != call.leaves()[2].shape,
    ),
    Difference("lerp is of floats", "lerp Tensor.lerp_", "refused", whole),
    Difference(
        "a result of no elements is refused: a padding that eats all is an error",
        "nn.functional.conv_transpose1d nn.functional.conv_transpose2d",
        "refused",
        saying("would be empty"),
    ),
    Difference(
        "PyTorch's derivative computes in the integers' dtype, and overflows",
        "atan2 arctan2 lerp Tensor.lerp_ addcmul Tensor.addcmul_ addcdiv Tensor.addcdiv_",
        "gradient second",
        whole,
    ),
    Difference(
        "a number outside of an integer dtype is compared as it is; PyTorch wraps it around",
        "lt le gt ge eq ne Tensor.__lt__ Tensor.__ge__ Tensor.__eq__ Tensor.__ne__",
        "value",
        lambda call, message: whole(call, message) and not hasattr(call.args[1], "dtype"),
    ),
    Difference(
        "the largest of NaN and numbers is NaN; PyTorch's bag passes over it",
        "nn.functional.embedding_bag",
        "value",
        with_nan,
    ),
    Difference(
        "equal elements that take no part in scatter_reduce get no gradient",
        "scatter_reduce Tensor.scatter_reduce_",
        "gradient second",
        lambda call, message: call.kwargs.get("include_self") is False,
    ),
    Difference(
        "all parts of cat have as many dimensions; PyTorch passes over empty ones",
        "cat concat concatenate hstack vstack row_stack dstack column_stack",
        "refused",
        empty,
    ),
    Difference(
        "derivatives of deviations are unbounded near 0: equal elements may have a rounding error for one",
        "std std_mean nn.functional.layer_norm nn.functional.group_norm nn.functional.instance_norm "
        "nn.functional.batch_norm",
        "gradient second",
        lambda call, message: any(leaf.layout.repeated for leaf in call.leaves()),
    ),
    Difference(
        "integers are computed as floats; PyTorch's 1 + abs(x) overflows", "nn.functional.softsign", "value", whole
    ),
    Difference("norm takes any number of dimensions", "norm", "accepted", saying("must be a 2-tuple")),
    Difference(
        "integers have no gradient, and so none is refused",
        "*",
        "accepted",
        saying("Autograd not support dtype", "without overflow"),
    ),
    Difference(
        "a difference of order 0 looks at its dimension", "diff", "refused", lambda call, message: call.kwargs["n"] == 0
    ),
    Difference(
        "a remainder of quotients beyond the range is right; PyTorch's is NaN in wide registers",
        "fmod remainder Tensor.remainder_",
        "value",
        lambda call, message: any(bool((abs(leaf.values.astype("float64")) < 1e-7).any()) for leaf in call.leaves()),
    ),
    Difference("sign(nan) is nan", "sign Tensor.sign_ sgn", "value", saying("nan")),
    Difference(
        "a float factor makes integers floats; PyTorch rounds it to an integer, or takes it for one",
        "addmm",
        "accepted",
        saying("can't be cast"),
    ),
    Difference(
        "rounded quotients derive by the chain rule, 0 times infinity where 1/y overflows; PyTorch says 0",
        "div",
        "gradient",
        lambda call, message: bool(call.kwargs.get("rounding_mode")) and "nan" in message,
    ),
    Difference(
        "correlations are cut at 1, where rounding decides on which side they are", "corrcoef", "gradient second"
    ),
    Difference("a quantile of nothing is NaN or an error of its dimension", "quantile", "accepted", empty),
    Difference("the dtype of counts is that of the weights, of nothing too", "bincount", "dtype", empty),
    Difference("a sum of no products is broadcast like any other", "addmv", "shape", empty),
    Difference(
        "running products are int64; PyTorch's in place cut them to bool",
        "Tensor.cumprod_ Tensor.cumsum_",
        "refused",
        saying("can't be cast"),
    ),
    Difference("the dimension is looked at, of nothing too", "cummax cummin roll", "refused", saying("out of range")),
    Difference("integers are summed and multiplied in one dtype", "einsum", "accepted", saying("expected scalar type")),
    Difference(
        "where min and max are equal, what is below goes to min; PyTorch gives it to none",
        "clamp clip",
        "gradient second",
        lambda call, message: "min" in call.kwargs and "max" in call.kwargs,
    ),
)


def difference_of(call: Call, found: Disagreement) -> str | None:
    """The reason why this disagreement is meant, if it is."""
    for d in DIFFERENCES:
        if (
            (d.names == "*" or call.name in d.names.split())
            and found.kind in d.kinds.split()
            and found.apart <= d.within
            and d.when(call, str(found))
        ):
            return d.reason
    return None
