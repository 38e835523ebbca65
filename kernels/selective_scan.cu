// The forward pass of the selective scan: y and the state after the last token, 16 states.
//
// LANES neighbouring threads own a channel, 16 / LANES states each, and walk over all tokens: each
// exponential is computed once. Per token and state that is 1 ex2 and 4 floating-point operations
// (dt A, dt u B, h, C h); only the addition to h waits for the token before.
//
// Two kinds of warps share a block of WIDTH channels, so that neither waits for memory:
//   scanning warps read dt, dt u, B and C of a tile from shared memory and leave y there;
//   helping warps make dt of the next tile, turn y of the last one into the gated output, and have
//   the tile after next on its way to their registers.
// One barrier a tile separates them; everything in shared memory exists twice.
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

struct __align__(16) Shared {
    float2 dt[2][TILE][WIDTH];           // dt, dt u
    float BC[2][TILE][2 * STATES];
    float y[2][TILE][Y_ROW];
};

struct Step {
    float2 dt;
    float B[OWN], C[OWN];
};

template <bool OUTPUT>
__device__ __forceinline__ void fetch(const Shared &s, int at, int t, int channel, int q,
                                      Step (&step)[STEPS]) {
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
        step[j].dt = s.dt[at][t + j][channel];
        const float *row = &s.BC[at][t + j][q * OWN];
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            step[j].B[n] = row[n];
            if (OUTPUT) step[j].C[n] = row[STATES + n];
        }
    }
}

// STEPS tokens: the states go on, and lane q of a channel leaves y of the tokens q, q + LANES, ...
template <bool OUTPUT>
__device__ __forceinline__ void advance(Shared &s, int at, int t, int channel, int q,
                                        const Step (&step)[STEPS], const float (&rate)[OWN],
                                        float (&h)[OWN], float &elapsed) {
    float decay[STEPS][OWN];
#pragma unroll
    for (int j = 0; j < STEPS; ++j)
#pragma unroll
        for (int n = 0; n < OWN; ++n) decay[j][n] = exp2_fast(step[j].dt.x * rate[n]);
#pragma unroll
    for (int first = 0; first < STEPS; first += LANES) {
        float part[LANES];
#pragma unroll
        for (int j = 0; j < LANES; ++j) {
            const Step &now = step[first + j];
            part[j] = 0.0f;
#pragma unroll
            for (int n = 0; n < OWN; ++n) {
                h[n] = fmaf(decay[first + j][n], h[n], now.dt.y * now.B[n]);
                if (OUTPUT) part[j] = fmaf(h[n], now.C[n], part[j]);
            }
            if (!OUTPUT) elapsed += now.dt.x;
        }
        if (OUTPUT) s.y[at][t + first + q][channel] = sum_over_lanes<LANES, 1>(part, q);
    }
}

