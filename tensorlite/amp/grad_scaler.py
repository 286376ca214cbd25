"""`GradScaler`: keeps the gradients of a loss in float16's range, and leaves out the steps in which it did not.

All that a step decides stays on the device: whether a gradient was inf or NaN, the skipping (the optimizers' kernels
are told where to look), and the scale of the next step. Nothing waits, and a recorded step replays all of it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import numpy as np

from .. import dtypes
from ..autograd.tape import wrap
from ..backends import Backend, as_device, recording
from ..errors import ArgumentError, DTypeError, GradError
from ..optim import Optimizer
from ..tensor import Tensor

T = TypeVar("T")

READY, UNSCALED, STEPPED = "ready", "unscaled", "stepped"
_FLOAT32, _INT32 = dtypes.float32.numpy, dtypes.int32.numpy


class _Progress:
    """How far one optimizer has come since the last update(), and what was found in its gradients, per device."""

    def __init__(self) -> None:
        self.stage = READY
        self.found_inf: dict[Backend, Tensor] = {}


class GradScaler:
    """Multiplies the loss by a scale, divides the gradients by it, and skips a step with an inf or NaN among them.

    device          accepted for PyTorch's sake: the scale lies where the first loss does
    init_scale      the scale at the start
    growth_factor   by which the scale grows after `growth_interval` steps in a row without inf or NaN
    backoff_factor  by which it shrinks after a step that was skipped
    enabled         False makes scale() and step() do nothing of their own, so that a program needs no second version

    An optimizer with a step() of its own, not made of the library's kernels, is skipped on the host, which waits.
    Micikevicius et al. 2018. Raises ArgumentError for factors that would not grow or not shrink the scale.

    >>> w = tl.ones(2, requires_grad=True)
    >>> optimizer, scaler = optim.SGD([w], lr=0.5), tl.amp.GradScaler("cpu", init_scale=1024.0)
    >>> scaler.scale((w * tl.tensor([1.0, 2.0])).sum()).backward()
    >>> w.grad
    tensor([1024., 2048.])
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w
    tensor([0.5000, 0.0000], requires_grad=True)
    """

    def __init__(self, device: Any = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True) -> None:
        as_device(device)
        if growth_factor <= 1.0 or not 0.0 < backoff_factor < 1.0:
            raise ArgumentError("GradScaler: growth_factor must be > 1.0 and backoff_factor between 0 and 1, got "
                                f"{growth_factor} and {backoff_factor}")
        self._enabled = enabled
        self._init_scale = float(init_scale)
        self._init_growth_tracker = 0
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._scale: Tensor | None = None
        self._growth_tracker: Tensor | None = None
        self._progress: dict[Optimizer, _Progress] = {}

    # --- a step ----------------------------------------------------------------------------------------------------

    def scale(self, outputs: T) -> T:
        """A Tensor, or each of a list, tuple or iterable of them, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return cast(T, self._scaled(outputs))
        if isinstance(outputs, (list, tuple)):
            return cast(T, type(outputs)([self.scale(x) for x in outputs]))
        if isinstance(outputs, Iterable):
            return cast(T, map(self.scale, outputs))
        raise DTypeError(f"GradScaler.scale: expected a Tensor or an iterable of Tensors, got {type(outputs).__name__}")

    def _scaled(self, x: Tensor) -> Tensor:
        if self._scale is None:
            recording.refuse("the first loss that a GradScaler scales, for which it makes its scale,")
            self._scale = _zero_dim(x.backend, _FLOAT32, self._init_scale)
            self._growth_tracker = _zero_dim(x.backend, _INT32, self._init_growth_tracker)
        scale = self._scale.to(x.device)
        if x.dtype.is_narrow and x.ndim:  # float16 does not hold the scale itself
            return (x.float() * scale).to(x.dtype)
        return x * scale

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the optimizer's gradients by the scale now, for a look at them or to clip them before step().

        Raises GradError if that was done already since the last update(), DTypeError for float16 gradients.
        """
        if not self._enabled:
            return
        scale = self._require_scale("unscale_")
        progress = self._progress.setdefault(optimizer, _Progress())
        if progress.stage is UNSCALED:
            raise GradError("unscale_() has already been called on this optimizer since the last update(). If that "
                            "step was broken off, call update() and go on")
        if progress.stage is STEPPED:
            raise GradError("unscale_() is being called after step().")
        for (backend, _), grads in _gradients(optimizer).items():
            if backend not in progress.found_inf:
                progress.found_inf[backend] = _zero_dim(backend, _FLOAT32, 0.0)
            found_inf = progress.found_inf[backend]
            for tensor in (found_inf, *grads):
                tensor._bump()
            backend.run("amp_unscale", tuple([g.array for g in grads]), scale.to(backend.device).array, found_inf.array)
        progress.stage = UNSCALED

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """`unscale_(optimizer)` unless that was done, then `optimizer.step()`, which changes nothing after inf or NaN.

        Hooks of the optimizer run in either case. Returns what optimizer.step() does. If it is broken off by Ctrl-C or
        an error, the next gradients are unscaled anew. Raises GradError for a second call before update(), or where no
        gradient was scaled; ArgumentError for a closure.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if args or kwargs:
            raise ArgumentError("Closure use is not currently supported if GradScaler is enabled: it would be called "
                                "after the gradients were checked; compute the loss before step()")
        self._require_scale("step")
        progress = self._progress.setdefault(optimizer, _Progress())
        if progress.stage is STEPPED:
            raise GradError("step() has already been called since the last update(). If that was broken off, call "
                            "update() and go on")
        try:
            if progress.stage is READY:
                self.unscale_(optimizer)
            if not progress.found_inf:
                raise GradError("No inf checks were recorded for this optimizer: none of its parameters has a "
                                "gradient; call scaler.scale(loss).backward() first")
            result = self._step_unless(_any(progress.found_inf.values()), optimizer)
            progress.stage = STEPPED
        except BaseException:  # the next gradients must not be taken for those that were divided here
            self._progress.pop(optimizer, None)
            raise
        return result

    def _step_unless(self, found_inf: Tensor, optimizer: Optimizer) -> Any:
        if type(optimizer).step is not Optimizer.step:  # its own, which does not look at the device
            return None if found_inf.item() else optimizer.step()
        optimizer._found_inf = found_inf
        try:
            return optimizer.step()
        finally:
            optimizer._found_inf = None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """End the step: the scale shrinks if inf or NaN was found, grows after growth_interval good steps, or is set.

        Raises GradError if no step came before.
        """
        if not self._enabled:
            return
        scale = self._require_scale("update")
        scale._bump()
        backend = scale.backend
        if new_scale is None:
            found = [f for progress in self._progress.values() for f in progress.found_inf.values()]
            if not found:
                raise GradError("No inf checks were recorded prior to update: call scaler.step(optimizer) first")
            assert self._growth_tracker is not None
            self._growth_tracker._bump()
            options = self._options()
            backend.run("amp_update", scale.array, self._growth_tracker.array, _any(found).to(scale.device).array,
                        **options)
            if (recorder := recording.here()) is not None:
                recorder.before_replay(functools.partial(self._outdate_if_changed, recorder, options))
        elif isinstance(new_scale, Tensor):
            if new_scale.numel() != 1:
                raise ArgumentError(f"GradScaler.update: new_scale must hold one number, got shape {new_scale.shape}")
            backend.run("copy", scale.array, new_scale.detach().to(scale.device, scale.dtype).reshape(()).array)
        else:
            backend.run("fill", scale.array, float(new_scale))
        self._progress = {}

    def _outdate_if_changed(self, recorder: recording.Recorder, options: dict[str, Any]) -> None:
        if options != self._options():
            recorder.outdate("the factors of a GradScaler were changed")

    def _options(self) -> dict[str, Any]:
        return {"growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval}

    def _require_scale(self, called: str) -> Tensor:
        if self._scale is None:
            raise GradError(f"Attempted {called} but nothing was scaled: call scaler.scale(loss).backward() first")
        return self._scale

    # --- looking, setting and saving -------------------------------------------------------------------------------

    def get_scale(self) -> float:
        """The present scale, 1.0 if disabled. Waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else float(self._scale.item())

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else int(self._growth_tracker.item())

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, what changes it, and the number of good steps since; {} if disabled. Waits for the device."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), **self._options(), "_growth_tracker": self._get_growth_tracker()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a `state_dict()`, PyTorch's too, and forget a step under way. ArgumentError for an empty one."""
        if not self._enabled:
            return
        if not state_dict:
            raise ArgumentError("The source state dict is empty, possibly because it was saved from a disabled "
                                "instance of GradScaler.")
        self._progress = {}
        self._init_scale = float(state_dict["scale"])
        self._init_growth_tracker = int(state_dict["_growth_tracker"])
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        for tensor, value in ((self._scale, self._init_scale), (self._growth_tracker, self._init_growth_tracker)):
            if tensor is not None:
                tensor._bump()
                tensor.backend.run("fill", tensor.array, value)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from; it makes its own scale where its first loss lies."""
        if self._progress:
            raise GradError("A GradScaler instance may only be copied or pickled at the beginning of an iteration, or "
                            "at the end after scaler.update().")
        return {**self.__dict__, "_init_scale": self.get_scale(), "_init_growth_tracker": self._get_growth_tracker(),
                "_scale": None, "_growth_tracker": None}


def _zero_dim(backend: Backend, dtype: np.dtype[Any], value: float) -> Tensor:
    return wrap(backend.fill("fill", (), dtype, value), backend)


def _any(found: Iterable[Tensor]) -> Tensor:
    """1 if one of these is, on the device of the first."""
    first, *others = found
    for other in others:
        first = first.maximum(other.to(first.device))
    return first


def _gradients(optimizer: Optimizer) -> dict[tuple[Backend, np.dtype[Any]], list[Tensor]]:
    """The gradients of an optimizer by device and dtype, each once."""
    found: dict[tuple[Backend, np.dtype[Any]], list[Tensor]] = {}
    params = dict.fromkeys(param for group in optimizer.param_groups for param in group["params"])
    for param in params:
        grad = param.grad
        if grad is None:
            continue
        if grad.dtype is dtypes.float16:
            raise DTypeError("Attempting to unscale FP16 gradients: keep the parameters in float32 and compute in "
                             "float16 under tl.autocast")
        found.setdefault((grad.backend, grad.array.dtype), []).append(grad)
    return found
