"""The CUDA C++ of the twins: plain text, so that any compiler can check it where CuPy is not installed.

Every source is compiled twice, with ``REAL`` defined as float and as double. Kernels are ``extern "C"``; a barrier is
met by all threads of a block, and threads of a block speak to each other through shared memory only.
"""

__all__ = ["CHUNK", "COLUMNS", "REALS", "ROWS", "SOURCES", "THREADS"]

REALS = {"float32": "float", "float64": "double"}
THREADS = 256
"""Threads of a block."""
ROWS = COLUMNS = 4
"""The tile of the cost that a thread holds in registers: what it loads for a row serves all columns, and vice versa."""
CHUNK = 32
"""Rows that are added up in the working precision; their sums are added in double."""

COMMON = (
    f"""
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
enum {{ THREADS = {THREADS}, ROWS = {ROWS}, COLUMNS = {COLUMNS}, CHUNK = {CHUNK} }};
"""
    r"""
typedef REAL real;
typedef long long Index;

__device__ inline float power2(float t) { return exp2f(t); }
__device__ inline double power2(double t) { return exp2(t); }
__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }
__device__ inline Index least(Index x, Index y) { return x < y ? x : y; }

// A sum of powers of two, as sum * 2^top with top the greatest exponent: it neither overflows nor vanishes, and is
// empty (-inf, 0) when all exponents are -inf. The differences below are taken from a finite top only: no NaN.
struct Sum {
    real top, sum;

    __device__ void add(const real *t) {
        real high = top;
        for (int q = 0; q < COLUMNS; q++) high = t[q] > high ? t[q] : high;
        if (high == -INFINITY) return;
        real part = 0;
        for (int q = 0; q < COLUMNS; q++) part += power2(t[q] - high);
        sum = (high > top ? sum * power2(top - high) : sum) + part;
        top = high;
    }

    __device__ void add(Sum other) {
        real high = other.top > top ? other.top : top;
        if (high == -INFINITY) return;
        sum = sum * power2(top - high) + other.sum * power2(other.top - high);
        top = high;
    }
};
"""
)

