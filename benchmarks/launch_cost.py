"""What Python spends on an operation of device "cuda", part by part, and on a captured step, in microseconds.

    python benchmarks/launch_cost.py            # under the stand-in driver of tests/fake_cuda: no GPU needed
    python benchmarks/launch_cost.py --gpu      # on a GPU, the driver's own time included

Plans are cached, the driver's launch does nothing, and the numbers are best of rounds. Targets: 5 µs for an operation,
8 µs with autograd.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
TARGETS = {"x + y": 5.0, "x + w, w requires grad": 8.0}


def operations() -> dict[str, Callable[[], Any]]:
    """What is timed: each line holds the one above it, and more."""
    import tensorlite as tl
    from tensorlite.backends import get

    backend: Any = get("cuda")
    x, y = tl.ones(128, 256, device="cuda"), tl.ones(128, 256, device="cuda")
    w = tl.ones(128, 256, device="cuda", requires_grad=True)
    a, b = x.array, y.array
    shape, dtype, out = a.shape, a.dtype, backend.empty(a.shape, a.dtype)
    backend.run("add", out, a, b)
    launches: list[tuple[Any, ...]] = []
    launch = backend.launch
    backend.launch = lambda *arguments: launches.append(arguments)
    backend.run("add", out, a, b)
    backend.launch = launch
    with backend.recorder() as recorder:
        x + y
    program, step = recorder.finish(), tl.capture(lambda x: x + y)
    step(x)
    return {
        "launch": lambda: launch(*launches[0]),
        "empty": lambda: backend.empty(shape, dtype),
        "run('add', out, a, b)": lambda: backend.run("add", out, a, b),
        "elementwise('add', a, b)": lambda: backend.elementwise("add", a, b),
        "x + y": lambda: x + y,
        "x * 2.0": lambda: x * 2.0,
        "x.relu()": lambda: x.relu(),
        "x + w, w requires grad": lambda: x + w,
        "w.relu(), w requires grad": lambda: w.relu(),
        "run of a graph": program.run,
        "captured step of x": lambda: step(x),
    }


def microseconds(function: Callable[[], Any], calls: int, rounds: int) -> float:
    """The least time of a call."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, time.perf_counter() - start)
    return best / calls * 1e6


def main() -> None:
    parser = common.argument_parser(__doc__, "launch_cost.json")
    parser.add_argument("--gpu", action="store_true", help="on a GPU instead of the stand-in driver")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    if not options.gpu:
        import fake_cuda

        reason = fake_cuda.missing()
        if reason is not None:
            sys.exit(reason)
        driver = fake_cuda.install()
    timed = operations()
    for function in timed.values():
        function()
    if not options.gpu:
        driver.run_kernels(False)
    gc.disable()
    loop = microseconds(lambda: None, options.calls, options.rounds)
    results = {name: microseconds(function, options.calls, options.rounds) - loop for name, function in timed.items()}
    for name, value in results.items():
        target = TARGETS.get(name)
        print(f"{name:28} {value:6.2f} µs" + (f"   target {target:.0f}" if target else ""))
    record = {**common.environment(os.cpu_count() or 1, ("numpy", common.SUBJECT, "cupy-cuda12x", "cupy-cuda13x")),
              "driver": "a GPU's" if options.gpu else "stand-in, launches do nothing", "microseconds": results}
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
