"""Generator "optim": optimizers with random options and groups, some steps with a schedule: parameters and rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import tensorlite as tl
from fuzz.compare import agree, array_of, worst
from fuzz.draw import Draw
from fuzz.tally import Failure, Tally

RATE = (1e-3, 0.01, 0.1)
DECAY = (0.0, 0.0, 0.1)
BETAS = ((0.9, 0.999), (0.8, 0.9), (0.5, 0.99))
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "SGD": {
        "lr": RATE,
        "momentum": (0.0, 0.9),
        "dampening": (0.0, 0.3),
        "weight_decay": DECAY,
        "maximize": (False, True),
    },
    "Adam": {
        "lr": RATE,
        "betas": BETAS,
        "eps": (1e-8, 1e-3),
        "weight_decay": DECAY,
        "amsgrad": (False, True),
        "maximize": (False, True),
    },
    "AdamW": {
        "lr": RATE,
        "betas": BETAS,
        "eps": (1e-8, 1e-3),
        "weight_decay": DECAY,
        "amsgrad": (False, True),
        "maximize": (False, True),
    },
    "NAdam": {"lr": RATE, "betas": BETAS, "weight_decay": DECAY, "momentum_decay": (0.004, 0.1)},
    "RAdam": {"lr": RATE, "betas": BETAS, "weight_decay": DECAY},
    "Adamax": {"lr": RATE, "betas": BETAS, "weight_decay": DECAY},
    "Adagrad": {"lr": RATE, "lr_decay": (0.0, 0.1), "weight_decay": DECAY, "initial_accumulator_value": (0.0, 0.5)},
    "Adadelta": {"lr": (1.0, 0.1), "rho": (0.9, 0.5), "weight_decay": DECAY},
    "RMSprop": {
        "lr": RATE,
        "alpha": (0.99, 0.7),
        "weight_decay": DECAY,
        "momentum": (0.0, 0.6),
        "centered": (False, True),
    },
    "Rprop": {"lr": RATE, "etas": ((0.5, 1.2), (0.3, 1.5))},
    "ASGD": {"lr": RATE, "lambd": (1e-4, 0.1), "alpha": (0.75, 0.5), "t0": (1e6, 2), "weight_decay": DECAY},
}
SCHEDULES: dict[str, tuple[Any, ...]] = {
    "StepLR": (2, 0.5),
    "ExponentialLR": (0.9,),
    "CosineAnnealingLR": (3,),
    "LinearLR": (0.3, 1.0, 3),
    "PolynomialLR": (4, 2.0),
    "ConstantLR": (0.5, 2),
    "MultiStepLR": ([1, 3], 0.3),
    "CosineAnnealingWarmRestarts": (2,),
}


class Optimizers:
    """The generator."""

    name = "optim"

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.draw, self.device = Draw(seed), device
        self.tally = Tally(self.name, seed)

    def run(self, number: int) -> None:
        draw = self.draw.begin(number)
        name = draw.pick(tuple(OPTIONS))
        options = {key: draw.pick(values) for key, values in OPTIONS[name].items() if draw.chance(0.7) or key == "lr"}
        if name == "SGD" and options.get("momentum") and draw.chance(0.4):
            options |= {"nesterov": True, "dampening": 0.0}
        dtype = draw.pick(("float64", "float64", "float32"))
        shapes = [draw.shape(0, 3, empty=draw.chance(0.1)) for _ in range(draw.int(1, 4))]
        schedule = draw.pick(tuple(SCHEDULES)) if draw.chance(0.4) else None
        self.tally.cases += 1
        self.tally.calls[name] += 1
        try:
            found = self.differs(draw, name, options, dtype, shapes, schedule)
        except Exception as error:
            found = f"raises {error!r}"
        if found is not None:
            text = f"optim.{name}({[*shapes]}, {options}), {dtype}, schedule {schedule}"
            self.tally.failures.append(Failure(self.name, self.tally.seed, number, found, text))

    def differs(
        self, draw: Draw, name: str, options: dict[str, Any], dtype: str, shapes: list[Any], schedule: str | None
    ) -> str | None:
        arrays = [draw.values(s, dtype, "smooth") for s in shapes]
        ours = [tl.tensor(a, device=self.device, requires_grad=True) for a in arrays]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        split = draw.int(1, len(shapes)) if draw.chance(0.4) else len(shapes)
        steppers = []
        for library, params in ((tl, ours), (torch, theirs)):
            groups: Any = (
                params if split == len(params) else [{"params": params[:split]}, {"params": params[split:], "lr": 0.03}]
            )
            optimizer = getattr(library.optim, name)(groups, **options)
            scheduler = (
                getattr(library.optim.lr_scheduler, schedule)(optimizer, *SCHEDULES[schedule]) if schedule else None
            )
            steppers.append((optimizer, scheduler))
        for step in range(draw.int(1, 6)):
            for p, q in zip(ours, theirs, strict=True):
                absent = draw.chance(0.1)
                gradient = draw.values(p.shape, dtype, "smooth")
                p.grad = None if absent else tl.tensor(gradient, device=self.device)
                q.grad = None if absent else torch.tensor(gradient)
            for optimizer, scheduler in steppers:
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
            for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
                self.tally.compared()
                a, b = array_of(p if self.device == "cpu" else p.cpu()), array_of(q)
                if not agree(a, b, dtype, False, 4.0):
                    return f"step {step}, parameter {i}: {worst(a, b)}"
            mine, other = ([group["lr"] for group in optimizer.param_groups] for optimizer, _ in steppers)
            if not np.allclose(mine, other, rtol=1e-12):
                return f"step {step}: learning rates {mine}, PyTorch {other}"
        return None
