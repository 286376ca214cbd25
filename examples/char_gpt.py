"""Train a small GPT on the characters of a book, and let it write on.

    python examples/char_gpt.py                      # Alice in Wonderland: 4 layers of 128, minutes on two cores
    python examples/char_gpt.py --text my_book.txt   # a text of yours, or as_you_like_it
    python examples/char_gpt.py --device cuda --layers 6 --width 384 --heads 6 --context 256 --steps 5000

The model of Radford et al. 2019: each character looks at itself and at those before it, and each gets a score for what
comes next. Batches are drawn inside the captured step, on the device.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.data import load_text
from tensorlite.nn import functional as F

OPTIONS = {"text": "alice", "device": "cpu", "layers": 4, "width": 128, "heads": 4, "context": 128, "dropout": 0.1,
           "batch-size": 16, "steps": 1500, "lr": 2e-3, "write": 500, "temperature": 0.8, "seed": 0}


class Block(nn.Module):
    """What a character takes from those before it, then what it makes of that, each added to what it was."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: tl.Tensor) -> tl.Tensor:  # (N, L, width)
        split = self.query_key_value(self.before_attention(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (N, heads, L, width of a head)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.project(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.before_mlp(x)))


class GPT(nn.Module):
    """Scores (N, L, characters) of what comes after each of the characters (N, L)."""

    def __init__(self, characters: int, context: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.context = context
        self.character, self.position = nn.Embedding(characters, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(layers)])
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, characters, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # what a block adds to its input starts smaller, the more blocks add
                adds = name.endswith(("project.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * layers) if adds else 0.02)

    def forward(self, characters: tl.Tensor) -> tl.Tensor:
        x = self.character(characters) + self.position.weight[:characters.shape[1]]
        return self.score(self.norm(self.blocks(x)))


@tl.no_grad()
def mean_loss(model: GPT, text: tl.Tensor) -> float:
    """Over all of a text, cut into pieces as long as the context."""
    end = len(text) - (len(text) - 1) % model.context
    x, y = (piece.reshape(-1, model.context).split(16) for piece in (text[:end - 1], text[1:end]))
    losses = [F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum") for a, b in zip(x, y, strict=True)]
    return sum(losses).item() / (end - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    tl.manual_seed(options.seed)
    text = Path(options.text).read_text(encoding="utf-8") if Path(options.text).exists() else load_text(options.text)
    characters = sorted(set(text))
    print(f"{len(text):,} characters, {len(characters)} different ones; the last tenth is for testing", flush=True)
    numbers = tl.from_numpy(np.searchsorted(characters, list(text)))
    train, test = numbers.to(options.device).tensor_split([len(text) * 9 // 10])
    model = GPT(len(characters), options.context, options.width, options.heads, options.layers, options.dropout)
    optimizer = optim.AdamW(model.to(options.device).parameters(), lr=options.lr, weight_decay=0.1)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, options.lr, options.steps, pct_start=0.1, cycle_momentum=False)

    @tl.capture  # recorded once; each replay draws new places in the text
    def step() -> tl.Tensor:
        starts = tl.randint(0, len(train) - options.context, (options.batch_size, 1), device=options.device)
        places = starts + tl.arange(options.context, device=options.device)
        loss = F.cross_entropy(model(train[places]).flatten(0, 1), train[places + 1].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    for number in tqdm(range(1, options.steps + 1), leave=False, disable=None):  # None: a bar on a terminal only
        loss = step()
        schedule.step()
        if number % -(-options.steps // 10) == 0:
            tqdm.write(f"step {number}: loss {loss.item():.3f}, on the test text {mean_loss(model.eval(), test):.3f}")
            model.train()

    written = test[:options.context // 2]
    with tl.no_grad():
        model.eval()
        for _ in range(options.write):
            scores = model(written[-options.context:].unsqueeze(0))[0, -1] / options.temperature
            written = tl.cat([written, tl.multinomial(scores.softmax(0), 1)])
    print("".join(characters[number] for number in written.tolist()))


if __name__ == "__main__":
    main()
