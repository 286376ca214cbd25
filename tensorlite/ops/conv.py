"""Convolutions: three primitives that are each other's derivatives, and what is made of them under PyTorch's names.

Contract. x is (N, C, H, W), weight (K, C/groups, R, S), the result (N, K, P, Q), and with zero beyond x's edges

    conv2d(x, w)[n, k, p, q] = Σ_crs w[k, c, r, s]·x[n, c₀(k) + c, p·stride + r·dilation - padding, ...]

It is linear in x and in w. `conv2d_input_grad(g, w)` and `conv2d_weight_grad(g, x)` are its transposes, so that
<conv2d(x, w), g> = <x, conv2d_input_grad(g, w)> = <w, conv2d_weight_grad(g, x)>: every derivative of any order is one
of the three. What an operation cannot know from its inputs' shapes is its parameter `size`, the last two dimensions of
its result. A signal of one dimension is an image of height 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..autograd.autocast import autocasts
from ..autograd.op import op
from ..autograd.tape import Var
from ..backends import Array, Backend
from ..errors import ArgumentError, ShapeError
from ..mistakes import expected_tensor
from .matmul import require_same_dtype
from .movement import unsqueeze
from .options import Size, require_floating, sizes
from .padding import pad
from .reduce import _sum

if TYPE_CHECKING:
    from ..tensor import Tensor

Shape = tuple[int, ...]

# --- the primitives --------------------------------------------------------------------------------------------------


def _require_fit(name: str, grad: Shape, x: Shape, weight: Shape, *, stride: Any, padding: Any, dilation: Any,
                 groups: int) -> None:
    """Raise ShapeError unless `grad` has the shape of a result: kernels believe shapes, and write where these say."""
    fits = (len(grad) == len(x) == len(weight) == 4 and grad[:2] == (x[0], weight[0])
            and x[1] == weight[1] * groups and weight[0] % groups == 0
            and all((p - 1) * step + (r - 1) * spread < h + 2 * edge or p == 0 for p, step, r, spread, h, edge
                    in zip(grad[2:], stride, weight[2:], dilation, x[2:], padding, strict=True)))
    if not fits:
        raise ShapeError(f"{name}: a gradient of shape {grad} is none of a convolution of {x} with a weight {weight}, "
                         f"groups={groups}, stride={stride}, padding={padding}, dilation={dilation}")


@op
def _conv2d(be: Backend, x: Array, weight: Array, bias: Array, *, size: Any, stride: Any, padding: Any, dilation: Any,
            groups: Any) -> Array:
    return be.fill("conv2d", (x.shape[0], weight.shape[0], *size), x.dtype, x, weight, bias, stride=stride,
                   padding=padding, dilation=dilation, groups=groups)


@op
def conv2d_input_grad(be: Backend, grad: Array, weight: Array, bias: Array, *, size: Any, stride: Any, padding: Any,
                      dilation: Any, groups: Any) -> Array:
    """conv2d's derivative in x, of shape (N, C, *size), plus bias (C,): the transposed convolution of `grad`."""
    shape = (*grad.shape[:1], *[c * groups for c in weight.shape[1:2]], *size)
    _require_fit("conv2d_input_grad", grad.shape, shape, weight.shape, stride=stride, padding=padding,
                 dilation=dilation, groups=groups)
    return be.fill("conv2d_input_grad", shape, grad.dtype, grad, weight, bias, stride=stride, padding=padding,
                   dilation=dilation, groups=groups)


