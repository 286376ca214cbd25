"""Train an LSTM on the characters of a play, and let it write on.

    python examples/char_rnn.py                      # As You Like It: two layers of 256, minutes on two cores
    python examples/char_rnn.py --text my_book.txt   # a text of yours, or alice
    python examples/char_rnn.py --device cuda --width 512 --streams 64

The text is cut into parallel streams that are read side by side, a piece of each in every step. The state at the end of
a piece is where the next one begins, but no gradient flows back over that border (truncated backpropagation through
time, Williams and Peng 1990).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.data import load_text
from tensorlite.nn import functional as F

OPTIONS = {"text": "as_you_like_it", "device": "cpu", "width": 256, "layers": 2, "streams": 32, "length": 64,
           "dropout": 0.3, "epochs": 20, "lr": 3e-3, "write": 500, "temperature": 0.7, "seed": 0}
State = tuple[tl.Tensor, tl.Tensor]


class CharRNN(nn.Module):
    """Scores (L, N, characters) of what comes after each of the characters (L, N), and the state at the end."""

    def __init__(self, characters: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.character = nn.Embedding(characters, width)
        self.lstm = nn.LSTM(width, width, layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(width, characters)

    def forward(self, characters: tl.Tensor, state: State | None = None) -> tuple[tl.Tensor, State]:
        out, state = self.lstm(self.dropout(self.character(characters)), state)
        return self.score(self.dropout(out)), state


def streams(numbers: tl.Tensor, count: int) -> tl.Tensor:
    """The text as `count` streams side by side: (length of a stream, count)."""
    length = len(numbers) // count
    return numbers[:length * count].reshape(count, length).t().contiguous()


@tl.no_grad()
def write(model: CharRNN, start: tl.Tensor, length: int, temperature: float) -> list[int]:
    """`start` (L,) and `length` more characters, each drawn by the scores that the model gives it."""
    written = start.tolist()
    scores, state = model(start.unsqueeze(1))
    for _ in range(length):
        drawn = tl.multinomial((scores[-1, 0] / temperature).softmax(0), 1)
        written.append(drawn.item())
        scores, state = model(drawn.unsqueeze(1), state)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    tl.manual_seed(options.seed)
    text = Path(options.text).read_text(encoding="utf-8") if Path(options.text).exists() else load_text(options.text)
    characters = sorted(set(text))
    print(f"{len(text):,} characters, {len(characters)} different ones; the last tenth is for testing", flush=True)
    numbers = tl.from_numpy(np.searchsorted(characters, list(text))).to(options.device)
    train, test = [streams(part, options.streams) for part in numbers.tensor_split([len(numbers) * 9 // 10])]
    model = CharRNN(len(characters), options.width, options.layers, options.dropout).to(options.device)
    optimizer = optim.Adam(model.parameters(), lr=options.lr)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    state = tl.zeros(2, options.layers, options.streams, options.width, device=options.device)

    @tl.capture
    def step(x: tl.Tensor, y: tl.Tensor) -> tl.Tensor:
        scores, reached = model(x, (state[0], state[1]))
        loss = F.cross_entropy(scores.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state.copy_(tl.stack(reached).detach())  # in place: the next replay finds it there
        return loss.detach()

    pieces = (len(train) - 1) // options.length
    for epoch in range(1, options.epochs + 1):
        began, total = time.perf_counter(), 0
        state.zero_()
        for piece in tqdm(range(pieces), f"epoch {epoch}", leave=False, disable=None):  # a bar on a terminal only
            first, end = piece * options.length, (piece + 1) * options.length
            total = total + step(train[first:end], train[first + 1:end + 1])
        schedule.step()
        with tl.no_grad():
            tested = F.cross_entropy(model.eval()(test[:-1])[0].flatten(0, 1), test[1:].flatten())
        model.train()
        print(f"epoch {epoch}: loss {float(total) / pieces:.3f}, on the test text {tested.item():.3f}, "
              f"{time.perf_counter() - began:.1f} s", flush=True)

    start = test[:options.length, 0]
    written = write(model.eval(), start, options.write, options.temperature)
    print("".join(characters[number] for number in written))


if __name__ == "__main__":
    main()
