"""PyTorch scripts: what the report says of them is true, and they run unchanged to the same numbers."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tensorlite import nn
from tensorlite.compat import check, judge, run, serving, torch_names, uses
from tensorlite.compat.__main__ import main, totals
from tensorlite.compat.differences import ARGUMENTS, DIFFERENT, INSTEAD
from tensorlite.compat.kinds import signature
from tensorlite.compat.places import ELSEWHERE, OF_OBJECTS, Missing, exists, find
from tensorlite.compat.stand_ins import STAND_INS, stands_in

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "tests/torch_scripts").glob("*.py"))
# What scripts use that is missing, and so where they stop.
MISSING = {
    "dqn": {"torch.distributions.Categorical"},
    "vae": {"torch.distributions.Normal", "torch.distributions.kl_divergence"},
}
# Scripts that run with their import lines changed by hand: they use no stand-ins and no `out=`.
RENAMED = ["char_rnn", "custom_dataset", "gru_seq2seq", "learning_with_examples",
           "linear_regression", "lstm_tagger", "metric_learning", "mixed_precision", "mlp_classifier", "save_load",
           "schedulers", "transformer", "word_embeddings"]


# --- the scripts ----------------------------------------------------------------------------------------------------


def outputs(mode: str, names: list[str]) -> dict[str, str]:
    """What scripts print, each in a process without the others' torch."""
    command = [sys.executable, str(ROOT / "tests/run_torch_scripts.py"), mode,
               *[str(path) for path in SCRIPTS if path.stem in names]]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT,
                              env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1",
                                   "TORCH_COMPILE_DISABLE": "1"})
    found: dict[str, str] = json.loads(finished.stdout)
    return found


@pytest.fixture(scope="module")
def with_torch() -> dict[str, str]:
    pytest.importorskip("torch")
    return outputs("torch", [path.stem for path in SCRIPTS])


@pytest.fixture(scope="module")
def with_tensorlite() -> dict[str, str]:
    return outputs("served", [path.stem for path in SCRIPTS])


@pytest.fixture(scope="module")
def with_changed_imports() -> dict[str, str]:
    return outputs("renamed", RENAMED)


NUMBER = re.compile(r"[-+]?\b(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf|nan)")


def as_tuple(size: re.Match[str]) -> str:
    """The text of a torch.Size as that of a tuple."""
    return f"({size[1]},)" if size[1] and "," not in size[1] else f"({size[1]})"


def text_and_numbers(printed: str) -> tuple[str, list[float]]:
    """What was printed, with # for numbers, and these; of what differs on purpose the common form."""
    printed = re.sub(r",\s+grad_fn=<\w+>", "", printed).replace("tensorlite.", "torch.")
    printed = re.sub(r"torch\.Size\(\[(.*?)\]\)", as_tuple, printed)
    printed = re.sub(r"torch\.return_types\.\w+\(\s*", "ValuesIndices(", printed)
    text = re.sub(r"\s+", "", NUMBER.sub("#", printed))
    return text, [float(number) for number in NUMBER.findall(printed)]


def assert_alike(ours: str, theirs: str) -> None:
    text, numbers = text_and_numbers(ours)
    expected_text, expected = text_and_numbers(theirs)
    assert text == expected_text
    assert numbers == pytest.approx(expected, rel=2e-3, abs=2e-3, nan_ok=True)


@pytest.mark.parametrize("name", [path.stem for path in SCRIPTS if path.stem not in MISSING])
def test_a_script_runs_unchanged_to_the_same_numbers(
    name: str, with_tensorlite: dict[str, str], with_torch: dict[str, str]
) -> None:
    assert_alike(with_tensorlite[name], with_torch[name])


@pytest.mark.parametrize("name", sorted(MISSING))
def test_a_script_with_missing_names_runs_up_to_them(
    name: str, with_tensorlite: dict[str, str], with_torch: dict[str, str]
) -> None:
    *before, error = with_tensorlite[name].splitlines()
    assert error.startswith("AttributeError: torch.distributions is missing in tensorlite; instead: ")
    assert_alike("\n".join(before), "\n".join(with_torch[name].splitlines()[:len(before)]))


