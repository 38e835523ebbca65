// The forward pass of the selective scan in one sweep over the whole length, where no states are
// kept for a backward pass: y and the state after the last token, 16 states.
//
// As in selective_scan.cu, LANES threads own a channel, scanning warps move its states, and helping
// warps feed them and finish what they leave. It is faster (benchmarks/RESULTS.md, 2026-11-27) as
// scanning warps do less beside the states, and do not stop:
//   They leave the sum over each lane's own states. Helping warps, which have the time, add up a
//   channel's: the scan is spared its shuffles.
//   They go from a tile to the next with its first tokens under way: a group of TAKEN tokens is
//   fetched, the one before it made ready, and the one before that moves the states. Barriers of
//   their own (`full`, `done`) say what they may read and what they are done with. At a barrier of
//   the whole block, all that is under way would run out.
//   The lanes of a channel are not neighbours: the bits of a lane's number are c2 q1 c1 q0 c0, c of
//   its channel, q of its states. Eight neighbouring lanes, which shared memory serves together
//   where each reads 16 bytes, then ask for two places in B and C, not for four.
//
// To keep states as well, write h where `advance` is about to take the first tokens of a CHUNK; to
// cut the length, do as `scan` and `scan_ends` do.

static_assert(LANES == 4 && STAGES == 2 && !PACKED, "the order of lanes, two tiles of floats");
static_assert(TILE >= 2 * TAKEN, "two groups are under way");

struct __align__(16) Shared {
    float2 dt[2][TILE][DT_ROW];  // dt, dt u
    BCLine BC[2][TILE];
    float y[2][TILE][WIDTH * LANES + 4];  // of every lane
    Ring ring;

    __device__ __forceinline__ void filled(int tile) { arrive(&ring.full[tile & 1]); }
    __device__ __forceinline__ void await_filled(int tile) {
        await(&ring.full[tile & 1], tile >> 1 & 1);
    }
    __device__ __forceinline__ void await_scanned(int tile) {
        if (tile >= 0) await(&ring.done[tile & 1], tile >> 1 & 1);
    }
    __device__ __forceinline__ void read_y(int at, int row, int column, float (&sum)[8]) const {
        const float4 *line = reinterpret_cast<const float4 *>(&y[at][row][column * LANES]);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float4 four = line[j];
            sum[j] = (four.x + four.y) + (four.z + four.w);
        }
    }
};

// `arrive` without a branch, which would stand in the middle of a tile.
__device__ __forceinline__ void arrive_if(barrier *b, bool really) {
    __syncwarp();
    int go = really && threadIdx.x % 32 == 0;
    asm volatile("{ .reg .b64 state; .reg .pred p; setp.ne.s32 p, %1, 0;"
                 " @p mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(shared_address(b)), "r"(go)
                 : "memory");
}

// The states go on by TAKEN tokens, and every lane leaves its part of their y.
__device__ __forceinline__ void advance(Shared &s, int at, int t, int channel, int q,
                                        const Ready (&ready)[TAKEN], float (&h)[OWN]) {
    float part[TAKEN];
#pragma unroll
    for (int j = 0; j < TAKEN; ++j) {
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            h[n] = fmaf(ready[j].decay[n], h[n], ready[j].input[n]);
            part[j] = n ? fmaf(h[n], ready[j].C[n], part[j]) : h[n] * ready[j].C[n];
        }
    }
#pragma unroll
    for (int j = 0; j < TAKEN; ++j) s.y[at][t + j][channel * LANES + q] = part[j];
}

__device__ __forceinline__ void scan_tiles(Shared &s, const Arguments &a, int64 b, int tiles,
                                           int64 first_channel) {
    int lane = threadIdx.x % 32, q = (lane >> 1 & 1) | (lane >> 2 & 2);
    int channel = threadIdx.x / 32 * (32 / LANES) +
                  ((lane & 1) | (lane >> 1 & 2) | (lane >> 2 & 4));
    int64 e = first_channel + channel;
    bool inside = e < a.channels;
    float rate[OWN], h[OWN], elapsed = 0.0f;
#pragma unroll
    for (int n = 0; n < OWN; ++n) {
        rate[n] = inside ? LOG2E * a.A[e * a.A_e + (q * OWN + n) * a.A_n] : 0.0f;
        h[n] = inside && a.state ? a.state[b * a.s_b + e * a.s_e + (q * OWN + n) * a.s_n] : 0.0f;
    }
    // What moves the states where t < 2 TAKEN are the last tokens of the tile before. Before the
    // first tile they do nothing, and what they leave as y is overwritten before it is read.
    Step next[TAKEN] = {};
    Ready now[TAKEN], soon[TAKEN];
#pragma unroll
    for (int j = 0; j < TAKEN; ++j)
#pragma unroll
        for (int n = 0; n < OWN; ++n)
            now[j].decay[n] = 1.0f, now[j].input[n] = 0.0f, now[j].C[n] = 0.0f;
    for (int i = 0; i < tiles; ++i) {
        int at = i & 1;
        s.await_filled(i);
#pragma unroll
        for (int t = 0; t < TILE; t += TAKEN) {
            const int back = t - 2 * TAKEN;
            make_ready(next, rate, soon, elapsed);
            fetch(s, at, t, channel, q, next);
            advance(s, back < 0 ? at ^ 1 : at, back < 0 ? back + TILE : back, channel, q, now, h);
            if (t == TAKEN) arrive_if(&s.ring.done[at ^ 1], i > 0);
#pragma unroll
            for (int j = 0; j < TAKEN; ++j) now[j] = soon[j];
        }
    }
    int at = (tiles - 1) & 1;
    make_ready(next, rate, soon, elapsed);
    advance(s, at, TILE - 2 * TAKEN, channel, q, now, h);
    advance(s, at, TILE - TAKEN, channel, q, soon, h);
    arrive_if(&s.ring.done[at], true);
    if (inside) write_states(a.final + (b * a.channels + e) * STATES + q * OWN, h);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32 + HELPERS, RESIDENT)
sweep(const Arguments a) {
    extern __shared__ __align__(16) unsigned char memory[];
    Shared &s = *reinterpret_cast<Shared *>(memory);
    int blocks = (int)((a.channels + WIDTH - 1) / WIDTH);
    int64 b = blockIdx.x / blocks, first_channel = (int64)(blockIdx.x % blocks) * WIDTH;
    int tiles = (int)((a.length + TILE - 1) / TILE);
    start_ring(s.ring);
    if (threadIdx.x < WARPS * 32)
        scan_tiles(s, a, b, tiles, first_channel);
    else
        help_tiles<true>(s, a, b, 0, a.length, tiles, first_channel);
}
