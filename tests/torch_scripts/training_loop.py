"""A careful loop: initialisation, accumulation, clipping, early stopping, weight averages."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters

torch.set_printoptions(precision=4, sci_mode=False)
torch.set_default_dtype(torch.float32)
torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleDict({"first": nn.Linear(3, 16), "second": nn.Linear(16, 16)})
        self.norm = nn.LayerNorm(16)
        self.act = nn.GELU()
        self.head = nn.Linear(16, 1)
        self.log_scale = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        for block in self.blocks.values():
            x = self.act(block(x))
        return self.head(self.norm(x)).squeeze(-1) * self.log_scale.exp()


def init_weights(m):
    if type(m) is nn.Linear:
        nn.init.xavier_uniform_(m.weight, gain=nn.init.calculate_gain("relu"))
        torch.nn.init.zeros_(m.bias)


model = Net()
model.apply(init_weights)
size = parameters_to_vector(model.parameters()).numel()
vector_to_parameters(0.3 * torch.sin(torch.arange(size) * 1.234), model.parameters())
X = torch.stack([torch.sin(torch.arange(64.0) * k) for k in (1, 2, 3)], dim=1)
y = X[:, 0] * X[:, 1] - X[:, 2].clamp(min=0)
decay, no_decay = [], []
for name, param in model.named_parameters():
    (no_decay if param.ndim < 2 or name.endswith("bias") else decay).append(param)
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}],
    lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
criterion = nn.HuberLoss(delta=0.5)
ema_model = torch.optim.swa_utils.AveragedModel(model)
accumulation_steps, best, patience = 2, float("inf"), 0
for epoch in range(8):
    model.train()
    optimizer.zero_grad()
    for step, (xb, yb) in enumerate(zip(X.split(16), y.split(16))):
        loss = criterion(model(xb), yb) / accumulation_steps
        loss.backward()
        if (step + 1) % accumulation_steps == 0:
            grad_norm = clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema_model.update_parameters(model)
    with torch.no_grad():
        val = criterion(model(X), y).item()
    print(f"{epoch} {val:.5f} {grad_norm.item():.4f}")
    if val < best - 1e-3:
        best, patience = val, 0
    else:
        patience += 1
        if patience > 3:
            break
print(torch.isfinite(parameters_to_vector(model.parameters())).all(), ema_model(X[:2]))
criterion(model(X), y).backward()
norms = [torch.norm(p.grad.detach(), 2) for p in model.parameters() if p.grad is not None]
total_norm = torch.norm(torch.stack(norms), 2)
print(total_norm)
compiled = torch.compile(model)
print(torch.allclose(compiled(X[:4]), model(X[:4])))
