"""Meters: metrics that are added up batch by batch, on the device, and read when they are asked for."""

from .classification import F1 as F1
from .classification import Accuracy as Accuracy
from .classification import ConfusionMatrix as ConfusionMatrix
from .classification import Precision as Precision
from .classification import Recall as Recall
from .collection import History as History
from .collection import Meters as Meters
from .means import Mean as Mean
from .means import MeanAbsoluteError as MeanAbsoluteError
from .means import MeanSquaredError as MeanSquaredError
from .means import Perplexity as Perplexity
from .means import Throughput as Throughput
from .meter import Meter as Meter
