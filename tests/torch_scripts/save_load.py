"""Saving and loading: state dicts, checkpoints, buffers, parts of a model."""

import copy
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class TheModelClass(nn.Module):
    def __init__(self):
        super(TheModelClass, self).__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, bias=False)
        self.bn = nn.BatchNorm2d(2)
        self.fc1 = nn.Linear(2 * 3 * 3, 4)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.conv1(x))), 2)
        return self.fc1(x.view(-1, 2 * 3 * 3)) * self.scale


model = TheModelClass()
for k, p in enumerate(model.parameters()):
    p.data.copy_(torch.cos(torch.arange(p.numel()).float() + k).reshape(p.shape))
optimizer = optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.99))
x = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
for _ in range(3):
    optimizer.zero_grad()
    loss = model(x).pow(2).mean()
    loss.backward()
    optimizer.step()
print("Model's state_dict:")
for param_tensor in model.state_dict():
    print(param_tensor, "\t", model.state_dict()[param_tensor].size())
print("Optimizer's state_dict:")
print(sorted(optimizer.state_dict()), optimizer.state_dict()["param_groups"][0]["lr"])

folder = tempfile.mkdtemp()
PATH = os.path.join(folder, "model.pt")
torch.save({
    "epoch": 3,
    "model_state_dict": model.state_dict(),
    "optimizer_state_dict": optimizer.state_dict(),
    "loss": loss.item(),
}, PATH)

other = TheModelClass()
other_optimizer = optim.Adam(other.parameters(), lr=0.5)
checkpoint = torch.load(PATH, map_location=torch.device("cpu"), weights_only=True)
other.load_state_dict(checkpoint["model_state_dict"])
other_optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
epoch, loss = checkpoint["epoch"], checkpoint["loss"]
print(epoch, loss, other_optimizer.param_groups[0]["lr"])
for net, opt in ((model, optimizer), (other, other_optimizer)):
    opt.zero_grad()
    net(x).pow(2).mean().backward()
    opt.step()
model.eval()
other.eval()
print(torch.equal(model(x), other(x)), other(x))

best = copy.deepcopy(model.state_dict())
torch.save(best, os.path.join(folder, "best.pth"))
state = torch.load(os.path.join(folder, "best.pth"))
del state["fc1.bias"]
state["extra"] = torch.zeros(1)
result = TheModelClass().load_state_dict(state, strict=False)
print(result.missing_keys, result.unexpected_keys)
try:
    TheModelClass().load_state_dict(state)
except RuntimeError as error:
    print("fc1.bias" in str(error))
tensors = [torch.arange(3), {"a": torch.ones(2)}]
torch.save(tensors, os.path.join(folder, "tensors.pt"))
print(torch.load(os.path.join(folder, "tensors.pt")))
clone = copy.deepcopy(model)
clone.fc1.weight.data.zero_()
print(model.fc1.weight.abs().sum() > 0, [n for n, _ in model.named_buffers()], [n for n, _ in model.named_children()])
