"""Parts of speech by an LSTM; packed sequences."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

training_data = [
    ("The dog ate the apple".split(), ["DET", "NN", "V", "DET", "NN"]),
    ("Everybody read that book".split(), ["NN", "V", "DET", "NN"]),
]
word_to_ix = {}
for sent, tags in training_data:
    for word in sent:
        if word not in word_to_ix:
            word_to_ix[word] = len(word_to_ix)
tag_to_ix = {"DET": 0, "NN": 1, "V": 2}


def prepare_sequence(seq, to_ix):
    return torch.tensor([to_ix[w] for w in seq], dtype=torch.long)


class LSTMTagger(nn.Module):
    def __init__(self, embedding_dim, hidden_dim, vocab_size, tagset_size):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim)
        self.hidden2tag = nn.Linear(hidden_dim, tagset_size)

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds.view(len(sentence), 1, -1))
        tag_space = self.hidden2tag(lstm_out.view(len(sentence), -1))
        return F.log_softmax(tag_space, dim=1)


model = LSTMTagger(6, 6, len(word_to_ix), len(tag_to_ix))
for k, p in enumerate(model.parameters()):
    p.data = 0.5 * torch.cos(torch.arange(p.nelement()) * 0.9 + k).reshape(p.shape)
loss_function = nn.NLLLoss()
optimizer = optim.SGD(model.parameters(), lr=0.1)
with torch.no_grad():
    print(model(prepare_sequence(training_data[0][0], word_to_ix)))
for epoch in range(60):
    for sentence, tags in training_data:
        model.zero_grad()
        sentence_in = prepare_sequence(sentence, word_to_ix)
        targets = prepare_sequence(tags, tag_to_ix)
        tag_scores = model(sentence_in)
        loss = loss_function(tag_scores, targets)
        loss.backward()
        optimizer.step()
with torch.no_grad():
    tag_scores = model(prepare_sequence(training_data[0][0], word_to_ix))
    print(tag_scores, tag_scores.argmax(dim=-1).tolist())

lengths = torch.tensor([5, 4])
batch = pad_sequence(
    [model.word_embeddings(prepare_sequence(s, word_to_ix)) for s, _ in training_data], batch_first=True)
bi = nn.LSTM(6, 4, num_layers=2, batch_first=True, bidirectional=True)
for k, (name, p) in enumerate(bi.named_parameters()):
    p.data = 0.3 * torch.sin(torch.arange(p.numel()) * 1.3 + k).reshape(p.shape)
h0 = torch.zeros(4, 2, 4)
c0 = torch.zeros(4, 2, 4)
packed = pack_padded_sequence(batch, lengths, batch_first=True, enforce_sorted=True)
output, (hn, cn) = bi(packed, (h0, c0))
output, out_lengths = pad_packed_sequence(output, batch_first=True)
print(output.shape, out_lengths, hn.sum(), cn[-1])
