"""Losses that compare: triplets, pairs, rankings; and some activations."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.PReLU(), nn.Linear(8, 6), nn.GLU(dim=-1))

    def forward(self, x):
        return F.normalize(self.body(x), dim=1)


net = Embedder()
for k, p in enumerate(net.parameters()):
    if p.numel() > 1:
        p.data.copy_(torch.sin(torch.arange(p.numel()) * (0.9 + k)).view(p.shape))
anchor = torch.sin(torch.arange(20.0)).reshape(5, 4)
positive, negative = anchor + 0.1 * torch.cos(anchor), anchor.flip(0)
optimizer = torch.optim.Adagrad(net.parameters(), lr=0.05)
triplet_loss = nn.TripletMarginLoss(margin=0.5, p=2)
for step in range(5):
    loss = triplet_loss(net(anchor), net(positive), net(negative))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    print(step, f"{loss.item():.5f}")
a, b = net(anchor), net(negative)
y = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0])
print(nn.CosineEmbeddingLoss(margin=0.1)(a, b, y), nn.CosineSimilarity(dim=1)(a, b))
print(nn.MarginRankingLoss(margin=0.2)(a[:, 0], b[:, 0], y), nn.HingeEmbeddingLoss()(a[:, 1], y))
print(nn.PoissonNLLLoss()(a, b.abs()), nn.GaussianNLLLoss()(a, b, torch.full_like(a, 0.5)))
print(nn.MultiLabelSoftMarginLoss()(a, (b > 0).float()), nn.SoftMarginLoss()(a[:, 0], y))
print(nn.MultiMarginLoss()(a, torch.tensor([0, 1, 2, 0, 1])))
print(F.kl_div(a.log_softmax(1), b.softmax(1), reduction="batchmean"))
print(F.triplet_margin_loss(anchor, positive, negative), F.smooth_l1_loss(a, b), F.l1_loss(a, b))
print(torch.cdist(a, b), 1 - torch.matmul(a, b.t()))
x = torch.linspace(-2, 2, 7)
for layer in (nn.ELU(), nn.SELU(), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Softsign(), nn.Hardtanh(), nn.Tanhshrink(),
              nn.Softshrink(0.3), nn.Hardshrink(), nn.Threshold(0.1, 20), nn.LogSigmoid(), nn.Hardswish(), nn.ReLU6(),
              nn.CELU(0.5), nn.Softmin(dim=0)):
    print(layer, layer(x))
print(F.gumbel_softmax(torch.zeros(2, 3), tau=0.5, hard=True).sum(dim=1), F.glu(torch.arange(4.0), dim=0))
