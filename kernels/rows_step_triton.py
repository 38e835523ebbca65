"""One token of each of a few texts in Triton: what decoding a batch of up to 16 rows is made of.

The weights are read once for all rows, by tensor cores, so a step is bound by reading them as it is
for one text. Kernels form a chain (`dependent_launch`): each asks for its first weights before it
waits for the kernel before it. They are asked for into L2, which costs neither registers nor shared
memory, and which nothing can make stale.

A product whose rows do not fill the device is cut along its columns. Its parts are left in float32
and added up by the kernel that follows: the norm (with the residual), the rotation, or the scan.

B rows (texts), M outputs, K inputs of a product, S parts, D width of the residual stream.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import ask_for, begin, options, wait
from samba_cli.kernels.selective_scan_triton import LOG2E, sigmoid, softplus

MOST_ROWS = 16
ROWS = 64  # of a weight, of a program: what one instruction of the tensor cores takes
COLUMNS, STAGES = 128, 5  # of a weight at a time, and how many such blocks are under way
PAIR_COLUMNS, PAIR_STAGES = 64, 6  # the same where a program has two weights
AHEAD = 512  # columns of every row that are asked for before waiting
PROGRAMS = 160  # beyond which a product is not cut further
LEAST_PART = 512  # columns


@triton.jit
def _block(ptr, at, i, k, K: tl.constexpr, EVEN: tl.constexpr):
    if EVEN:
        return tl.load(ptr + at + i)
    return tl.load(ptr + at + i, (k + i < K)[None, :], 0.0)


@triton.jit
def _product(
    x, weight, r, first, B,
    K: tl.constexpr, PART: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr,
    BATCH: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Rows r of weight [M, K] times x [B, K]: [ROWS, BATCH], over PART columns from `first` on."""
    k, b = first + tl.arange(0, COLUMNS), tl.minimum(tl.arange(0, BATCH), B - 1)
    w_at = r.to(tl.int64)[:, None] * K + k[None, :]
    x_at = b[:, None] * K + k[None, :]
    acc = tl.zeros([ROWS, BATCH], tl.float32)
    for i in tl.range(0, PART, COLUMNS, num_stages=STAGES):
        w = _block(weight, w_at, i, k, K, EVEN)
        v = _block(x, x_at, i, k, K, EVEN)
        acc = tl.dot(w, tl.trans(v), acc, input_precision="ieee")
    return acc


