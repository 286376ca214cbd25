"""`tl.save`, `tl.load` and checkpoints: what goes in comes out, others read our files and we theirs, bad input.

What damage, kills and full disks do is in test_checkpoint_faults.py.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import stat
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.errors import ArgumentError, DTypeError, FileFormatError

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def sample(dtype: str, shape: tuple[int, ...]) -> tl.Tensor:
    """Values of every sign; the first ones are the extremes of the dtype, NaN, infinities and -0."""
    rng = np.random.default_rng(0)
    array = np.asarray(rng.integers(-3, 4, shape), np.float64)
    if dtype in ("uint8", "bool"):
        array = np.asarray(np.abs(array))
    elif "float" in dtype:
        special = [math.nan, math.inf, -math.inf, -0.0, 1e-7, 3.14159]
        array.reshape(-1)[: len(special)] = special[: array.size]
    return tl.from_numpy(array).to(getattr(tl, dtype))


def bits(tensor: tl.Tensor) -> bytes:
    return np.array(tensor.array, order="C").tobytes()


def assert_same(a: tl.Tensor, b: tl.Tensor) -> None:
    """Equal dtype, shape and bits, so that NaN equals NaN and 0 does not equal -0."""
    assert type(b) is tl.Tensor
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert bits(a) == bits(b)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def layouts(dtype: str) -> dict[str, tl.Tensor]:
    base = sample(dtype, (4, 6))
    return {
        "dense": base,
        "transposed": base.transpose(0, 1),
        "every second": base[:, ::2],
        "reversed": base[::-1],
        "expanded": sample(dtype, (3, 1)).expand(3, 5),
        "0-d": sample(dtype, ()),
        "empty": sample(dtype, (3, 0, 2)),
        "one": sample(dtype, (1,)),
        "4-d": sample(dtype, (2, 1, 3, 2)),
    }


# ---- round trips


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout_comes_back(dtype: str, path: Path) -> None:
    tensors = layouts(dtype)
    tl.save(tensors, path)
    loaded = tl.load(path)
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert_same(tensor, loaded[name])


def test_loaded_tensors_are_plain_leaves_with_memory_of_their_own(path: Path) -> None:
    weight = tl.ones(2, 3, requires_grad=True)
    tl.save({"weight": weight, "alias": weight, "part": weight.detach()[0]}, path)
    loaded = tl.load(path)
    assert not any(tensor.requires_grad for tensor in loaded.values())
    loaded["weight"].zero_()
    assert loaded["alias"].tolist() == [[1.0] * 3] * 2
    assert loaded["part"].tolist() == [1.0] * 3
    assert weight.tolist() == [[1.0] * 3] * 2


def test_a_single_tensor(path: Path) -> None:
    tensor = sample("float32", (2, 3))
    tl.save(tensor, path)
    assert_same(tensor, tl.load(path))


def equal(a: Any, b: Any) -> bool:
    """Equal types and values all the way down; NaN equals NaN."""
    if isinstance(a, tl.Tensor):
        return isinstance(b, tl.Tensor) and a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return [(type(k), k) for k in a] == [(type(k), k) for k in b] and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return repr(a) == repr(b)


NESTED = {
    "plain": [None, True, False, 0, -1, 2**200, -(2**63), 1.5, -0.0, 5e-324, 1e308, 0.1, "", "äπ😀\n\"\\", "\ud800"],
    "not in JSON": (math.nan, math.inf, -math.inf),
    "empty": [(), [], {}, ((),)],
    "keys": {0: "int", "0": "str", None: 1, True: 2, 2.5: 3, "": 4},
    "looks like a mark": [{"tensor": "x"}, {"float": "nan"}, {"tuple": [1]}, {"dict": []}],
}


@pytest.mark.parametrize("value", [*NESTED.values(), NESTED, 3, "text", None, [], {1: 2}], ids=repr)
def test_plain_values_come_back_with_their_types(value: Any, path: Path) -> None:
    tl.save(value, path)
    assert equal(value, tl.load(path))


def test_nested_tensors_come_back_in_place(path: Path) -> None:
    value = {
        "model": {"0.weight": sample("float32", (3, 2)), "0.bias": sample("float32", (3,))},
        "state": {0: {"step": sample("float32", ()), "m": (sample("float64", (2,)), [sample("bool", (2,))])}},
        7: sample("int64", (1,)),
    }
    tl.save(value, path)
    assert equal(value, tl.load(path))


def test_names_of_nested_tensors_are_dotted_and_never_collide(path: Path) -> None:
    from safetensors import safe_open

    value = {
        "a": {"b": tl.zeros(1)}, "a.b": tl.ones(1), "__metadata__": tl.ones(2), 1: tl.zeros(2), "1": tl.ones(3),
        "\ud800": tl.ones(4), "list": [tl.zeros(3)],
    }  # fmt: skip
    tl.save(value, path)
    assert equal(value, tl.load(path))
    with safe_open(str(path), "np") as file:
        assert sorted(file.keys()) == sorted(["a.b", "a.b_", "__metadata___", "1", "1_", "?", "list.0"])


def test_an_empty_state_dict(path: Path) -> None:
    tl.save({}, path)
    assert tl.load(path) == {}


def test_other_mappings_come_back_as_dicts(path: Path) -> None:
    tl.save(OrderedDict(b=tl.ones(1), a=tl.zeros(1)), path)
    loaded = tl.load(path)
    assert type(loaded) is dict
    assert list(loaded) == ["b", "a"]


def test_the_longest_allowed_nesting_comes_back_and_more_is_refused(path: Path) -> None:
    value: Any = 1
    for _ in range(100):
        value = {"k": value} if isinstance(value, list) else [value]
    tl.save(value, path)
    assert equal(value, tl.load(path))
    with pytest.raises(ArgumentError, match="more than 100 levels deep"):
        tl.save([value], path)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ArgumentError, match="contains itself"):
        tl.save(loop, path)


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "ein schöner name " + "x" * 200
    for form in (name, Path(name), tmp_path / name):
        tl.save({"a": tl.ones(1)}, form)
        assert tl.load(form)["a"].tolist() == [1.0]
    assert os.listdir(tmp_path) == [name]


def test_map_location(path: Path) -> None:
    tl.save({"a": [tl.ones(2)]}, path)
    assert str(tl.load(path, map_location="cpu")["a"][0].device) == "cpu"
    with pytest.raises(tl.errors.DeviceError, match="abacus"):
        tl.load(path, map_location="abacus")


# ---- what cannot be saved

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [np.ones(2)]}, r"obj\['a'\]\['0'\] is a NumPy array; .*from_numpy"),
        ({"a": np.float32(1)}, r"obj\['a'\] is a NumPy float32; .*\.item\(\)"),
        ({"a": np.bool_(True)}, r"\.item\(\)"),
        ({(1, 2): 3}, "obj is a dict with a key that is not None"),
        ({math.nan: 3}, "obj is a dict with a key that is not None"),
        ([Point(1, 2)], r"obj\['0'\] is a Point; a file holds"),
        ([{1, 2}], "is a set; a file holds"),
        (object(), "obj is a object; a file holds"),
        ([2**5000], "an int of more than 4096 bits"),
        ({"__metadata__": tl.ones(1)}, "'__metadata__' cannot be the name"),
        ({"\udc00": tl.ones(1)}, "cannot be the name"),
    ],
)
def test_what_cannot_be_saved_is_named_and_leaves_no_file(value: Any, message: str, path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        tl.save(value, path)
    assert os.listdir(path.parent) == []


def test_swapped_arguments_and_open_files_are_refused(path: Path) -> None:
    with pytest.raises(TypeError, match="PathLike"):
        tl.save(str(path), {"a": tl.ones(1)})  # type: ignore[arg-type]
    with open(path, "wb") as file, pytest.raises(TypeError, match="PathLike"):
        tl.save({"a": tl.ones(1)}, file)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="weights_only=False would load pickled objects"):
        tl.load(path, weights_only=False)
    with pytest.raises(FileNotFoundError, match="missing"):
        tl.load(path.parent / "missing")
    with pytest.raises(IsADirectoryError):
        tl.load(path.parent)


# ---- other programs


def test_the_safetensors_package_reads_ours(path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file

    tensors = {f"{dtype}.{name}": tensor for dtype in DTYPES if dtype != "bfloat16"
               for name, tensor in layouts(dtype).items()}  # fmt: skip
    tl.save(tensors, path)
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.array.dtype, tensor.shape)
        assert loaded[name].tobytes() == bits(tensor)
    with safe_open(str(path), "np") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["tensorlite.crc32"]).keys() == tensors.keys()
    assert "tensorlite.structure" not in metadata


def test_we_read_the_safetensors_package(path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {f"{dtype}.{name}": np.array(tensor.array, order="C") for dtype in DTYPES if dtype != "bfloat16"
              for name, tensor in layouts(dtype).items()}  # fmt: skip
    for metadata in (None, {"format": "np", "note": "äπ"}):
        save_file(arrays, path, metadata)
        loaded = tl.load(path)
        assert loaded.keys() == arrays.keys()
        for name, array in arrays.items():
            assert_same(tl.from_numpy(array), loaded[name])


def test_torch_reads_ours_and_we_read_torch(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)).bfloat16()
    save_file(theirs.state_dict(), path)
    ours = tl.load(path)
    assert ours["0.weight"].dtype is tl.bfloat16
    assert ours["1.num_batches_tracked"].dtype is tl.int64
    tl.save(ours, path)
    back = load_file(path)
    assert back.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_weights_move_between_tensorlite_and_torch_modules(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    ours = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    tl.save(ours.state_dict(), path)
    theirs.load_state_dict(load_file(path))
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(tl.from_numpy(x)).detach().numpy(), theirs(torch.from_numpy(x)).detach().numpy(),
                               rtol=1e-5, atol=1e-6)  # fmt: skip
    torch.nn.init.normal_(theirs[0].weight)
    save_file(theirs.state_dict(), path)
    ours.load_state_dict(tl.load(path))
    assert ours[0].weight.tolist() == theirs[0].weight.tolist()


def test_elements_are_aligned_in_the_file(path: Path) -> None:
    tl.save({dtype: sample(dtype, (3,)) for dtype in DTYPES}, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    for dtype in DTYPES:
        assert header[dtype]["data_offsets"][0] % getattr(tl, dtype).itemsize == 0


@pytest.mark.parametrize("shape", [(3,), (0,), ()])
def test_bfloat16_without_ml_dtypes_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    tl.save({"w": sample("bfloat16", shape)}, path)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    monkeypatch.setattr(tl.dtypes.bfloat16, "_numpy", None)
    with pytest.raises(DTypeError, match=r"model.safetensors: tensor 'w' cannot be loaded: .*pip install ml_dtypes"):
        tl.load(path)


def test_pickles_and_zips_are_refused_with_the_way_out(path: Path) -> None:
    torch = pytest.importorskip("torch")
    import pickle

    state = {"weight": torch.ones(3)}
    torch.save(state, path)
    with pytest.raises(FileFormatError, match=r"model.safetensors: .*zip archive.*run any code.*save_file\(torch.load"):
        tl.load(path)
    torch.save(state, path, _use_new_zipfile_serialization=False)
    with pytest.raises(FileFormatError, match=r"pickle can run any code.*save_file\(torch.load"):
        tl.load(path)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for value in ({"a": 1}, {"a": b"x" * 100_000}, list(range(1000))):
            path.write_bytes(pickle.dumps(value, protocol))
            with pytest.raises(FileFormatError, match="this is a pickle"):
                tl.load(path)
    np.savez(path.with_suffix(".npz"), a=np.ones(2))
    with pytest.raises(FileFormatError, match=r"model\.npz: .*zip archive"):
        tl.load(path.with_suffix(".npz"))
    path.write_bytes(gzip.compress(b"x" * 100))
    with pytest.raises(FileFormatError, match="this is a gzip file: unpack it first"):
        tl.load(path)
    np.save(str(path) + ".npy", np.ones(2))
    with pytest.raises(FileFormatError, match=r"\.npy file: use tl\.from_numpy"):
        tl.load(str(path) + ".npy")


# ---- files


def test_permissions_follow_the_umask_and_an_old_file_keeps_its_own(path: Path) -> None:
    before = os.umask(0o027)
    try:
        tl.save({"a": tl.ones(1)}, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in (0o600, 0o666):
            path.chmod(mode)
            tl.save({"a": tl.zeros(1)}, path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_link_stays_and_what_it_links_to_is_replaced(path: Path) -> None:
    real = path.parent / "elsewhere" / "run1.safetensors"
    real.parent.mkdir()
    path.symlink_to(real)
    for value in (1, 2):  # the first time, the link leads nowhere
        tl.save([value], path)
        assert path.is_symlink()
        assert tl.load(real) == [value]
    assert os.listdir(path.parent) == ["elsewhere", path.name] or os.listdir(path.parent) == [path.name, "elsewhere"]


def test_saving_over_what_is_no_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="other than a file") as caught:
        tl.save([1], path)
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="other than a file"):
        tl.save([1], "/dev/null")
    path.rmdir()
    path.symlink_to(path)
    with pytest.raises(OSError, match="not saved"):
        tl.save([1], path)


# ---- checkpoints


class Part:
    """A part whose state is one value; it refuses a state of another kind, before or after taking it over."""

    def __init__(self, value: Any, refuses: str = "") -> None:
        self.value, self.refuses = value, refuses

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: Any) -> None:
        if self.refuses == "before":
            raise ValueError("no")
        old, self.value = self.value, state["value"]
        if self.refuses == "after" and isinstance(old, str):
            raise ValueError("no, but too late")


def test_parts_values_and_generators_come_back(path: Path) -> None:
    tl.manual_seed(3)
    own = tl.Generator().manual_seed(4)
    tl.rand(5)
    tl.save_checkpoint(path, model=Part(tl.ones(2)), averaged=Part(5), generator=own, epoch=7, best=(0.5, [tl.ones(1)]))
    expected = tl.rand(4).tolist(), tl.rand(4, generator=own).tolist()
    model, averaged = Part(None), Part(None)
    tl.manual_seed(99)
    own.manual_seed(99)
    values = tl.load_checkpoint(path, model=model, averaged=averaged, generator=own)
    assert equal(values, {"best": (0.5, [tl.ones(1)]), "epoch": 7})
    assert model.value.tolist() == [1.0, 1.0]
    assert averaged.value == 5
    assert (tl.rand(4).tolist(), tl.rand(4, generator=own).tolist()) == expected


def test_a_model_alone_and_the_generator_left_alone(path: Path) -> None:
    tl.save_checkpoint(path, model=Part(1), optimizer=Part(2))
    tl.manual_seed(5)
    before = tl.default_generator.get_state().tolist()
    model = Part(None)
    assert tl.load_checkpoint(path, model=model, restore_rng=False) == {"epoch": None}
    assert model.value == 1
    assert tl.default_generator.get_state().tolist() == before


def test_a_checkpoint_can_be_read_as_an_ordinary_file(path: Path) -> None:
    from safetensors.numpy import load_file

    model = nn.Linear(2, 1)
    tl.save_checkpoint(path, model=model, epoch=1)
    assert load_file(path).keys() == {"model.weight", "model.bias"}
    assert equal(tl.load(path)["model"], dict(model.state_dict()))


@pytest.mark.parametrize("refuses", ["before", "after"])
def test_all_or_nothing_when_a_later_part_refuses(path: Path, refuses: str) -> None:
    tl.save_checkpoint(path, model=Part(tl.ones(2)), optimizer=Part(2), scheduler=Part(3))
    model, optimizer, scheduler = Part(tl.zeros(2)), Part("old"), Part("old", refuses)
    tl.manual_seed(5)
    before = tl.default_generator.get_state().tolist()
    if refuses == "before":  # such a part refuses its old state, too; the others are restored nevertheless
        expected: Any = pytest.raises(ValueError, match="no")
    else:
        expected = pytest.raises(ValueError, match="too late")
    with expected as caught:
        tl.load_checkpoint(path, model=model, optimizer=optimizer, scheduler=scheduler)
    first = caught.value.__context__ or caught.value
    assert any("'scheduler' was loaded from" in note and str(path) in note for note in first.__notes__)
    assert model.value.tolist() == [0.0, 0.0]
    assert (optimizer.value, scheduler.value) == ("old", "old")
    assert tl.default_generator.get_state().tolist() == before


def test_a_snapshot_is_not_the_state_itself(path: Path) -> None:
    """A part that writes into its tensors, as modules do, gets the old elements back."""

    class InPlace(Part):
        def load_state_dict(self, state: Any) -> None:
            self.value.copy_(state["value"])

    tl.save_checkpoint(path, model=InPlace(tl.ones(2)), optimizer=Part(0))
    model = InPlace(tl.zeros(2))
    with pytest.raises(ValueError, match="too late"):
        tl.load_checkpoint(path, model=model, optimizer=Part("old", "after"))
    assert model.value.tolist() == [0.0, 0.0]


def test_what_a_checkpoint_lacks_is_said_before_anything_changes(path: Path) -> None:
    tl.save_checkpoint(path, model=Part(1), epoch=2)
    model = Part("old")
    with pytest.raises(ArgumentError, match=r"model.safetensors has no optimizer; its parts are: model$"):
        tl.load_checkpoint(path, model=model, optimizer=Part("old"))
    with pytest.raises(ArgumentError, match="has no epoch2"):
        tl.load_checkpoint(path, epoch2=model)
    assert model.value == "old"


def test_wrong_arguments_of_checkpoints(path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot be named checkpoint, rng"):
        tl.save_checkpoint(path, rng=1, checkpoint=2)
    with pytest.raises(ArgumentError, match="model is a Tensor, which has no state_dict"):
        tl.save_checkpoint(path, model=tl.ones(1))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="best is a float, which has no state_dict"):
        tl.load_checkpoint(path, best=0.5)  # type: ignore[arg-type]
    assert not path.exists()


def test_other_files_are_no_checkpoints(path: Path) -> None:
    for value in ({"w": tl.ones(1)}, tl.ones(1), [1], {"checkpoint": 3}, {"checkpoint": {}}):
        tl.save(value, path)
        with pytest.raises(FileFormatError, match=r"model.safetensors: (not a|a) checkpoint"):
            tl.load_checkpoint(path)
    tl.save({"checkpoint": {"version": 1, "parts": ["model"]}}, path)
    with pytest.raises(FileFormatError, match="does not fit"):
        tl.load_checkpoint(path)


class Run:
    """A small training run with everything that has a state: dropout, momentum, a schedule, a shuffling loader."""

    def __init__(self, seed: int) -> None:
        tl.manual_seed(seed)
        data = np.random.default_rng(0).standard_normal((24, 6)).astype(np.float32)
        self.model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-2)
        self.scheduler = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 7)
        self.generator = tl.Generator().manual_seed(seed + 1)
        dataset = tl.data.TensorDataset(tl.from_numpy(data[:, :5]), tl.from_numpy(data[:, 5:]))
        self.loader = tl.data.DataLoader(dataset, batch_size=4, shuffle=True, generator=self.generator)
        self.batches = self.endless()

    def parts(self) -> dict[str, Any]:
        names = ("model", "optimizer", "scheduler", "loader", "generator")
        return {name: getattr(self, name) for name in names}

    def endless(self) -> Iterator[Any]:
        """The batches of one epoch after the other."""
        while True:
            yield from self.loader

    def train(self, steps: int) -> list[str]:
        """Go on for some batches; the bits of the loss in each step."""
        losses: list[str] = []
        for x, y in itertools.islice(self.batches, steps):
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item().hex())
        return losses


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("stop", [0, 1, 6, 9, 14])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(path: Path, stop: int, before: int) -> None:
    run = Run(seed=0)
    run.train(stop)
    tl.save_checkpoint(path, **run.parts(), epoch=stop)
    expected = run.train(10)
    final = {name: bits(tensor) for name, tensor in run.model.state_dict().items()}

    other = Run(seed=17)
    other.train(before)
    assert tl.load_checkpoint(path, **other.parts()) == {"epoch": stop}
    other.batches = other.endless()
    assert other.train(10) == expected
    assert {name: bits(tensor) for name, tensor in other.model.state_dict().items()} == final


def test_tied_weights_stay_tied(path: Path) -> None:
    def build() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    first, second = build(), build()
    tl.save(first.state_dict(), path)
    second.load_state_dict(tl.load(path))
    assert second[1].weight is second[0].weight
    assert_same(first[0].weight.detach(), second[1].weight.detach())


def test_a_checkpoint_of_another_model_changes_nothing(path: Path) -> None:
    run = Run(seed=0)
    run.train(3)
    parts = run.parts() | {"optimizer": optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)}
    tl.save_checkpoint(path, **parts)
    run.train(2)
    before = {name: bits(tensor) for name, tensor in run.model.state_dict().items()}
    rng = tl.default_generator.get_state().tolist()
    with pytest.raises((ArgumentError, ValueError, KeyError)) as caught:
        tl.load_checkpoint(path, **run.parts())
    assert any("'optimizer'" in note for note in caught.value.__notes__)
    assert {name: bits(tensor) for name, tensor in run.model.state_dict().items()} == before
    assert tl.default_generator.get_state().tolist() == rng
