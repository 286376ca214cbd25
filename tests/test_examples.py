"""The examples run as they stand, say what they promise, and compute what they say."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.data import fashion_mnist
from tensorlite.data.idx import encode_idx

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
Run = Callable[..., list[str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example in this process with the given arguments; what it printed, line by line."""

    def call(name: str, *arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return call


# --- backprop_by_hand ------------------------------------------------------------------------------------------------


def values_below(lines: list[str]) -> dict[str, dict[str, list[float]]]:
    """What stands below each formula: its left-hand side -> "hand", "tape" or "" -> numbers."""
    found: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        if match := re.match(r"    (\S+)", line):
            formula = found.setdefault(match[1], {})
        elif line.startswith("      "):
            halves = line.split("    tape ") if "    tape " in line else re.split(r"(?<=\])\s{4,}(?=\[)", line)
            names = ("hand", "tape") if "tape" in line or len(halves) == 2 else ("",)
            for name, half in zip(names, halves, strict=True):
                formula.setdefault(name, []).extend(map(float, re.findall(r"-?\d[\d.e+-]*", half)))
    return found


def test_the_network_worked_by_hand_has_the_figures_of_its_table(run: Run) -> None:
    found = values_below(run("backprop_by_hand", "N3"))
    forward = {"a0": [1, 2], "z1": [1, 1.9], "a1": [1, 1.9], "z2": [2.61], "a2": [2.61]}
    backward = {
        "L": [0.07605], "δ2": [-0.39], "∂L/∂b2": [-0.39], "∂L/∂W2": [-0.39, -0.741],
        "∂L/∂a1": [-0.234, -0.351], "δ1": [-0.234, -0.351], "∂L/∂b1": [-0.234, -0.351],
        "∂L/∂W1": [-0.234, -0.468, -0.351, -0.702],
    }
    assert {name: found[name] for name in forward} == {name: {"": values} for name, values in forward.items()}
    assert {name: found[name] for name in backward} == {
        name: {"hand": values, "tape": values} for name, values in backward.items()
    }


def test_hand_and_tape_agree_on_every_network(run: Run) -> None:
    lines = run("backprop_by_hand")
    assert sum(line.startswith(("N1", "N2", "N3", "N4")) for line in lines) == 4
    differences = [float(match[1]) for line in lines if (match := re.search(r"differ by (?:at most )?(\S+)$", line))]
    assert len(differences) == 10 and max(differences) < 1e-12
    for formula, values in values_below(lines).items():
        assert values.get("hand") == values.get("tape"), formula


def test_training_stops_at_the_maximum_or_below_the_error_whichever_comes_first(run: Run) -> None:
    stops = [line for line in run("backprop_by_hand", "N2") if "stopped" in line]
    assert "stopped at iteration 100: the maximum of iterations" in stops[0]
    match = re.search(r"stopped at iteration (\d+): the error is below 0.05", stops[1])
    assert match and 100 < int(match[1]) < 1000


def test_shapes_and_formulas_of_each_layer_are_shown_at_any_depth(run: Run) -> None:
    printed = run("backprop_by_hand", "N4", "--sizes", "2", "5", "4", "3", "1")
    lines = [re.sub(r"\s+", " ", line).strip() for line in printed]
    assert "δ2 = ∂L/∂z2 = (W3ᵀ δ3) ∘ sigmoid'(z2) 4x4" in lines
    assert "∂L/∂a1 = W2ᵀ δ2 5x4 4x4 → 5x4" in lines
    assert "∂L/∂W1 = δ1 a0ᵀ 5x4 4x2 → 5x2" in lines
    assert [line for line in lines if line.startswith("backward, layer")] == [
        f"backward, layer {layer}: sigmoid'(z) = a(1 - a)" for layer in (4, 3, 2, 1)
    ]


def test_the_formulas_agree_with_the_tape_for_random_networks() -> None:
    names = runpy.run_path(str(EXAMPLES / "backprop_by_hand.py"))
    random = np.random.default_rng(0)
    for seed in range(20):
        sizes = random.integers(1, 6, random.integers(2, 6)).tolist()
        layers = names["random_layers"](sizes, seed)
        activations = [names[("LINEAR", "RELU", "SIGMOID")[i]] for i in random.integers(0, 3, len(layers))]
        loss = names[("HALF_SQUARED", "SQUARED", "CROSS_ENTROPY")[seed % 3]]
        if loss is names["CROSS_ENTROPY"]:
            activations[-1] = names["SIGMOID"]
        x, y = random.normal(size=(sizes[0], 3)), random.uniform(size=(sizes[-1], 3))
        problem = names["Problem"](layers, activations, loss, x, y, random.uniform(size=(1, 3)))
        hand, (tape, _) = names["by_hand"](problem), names["by_tape"](problem, "cpu")
        for ours, theirs in zip(hand[1:], tape[1:], strict=True):
            assert names["largest"](ours, theirs) < 1e-12


def test_an_unknown_network_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("backprop_by_hand", "N9")
    assert "unknown network 'N9'; there are N1, N2, N3, N4" in capsys.readouterr().err


# --- five_lines -------------------------------------------------------------------------------------------------------


def losses(lines: list[str]) -> list[float]:
    return [float(match[1]) for line in lines if (match := re.search(r"loss (\S+)$", line))]


def test_the_five_lines_run(run: Run) -> None:
    falling = losses(run("five_lines"))
    assert len(falling) == 6 and falling == sorted(falling, reverse=True)


def test_the_five_lines_run_with_torch_when_only_imports_are_changed() -> None:
    pytest.importorskip("torch")
    source = (EXAMPLES / "five_lines.py").read_text(encoding="utf-8")
    theirs = source.replace("import tensorlite as torch", "import torch").replace("from tensorlite", "from torch")
    changed = [b for a, b in zip(source.splitlines(), theirs.splitlines(), strict=True) if a != b]
    assert changed == ["import torch", "from torch import nn, optim"]
    assert all(f"\n    {line}\n" in source for line in changed), "the docstring shows these imports"
    finished = subprocess.run([sys.executable, "-c", theirs], capture_output=True, text=True, check=True)
    falling = losses(finished.stdout.splitlines())
    assert len(falling) == 6 and falling == sorted(falling, reverse=True)


# --- mnist ------------------------------------------------------------------------------------------------------------

SMALL = ("--data", "sample", "--hidden", "16", "--batch-size", "500")


def accuracy(lines: list[str]) -> float:
    match = re.fullmatch(r"test accuracy ([\d.]+)%", lines[-1])
    assert match
    return float(match[1])


def test_mnist_says_where_the_digits_come_from_and_how_it_goes(run: Run) -> None:
    first, *epochs, last = run("mnist", *SMALL, "--epochs", "2")
    assert "sample" in first and "6,000 training and 1,000 test digits" in first
    pattern = r"epoch {}: loss [\d.]+, accuracy [\d.]+%, on test digits ([\d.]+)%, [\d.]+ s"
    matches = [re.fullmatch(pattern.format(number), line) for number, line in enumerate(epochs, start=1)]
    assert len(matches) == 2 and all(matches)
    assert last == f"test accuracy {matches[1] and matches[1][1]}%"


def train(*arguments: str) -> list[str]:
    """mnist.py in a process of its own: with one thread it takes the same time on a busy machine."""
    environment = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    command = [sys.executable, str(EXAMPLES / "mnist.py"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return finished.stdout.splitlines()


def test_mnist_reaches_its_accuracy_on_the_sample() -> None:
    assert accuracy(train("--data", "sample")) >= 93.0


@pytest.mark.skipif("TENSORLITE_DATA" not in os.environ, reason="all of MNIST is not here: set TENSORLITE_DATA")
def test_mnist_reaches_its_accuracy_on_all_digits() -> None:
    assert accuracy(train("--epochs", "5")) >= 97.5


@pytest.mark.parametrize("device", [name for name in tl.testing.devices() if name != "cpu"])
def test_mnist_on_a_device_has_the_losses_of_the_cpu(run: Run, device: str) -> None:
    one_step_an_epoch = ("--data", "sample", "--hidden", "16", "--digits", "32", "--batch-size", "32", "--epochs", "5")
    ours, theirs = (losses_of_epochs(run("mnist", *one_step_an_epoch, "--device", name)) for name in (device, "cpu"))
    assert len(ours) == 5 and ours == pytest.approx(theirs, abs=2e-4)
    assert theirs[-1] < theirs[0]


def losses_of_epochs(lines: list[str]) -> list[float]:
    return [float(match[1]) for line in lines if (match := re.match(r"epoch \d+: loss ([\d.]+),", line))]


def test_mnist_resumed_equals_uninterrupted_bit_for_bit(run: Run, tmp_path: Path) -> None:
    whole, part = str(tmp_path / "whole.safetensors"), str(tmp_path / "part.safetensors")
    expected = run("mnist", *SMALL, "--epochs", "3", "--save", whole)
    begun = run("mnist", *SMALL, "--epochs", "1", "--save", part)
    resumed = run("mnist", *SMALL, "--epochs", "3", "--resume", part, "--save", part)
    without_time = [[re.sub(r", [\d.]+ s$", "", line) for line in lines] for lines in (expected, begun, resumed)]
    assert without_time[0] == without_time[1][:2] + without_time[2][1:]
    assert Path(part).read_bytes() == Path(whole).read_bytes()
    assert run("mnist", *SMALL, "--epochs", "3", "--resume", part)[1:] == expected[-1:]


def test_mnist_refuses_to_resume_another_network(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "run.safetensors")
    run("mnist", *SMALL, "--epochs", "1", "--save", path)
    with pytest.raises(tl.TensorliteError, match="size mismatch"):
        run("mnist", *SMALL[:2], "--hidden", "8", "--batch-size", "500", "--epochs", "2", "--resume", path)


def test_mnist_shows_a_bar_on_a_terminal_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # no thread that outlives the test

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        run("mnist", *SMALL, "--epochs", "1")
        assert ("epoch 1/1:" in stream.getvalue()) is shown


def test_mnist_draws_curves_and_misclassified_digits(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "digits.png"
    run("mnist", *SMALL, "--epochs", "1", "--plot", str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_mnist_says_what_to_install_for_plots(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit):
        run("mnist", *SMALL, "--plot", "digits.png")
    assert "pip install 'tensorlite[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--epochs", "0"), ("--digits", "-1"), ("--digits", "0"), ("--device", "gpu")])
def test_mnist_refuses_what_it_cannot_use(run: Run, arguments: tuple[str, str]) -> None:
    with pytest.raises((SystemExit, tl.DeviceError)):
        run("mnist", *SMALL, *arguments)


@pytest.mark.parametrize("name", ["mnist_cnn", "autoencoder", "gan"])
@pytest.mark.parametrize("option", ["--epochs", "--digits"])
def test_nothing_to_train_on_is_refused_in_words(run: Run, capsys: pytest.CaptureFixture[str], name: str,
                                                 option: str) -> None:
    with pytest.raises(SystemExit):
        run(name, *FEW, option, "0")
    assert re.search(r"--epochs and --digits (are|of) at least 1", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["mnist", "mnist_cnn", "autoencoder", "gan"])
def test_a_folder_without_digits_is_named_in_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str], name: str) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(tl.data.mnist, "MIRRORS", [])
    with pytest.raises(SystemExit):
        run(name, "--data", str(tmp_path))
    message = capsys.readouterr().err
    assert re.fullmatch(r"MNIST is needed: MNIST could not be downloaded: .*sample=True takes .*\n", message)


