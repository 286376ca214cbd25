"""Convolutions on a GPU beside torch's, which are cuDNN's: forward and both gradients, in each precision.

    python benchmarks/gpu_conv.py
    python benchmarks/gpu_conv.py --layers "64 to 64, 3x3" --batches 256 --precisions bfloat16
    python benchmarks/gpu_conv.py --device cuda:sim --batches 1 --samples 1       # dry run: its figures mean nothing

Each library sits in a process of its own and gets the same numbers; for each case they take turns. Reported are medians
over samples of the device's time a call, several calls standing between two events while the host is ahead, and of the
host's. torch may try all algorithms of cuDNN (`cudnn.benchmark`) before it is timed. Of each result some elements are
compared, how far they are apart is recorded, and results that differ end in status 1. Results are written after every
case.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import common
import gpu_common

LIBRARIES = (common.SUBJECT, common.RIVAL)
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
PASSES = ("forward", "input gradient", "weight gradient")
CALLS = {"cuda": 20, "cuda:sim": 1, "cpu": 1}  # of a sample
COMPARED = 64  # elements of a result
TOLERANCE = {"float32": 1e-5, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 4e-2}  # of the largest element


class Layer(NamedTuple):
    """A convolution of square images with square kernels."""

    channels: int
    edge: int
    rows: int
    taps: int
    padding: int

    def flops(self, batch: int) -> int:
        """Of any of the three passes."""
        return 2 * batch * self.rows * self.pixels**2 * self.channels * self.taps**2

    @property
    def pixels(self) -> int:
        return self.edge + 2 * self.padding - self.taps + 1


LAYERS = {
    "LeNet, first": Layer(1, 28, 6, 5, 2),
    "LeNet, second": Layer(6, 14, 16, 5, 0),
    "64 to 64, 3x3": Layer(64, 32, 64, 3, 1),
}


class Session:
    """A worker's state: one library on one device."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.lib = importlib.import_module(library)

    def setup(self, device: str, samples: int) -> bool:
        self.clock = gpu_common.clock(self.library, device)
        self.device = device if self.library == common.SUBJECT else gpu_common.rivals_device(device)
        self.samples, self.calls = samples, CALLS[device]
        if self.library == common.RIVAL:
            self.lib.backends.cudnn.benchmark = True
        return True

    def measure(self, layer: str, batch: int, precision: str, name: str) -> dict[str, Any]:
        """A call's time on device and host, and some elements of its result; or {"error": what}."""
        try:
            self._choose(precision)
            call = self._call(LAYERS[layer], batch, "float32" if precision == "tf32" else precision, name)
            elements = call().reshape(-1)[:COMPARED].to(self.lib.float32).cpu().tolist()  # compiles, and tries
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"[:500]}

        def run() -> None:
            for _ in range(self.calls):
                call()

        run()
        device = [self.clock.device(run) / self.calls for _ in range(self.samples)]
        host = [self.clock.host(run) / self.calls for _ in range(self.samples)] if self.clock.queues else device
        self.clock.synchronize()
        seconds = statistics.median(device)
        return {"device_us": seconds * 1e6, "host_us": statistics.median(host) * 1e6, "elements": elements,
                "tflop_per_s": LAYERS[layer].flops(batch) / seconds / 1e12}

    def _choose(self, precision: str) -> None:
        """Let float32 be rounded to TF32, or not."""
        if self.library == common.RIVAL:
            self.lib.backends.cudnn.allow_tf32 = precision == "tf32"
        else:
            self.lib.set_float32_matmul_precision("high" if precision == "tf32" else "highest")

    def _call(self, layer: Layer, batch: int, dtype: str, name: str) -> Callable[[], Any]:
        """One pass on inputs of this case."""
        random = np.random.default_rng(0)

        def drawn(*shape: int) -> Any:
            values = random.uniform(-1, 1, shape).astype(np.float32)
            return self.lib.from_numpy(values).to(self.device).to(getattr(self.lib, dtype))

        x = drawn(batch, layer.channels, layer.edge, layer.edge)
        weight = drawn(layer.rows, layer.channels, layer.taps, layer.taps)
        bias, g = drawn(layer.rows), drawn(batch, layer.rows, layer.pixels, layer.pixels)
        if name == "forward":
            return lambda: self.lib.conv2d(x, weight, bias, padding=layer.padding)
        if self.library == common.RIVAL:
            gradients = importlib.import_module("torch.nn.grad")
            if name == "input gradient":
                return lambda: gradients.conv2d_input(x.shape, weight, g, padding=layer.padding)
            return lambda: gradients.conv2d_weight(x, weight.shape, g, padding=layer.padding)
        ops = importlib.import_module(f"{self.library}.ops.conv")
        options = {"stride": (1, 1), "padding": (layer.padding,) * 2, "dilation": (1, 1), "groups": 1}
        if name == "input gradient":
            return lambda: ops.conv2d_input_grad(g, weight, None, size=x.shape[2:], **options)
        return lambda: ops.conv2d_weight_grad(g, x, size=weight.shape[2:], **options)


