"""Optimizers, and schedules of their learning rates in `lr_scheduler`, under PyTorch's names and defaults."""

from typing import TYPE_CHECKING

from ..mistakes import unknown_name as _unknown_name
from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils
from .adadelta import Adadelta as Adadelta
from .adagrad import Adagrad as Adagrad
from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .adamax import Adamax as Adamax
from .asgd import ASGD as ASGD
from .lion import Lion as Lion
from .muon import Muon as Muon
from .muon import MuonWithAuxAdam as MuonWithAuxAdam
from .nadam import NAdam as NAdam
from .optimizer import Optimizer as Optimizer
from .radam import RAdam as RAdam
from .rmsprop import RMSprop as RMSprop
from .rprop import Rprop as Rprop
from .sgd import SGD as SGD

if not TYPE_CHECKING:  # to mypy, a name that is not above is an error

    def __getattr__(name):
        raise _unknown_name(__name__, name, globals())
