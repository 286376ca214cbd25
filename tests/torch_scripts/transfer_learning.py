"""A trained trunk with a new head: frozen parameters, groups, hooks."""

import copy

import torch
import torch.backends.cudnn as cudnn
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler

cudnn.benchmark = True


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_planes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(x))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.layers = nn.ModuleList([BasicBlock(1, 4), BasicBlock(4, 8, stride=2)])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def by_formula(module):
    for k, p in enumerate(module.parameters()):
        p.data = 0.4 * torch.sin(torch.arange(p.numel(), dtype=torch.float32) * (1.7 + k)).reshape(p.shape)


model_ft = ResNet()
by_formula(model_ft)
for param in model_ft.parameters():
    param.requires_grad = False
num_ftrs = model_ft.fc.in_features
model_ft.fc = nn.Linear(num_ftrs, 2)
nn.init.constant_(model_ft.fc.weight, 0.05)
nn.init.constant_(model_ft.fc.bias, 0.0)
print([n for n, p in model_ft.named_parameters() if p.requires_grad])
inputs = torch.cos(torch.arange(6 * 36.0) * 0.37).reshape(6, 1, 6, 6)
labels = torch.tensor([0, 1, 0, 1, 1, 0])
criterion = nn.CrossEntropyLoss()
optimizer_ft = optim.SGD(model_ft.fc.parameters(), lr=0.1, momentum=0.9)
exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=2, gamma=0.1)


def train_model(model, criterion, optimizer, scheduler, num_epochs=4):
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = 0.0
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                outputs = model(inputs)
                _, preds = torch.max(outputs, 1)
                loss = criterion(outputs, labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
            running_corrects = torch.sum(preds == labels.data)
            if phase == "train":
                scheduler.step()
            epoch_acc = running_corrects.double() / len(labels)
            print(f"{phase} Loss: {loss.item():.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_model_wts)
    return model


model_ft = train_model(model_ft, criterion, optimizer_ft, exp_lr_scheduler)
activation = {}


def get_activation(name):
    def hook(model, input, output):
        activation[name] = output.detach()
    return hook


handle = model_ft.layers[1].register_forward_hook(get_activation("block"))
model_ft(inputs)
handle.remove()
print(activation["block"].shape, activation["block"].mean())
for param in model_ft.layers[-1].parameters():
    param.requires_grad_(True)
optimizer = optim.AdamW([
    {"params": model_ft.layers[-1].parameters(), "lr": 1e-4},
    {"params": model_ft.fc.parameters()},
], lr=1e-3)
criterion(model_ft(inputs), labels).backward()
optimizer.step()
print(model_ft.fc.weight, sum(p.numel() for p in model_ft.parameters()))
feature_extractor = nn.Sequential(*list(model_ft.layers.children()), nn.Flatten())
print(feature_extractor(inputs).shape, isinstance(model_ft.fc, nn.Module), type(model_ft).__name__)
