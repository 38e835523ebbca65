// Runs a block of CUDA threads on one CPU thread, each as a fiber that gives way at barriers and
// shuffles: what the kernels in kernels/*.cu compute, without a GPU. Slow, and exact about order.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __restrict__

struct Index {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static float2 make_float2(float x, float y) { return {x, y}; }
static float __uint_as_float(unsigned x) {
    float y;
    memcpy(&y, &x, 4);
    return y;
}
static unsigned __float_as_uint(float x) {
    unsigned y;
    memcpy(&y, &x, 4);
    return y;
}
template <typename T>
static T __ldg(const T *p) {
    if ((uintptr_t)p % alignof(T)) abort();
    return *p;
}

static float emulated_ex2(float x) { return exp2f(x); }
static float emulated_rcp(float x) { return 1.0f / x; }
static float from_half(unsigned short x) {
    _Float16 y;
    memcpy(&y, &x, 2);
    return (float)y;
}
static unsigned half_bits(float x) {
    _Float16 y = (_Float16)x;
    unsigned short bits;
    memcpy(&bits, &y, 2);
    return bits;
}
static unsigned bfloat_bits(float x) {
    unsigned bits = __float_as_uint(x);
    return (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
}
static unsigned two_bfloats(float high, float low) {
    return bfloat_bits(high) << 16 | bfloat_bits(low);
}
static unsigned two_halves(float high, float low) { return half_bits(high) << 16 | half_bits(low); }

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done = false;
    long shuffles = 0;
    unsigned kept[2];
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned running, arrived;
static long generation;
static Index threadIdx, blockIdx, gridDim, blockDim;
static unsigned char *shared_memory;

static unsigned next_random() {
    static unsigned seed = 1;
    seed = seed * 1664525u + 1013904223u;
    return seed >> 16;
}

static void give_way() {
    unsigned self = running;
    swapcontext(&fibers[self].context, &scheduler);
}

static void __syncthreads() {
    long entered = generation;
    if (++arrived == fibers.size()) {
        arrived = 0;
        ++generation;
    }
    while (generation == entered) give_way();
}

template <typename T>
static T exchange(T value, unsigned from_lane) {
    static_assert(sizeof(T) == 4, "32 bits");
    Fiber &self = fibers[running];
    unsigned first = running / 32 * 32;
    int slot = self.shuffles++ & 1;
    memcpy(&self.kept[slot], &value, 4);
    for (unsigned i = first; i < std::min<size_t>(first + 32, fibers.size()); ++i)
        while (fibers[i].shuffles < self.shuffles) give_way();
    memcpy(&value, &fibers[first + from_lane].kept[slot], 4);
    return value;
}

template <typename T>
static T __shfl_xor_sync(unsigned, T value, int mask) {
    return exchange(value, running % 32 ^ mask);
}
template <typename T>
static T __shfl_sync(unsigned, T value, int lane) {
    return exchange(value, lane);
}
static void __syncwarp() { exchange(0, 0); }
static float atomicAdd(float *to, float value) {
    float before = *to;
    *to += value;
    return before;
}

// A barrier in shared memory: arrivals still missing, arrivals of a phase, parity of the phase.
struct EmulatedBarrier {
    short missing, count;
    int parity;
};
static unsigned long __cvta_generic_to_shared(const void *p) { return (unsigned long)p; }
static void emulated_start(void *p, int count) {
    *(EmulatedBarrier *)p = {(short)count, (short)count, 0};
}
static void emulated_arrive(void *p) {
    EmulatedBarrier *b = (EmulatedBarrier *)p;
    if (--b->missing == 0) b->missing = b->count, b->parity ^= 1;
    give_way();  // whoever waited may go on at once
}
static bool emulated_over(void *p, int parity) {
    if (((EmulatedBarrier *)p)->parity != parity) return true;
    give_way();
    return false;
}
