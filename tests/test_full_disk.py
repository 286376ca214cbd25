"""A disk that is really full: promise W on a file system of 64 pages in memory, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from long_runs import count

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]

PROGRAM = """
import errno, os, subprocess, sys
import numpy as np
import tensorlite as tl
from tensorlite import nn, optim

folder, rounds = sys.argv[1], int(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=8", "tmpfs", folder], check=True)
path, filler = f"{folder}/run.safetensors", f"{folder}/filler"
model = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40))
optimizer = optim.Adam(model.parameters())
model(tl.ones(2, 40)).sum().backward()
optimizer.step()
tl.save_checkpoint(path, model=model, optimizer=optimizer, epoch=0)
size, page = os.path.getsize(path), os.sysconf("SC_PAGE_SIZE")
free = lambda: os.statvfs(folder).f_bavail * page

def refused(epoch):
    "Try to save; all must be as before if the disk does not take it."
    before = open(path, "rb").read()
    names = sorted(os.listdir(folder))
    try:
        tl.save_checkpoint(path, model=model, optimizer=optimizer, epoch=epoch)
    except OSError as error:
        assert (error.errno, error.filename) == (errno.ENOSPC, path), error
        assert "not saved, and nothing changed" in str(error)
        assert open(path, "rb").read() == before
        assert sorted(os.listdir(folder)) == names, os.listdir(folder)
        return True
    assert tl.load_checkpoint(path)["epoch"] == epoch
    return False

seen = []
for number in range(rounds):  # from no room at all to more than enough, a page at a time
    room = number % (size // page + 3) * page
    with open(filler, "wb") as file:
        file.write(bytes(free() - room))
    failed = refused(number)
    assert failed == (room < size), (room, size)
    seen.append(failed)
    os.unlink(filler)
for number in range(8 - 2):  # and room enough, but no number for another file
    open(f"{folder}/{number}", "w").close()
assert refused(-1)
print(sum(seen), len(seen))
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """W: wherever in the file the room ends; and the same process saves again as soon as there is room."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)],
                                                         capture_output=True, check=False).returncode:
        pytest.skip("this system lets no process mount a file system in a namespace of its own")
    done = subprocess.run([*NAMESPACE, sys.executable, "-c", PROGRAM, str(tmp_path), str(count(20, 400))], text=True,
                          capture_output=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    failed, saved = map(int, done.stdout.split())
    assert 0 < failed < saved
