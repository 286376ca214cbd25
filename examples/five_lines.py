"""The usual five lines of training, as written for PyTorch. Only the imports differ; there they are

    import torch
    from torch import nn, optim
"""

import tensorlite as torch
from tensorlite import nn, optim

torch.manual_seed(0)
x = torch.randn(10, 5)
y = torch.randint(0, 2, (10,))

model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.01)

for step in range(100):
    prediction = model(x)
    loss = criterion(prediction, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 20 == 0 or step == 99:
        print(f"step {step:3}: loss {loss.item():.4f}")

accuracy = (model(x).argmax(dim=1) == y).float().mean()
print(f"accuracy on the random data {accuracy.item():.2f}")
