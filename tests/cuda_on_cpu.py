"""CUDA sources compiled for the CPU, to test what they compute where there is no GPU."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
COMPILER = shutil.which("g++")
# The instructions that the sources write as PTX.
PTX = {
    r'asm\("ex2[^;]*;[^;]*;': "y = emulated_ex2(x);",
    r'asm\("rcp[^;]*;[^;]*;': "y = emulated_rcp(x);",
    r'asm\("cvt.f32.f16[^;]*;[^;]*;': "y = from_half(x);",
    r'asm\("cvt.rn.bf16x2[^;]*;[^;]*;': "bits = two_bfloats(high, low);",
    r'asm\("cvt.rn.f16x2[^;]*;[^;]*;': "bits = two_halves(high, low);",
    r'asm volatile\("mbarrier.init.*?"memory"\);': "emulated_start(b, count);",
    r'asm volatile\("{ .reg .b64 state; .reg .pred.*?"memory"\);': "if (go) emulated_arrive(b);",
    r'asm volatile\("{ .reg .b64 state.*?"memory"\);': "emulated_arrive(b);",
    r'asm volatile\("{ .reg .pred.*?"memory"\);': "over = emulated_over(b, parity);",
    r"extern __shared__[^;]*;": "unsigned char *memory = shared_memory;",
}
RUN = """
static const long long *numbers;
static void enter() {{
    {name}(*reinterpret_cast<const Arguments *>(numbers));
    fibers[running].done = true;
    give_way();
}}
extern "C" void run_{name}(int grid_x, int grid_y, int threads, unsigned char *shared,
                           const long long *values) {{
    numbers = values;
    shared_memory = shared;
    gridDim = {{(unsigned)grid_x, (unsigned)grid_y, 1}};
    blockDim = {{(unsigned)threads, 1, 1}};
    for (int block = 0; block < grid_x * grid_y; ++block) {{
        blockIdx = {{(unsigned)(block % grid_x), (unsigned)(block / grid_x), 0}};
        fibers = std::vector<Fiber>(threads);
        arrived = 0;
        bool pause = false;  // warps do not keep step
        for (Fiber &fiber : fibers) {{
            fiber.stack.resize(1 << 17);
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            makecontext(&fiber.context, enter, 0);
        }}
        for (bool any = true; any;) {{
            any = false;
            for (running = 0; running < fibers.size(); ++running) {{
                if (running % 32 == 0) pause = next_random() % 4 == 0;
                if (fibers[running].done) continue;
                any = true;
                if (pause) continue;
                threadIdx = {{running, 0, 0}};
                unsigned self = running;
                swapcontext(&scheduler, &fibers[self].context);
                running = self;
            }}
        }}
    }}
}}
"""


class EmulatedKernel:
    """Called like `cuda_source.Kernel`, with addresses of CPU memory."""

    def __init__(
        self, source: str, name: str, macros: Mapping[str, int], shared_bytes: int, folder: Path
    ) -> None:
        assert COMPILER is not None
        for pattern, replacement in PTX.items():
            source = re.sub(pattern, replacement, source, flags=re.DOTALL)
        defines = "".join(f"#define {k} {v}\n" for k, v in macros.items())
        fits = f"static_assert(sizeof(Shared) <= {shared_bytes});\n"
        code = defines + HEADER.read_text() + source + fits + RUN.format(name=name)
        stem = folder / f"{name}-{hashlib.sha256(code.encode()).hexdigest()[:16]}"
        if not stem.with_suffix(".so").exists():
            stem.with_suffix(".cpp").write_text(code)
            command = [COMPILER, "-O0", "-std=c++17", "-shared", "-fPIC", "-w", "-ffp-contract=off"]
            files = ["-o", str(stem.with_suffix(".so")), str(stem.with_suffix(".cpp"))]
            subprocess.run([*command, *files], check=True)
        self._run = getattr(ctypes.CDLL(str(stem.with_suffix(".so"))), f"run_{name}")
        self._shared_bytes = shared_bytes

    def __call__(self, grid: tuple[int, int], threads: int, arguments: tuple[int, ...]) -> None:
        numbers = np.array(arguments, np.int64)
        shared = np.full(self._shared_bytes // 4 + 4, np.nan, np.float32)  # nothing is zero there
        at = shared.ctypes.data + -shared.ctypes.data % 16
        self._run(*grid, threads, ctypes.c_void_p(at), ctypes.c_void_p(numbers.ctypes.data))
