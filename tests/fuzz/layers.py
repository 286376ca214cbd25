"""The layers that the generator "modules" builds: for a shape, arguments that fit it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuzz.draw import Draw, Shape

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
LAYERS: dict[str, Callable[[Draw, Shape], Arguments | None]] = {}


def layer(
    names: str, *ndims: int
) -> Callable[[Callable[[Draw, Shape], Arguments]], Callable[[Draw, Shape], Arguments]]:
    """Enter layers for inputs of so many dimensions, any number if none is named."""

    def enter(arguments: Callable[[Draw, Shape], Arguments]) -> Callable[[Draw, Shape], Arguments]:
        for name in names.split():
            LAYERS[name] = lambda d, shape: arguments(d, shape) if not ndims or len(shape) in ndims else None
        return arguments

    return enter


@layer("ReLU ReLU6 SiLU Sigmoid Tanh Softsign LogSigmoid Mish Hardswish Hardsigmoid Tanhshrink SELU Identity Flatten")
def plain(d: Draw, shape: Shape) -> Arguments:
    return (), {}


layer("ELU CELU")(lambda d, shape: ((d.pick((1.0, 0.5, 2.0)),), {}))
layer("LeakyReLU")(lambda d, shape: ((d.pick((0.01, 0.3)),), {}))
layer("Hardtanh")(lambda d, shape: ((-0.5, d.pick((0.7, 1.0))), {}))
layer("Softplus")(lambda d, shape: ((d.pick((1, 2)), d.pick((20, 1))), {}))
layer("GELU")(lambda d, shape: ((), {"approximate": d.pick(("none", "tanh"))}))
layer("Softmax LogSoftmax Softmin")(lambda d, shape: ((), {"dim": d.int(-len(shape), len(shape) - 1)}))
layer("Linear")(lambda d, shape: ((shape[-1], d.int(1, 5)), {"bias": d.chance(0.7)}))
layer("Dropout Dropout1d Dropout2d", 3, 4)(lambda d, shape: ((0.0,), {}))


@layer("LayerNorm RMSNorm")
def norm(d: Draw, shape: Shape) -> Arguments:
    inner = list(shape[-d.int(1, len(shape) - 1) :])
    return (inner,), {"eps": d.pick((1e-5, 0.1)), "elementwise_affine": d.chance(0.7)}


@layer("PReLU", 2, 3, 4)
def prelu(d: Draw, shape: Shape) -> Arguments:
    return (d.pick((1, shape[1])), 0.25), {}


@layer("GroupNorm", 2, 3, 4)
def group_norm(d: Draw, shape: Shape) -> Arguments:
    groups = [n for n in range(1, shape[1] + 1) if shape[1] % n == 0]
    return (d.pick(groups), shape[1]), {"affine": d.chance(0.7), "eps": d.pick((1e-5, 0.1))}


@layer("LocalResponseNorm", 3, 4)
def response(d: Draw, shape: Shape) -> Arguments:
    return (d.int(1, 4), 0.1, 0.75, 1.5), {}


def _batch_norm(d: Draw, shape: Shape) -> Arguments:
    return (shape[1],), {
        "eps": d.pick((1e-5, 0.1)),
        "momentum": d.pick((0.1, 0.5, None)),
        "affine": d.chance(0.7),
        "track_running_stats": d.chance(0.7),
    }


layer("BatchNorm1d", 2, 3)(_batch_norm)
layer("BatchNorm2d", 4)(_batch_norm)


def _instance_norm(d: Draw, shape: Shape) -> Arguments:
    return (shape[1],), {"eps": d.pick((1e-5, 0.1)), "affine": d.chance(0.5), "track_running_stats": d.chance(0.5)}


layer("InstanceNorm1d", 3)(_instance_norm)
layer("InstanceNorm2d", 4)(_instance_norm)


def _convolution(d: Draw, shape: Shape) -> Arguments:
    channels = shape[1]
    groups = d.pick([n for n in range(1, channels + 1) if channels % n == 0])
    planes = len(shape) - 2
    kernel = tuple(d.int(1, 3) for _ in range(planes))
    mode = d.pick(("zeros", "zeros", "zeros", "reflect", "replicate", "circular"))
    return (channels, groups * d.int(1, 2), kernel), {
        "stride": d.int(1, 2),
        "padding": d.int(0, 1),
        "dilation": d.int(1, 2),
        "groups": groups,
        "bias": d.chance(0.7),
        "padding_mode": mode,
    }


layer("Conv1d", 3)(_convolution)
layer("Conv2d", 4)(_convolution)


def _transposed(d: Draw, shape: Shape) -> Arguments:
    stride = d.int(1, 2)
    return (shape[1], d.int(1, 3), d.int(1, 3)), {
        "stride": stride,
        "padding": d.int(0, 1),
        "bias": d.chance(0.7),
        "output_padding": d.int(0, stride - 1),
    }


layer("ConvTranspose1d", 3)(_transposed)
layer("ConvTranspose2d", 4)(_transposed)


def _pooling(d: Draw, shape: Shape) -> Arguments:
    kernel = d.int(1, 3)
    return (kernel, d.int(1, 2), d.int(0, kernel // 2)), {"ceil_mode": d.chance(0.4)}


layer("MaxPool1d AvgPool1d", 3)(_pooling)
layer("MaxPool2d AvgPool2d", 4)(_pooling)
layer("AdaptiveAvgPool1d AdaptiveMaxPool1d", 3)(lambda d, shape: ((d.int(1, 4),), {}))
layer("AdaptiveAvgPool2d AdaptiveMaxPool2d", 4)(lambda d, shape: (((d.int(1, 4), d.pick((None, 2))),), {}))


def _padding(d: Draw, shape: Shape) -> Arguments:
    return (tuple(d.int(0, 1) for _ in range(2 * (len(shape) - 2))),), {}


layer("ReflectionPad1d ReplicationPad1d CircularPad1d ZeroPad1d", 3)(_padding)
layer("ReflectionPad2d ReplicationPad2d CircularPad2d ZeroPad2d", 4)(_padding)
layer("ConstantPad1d", 3)(lambda d, shape: ((d.int(0, 2), 1.5), {}))
layer("ConstantPad2d", 4)(lambda d, shape: ((d.int(0, 2), 1.5), {}))
layer("Upsample", 3, 4)(lambda d, shape: ((), {"scale_factor": 2, "mode": d.pick(("nearest",))}))
layer("UpsamplingBilinear2d UpsamplingNearest2d", 4)(lambda d, shape: ((), {"scale_factor": 2}))
layer("Unfold", 4)(lambda d, shape: ((d.int(1, 2),), {"padding": d.int(0, 1), "stride": d.int(1, 2)}))


@layer("PixelShuffle ChannelShuffle", 4)
def shuffle(d: Draw, shape: Shape) -> Arguments | None:
    factors = [r for r in (1, 2) if shape[1] % (r * r) == 0]
    return (d.pick(factors),), {}


@layer("PixelUnshuffle", 4)
def unshuffle(d: Draw, shape: Shape) -> Arguments | None:
    return (d.pick([r for r in (1, 2) if shape[2] % r == 0 and shape[3] % r == 0]),), {}


# --- layers with inputs of their own: arguments, and the inputs' shapes -----------------------------------------------

Special = tuple[tuple[Any, ...], dict[str, Any], list[Shape]]


def recurrent(d: Draw) -> Special:
    n, length, width, hidden = d.int(1, 3), d.int(1, 4), d.int(1, 4), d.int(1, 4)
    options = {
        "num_layers": d.int(1, 2),
        "bias": d.chance(0.8),
        "batch_first": d.chance(0.5),
        "bidirectional": d.chance(0.4),
    }
    return (width, hidden), options, [(n, length, width)]


def cell(d: Draw) -> Special:
    width, hidden = d.int(1, 4), d.int(1, 4)
    return (width, hidden), {"bias": d.chance(0.8)}, [(d.int(1, 3), width)]


def attention(d: Draw) -> Special:
    heads, width = d.int(1, 3), d.int(1, 3)
    n, length = d.int(1, 3), d.int(1, 4)
    shape = (n, length, heads * width)
    return (
        (heads * width, heads),
        {"bias": d.chance(0.8), "batch_first": True, "add_zero_attn": d.chance(0.2)},
        [shape] * 3,
    )


def encoder(d: Draw) -> Special:
    heads, width = d.int(1, 2), d.int(1, 3)
    options = {"dropout": 0.0, "activation": d.pick(("relu", "gelu")), "batch_first": True, "norm_first": d.chance(0.5)}
    return (heads * width, heads, d.int(1, 5)), options, [(d.int(1, 2), d.int(1, 4), heads * width)]


def decoder(d: Draw) -> Special:
    args, options, (shape,) = encoder(d)
    return args, options, [shape, (shape[0], d.int(1, 4), shape[2])]


def bilinear(d: Draw) -> Special:
    a, b, n = d.int(1, 4), d.int(1, 4), d.int(1, 3)
    return (a, b, d.int(1, 3)), {"bias": d.chance(0.7)}, [(n, a), (n, b)]


def pair(d: Draw) -> Special:
    return (), {}, [(d.int(1, 4), d.int(2, 5))] * 2


def regression(d: Draw) -> Special:
    return (), {"reduction": d.pick(("mean", "sum", "none"))}, [(d.int(1, 4), d.int(1, 5))] * 2


SPECIAL: dict[str, Callable[[Draw], Special]] = {
    **dict.fromkeys(("RNN", "GRU", "LSTM"), recurrent),
    **dict.fromkeys(("RNNCell", "GRUCell", "LSTMCell"), cell),
    "MultiheadAttention": attention,
    "TransformerEncoderLayer": encoder,
    "TransformerDecoderLayer": decoder,
    "Bilinear": bilinear,
    "CosineSimilarity": pair,
    "PairwiseDistance": pair,
    **dict.fromkeys(("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss"), regression),
}
