// The forward pass of the selective scan: y and the state after the last token, 16 states.
//
// LANES neighbouring threads own a channel, 16 / LANES states each, and walk over all tokens: each
// exponential is computed once. Per token and state that is 1 ex2 and 4 floating-point operations
// (dt A, dt u B, h, C h); only the addition to h waits for the token before.
//
// Two kinds of warps share a block of WIDTH channels, so that the scan waits for nothing:
//   scanning warps read dt, dt u, B and C of a tile from shared memory and leave y there;
//   helping warps make dt of the tiles to come, and the gated output from y of those that are done.
//
// Where batch and channels do not fill the device, time is cut into segments: `scan_ends` takes
// each from a zero state, `scan` starts from what the segments before it add up to.

struct Arguments {
    const element *u, *delta, *z, *B, *C;
    const float *A, *D, *bias, *state;
    element *y;
    float *final, *kept, *ends, *sums;
    int64 length, segment, segments, channels;
    int64 u_b, u_t, u_e, d_b, d_t, d_e, z_b, z_t, z_e, B_b, B_t, C_b, C_t;
    int64 A_e, A_n, s_b, s_e, s_n;
    int64 whole;  // rows of u, delta, z, y (bit 0), of B and C (bit 1) are read 16 bytes at a time
};

struct __align__(16) Tile {
    float2 dt[TILE][DT_ROW];  // dt, dt u
    float y[TILE][Y_ROW];
    element BC[TILE][BC_ROW];
    Row u[HELPERS], z[HELPERS];  // every helper's own
};

struct Shared {
    Tile tiles[STAGES];
    Ring ring;
};

struct Step {
    float2 dt;
    Words BC;
};

__device__ __forceinline__ void fetch(const Tile &tile, int t, int channel, int q,
                                      Step (&step)[STEPS]) {
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
        step[j].dt = tile.dt[t + j][channel];
        step[j].BC = *reinterpret_cast<const Words *>(&tile.BC[t + j][q * 2 * OWN]);
    }
}

// STEPS tokens: the states go on, and lane q of a channel leaves y of the tokens q, q + LANES, ...
template <bool OUTPUT>
__device__ __forceinline__ void advance(Tile &tile, int t, int channel, int q,
                                        const Step (&step)[STEPS], const float (&rate)[OWN],
                                        float (&h)[OWN], float &elapsed) {
#pragma unroll
    for (int first = 0; first < STEPS; first += LANES) {
        float part[LANES];
#pragma unroll
        for (int j = 0; j < LANES; ++j) {
            const Step &now = step[first + j];
            float BC[2 * OWN];
            widen_own(now.BC.x, BC);
            part[j] = 0.0f;
#pragma unroll
            for (int n = 0; n < OWN; ++n) {
                h[n] = fmaf(exp2_fast(now.dt.x * rate[n]), h[n], now.dt.y * BC[n]);
                if (OUTPUT) part[j] = fmaf(h[n], BC[OWN + n], part[j]);
            }
            if (!OUTPUT) elapsed += now.dt.x;
        }
        if (OUTPUT) tile.y[t + first + q][channel] = sum_over_lanes<LANES, 1>(part, q);
    }
}

