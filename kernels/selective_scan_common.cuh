// What the forward and the backward of the selective scan share: types, arithmetic, rows of 8.
//
// Macros set by the compiler's command line: TYPE (0 float, 1 bfloat16, 2 float16), LANES (threads
// that share a channel's 16 states), WARPS (that scan), TILE (tokens that are handed over at once),
// STAGES (tiles in shared memory, where they are a ring), RESIDENT (blocks on a multiprocessor), PACKED
// (the forward has B and C in shared memory as they come, not as floats: half the reads, but each
// thread widens what it reads).

typedef long long int64;
typedef unsigned int uint32;

#define STATES 16
#define CHUNK 32                      // tokens between the states kept for the backward
#define OWN (STATES / LANES)          // states of a thread
#define WIDTH (WARPS * 32 / LANES)    // channels of a block
#define HELPERS (TILE * WIDTH / 8)    // threads that feed the scanning warps: 8 channels, one token
#define STEPS (LANES < 4 ? 4 : LANES) // tokens taken together, by the backward
#define LOG2E 1.4426950408889634f
// Rows of shared memory are longer than what they hold, so that neither the eight threads that
// write eight rows at once nor the lanes that share a channel meet on a bank.
#define DT_ROW (WIDTH + 2)
#define Y_ROW (WIDTH + (32 / LANES < 4 ? 4 : 32 / LANES))
#define BC_ROW (2 * STATES + 16 / (int)sizeof(element))
#define FLOATS_ROW (2 * STATES + 4)    // the same as floats

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float sigmoid(float x) {
    return reciprocal(1.0f + exp2_fast(-LOG2E * x));
}

// max(x, 0) + log1p(e), e = exp(-|x|), with log1p(e) / e as a polynomial on [0, 1], exact to 1.5e-7
// of the value. A logarithm of 1 + e would lose the small steps (dt is often 1e-3) to cancellation.
__device__ __forceinline__ float softplus(float x) {
    float e = exp2_fast(-LOG2E * fabsf(x));
    float p = 0.005232690833508968f;
    p = fmaf(p, e, -0.029505228623747826f);
    p = fmaf(p, e, 0.07822594791650772f);
    p = fmaf(p, e, -0.13663245737552643f);
    p = fmaf(p, e, 0.19106008112430573f);
    p = fmaf(p, e, -0.2484298199415207f);
    p = fmaf(p, e, 0.3331909775733948f);
    p = fmaf(p, e, -0.4999949336051941f);
    p = fmaf(p, e, 0.9999999403953552f);
    return fmaf(p, e, fmaxf(x, 0.0f));
}

#define NO_STEP -1e4f  // softplus makes exactly 0 of it

#if TYPE == 0
typedef float element;
__device__ __forceinline__ float widen(element x) { return x; }
#else
typedef unsigned short element;
#if TYPE == 1
__device__ __forceinline__ float widen(element x) { return __uint_as_float((uint32)x << 16); }
__device__ __forceinline__ uint32 narrow2(float low, float high) {
    uint32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
#else
__device__ __forceinline__ float widen(element x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
__device__ __forceinline__ uint32 narrow2(float low, float high) {
    uint32 bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
#endif
#endif

// Eight elements next to each other as they lie in memory.
struct Row {
    uint4 part[sizeof(element) / 2];
};

__device__ __forceinline__ Row no_row() {
    Row row;
#pragma unroll
    for (int i = 0; i < (int)sizeof(element) / 2; ++i) row.part[i] = make_uint4(0, 0, 0, 0);
    return row;
}

__device__ __forceinline__ void widen_row(const Row &row, float (&x)[8]) {
#pragma unroll
    for (int i = 0; i < (int)sizeof(element) / 2; ++i) {
        uint32 words[4] = {row.part[i].x, row.part[i].y, row.part[i].z, row.part[i].w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#if TYPE == 0
            x[4 * i + j] = __uint_as_float(words[j]);
#elif TYPE == 1
            x[2 * j] = __uint_as_float(words[j] << 16);
            x[2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u);
#else
            x[2 * j] = widen((element)(words[j] & 0xffffu));
            x[2 * j + 1] = widen((element)(words[j] >> 16));
#endif
        }
    }
}

__device__ __forceinline__ Row narrow_row(const float (&x)[8]) {
    Row row;
#if TYPE == 0
    row.part[0] = make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]),
                             __float_as_uint(x[3]));
    row.part[1] = make_uint4(__float_as_uint(x[4]), __float_as_uint(x[5]), __float_as_uint(x[6]),
                             __float_as_uint(x[7]));
#else
    row.part[0] = make_uint4(narrow2(x[0], x[1]), narrow2(x[2], x[3]), narrow2(x[4], x[5]),
                             narrow2(x[6], x[7]));
#endif
    return row;
}

// Eight elements that adjoin, on 16 bytes.
__device__ __forceinline__ Row load_row(const element *from) {
    Row row;
#pragma unroll
    for (int i = 0; i < (int)sizeof(element) / 2; ++i)
        row.part[i] = __ldg(reinterpret_cast<const uint4 *>(from) + i);
    return row;
}

// Elements 0 .. count - 1 of a row, the others zero.
__device__ __forceinline__ Row gather_row(const element *from, int64 stride, int count) {
    float x[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) x[j] = j < count ? widen(from[j * stride]) : 0.0f;
    return narrow_row(x);
}

