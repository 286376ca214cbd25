"""Clipping of gradients and parameters as one vector (clipping.py), sequences of different lengths (rnn.py)."""

from __future__ import annotations

from . import rnn as rnn
from .clipping import change_all as change_all
from .clipping import clip_grad_norm_ as clip_grad_norm_
from .clipping import clip_grad_value_ as clip_grad_value_
from .clipping import parameters_to_vector as parameters_to_vector
from .clipping import vector_to_parameters as vector_to_parameters