# --- networks of convolutions -----------------------------------------------------------------------------------------

FEW = ("--data", "sample", "--digits", "200", "--epochs", "2")
PNG = b"\x89PNG"


@pytest.fixture
def clothes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few digits in the place of FashionMNIST."""
    digits = tl.data.load_mnist(sample=True)
    arrays = (digits.train_images[:300], digits.train_labels[:300], digits.test_images[:100], digits.test_labels[:100])
    known = {}
    (tmp_path / "fashion-mnist").mkdir()
    for name, array in zip(fashion_mnist.FILES, arrays, strict=True):
        data = gzip.compress(encode_idx(array))
        (tmp_path / "fashion-mnist" / f"{name}.gz").write_bytes(data)
        known[name] = fashion_mnist.Packed(array.shape, len(data), hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(fashion_mnist, "FILES", known)
    return tmp_path


def test_mnist_cnn_trains_and_draws(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = run("mnist_cnn", *FEW, "--plot", str(tmp_path / "digits.png"))
    falling = losses_of_epochs(lines)
    assert "sample" in lines[0] and len(falling) == 2 and falling[1] < falling[0] and accuracy(lines) > 20
    assert (tmp_path / "digits.png").read_bytes().startswith(PNG)


def test_fashion_cnn_trains_and_draws(run: Run, clothes: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "clothes.png"
    lines = run("fashion_cnn", "--data", str(clothes), "--width", "4", "--epochs", "2", "--plot", str(path))
    falling = losses_of_epochs(lines)
    assert lines[0] == f"FashionMNIST in {clothes}" and falling[1] < falling[0]
    assert f"on test clothes {accuracy(lines):.2f}%" in lines[-2]
    assert path.read_bytes().startswith(PNG)


def test_fashion_cnn_says_what_is_missing(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", [])
    with pytest.raises(SystemExit):
        run("fashion_cnn", "--data", str(tmp_path))
    message = capsys.readouterr().err
    assert re.match("FashionMNIST is needed: .*(could not be downloaded|pip install pooch)", message)


# --- pictures and a pole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["autoencoder", "gan"])
def test_pictures_are_drawn(run: Run, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.png"
    lines = run(name, *FEW, "--plot", str(path))
    assert "sample" in lines[0] and lines[-1] == f"the picture is in {path}"
    assert path.read_bytes().startswith(PNG)
    if name == "autoencoder":
        falling = losses_of_epochs(lines)
        assert len(falling) == 2 and falling[1] < falling[0]
    else:
        assert all(re.fullmatch(r"epoch \d: loss of the discriminator [\d.]+, of the generator [\d.]+, [\d.]+ s", line)
                   for line in lines[1:-1])


def test_the_cart_moves_as_equations_say() -> None:
    """A pole that stands straight is turned against the push, and its turning moves the cart on."""
    moved = runpy.run_path(str(EXAMPLES / "dqn.py"))["moved"]
    for push, force in ((0, -10.0), (1, 10.0)):
        after = moved(np.zeros(4), push)
        turning = -force / 1.1 / (0.5 * (4 / 3 - 0.1 / 1.1))
        np.testing.assert_allclose(after, [0, 0.02 * (force / 1.1 - 0.05 * turning / 1.1), 0, 0.02 * turning])


def test_dqn_runs_and_draws(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = run("dqn", "--steps", "1300", "--plot", str(tmp_path / "returns.png"))
    assert re.fullmatch(r"episode 20: mean return of the last 20 [\d.]+, \d+ steps, [\d.]+ s", lines[0])
    assert re.fullmatch(r"mean return of 20 episodes without exploring [\d.]+", lines[-1])
    assert (tmp_path / "returns.png").read_bytes().startswith(PNG)


# --- texts ------------------------------------------------------------------------------------------------------------

TINY = {
    "char_gpt": ("--layers", "1", "--width", "16", "--heads", "2", "--context", "16", "--steps", "60"),
    "char_rnn": ("--layers", "1", "--width", "16", "--streams", "8", "--length", "16", "--epochs", "4"),
}


@pytest.mark.parametrize("name", TINY)
def test_characters_are_learnt_and_written(run: Run, tmp_path: Path, name: str) -> None:
    text = tmp_path / "book.txt"
    text.write_text("the quick brown fox jumps over the lazy dog.\n" * 60, encoding="utf-8")
    lines = run(name, *TINY[name], "--lr", "0.02", "--dropout", "0", "--text", str(text), "--write", "100")
    assert lines[0].startswith("2,700 characters, 29 different ones")
    losses = [[float(number) for number in re.findall(r"(?:loss|text) ([\d.]+)", line)] for line in lines
              if "on the test text" in line]
    assert len(losses) == (10 if name == "char_gpt" else 4)
    assert losses[-1][0] < losses[0][0] and losses[-1][1] < losses[0][1] < 3.4  # ln 29: a guess
    written = "\n".join(lines[1 + len(losses):])
    assert len(written) >= 100 and set(written) <= set(text.read_text(encoding="utf-8"))


def test_a_text_that_is_no_file_is_one_of_the_package(run: Run) -> None:
    with pytest.raises(tl.errors.ArgumentError, match="no text 'hamlet'; there are alice, as_you_like_it"):
        run("char_gpt", "--text", "hamlet")


SHORT = ["mnist_cnn", "fashion_cnn", "autoencoder", "gan", "dqn", "char_rnn", "char_gpt"]


@pytest.mark.parametrize("name", SHORT)
def test_examples_of_the_first_course_are_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 120
