// The backward pass of the selective scan: all gradients, 16 states.
//
// dh_t = C_t dy_t + g_t is the gradient of h_t, where g_t = a_{t+1} dh_{t+1}, a_t = exp(dt_t A):
//
//     dC_t = sum over channels of dy_t h_t          d(dt u)_t = sum over states of dh_t B_t
//     dB_t = sum over channels of dh_t dt_t u_t     ddt_t = u_t d(dt u)_t + sum over states of A w_t
//     dA = sum over tokens of dt_t w_t              w_t = a_t dh_t h_{t-1}
//
// A block takes its channels tile by tile, from the last to the first. A tile goes forwards from
// the state that the forward pass kept, leaving h before every STEPS tokens in shared memory, then
// backwards, where h and dh meet. That is 2 exponentials per token and state, and nothing of size
// [T, channels, states] is stored. Threads share the work as in selective_scan.cu: scanning warps
// hold states; helping warps make dt and dy of the next tile and the gradients of the last one.
//
// Sums over a warp's channels go through shuffles, those over warps and blocks through shared
// memory and one atomic addition per block, token and state.

struct Arguments {
    const element *u, *delta, *z, *B, *C, *dout;
    const float *A, *D, *bias, *kept, *dstate;
    element *du, *ddelta, *dz;
    float *dA, *dBC, *dD, *dbias, *dstart, *ends, *sums;
    int64 length, segment, segments, channels;
    int64 u_b, u_t, u_e, d_b, d_t, d_e, z_b, z_t, z_e, B_b, B_t, C_b, C_t, o_b, o_t, o_e;
    int64 A_e, A_n, s_b, s_e, s_n;
    int64 whole;  // u, delta, z, dout (bit 0), B, C (bit 1), gradients (bit 2) are 16 bytes at a time
};

struct __align__(16) Tile {
    float2 dt[TILE][DT_ROW];  // dt, dt u
    float dy[TILE][WIDTH];    // the gradient of what the gate multiplies
    float y[TILE][Y_ROW], ddtu[TILE][Y_ROW], decay[TILE][Y_ROW];  // sums over states
    float dBC[TILE][WARPS][2 * STATES];                           // sums over a warp's channels
    element BC[TILE][BC_ROW];
};

struct Shared {
    Tile tiles[STAGES];
    float h[TILE / STEPS][OWN][WARPS * 32];  // every scanning thread's own
    Ring ring;
};

// What reaches h after the last token of this segment from the segments behind it.
__device__ __forceinline__ void gradient_behind(const Arguments &a, int64 b, int64 e, int q,
                                                const float (&rate)[OWN], float (&g)[OWN]) {
#pragma unroll
    for (int n = 0; n < OWN; ++n)
        g[n] = a.dstate ? a.dstate[b * a.s_b + e * a.s_e + (q * OWN + n) * a.s_n] : 0.0f;
    for (int i = (int)a.segments - 1; i > (int)blockIdx.y; --i) {
        int64 row = (b * a.segments + i) * a.channels + e;
        float end[OWN], sum = a.sums[row];
        read_states(a.ends + row * STATES + q * OWN, end);
#pragma unroll
        for (int n = 0; n < OWN; ++n) g[n] = fmaf(exp2_fast(sum * rate[n]), g[n], end[n]);
    }
}

// STEPS tokens backwards, from the state h before them.
__device__ __forceinline__ void retreat(Shared &s, Tile &tile, int t, int channel, int q,
                                        const float (&rate)[OWN], float (&g)[OWN],
                                        float (&dA)[OWN]) {
    float2 dt[STEPS];
    float dy[STEPS], BC[STEPS][2 * OWN], decay[STEPS][OWN], h[STEPS + 1][OWN];
#pragma unroll
    for (int n = 0; n < OWN; ++n) h[0][n] = s.h[t / STEPS][n][threadIdx.x];
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
        dt[j] = tile.dt[t + j][channel];
        dy[j] = tile.dy[t + j][channel];
        Words words = *reinterpret_cast<const Words *>(&tile.BC[t + j][q * 2 * OWN]);
        widen_own(words.x, BC[j]);
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            decay[j][n] = exp2_fast(dt[j].x * rate[n]);
            h[j + 1][n] = fmaf(decay[j][n], h[j][n], dt[j].y * BC[j][n]);
        }
    }
    float y[STEPS], ddtu[STEPS], rates[STEPS];
