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
// selective_scan_sweep.cu is faster where neither states are kept nor the length is cut.
//
// Where batch and channels do not fill the device, time is cut into segments: `scan_ends` takes
// each from a zero state, `scan` starts from what the segments before it add up to.

struct __align__(16) Shared {
    float2 dt[2][TILE][DT_ROW];  // dt, dt u
    BCLine BC[2][TILE];
    float y[2][TILE][Y_ROW];

    // One barrier of the whole block says both: y of a tile is there, dt, B and C of the next too.
    __device__ __forceinline__ void filled(int) {}
    __device__ __forceinline__ void await_scanned(int) { __syncthreads(); }
    __device__ __forceinline__ void read_y(int at, int row, int column, float (&sum)[8]) const {
        const float4 *line = reinterpret_cast<const float4 *>(&y[at][row][column]);
        float4 low = line[0], high = line[1];
        sum[0] = low.x, sum[1] = low.y, sum[2] = low.z, sum[3] = low.w;
        sum[4] = high.x, sum[5] = high.y, sum[6] = high.z, sum[7] = high.w;
    }
};

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