template <bool OUTPUT>
__device__ __forceinline__ void scan_tiles(Shared &s, const Arguments &a, int64 b, int64 from,
                                           int tiles, int64 first_channel) {
    int q = threadIdx.x % LANES, channel = threadIdx.x / LANES;
    int64 e = first_channel + channel, chunks = (a.length + CHUNK - 1) / CHUNK;
    bool inside = e < a.channels;
    float rate[OWN], h[OWN], elapsed = 0.0f;
#pragma unroll
    for (int n = 0; n < OWN; ++n) {
        rate[n] = inside ? LOG2E * a.A[e * a.A_e + (q * OWN + n) * a.A_n] : 0.0f;
        h[n] = 0.0f;
        if (OUTPUT && inside && a.state)
            h[n] = a.state[b * a.s_b + e * a.s_e + (q * OWN + n) * a.s_n];
    }
    if (OUTPUT && inside)  // the segments before this one
        for (int i = 0; i < (int)blockIdx.y; ++i) {
            int64 row = (b * a.segments + i) * a.channels + e;
            float end[OWN], sum = a.sums[row];
            read_states(a.ends + row * STATES + q * OWN, end);
#pragma unroll
            for (int n = 0; n < OWN; ++n) h[n] = fmaf(exp2_fast(sum * rate[n]), h[n], end[n]);
        }

    Step now[STEPS], next[STEPS];
    await(&s.ring.full[0], 0);
    fetch(s.tiles[0], 0, channel, q, now);
    int stage = 0, parity = 0;
    for (int i = 0; i < tiles; ++i) {
        Tile &tile = s.tiles[stage];
        barrier *done = &s.ring.done[stage];
        if (++stage == STAGES) stage = 0, parity ^= 1;
#pragma unroll
        for (int t = 0; t < TILE; t += STEPS) {
            if (OUTPUT && t % CHUNK == 0 && a.kept && inside) {
                int64 chunk = (from + (int64)i * TILE + t) / CHUNK;
                float *to = a.kept + ((b * chunks + chunk) * STATES + q * OWN) * a.channels + e;
#pragma unroll
                for (int n = 0; n < OWN; ++n)
                    if (chunk < chunks) to[n * a.channels] = h[n];
            }
            if (t + STEPS < TILE) {
                fetch(tile, t + STEPS, channel, q, next);
            } else if (i + 1 < tiles) {
                await(&s.ring.full[stage], parity);
                fetch(s.tiles[stage], 0, channel, q, next);
            }
            advance<OUTPUT>(tile, t, channel, q, now, rate, h, elapsed);
#pragma unroll
            for (int j = 0; j < STEPS; ++j) now[j] = next[j];
        }
        arrive(done);
    }

    if (!inside) return;
    if (OUTPUT) {
        if ((int64)blockIdx.y + 1 == a.segments)
            write_states(a.final + (b * a.channels + e) * STATES + q * OWN, h);
    } else {
        int64 row = (b * a.segments + blockIdx.y) * a.channels + e;
        write_states(a.ends + row * STATES + q * OWN, h);
        if (q == 0) a.sums[row] = elapsed;
    }
}