#pragma unroll
    for (int j = STEPS - 1; j >= 0; --j) {
        float sums[2 * OWN];
        y[j] = ddtu[j] = rates[j] = 0.0f;
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            float B = BC[j][n], C = BC[j][OWN + n], dh = fmaf(C, dy[j], g[n]);
            y[j] = fmaf(C, h[j + 1][n], y[j]);
            ddtu[j] = fmaf(B, dh, ddtu[j]);
            sums[n] = dh * dt[j].y;
            sums[OWN + n] = h[j + 1][n] * dy[j];
            g[n] = decay[j][n] * dh;
            float w = g[n] * h[j][n];
            rates[j] = fmaf(rate[n], w, rates[j]);
            dA[n] = fmaf(dt[j].x, w, dA[n]);
        }
        int index = threadIdx.x % 32 / LANES;  // a warp has as many channels as `sums` has numbers
        float sum = sum_over_lanes<2 * OWN, LANES>(sums, index);
        int place = index < OWN ? q * OWN + index : STATES + q * OWN + index - OWN;
        tile.dBC[t + j][threadIdx.x / 32][place] = sum;
    }
#pragma unroll
    for (int first = 0; first < STEPS; first += LANES) {
        float part[3][LANES];
#pragma unroll
        for (int j = 0; j < LANES; ++j)
            part[0][j] = y[first + j], part[1][j] = ddtu[first + j], part[2][j] = rates[first + j];
        int row = t + first + q;
        tile.y[row][channel] = sum_over_lanes<LANES, 1>(part[0], q);
        tile.ddtu[row][channel] = sum_over_lanes<LANES, 1>(part[1], q);
        tile.decay[row][channel] = sum_over_lanes<LANES, 1>(part[2], q);
    }
}

__device__ __forceinline__ void scan_tiles_back(Shared &s, const Arguments &a, int64 b, int64 from,
                                                int tiles, int64 first_channel) {
    int q = threadIdx.x % LANES, channel = threadIdx.x / LANES;
    int64 e = first_channel + channel, chunks = (a.length + CHUNK - 1) / CHUNK;
    bool inside = e < a.channels;
    float rate[OWN], g[OWN], dA[OWN], next[OWN];
    const float *kept = a.kept + ((b * chunks + from / CHUNK) * STATES + q * OWN) * a.channels + e;
#pragma unroll
    for (int n = 0; n < OWN; ++n) {
        rate[n] = inside ? LOG2E * a.A[e * a.A_e + (q * OWN + n) * a.A_n] : 0.0f;
        g[n] = dA[n] = 0.0f;
        next[n] = inside ? kept[((int64)(tiles - 1) * STATES + n) * a.channels] : 0.0f;
    }
    if (inside) gradient_behind(a, b, e, q, rate, g);
    int stage = 0, parity = 0;
    for (int i = tiles - 1; i >= 0; --i) {
        Tile &tile = s.tiles[stage];
        float h[OWN];
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            h[n] = next[n];
            if (inside && i > 0) next[n] = kept[((int64)(i - 1) * STATES + n) * a.channels];
        }
        await(&s.ring.full[stage], parity);
#pragma unroll 2
        for (int t = 0; t < TILE; t += STEPS) {
#pragma unroll
            for (int n = 0; n < OWN; ++n) s.h[t / STEPS][n][threadIdx.x] = h[n];
            if (t + STEPS == TILE) break;
#pragma unroll
            for (int j = 0; j < STEPS; ++j) {
                float2 dt = tile.dt[t + j][channel];
                float B[OWN];
                widen_own(&tile.BC[t + j][q * 2 * OWN], B);
#pragma unroll
                for (int n = 0; n < OWN; ++n)
                    h[n] = fmaf(exp2_fast(dt.x * rate[n]), h[n], dt.y * B[n]);
            }
        }
#pragma unroll 1
        for (int t = TILE - STEPS; t >= 0; t -= STEPS)
            retreat(s, tile, t, channel, q, rate, g, dA);
        arrive(&s.ring.done[stage]);
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
    __syncthreads();  // the helping warps add up dD and the bias's gradient
    if (!inside) return;
    write_states(a.dA + ((b * a.segments + blockIdx.y) * a.channels + e) * STATES + q * OWN, dA);
    if (blockIdx.y == 0) write_states(a.dstart + (b * a.channels + e) * STATES + q * OWN, g);
}