@pytest.mark.parametrize("name", RENAMED)
def test_a_script_runs_with_its_imports_changed_by_hand(
    name: str, with_changed_imports: dict[str, str], with_tensorlite: dict[str, str]
) -> None:
    assert_alike(with_changed_imports[name], with_tensorlite[name])


def test_the_scripts_lack_what_is_known_to_be_missing() -> None:
    reports = [check(path) for path in SCRIPTS]
    missing = {Path(report.path).stem: {row.name for row in report.rows if row.status == "missing"}
               for report in reports if report.count("missing")}
    assert missing == MISSING


@pytest.mark.parametrize("page, claim", [
    ("README.md", "{works} of the {names} names"), ("docs/compat.md", "{works} of the {names} names"),
    ("README.zh-CN.md", "{names} 个名称中有 {works} 个可用"),
])
def test_the_share_on_the_page_is_that_of_the_scripts(page: str, claim: str) -> None:
    works = totals([check(path) for path in SCRIPTS])
    match = re.fullmatch(r"(\d+) names of torch: (\d+) same, (\d+) different, (\d+) missing; (.*)% work", works)
    assert match is not None
    names, share = int(match[1]), match[5]
    assert claim.format(works=names - int(match[4]), names=names) in (ROOT / page).read_text(encoding="utf-8"), works
    assert f"{share} %" in (ROOT / page).read_text(encoding="utf-8"), works


# --- what a script is read to use -------------------------------------------------------------------------------------


def names(source: str, likely: bool | None = None) -> list[str]:
    return [use.name for use in uses(source) if likely in (None, use.likely)]


READ = {
    "import torch.nn.functional as F\nF.relu": ["torch.nn.functional", "torch.nn.functional.relu"],
    "import torch as t\nt.nn.Linear(1, 2)": ["torch.nn.Linear"],
    "import torch.nn\ntorch.nn.Linear": ["torch.nn", "torch.nn.Linear"],
    "from torch import nn, optim as o\no.SGD": ["torch.nn", "torch.optim", "torch.optim.SGD"],
    "from torch.nn import Linear\nLinear(1, 2)": ["torch.nn.Linear", "torch.nn.Linear"],
    "def f():\n    import torch\n    return torch.ones(1)": ["torch.ones"],
    "import torch\nx = torch.ones(2)\nx.foo\ny = x + 1\ny.view(1)": ["torch.ones", "torch.Tensor.view"],
    "import torch\n(torch.ones(2).sum() * 2).item()": ["torch.ones", "torch.Tensor.sum", "torch.Tensor.item"],
    "import torch\ndef f(x: torch.Tensor):\n    return x.abs()": ["torch.Tensor", "torch.Tensor.abs"],
    "import torch\ndef f(torch):\n    return torch.ones(2)": [],
    "import numpy as np\nnp.ones(2).view()": [],
    "'a b'.split()\n[1].index(1)": [],
    "import torch\nx = torch.ones(2).numpy()\nx.round(3)": ["torch.ones", "torch.Tensor.numpy"],
    "import torch\n[t.abs() for t in torch.ones(2)]": ["torch.ones", "torch.Tensor.abs"],
    "import torch\nwith torch.no_grad() as g:\n    g.view()": ["torch.no_grad"],
    "import torch\ntorch.backends.cudnn.benchmark = True": ["torch.backends.cudnn.benchmark"],
    "import torch\nx: torch.Tensor\nx.abs()": ["torch.Tensor", "torch.Tensor.abs"],
    "import torch\n(lambda x: torch.relu(x))(1)": ["torch.relu"],
    "import torch\nx = torch.ones(1)\nx = {}\nx.values": ["torch.ones"],
    "import torch\ng = lambda: later.abs()\nlater = torch.ones(1)": ["torch.Tensor.abs", "torch.ones"],
    "import torch\nx = torch.ones(1) if c else torch.zeros(1)\nx.abs()": [
        "torch.ones", "torch.zeros", "torch.Tensor.abs"],
    "from .torch import x\nx.abs()": [],
}


