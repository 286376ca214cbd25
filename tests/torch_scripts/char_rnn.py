"""Names classified by a recurrent network, letter by letter."""

import string

import torch
import torch.nn as nn
import torch.nn.functional as F

allowed = string.ascii_lowercase + "_"
n_letters = len(allowed)
names = {
    "it": ["rossi", "bianchi", "conti"],
    "pl": ["kowalski", "nowak", "wozniak"],
    "jp": ["sato", "suzuki", "tanaka"],
}
labels = list(names)


def letterToIndex(letter):
    return allowed.find(letter)


def lineToTensor(line):
    tensor = torch.zeros(len(line), 1, n_letters)
    for li, letter in enumerate(line):
        tensor[li][0][letterToIndex(letter)] = 1
    return tensor


class CharRNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(CharRNN, self).__init__()
        self.rnn = nn.RNN(input_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, line_tensor):
        rnn_out, hidden = self.rnn(line_tensor)
        output = self.h2o(hidden[0])
        return self.softmax(output)


def label_from_output(output, output_labels):
    top_n, top_i = output.topk(1)
    label_i = top_i[0].item()
    return output_labels[label_i], label_i


rnn = CharRNN(n_letters, 16, len(labels))
for k, (name, p) in enumerate(rnn.named_parameters()):
    nn.init.constant_(p, 0.0)
    with torch.no_grad():
        p += 0.25 * torch.sin(torch.arange(p.numel(), dtype=p.dtype) * (k + 1.1)).view(p.size())
print(lineToTensor("sato").size())
optimizer = torch.optim.SGD(rnn.parameters(), lr=0.3)
criterion = nn.NLLLoss()
pairs = [(lineToTensor(line), torch.tensor([labels.index(label)])) for label in labels for line in names[label]]
for epoch in range(12):
    rnn.train()
    rnn.zero_grad()
    batch_loss = 0
    for line_tensor, label_tensor in pairs:
        output = rnn.forward(line_tensor)
        batch_loss += criterion(output, label_tensor)
    batch_loss /= len(pairs)
    batch_loss.backward()
    nn.utils.clip_grad_norm_(rnn.parameters(), 3)
    optimizer.step()
    if epoch % 4 == 3:
        print(f"{epoch} average batch loss = {batch_loss.item():.5f}")

confusion = torch.zeros(len(labels), len(labels))
rnn.eval()
with torch.no_grad():
    for line_tensor, label_tensor in pairs:
        guess, guess_i = label_from_output(rnn(line_tensor), labels)
        confusion[label_tensor.item()][guess_i] += 1
for i in range(len(labels)):
    denom = confusion[i].sum()
    if denom > 0:
        confusion[i] = confusion[i] / denom
print(confusion.cpu().numpy())

cell = nn.GRUCell(4, 3)
for p in cell.parameters():
    p.data.fill_(0.1)
hx = torch.zeros(2, 3)
for step in torch.eye(4).unsqueeze(1).expand(4, 2, 4):
    hx = cell(step, hx)
print(hx, F.one_hot(torch.tensor([1, 0]), num_classes=3))