// A segment from a zero gradient: what leaves it at its first token, and its sum of dt.
__device__ __forceinline__ void scan_ends_back(Shared &s, const Arguments &a, int64 b, int tiles,
                                               int64 first_channel) {
    int q = threadIdx.x % LANES, channel = threadIdx.x / LANES;
    int64 e = first_channel + channel;
    bool inside = e < a.channels;
    float rate[OWN], g[OWN], elapsed = 0.0f;
#pragma unroll
    for (int n = 0; n < OWN; ++n) {
        rate[n] = inside ? LOG2E * a.A[e * a.A_e + (q * OWN + n) * a.A_n] : 0.0f;
        g[n] = 0.0f;
    }
    int stage = 0, parity = 0;
    for (int i = 0; i < tiles; ++i) {
        Tile &tile = s.tiles[stage];
        await(&s.ring.full[stage], parity);
#pragma unroll 8
        for (int t = TILE - 1; t >= 0; --t) {
            float dt = tile.dt[t][channel].x, dy = tile.dy[t][channel], C[OWN];
            widen_own(&tile.BC[t][q * 2 * OWN + OWN], C);
#pragma unroll
            for (int n = 0; n < OWN; ++n)
                g[n] = exp2_fast(dt * rate[n]) * fmaf(C[n], dy, g[n]);
            elapsed += dt;
        }
        arrive(&s.ring.done[stage]);
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
    if (!inside) return;
    int64 row = (b * a.segments + blockIdx.y) * a.channels + e;
    write_states(a.ends + row * STATES + q * OWN, g);
    if (q == 0) a.sums[row] = elapsed;
}

template <bool ALL>
__device__ __forceinline__ void help_tiles_back(Shared &s, const Arguments &a, int64 b, int64 from,
                                                int64 to, int tiles, int64 first_channel) {
    int helper = threadIdx.x - WARPS * 32;
    int row = helper / WIDTH * 8 + helper % 8, column = helper / 8 % (WIDTH / 8) * 8;
    int64 e = first_channel + column;
    int count = (int)(a.channels - e < 8 ? a.channels - e : 8);
    bool whole = (a.whole & 1) && count == 8;
    const element *u = a.u + b * a.u_b + e * a.u_e, *delta = a.delta + b * a.d_b + e * a.d_e;
    const element *z = a.z ? a.z + b * a.z_b + e * a.z_e : a.z;
    const element *dout = a.dout + b * a.o_b + e * a.o_e;
    float bias[8], skip[8], dD[8], dbias[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        bias[j] = a.bias && j < count ? a.bias[e + j] : 0.0f;
        skip[j] = a.D && j < count ? a.D[e + j] : 0.0f;
        dD[j] = dbias[j] = 0.0f;
    }

    auto prepare = [&](Tile &tile, int index) {
        int64 first = from + (int64)index * TILE, t = first + row;
        float x[8] = {}, dt[8] = {}, dy[8] = {};
        if (t < to && count > 0) {
            Row rows[4] = {read_row(delta + t * a.d_t, a.d_e, count, whole),
                           read_row(dout + t * a.o_t, a.o_e, count, whole), no_row(), no_row()};
            rows[2] = read_row(u + t * a.u_t, a.u_e, count, whole);
            if (a.z) rows[3] = read_row(z + t * a.z_t, a.z_e, count, whole);
            float gate[8];
            widen_row(rows[0], dt);
            widen_row(rows[1], dy);
            widen_row(rows[2], x);
            widen_row(rows[3], gate);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                dt[j] = softplus(dt[j] + bias[j]);
                if (a.z) dy[j] *= gate[j] * sigmoid(gate[j]);
            }
        }
        float4 *line = reinterpret_cast<float4 *>(&tile.dt[row][column]);
        float4 *dy_line = reinterpret_cast<float4 *>(&tile.dy[row][column]);
#pragma unroll
        for (int j = 0; j < 8; j += 2)
            line[j / 2] = make_float4(dt[j], dt[j] * x[j], dt[j + 1], dt[j + 1] * x[j + 1]);
#pragma unroll
        for (int j = 0; j < 8; j += 4)
            dy_line[j / 4] = make_float4(dy[j], dy[j + 1], dy[j + 2], dy[j + 3]);
        for (int item = helper; item < 4 * TILE; item += HELPERS) {
            int token = item / 32 * 8 + item % 8, part = item / 8 % 4;
            Row values = no_row();
            if (first + token < to) {
                const element *line = part < 2 ? a.B + b * a.B_b + (first + token) * a.B_t
                                               : a.C + b * a.C_b + (first + token) * a.C_t;
                values = read_row(line + part % 2 * 8, 1, 8, (a.whole & 2) != 0);
            }
            put_own(tile.BC[token], part, values);
        }
    };
    auto finish = [&](const Tile &tile, int index) {
        int64 first = from + (int64)index * TILE, t = first + row;
        for (int item = helper; item < TILE * 2 * STATES; item += HELPERS) {
            int place = item % (2 * STATES), token = item / (2 * STATES);
            if (first + token >= to) break;
            float sum = 0.0f;
#pragma unroll
            for (int warp = 0; warp < WARPS; ++warp) sum += tile.dBC[token][warp][place];
            atomicAdd(a.dBC + (b * a.length + first + token) * 2 * STATES + place, sum);
        }
        if (t >= to || count <= 0) return;
        float x[8], pre[8], gate[8], dy[8], du[8], ddelta[8], dz[8];
        widen_row(read_row(u + t * a.u_t, a.u_e, count, whole), x);
        widen_row(read_row(delta + t * a.d_t, a.d_e, count, whole), pre);
        widen_row(read_row(dout + t * a.o_t, a.o_e, count, whole), dy);
        widen_row(a.z ? read_row(z + t * a.z_t, a.z_e, count, whole) : no_row(), gate);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float ddtu = tile.ddtu[row][column + j];
            if (a.z) {
                float open = sigmoid(gate[j]), y = fmaf(skip[j], x[j], tile.y[row][column + j]);
                dz[j] = dy[j] * y * open * fmaf(gate[j], 1.0f - open, 1.0f);
                dy[j] *= gate[j] * open;
            }
            float ddt = fmaf(x[j], ddtu, tile.decay[row][column + j] * (1.0f / LOG2E));
            pre[j] += bias[j];
            ddelta[j] = ddt * sigmoid(pre[j]);
            du[j] = fmaf(tile.dt[row][column + j].x, ddtu, skip[j] * dy[j]);
            dD[j] = fmaf(dy[j], x[j], dD[j]);
            dbias[j] += ddelta[j];
        }
        int64 to_row = (b * a.length + t) * a.channels + e;
        bool all = (a.whole & 4) && count == 8;
        write_row(a.du + to_row, du, count, all);
        write_row(a.ddelta + to_row, ddelta, count, all);
        if (a.z) write_row(a.dz + to_row, dz, count, all);
    };

    int stage = 0, parity = 1;
    for (int i = 0; i < tiles + STAGES; ++i) {  // the last tile first
        Tile &tile = s.tiles[stage];
        if (i >= STAGES && i - STAGES < tiles) {
            await(&s.ring.done[stage], parity);
            if (ALL) finish(tile, tiles - 1 - (i - STAGES));
        }
        if (i < tiles) {
            prepare(tile, tiles - 1 - i);
            arrive(&s.ring.full[stage]);
        }
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
    if (!ALL) return;
    // Sums over the tile's tokens, where each helper's own dt was.
    float2(&sums)[TILE][DT_ROW] = s.tiles[0].dt;
#pragma unroll
    for (int j = 0; j < 8; ++j) sums[row][column + j] = make_float2(dD[j], dbias[j]);
    __syncthreads();
    if (helper >= WIDTH || first_channel + helper >= a.channels) return;
    float2 total = make_float2(0.0f, 0.0f);
    for (int i = 0; i < TILE; ++i) {
        total.x += sums[i][helper].x;
        total.y += sums[i][helper].y;
    }
    int64 at = (b * a.segments + blockIdx.y) * a.channels + first_channel + helper;
    a.dD[at] = total.x;
    a.dbias[at] = total.y;
}

template <bool ALL>
__device__ __forceinline__ void scan_segment_back(const Arguments &a) {
    extern __shared__ __align__(16) unsigned char memory[];
    Shared &s = *reinterpret_cast<Shared *>(memory);
    int blocks = (int)((a.channels + WIDTH - 1) / WIDTH);
    int64 b = blockIdx.x / blocks, first_channel = (int64)(blockIdx.x % blocks) * WIDTH;
    int64 from = (int64)blockIdx.y * a.segment;
    int64 to = from + a.segment < a.length ? from + a.segment : a.length;
    int tiles = (int)((to - from + TILE - 1) / TILE);
    start_ring(s.ring);
    if (threadIdx.x >= WARPS * 32)
        help_tiles_back<ALL>(s, a, b, from, to, tiles, first_channel);
    else if (ALL)
        scan_tiles_back(s, a, b, from, tiles, first_channel);
    else
        scan_ends_back(s, a, b, tiles, first_channel);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32 + HELPERS, RESIDENT)
scan_back(const Arguments a) {
    scan_segment_back<true>(a);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32 + HELPERS, RESIDENT)
scan_back_ends(const Arguments a) {
    if (blockIdx.y > 0) scan_segment_back<false>(a);  // nothing lies before the first
}