TRANSPORT = r"""
// Costs give a tile: rows i, columns j. Neighbouring threads have neighbouring columns, hence Y comes as (d, m).
struct Stored {
    const real *C;
    Index m;

    __device__ void tile(const Index *i, const Index *j, real (*c)[COLUMNS]) const {
        for (int r = 0; r < ROWS; r++)
            for (int q = 0; q < COLUMNS; q++) c[r][q] = C[i[r] * m + j[q]];
    }
};

struct Cloud {
    const real *X, *Y;
    Index m;
    int d, metric;  // 0: squared Euclidean, 1: Euclidean, 2: Manhattan

    __device__ void tile(const Index *i, const Index *j, real (*c)[COLUMNS]) const {
        for (int r = 0; r < ROWS; r++)
            for (int q = 0; q < COLUMNS; q++) c[r][q] = 0;
        for (int k = 0; k < d; k++) {
            real y[COLUMNS];
            for (int q = 0; q < COLUMNS; q++) y[q] = Y[k * m + j[q]];
            for (int r = 0; r < ROWS; r++) {
                real x = X[i[r] * d + k];
                for (int q = 0; q < COLUMNS; q++) {
                    real z = x - y[q];
                    c[r][q] += z * (metric < 2 ? z : z < 0 ? real(-1) : real(1));
                }
            }
        }
        if (metric == 1)
            for (int r = 0; r < ROWS; r++)
                for (int q = 0; q < COLUMNS; q++) c[r][q] = root(c[r][q]);
    }
};

// Row sums of 2^(G_j - s C_ij). The x threads of a block share ROWS rows and each takes every x-th column; then a tree
// of fixed shape joins what they have. On return sums[r][y * x] is the sum of row `first + r` of this thread's group.
template <class Cost>
__device__ void sum_rows(Cost cost, Index first, Index n, Index m, const real *G, real s, Sum (*sums)[THREADS]) {
    const int width = blockDim.x, lane = threadIdx.x, at = threadIdx.y * width + lane;
    Index i[ROWS];
    Sum own[ROWS];
    for (int r = 0; r < ROWS; r++) {
        i[r] = least(first + r, n - 1);
        own[r].top = -INFINITY;
        own[r].sum = 0;
    }
    for (Index start = lane; start < m; start += COLUMNS * width) {
        Index j[COLUMNS];
        real g[COLUMNS], c[ROWS][COLUMNS];
        for (int q = 0; q < COLUMNS; q++) {
            j[q] = least(start + q * width, m - 1);
            g[q] = start + q * width < m ? G[j[q]] : -INFINITY;
        }
        cost.tile(i, j, c);
        for (int r = 0; r < ROWS; r++) {
            for (int q = 0; q < COLUMNS; q++) c[r][q] = g[q] - s * c[r][q];
            own[r].add(c[r]);
        }
    }
    for (int r = 0; r < ROWS; r++) sums[r][at] = own[r];
    for (int half = width / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half)
            for (int r = 0; r < ROWS; r++) sums[r][at].add(sums[r][at + half]);
    }
    __syncthreads();
}

__device__ inline double soft_minimum(Sum row, double eps) {
    return row.sum > 0 ? -0.6931471805599453 * eps * (row.top + log2((double)row.sum)) : (double)INFINITY;
}

// out (k, n): soft minima of the rows under each line of G (k, m); the blocks of a line follow one another.
// A cost is stored if d is 0: then X is C, and Y is not read. (In all kernels.)
extern "C" __global__ void __launch_bounds__(THREADS)
soft_min(const real *X, const real *Y, int d, int metric, Index n, Index m, const real *G, real s, double eps,
         double *out) {
    __shared__ Sum sums[ROWS][THREADS];
    const Index tile = blockDim.y * ROWS, blocks = (n + tile - 1) / tile, line = blockIdx.x / blocks;
    const Index first = blockIdx.x % blocks * tile + threadIdx.y * ROWS, i = first + threadIdx.x;
    G += line * m;
    if (d == 0) sum_rows(Stored{X, m}, first, n, m, G, s, sums);
    else sum_rows(Cloud{X, Y, m, d, metric}, first, n, m, G, s, sums);
    if (threadIdx.x < ROWS && i < n) out[line * n + i] = soft_minimum(sums[threadIdx.x][threadIdx.y * blockDim.x], eps);
}

// The row update, and what the column sums need of a row: top_i, and the weight of 2^(G_j - s C_ij - top_i).
extern "C" __global__ void __launch_bounds__(THREADS)
sweep_rows(const real *X, const real *Y, int d, int metric, Index n, Index m, const real *G, real s, double eps,
           double power, const double *base, const double *a, double *f, double *r, real *top, real *weight) {
    __shared__ Sum sums[ROWS][THREADS];
    const Index first = ((Index)blockIdx.x * blockDim.y + threadIdx.y) * ROWS, i = first + threadIdx.x;
    if (d == 0) sum_rows(Stored{X, m}, first, n, m, G, s, sums);
    else sum_rows(Cloud{X, Y, m, d, metric}, first, n, m, G, s, sums);
    if (threadIdx.x >= ROWS || i >= n) return;
    const Sum row = sums[threadIdx.x][threadIdx.y * blockDim.x];
    const bool empty = !(row.sum > 0);  // all pairs forbidden
    const double soft = empty ? 0 : soft_minimum(row, eps);
    f[i] = base[i] + power * soft;
    r[i] = empty ? 0 : a[i] * exp((f[i] - soft) / eps);
    top[i] = empty ? real(0) : row.top;
    weight[i] = empty ? real(0) : (real)(r[i] / row.sum);
}

// sums (y blocks, m): sums of term(i, j, C_ij) over a slab of rows. A thread owns its columns: no two ever add to one.
template <class Cost, class Term>
__device__ void sum_columns(Cost cost, Term term, Index n, Index m, double *sums) {
    const Index slab = (n + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * slab, end = least(begin + slab, n);
    const Index start = (Index)blockIdx.x * COLUMNS * THREADS + threadIdx.x;
    Index i[ROWS], j[COLUMNS];
    double total[COLUMNS] = {0};
    for (int q = 0; q < COLUMNS; q++) j[q] = least(start + q * THREADS, m - 1);
    for (Index chunk = begin; chunk < end; chunk += CHUNK) {
        const Index last = least(chunk + CHUNK, end) - 1;
        real part[COLUMNS] = {0}, c[ROWS][COLUMNS];
        for (Index row = chunk; row <= last; row += ROWS) {
            for (int r = 0; r < ROWS; r++) i[r] = least(row + r, last);
            cost.tile(i, j, c);
            for (int r = 0; r < ROWS; r++)
                for (int q = 0; q < COLUMNS; q++) part[q] += row + r <= last ? term(i[r], j[q], c[r][q]) : real(0);
        }
        for (int q = 0; q < COLUMNS; q++) total[q] += part[q];
    }
    for (int q = 0; q < COLUMNS; q++)
        if (start + q * THREADS < m) sums[blockIdx.y * m + j[q]] = total[q];
}

struct Mass {
    const real *G, *top, *weight;
    real s;

    __device__ real operator()(Index i, Index j, real c) const { return weight[i] * power2(G[j] - s * c - top[i]); }
};

struct Spent {  // exponents in double: for entries that matter u + h and C / eps are large and close
    const double *U, *H;
    double s;

    __device__ real operator()(Index i, Index j, real c) const {
        const real p = power2((real)(U[i] + H[j] - s * c));
        return p > 0 ? p * c : real(0);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
sweep_columns(const real *X, const real *Y, int d, int metric, Index n, Index m, const real *G, real s,
              const real *top, const real *weight, double *sums) {
    const Mass mass = {G, top, weight, s};
    if (d == 0) sum_columns(Stored{X, m}, mass, n, m, sums);
    else sum_columns(Cloud{X, Y, m, d, metric}, mass, n, m, sums);
}

extern "C" __global__ void __launch_bounds__(THREADS)
plan_cost(const real *X, const real *Y, int d, int metric, Index n, Index m, const double *U, const double *H, double s,
          double *sums) {
    const Spent spent = {U, H, s};
    if (d == 0) sum_columns(Stored{X, m}, spent, n, m, sums);
    else sum_columns(Cloud{X, Y, m, d, metric}, spent, n, m, sums);
}
"""

SOURCES = {"transport": COMMON + TRANSPORT}
"""The source of each family."""
