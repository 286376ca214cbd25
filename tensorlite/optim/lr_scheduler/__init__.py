"""Learning rate schedules under PyTorch's names: `scheduler.step()` after `optimizer.step()`.

base.py what all share; decay.py, cosine.py, cyclic.py, plateau.py the schedules; compose.py schedules made of
schedules.
"""

from typing import TYPE_CHECKING

from ...mistakes import unknown_name as _unknown_name
from .base import LRScheduler as LRScheduler
from .compose import ChainedScheduler as ChainedScheduler
from .compose import SequentialLR as SequentialLR
from .cosine import CosineAnnealingLR as CosineAnnealingLR
from .cosine import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from .cyclic import CyclicLR as CyclicLR
from .cyclic import OneCycleLR as OneCycleLR
from .decay import ConstantLR as ConstantLR
from .decay import ExponentialLR as ExponentialLR
from .decay import LambdaLR as LambdaLR
from .decay import LinearLR as LinearLR
from .decay import MultiplicativeLR as MultiplicativeLR
from .decay import MultiStepLR as MultiStepLR
from .decay import PolynomialLR as PolynomialLR
from .decay import StepLR as StepLR
from .plateau import ReduceLROnPlateau as ReduceLROnPlateau

if not TYPE_CHECKING:  # to mypy, a name that is not above is an error

    def __getattr__(name):
        raise _unknown_name(__name__, name, globals())
