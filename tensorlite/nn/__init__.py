"""Layers, losses and the Module they are built on, under PyTorch's names.

module.py the base class (tree.py what it owns, state.py loading, hooks.py hooks); containers.py; the layers by
family; losses.py; functional/ the same as functions; init.py starting values; utils/ clipping, and
sequences of different lengths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mistakes import unknown_name as _unknown_name
from . import functional as functional
from . import init as init
from . import utils as utils
from .activation import CELU as CELU
from .activation import ELU as ELU
from .activation import GELU as GELU
from .activation import SELU as SELU
from .activation import Hardsigmoid as Hardsigmoid
from .activation import Hardswish as Hardswish
from .activation import Hardtanh as Hardtanh
from .activation import LeakyReLU as LeakyReLU
from .activation import LogSigmoid as LogSigmoid
from .activation import LogSoftmax as LogSoftmax
from .activation import Mish as Mish
from .activation import PReLU as PReLU
from .activation import ReLU as ReLU
from .activation import ReLU6 as ReLU6
from .activation import Sigmoid as Sigmoid
from .activation import SiLU as SiLU
from .activation import Softmax as Softmax
from .activation import Softmin as Softmin
from .activation import Softplus as Softplus
from .activation import Softsign as Softsign
from .activation import Tanh as Tanh
from .activation import Tanhshrink as Tanhshrink
from .attention import MultiheadAttention as MultiheadAttention
from .containers import ModuleDict as ModuleDict
from .containers import ModuleList as ModuleList
from .containers import ParameterDict as ParameterDict
from .containers import ParameterList as ParameterList
from .containers import Sequential as Sequential
from .conv import Conv1d as Conv1d
from .conv import Conv2d as Conv2d
from .conv import ConvTranspose1d as ConvTranspose1d
from .conv import ConvTranspose2d as ConvTranspose2d
from .dropout import Dropout as Dropout
from .dropout import Dropout1d as Dropout1d
from .dropout import Dropout2d as Dropout2d
from .linear import Bilinear as Bilinear
from .linear import Flatten as Flatten
from .linear import Identity as Identity
from .linear import Linear as Linear
from .linear import Unflatten as Unflatten
from .losses import BCELoss as BCELoss
from .losses import BCEWithLogitsLoss as BCEWithLogitsLoss
from .losses import CosineSimilarity as CosineSimilarity
from .losses import CrossEntropyLoss as CrossEntropyLoss
from .losses import HuberLoss as HuberLoss
from .losses import KLDivLoss as KLDivLoss
from .losses import L1Loss as L1Loss
from .losses import MSELoss as MSELoss
from .losses import NLLLoss as NLLLoss
from .losses import PairwiseDistance as PairwiseDistance
from .losses import SmoothL1Loss as SmoothL1Loss
from .margin_losses import CosineEmbeddingLoss as CosineEmbeddingLoss
from .margin_losses import GaussianNLLLoss as GaussianNLLLoss
from .margin_losses import HingeEmbeddingLoss as HingeEmbeddingLoss
from .margin_losses import MarginRankingLoss as MarginRankingLoss
from .margin_losses import MultiLabelSoftMarginLoss as MultiLabelSoftMarginLoss
from .margin_losses import MultiMarginLoss as MultiMarginLoss
from .margin_losses import PoissonNLLLoss as PoissonNLLLoss
from .margin_losses import SoftMarginLoss as SoftMarginLoss
from .margin_losses import TripletMarginLoss as TripletMarginLoss
from .margin_losses import TripletMarginWithDistanceLoss as TripletMarginWithDistanceLoss
from .module import Module as Module
from .normalization import BatchNorm1d as BatchNorm1d
from .normalization import BatchNorm2d as BatchNorm2d
from .normalization import BatchNorm3d as BatchNorm3d
from .normalization import GroupNorm as GroupNorm
from .normalization import InstanceNorm1d as InstanceNorm1d
from .normalization import InstanceNorm2d as InstanceNorm2d
from .normalization import InstanceNorm3d as InstanceNorm3d
from .normalization import LayerNorm as LayerNorm
from .normalization import LocalResponseNorm as LocalResponseNorm
from .normalization import RMSNorm as RMSNorm
from .parameter import Parameter as Parameter
from .pooling import AdaptiveAvgPool1d as AdaptiveAvgPool1d
from .pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from .pooling import AdaptiveMaxPool1d as AdaptiveMaxPool1d
from .pooling import AdaptiveMaxPool2d as AdaptiveMaxPool2d
from .pooling import AvgPool1d as AvgPool1d
from .pooling import AvgPool2d as AvgPool2d
from .pooling import MaxPool1d as MaxPool1d
from .pooling import MaxPool2d as MaxPool2d
from .pooling import MaxUnpool2d as MaxUnpool2d
from .positional import RotaryEmbedding as RotaryEmbedding
from .positional import SinusoidalEncoding as SinusoidalEncoding
from .recurrent import GRU as GRU
from .recurrent import LSTM as LSTM
from .recurrent import RNN as RNN
from .recurrent import RNNBase as RNNBase
from .recurrent_cells import GRUCell as GRUCell
from .recurrent_cells import LSTMCell as LSTMCell
from .recurrent_cells import RNNCell as RNNCell
from .recurrent_cells import RNNCellBase as RNNCellBase
from .resampling import ChannelShuffle as ChannelShuffle
from .resampling import CircularPad1d as CircularPad1d
from .resampling import CircularPad2d as CircularPad2d
from .resampling import ConstantPad1d as ConstantPad1d
from .resampling import ConstantPad2d as ConstantPad2d
from .resampling import Fold as Fold
from .resampling import PixelShuffle as PixelShuffle
from .resampling import PixelUnshuffle as PixelUnshuffle
from .resampling import ReflectionPad1d as ReflectionPad1d
from .resampling import ReflectionPad2d as ReflectionPad2d
from .resampling import ReplicationPad1d as ReplicationPad1d
from .resampling import ReplicationPad2d as ReplicationPad2d
from .resampling import Unfold as Unfold
from .resampling import Upsample as Upsample
from .resampling import UpsamplingBilinear2d as UpsamplingBilinear2d
from .resampling import UpsamplingNearest2d as UpsamplingNearest2d
from .resampling import ZeroPad1d as ZeroPad1d
from .resampling import ZeroPad2d as ZeroPad2d
from .shrinking import GLU as GLU
from .shrinking import Hardshrink as Hardshrink
from .shrinking import RReLU as RReLU
from .shrinking import Softshrink as Softshrink
from .shrinking import Threshold as Threshold
from .sparse import Embedding as Embedding
from .sparse import EmbeddingBag as EmbeddingBag
from .transformer import Transformer as Transformer
from .transformer import TransformerDecoder as TransformerDecoder
from .transformer import TransformerDecoderLayer as TransformerDecoderLayer
from .transformer import TransformerEncoder as TransformerEncoder
from .transformer import TransformerEncoderLayer as TransformerEncoderLayer

if not TYPE_CHECKING:  # to mypy, a name that is not above is an error

    def __getattr__(name):
        raise _unknown_name(__name__, name, globals())