@op
def conv2d_weight_grad(be: Backend, grad: Array, x: Array, *, size: Any, stride: Any, padding: Any, dilation: Any,
                       groups: Any) -> Array:
    """conv2d's derivative in the weight, of shape (K, C/groups, *size)."""
    shape = (*grad.shape[1:2], *[c // groups for c in x.shape[1:2]], *size)
    _require_fit("conv2d_weight_grad", grad.shape, x.shape, shape, stride=stride, padding=padding, dilation=dilation,
                 groups=groups)
    return be.fill("conv2d_weight_grad", shape, x.dtype, grad, x, stride=stride, padding=padding, dilation=dilation,
                   groups=groups)


def _bias_grad(g: Any) -> Any:
    return _sum(g, dims=(0, 2, 3), keepdim=False)


_conv2d.name = "conv2d"
_conv2d.rules(
    x=lambda g, weight, shapes, stride, padding, dilation, groups: conv2d_input_grad(
        g, weight, None, size=shapes[0][2:], stride=stride, padding=padding, dilation=dilation, groups=groups),
    weight=lambda g, x, shapes, stride, padding, dilation, groups: conv2d_weight_grad(
        g, x, size=shapes[1][2:], stride=stride, padding=padding, dilation=dilation, groups=groups),
    bias=_bias_grad,
)
conv2d_input_grad.rules(
    grad=lambda g, weight, shapes, stride, padding, dilation, groups: _conv2d(
        g, weight, None, size=shapes[0][2:], stride=stride, padding=padding, dilation=dilation, groups=groups),
    weight=lambda g, grad, shapes, stride, padding, dilation, groups: conv2d_weight_grad(
        grad, g, size=shapes[1][2:], stride=stride, padding=padding, dilation=dilation, groups=groups),
    bias=_bias_grad,
)
conv2d_weight_grad.rules(
    grad=lambda g, x, shapes, stride, padding, dilation, groups: _conv2d(
        x, g, None, size=shapes[0][2:], stride=stride, padding=padding, dilation=dilation, groups=groups),
    x=lambda g, grad, shapes, stride, padding, dilation, groups: conv2d_input_grad(
        grad, g, None, size=shapes[1][2:], stride=stride, padding=padding, dilation=dilation, groups=groups),
)


# --- under PyTorch's names -------------------------------------------------------------------------------------------


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size | str = 0,
           dilation: Size = 1, groups: int = 1) -> Tensor:
    """Σ_crs weight[k, c, r, s]·input[n, c, p·stride + r·dilation - padding, ...] + bias[k] at (n, k, p, q).

    input (N, C, H, W) or (C, H, W), weight (K, C/groups, R, S), bias (K,), all of one floating dtype. padding counts
    zeros at each edge; 'valid' is none, 'same' as many as keep the size (with stride 1; an odd one comes last). Of the
    channels, split into `groups`, each part sees its own only. Raises ShapeError, DTypeError or ArgumentError.

    >>> tl.conv2d(tl.ones(1, 1, 3, 3), tl.ones(1, 1, 2, 2), padding=1)[0, 0, 0]
    tensor([1., 2., 2., 1.])
    """
    out: Tensor = _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)
    return out


@autocasts
def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size | str = 0,
           dilation: Size = 1, groups: int = 1) -> Tensor:
    """conv2d along one dimension: input (N, C, L) or (C, L), weight (K, C/groups, S), bias (K,), result (N, K, P).

    >>> tl.conv1d(tl.tensor([[1., 2., 4., 8.]]), tl.tensor([[[-1., 1.]]]))
    tensor([[1., 2., 4.]])
    """
    out: Tensor = _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)
    return out


