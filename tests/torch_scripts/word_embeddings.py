"""Word embeddings from an n-gram model; which words are alike."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

CONTEXT_SIZE, EMBEDDING_DIM = 2, 8
test_sentence = """when forty winters shall besiege thy brow and dig deep trenches in thy beauty field
thy youth proud livery so gazed on now will be a tattered weed of small worth held""".split()
ngrams = [([test_sentence[i - j - 1] for j in range(CONTEXT_SIZE)], test_sentence[i])
          for i in range(CONTEXT_SIZE, len(test_sentence))]
vocab = sorted(set(test_sentence))
word_to_ix = {word: i for i, word in enumerate(vocab)}


class NGramLanguageModeler(nn.Module):
    def __init__(self, vocab_size, embedding_dim, context_size):
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.linear1 = nn.Linear(context_size * embedding_dim, 32)
        self.linear2 = nn.Linear(32, vocab_size)

    def forward(self, inputs):
        embeds = self.embeddings(inputs).view((1, -1))
        out = F.relu(self.linear1(embeds))
        out = self.linear2(out)
        return F.log_softmax(out, dim=1)


losses = []
loss_function = nn.NLLLoss()
model = NGramLanguageModeler(len(vocab), EMBEDDING_DIM, CONTEXT_SIZE)
with torch.no_grad():
    for k, p in enumerate(model.parameters()):
        p.copy_(0.3 * torch.sin(torch.arange(p.numel(), dtype=torch.float32) * (k + 1.3)).reshape(p.shape))
optimizer = optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    total_loss = 0
    for context, target in ngrams:
        context_idxs = torch.tensor([word_to_ix[w] for w in context], dtype=torch.long)
        model.zero_grad()
        log_probs = model(context_idxs)
        loss = loss_function(log_probs, torch.tensor([word_to_ix[target]], dtype=torch.long))
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
    losses.append(round(total_loss, 3))
print(losses)
vectors = model.embeddings.weight.detach()
query = model.embeddings.weight[word_to_ix["beauty"]]
similarity = F.cosine_similarity(query.unsqueeze(0), vectors)
print(similarity.topk(3).values, torch.cosine_similarity(vectors[0], vectors[1], dim=0))
print(F.normalize(vectors, p=2, dim=-1).norm(dim=1)[:3], F.pairwise_distance(vectors[:2], vectors[2:4]))

pretrained = nn.Embedding.from_pretrained(torch.arange(8.0).reshape(4, 2), freeze=True, padding_idx=0)
bag = nn.EmbeddingBag(4, 2, mode="mean")
bag.weight = nn.Parameter(torch.arange(8.0).reshape(4, 2))
print(pretrained(torch.tensor([3, 1])), pretrained.weight.requires_grad)
print(bag(torch.tensor([1, 2, 3]), torch.tensor([0, 2])))
