"""Freed memory that stays with the process, so that no chunk has its pages cleared anew."""

import platform
import subprocess
import sys

import pytest

from samba_cli.kernels import kept_memory

# Faults of 20 rounds of tensors as large as a chunk's, after the first ones.
ROUNDS = """
import resource, sys, torch
from samba_cli.kernels.kept_memory import keep_freed_memory
assert keep_freed_memory()
for round in range(25):
    if round == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.zeros(2048, 1280) for _ in range(6)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not glibc(), reason="needs glibc")
def test_freed_memory_is_not_faulted_in_again(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    run = subprocess.run([sys.executable, "-c", ROUNDS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20 * 6 * 256  # a tenth of the pages: 2,560 a tensor


def test_the_environment_has_the_last_word(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not kept_memory.keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(kept_memory.sys, "platform", "darwin")
    assert not kept_memory.keep_freed_memory()
