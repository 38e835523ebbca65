"""CUDA sources compiled at first use, by the NVRTC that PyTorch brings along: no toolkit is needed.

The machine code is kept beside what Triton compiles, under a name that follows from the source, the
options and the compiler: later processes load it. Only NVRTC's and the driver's C interfaces are
used. Where one of them is missing, `Unavailable` says so and the caller takes another path.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import torch

from samba_cli.kernels.compiled_cache import compiled_cache

_SHARED_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class Unavailable(RuntimeError):
    """No kernel from source on this machine, and why."""


class Kernel:
    """A CUDA function on one device whose only parameter is a struct of 64-bit numbers."""

    def __init__(self, function: ctypes.c_void_p, device: int, shared_bytes: int) -> None:
        self._function, self._device, self._shared_bytes = function, device, shared_bytes

    def __call__(self, grid: tuple[int, int], threads: int, arguments: Iterable[int]) -> None:
        """Launch on PyTorch's current stream of the device; tensors are given by their address.

        They must stay alive until then, which PyTorch's allocator makes enough. Raises
        RuntimeError with the driver's reason when the launch is refused.
        """
        driver = _driver()
        numbers = list(arguments)
        block = ctypes.create_string_buffer(struct.pack(f"{len(numbers)}q", *numbers))
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(block))
        stream = ctypes.c_void_p(torch.cuda.current_stream(self._device).cuda_stream)
        shape = (*grid, 1, threads, 1, 1)
        with _current(self._device):
            _check(
                driver.cuLaunchKernel(
                    self._function, *shape, self._shared_bytes, stream, parameters, None
                )
            )


def load_kernel(
    source: str, name: str, macros: Mapping[str, int], device: int, shared_bytes: int
) -> Kernel:
    """The function `name` (extern "C") of a source, for a device of this process.

    Raises Unavailable where it cannot be compiled or loaded.
    """
    capability = torch.cuda.get_device_capability(device)
    module = _module(source, tuple(sorted(macros.items())), capability, device)
    function = ctypes.c_void_p()
    driver = _driver()
    try:
        with _current(device):
            _check(driver.cuModuleGetFunction(ctypes.byref(function), module, name.encode()))
            _check(driver.cuFuncSetAttribute(function, _SHARED_BYTES, shared_bytes))
    except RuntimeError as error:
        raise Unavailable(str(error)) from error
    return Kernel(function, device, shared_bytes)


@cache
def _module(
    source: str, macros: tuple[tuple[str, int], ...], capability: tuple[int, int], device: int
) -> ctypes.c_void_p:
    machine_code = machine_code_of(source, dict(macros), capability)
    driver, module = _driver(), ctypes.c_void_p()
    try:
        with _current(device):
            _check(driver.cuModuleLoadData(ctypes.byref(module), machine_code))
    except RuntimeError as error:
        raise Unavailable(str(error)) from error
    return module


def machine_code_of(source: str, macros: Mapping[str, int], capability: tuple[int, int]) -> bytes:
    """A cubin, from the cache or from NVRTC. Needs no GPU. Raises Unavailable."""
    nvrtc = _nvrtc()
    options = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}", "--ftz=true"]
    options += ["--std=c++17", *(f"-D{k}={v}" for k, v in sorted(macros.items()))]
    version = (ctypes.c_int(), ctypes.c_int())
    nvrtc.nvrtcVersion(ctypes.byref(version[0]), ctypes.byref(version[1]))
    words = [source, *options, f"{version[0].value}.{version[1].value}"]
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]
    path = compiled_cache() / key / "kernel.cubin"
    with contextlib.suppress(OSError):
        return path.read_bytes()
    machine_code = _compile(nvrtc, source, options)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(machine_code)
        os.replace(part, path)
    return machine_code


def _compile(nvrtc: ctypes.CDLL, source: str, options: list[str]) -> bytes:
    program = ctypes.c_void_p()

    def text(size_of: Callable[..., int], content_of: Callable[..., int]) -> bytes:
        size = ctypes.c_size_t()
        if size_of(program, ctypes.byref(size)):
            return b""
        content = ctypes.create_string_buffer(size.value)
        return b"" if content_of(program, content) else content.raw

    code = source.encode()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, b"kernel.cu", 0, None, None):
        raise Unavailable("NVRTC takes no source")
    try:
        given = (ctypes.c_char_p * len(options))(*(x.encode() for x in options))
        failed = nvrtc.nvrtcCompileProgram(program, len(options), given)
        if failed:
            log = text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
            raise Unavailable(f"NVRTC: {log.rstrip(bytes(1)).decode(errors='replace')}")
        machine_code = text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if not machine_code:
        raise Unavailable("NVRTC made no machine code")
    return machine_code


@cache
def _nvrtc() -> ctypes.CDLL:
    major = (torch.version.cuda or "").partition(".")[0]
    if not major:
        raise Unavailable("this PyTorch is built without CUDA")
    name = f"libnvrtc.so.{major}"
    for path in sorted(Path(torch.__file__).parents[1].glob(f"nvidia/*/lib/{name}")):
        with contextlib.suppress(OSError):
            for part in sorted(path.parent.glob(f"libnvrtc-builtins.so.{major}*")):
                ctypes.CDLL(str(part))  # NVRTC opens it by name, and finds it once it is loaded
            return ctypes.CDLL(str(path))
    with contextlib.suppress(OSError):
        return ctypes.CDLL(name)
    raise Unavailable(f"{name} is not installed")


@cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Unavailable("NVIDIA's driver is not installed") from error


@contextlib.contextmanager
def _current(device: int) -> Iterator[None]:
    """A thread that never used CUDA, like one of autograd's, has no context; others keep theirs."""
    driver = _driver()
    _check(driver.cuCtxPushCurrent_v2(_primary_context(device)))
    try:
        yield
    finally:
        _check(driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())))


@cache
def _primary_context(device: int) -> ctypes.c_void_p:
    torch.cuda.init()
    driver, handle, context = _driver(), ctypes.c_int(), ctypes.c_void_p()
    _check(driver.cuDeviceGet(ctypes.byref(handle), device))
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle))
    return context


def _check(status: int) -> None:
    if status:
        message = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(message))
        raise RuntimeError(f"CUDA: {(message.value or b'error').decode()} ({status})")