@pytest.mark.parametrize("source", READ)
def test_names_are_followed(source: str) -> None:
    assert names(source, likely=False) == READ[source]


MODEL = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1)
        self.hidden = 3
        self.register_buffer("b", torch.ones(1))
    def embed(self, x):
        return self.fc(x).relu()
    def forward(self, x):
        return self.embed(x).sigmoid() if self.training else self.hidden.bogus
net = Net().to("cpu")
net.embed(1)
net.fc.weight.detach()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
opt.step()
opt.param_groups
"""


def test_objects_of_a_scripts_own_classes_are_followed() -> None:
    assert names(MODEL, likely=False) == [
        "torch.nn", "torch.nn.Module", "torch.nn.Linear", "torch.nn.Module.register_buffer", "torch.ones",
        "torch.Tensor.relu", "torch.nn.Module.training", "torch.nn.Module.to", "torch.Tensor.detach", "torch.optim.SGD",
        "torch.nn.Module.parameters", "torch.optim.Optimizer.step", "torch.optim.Optimizer.param_groups"]
    assert names(MODEL, likely=True) == ["torch.Tensor.sigmoid"]


def test_methods_of_unknown_values_are_guesses() -> None:
    assert names("def f(x):\n    return x.unsqueeze(0)", likely=True) == ["torch.Tensor.unsqueeze"]
    assert names("def f(x):\n    x.append(1)\n    x.copy()\n    x.nonsense()") == []
    assert names("class A:\n    def view(self): ...\ndef f(a):\n    a.view()") == []


# --- verdicts ---------------------------------------------------------------------------------------------------------


def rows(source: str) -> dict[str, str]:
    return {row.name: row.status for row in judge(uses(source)).rows}


def test_names_are_same_different_or_missing() -> None:
    found = rows("import torch\ntorch.ones\ntorch.load\ntorch.jit.script\ntorch.compile\ntorch.backends.cudnn.enabled")
    assert found == {"torch.ones": "same", "torch.load": "different", "torch.jit.script": "missing",
                     "torch.compile": "different", "torch.backends.cudnn.enabled": "different"}


ARGUMENT_ROWS = {
    "torch.add(x, y, out=z)": {"torch.add": "same", "torch.add(out=)": "different"},
    "torch.softmax(input=x, dim=1)": {"torch.softmax": "same", "torch.softmax(input=)": "different"},
    "torch.nn.functional.mse_loss(x, y, size_average=True)": {
        "torch.nn.functional.mse_loss": "different", "torch.nn.functional.mse_loss(size_average=)": "missing"},
    "torch.optim.AdamW(p, lr=1, fused=True)": {"torch.optim.AdamW": "same", "torch.optim.AdamW(fused=)": "missing"},
    "torch.nn.Linear(1, 2, True, 'cpu', None)": {"torch.nn.Linear": "same"},
    "torch.nn.Linear(1, 2, True, 'cpu', None, 1)": {
        "torch.nn.Linear": "same", "torch.nn.Linear(argument 6 by place)": "missing"},
    "torch.nn.Linear(*args, **kw)": {"torch.nn.Linear": "same"},
    "torch.ones(2).sum(1, True)": {"torch.ones": "same", "torch.Tensor.sum": "same"},
    "torch.ones(2).relu(1)": {
        "torch.ones": "same", "torch.Tensor.relu": "same", "torch.Tensor.relu(argument 1 by place)": "missing"},
    "torch.ones(2).mean(axis=1)": {"torch.ones": "same", "torch.Tensor.mean": "same"},
}


@pytest.mark.parametrize("call", ARGUMENT_ROWS)
def test_arguments_that_are_not_taken_are_rows_of_their_own(call: str) -> None:
    assert rows(f"import torch\n{call}") == ARGUMENT_ROWS[call]


def test_a_name_that_is_certain_somewhere_is_no_guess() -> None:
    (_, row) = judge(uses("import torch\ndef f(x):\n    x.sigmoid()\ntorch.ones(1).sigmoid()")).rows[::-1]
    assert (row.name, row.likely, row.lines) == ("torch.Tensor.sigmoid", False, [3, 4])


# --- the tables -------------------------------------------------------------------------------------------------------


def test_what_is_called_different_is_there() -> None:
    assert [name for name in DIFFERENT if not exists(name) and not stands_in(name)] == []
    assert [name for name in OF_OBJECTS if not exists(name)] == []


def test_what_has_a_replacement_is_missing() -> None:
    in_part = {"torch.autograd.functional", "torch.linalg"}
    assert {name for name in INSTEAD if exists(name)} == in_part
    assert not [name for name in STAND_INS if exists(name)]


def torch_object(path: str) -> Any:
    """What stands at a path in torch; its submodules are imported where need be."""
    found: Any = importlib.import_module(path.partition(".")[0])
    for depth, name in enumerate(path.split(".")[1:], 2):
        if not hasattr(found, name):
            importlib.import_module(".".join(path.split(".")[:depth]))
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("table", [DIFFERENT, INSTEAD, STAND_INS, ELSEWHERE], ids=["differ", "instead", "run", "place"])
def test_names_of_the_tables_are_torchs(table: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    for name in table:
        if name.startswith("torch.") and name != "torch.data" and "tensorboard" not in name:  # a package of its own
            torch_object(name)


def test_the_lists_of_torchs_names_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    if not torch.__version__.startswith("2.13"):
        pytest.skip("the lists are of PyTorch 2.13")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    for found, owner in ((torch_names.TENSOR, torch.Tensor), (torch_names.MODULE, torch.nn.Module),
                         (torch_names.OPTIMIZER, torch.optim.Optimizer)):
        public = {name for name in dir(owner) if not name.startswith("_")}
        extra = {"training", *(name for name in vars(optimizer) if not name.startswith("_"))}
        assert found - extra == public - extra


NAMESPACES = ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.optim.lr_scheduler", "torch.nn.utils",
              "torch.optim.swa_utils", "torch.utils.data", "torch.nn.utils.rnn", "torch.nn.init", "torch.autograd",
              "torch.autograd.functional", "torch.amp", "torch.cuda", "torch.Tensor", "torch.nn.Module", "torch.linalg",
              "torch.optim.Optimizer", "torch.testing", "torch.utils.checkpoint", "torch.accelerator")
# torch's arguments that are not taken, where ARGUMENTS does not say so for all: rarely used, or by place alone.
RARE = {
    "torch.from_dlpack": {"ext_tensor", "device", "copy"}, "torch.norm": {"dtype"}, "torch.Tensor.norm": {"dtype"},
    "torch.cdist": {"compute_mode"}, "torch.utils.data.DataLoader": {"in_order", "pin_memory_device"},
    "torch.nn.Module.state_dict": {"destination"}, "torch.set_default_dtype": {"d"},
    "torch.set_rng_state": {"new_state"}, "torch.utils.data.default_convert": {"data"},
    "torch.split": {"tensor", "split_size_or_sections"}, "torch.tensordot": {"a", "b"},
    "torch.nn.Hardtanh": {"min_value", "max_value"}, "torch.nn.ModuleDict": {"modules"},
    "torch.nn.ParameterDict": {"parameters"}, "torch.nn.RNNBase": {"mode"},
    "torch.nn.functional.huber_loss": {"weight"}, "torch.nn.functional.l1_loss": {"weight"},
    "torch.nn.functional.mse_loss": {"weight"}, "torch.autograd.backward": {"grad_variables"},
    "torch.autograd.grad": {"only_inputs", "is_grads_batched"}, "torch.cuda.Event": {"interprocess", "external"},
    "torch.nn.Module.modules": {"remove_duplicate"}, "torch.nn.Module.named_modules": {"memo"},
    "torch.nn.Module.register_forward_hook": {"always_call"}, "torch.save": {"f", "pickle_protocol"},
    "torch.enable_grad": {"orig_func"}, "torch.autograd.enable_grad": {"orig_func"},
    "torch.testing.assert_close": {"allow_subclasses", "check_layout", "check_stride", "msg"},
    "torch.autograd.functional.jacobian": {"strict", "vectorize", "strategy"},
    "torch.autograd.functional.hessian": {"strict", "vectorize", "outer_jacobian_strategy"},
    "torch.autograd.gradcheck": {"nondet_tol", "check_undefined_grad", "check_grad_dtypes", "check_batched_grad",
                                 "check_batched_forward_grad", "check_forward_ad", "check_backward_ad", "masked"},
    "torch.autograd.gradgradcheck": {"gen_non_contig_grad_outputs", "nondet_tol", "check_undefined_grad",
                                     "check_grad_dtypes", "check_batched_grad", "check_fwd_over_rev",
                                     "check_rev_over_rev", "masked"},
}


def shared(namespace: str) -> list[str]:
    """The names of a torch namespace that are found here."""
    owner = torch_object(namespace)
    return [path for name in dir(owner) if not name.startswith("_") and exists(path := f"{namespace}.{name}")]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_what_is_found_under_torchs_names_is_of_their_kind_and_takes_their_arguments(namespace: str) -> None:
    pytest.importorskip("torch")
    paths = [path for path in shared(namespace) if path not in OF_OBJECTS]
    assert paths
    for path in paths:
        theirs, ours = torch_object(path), find(path)
        if path in ("torch.device", "torch.cuda.device", "torch.cuda.Device"):  # a function here; a union there
            continue
        assert (callable(theirs), inspect.ismodule(theirs)) == (callable(ours), inspect.ismodule(ours)), path
        assert isinstance(theirs, type) == isinstance(ours, type), path
        try:
            wanted = inspect.signature(theirs).parameters
        except (TypeError, ValueError):
            continue
        known = signature(ours)
        assert known is not None, path
        if any(p.kind is p.VAR_KEYWORD for p in (*known.parameters.values(), *wanted.values())):
            continue
        named = {name for name, p in wanted.items() if p.kind is not p.VAR_POSITIONAL and not name.startswith("_")}
        assert named - set(known.parameters) - set(ARGUMENTS) <= RARE.get(path, set()), path


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not loaded torch."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)


def script(folder: Path, text: str) -> str:
    path = folder / "script.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_script_gets_its_arguments_its_folder_and_its_name(no_torch: None, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("import torch\nvalue = torch.ones(1).item()\n", encoding="utf-8")
    text = "import sys, beside, torch\nargs, name = sys.argv[1:], __name__\nx = torch.ones(1) + beside.value"
    before = sys.argv, list(sys.path)
    found = run(script(tmp_path, text), ["--epochs", "3"])
    assert (found["args"], found["name"], found["x"].tolist()) == (["--epochs", "3"], "__main__", [2.0])
    assert (sys.argv, sys.path) == before and "torch" not in sys.modules
    sys.modules.pop("beside")


SERVED = {
    "import torch\nx = torch.flip(torch.tensor([1, 2]), dims=(0,)).tolist()": [2, 1],
    "import torch\nx = torch.permute(input=torch.ones(2, 3), dims=(1, 0)).shape": (3, 2),
    "import torch\nx = torch.roll(torch.tensor([1, 2, 3]), shifts=1, dims=0).tolist()": [3, 1, 2],
    "import torch\nx = torch.pow(torch.tensor(3), exponent=2).item()": 9,
    "import torch\nx = torch.mm(torch.ones(2, 3), mat2=torch.ones(3, 4)).shape": (2, 4),
    "import torch\nx = torch.addmm(torch.zeros(1, 1), mat2=torch.ones(3, 1), mat1=torch.ones(1, 3)).item()": 3.0,
    "import torch\nx = torch.randn(size=(2, 3)).shape, torch.zeros(size=(2,)).tolist()": ((2, 3), [0.0, 0.0]),
    "import torch\nx = torch.ones_like(input=torch.zeros(2)).tolist()": [1.0, 1.0],
    "import torch\nx = torch.sub(torch.tensor(5), other=torch.tensor(3)).item()": 2,
    "import torch\nx = torch.sub(other=torch.tensor(3), input=torch.tensor(5), alpha=2).item()": -1,
    "import torch\nx = torch.where(torch.tensor(True), other=torch.tensor(3), input=torch.tensor(5)).item()": 5,
    "import torch\nx = torch.where(condition=torch.tensor(False), input=torch.tensor(5), other=3).item()": 3,
    "import torch\nx = torch.searchsorted(torch.tensor([1, 3, 5]), input=torch.tensor([4])).tolist()": [2],
    "import torch\nx = torch.matmul(input=torch.eye(2), other=torch.ones(2), out=torch.empty(2)).tolist()": [1.0, 1.0],
    "import torch\nx = torch.cat(tensors=[torch.ones(1)], dim=0).tolist()": [1.0],
    "import torch\ny = torch.empty(2)\ntorch.add(torch.ones(2), 1, out=y)\nx = y.tolist()": [2.0, 2.0],
    "import torch\nm = torch.nn.ReLU()\nx = torch.compile(m) is m and torch.compile(dynamic=True)(m) is m": True,
    "import torch\ntorch.backends.cudnn.benchmark = True\nx = torch.backends.cudnn.benchmark": True,
    "import torch.backends.cudnn as c\nx = c.is_available(), c.deterministic": (False, True),
    "from torch.autograd import Variable\nimport torch\nx = Variable(torch.ones(1), True).requires_grad": True,
    "import torch\nx = isinstance(torch.nn.Parameter(torch.ones(1)), torch.Tensor)": True,
    "from torch.nn.modules import Linear\nfrom torch import nn\nx = Linear is nn.Linear": True,
    "from torch.cuda.amp import autocast, GradScaler\nimport torch\nx = GradScaler is torch.amp.GradScaler": True,
    "from torchvision import datasets, transforms\nx = datasets.MNIST.__name__, transforms.Compose.__name__": (
        "MNIST", "Compose"),
    "import torch\nx = hasattr(torch, 'vmap'), 'ones' in dir(torch), torch.__version__[0]": (False, True, "0"),
    "from torch.utils.tensorboard import SummaryWriter\nx = SummaryWriter.__module__": "tensorlite.insight.tensorboard",
    "import torch.nn.functional as F, tensorlite as tl\nx = F.conv2d is tl.conv2d": True,
    "try:\n    import torch.distributed\nexcept ImportError:\n    x = 'none'": "none",
}


@pytest.mark.parametrize("text", SERVED)
def test_what_is_served(text: str, no_torch: None, tmp_path: Path) -> None:
    assert run(script(tmp_path, text))["x"] == SERVED[text]


def test_what_is_missing_says_so(no_torch: None, tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match=r"torch\.fft is missing in tensorlite; instead: NumPy's fft"):
        run(script(tmp_path, "import torch\ntorch.fft.fft"))
    with pytest.raises(ModuleNotFoundError, match=r"torch\.jit is missing in tensorlite; instead: leave it out"):
        run(script(tmp_path, "import torch.jit"))
    assert "torch" not in sys.modules


def test_torch_itself_is_put_aside_and_back(no_torch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    itself = {name: type(sys)(name) for name in ("torch", "torch.nn", "torchvision")}
    for name, module in itself.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(KeyError), serving():
        assert importlib.import_module("torch.nn").Linear is nn.Linear
        assert "torchvision" not in sys.modules
        raise KeyError
    assert all(sys.modules[name] is module for name, module in itself.items())
    assert not [name for name in sys.modules if name.startswith("torch.nn.")]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_exit_status_says_whether_something_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete = script(tmp_path, "import torch\ntorch.ones(2)")
    assert main([complete]) == 0
    assert capsys.readouterr().out.endswith("1 names of torch: 1 same, 0 different, 0 missing; 100.0% work\n")
    assert main([script(tmp_path, "import torch\ntorch.vmap")]) == 1
    assert "torch.vmap  line 2\n      operations take batches" in capsys.readouterr().out


@pytest.mark.parametrize("text, message", [
    (None, "No such file or directory"), ("import torch\nx = (", r"'\(' was never closed \(.*script.py, line 2\)"),
])
def test_a_script_that_cannot_be_read_is_named(text: str | None, message: str, tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "none.py") if text is None else script(tmp_path, text)
    with pytest.raises(SystemExit) as left:
        main([path])
    assert left.value.code == 2 and re.search(f"error: .*{message}", capsys.readouterr().err)


@pytest.mark.parametrize("content", [b"x = '\xff'", b"x = 1\n\0"], ids=["bytes", "nul"])
def test_what_is_no_script_is_told_in_a_line(content: bytes, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "script.py"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main([str(path)])
    assert ended.value.code == 2 and "python -m tensorlite.compat: error: " in capsys.readouterr().err


def test_guesses_count_where_asked(tmp_path: Path) -> None:
    guess = script(tmp_path, "def f(x):\n    return x.geqrf()")
    assert main([guess]) == 0 and main(["--strict", guess]) == 1


def test_the_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script(tmp_path, "import torch\ntorch.ones(1)\ntorch.ones(2)\ntorch.load")
    assert main(["--json", path]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["totals"] == {"same": 1, "different": 1, "missing": 0}
    assert report["names"][0] == {"name": "torch.ones", "status": "same", "note": "", "likely": False, "lines": [2, 3]}


def test_the_command_runs_a_script(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys, torch\nprint(torch.ones(2).sum(), sys.argv[1:])\nsys.exit(3)")
    finished = subprocess.run([sys.executable, "-m", "tensorlite.compat", "--run", path, "--json", "b"],
                              capture_output=True, text=True, cwd=ROOT)
    assert (finished.returncode, finished.stdout) == (3, "tensor(2.) ['--json', 'b']\n"), finished.stderr


def test_a_name_without_a_place_is_missing() -> None:
    for path in ("numpy.ones", "torch.nn.init.math", "torch.ops", "torch.nn.Linear.nonsense"):
        with pytest.raises(Missing):
            find(path)


def test_a_static_method_has_no_self_and_a_star_is_no_name() -> None:
    source = ("from torch import *\nimport torch\nclass N(torch.nn.Module):\n"
              "    @staticmethod\n    def f(x): x.apply_(abs)")
    assert {row.name for row in judge(uses(source)).rows} == {"torch.nn.Module", "torch.Tensor.apply_"}


def test_conditions_of_comprehensions_are_read() -> None:
    source = "import torch\nx = [y for y in range(3) if torch.fft.fft(y)]"
    assert [row.name for row in judge(uses(source)).rows] == ["torch.fft.fft"]


def test_arguments_that_are_served_are_those_of_the_function() -> None:
    source = "import torch\nx = torch.ones(2)\ntorch.flip(x, dims=(0,))\ntorch.dot(x, mat2=x)\nx.flip(dims=(0,))"
    status = {row.name: row.status for row in judge(uses(source)).rows if "(" in row.name}
    assert status == {"torch.flip(dims=)": "different", "torch.dot(mat2=)": "missing",
                      "torch.Tensor.flip(dims=)": "missing"}
