"""tensorlite: a deep-learning framework small enough to read in an afternoon.

PyTorch's names and semantics, NumPy on the CPU. The map of the package is docs/architecture.md.
`tl.data`, `tl.testing` and what stands in `_LAZY` are loaded on first use: they need modules that would make up a good
part of the import time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import accelerator as accelerator
from . import amp as amp
from . import autograd as autograd
from . import cuda as cuda
from . import linalg as linalg
from . import nn as nn
from . import ops as ops
from . import optim as optim
from . import random as random
from .amp import autocast as autocast
from .amp import get_autocast_dtype as get_autocast_dtype
from .amp import is_autocast_enabled as is_autocast_enabled
from .autograd import enable_grad as enable_grad
from .autograd import inference_mode as inference_mode
from .autograd import is_grad_enabled as is_grad_enabled
from .autograd import no_grad as no_grad
from .autograd import set_grad_enabled as set_grad_enabled
from .backends import Device as Device
from .backends import as_device as as_device
from .backends.precision import get_float32_matmul_precision as get_float32_matmul_precision
from .backends.precision import set_float32_matmul_precision as set_float32_matmul_precision
from .capture import Captured as Captured
from .capture import capture as capture
from .creation import arange as arange
from .creation import as_tensor as as_tensor
from .creation import asarray as asarray
from .creation import empty as empty
from .creation import empty_like as empty_like
from .creation import eye as eye
from .creation import from_dlpack as from_dlpack
from .creation import from_numpy as from_numpy
from .creation import full as full
from .creation import full_like as full_like
from .creation import linspace as linspace
from .creation import logspace as logspace
from .creation import ones as ones
from .creation import ones_like as ones_like
from .creation import tensor as tensor
from .creation import tril_indices as tril_indices
from .creation import triu_indices as triu_indices
from .creation import zeros as zeros
from .creation import zeros_like as zeros_like
from .dtypes import DType as DType
from .dtypes import bfloat16 as bfloat16
from .dtypes import bool_ as bool_
from .dtypes import finfo as finfo
from .dtypes import float16 as float16
from .dtypes import float32 as float32
from .dtypes import float64 as float64
from .dtypes import get_default_dtype as get_default_dtype
from .dtypes import iinfo as iinfo
from .dtypes import int8 as int8
from .dtypes import int16 as int16
from .dtypes import int32 as int32
from .dtypes import int64 as int64
from .dtypes import promote_types as promote_types
from .dtypes import set_default_dtype as set_default_dtype
from .dtypes import uint8 as uint8
from .errors import ArgumentError as ArgumentError
from .errors import CaptureError as CaptureError
from .errors import DeviceError as DeviceError
from .errors import DTypeError as DTypeError
from .errors import FileFormatError as FileFormatError
from .errors import GradError as GradError
from .errors import OutOfMemoryError as OutOfMemoryError
from .errors import OutOfRangeError as OutOfRangeError
from .errors import ShapeError as ShapeError
from .errors import TensorliteError as TensorliteError
from .inspection import can_cast as can_cast
from .inspection import is_floating_point as is_floating_point
from .inspection import is_nonzero as is_nonzero
from .inspection import is_tensor as is_tensor
from .inspection import numel as numel
from .io import load as load
from .io import load_checkpoint as load_checkpoint
from .io import save as save
from .io import save_checkpoint as save_checkpoint
from .mistakes import unknown_name as _unknown_name
from .nn.functional import celu as celu
from .nn.functional import cosine_similarity as cosine_similarity
from .nn.functional import pairwise_distance as pairwise_distance
from .nn.functional import selu as selu
from .ops import abs as abs
from .ops import acos as acos
from .ops import acosh as acosh
from .ops import add as add
from .ops import addcdiv as addcdiv
from .ops import addcmul as addcmul
from .ops import addmm as addmm
from .ops import addmv as addmv
from .ops import all as all
from .ops import allclose as allclose
from .ops import amax as amax
from .ops import amin as amin
from .ops import aminmax as aminmax
from .ops import any as any
from .ops import argmax as argmax
from .ops import argmin as argmin
from .ops import argsort as argsort
from .ops import argwhere as argwhere
from .ops import asin as asin
from .ops import asinh as asinh
from .ops import atan as atan
from .ops import atan2 as atan2
from .ops import atanh as atanh
from .ops import atleast_1d as atleast_1d
from .ops import atleast_2d as atleast_2d
from .ops import atleast_3d as atleast_3d
from .ops import baddbmm as baddbmm
from .ops import bincount as bincount
from .ops import bitwise_and as bitwise_and
from .ops import bitwise_left_shift as bitwise_left_shift
from .ops import bitwise_not as bitwise_not
from .ops import bitwise_or as bitwise_or
from .ops import bitwise_right_shift as bitwise_right_shift
from .ops import bitwise_xor as bitwise_xor
from .ops import bmm as bmm
from .ops import broadcast_tensors as broadcast_tensors
from .ops import broadcast_to as broadcast_to
from .ops import bucketize as bucketize
from .ops import cartesian_prod as cartesian_prod
from .ops import cat as cat
from .ops import cdist as cdist
from .ops import ceil as ceil
from .ops import chunk as chunk
from .ops import clamp as clamp
from .ops import clamp_max as clamp_max
from .ops import clamp_min as clamp_min
from .ops import clone as clone
from .ops import column_stack as column_stack
from .ops import combinations as combinations
from .ops import conv1d as conv1d
from .ops import conv2d as conv2d
from .ops import conv_transpose1d as conv_transpose1d
from .ops import conv_transpose2d as conv_transpose2d
from .ops import copysign as copysign
from .ops import corrcoef as corrcoef
from .ops import cos as cos
from .ops import cosh as cosh
from .ops import count_nonzero as count_nonzero
from .ops import cov as cov
from .ops import cross as cross
from .ops import cummax as cummax
from .ops import cummin as cummin
from .ops import cumprod as cumprod
from .ops import cumsum as cumsum
from .ops import deg2rad as deg2rad
from .ops import diag as diag
from .ops import diagflat as diagflat
from .ops import diagonal as diagonal
from .ops import diff as diff
from .ops import div as div
from .ops import dot as dot
from .ops import dstack as dstack
from .ops import einsum as einsum
from .ops import eq as eq
from .ops import equal as equal
from .ops import erf as erf
from .ops import exp as exp
from .ops import exp2 as exp2
from .ops import expand as expand
from .ops import expm1 as expm1
from .ops import flatten as flatten
from .ops import flip as flip
from .ops import fliplr as fliplr
from .ops import flipud as flipud
from .ops import floor as floor
from .ops import floor_divide as floor_divide
from .ops import fmax as fmax
from .ops import fmin as fmin
from .ops import fmod as fmod
from .ops import frac as frac
from .ops import gather as gather
from .ops import ge as ge
from .ops import gt as gt
from .ops import histc as histc
from .ops import hstack as hstack
from .ops import imag as imag
from .ops import index_add as index_add
from .ops import index_copy as index_copy
from .ops import index_fill as index_fill
from .ops import index_select as index_select
from .ops import inner as inner
from .ops import isclose as isclose
from .ops import isfinite as isfinite
from .ops import isin as isin
from .ops import isinf as isinf
from .ops import isnan as isnan
from .ops import isneginf as isneginf
from .ops import isposinf as isposinf
from .ops import kron as kron
from .ops import kthvalue as kthvalue
from .ops import le as le
from .ops import lerp as lerp
from .ops import log as log
from .ops import log1p as log1p
from .ops import log2 as log2
from .ops import log10 as log10
from .ops import log_softmax as log_softmax
from .ops import logaddexp as logaddexp
from .ops import logcumsumexp as logcumsumexp
from .ops import logical_and as logical_and
from .ops import logical_not as logical_not
from .ops import logical_or as logical_or
from .ops import logical_xor as logical_xor
from .ops import logit as logit
from .ops import logsumexp as logsumexp
from .ops import lt as lt
from .ops import masked_fill as masked_fill
from .ops import masked_scatter as masked_scatter
from .ops import masked_select as masked_select
from .ops import matmul as matmul
from .ops import max as max
from .ops import maximum as maximum
from .ops import mean as mean
from .ops import median as median
from .ops import meshgrid as meshgrid
from .ops import min as min
from .ops import minimum as minimum
from .ops import mm as mm
from .ops import movedim as movedim
from .ops import msort as msort
from .ops import mul as mul
from .ops import mv as mv
from .ops import nan_to_num as nan_to_num
from .ops import nanmean as nanmean
from .ops import nansum as nansum
from .ops import narrow as narrow
from .ops import ne as ne
from .ops import neg as neg
from .ops import nonzero as nonzero
from .ops import norm as norm
from .ops import outer as outer
from .ops import permute as permute
from .ops import pow as pow
from .ops import prod as prod
from .ops import quantile as quantile
from .ops import rad2deg as rad2deg
from .ops import real as real
from .ops import reciprocal as reciprocal
from .ops import relu as relu
from .ops import remainder as remainder
from .ops import repeat as repeat
from .ops import repeat_interleave as repeat_interleave
from .ops import reshape as reshape
from .ops import roll as roll
from .ops import rot90 as rot90
from .ops import round as round
from .ops import rsqrt as rsqrt
from .ops import scatter as scatter
from .ops import scatter_add as scatter_add
from .ops import scatter_reduce as scatter_reduce
from .ops import searchsorted as searchsorted
from .ops import select as select
from .ops import sigmoid as sigmoid
from .ops import sign as sign
from .ops import signbit as signbit
from .ops import sin as sin
from .ops import sinh as sinh
from .ops import softmax as softmax
from .ops import sort as sort
from .ops import split as split
from .ops import sqrt as sqrt
from .ops import square as square
from .ops import squeeze as squeeze
from .ops import stack as stack
from .ops import std as std
from .ops import std_mean as std_mean
from .ops import sub as sub
from .ops import sum as sum
from .ops import t as t
from .ops import take as take
from .ops import take_along_dim as take_along_dim
from .ops import tan as tan
from .ops import tanh as tanh
from .ops import tensor_split as tensor_split
from .ops import tensordot as tensordot
from .ops import tile as tile
from .ops import topk as topk
from .ops import trace as trace
from .ops import transpose as transpose
from .ops import tril as tril
from .ops import triu as triu
from .ops import trunc as trunc
from .ops import unbind as unbind
from .ops import unflatten as unflatten
from .ops import unique as unique
from .ops import unsqueeze as unsqueeze
from .ops import var as var
from .ops import var_mean as var_mean
from .ops import view as view
from .ops import vstack as vstack
from .ops import where as where
from .printing import set_printoptions as set_printoptions
from .random import Generator as Generator
from .random import default_generator as default_generator
from .random import initial_seed as initial_seed
from .random import manual_seed as manual_seed
from .random import seed as seed
from .random import set_rng_state as set_rng_state
from .sampling import bernoulli as bernoulli
from .sampling import get_rng_state as get_rng_state
from .sampling import multinomial as multinomial
from .sampling import normal as normal
from .sampling import rand as rand
from .sampling import rand_like as rand_like
from .sampling import randint as randint
from .sampling import randint_like as randint_like
from .sampling import randn as randn
from .sampling import randn_like as randn_like
from .sampling import randperm as randperm
from .tensor import Tensor as Tensor

if TYPE_CHECKING:
    from . import data as data
    from . import insight as insight
    from . import simulator as simulator
    from . import testing as testing
    from . import utils as utils
    from .backends.config import show_config as show_config
    from .backends.cpu_compiled import compile_kernels as compile_kernels
    from .backends.cpu_compiled import set_flush_denormal as set_flush_denormal
    from .custom import kernel as kernel
    from .insight import History as History
    from .insight import Meter as Meter
    from .insight import Meters as Meters
    from .insight import SummaryWriter as SummaryWriter
    from .insight import explain as explain
    from .insight import meters as meters
    from .insight import profile as profile
    from .insight import progress as progress
    from .insight import tape as tape
    from .insight.doctor import doctor as doctor

# Other names of the same things, as PyTorch and NumPy have them.
Size: type[tuple[Any, ...]] = tuple  # as every x.shape is
absolute = abs
arccos = acos
arccosh = acosh
arcsin = asin
arcsinh = asinh
arctan = atan
arctan2 = atan2
arctanh = atanh
bool = bool_
clip = clamp
concat = cat
concatenate = cat
conj = real
device = as_device
divide = div
double = float64
dtype = DType
fix = trunc
float = float32
ger = outer
greater = gt
greater_equal = ge
half = float16
int = int32
less = lt
less_equal = le
long = int64
moveaxis = movedim
multiply = mul
negative = neg
not_equal = ne
permute_dims = permute
positive = real
ravel = flatten
row_stack = vstack
sgn = sign
short = int16
subtract = sub
swapaxes = transpose
swapdims = transpose
true_divide = div
unstack = unbind

__version__ = "0.1.0"


# Functions, and the modules that have them.
_LAZY = {
    "History": "insight",
    "Meter": "insight",
    "Meters": "insight",
    "SummaryWriter": "insight",
    "compile_kernels": "backends.cpu_compiled",
    "doctor": "insight.doctor",
    "explain": "insight",
    "kernel": "custom",
    "meters": "insight",
    "profile": "insight",
    "progress": "insight",
    "set_flush_denormal": "backends.cpu_compiled",
    "show_config": "backends.config",
    "tape": "insight",
}


def __getattr__(name: str) -> Any:
    if name in ("data", "insight", "simulator", "testing", "utils"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise _unknown_name(__name__, name, (*globals(), *_LAZY))
