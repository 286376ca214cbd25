"""Learning rates over time."""

import warnings

import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

warnings.filterwarnings("ignore", category=UserWarning)
model = nn.Linear(2, 1)
nn.init.ones_(model.weight)
nn.init.zeros_(model.bias)


def rates(make, steps=8):
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    seen = []
    for _ in range(steps):
        optimizer.step()
        seen.append(round(optimizer.param_groups[0]["lr"], 6))
        scheduler.step()
    return seen


print("step", rates(lambda o: StepLR(o, step_size=3, gamma=0.1)))
print("multistep", rates(lambda o: MultiStepLR(o, milestones=[2, 5], gamma=0.5)))
print("exponential", rates(lambda o: ExponentialLR(o, gamma=0.9)))
print("cosine", rates(lambda o: CosineAnnealingLR(o, T_max=8, eta_min=0.001)))
print("restarts", rates(lambda o: CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2)))
print("lambda", rates(lambda o: LambdaLR(o, lr_lambda=lambda epoch: 0.95**epoch)))
print("linear", rates(lambda o: LinearLR(o, start_factor=0.5, total_iters=4)))
print("one cycle", rates(lambda o: OneCycleLR(o, max_lr=0.5, steps_per_epoch=4, epochs=2)))
print("cyclic", rates(lambda o: CyclicLR(o, base_lr=0.01, max_lr=0.1, step_size_up=2)))
print("warmup", rates(lambda o: SequentialLR(
    o, schedulers=[LinearLR(o, 0.1, total_iters=3), CosineAnnealingLR(o, T_max=5)], milestones=[3])))

optimizer = AdamW([
    {"params": [model.weight], "lr": 1e-3, "weight_decay": 1e-2},
    {"params": [model.bias]},
], lr=1e-4, weight_decay=0.0)
scheduler = ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=1)
x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
for epoch, val_loss in enumerate([1.0, 0.9, 0.95, 0.96, 0.97, 0.8]):
    loss = nn.functional.mse_loss(model(x), torch.ones(2, 1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step(val_loss)
    print(epoch, [group["lr"] for group in optimizer.param_groups], f"{loss.item():.6f}")
print(scheduler.state_dict()["num_bad_epochs"], len(optimizer.state))
