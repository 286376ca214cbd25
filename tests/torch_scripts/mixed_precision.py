"""Automatic mixed precision, as its recipe shows it."""

import torch

use_amp = torch.cuda.is_available()
device = "cuda" if use_amp else "cpu"


def make_model(in_size, out_size, num_layers):
    layers = []
    for _ in range(num_layers - 1):
        layers.append(torch.nn.Linear(in_size, in_size))
        layers.append(torch.nn.ReLU())
    layers.append(torch.nn.Linear(in_size, out_size))
    return torch.nn.Sequential(*tuple(layers)).to(device)


net = make_model(16, 4, 3)
for k, p in enumerate(net.parameters()):
    p.data = (torch.sin(torch.arange(p.numel(), device=device) + k) * 0.25).reshape(p.shape)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
loss_fn = torch.nn.MSELoss().to(device)
scaler = torch.amp.GradScaler(device, enabled=use_amp)
data = torch.linspace(-1, 1, 8 * 16, device=device).reshape(8, 16)
target = torch.linspace(0, 1, 8 * 4, device=device).reshape(8, 4)
for epoch in range(5):
    with torch.autocast(device_type=device, dtype=torch.bfloat16):
        output = net(data)
        assert output.dtype is torch.bfloat16
        loss = loss_fn(output, target)
        assert loss.dtype is torch.float32
    scaler.scale(loss).backward()
    scaler.unscale_(opt)
    torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
    scaler.step(opt)
    scaler.update()
    opt.zero_grad()
    print(epoch, f"{loss.item():.2f}")
checkpoint = {"model": net.state_dict(), "optimizer": opt.state_dict(), "scaler": scaler.state_dict()}
net.load_state_dict(checkpoint["model"])
print(scaler.is_enabled(), net[0].weight.dtype, torch.get_default_dtype())
with torch.amp.autocast("cpu", enabled=False):
    print(net.to("cpu")(data.cpu()).dtype)
half = net.bfloat16()
print(half(data.cpu().bfloat16()).float().mean().item() < 1)
print(torch.finfo(torch.float16).max, half[0].weight.element_size())
