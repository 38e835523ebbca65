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

// B and C of a token in shared memory, and what a thread reads of them.
#if PACKED
typedef element BCLine[BC_ROW];
typedef Words BCPart;
__device__ __forceinline__ void put_BC(BCLine &line, int part, const Row &row) {
    put_own(line, part, row);
}
__device__ __forceinline__ void read_BC(const BCLine &line, int q, BCPart &part) {
    part = *reinterpret_cast<const Words *>(line + q * 2 * OWN);
}
__device__ __forceinline__ void widen_BC(const BCPart &part, float (&BC)[2 * OWN]) {
    widen_own(part.x, BC);
}
#else
typedef float BCLine[FLOATS_ROW];
typedef float BCPart[2 * OWN];
__device__ __forceinline__ void put_BC(BCLine &line, int part, const Row &row) {
    float values[8];
    widen_row(row, values);
    put_floats(line, part, values);
}
__device__ __forceinline__ void read_BC(const BCLine &line, int q, BCPart &part) {
    read_floats(line + q * 2 * OWN, part);
}
__device__ __forceinline__ void widen_BC(const BCPart &part, float (&BC)[2 * OWN]) {
#pragma unroll
    for (int i = 0; i < 2 * OWN; ++i) BC[i] = part[i];
}
#endif

struct __align__(16) Shared {
    float2 dt[2][TILE][DT_ROW];  // dt, dt u
    BCLine BC[2][TILE];
    float y[2][TILE][Y_ROW];
};

#define TAKEN 4  // tokens that a scanning thread takes together

// What a thread reads of a token, and what follows from it alone.
struct Step {
    float dt[2];
    BCPart BC;
};

struct Ready {
    float decay[OWN], input[OWN], C[OWN];
};

__device__ __forceinline__ void fetch(const Shared &s, int at, int t, int channel, int q,
                                      Step (&step)[TAKEN]) {
#pragma unroll
    for (int j = 0; j < TAKEN; ++j) {
        read_floats(&s.dt[at][t + j][channel].x, step[j].dt);
        read_BC(s.BC[at][t + j], q, step[j].BC);
    }
}

__device__ __forceinline__ void make_ready(const Step (&step)[TAKEN], const float (&rate)[OWN],
                                           Ready (&ready)[TAKEN], float &elapsed) {
#pragma unroll
    for (int j = 0; j < TAKEN; ++j) {
        float BC[2 * OWN];
        widen_BC(step[j].BC, BC);
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            ready[j].decay[n] = exp2_fast(step[j].dt[0] * rate[n]);
            ready[j].input[n] = step[j].dt[1] * BC[n];
            ready[j].C[n] = BC[OWN + n];
        }
        elapsed += step[j].dt[0];
    }
}