template <bool OUTPUT>
__device__ __forceinline__ void scan_tiles(Shared &s, const Arguments &a, int64 b, int64 from,
                                           int tiles, int64 first_channel) {
    int q = threadIdx.x % LANES, channel = threadIdx.x / LANES;
    int64 e = first_channel + channel;
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
    __syncthreads();  // the first tile is ready

    for (int i = 0; i < tiles; ++i) {
        int at = i & 1;
        Step now[STEPS], next[STEPS];
        fetch<OUTPUT>(s, at, 0, channel, q, now);
#pragma unroll
        for (int t = 0; t < TILE; t += STEPS) {
            if (OUTPUT && t % CHUNK == 0 && a.kept && inside) {
                int64 chunk = (from + (int64)i * TILE + t) / CHUNK;
                int64 chunks = (a.length + CHUNK - 1) / CHUNK;
                if (chunk < chunks) {
                    float *to = a.kept + ((b * chunks + chunk) * STATES + q * OWN) * a.channels + e;
#pragma unroll
                    for (int n = 0; n < OWN; ++n) to[n * a.channels] = h[n];
                }
            }
            if (t + STEPS < TILE) fetch<OUTPUT>(s, at, t + STEPS, channel, q, next);
            advance<OUTPUT>(s, at, t, channel, q, now, rate, h, elapsed);
#pragma unroll
            for (int j = 0; j < STEPS; ++j) now[j] = next[j];
        }
        __syncthreads();
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

// One token's 8 channels, and 8 of the 32 numbers of B and C of a token.
struct Ahead {
    Row u, delta, z, BC;
};

template <bool OUTPUT>
__device__ __forceinline__ void help_tiles(Shared &s, const Arguments &a, int64 b, int64 from,
                                           int64 to, int tiles, int64 first_channel) {
    int helper = threadIdx.x - WARPS * 32;
    int row = helper / (WIDTH / 8), column = helper % (WIDTH / 8) * 8;
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
    const int rounds = (4 * TILE + HELPERS - 1) / HELPERS;  // rows of 8 numbers of B and C
    Ahead next = {no_row(), no_row(), no_row(), no_row()};
    Row rows[rounds];

    auto read = [&](int tile) {
        int64 t = from + (int64)tile * TILE + row;
        next.u = next.delta = next.z = no_row();
        if (t < to && count > 0) {
            next.u = read_row(u + t * a.u_t, a.u_e, count, whole);
            next.delta = read_row(delta + t * a.d_t, a.d_e, count, whole);
            if (OUTPUT && a.z) next.z = read_row(z + t * a.z_t, a.z_e, count, whole);
        }
#pragma unroll
        for (int i = 0; i < rounds; ++i) {
            int item = helper + i * HELPERS, part = item % 4;
            int64 at = from + (int64)tile * TILE + item / 4;
            rows[i] = no_row();
            if (item / 4 < TILE && at < to && (OUTPUT || part < 2)) {
                const element *line = part < 2 ? a.B + b * a.B_b + at * a.B_t
                                               : a.C + b * a.C_b + at * a.C_t;
                rows[i] = read_row(line + part % 2 * 8, 1, 8, (a.whole & 2) != 0);
            }
        }
    };
    auto prepare = [&](int tile) {
        int at = tile & 1;
        bool present = from + (int64)tile * TILE + row < to;
        float x[8], dt[8];
        widen_row(next.u, x);
        widen_row(next.delta, dt);
        float4 *line = reinterpret_cast<float4 *>(&s.dt[at][row][column]);
#pragma unroll
        for (int j = 0; j < 8; ++j) dt[j] = present ? softplus(dt[j] + bias[j]) : 0.0f;
#pragma unroll
        for (int j = 0; j < 8; j += 2)
            line[j / 2] = make_float4(dt[j], dt[j] * x[j], dt[j + 1], dt[j + 1] * x[j + 1]);
#pragma unroll
        for (int i = 0; i < rounds; ++i) {
            int item = helper + i * HELPERS;
            if (item / 4 >= TILE) continue;
            float values[8];
            widen_row(rows[i], values);
            float4 *to4 = reinterpret_cast<float4 *>(&s.BC[at][item / 4][item % 4 * 8]);
            to4[0] = make_float4(values[0], values[1], values[2], values[3]);
            to4[1] = make_float4(values[4], values[5], values[6], values[7]);
        }
    };
    auto finish = [&](int tile, const Row &u_row, const Row &z_row) {
        int64 t = from + (int64)tile * TILE + row;
        if (t >= to || count <= 0) return;
        const float4 *line = reinterpret_cast<const float4 *>(&s.y[tile & 1][row][column]);
        float4 low = line[0], high = line[1];
        float y[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}, x[8], gate[8];
        widen_row(u_row, x);
        widen_row(z_row, gate);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            y[j] = fmaf(skip[j], x[j], y[j]);
            if (a.z) y[j] *= gate[j] * sigmoid(gate[j]);
        }
        write_row(a.y + (b * a.length + t) * a.channels + e, y, count, whole);
    };

    read(0);
    prepare(0);
    Row u_now = next.u, z_now = next.z, u_before = no_row(), z_before = no_row();
    if (tiles > 1) read(1);
    __syncthreads();
    for (int i = 0; i < tiles; ++i) {
        if (i + 1 < tiles) prepare(i + 1);
        Row u_next = next.u, z_next = next.z;
        if (i + 2 < tiles) read(i + 2);
        if (OUTPUT && i > 0) finish(i - 1, u_before, z_before);
        u_before = u_now, z_before = z_now;
        u_now = u_next, z_now = z_next;
        __syncthreads();
    }
    if (OUTPUT) finish(tiles - 1, u_before, z_before);
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
