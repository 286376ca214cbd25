"""A variational autoencoder."""

import torch
from torch import nn, optim
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(16, 12)
        self.fc21 = nn.Linear(12, 3)
        self.fc22 = nn.Linear(12, 3)
        self.fc3 = nn.Linear(3, 12)
        self.fc4 = nn.Linear(12, 16)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        if self.training:
            eps = torch.cos(torch.arange(std.numel(), dtype=std.dtype)).view_as(std)
            return eps.mul(std).add_(mu)
        return mu

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 16))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 16), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


model = VAE()
for k, p in enumerate(model.parameters()):
    nn.init.constant_(p, 0)
    p.data.add_(torch.sin(torch.arange(p.numel()) * (1.1 + k)).reshape(p.shape), alpha=0.3)
optimizer = optim.Adam(model.parameters(), lr=1e-2)
data = (torch.sin(torch.arange(20 * 16.0) * 0.3).view(20, 1, 4, 4) > 0).float()
for epoch in range(1, 6):
    model.train()
    train_loss = 0
    for batch in torch.split(data, 5):
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(batch)
        loss = loss_function(recon_batch, batch, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    print(f"====> Epoch: {epoch} Average loss: {train_loss / len(data):.4f}")
with torch.no_grad():
    model.eval()
    recon, mu, _ = model(data[:2])
    print(mu, recon.view(2, 1, 4, 4)[0, 0])
posterior = torch.distributions.Normal(mu, torch.ones_like(mu))
prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
print(posterior.log_prob(mu).sum(), torch.distributions.kl_divergence(posterior, prior).mean())
