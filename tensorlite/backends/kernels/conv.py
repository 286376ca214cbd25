"""Convolutions: which sum each of the three kernels is (kernels/conv.cuh), and who computes it.

Tiles on tensor cores, or in float32, take what has channels enough to fill them (kernels/conv_tiles.cu); all else goes
to plain loops (kernels/conv.cu). Float32 takes tensor cores where `tl.set_float32_matmul_precision` allows TF32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ShapeError
from .. import FLOATING, Array, computing
from ..precision import get_float32_matmul_precision
from . import THREADS, Grid, Instance, KernelBackend, Launcher, Plan, one_dimensional
from .elementwise import FLOATS, refusal
from .layout import LARGE, c_type, element_strides

FILE, TILES_FILE = "conv.cu", "conv_tiles.cu"
PHASES = 4  # of one dimension in a launch, as in kernels/conv.cuh

COLUMNS, PACKS = 128, 4  # of a tile, and of its rows in a step, as in kernels/conv_tiles.cu
NARROW_TILE, WIDE_TILE = 16, 64  # rows of a tile
_TILE_THREADS = {NARROW_TILE: 128, WIDE_TILE: 256}
_LEAST_ROWS, _LEAST_CHANNELS = 8, 3  # with fewer, half a tile or more would be empty
_MOST_BLOCKS = 65535  # of a grid's second and third dimension

EACH = 4  # rows or taps of a thread without tiles
_BLOCKS = 512  # into which a sum over pixels is split, about: enough for a large GPU, whatever the GPU
_LEAST_LINES, _LEAST_PACKS = 16, 64  # of a split
_PARTIALS = 2**22  # elements of all splits' sums, at most


class Axis(NamedTuple):
    """Mirrors `Axis` of kernels/conv.cuh."""

    size: int
    stride: int
    pixels: int
    taps: int
    start: int
    pixel_step: int
    tap_step: int
    map_start: int
    map_stride: int
    weight_start: int
    weight_stride: int


class Problem(NamedTuple):
    """A call as kernels/conv.cuh sees it: sizes, strides in elements, and the phases of both dimensions."""

    of_weight: bool
    dtype: np.dtype[Any]
    images: int
    groups: int
    rows: int
    channels: int
    source_image: int
    source_channel: int
    map_image: int
    map_row: int
    weight_group: int
    weight_row: int
    weight_channel: int
    bias_row: int
    down: list[Axis]
    across: list[Axis]

    @property
    def taps(self) -> int:
        """Those of one row, in the first phase."""
        return self.channels * self.down[0].taps * self.across[0].taps

    @property
    def pixels(self) -> int:
        """Those of all images, in the first phase."""
        return self.images * self.down[0].pixels * self.across[0].pixels

    @property
    def weights(self) -> int:
        return self.groups * self.rows * self.taps

    def values(self, splits: int = 1, share: int = 0, first_phases: tuple[int, int] = (0, 0)) -> list[int]:
        """The fields of a `Conv` after its pointers, for the phases from these on."""
        down, across = (phases[first:first + PHASES]
                        for phases, first in zip((self.down, self.across), first_phases, strict=True))
        axes = [field for phases in (down, across)
                for axis in (*phases, *[phases[0]] * (PHASES - len(phases))) for field in axis]
        return [*self[2:14], splits, share, len(across), *axes]


class Launches(NamedTuple):
    """The launches of a call: of some phases each, or of splits whose sums lie in scratch, and are then added up."""

    plans: list[Plan]
    finish: Plan | None = None
    scratch: int = 0  # elements


def conv2d(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """out (N, K, P, Q) = the convolution of x (N, C, H, W) with weight (K, C/groups, R, S), plus bias (K,) or None."""
    x, weight, bias = args
    _run(backend, kernel, out, args, params, (out, weight, x, bias))


def conv2d_input_grad(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                      params: dict[str, Any]) -> None:
    """out (N, C, H, W) = the transposed convolution of g (N, K, P, Q), plus bias (C,) or None."""
    g, weight, bias = args
    _run(backend, kernel, out, args, params, (out, weight, g, bias))


def conv2d_weight_grad(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...],
                       params: dict[str, Any]) -> None:
    """out (K, C/groups, R, S) = the derivative in the weight, from g (N, K, P, Q) and x (N, C, H, W)."""
    g, x = args
    _run(backend, kernel, out, args, params, (g, out, x, None))


def _run(backend: KernelBackend, kernel: str, out: Array, args: tuple[Any, ...], params: dict[str, Any],
         roles: tuple[Array, Array, Array, Array | None]) -> None:
    """Launch a kernel on the arrays that are its map, weight, source and bias."""
    if not out.size:
        return
    stride, padding, dilation, groups = (params[name] for name in ("stride", "padding", "dilation", "groups"))
    key = (kernel, stride, padding, dilation, groups, get_float32_matmul_precision(),
           *[None if a is None else (a.dtype.char, a.shape, a.strides) for a in roles])
    launches = backend.plans.get(key)
    if launches is None:
        if any(a is not None and a.dtype != out.dtype for a in args) or out.dtype.char not in FLOATING:
            raise refusal(kernel, args)
        problem = _PROBLEMS[kernel](*roles, stride, padding, dilation, groups)
        if _reach(problem) >= LARGE:
            raise ShapeError(f"{kernel}: one image, here of {args[0].shape[1:]} to {out.shape[1:]}, must span less "
                             "than 2^31 elements; cut it into parts, or call .contiguous()")
        launches = backend.remember(key, _launches(backend, problem))
    arrays = [a for a in roles if a is not None]
    addresses = [0 if a is None else backend.address(a) for a in roles]
    if launches.finish is None:
        for plan in launches.plans:
            backend.start(plan, arrays, *addresses, 0)
        return
    partial = backend.empty((launches.scratch,), computing(out.dtype))
    for plan in (*launches.plans, launches.finish):
        backend.start(plan, [*arrays, partial], *addresses, backend.address(partial))


# --- calls as sums over taps or pixels --------------------------------------------------------------------------------


def _gather(out: Array, weight: Array, x: Array, bias: Array | None, stride: Sequence[int], padding: Sequence[int],
            dilation: Sequence[int], groups: int) -> Problem:
    """conv2d: the map is its result."""
    down, across = _forward_axes(out, weight, x, stride, padding, dilation)
    rows, channels = weight.shape[0] // groups, weight.shape[1]
    of_row, of_channel, *_ = element_strides(weight, weight.shape)
    return _problem(False, out, x, bias, groups, rows, channels, (rows * of_row, of_row, of_channel), [down], [across])


def _weight_sum(g: Array, out: Array, x: Array, bias: None, stride: Sequence[int], padding: Sequence[int],
                dilation: Sequence[int], groups: int) -> Problem:
    """conv2d_weight_grad: the weight is its result, the map the gradient of conv2d's."""
    down, across = _forward_axes(g, out, x, stride, padding, dilation)
    rows, channels = out.shape[0] // groups, out.shape[1]
    of_row, of_channel, *_ = element_strides(out, out.shape)
    return _problem(True, g, x, bias, groups, rows, channels, (rows * of_row, of_row, of_channel), [down], [across])


