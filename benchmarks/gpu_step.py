"""A training step of an MLP (784-256-128-10, batch 128, Adam, cross entropy) on a GPU, beside what one uses instead.

    python benchmarks/gpu_step.py
    python benchmarks/gpu_step.py --subjects tensorlite torch --rounds 31
    python benchmarks/gpu_step.py --device cuda:sim --hidden 16 16 --batch 4 --seconds 0    # dry run: of no meaning

Every subject (subjects.py) sits in a process of its own with the same data, resident on the device, the same initial
weights and batch order, and float32 products without TF32; they take turns. Before any timing the losses of the first
steps must agree. Reported are medians over rounds of two times a step: whole, until the device has done all of the
steps, and the host's, until Python has queued them, begun with an idle device.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import common
import gpu_common
import subjects
from subjects import SUBJECTS

CAPTURED = "tensorlite-captured"
CHECKED_STEPS = 20
ON_GPU = [name for name, subject in SUBJECTS.items() if "cuda" in subject.devices]


def why_missing(subject: str, device: str) -> str | None:
    """Why a subject cannot be measured; None if, as far as one can tell without trying, it can."""
    return (subjects.why_missing(subject, rivals_or_own(subject, device))
            or gpu_common.why_missing(SUBJECTS[subject].library, device))


def rivals_or_own(subject: str, device: str) -> str:
    """Where a subject works when tensorlite works on `device`: other libraries have no simulator."""
    return device if SUBJECTS[subject].library == common.SUBJECT else gpu_common.rivals_device(device)


def start(subject: str, options: argparse.Namespace) -> tuple[common.Worker, list[float]] | str:
    """A worker that is set up, with its first losses; or why there is none."""
    reason = why_missing(subject, options.device)
    if reason is not None:
        return reason
    worker = subjects.start(__file__, subject, gpu_common.threads(options.device))
    sizes = [784, *options.hidden, 10]
    try:
        worker.ask(do="setup", device=rivals_or_own(subject, options.device), sizes=sizes, batch=options.batch,
                   seed=options.seed)
        return worker, worker.ask(do="losses", steps=CHECKED_STEPS)
    except (RuntimeError, BrokenPipeError) as error:
        return f"failed: {error}"


def measure(workers: dict[str, common.Worker], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Rounds in turns, each beginning with another subject; the first warms up."""
    names = list(workers)
    turns = common.take_turns(names, options.rounds + 1, lambda name: (
        workers[name].ask(do="turn", seconds=options.seconds), workers[name].ask(do="host_turn")))
    times = {name: list(zip(*rounds[1:], strict=True)) for name, rounds in turns.items()}
    return {
        name: {"step_us": statistics.median(whole), "host_us": statistics.median(host), "step_us_minimum": min(whole),
               "rounds_us": whole}
        for name, (whole, host) in times.items()
    }


def print_results(record: dict[str, Any]) -> None:
    """A line a subject, and the ratios that are asked for."""
    for subject, result in record["results"].items():
        print(f"{subject:20} {result['step_us']:9.1f} us a step, {result['host_us']:9.1f} us of it on the host alone")
    for rival, ratio in record["ratios"].items():
        print(f"{CAPTURED} / {rival}: {ratio:.2f}")


def main() -> None:
    parser = common.argument_parser(__doc__, "gpu_step.json")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cuda:sim", "cpu"))
    parser.add_argument("--subjects", nargs="+", default=ON_GPU, choices=ON_GPU)
    parser.add_argument("--hidden", type=int, nargs=2, default=[256, 128])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", choices=ON_GPU, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(SUBJECTS[options.worker].make())
        return
    names = list(dict.fromkeys((CAPTURED, "tensorlite", *options.subjects)))
    with ThreadPoolExecutor(len(names)) as together:  # some compile for half a minute
        started = dict(zip(names, together.map(lambda name: start(name, options), names), strict=True))
    missing = {name: reason for name, reason in started.items() if isinstance(reason, str)}
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}", flush=True)
    ready = {name: pair for name, pair in started.items() if not isinstance(pair, str)}
    if not {CAPTURED, "tensorlite"} <= ready.keys():
        raise SystemExit(1)
    first = ready["tensorlite"][1]
    differences = {name: subjects.disagreement(losses, first) for name, (_, losses) in ready.items()}
    wrong = {name: difference for name, difference in differences.items() if not difference < 1e-3}
    if wrong:
        raise SystemExit(f"losses differ from those of tensorlite's eager step by {wrong}: "
                         f"{ {name: losses for name, (_, losses) in ready.items()} }")
    results = measure({name: worker for name, (worker, _) in ready.items()}, options)
    for worker, _ in ready.values():
        worker.close()
    ratios = {name: results[CAPTURED]["step_us"] / result["step_us"] for name, result in results.items()
              if options.device == "cuda" and name != CAPTURED}
    record = {**gpu_common.environment(options.device), "hidden": options.hidden, "batch": options.batch,
              "labels": subjects.labels(ready), "loss_differences": differences, "missing": missing,
              "results": results, "ratios": ratios}
    print_results(record)
    common.write_json(options.json, record)


if __name__ == "__main__":
    main()
