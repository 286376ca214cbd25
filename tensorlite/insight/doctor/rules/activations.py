"""Rules about what flows through a model: dead ReLUs, saturated sigmoids and tanhs, inputs out of scale."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, Final

import numpy as np

from ....autograd.tape import Node
from ..numbers import maker, rms, values
from ..places import Place
from ..watch import OpCall, Rule

PRODUCTS: Final = frozenset({"matmul", "linear", "linear_relu", "conv2d", "rnn", "gru", "lstm"})

# Of 64 samples a unit that fires for one in ten misses all with a chance of 0.1 %. Trained networks often have a third
# of their units silent, and sparse ones more than half; nine in ten means that the layer is lost.
DEAD_SAMPLES: Final = 64
DEAD_SHARE: Final = 0.9

# Where |tanh| > 0.99 its slope is below 2 % of the largest; of a sigmoid below 0.005 or above 0.995 likewise. Saturated
# is a layer of which nine values in ten are there, in each of several steps: a trained code or gate is mostly less.
FLAT_TANH: Final = 0.99
FLAT_SIGMOID: Final = 0.005
FLAT_SHARE: Final = 0.9
FLAT_STEPS: Final = 3

# Initial weights keep the size of inputs of rms 1. At 20 the first activations are saturated, and the first gradients
# 20 times what a usual learning rate is for; raw pixels (0..255) are at 50 to 150.
INPUT_RMS: Final = 20.0

Site = tuple[str, int, str]


def _site(place: Place) -> Site:
    """A layer: its line and its path, for all layers of a Sequential share a line."""
    return place.file, place.line, place.module


class _Units:
    """Which units of a layer have fired in the present window of samples."""

    def __init__(self, call: OpCall) -> None:
        self.place, self.behind = call.place, _behind(call)
        self.samples = 0
        self.fired: np.ndarray | None = None
        self.share: float | None = None  # of dead units, in the last window that is complete
        self.count = 0

    def see(self, fired: np.ndarray, samples: int) -> None:
        if self.fired is None or self.fired.shape != fired.shape:
            self.fired, self.samples = fired, 0
        self.fired = self.fired | fired
        self.samples += samples
        if self.samples >= DEAD_SAMPLES:
            self.share, self.count = 1.0 - float(self.fired.mean()), fired.size
            self.fired = None


class DeadReLU(Rule):
    """Units of a ReLU that are 0 for every sample get no gradient, and stay so."""

    name = "dead-relu"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._layers: dict[Site, _Units] = {}

    def numbers(self, call: OpCall) -> None:
        if call.op in ("relu", "linear_relu") and call.training and call.out.ndim >= 2 and call.out.numel():
            fired = ~(values(call.out) <= 0)  # NaN is another fault
            unit = _unit_axis(call)
            others = tuple(axis for axis in range(fired.ndim) if axis != unit)
            layer = self._layers.setdefault(_site(call.place), _Units(call))
            layer.see(np.asarray(fired.any(others)), fired.size // fired.shape[unit])

    def end(self) -> None:
        for layer in self._layers.values():
            if layer.share is not None and layer.share >= DEAD_SHARE:
                dead = round(layer.share * layer.count)
                self.say(f"{dead} of {layer.count} units of the ReLU{layer.behind} gave 0 for each of the last "
                         f"{DEAD_SAMPLES} or more samples: no gradient passes through them.",
                         "lower the learning rate, look for large negative biases and unnormalised inputs, draw the "
                         "weights by nn.init.kaiming_uniform_, or use nn.LeakyReLU or nn.GELU.", layer.place)


def _behind(call: OpCall) -> str:
    return f" behind {call.place.module}" if call.op == "linear_relu" and call.place.module else ""


def _unit_axis(call: OpCall) -> int:
    """The dimension along which the units lie: channels of images and signals, else the last."""
    node = maker(call.inputs[0])
    is_image = call.out.ndim == 4 or (call.out.ndim == 3 and node is not None and node.op.name.startswith("conv"))
    return 1 if is_image else int(call.out.ndim - 1)


class Saturated(Rule):
    """A sigmoid or tanh between layers whose values lie where it is flat."""

    name = "saturated"

    def __init__(self, watch: Any) -> None:
        super().__init__(watch)
        self._flat: weakref.WeakKeyDictionary[Node, tuple[str, Place, float]] = weakref.WeakKeyDictionary()
        self._layers: dict[Site, tuple[str, Place, deque[float]]] = {}

    def numbers(self, call: OpCall) -> None:
        if not call.training:
            return
        if call.op in ("sigmoid", "tanh") and call.out._node is not None and call.out.numel():
            self._flat[call.out._node] = call.op, call.place, _flat_share(call.op, values(call.out))
        elif call.op in PRODUCTS and call.tensors and (node := maker(call.tensors[0])) in self._flat:
            assert node is not None
            name, place, share = self._flat[node]
            if _model(place) == _model(call.place):  # what one model hands to another, such as an image, may be flat
                layer = self._layers.setdefault(_site(place), (name, place, deque(maxlen=FLAT_STEPS)))
                layer[2].append(share)

    def end(self) -> None:
        for name, place, shares in self._layers.values():
            if len(shares) == FLAT_STEPS and min(shares) >= FLAT_SHARE:
                self.say(f"{min(shares):.0%} of the values of the {name} in front of the next layer lie where it is "
                         f"flat, {FLAT_STEPS} steps in a row: gradients shrink to a few per cent there.",
                         "normalise the inputs, let the weights start smaller (nn.init.xavier_uniform_), put a "
                         "normalisation layer in front, or use nn.ReLU.", place, about=_site(place))


def _flat_share(op: str, out: np.ndarray) -> float:
    if op == "tanh":
        return float((np.abs(out) > FLAT_TANH).mean())
    return float((np.minimum(out, 1 - out) < FLAT_SIGMOID).mean())


def _model(place: Place) -> str:
    return place.module.partition(".")[0]


class UnnormalisedInput(Rule):
    """The first layer is given numbers much larger than 1."""

    name = "unnormalised-input"

    def numbers(self, call: OpCall) -> None:
        if call.op not in PRODUCTS or not call.training or not call.tensors:
            return
        x = call.tensors[0]
        if x._requires_grad or not self.watch.is_argument(x):
            return
        found = values(x)
        size = rms(found)
        if size >= INPUT_RMS and np.isfinite(size):
            self.say(f"the input of shape {x.shape} goes into the first layer with values from {found.min():.3g} to "
                     f"{found.max():.3g} (mean {found.mean():.3g}, standard deviation {found.std():.3g}).",
                     _cure(found), call.place, about=_site(call.place))


def _cure(found: np.ndarray) -> str:
    if found.min() >= 0 and found.max() <= 255 and (found == np.round(found)).all():
        return "these look like pixels: divide them by 255, and subtract the mean of the training set."
    return "subtract the mean and divide by the standard deviation of each feature of the training set."
