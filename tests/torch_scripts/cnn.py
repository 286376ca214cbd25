"""An image classifier: convolutions, pooling, batch normalisation, per-class accuracy."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

classes = ("plane", "car", "bird", "cat")
grid = torch.linspace(-1, 1, 16)
yy, xx = torch.meshgrid(grid, grid, indexing="ij")


def image(i):
    kind, phase = i % 4, 0.1 * i
    patterns = (torch.sin(6 * xx + phase), torch.sin(6 * yy + phase), xx * yy + 0.1 * phase, (xx**2 + yy**2).sqrt())
    pattern = patterns[kind]
    return torch.stack([pattern, pattern.flip(0), 0.5 * pattern + 0.1 * yy])


images = torch.stack([image(i) for i in range(32)])
labels = torch.tensor([i % 4 for i in range(32)])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.dropout = nn.Dropout(p=0.0)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.fc1 = nn.Linear(16 * 2 * 2, 24)
        self.fc2 = nn.Linear(24, len(classes))

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.dropout(F.leaky_relu(self.fc1(x), 0.1))
        return self.fc2(x)


torch.backends.cudnn.benchmark = False
net = Net()
for i, (name, p) in enumerate(net.named_parameters()):
    if p.dim() > 1:
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(p)
        p.data.copy_(torch.cos(torch.arange(p.numel()) * (1.3 + i)).reshape(p.shape) / fan_in**0.5)
    elif name.endswith("bias"):
        p.data.zero_()
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
print(sum(p.numel() for p in net.parameters() if p.requires_grad), "parameters")

for epoch in range(4):
    running_loss = 0.0
    net.train()
    for i in range(0, len(images), 8):
        inputs, targets = images[i:i + 8], labels[i:i + 8]
        optimizer.zero_grad(set_to_none=True)
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    print(f"[{epoch + 1}] loss: {running_loss / 4:.4f}")
print("Finished Training")

net.eval()
correct_pred = dict.fromkeys(classes, 0)
total_pred = dict.fromkeys(classes, 0)
with torch.no_grad():
    outputs = net(images)
    _, predictions = torch.max(outputs, 1)
    for label, prediction in zip(labels, predictions):
        if label == prediction:
            correct_pred[classes[label]] += 1
        total_pred[classes[label]] += 1
for classname, correct_count in correct_pred.items():
    accuracy = 100 * float(correct_count) / total_pred[classname]
    print(f"Accuracy for class: {classname:5s} is {accuracy:.1f} %")
print(net.bn1.running_mean, net.bn1.num_batches_tracked)
print(F.interpolate(images[:1], scale_factor=2, mode="nearest").mean(), F.avg_pool2d(images[:1], 4).shape)
print(nn.functional.pad(images[:1], (1, 1, 1, 1), mode="reflect").shape, F.max_pool2d(images[:1], 2).sum())
