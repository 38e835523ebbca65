// What the two sources of the forward selective scan share: their arguments, what a scanning thread
// takes of a token, and the helping warps.
//
// Each source has a `Shared` of its own, with room for two tiles: dt, BC and what follows.
//   filled(tile): a helping thread has laid down dt, B and C of the tile.
//   await_scanned(tile): it waits until y of the tile is there.
//   read_y(at, row, column, sum): y of 8 channels, not yet gated.

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

#define TAKEN 4  // tokens that a scanning thread takes together

// What a thread reads of a token, and what follows from it alone.
struct Step {
    float dt[2];
    BCPart BC;
};

struct Ready {
    float decay[OWN], input[OWN], C[OWN];
};

template <typename Shared>
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

// While a tile is scanned, the next is prepared, y of the one before becomes the gated output, and
// the one after next is on its way to registers.
template <bool OUTPUT, typename Shared>
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
        float y[8], x[8], gate[8];
        s.read_y(tile & 1, row, column, y);
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
    s.filled(0);
    Row u_now = next.u, z_now = next.z, u_before = no_row(), z_before = no_row();
    if (tiles > 1) read(1);
    s.await_scanned(-1);  // there is none, but one barrier may say more than one thing
    for (int i = 0; i < tiles; ++i) {
        if (i + 1 < tiles) prepare(i + 1);
        Row u_next = next.u, z_next = next.z;
        if (i + 2 < tiles) read(i + 2);
        if (OUTPUT && i > 0) finish(i - 1, u_before, z_before);
        if (i + 1 < tiles) s.filled(i + 1);
        u_before = u_now, z_before = z_now;
        u_now = u_next, z_now = z_next;
        s.await_scanned(i);
    }
    if (OUTPUT) finish(tiles - 1, u_before, z_before);
}

