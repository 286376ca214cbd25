"""Averages of a model's weights over the steps of a training, under the names of torch.optim.swa_utils."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from ..autograd import no_grad
from ..creation import zeros
from ..dtypes import int64
from ..nn import Module
from ..ops import where
from ..tensor import Tensor

Average = Callable[[Tensor, Tensor, Tensor], Tensor]
MultiAverage = Callable[[list[Tensor], list[Tensor], Tensor], None]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """avg ← decay·avg + (1 - decay)·p: for AveragedModel's avg_fn."""

    def average(averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
        return averaged * decay + current * (1 - decay)

    return average


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """The same for all parameters at once, in place: for AveragedModel's multi_avg_fn."""

    def average(averaged: list[Tensor], current: list[Tensor], n: Tensor) -> None:
        for mean, p in zip(averaged, current, strict=True):
            mean.copy_(mean * decay + p * (1 - decay))

    return average


def _running_mean(averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
    """avg + (p - avg)/(n + 1): the mean of all. Izmailov et al. 2018."""
    return averaged + (current - averaged) / (n + 1).to(current.dtype)


class AveragedModel(Module):
    """A copy of a model whose parameters are averages; `update_parameters(model)` after a step takes the new ones in.

    device        where the copy lies; the model's unless given
    avg_fn        (average, parameter, n) -> the new average, n the updates before; the mean of all unless given
    multi_avg_fn  the same in place, with lists
    use_buffers   average the buffers too; without it they are copied

    The first update copies. The copy is called as the model is; n_averaged is a buffer. Nothing waits for the device.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> averaged = optim.swa_utils.AveragedModel(model)
    >>> for weight in (1.0, 3.0):
    ...     _ = model.weight.data.fill_(weight)
    ...     averaged.update_parameters(model)
    >>> averaged.module.weight.item()
    2.0
    """

    n_averaged: Tensor

    def __init__(self, model: Module, device: Any = None, avg_fn: Average | None = None,
                 multi_avg_fn: MultiAverage | None = None, use_buffers: bool = False) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device)
        first = next(self.module.parameters(), None)
        self.register_buffer("n_averaged", zeros((), dtype=int64, device=None if first is None else first.device))
        self.avg_fn = _running_mean if avg_fn is None else avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the parameters of a model of the same structure into the averages."""
        averaged, current = self._averaged(self.module), self._averaged(model)
        current = [p.detach().to(mean.device) for mean, p in zip(averaged, current, strict=True)]
        if self.multi_avg_fn is not None:
            self.multi_avg_fn(averaged, current, self.n_averaged)
        else:
            for mean, p in zip(averaged, current, strict=True):
                mean.copy_(self.avg_fn(mean, p, self.n_averaged))
        for mean, p in zip(averaged, current, strict=True):
            mean.copy_(where(self.n_averaged == 0, p, mean))
        if not self.use_buffers:
            for kept, given in zip(self.module.buffers(), model.buffers(), strict=True):
                kept.copy_(given)
        self.n_averaged.add_(1)

    def _averaged(self, model: Module) -> list[Tensor]:
        """What is averaged of a model, without history."""
        buffers = list(model.buffers()) if self.use_buffers else []
        return [tensor.detach() for tensor in (*model.parameters(), *buffers)]


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of a model's BatchNorm layers anew, from one pass over a loader.

    Of batches that are lists or tuples the first part is the input. The layers' momentum stays as it is.
    """
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "reset_running_stats")]
    if not layers:
        return
    momenta, training = [layer.momentum for layer in layers], model.training
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    try:
        model.train()
        for batch in loader:
            inputs = batch[0] if isinstance(batch, list | tuple) else batch
            model(inputs if device is None else inputs.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(training)
