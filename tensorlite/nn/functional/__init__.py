"""Layers as functions, under PyTorch's names: what they compute is given entirely by their arguments.

activation.py, shrinking.py, linear.py, dropout.py, normalization.py; pooling.py, resampling.py (other sizes, padding)
and unfold.py (windows as columns, channels as pixels); attention.py; embedding.py and embedding_bag.py; the losses in
regression.py (two tensors of one shape, and distances), likelihood.py, margin.py and classification.py (scores against
classes). Convolutions are those of ops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...mistakes import unknown_name as _unknown_name
from ...ops import conv1d as conv1d
from ...ops import conv2d as conv2d
from ...ops import conv_transpose1d as conv_transpose1d
from ...ops import conv_transpose2d as conv_transpose2d
from .activation import celu as celu
from .activation import elu as elu
from .activation import gelu as gelu
from .activation import hardsigmoid as hardsigmoid
from .activation import hardswish as hardswish
from .activation import hardtanh as hardtanh
from .activation import leaky_relu as leaky_relu
from .activation import log_softmax as log_softmax
from .activation import logsigmoid as logsigmoid
from .activation import mish as mish
from .activation import prelu as prelu
from .activation import relu as relu
from .activation import relu6 as relu6
from .activation import selu as selu
from .activation import sigmoid as sigmoid
from .activation import silu as silu
from .activation import softmax as softmax
from .activation import softmin as softmin
from .activation import softplus as softplus
from .activation import softsign as softsign
from .activation import tanh as tanh
from .activation import tanhshrink as tanhshrink
from .attention import apply_rotary as apply_rotary
from .attention import scaled_dot_product_attention as scaled_dot_product_attention
from .classification import cross_entropy as cross_entropy
from .classification import nll_loss as nll_loss
from .dropout import dropout as dropout
from .dropout import dropout1d as dropout1d
from .dropout import dropout2d as dropout2d
from .embedding import embedding as embedding
from .embedding import one_hot as one_hot
from .embedding_bag import embedding_bag as embedding_bag
from .likelihood import gaussian_nll_loss as gaussian_nll_loss
from .likelihood import poisson_nll_loss as poisson_nll_loss
from .linear import bilinear as bilinear
from .linear import linear as linear
from .margin import cosine_embedding_loss as cosine_embedding_loss
from .margin import hinge_embedding_loss as hinge_embedding_loss
from .margin import margin_ranking_loss as margin_ranking_loss
from .margin import multi_margin_loss as multi_margin_loss
from .margin import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from .margin import soft_margin_loss as soft_margin_loss
from .margin import triplet_margin_loss as triplet_margin_loss
from .margin import triplet_margin_with_distance_loss as triplet_margin_with_distance_loss
from .normalization import batch_norm as batch_norm
from .normalization import group_norm as group_norm
from .normalization import instance_norm as instance_norm
from .normalization import layer_norm as layer_norm
from .normalization import local_response_norm as local_response_norm
from .normalization import normalize as normalize
from .normalization import rms_norm as rms_norm
from .pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from .pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from .pooling import adaptive_max_pool1d as adaptive_max_pool1d
from .pooling import adaptive_max_pool2d as adaptive_max_pool2d
from .pooling import avg_pool1d as avg_pool1d
from .pooling import avg_pool2d as avg_pool2d
from .pooling import max_pool1d as max_pool1d
from .pooling import max_pool2d as max_pool2d
from .pooling import max_unpool2d as max_unpool2d
from .regression import binary_cross_entropy as binary_cross_entropy
from .regression import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from .regression import cosine_similarity as cosine_similarity
from .regression import huber_loss as huber_loss
from .regression import kl_div as kl_div
from .regression import l1_loss as l1_loss
from .regression import mse_loss as mse_loss
from .regression import pairwise_distance as pairwise_distance
from .regression import smooth_l1_loss as smooth_l1_loss
from .resampling import interpolate as interpolate
from .resampling import pad as pad
from .shrinking import glu as glu
from .shrinking import gumbel_softmax as gumbel_softmax
from .shrinking import hardshrink as hardshrink
from .shrinking import rrelu as rrelu
from .shrinking import softshrink as softshrink
from .shrinking import threshold as threshold
from .unfold import channel_shuffle as channel_shuffle
from .unfold import fold as fold
from .unfold import pixel_shuffle as pixel_shuffle
from .unfold import pixel_unshuffle as pixel_unshuffle
from .unfold import unfold as unfold

if not TYPE_CHECKING:  # to mypy, a name that is not above is an error

    def __getattr__(name):
        raise _unknown_name(__name__, name, globals())