def difference(answers: dict[str, dict[str, Any]]) -> float | None:
    """How far the libraries' elements are apart, as a share of the largest; None where one of them has none."""
    if any("elements" not in answer for answer in answers.values()) or len(answers) < len(LIBRARIES):
        return None
    ours, theirs = (np.array(answers[library]["elements"]) for library in LIBRARIES)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def measure_case(workers: dict[str, common.Worker], case: dict[str, Any]) -> dict[str, Any]:
    """One case in every library."""
    answers = {library: worker.ask(do="measure", **case) for library, worker in workers.items()}
    apart = difference(answers)
    for answer in answers.values():
        answer.pop("elements", None)
    return {**case, "difference": apart, "measured": answers}


def print_case(result: dict[str, Any]) -> None:
    """One line."""
    cells = [f"{library} {answer['device_us']:9.1f} us {answer['tflop_per_s']:6.2f} TFLOP/s, host "
             f"{answer['host_us']:6.1f} us" if "device_us" in answer else f"{library} {answer['error'].splitlines()[0]}"
             for library, answer in result["measured"].items()]
    print(f"{result['layer']:14} {result['batch']:4} {result['precision']:9} {result['name']:16} {'  '.join(cells)}",
          flush=True)


def complaints(results: list[dict[str, Any]]) -> list[str]:
    """What is wrong with results of this project, one line each."""
    found = []
    for result in results:
        case = ", ".join(str(result[name]) for name in ("layer", "batch", "precision", "name"))
        apart, error = result["difference"], result["measured"][common.SUBJECT].get("error")
        if error:
            found.append(f"wrong: {case}: {error}")
        elif apart is not None and not apart < TOLERANCE[result["precision"]]:
            found.append(f"wrong: {case}: {apart:.1e} from {common.RIVAL}'s")
    return found


def summary(results: list[dict[str, Any]]) -> str:
    """The ratios to the rival's time."""
    pairs = [[result["measured"].get(library, {}).get("device_us") for library in LIBRARIES] for result in results]
    ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
    if not ratios:
        return f"{len(results)} cases without {common.RIVAL}"
    return (f"time of {common.SUBJECT} / {common.RIVAL}: median {statistics.median(ratios):.2f}, from "
            f"{min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} cases")


def main() -> None:
    parser = common.argument_parser(__doc__, "gpu_conv.json")
    parser.add_argument("--device", default="cuda", choices=tuple(CALLS))
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=LAYERS)
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve(Session(options.worker))
        return
    missing = {library: reason for library in LIBRARIES
               if (reason := gpu_common.why_missing(library, options.device)) is not None}
    for library, reason in missing.items():
        print(f"left out: {library}: {reason}", flush=True)
    if common.SUBJECT in missing:
        raise SystemExit(1)
    workers = {library: common.Worker(__file__, library, gpu_common.threads(options.device))
               for library in LIBRARIES if library not in missing}
    for worker in workers.values():
        worker.ask(do="setup", device=options.device, samples=options.samples)
    record = {**gpu_common.environment(options.device), "missing": missing}
    results: list[dict[str, Any]] = []
    for layer in options.layers:
        for batch in options.batches:
            for precision in options.precisions:
                for name in PASSES:
                    case = {"layer": layer, "batch": batch, "precision": precision, "name": name}
                    results.append(measure_case(workers, case))
                    print_case(results[-1])
                    gpu_common.save(options.json, {**record, "results": results})
    for worker in workers.values():
        worker.close()
    wrong = complaints(results)
    print("\n".join([*wrong, summary(results) if options.device == "cuda" else f"{len(results)} cases: a dry run"]))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
