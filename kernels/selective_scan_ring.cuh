// A ring of tiles in shared memory, with barriers, for the backward of the selective scan and
// for the sweep of the forward. The forward that keeps states has one barrier of the whole block.

typedef unsigned long long barrier;

// Barriers in shared memory: a phase ends when `count` threads have arrived. What those wrote is
// seen by whoever waits for the end of the phase, given by its parity.
__device__ __forceinline__ uint32 shared_address(const void *p) {
    return (uint32)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void start_barrier(barrier *b, int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count)
                 : "memory");
}

__device__ __forceinline__ void arrive(barrier *b) {
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(
                         shared_address(b))
                     : "memory");
}

__device__ __forceinline__ bool is_over(barrier *b, int parity) {
    uint32 over;
#if __CUDA_ARCH__ >= 900
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2;"
                 " selp.u32 %0, 1, 0, p; }"
                 : "=r"(over) : "r"(shared_address(b)), "r"(parity) : "memory");
#else
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2;"
                 " selp.u32 %0, 1, 0, p; }"
                 : "=r"(over) : "r"(shared_address(b)), "r"(parity) : "memory");
#endif
    return over != 0;
}

__device__ __forceinline__ void await(barrier *b, int parity) {
    while (!is_over(b, parity)) {
    }
}

// A ring of tiles: helping warps fill one, scanning warps are done with it, and so on.
struct Ring {
    barrier full[STAGES], done[STAGES];
};

__device__ __forceinline__ void start_ring(Ring &ring) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; ++i) {
            start_barrier(&ring.full[i], HELPERS / 32);
            start_barrier(&ring.done[i], WARPS);
        }
    }
    __syncthreads();
}