def _spread(out: Array, weight: Array, g: Array, bias: Array | None, stride: Sequence[int], padding: Sequence[int],
            dilation: Sequence[int], groups: int) -> Problem:
    """conv2d_input_grad: a gather from the gradient, with rows and channels of the weight exchanged."""
    down, across = (_phases(_size_and_stride(g, dim), _size_and_stride(out, dim), _size_and_stride(weight, dim),
                            stride[dim - 2], padding[dim - 2], dilation[dim - 2]) for dim in (2, 3))
    rows, channels = weight.shape[1], weight.shape[0] // groups
    of_channel, of_row, *_ = element_strides(weight, weight.shape)
    return _problem(False, out, g, bias, groups, rows, channels, (channels * of_channel, of_row, of_channel), down,
                    across)


_PROBLEMS: dict[str, Callable[..., Problem]] = {
    "conv2d": _gather, "conv2d_input_grad": _spread, "conv2d_weight_grad": _weight_sum,
}


def _problem(of_weight: bool, map_: Array, source: Array, bias: Array | None, groups: int, rows: int, channels: int,
             weight_strides: tuple[int, int, int], down: list[Axis], across: list[Axis]) -> Problem:
    """A problem from its arrays; weight_strides are those of groups, rows and channels."""
    source_image, source_channel, *_ = element_strides(source, source.shape)
    map_image, map_row, *_ = element_strides(map_, map_.shape)
    bias_row = 0 if bias is None else element_strides(bias, bias.shape)[0]
    return Problem(of_weight, map_.dtype, map_.shape[0], groups, rows, channels, source_image, source_channel,
                   map_image, map_row, *weight_strides, bias_row, down, across)


def _forward_axes(map_: Array, weight: Array, source: Array, stride: Sequence[int], padding: Sequence[int],
                  dilation: Sequence[int]) -> Iterator[Axis]:
    """Both dimensions of conv2d: pixel i meets under tap r the place i·stride - padding + r·dilation."""
    for dim in (2, 3):
        (pixels, map_stride), (taps, weight_stride) = (_size_and_stride(a, dim) for a in (map_, weight))
        yield Axis(*_size_and_stride(source, dim), pixels, taps, -padding[dim - 2], stride[dim - 2], dilation[dim - 2],
                   0, map_stride, 0, weight_stride)


