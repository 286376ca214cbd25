"""Learn to balance a pole on a cart by trying: deep Q-learning.

    python examples/dqn.py                  # half a minute, until 20 episodes in a row return 475 steps on average
    python examples/dqn.py --steps 20000 --plot dqn.png --device cuda

The cart is pushed left or right at each step; an episode ends when the pole leans by 12 degrees, the cart leaves the
track, or 500 steps are over. A network estimates for each push the steps to come, Q, and learns from remembered steps,
towards one plus what a slower copy of itself expects next (Mnih et al. 2015, van Hasselt et al. 2016).
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import time
from collections.abc import Callable, Iterator

import numpy as np

import tensorlite as tl
from tensorlite import nn, optim

MEMORY = np.dtype([("state", "f4", 4), ("push", "i8"), ("following", "f4", 4), ("fallen", "f4")])


def moved(state: np.ndarray, push: int) -> np.ndarray:
    """Cart and pole of Barto, Sutton and Anderson 1983, as in CartPole-v1, 20 ms later: x, dx/dt, angle, dangle/dt."""
    _, speed, angle, turning = state
    sin, cos = np.sin(angle), np.cos(angle)
    force = ((10.0 if push else -10.0) + 0.05 * turning**2 * sin) / 1.1
    turning_rate = (9.8 * sin - cos * force) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    return state + 0.02 * np.array([speed, force - 0.05 * turning_rate * cos / 1.1, turning, turning_rate])


def episode(choose: Callable[[np.ndarray], int], random: np.random.Generator) -> Iterator[tuple]:
    """The steps of an episode: state, push, next state, and whether the pole has fallen there."""
    state = random.uniform(-0.05, 0.05, 4)
    for _ in range(500):
        following = moved(state, push := choose(state))
        fallen = bool(abs(following[0]) > 2.4 or abs(following[2]) > np.radians(12))
        yield state, push, following, fallen
        if fallen:
            return
        state = following


def training_step(q: nn.Module) -> tl.Captured:
    """The step for a batch of remembered steps: the loss."""
    slow, optimizer = copy.deepcopy(q), optim.Adam(q.parameters(), lr=5e-4)

    @tl.capture
    def step(state: tl.Tensor, push: tl.Tensor, following: tl.Tensor, fallen: tl.Tensor) -> tl.Tensor:
        with tl.no_grad():
            expected = slow(following).gather(1, q(following).argmax(1, keepdim=True)).squeeze(1)
        estimate = q(state).gather(1, push.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(estimate, 1 + 0.99 * (1 - fallen) * expected)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with tl.no_grad():
            for theirs, ours in zip(slow.parameters(), q.parameters(), strict=True):
                theirs.lerp_(ours, 0.005)
        return loss.detach()

    return step


def plot(path: str, returns: list[int]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(title="return of each episode, and mean of the last 20", xlabel="episode")
    axes.plot(returns, ".", [np.mean(returns[max(0, i - 19) : i + 1]) for i in range(len(returns))])
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=60_000, help="at most, of all episodes together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="PNG", help="draw the returns (needs matplotlib)")
    options = parser.parse_args()
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'tensorlite[plot]'")

    tl.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    layers = nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)
    q = nn.Sequential(*layers).to(options.device)
    learn, best = training_step(q), tl.capture(tl.no_grad()(lambda state: q(state).argmax(1)))
    memory, count, returns, start = np.zeros(options.steps + 500, MEMORY), 0, [0], time.perf_counter()

    def greedy(state: np.ndarray) -> int:
        return best(tl.tensor(state[None], dtype=tl.float32, device=options.device)).item()

    def exploring(state: np.ndarray) -> int:
        return int(random.integers(2)) if random.random() < max(0.02, 1 - count / 5000) else greedy(state)

    while count < options.steps and np.mean(returns[-20:]) < 475:
        returns.append(0)
        for step in episode(exploring, random):
            memory[count], count, returns[-1] = step, count + 1, returns[-1] + 1
            if count >= 1000:
                batch = memory[random.integers(0, count, 64)]
                learn(*[tl.from_numpy(batch[name].copy()).to(options.device) for name in MEMORY.names])
        if len(returns) % 20 == 1:
            print(f"episode {len(returns) - 1}: mean return of the last 20 {np.mean(returns[-20:]):.1f}, "
                  f"{count} steps, {time.perf_counter() - start:.1f} s", flush=True)
    lengths = [len([*episode(greedy, random)]) for _ in range(20)]
    print(f"mean return of 20 episodes without exploring {np.mean(lengths):.1f}")
    if options.plot:
        plot(options.plot, returns[1:])


if __name__ == "__main__":
    main()