@triton.jit(do_not_specialize=["B"])
def _linear_kernel(
    x, weight, y, B, M, multiplier,
    K: tl.constexpr, PART: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr,
    BATCH: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr, AHEAD: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    begin(EARLY)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * PART
    r = tl.minimum(rows, M - 1)
    ask_for(weight, r, first, K, K - 1, AHEAD, EARLY)
    wait(EARLY)
    acc = _product(x, weight, r, first, B, K, PART, EVEN, ROWS, BATCH, COLUMNS, STAGES)
    b = tl.arange(0, BATCH)
    at = (tl.program_id(1) * B + b).to(tl.int64)[None, :] * M + rows[:, None]
    inside = (rows < M)[:, None] & (b < B)[None, :]
    tl.store(y + at, (acc * multiplier).to(y.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["B"])
def _swiglu_kernel(
    x, weight, y, B, F,
    K: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr, BATCH: tl.constexpr,
    COLUMNS: tl.constexpr, STAGES: tl.constexpr, AHEAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Rows of gate and the same of up, which lie F rows further down in the weight."""
    begin(EARLY)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    r = tl.minimum(rows, F - 1)
    ask_for(weight, r, 0, K, K - 1, AHEAD, EARLY)
    ask_for(weight, r + F, 0, K, K - 1, AHEAD, EARLY)
    wait(EARLY)
    k, b = tl.arange(0, COLUMNS), tl.arange(0, BATCH)
    w_at = r.to(tl.int64)[:, None] * K + k[None, :]
    x_at = tl.minimum(b, B - 1)[:, None] * K + k[None, :]
    below = weight + F.to(tl.int64) * K
    gate = tl.zeros([ROWS, BATCH], tl.float32)
    up = tl.zeros([ROWS, BATCH], tl.float32)
    for i in tl.range(0, K, COLUMNS, num_stages=STAGES):
        v = tl.trans(_block(x, x_at, i, k, K, EVEN))
        gate = tl.dot(_block(weight, w_at, i, k, K, EVEN), v, gate, input_precision="ieee")
        up = tl.dot(_block(below, w_at, i, k, K, EVEN), v, up, input_precision="ieee")
    out = gate * tl.sigmoid(gate) * up
    inside = (rows < F)[:, None] & (b < B)[None, :]
    tl.store(y + b[None, :] * F + rows[:, None], out.to(y.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["B"])
def _mamba_input_kernel(
    x, weight, conv_weight, conv_bias, conv_state, out, gate, B, E,
    K: tl.constexpr, EVEN: tl.constexpr, TAPS: tl.constexpr, CONV_BIAS: tl.constexpr,
    ROWS: tl.constexpr, BATCH: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
    AHEAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The rows of x are convolved, those of z are not. The convolution moves on in place."""
    begin(EARLY)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    r = tl.minimum(rows, 2 * E - 1)
    ask_for(weight, r, 0, K, K - 1, AHEAD, EARLY)
    wait(EARLY)
    y = _product(x, weight, r, 0, B, K, K, EVEN, ROWS, BATCH, COLUMNS, STAGES)
    now = y.to(out.dtype.element_ty)  # what the convolution of a chunk would see
    b = tl.arange(0, BATCH)
    in_b = (b < B)[None, :]
    at = b[None, :] * E + rows[:, None]
    if tl.program_id(0) * ROWS < E:
        convolved = rows < E
        inside = convolved[:, None] & in_b
        past = conv_state + at.to(tl.int64) * (TAPS - 1)
        last = tl.load(conv_weight + rows * TAPS + (TAPS - 1), convolved, 0.0).to(tl.float32)
        mixed = now.to(tl.float32) * last[:, None]
        if CONV_BIAS:
            mixed += tl.load(conv_bias + rows, convolved, 0.0).to(tl.float32)[:, None]
        for j in tl.static_range(TAPS - 1):
            before = tl.load(past + j, inside, 0.0)
            tap = tl.load(conv_weight + rows * TAPS + j, convolved, 0.0).to(tl.float32)
            mixed += before.to(tl.float32) * tap[:, None]
            tl.debug_barrier()  # threads that hold the same element have read it
            if j > 0:
                tl.store(past + (j - 1), before, inside)
        tl.store(past + (TAPS - 2), now, inside)
        tl.store(out + at, (mixed * sigmoid(mixed)).to(out.dtype.element_ty), inside)
    if (tl.program_id(0) + 1) * ROWS > E:
        tl.store(gate + at - E, now, ((rows >= E) & (rows < 2 * E))[:, None] & in_b)


@triton.jit(do_not_specialize=["B"])
def _scan_kernel(
    x, z, parts, dt_weight, dt_bias, A, D, state, y, B, E, S,
    R: tl.constexpr, R_PAD: tl.constexpr, N: tl.constexpr, N_PAD: tl.constexpr,
    S_PAD: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """BLOCK channels of a row. The state, read before waiting, moves on in place."""
    begin(EARLY)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(1)
    i, n, s = tl.arange(0, R_PAD), tl.arange(0, N_PAD), tl.arange(0, S_PAD)
    in_e, in_i, in_n = e < E, i < R, n < N
    mask = in_e[:, None] & in_n[None, :]
    at = e[:, None] * N + n[None, :]
    here = state + row.to(tl.int64) * E * N + at
    w = tl.load(dt_weight + e[:, None] * R + i[None, :], in_e[:, None] & in_i[None, :], 0.0)
    rate = tl.load(A + at, mask, 0.0) * LOG2E
    h = tl.load(here, mask, 0.0)
    bias = tl.load(dt_bias + e, in_e, 0.0).to(tl.float32)
    skip = tl.load(D + e, in_e, 0.0).to(tl.float32)
    wait(EARLY)

    line = parts + (s * B + row)[:, None] * (R + 2 * N)
    in_s = (s < S)[:, None]
    low = tl.sum(tl.load(line + i[None, :], in_s & in_i[None, :], 0.0), axis=0)
    B_row = tl.sum(tl.load(line + R + n[None, :], in_s & in_n[None, :], 0.0), axis=0)
    C_row = tl.sum(tl.load(line + R + N + n[None, :], in_s & in_n[None, :], 0.0), axis=0)
    dt = softplus(tl.sum(w.to(tl.float32) * low[None, :], axis=1) + bias)
    x_e = tl.load(x + row * E + e, in_e, 0.0).to(tl.float32)
    h = tl.exp2(dt[:, None] * rate) * h + (dt * x_e)[:, None] * B_row[None, :]
    out = tl.sum(h * C_row[None, :], axis=1) + skip * x_e
    gate = tl.load(z + row * E + e, in_e, 0.0).to(tl.float32)
    out *= gate * sigmoid(gate)
    tl.store(y + row * E + e, out.to(y.dtype.element_ty), in_e)
    tl.debug_barrier()  # threads that hold the same element have read it
    tl.store(here, h, mask)


@triton.jit(do_not_specialize=["B"])
def _heads_kernel(
    parts, cos, sin, q, keys, values, slot_ptr, B, S, n_q, n_kv, stride_b, stride_t,
    HEAD: tl.constexpr, HALF: tl.constexpr, S_PAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A head of a row from its parts: turned where it is a query's or a key's, put where it goes.

    A rotation turns i and i + HALF, for i < HALF; what is past them stays.
    """
    begin(EARLY)
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i, s = tl.arange(0, HEAD // 2), tl.arange(0, S_PAD)
    slot = tl.load(slot_ptr)  # written before the first kernel of the chain
    at = tl.where(i < HALF, i, 2 * i)
    beside = tl.where(i < HALF, i + HALF, 2 * i + 1)
    wait(EARLY)
    line = parts + ((s * B + row) * (n_q + 2 * n_kv) + head)[:, None] * HEAD
    in_s = (s < S)[:, None]
    first = tl.sum(tl.load(line + at[None, :], in_s, 0.0), axis=0)
    second = tl.sum(tl.load(line + beside[None, :], in_s, 0.0), axis=0)
    if HALF > 0:
        turned = i < tl.where(head < n_q + n_kv, HALF, 0)
        c = tl.load(cos + i, turned, 1.0)
        d = tl.load(sin + i, turned, 0.0)
        first, second = first * c - second * d, second * c + first * d
    dtype = q.dtype.element_ty
    if head < n_q:
        to = q + (row * n_q + head) * HEAD
        tl.store(to + at, first.to(dtype))
        tl.store(to + beside, second.to(dtype))
    else:
        ring = row * stride_b + slot * stride_t
        if head < n_q + n_kv:
            to = keys + ring + (head - n_q) * HEAD
            tl.store(to + at, first.to(dtype))
            tl.store(to + beside, second.to(dtype))
        else:
            to = values + ring + (head - n_q - n_kv) * HEAD
            tl.store(to + at, first.to(dtype))
            tl.store(to + beside, second.to(dtype))


@triton.jit(do_not_specialize=["B"])
def _norm_kernel(
    x, parts, weight, total, y, B, D, S, eps, multiplier,
    BLOCK_D: tl.constexpr, S_PAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The residual stream of a row with the parts of a product added, and its norm."""
    begin(EARLY)
    row = tl.program_id(0)
    d = tl.arange(0, BLOCK_D)
    in_d = d < D
    scale = tl.load(weight + d, in_d, 0.0).to(tl.float32)
    wait(EARLY)
    v = tl.load(x + row * D + d, in_d, 0.0).to(tl.float32)
    if S_PAD > 0:
        for s in tl.static_range(S_PAD):
            if s < S:
                part = tl.load(parts + (s * B + row) * D + d, in_d, 0.0)
                v += part * multiplier
        tl.store(total + row * D + d, v, in_d)
    v *= 1.0 / tl.sqrt(tl.sum(v * v, axis=0) / D + eps)
    tl.store(y + row * D + d, (v * scale).to(y.dtype.element_ty), in_d)


def splits(M: int, K: int) -> int:
    """Parts that the columns of a weight [M, K] are cut into, so that its programs fill a GPU."""
    tiles, parts = triton.cdiv(M, ROWS), 1
    while tiles * parts * 2 <= PROGRAMS and K % (parts * 2 * COLUMNS) == 0:
        if K // (parts * 2) < LEAST_PART:
            break
        parts *= 2
    return parts


def _ahead(part: int) -> int:
    return min(AHEAD, triton.next_power_of_2(part))


def _batch(B: int) -> int:
    return max(16, triton.next_power_of_2(B))


def linear(
    x: Tensor, weight: Tensor, parts: int = 1, multiplier: float = 1.0,
    out_dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """multiplier * x [B, 1, K] @ weight [M, K]^T in `parts` sums: [parts, B, 1, M]."""
    B, (M, K) = len(x), weight.shape
    part = triton.cdiv(K, parts)
    y = torch.empty((parts, B, 1, M), dtype=out_dtype, device=x.device)
    _linear_kernel[(triton.cdiv(M, ROWS), parts)](
        x.contiguous(), weight.contiguous(), y, B, M, multiplier,
        K=K, PART=part, EVEN=part % COLUMNS == 0, ROWS=ROWS, BATCH=_batch(B), COLUMNS=COLUMNS,
        STAGES=STAGES, AHEAD=_ahead(part), num_warps=4, **options(x),
    )  # fmt: skip
    return y


def cut_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, 1, K] @ weight [M, K]^T as parts [S, B, 1, M] float32, whose sum it is."""
    return linear(x, weight, splits(*weight.shape))


def swiglu(x: Tensor, gate_up: Tensor) -> Tensor:
    """silu(gate x) * up x for x [B, 1, K], gate_up [2 F, K]: [B, 1, F] in x's dtype."""
    B, F, K = len(x), gate_up.shape[0] // 2, gate_up.shape[1]
    y = torch.empty((B, 1, F), dtype=x.dtype, device=x.device)
    _swiglu_kernel[(triton.cdiv(F, ROWS),)](
        x.contiguous(), gate_up.contiguous(), y, B, F,
        K=K, EVEN=K % PAIR_COLUMNS == 0, ROWS=ROWS, BATCH=_batch(B), COLUMNS=PAIR_COLUMNS,
        STAGES=PAIR_STAGES, AHEAD=_ahead(K) // 2, num_warps=4, **options(x),
    )  # fmt: skip
    return y


def mamba_input(
    x: Tensor, weight: Tensor, conv_weight: Tensor, conv_bias: Tensor | None, conv_state: Tensor
) -> tuple[Tensor, Tensor]:
    """x [B, 1, K] through weight [2 E, K]; its first half through the convolution and silu.

    conv_weight [E, TAPS]; conv_state [B, E, TAPS - 1], contiguous, moves on in place. Returns the
    convolved x and the gate z, both [B, 1, E] in conv_state's dtype.
    """
    (E, taps), B, K = conv_weight.shape, len(x), weight.shape[1]
    out = torch.empty((B, 1, E), dtype=conv_state.dtype, device=x.device)
    gate = torch.empty_like(out)
    _mamba_input_kernel[(triton.cdiv(2 * E, ROWS),)](
        x.contiguous(), weight.contiguous(), conv_weight.contiguous(),
        x if conv_bias is None else conv_bias, conv_state, out, gate, B, E,
        K=K, EVEN=K % COLUMNS == 0, TAPS=taps, CONV_BIAS=conv_bias is not None, ROWS=ROWS,
        BATCH=_batch(B), COLUMNS=COLUMNS, STAGES=STAGES, AHEAD=_ahead(K), num_warps=4,
        **options(x),
    )  # fmt: skip
    return out, gate


BLOCK_E = 32  # channels of a program


def mamba_scan(
    x: Tensor, z: Tensor, parts: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor,
    state: Tensor,
) -> Tensor:  # fmt: skip
    """One token of the selective scan of each row, gated by silu(z).

    x, z [B, 1, E]; parts [S, B, 1, R + 2 N] float32, whose sum is dt (before its projection), B and
    C; dt_weight [E, R]; dt_bias, D [E]; A [E, N]; state [B, E, N] float32, contiguous, moves on in
    place. Returns y [B, 1, E].
    """
    (E, N), R, rows, S = A.shape, dt_weight.shape[1], len(x), len(parts)
    y = torch.empty_like(x)
    _scan_kernel[(triton.cdiv(E, BLOCK_E), rows)](
        x, z, parts, dt_weight.contiguous(), dt_bias, A.contiguous(), D, state, y, rows, E, S,
        R=R, R_PAD=triton.next_power_of_2(R), N=N, N_PAD=triton.next_power_of_2(N),
        S_PAD=triton.next_power_of_2(S), BLOCK=BLOCK_E, num_warps=4, **options(x),
    )  # fmt: skip
    return y


def heads(
    parts: Tensor, rotation: tuple[Tensor, Tensor] | None, n_head: int, keys: Tensor,
    values: Tensor, slot: Tensor,
) -> Tensor:  # fmt: skip
    """Queries [B, 1, H, d]; keys and values of the token go to `slot` of the rings.

    parts [S, B, 1, (H + 2 n_kv) d] float32, whose sum holds the heads of q, k and v; keys and
    values [B, slots, n_kv, d], laid out alike.
    """
    n_kv, d = keys.shape[2:]
    S, B = parts.shape[:2]
    q = torch.empty((B, 1, n_head, d), dtype=keys.dtype, device=keys.device)
    cos, sin = rotation or (parts, parts)
    _heads_kernel[(n_head + 2 * n_kv, B)](
        parts, cos, sin, q, keys, values, slot, B, S, n_head, n_kv, keys.stride(0),
        keys.stride(1), HEAD=d, HALF=0 if rotation is None else cos.shape[-1],
        S_PAD=triton.next_power_of_2(S), num_warps=1, **options(parts),
    )  # fmt: skip
    return q


def add_norm(
    x: Tensor, parts: Tensor | None, weight: Tensor, eps: float, multiplier: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x [B, 1, D] float32 + multiplier * the sum of parts [S, B, 1, D], and the norm of that."""
    B, D = len(x), x.shape[-1]
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    total = x if parts is None else torch.empty_like(x)
    S = 0 if parts is None else len(parts)
    _norm_kernel[(B,)](
        x, x if parts is None else parts, weight, total, y, B, D, S, eps, multiplier,
        BLOCK_D=triton.next_power_of_2(D), S_PAD=triton.next_power_of_2(S) if S else 0,
        num_warps=8, **options(x),
    )  # fmt: skip
    return total, y