template <bool OUTPUT>
__device__ __forceinline__ void help_tiles(Shared &s, const Arguments &a, int64 b, int64 from,
                                           int64 to, int tiles, int64 first_channel) {
    int helper = threadIdx.x - WARPS * 32;
    int row = helper / WIDTH * 8 + helper % 8, column = helper / 8 % (WIDTH / 8) * 8;
    int64 e = first_channel + column;
    int count = (int)(a.channels - e < 8 ? a.channels - e : 8);
    bool whole = (a.whole & 1) && count == 8;
    const element *u = a.u + b * a.u_b + e * a.u_e, *delta = a.delta + b * a.d_b + e * a.d_e;
    const element *z = a.z ? a.z + b * a.z_b + e * a.z_e : a.z;
    float bias[8], skip[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        bias[j] = a.bias && j < count ? a.bias[e + j] : 0.0f;
        skip[j] = a.D && j < count ? a.D[e + j] : 0.0f;
    }
    const int rounds = (4 * TILE + HELPERS - 1) / HELPERS;  // 8 numbers of B or C of a token each
    Row next_u = no_row(), next_delta = no_row(), next_z = no_row(), next_BC[rounds];

    auto read = [&](int tile) {
        int64 t = from + (int64)tile * TILE + row;
        if (t < to && count > 0) {
            next_u = read_row(u + t * a.u_t, a.u_e, count, whole);
            next_delta = read_row(delta + t * a.d_t, a.d_e, count, whole);
            if (OUTPUT && a.z) next_z = read_row(z + t * a.z_t, a.z_e, count, whole);
        }
#pragma unroll
        for (int i = 0; i < rounds; ++i) {
            int item = helper + i * HELPERS, token = item / 32 * 8 + item % 8, part = item / 8 % 4;
            int64 at = from + (int64)tile * TILE + token;
            next_BC[i] = no_row();
            if (token < TILE && at < to && (OUTPUT || part < 2)) {
                const element *line = part < 2 ? a.B + b * a.B_b + at * a.B_t
                                               : a.C + b * a.C_b + at * a.C_t;
                next_BC[i] = read_row(line + part % 2 * 8, 1, 8, (a.whole & 2) != 0);
            }
        }
    };
    auto prepare = [&](Tile &tile, int index) {
        bool present = from + (int64)index * TILE + row < to;
        float x[8], dt[8];
        widen_row(next_u, x);
        widen_row(next_delta, dt);
        if (OUTPUT) tile.u[helper] = next_u, tile.z[helper] = next_z;
#pragma unroll
        for (int j = 0; j < 8; ++j) dt[j] = present ? softplus(dt[j] + bias[j]) : 0.0f;
        float4 *line = reinterpret_cast<float4 *>(&tile.dt[row][column]);
#pragma unroll
        for (int j = 0; j < 8; j += 2)
            line[j / 2] = make_float4(dt[j], dt[j] * x[j], dt[j + 1], dt[j + 1] * x[j + 1]);
#pragma unroll
        for (int i = 0; i < rounds; ++i) {
            int item = helper + i * HELPERS, token = item / 32 * 8 + item % 8;
            if (token < TILE) put_own(tile.BC[token], item / 8 % 4, next_BC[i]);
        }
    };
    auto finish = [&](const Tile &tile, int index) {
        int64 t = from + (int64)index * TILE + row;
        if (t >= to || count <= 0) return;
        const float4 *line = reinterpret_cast<const float4 *>(&tile.y[row][column]);
        float4 low = line[0], high = line[1];
        float y[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}, x[8], gate[8];
        widen_row(tile.u[helper], x);
        widen_row(tile.z[helper], gate);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            y[j] = fmaf(skip[j], x[j], y[j]);
            if (a.z) y[j] *= gate[j] * sigmoid(gate[j]);
        }
        write_row(a.y + (b * a.length + t) * a.channels + e, y, count, whole);
    };

    read(0);
    int stage = 0, parity = 1;
    for (int i = 0; i < tiles + STAGES; ++i) {
        Tile &tile = s.tiles[stage];
        if (i >= STAGES && i - STAGES < tiles) {
            await(&s.ring.done[stage], parity);
            if (OUTPUT) finish(tile, i - STAGES);
        }
        if (i < tiles) {
            prepare(tile, i);
            arrive(&s.ring.full[stage]);
            if (i + 1 < tiles) read(i + 1);
        }
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
}

template <bool OUTPUT>
__device__ __forceinline__ void scan_segment(const Arguments &a) {
    extern __shared__ __align__(16) unsigned char memory[];
    Shared &s = *reinterpret_cast<Shared *>(memory);
    int blocks = (int)((a.channels + WIDTH - 1) / WIDTH);
    int64 b = blockIdx.x / blocks, first_channel = (int64)(blockIdx.x % blocks) * WIDTH;
    int64 from = (int64)blockIdx.y * a.segment;
    int64 to = from + a.segment < a.length ? from + a.segment : a.length;
    int tiles = (int)((to - from + TILE - 1) / TILE);
    start_ring(s.ring);
    if (threadIdx.x < WARPS * 32)
        scan_tiles<OUTPUT>(s, a, b, from, tiles, first_channel);
    else
        help_tiles<OUTPUT>(s, a, b, from, to, tiles, first_channel);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32 + HELPERS, RESIDENT)
scan(const Arguments a) {
    scan_segment<true>(a);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32 + HELPERS, RESIDENT)
scan_ends(const Arguments a) {
    scan_segment<false>(a);
}