// The states go on by TAKEN tokens, and lanes of each channel leave y of them.
template <bool OUTPUT>
__device__ __forceinline__ void advance(Shared &s, int at, int t, int channel, int q,
                                        const Ready (&ready)[TAKEN], float (&h)[OWN]) {
    const int sums = TAKEN < LANES ? TAKEN : LANES;  // made at once
#pragma unroll
    for (int first = 0; first < TAKEN; first += sums) {
        float part[sums];
#pragma unroll
        for (int j = 0; j < sums; ++j) {
            const Ready &now = ready[first + j];
#pragma unroll
            for (int n = 0; n < OWN; ++n) {
                h[n] = fmaf(now.decay[n], h[n], now.input[n]);
                part[j] = n ? fmaf(h[n], now.C[n], part[j]) : h[n] * now.C[n];
            }
        }
        if (!OUTPUT) continue;
        float sum = sum_over_lanes<sums, 1>(part, q);
#pragma unroll
        for (int other = sums; other < LANES; other *= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, other);
        if (q < sums) s.y[at][t + first + q][channel] = sum;
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
    __syncthreads();  // the first tile is ready

    for (int i = 0; i < tiles; ++i) {
        int at = i & 1;
        Step next[TAKEN];
        Ready now[TAKEN], soon[TAKEN];  // exponentials are under way while the states go on
        fetch(s, at, 0, channel, q, next);
        make_ready(next, rate, now, elapsed);
        fetch(s, at, TAKEN, channel, q, next);
#pragma unroll
        for (int t = 0; t < TILE; t += TAKEN) {
            if (OUTPUT && t % CHUNK == 0 && a.kept && inside) {
                int64 chunk = (from + (int64)i * TILE + t) / CHUNK;
                float *to = a.kept + ((b * chunks + chunk) * STATES + q * OWN) * a.channels + e;
#pragma unroll
                for (int n = 0; n < OWN; ++n)
                    if (chunk < chunks) to[n * a.channels] = h[n];
            }
            if (t + TAKEN < TILE) make_ready(next, rate, soon, elapsed);
            if (t + 2 * TAKEN < TILE) fetch(s, at, t + 2 * TAKEN, channel, q, next);
            advance<OUTPUT>(s, at, t, channel, q, now, h);
#pragma unroll
            for (int j = 0; j < TAKEN; ++j) now[j] = soon[j];
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

// One token's 8 channels.
struct Ahead {
    Row u, delta, z;
};

// Where a helping thread reads and writes: from the first token of the segment on, in elements.
// The tokens of a segment are counted in 32 bits, what lies between two of them too.
struct Lines {
    const element *u, *delta, *z;
    element *y;
    int u_t, d_t, z_t, y_t;
};

template <bool OUTPUT>
__device__ __forceinline__ void help_tiles(Shared &s, const Arguments &a, int64 b, int64 from,
                                           int64 to, int tiles, int64 first_channel) {
    const int rounds = (4 * TILE + HELPERS - 1) / HELPERS;  // rows of 8 numbers of B and C
    int helper = threadIdx.x - WARPS * 32;
    int row = helper / WIDTH * 8 + helper % 8, column = helper / 8 % (WIDTH / 8) * 8;
    int64 e = first_channel + column;
    int count = (int)(a.channels - e < 8 ? a.channels - e : 8), length = (int)(to - from);
    bool whole = (a.whole & 1) && count == 8, whole_BC = (a.whole & 2) != 0;
    bool gated = OUTPUT && a.z != nullptr;
    Lines at = {a.u + b * a.u_b + from * a.u_t + e * a.u_e,
                a.delta + b * a.d_b + from * a.d_t + e * a.d_e,
                gated ? a.z + b * a.z_b + from * a.z_t + e * a.z_e : nullptr,
                a.y + (b * a.length + from) * a.channels + e,
                (int)a.u_t, (int)a.d_t, (int)a.z_t, (int)a.channels};
    const element *lines[rounds];
    int between[rounds], tokens[rounds], parts[rounds];
#pragma unroll
    for (int i = 0; i < rounds; ++i) {
        int item = helper + i * HELPERS, part = item / 8 % 4;
        tokens[i] = item / 32 * 8 + item % 8, parts[i] = part;
        between[i] = (int)(part < 2 ? a.B_t : a.C_t);
        lines[i] = (part < 2 ? a.B + b * a.B_b + from * a.B_t : a.C + b * a.C_b + from * a.C_t) +
                   part % 2 * 8;
    }
    float bias[8], skip[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        bias[j] = a.bias && j < count ? a.bias[e + j] : 0.0f;
        skip[j] = a.D && j < count ? a.D[e + j] : 0.0f;
    }
    Ahead next = {no_row(), no_row(), no_row()};
    Row rows[rounds];  // of B and C

    // Beyond the last token its numbers come again: they are finite, and its step will be zero.
    auto read = [&](int tile) {
        int t = tile * TILE + row, last = length - 1;
        t = t < last ? t : last;
        const element *u = at.u + (int64)t * at.u_t, *delta = at.delta + (int64)t * at.d_t;
        const element *z = at.z + (int64)t * at.z_t;
        if (whole) {
            next.u = load_row(u);
            next.delta = load_row(delta);
            if (gated) next.z = load_row(z);
        } else if (count > 0) {
            next.u = gather_row(u, a.u_e, count);
            next.delta = gather_row(delta, a.d_e, count);
            if (gated) next.z = gather_row(z, a.z_e, count);
        }
#pragma unroll
        for (int i = 0; i < rounds; ++i) {
            int token = tile * TILE + tokens[i];
            const element *line = lines[i] + (int64)(token < last ? token : last) * between[i];
            if (tokens[i] < TILE && (OUTPUT || parts[i] < 2))
                rows[i] = whole_BC ? load_row(line) : gather_row(line, 1, 8);
        }
    };
    auto prepare = [&](int tile) {
        bool present = tile * TILE + row < length;
        float x[8], dt[8];
        widen_row(next.u, x);
        widen_row(next.delta, dt);
        float4 *line = reinterpret_cast<float4 *>(&s.dt[tile & 1][row][column]);
#pragma unroll
        for (int j = 0; j < 8; ++j) dt[j] = present ? dt[j] + bias[j] : NO_STEP;
#pragma unroll
        for (int j = 0; j < 8; ++j) dt[j] = softplus(dt[j]);
#pragma unroll
        for (int j = 0; j < 8; j += 2)
            line[j / 2] = make_float4(dt[j], dt[j] * x[j], dt[j + 1], dt[j + 1] * x[j + 1]);
#pragma unroll
        for (int i = 0; i < rounds; ++i) {
            if (tokens[i] < TILE) put_BC(s.BC[tile & 1][tokens[i]], parts[i], rows[i]);
        }
    };
    auto finish = [&](int tile, const Row &u_row, const Row &z_row) {
        int t = tile * TILE + row;
        if (t >= length || count <= 0) return;
        const float4 *line = reinterpret_cast<const float4 *>(&s.y[tile & 1][row][column]);
        float4 low = line[0], high = line[1];
        float y[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}, x[8], gate[8];
        widen_row(u_row, x);
#pragma unroll
        for (int j = 0; j < 8; ++j) y[j] = fmaf(skip[j], x[j], y[j]);
        if (gated) {
            widen_row(z_row, gate);
#pragma unroll
            for (int j = 0; j < 8; ++j) y[j] *= gate[j] * sigmoid(gate[j]);
        }
        write_row(at.y + (int64)t * at.y_t, y, count, whole);
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
