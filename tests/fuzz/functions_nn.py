"""Functions of layers: convolutions, pooling, norms, losses, embeddings, attention, resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzz.calls import Call, Leaf
from fuzz.draw import Draw, Shape
from fuzz.functions_elementwise import tame
from fuzz.table import row


def leaves(d: Draw, dtype: str, *shapes: Shape, kind: str | None = None) -> tuple[Leaf, ...]:
    return tuple(d.leaf(s, dtype, kind or ("smooth" if d.kind == "wide" else None)) for s in shapes)


def plain(d: Draw) -> str:
    """A dtype of layers: mostly float64, in which a wrong formula shows; and tame values."""
    tame(d)
    return d.pick(("float64", "float64", "float64", "float32", "float32", "float16", "bfloat16"))


def batch(d: Draw) -> Shape:
    return (d.int(1, 3),) if d.chance(0.8) else ()


@row("nn.functional.conv1d nn.functional.conv2d conv2d")
def convolution(d: Draw, name: str) -> Call:
    planes = 1 if "1d" in name else 2
    groups = d.pick((1, 1, 2, 3))
    inner, outer = groups * d.int(1, 2), groups * d.int(1, 2)
    kernel = tuple(d.int(1, 3) for _ in range(planes))
    size = tuple(d.int(1, 7) for _ in range(planes))
    if d.chance(0.01):
        inner += 1
    shapes = [(*batch(d), inner, *size), (outer, max(inner // groups, 1), *kernel), (outer,)]
    args = leaves(d, plain(d), *shapes[: 2 + d.chance(0.6)])
    kwargs: dict[str, Any] = {"groups": groups}
    if d.chance(0.5):
        kwargs["stride"] = d.pick((1, 2, 3))
    if d.chance(0.6):
        kwargs["padding"] = d.pick((0, 1, 2, tuple(d.int(0, 2) for _ in range(planes))))
    if d.chance(0.3):
        kwargs["dilation"] = d.pick((1, 2, tuple(d.int(1, 3) for _ in range(planes))))
    if d.chance(0.1):
        kwargs |= {"padding": d.pick(("same", "valid"))}
        kwargs.pop("stride", None)
    return Call(name, args, kwargs)


@row("nn.functional.conv_transpose1d nn.functional.conv_transpose2d")
def transposed(d: Draw, name: str) -> Call:
    planes = 1 if "1d" in name else 2
    groups = d.pick((1, 1, 2))
    inner, outer = groups * d.int(1, 2), d.int(1, 2)
    kernel = tuple(d.int(1, 3) for _ in range(planes))
    size = tuple(d.int(1, 5) for _ in range(planes))
    stride = d.int(1, 3)
    args = leaves(
        d, plain(d), *[(*batch(d), inner, *size), (inner, outer, *kernel), (outer * groups,)][: 2 + d.chance(0.6)]
    )
    return Call(
        name,
        args,
        {
            "stride": stride,
            "padding": d.int(0, 1),
            "groups": groups,
            "dilation": d.int(1, 2),
            "output_padding": d.int(0, stride - 1),
        },
    )


@row("nn.functional.max_pool1d nn.functional.max_pool2d nn.functional.avg_pool1d nn.functional.avg_pool2d")
def pooled(d: Draw, name: str) -> Call:
    planes = 1 if "1d" in name else 2
    largest = "max" in name
    shape = (*batch(d), d.int(1, 3), *(d.int(2, 7) for _ in range(planes)))
    kernel = d.int(1, 3) if planes == 1 or d.chance(0.5) else (d.int(1, 3), d.int(1, 3))
    kwargs: dict[str, Any] = {"ceil_mode": d.chance(0.4)}
    if d.chance(0.6):
        kwargs["stride"] = d.int(1, 3)
    if d.chance(0.4):
        kwargs["padding"] = (kernel if isinstance(kernel, int) else min(kernel)) // 2
    if largest and d.chance(0.3):
        kwargs["dilation"] = 2
    if largest and d.chance(0.3):
        kwargs["return_indices"] = True
    if not largest and d.chance(0.5):
        kwargs["count_include_pad"] = d.chance(0.5)
    if name.endswith("avg_pool2d") and d.chance(0.2):
        kwargs["divisor_override"] = d.int(1, 5)
    return Call(name, (*leaves(d, plain(d), shape), kernel), kwargs)


@row(
    "nn.functional.adaptive_avg_pool1d nn.functional.adaptive_avg_pool2d nn.functional.adaptive_max_pool1d",
    "nn.functional.adaptive_max_pool2d",
)
def adaptive(d: Draw, name: str) -> Call:
    planes = 1 if "1d" in name else 2
    shape = (*batch(d), d.int(1, 3), *(d.int(1, 7) for _ in range(planes)))
    size = d.int(1, 5) if planes == 1 or d.chance(0.5) else (d.pick((None, 1, 3)), d.int(1, 4))
    return Call(
        name, (*leaves(d, plain(d), shape), size), {"return_indices": True} if "max" in name and d.chance(0.4) else {}
    )


@row("nn.functional.unfold nn.functional.fold")
def columns(d: Draw, name: str) -> Call:
    kernel, stride, dilation = (d.int(1, 3), d.int(1, 3)), d.int(1, 2), d.int(1, 2)
    padding = d.int(0, 2)
    size = tuple(d.int(1, 4) + dilation * (k - 1) for k in kernel)
    kwargs = {"kernel_size": kernel, "stride": stride, "dilation": dilation, "padding": padding}
    if name.endswith("unfold"):
        return Call(name, leaves(d, plain(d), (d.int(1, 2), d.int(1, 3), *size)), kwargs)
    count = np.prod(
        [(n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)]
    )
    shape = (*batch(d), d.int(1, 2) * kernel[0] * kernel[1], int(count) + d.chance(0.02))
    return Call(name, (*leaves(d, plain(d), shape), size), kwargs)


@row("nn.functional.interpolate")
def interpolate(d: Draw, name: str) -> Call:
    planes = d.int(1, 2)
    mode = d.pick(("nearest", "nearest-exact", "linear" if planes == 1 else "bilinear", "area"))
    shape = (d.int(1, 2), d.int(1, 2), *(d.int(1, 5) for _ in range(planes)))
    kwargs: dict[str, Any] = {"mode": mode}
    if d.chance(0.6):
        kwargs["size"] = [d.int(1, 8) for _ in range(planes)]
    else:
        kwargs["scale_factor"] = d.pick((2, 1.5, 0.5, 3.0))
    if "linear" in mode:
        kwargs["align_corners"] = d.chance(0.5)
    return Call(name, leaves(d, plain(d), shape, kind="smooth"), kwargs)


@row("nn.functional.pixel_shuffle nn.functional.pixel_unshuffle nn.functional.channel_shuffle")
def shuffled(d: Draw, name: str) -> Call:
    r = d.int(1, 3)
    if "pixel_sh" in name:
        return Call(name, (d.leaf((*batch(d), r * r * d.int(1, 2), d.int(1, 3), d.int(1, 3))), r), exact=True)
    if "pixel" in name:
        return Call(name, (d.leaf((*batch(d), d.int(1, 2), r * d.int(1, 3), r * d.int(1, 3))), r), exact=True)
    return Call(name, (d.leaf((d.int(1, 3), r * d.int(1, 2), d.int(1, 3), d.int(1, 3)), plain(d)), r), exact=True)


# --- norms ------------------------------------------------------------------------------------------------------------


@row("nn.functional.layer_norm nn.functional.rms_norm nn.functional.group_norm nn.functional.local_response_norm")
def normalized(d: Draw, name: str) -> Call:
    dtype = plain(d)
    shape = d.shape(2 if "group" in name else 3 if "local" in name else 1, 4, empty=d.chance(0.1))
    if name.endswith("group_norm"):
        groups = d.int(1, 3)
        shape = (shape[0], groups * d.int(1, 2), *shape[2:])
        x, w, b = leaves(d, dtype, shape, shape[1:2], shape[1:2])
        return Call(name, (x, groups, *((w, b) if d.chance(0.6) else ())))
    if name.endswith("local_response_norm"):
        return Call(
            name,
            (*leaves(d, dtype, shape), d.int(1, 4)),
            {"alpha": 0.3, "beta": d.pick((0.75, 1.0)), "k": d.pick((1.0, 2.0))},
        )
    inner = shape[-d.int(1, len(shape)) :]
    x, w, b = leaves(d, dtype, shape, inner, inner)
    eps = {"eps": d.pick((1e-5, 0.1))} if d.chance(0.5) or "rms" in name else {}
    given = (w, b)[: 1 if "rms" in name else 2] if d.chance(0.6) else ()
    return Call(name, (x, list(inner), *given), eps)


@row("nn.functional.batch_norm nn.functional.instance_norm")
def batch_norm(d: Draw, name: str) -> Call:
    dtype = plain(d)
    channels = d.int(1, 3)
    shape = (d.int(1, 4), channels, *(d.int(1, 4) for _ in range(d.int("instance" in name, 2))))
    x, w, b = leaves(d, dtype, shape, (channels,), (channels,))
    mean, var = (d.leaf((channels,), dtype, kind, grad=0.0, repeats=False) for kind in ("smooth", "positive"))
    training = d.chance(0.6)
    stats = (mean, var) if not training or d.chance(0.5) else (None, None)
    return Call(
        name,
        (x, *stats, *((w, b) if d.chance(0.6) else (None, None)), training),
        {"momentum": 0.3, "eps": d.pick((1e-5, 0.1))},
    )


# --- losses -----------------------------------------------------------------------------------------------------------


@row(
    "nn.functional.mse_loss nn.functional.l1_loss nn.functional.smooth_l1_loss nn.functional.huber_loss",
    "nn.functional.binary_cross_entropy nn.functional.binary_cross_entropy_with_logits nn.functional.kl_div",
)
def loss(d: Draw, name: str) -> Call:
    dtype, shape = plain(d), d.shape()
    reduction = {"reduction": d.pick(("mean", "sum", "none", *(["batchmean"] if "kl" in name else [])))}
    short = name.rpartition(".")[2]
    if short == "binary_cross_entropy":
        return Call(
            name,
            (
                d.leaf(shape, dtype, "unit"),
                d.leaf(shape, dtype, "unit"),
                *([d.leaf(shape, dtype, "positive", grad=0.0)] if d.chance(0.3) else []),
            ),
            reduction,
        )
    if short == "binary_cross_entropy_with_logits":
        extra = {"pos_weight": d.leaf(shape[-1:], dtype, "positive", grad=0.0)} if d.chance(0.4) and shape else {}
        return Call(name, (d.leaf(shape, dtype), d.leaf(shape, dtype, "unit")), reduction | extra)
    if short == "kl_div":
        return Call(
            name, (d.leaf(shape, dtype), d.leaf(shape, dtype, "unit")), reduction | {"log_target": d.chance(0.4)}
        )
    extra = {"smooth_l1_loss": {"beta": d.pick((1.0, 0.5, 0.0))}, "huber_loss": {"delta": d.pick((1.0, 0.5))}}.get(
        short, {}
    )
    return Call(name, (d.leaf(shape, dtype), d.leaf(shape, dtype)), reduction | extra)


@row("nn.functional.cross_entropy nn.functional.nll_loss")
def classes(d: Draw, name: str) -> Call:
    dtype, n, c = plain(d), d.int(1, 5), d.int(1, 5)
    rest = tuple(d.int(1, 3) for _ in range(d.int(0, 2)))
    x = d.leaf((n, c, *rest), dtype, "smooth" if d.kind == "nans" else None)
    kwargs: dict[str, Any] = {"reduction": d.pick(("mean", "sum", "none"))}
    if d.chance(0.3):
        kwargs["weight"] = d.leaf((c,), dtype, "positive", grad=0.0)
    if "cross" in name and d.chance(0.2):
        return Call(name, (x, d.leaf(x.shape, dtype, "unit")), kwargs | {"label_smoothing": d.pick((0.0, 0.2))})
    if d.chance(0.3):
        kwargs["ignore_index"] = d.int(0, c - 1)
    if "cross" in name and d.chance(0.3):
        kwargs["label_smoothing"] = 0.2
    return Call(name, (x, d.index((n, *rest), c)), kwargs)


@row("nn.functional.cosine_similarity nn.functional.pairwise_distance")
def distance(d: Draw, name: str) -> Call:
    a, b = d.broadcastable(2, 1)
    dtype = plain(d)
    if "cosine" in name:
        return Call(name, (d.leaf(a, dtype), d.leaf(b, dtype)), {"dim": d.dim(max(len(a), len(b)))})
    return Call(name, (d.leaf(a, dtype), d.leaf(a, dtype)), {"p": d.pick((2.0, 1.0, 3.0)), "keepdim": d.chance(0.5)})


# --- the rest ---------------------------------------------------------------------------------------------------------


@row("nn.functional.prelu")
def prelu(d: Draw, name: str) -> Call:
    shape = d.shape(1)
    channels = shape[1] if len(shape) > 1 else 1
    return Call(name, leaves(d, plain(d), shape, (channels if d.chance(0.6) else 1,)), exact=True)


@row("nn.functional.one_hot")
def one_hot(d: Draw, name: str) -> Call:
    n = d.int(1, 5)
    return Call(name, (d.index(d.shape(0, 2), n), d.pick((n, n + 1, -1))))


@row("nn.functional.embedding nn.functional.embedding_bag")
def embedding(d: Draw, name: str) -> Call:
    rows, width = d.int(1, 6), d.int(1, 4)
    dtype = plain(d)
    weight = d.leaf((rows, width), dtype)
    if name.endswith("embedding"):
        kwargs = {"padding_idx": d.int(-rows, rows - 1)} if d.chance(0.4) else {}
        return Call(name, (d.index(d.shape(0, 3), rows), weight), kwargs)
    mode = d.pick(("sum", "mean", "max"))
    kwargs: dict[str, Any] = {"mode": mode}
    if d.chance(0.4):
        kwargs["padding_idx"] = d.int(0, rows - 1)
    if d.chance(0.5):
        ids = d.index((d.int(0, 3), d.int(1, 4)), rows)
    else:
        ids = d.index((d.int(1, 8),), rows)
        cuts = sorted(d.int(0, ids.shape[0]) for _ in range(d.int(0, 3)))
        kwargs["offsets"] = Leaf(np.asarray([0, *cuts], np.int64), "int64")
    if mode == "sum" and d.chance(0.4):
        kwargs["per_sample_weights"] = d.leaf(ids.shape, dtype)
    return Call(name, (ids, weight), kwargs)


@row("nn.functional.scaled_dot_product_attention")
def attention(d: Draw, name: str) -> Call:
    heads = tuple(d.int(1, 2) for _ in range(d.int(0, 2)))
    n, m, e, v = d.int(1, 5), d.int(1, 5), d.int(1, 4), d.int(1, 4)
    dtype = d.pick(("float64", "float64", "float32"))
    q, k, values = leaves(d, dtype, (*heads, n, e), (*heads, m, e), (*heads, m, v), kind="smooth")
    kwargs: dict[str, Any] = {"scale": 0.4} if d.chance(0.3) else {}
    if d.chance(0.3):
        kwargs["is_causal"] = True
    elif d.chance(0.5):
        kwargs["attn_mask"] = d.leaf((n, m), "bool") if d.chance(0.5) else d.leaf((n, m), dtype, "smooth")
    return Call(name, (q, k, values), kwargs)


@row("nn.functional.max_unpool2d")
def unpooled(d: Draw, name: str) -> Call:
    n, channels, height, width = (d.int(1, 3) for _ in range(4))
    place = np.arange(height * width).reshape(height, width)
    corner = (place // width) * 2 * (2 * width) + (place % width) * 2  # the first of each window of 2 by 2
    index = np.broadcast_to(corner, (n, channels, height, width)) + d.int(0, 1) + 2 * width * d.int(0, 1)
    return Call(name, (d.leaf((n, channels, height, width), plain(d)), Leaf(index.astype(np.int64), "int64"), 2))
