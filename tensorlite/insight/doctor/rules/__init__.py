"""All that the doctor looks for. A new rule is a watch.Rule with a name, an entry here, and one in docs/doctor.md."""

from __future__ import annotations

from typing import Final

from ..watch import Rule
from .activations import DeadReLU, Saturated, UnnormalisedInput
from .finite import NotFinite
from .gradients import Exploding, LearningRate, Vanishing
from .loop import KeptGraph, NeverStepped, NewOptimizers, NotShuffled, NoZeroGrad, StepWithoutGradient
from .losses import (
    ActivationBeforeLoss,
    BatchAsClasses,
    ConstantOutput,
    InitialLoss,
    LossBroadcasts,
    LossRises,
    NoLogProbabilities,
    OneClass,
    ProbabilityRange,
)
from .models import EvalWhileTraining, NoGradient, NotInOptimizer, SameNeurons, StaleOptimizer, TrainWhileEvaluating

RULES: Final[tuple[type[Rule], ...]] = (
    ActivationBeforeLoss, NoLogProbabilities, ProbabilityRange, OneClass, BatchAsClasses, LossBroadcasts, InitialLoss,
    ConstantOutput, LossRises,
    NoZeroGrad, StepWithoutGradient, NeverStepped, NewOptimizers, KeptGraph, NotShuffled,
    EvalWhileTraining, TrainWhileEvaluating, NoGradient, NotInOptimizer, StaleOptimizer, SameNeurons,
    DeadReLU, Saturated, UnnormalisedInput,
    Vanishing, Exploding, LearningRate, NotFinite,
)