__device__ __forceinline__ Row read_row(const element *from, int64 stride, int count, bool whole) {
    return whole ? load_row(from) : gather_row(from, stride, count);
}

__device__ __forceinline__ void write_row(element *to, const float (&x)[8], int count, bool whole) {
    Row row = narrow_row(x);
    if (whole) {
#pragma unroll
        for (int i = 0; i < (int)sizeof(element) / 2; ++i)
            reinterpret_cast<uint4 *>(to)[i] = row.part[i];
    } else {
        const element *values = reinterpret_cast<const element *>(&row);
#pragma unroll
        for (int j = 0; j < 8; ++j)
            if (j < count) to[j] = values[j];
    }
}

// A thread's states of a channel, from or to memory where they adjoin.
__device__ __forceinline__ void read_states(const float *from, float (&h)[OWN]) {
#pragma unroll
    for (int n = 0; n < OWN; ++n) h[n] = from[n];
}

__device__ __forceinline__ void write_states(float *to, const float (&h)[OWN]) {
#pragma unroll
    for (int n = 0; n < OWN; ++n) to[n] = h[n];
}

// COUNT threads, STRIDE lanes from one to the next, each have a part of COUNT sums; afterwards the
// thread with `index` among them has the whole of sum `index`. COUNT - 1 shuffles, not COUNT log2.
template <int COUNT, int STRIDE>
__device__ __forceinline__ float sum_over_lanes(float (&part)[COUNT], int index) {
#pragma unroll
    for (int half = COUNT / 2; half >= 1; half /= 2) {
        bool upper = (index & half) != 0;
#pragma unroll
        for (int j = 0; j < half; ++j) {
            float keep = upper ? part[j + half] : part[j];
            float give = upper ? part[j] : part[j + half];
            part[j] = keep + __shfl_xor_sync(0xffffffffu, give, half * STRIDE);
        }
    }
    return part[0];
}

// A thread's numbers of B and C of a token, read at once.
struct __align__(2 * OWN * sizeof(element) < 16 ? 2 * OWN * sizeof(element) : 16) Words {
    element x[2 * OWN];
};

// What a thread needs of B (or C) of a token: its OWN states' numbers lie together in shared memory,
// those of B before those of C.
template <int COUNT>
__device__ __forceinline__ void widen_own(const element *from, float (&x)[COUNT]) {
#if TYPE == 0
#pragma unroll
    for (int i = 0; i < COUNT; ++i) x[i] = from[i];
#else
    if (COUNT == 1) {
        x[0] = widen(from[0]);
        return;
    }
    const uint32 *words = reinterpret_cast<const uint32 *>(from);
#pragma unroll
    for (int i = 0; i < COUNT / 2; ++i) {
#if TYPE == 1
        x[2 * i] = __uint_as_float(words[i] << 16);
        x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
#else
        x[2 * i] = widen((element)(words[i] & 0xffffu));
        x[2 * i + 1] = widen((element)(words[i] >> 16));
#endif
    }
#endif
}

// Eight numbers of B (part 0, 1) or C (part 2, 3) into that order.
__device__ __forceinline__ void put_own(element *line, int part, const Row &row) {
    int first = part % 2 * 8, shift = part < 2 ? 0 : OWN;
    const element *values = reinterpret_cast<const element *>(&row);
#pragma unroll
    for (int i = 0; i < 8; i += OWN < 8 ? OWN : 8) {
        element *to = line + (first + i) / OWN * 2 * OWN + shift + (first + i) % OWN;
#pragma unroll
        for (int n = 0; n < (OWN < 8 ? OWN : 8); ++n) to[n] = values[i + n];
    }
}

// The same as floats.
__device__ __forceinline__ void put_floats(float *line, int part, const float (&x)[8]) {
    int first = part % 2 * 8, shift = part < 2 ? 0 : OWN;
    const int together = OWN < 8 ? OWN : 8;
#pragma unroll
    for (int i = 0; i < 8; i += together) {
        float *to = line + (first + i) / OWN * 2 * OWN + shift + (first + i) % OWN;
        if (together == 1) {
            to[0] = x[i];
        } else if (together == 2) {
            *reinterpret_cast<float2 *>(to) = make_float2(x[i], x[i + together - 1]);
        } else {
#pragma unroll
            for (int n = 0; n < together; n += 4)
                *reinterpret_cast<float4 *>(to + n) =
                    make_float4(x[i + n], x[i + n + 1], x[i + n + 2], x[i + n + 3]);
        }
    }
}

// 2 or a multiple of 4 floats of shared memory, as many at once as lie on a line.
template <int COUNT>
__device__ __forceinline__ void read_floats(const float *from, float (&x)[COUNT]) {
    if (COUNT == 2) {
        float2 two = *reinterpret_cast<const float2 *>(from);
        x[0] = two.x, x[1] = two.y;
        return;
    }
#pragma unroll
    for (int i = 0; i + 3 < COUNT; i += 4) {
        float4 four = *reinterpret_cast<const float4 *>(from + i);
        x[i] = four.x, x[i + 1] = four.y, x[i + 2] = four.z, x[i + 3] = four.w;
    }
}