@autocasts
def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1) -> Tensor:
    """The transpose of conv2d: each input element adds the weight, times itself, to the window that conv2d reads there.

    input (N, K, P, Q) or (K, P, Q), weight (K, C/groups, R, S), bias (C,); the result (N, C, H, W) has
    H = (P - 1)·stride - 2·padding + dilation·(R - 1) + output_padding + 1. Of the sizes that conv2d brings to P,
    `output_padding` chooses one; it is less than stride or dilation. Raises as conv2d does.

    >>> tl.conv_transpose2d(tl.tensor([[[1., 2.]]]), tl.ones(1, 1, 1, 2), stride=(1, 2))
    tensor([[[1., 1., 2., 2.]]])
    """
    out: Tensor = _spread("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return out


@autocasts
def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1) -> Tensor:
    """conv_transpose2d along one dimension: input (N, K, P) or (K, P), weight (K, C/groups, S), result (N, C, L).

    >>> tl.conv_transpose1d(tl.tensor([[1., 2.]]), tl.ones(1, 1, 2))
    tensor([[1., 3., 2.]])
    """
    out: Tensor = _spread("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return out


def _convolve(name: str, ndim: int, input: Any, weight: Any, bias: Any, stride: Size, padding: Size | str,
              dilation: Size, groups: int) -> Any:
    _require_operands(name, ndim, input, weight, bias)
    strides, dilations = sizes(name, "stride", stride, ndim, 1), sizes(name, "dilation", dilation, ndim, 1)
    channels = weight.shape[1] * groups
    if groups < 1 or weight.shape[0] % groups:
        raise ShapeError(f"{name}: groups={groups} must be positive and divide the {weight.shape[0]} output channels "
                         f"of weight {tuple(weight.shape)}")
    if input.shape[-ndim - 1] != channels:
        batch = input.ndim == ndim + 1 and channels == 1
        cure = "; for a batch without its channel axis say .unsqueeze(1)" if batch else ""
        raise ShapeError(f"{name}: weight {tuple(weight.shape)} with groups={groups} expects {channels} input "
                         f"channels, got {input.shape[-ndim - 1]} (input {tuple(input.shape)}){cure}")
    _require_bias(name, bias, weight.shape[0])
    kernel = weight.shape[2:]
    x, paddings = _padded(name, input, padding, kernel, strides, dilations)
    size = []
    for n, k, s, p, d in zip(x.shape[-ndim:], kernel, strides, paddings, dilations, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        if room < 0 or k == 0:
            raise ShapeError(f"{name}: the kernel {tuple(kernel)} with dilation {dilations} does not fit into input "
                             f"{tuple(input.shape)} padded by {paddings}")
        size.append(room // s + 1)
    return _as_images(_conv2d, ndim, x, weight, bias, size, strides, paddings, dilations, groups)


def _spread(name: str, ndim: int, input: Any, weight: Any, bias: Any, stride: Size, padding: Size,
            output_padding: Size, groups: int, dilation: Size) -> Any:
    _require_operands(name, ndim, input, weight, bias)
    strides, dilations = sizes(name, "stride", stride, ndim, 1), sizes(name, "dilation", dilation, ndim, 1)
    paddings, extra = sizes(name, "padding", padding, ndim, 0), sizes(name, "output_padding", output_padding, ndim, 0)
    if groups < 1 or weight.shape[0] % groups:
        raise ShapeError(f"{name}: groups={groups} must be positive and divide the {weight.shape[0]} input channels "
                         f"of weight {tuple(weight.shape)}")
    if input.shape[-ndim - 1] != weight.shape[0]:
        raise ShapeError(f"{name}: weight {tuple(weight.shape)} expects {weight.shape[0]} input channels, got "
                         f"{input.shape[-ndim - 1]} (input {tuple(input.shape)})")
    _require_bias(name, bias, weight.shape[1] * groups)
    size = []
    for n, k, s, p, d, e in zip(input.shape[-ndim:], weight.shape[2:], strides, paddings, dilations, extra,
                                strict=True):
        if e >= max(s, d):
            raise ArgumentError(f"{name}: output_padding {extra} must be less than stride {strides} or dilation "
                                f"{dilations}")
        size.append((n - 1) * s - 2 * p + d * (k - 1) + e + 1)
    if min(size) < 1 or 0 in weight.shape[2:] or 0 in input.shape[-ndim:]:
        raise ShapeError(f"{name}: the result of input {tuple(input.shape)}, weight {tuple(weight.shape)} and padding "
                         f"{paddings} would be empty (size {tuple(size)})")
    return _as_images(conv2d_input_grad, ndim, input, weight, bias, size, strides, paddings, dilations, groups)


def _as_images(function: Any, ndim: int, x: Any, weight: Any, bias: Any, size: Sequence[int], stride: tuple[int, ...],
               padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Any:
    """A primitive on batches of images: what is missing of the batch and of two dimensions has size 1 meanwhile."""
    batched, line = x.ndim == ndim + 2, ndim == 1
    if not batched:
        x = unsqueeze(x, 0)
    if line:
        x, weight = unsqueeze(x, 2), unsqueeze(weight, 2)
        size, stride, padding, dilation = (1, *size), (1, *stride), (0, *padding), (1, *dilation)
    out = function(x, weight, bias, size=tuple(size), stride=stride, padding=padding, dilation=dilation, groups=groups)
    if line:
        out = out.squeeze(2)
    return out if batched else out.squeeze(0)


# --- arguments -------------------------------------------------------------------------------------------------------


def _require_operands(name: str, ndim: int, input: Any, weight: Any, bias: Any) -> None:
    for operand in (input, weight) if bias is None else (input, weight, bias):
        if not isinstance(operand, Var):
            raise expected_tensor(name, operand)
        require_same_dtype(name, input, operand)
    require_floating(name, input)
    if weight.ndim != ndim + 2 or input.ndim not in (ndim + 1, ndim + 2):
        layout = "(N, C, H, W) or (C, H, W)" if ndim == 2 else "(N, C, L) or (C, L)"
        cure = "; give it a channel with .unsqueeze(0)" if input.ndim == ndim else ""
        raise ShapeError(f"{name}: expected input {layout} and a weight of {ndim + 2} dimensions, got input "
                         f"{tuple(input.shape)} and weight {tuple(weight.shape)}{cure}")


def _require_bias(name: str, bias: Any, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(f"{name}: bias has shape {tuple(bias.shape)}, expected {(channels,)}")


def _padded(name: str, x: Any, padding: Size | str, kernel: Sequence[int], stride: tuple[int, ...],
            dilation: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """The input, and what of the padding is alike on both sides; what 'same' has beyond that lies around the input."""
    ndim = len(kernel)
    if not isinstance(padding, str):
        return x, sizes(name, "padding", padding, ndim, 0)
    if padding == "valid":
        return x, (0,) * ndim
    if padding != "same":
        raise ArgumentError(f"{name}: padding must be 'same', 'valid', an integer or a tuple, got {padding!r}")
    if max(stride) > 1:
        raise ArgumentError(f"{name}: padding='same' needs stride 1, got {stride}")
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(total % 2 for total in totals):
        x = pad(x, [width for total in reversed(totals) for width in (0, total % 2)])
    return x, tuple(total // 2 for total in totals)