def _phases(source: tuple[int, int], map_: tuple[int, int], weight: tuple[int, int], stride: int, padding: int,
            dilation: int) -> list[Axis]:
    """One dimension of conv2d_input_grad, from the sizes and strides of its arrays.

    Pixel h meets under tap r the place (h + padding - r·dilation)/stride, where that is a whole number: which taps
    these are depends on h modulo stride, and every `period`-th one is.
    """
    (pixels, map_stride), (taps, weight_stride) = map_, weight
    period = stride // math.gcd(stride, dilation)
    axes = []
    for residue in range(min(stride, pixels)):
        first = next((r for r in range(min(period, taps)) if (residue + padding - r * dilation) % stride == 0), taps)
        axes.append(Axis(*source, -(-(pixels - residue) // stride), -(-(taps - first) // period),
                         (residue + padding - first * dilation) // stride, 1, -(period * dilation // stride),
                         residue * map_stride, stride * map_stride, first * weight_stride, period * weight_stride))
    return axes


def _size_and_stride(array: Array, dim: int) -> tuple[int, int]:
    return array.shape[dim], element_strides(array, array.shape)[dim]


# --- launches ---------------------------------------------------------------------------------------------------------


def _launches(backend: KernelBackend, problem: Problem) -> Launches:
    arithmetic = _arithmetic(backend, problem.dtype)
    if arithmetic is not None and _fills_tiles(problem):
        tile = NARROW_TILE if problem.rows <= NARROW_TILE else WIDE_TILE
        launches = _tiled_weight if problem.of_weight else _tiled_gather
        return launches(backend, problem, arithmetic, tile)
    return _plain_weight(backend, problem) if problem.of_weight else _plain_gather(backend, problem)


def _arithmetic(backend: KernelBackend, dtype: np.dtype[Any]) -> str | None:
    """The C++ name of how tiles of a dtype are multiplied; None for a dtype that is not."""
    if dtype == np.float64:
        return None
    if dtype == np.float32 and not (backend.tensor_cores and get_float32_matmul_precision() != "highest"):
        return "Fma"
    return f"TensorCores<{c_type(dtype)}>" if backend.tensor_cores else None


def _fills_tiles(problem: Problem) -> bool:
    """Whether a problem has enough rows and channels for tiles, and offsets in 32 bits."""
    if problem.rows < _LEAST_ROWS or not (problem.of_weight or problem.channels >= _LEAST_CHANNELS):
        return False
    if problem.groups * -(-problem.rows // NARROW_TILE) > _MOST_BLOCKS:
        return False
    return max(_reach(problem, problem.images), problem.pixels, problem.taps) < LARGE // 2  # and packs reach further


def _reach(problem: Problem, images: int = 0) -> int:
    """The largest offset in elements that a sum meets within a group of channels, in so many images or within one."""
    axes = (*problem.down, *problem.across)
    in_source = images * abs(problem.source_image) + problem.channels * abs(problem.source_channel)
    in_source += sum(abs(a.stride) * (abs(a.start) + a.pixels * a.pixel_step + a.taps * abs(a.tap_step)) for a in axes)
    in_map = images * abs(problem.map_image) + sum(a.pixels * abs(a.map_stride) for a in axes)
    in_weight = problem.rows * abs(problem.weight_row) + problem.channels * abs(problem.weight_channel)
    in_weight += sum(a.taps * abs(a.weight_stride) for a in axes)
    return max(in_source, in_map, in_weight)


def _tiled_gather(backend: KernelBackend, problem: Problem, arithmetic: str, tile: int) -> Launches:
    def launch(first: tuple[int, int], pixels: int, phases: int) -> Plan:
        grid = (-(-pixels // COLUMNS), problem.groups * -(-problem.rows // tile), phases)
        return _plan(backend, problem, _tiles(arithmetic, "Gather", tile), grid, _TILE_THREADS[tile],
                     problem.values(first_phases=first))

    return _by_phases(problem, launch)


def _plain_gather(backend: KernelBackend, problem: Problem) -> Launches:
    each = 1 if problem.rows == 1 else EACH
    rows = problem.groups * -(-problem.rows // each)

    def launch(first: tuple[int, int], pixels: int, phases: int) -> Plan:
        (blocks, *_), (threads, *_) = one_dimensional(pixels)
        return _plan(backend, problem, _plain("conv_gather", problem.dtype, each),
                     (blocks, min(rows, _MOST_BLOCKS), phases), threads, problem.values(first_phases=first))

    return _by_phases(problem, launch)


def _by_phases(problem: Problem, launch: Callable[[tuple[int, int], int, int], Plan]) -> Launches:
    """The launches of all phases; `launch` is told the first two, the pixels of the largest, and how many there are."""
    plans = []
    for first in range(0, len(problem.down), PHASES):
        for second in range(0, len(problem.across), PHASES):
            pixels = problem.images * problem.down[first].pixels * problem.across[second].pixels
            phases = min(PHASES, len(problem.down) - first) * min(PHASES, len(problem.across) - second)
            plans.append(launch((first, second), pixels, phases))
    return Launches(plans)


def _tiled_weight(backend: KernelBackend, problem: Problem, arithmetic: str, tile: int) -> Launches:
    packed = 16 // problem.dtype.itemsize
    packs = problem.images * problem.down[0].pixels * -(-problem.across[0].pixels // packed)
    tiles = -(-problem.taps // COLUMNS), problem.groups * -(-problem.rows // tile)
    splits, share = _splits(problem, packs, _LEAST_PACKS, PACKS, math.prod(tiles))
    first = _plan(backend, problem, _tiles(arithmetic, "Weight", tile), (*tiles, splits), _TILE_THREADS[tile],
                  problem.values(splits, share))
    return _added_up(backend, problem, first, splits, share)


def _plain_weight(backend: KernelBackend, problem: Problem) -> Launches:
    each = 1 if problem.taps == 1 else EACH
    blocks = problem.groups * problem.rows * -(-problem.taps // each)
    lines = problem.images * problem.down[0].pixels
    splits, share = _splits(problem, lines, _LEAST_LINES, 1, blocks)
    first = _plan(backend, problem, _plain("conv_weight", problem.dtype, each), (blocks, splits, 1), THREADS,
                  problem.values(splits, share))
    return _added_up(backend, problem, first, splits, share)


def _splits(problem: Problem, count: int, least: int, multiple: int, blocks: int) -> tuple[int, int]:
    """Into how many splits a sum over `count` items goes, and the items of each, where one takes `blocks` blocks."""
    wanted = max(min(_BLOCKS // blocks, count // least, _PARTIALS // problem.weights), 1)
    share = max(-(-count // (wanted * multiple)) * multiple, 1)
    return max(-(-count // share), 1), share


def _added_up(backend: KernelBackend, problem: Problem, first: Plan, splits: int, share: int) -> Launches:
    """The launches of a sum over pixels."""
    if splits == 1:
        return Launches([first])
    (blocks, *_), (threads, *_) = one_dimensional(problem.weights)
    finish = _plan(backend, problem, Instance(FILE, _add_splits(problem.dtype)), (blocks, 1, 1), threads,
                   problem.values(splits, share))
    return Launches([first], finish, splits * problem.weights)


def _plan(backend: KernelBackend, problem: Problem, instance: Instance, grid: Grid, threads: int,
          values: list[int]) -> Plan:
    siblings = [] if instance.file == TILES_FILE else list(_plain_expressions(problem.dtype))
    return backend.plan(instance, "PPPPP", f"{len(values)}q", values, grid, (threads, 1, 1), siblings=siblings)


# --- instances --------------------------------------------------------------------------------------------------------


def _tiles(arithmetic: str, sum_: str, tile: int) -> Instance:
    return Instance(TILES_FILE, f"conv_tiles<{arithmetic}, {sum_}, {tile}>")


def _plain(template: str, dtype: np.dtype[Any], each: int) -> Instance:
    return Instance(FILE, f"{template}<{c_type(dtype)}, {each}>")


def _add_splits(dtype: np.dtype[Any]) -> str:
    return f"add_splits<{c_type(dtype)}>"


def _plain_expressions(dtype: np.dtype[Any]) -> Iterator[str]:
    for template in ("conv_gather", "conv_weight"):
        for each in (1, EACH):
            yield _plain(template, dtype, each).expression
    yield _add_splits(dtype)


TABLE: dict[str, Launcher] = {
    "conv2d": conv2d, "conv2d_input_grad": conv2d_input_grad, "conv2d_weight_grad": conv2d_weight_grad,
}


def instances() -> Iterator[Instance]:
    """Every instance that a call can reach."""
    for dtype in FLOATS:
        for expression in _plain_expressions(dtype.numpy):
            yield Instance(FILE, expression)
    for arithmetic in ("Fma", "TensorCores<float>", "TensorCores<f16>", "TensorCores<bf16>"):
        for sum_ in ("Gather", "Weight"):
            for tile in _TILE_THREADS:
                yield _tiles(arithmetic, sum_, tile)
