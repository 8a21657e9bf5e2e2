/* Fourier transforms of meshes, as les/sums/bases/fourier.py does them with operations of torch.

   Compiled once for each REAL. LANES transforms are done side by side, one in each lane of a vector, so
   that no step of them has to look across lanes. Components that nobody needs are never written, and
   those that are zero never read. */

/* For madvise, which is not in the C standard. */
#define _DEFAULT_SOURCE

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

typedef REAL Vector __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));

typedef struct {
    Vector re, im;
} Complex;

/* Between the axes, components are in blocks of LANES along the last axis:
   [n_meshes][k1][2 n2 + 1][n_blocks] of Complex. */
typedef struct {
    int64_t size[3];      /* mesh points along each axis */
    int64_t extent[3];    /* largest number of a component along each axis */
    int64_t first, last;  /* planes of all meshes, or rows of all meshes, to do */
    const REAL *roots[3]; /* exp(-2 pi i j / size) for each axis, [size][2] */
} Task;

enum { FORWARD = 1, BACKWARD = -1 };

static inline __attribute__((always_inline)) void multiply(Complex *value, REAL re, REAL im)
{
    const Vector real = value->re * re - value->im * im;
    value->im = value->re * im + value->im * re;
    value->re = real;
}

/* The transform of r numbers in place; sign is that of exp(-2 pi i / r). */
static inline __attribute__((always_inline)) void small_transform(Complex *x, const int r, const REAL sign)
{
    if (r == 2) {
        const Complex a = x[0], b = x[1];
        x[0].re = a.re + b.re, x[0].im = a.im + b.im;
        x[1].re = a.re - b.re, x[1].im = a.im - b.im;
        return;
    }
    if (r == 4) {
        const Vector ar = x[0].re + x[2].re, ai = x[0].im + x[2].im;
        const Vector br = x[0].re - x[2].re, bi = x[0].im - x[2].im;
        const Vector cr = x[1].re + x[3].re, ci = x[1].im + x[3].im;
        const Vector dr = sign * (x[1].re - x[3].re), di = sign * (x[1].im - x[3].im);
        x[0].re = ar + cr, x[0].im = ai + ci;
        x[2].re = ar - cr, x[2].im = ai - ci;
        x[1].re = br + di, x[1].im = bi - dr;
        x[3].re = br - di, x[3].im = bi + dr;
        return;
    }
    /* An odd number: pairs that are each other's conjugates. */
    static const double cosines[8][4] = {
        [3] = {1.0, -0.5},
        [5] = {1.0, 0.30901699437494742410, -0.80901699437494742410},
        [7] = {1.0, 0.62348980185873353053, -0.22252093395631440429, -0.90096886790241912624}};
    static const double sines[8][4] = {
        [3] = {0.0, 0.86602540378443864676},
        [5] = {0.0, 0.95105651629515357212, 0.58778525229247312917},
        [7] = {0.0, 0.78183148246802980871, 0.97492791218182360702, 0.43388373911755812048}};
    const Complex origin = x[0];
    Complex sums[4], differences[4];
    for (int j = 1; j <= r / 2; j++) {
        sums[j].re = x[j].re + x[r - j].re, sums[j].im = x[j].im + x[r - j].im;
        differences[j].re = sign * (x[j].re - x[r - j].re);
        differences[j].im = sign * (x[j].im - x[r - j].im);
        x[0].re += sums[j].re, x[0].im += sums[j].im;
    }
    for (int k = 1; k <= r / 2; k++) {
        Complex even = origin, odd = {{0}, {0}};
        for (int j = 1; j <= r / 2; j++) {
            const int turn = j * k % r, back = turn > r / 2;
            const REAL cosine = (REAL)cosines[r][back ? r - turn : turn];
            const REAL sine = (REAL)(back ? -sines[r][r - turn] : sines[r][turn]);
            even.re += cosine * sums[j].re, even.im += cosine * sums[j].im;
            odd.re += sine * differences[j].re, odd.im += sine * differences[j].im;
        }
        x[k].re = even.re + odd.im, x[k].im = even.im - odd.re;
        x[r - k].re = even.re - odd.im, x[r - k].im = even.im + odd.re;
    }
}

/* One factor r of the size; what has been transformed already has the stride. */
static inline __attribute__((always_inline)) void step(
    const Complex *from, Complex *to, const int64_t size, const int64_t stride, const int r,
    const REAL sign, const REAL *roots)
{
    const int64_t n = size / (stride * r);
    for (int64_t p = 0; p < n; p++) {
        for (int64_t q = 0; q < stride; q++) {
            Complex x[8];
            for (int j = 0; j < r; j++)
                x[j] = from[q + stride * (p + n * j)];
            small_transform(x, r, sign);
            Complex *out = to + q + stride * r * p;
            out[0] = x[0];
            for (int j = 1; j < r; j++) {
                if (p > 0) {
                    const REAL *root = roots + 2 * p * j * stride;
                    multiply(x + j, root[0], sign * root[1]);
                }
                out[j * stride] = x[j];
            }
        }
    }
}

/* Transforms of LANES times `size` numbers, in the order of the numbers (Stockham). The results are in
   `x` or `other`, whichever is returned. */
static inline __attribute__((always_inline)) Complex *transform(
    Complex *x, Complex *other, const int64_t size, const int direction, const REAL *roots)
{
    const REAL sign = (REAL)direction;
    int64_t stride = 1;
    while (stride < size) {
        const int64_t rest = size / stride;
        int r = 4;
        if (rest % 7 == 0) {
            r = 7;
            step(x, other, size, stride, 7, sign, roots);
        } else if (rest % 5 == 0) {
            r = 5;
            step(x, other, size, stride, 5, sign, roots);
        } else if (rest % 3 == 0) {
            r = 3;
            step(x, other, size, stride, 3, sign, roots);
        } else if (rest % 4 == 0) {
            step(x, other, size, stride, 4, sign, roots);
        } else {
            r = 2;
            step(x, other, size, stride, 2, sign, roots);
        }
        Complex *swapped = x;
        x = other, other = swapped;
        stride *= r;
    }
    return x;
}

static inline int64_t kept(const Task *task, int axis)
{
    return axis < 2 ? 2 * task->extent[axis] + 1 : task->extent[2] + 1;
}

static inline int64_t blocks(const Task *task)
{
    return (task->extent[2] + LANES) / LANES;
}

/* Where a component that is kept is in the whole transform. */
static inline int64_t whole(const Task *task, int axis, int64_t place)
{
    return place <= task->extent[axis] ? place : place + task->size[axis] - kept(task, axis);
}

static inline int64_t longest(const Task *task)
{
    int64_t most = task->size[0];
    for (int axis = 1; axis < 3; axis++)
        most = task->size[axis] > most ? task->size[axis] : most;
    return most;
}

/* Two buffers for a transform, and the lines of a plane; 0 without memory. */
static Complex *buffers(const Task *task, int with_plane)
{
    const int64_t lines = with_plane ? task->size[1] * blocks(task) : 0;
    return malloc(sizeof(Complex) * (size_t)(2 * longest(task) + lines));
}

/* Along the last two axes, plane by plane. 2 * LANES real rows are transformed at a time. */
int64_t les_analyse_planes(const Task *task, const REAL *mesh, Complex *in_plane)
{
    const int64_t k2 = task->size[1], k3 = task->size[2], n3 = task->extent[2];
    const int64_t n_blocks = blocks(task), rows = kept(task, 1), most = longest(task);
    Complex *x = buffers(task, 1);
    if (!x)
        return 1;
    Complex *other = x + most, *lines = x + 2 * most;
    memset(lines, 0, sizeof(Complex) * (size_t)(k2 * n_blocks));
    for (int64_t plane = task->first; plane < task->last; plane++) {
        const REAL *points = mesh + plane * k2 * k3;
        for (int64_t row = 0; row < k2; row += 2 * LANES) {
            const REAL *line[2 * LANES];
            for (int lane = 0; lane < 2 * LANES; lane++)
                line[lane] = points + k3 * (row + lane < k2 ? row + lane : row);
            for (int64_t c = 0; c < k3; c++)
                for (int lane = 0; lane < LANES; lane++) {
                    x[c].re[lane] = line[lane][c];
                    x[c].im[lane] = line[lane + LANES][c];
                }
            const Complex *found = transform(x, other, k3, FORWARD, task->roots[2]);
            for (int64_t c = 0; c <= n3; c++) {
                const Complex up = found[c], down = found[c > 0 ? k3 - c : 0];
                Complex pair[2];
                pair[0].re = (REAL)0.5 * (up.re + down.re), pair[0].im = (REAL)0.5 * (up.im - down.im);
                pair[1].re = (REAL)0.5 * (up.im + down.im), pair[1].im = (REAL)0.5 * (down.re - up.re);
                for (int half = 0; half < 2; half++)
                    for (int lane = 0; lane < LANES && row + half * LANES + lane < k2; lane++) {
                        Complex *block = lines + (row + half * LANES + lane) * n_blocks + c / LANES;
                        block->re[c % LANES] = pair[half].re[lane];
                        block->im[c % LANES] = pair[half].im[lane];
                    }
            }
        }
        for (int64_t block = 0; block < n_blocks; block++) {
            for (int64_t row = 0; row < k2; row++)
                x[row] = lines[row * n_blocks + block];
            const Complex *found = transform(x, other, k2, FORWARD, task->roots[1]);
            for (int64_t row = 0; row < rows; row++)
                in_plane[(plane * rows + row) * n_blocks + block] = found[whole(task, 1, row)];
        }
    }
    free(x);
    return 0;
}

/* Along the first axis, row by row, to components [n_meshes][2 n1 + 1][2 n2 + 1][n3 + 1][2]. */
int64_t les_analyse_rows(const Task *task, const Complex *in_plane, REAL *components)
{
    const int64_t k1 = task->size[0], n_blocks = blocks(task), rows = kept(task, 1);
    const int64_t planes = kept(task, 0), numbers = kept(task, 2);
    Complex *x = buffers(task, 0);
    if (!x)
        return 1;
    for (int64_t all = task->first; all < task->last; all++) {
        const int64_t row = all % rows, structure = all / rows;
        for (int64_t block = 0; block < n_blocks; block++) {
            for (int64_t plane = 0; plane < k1; plane++)
                x[plane] = in_plane[((structure * k1 + plane) * rows + row) * n_blocks + block];
            const Complex *found =
                transform(x, x + longest(task), k1, FORWARD, task->roots[0]);
            const int64_t first = block * LANES, left = numbers - first;
            for (int64_t plane = 0; plane < planes; plane++) {
                const Complex value = found[whole(task, 0, plane)];
                REAL *out =
                    components + 2 * (((structure * planes + plane) * rows + row) * numbers + first);
                for (int lane = 0; lane < LANES && lane < left; lane++) {
                    out[2 * lane] = value.re[lane];
                    out[2 * lane + 1] = value.im[lane];
                }
            }
        }
    }
    free(x);
    return 0;
}

/* The transpose of les_analyse_rows. */
int64_t les_synthesise_rows(const Task *task, const REAL *components, Complex *in_plane)
{
    const int64_t k1 = task->size[0], n_blocks = blocks(task), rows = kept(task, 1);
    const int64_t planes = kept(task, 0), numbers = kept(task, 2);
    Complex *x = buffers(task, 0);
    if (!x)
        return 1;
    for (int64_t all = task->first; all < task->last; all++) {
        const int64_t row = all % rows, structure = all / rows;
        for (int64_t block = 0; block < n_blocks; block++) {
            const int64_t first = block * LANES, left = numbers - first;
            memset(x, 0, sizeof(Complex) * (size_t)k1);
            for (int64_t plane = 0; plane < planes; plane++) {
                Complex *value = x + whole(task, 0, plane);
                const REAL *from =
                    components + 2 * (((structure * planes + plane) * rows + row) * numbers + first);
                for (int lane = 0; lane < LANES && lane < left; lane++) {
                    value->re[lane] = from[2 * lane];
                    value->im[lane] = from[2 * lane + 1];
                }
            }
            const Complex *found =
                transform(x, x + longest(task), k1, BACKWARD, task->roots[0]);
            for (int64_t plane = 0; plane < k1; plane++)
                in_plane[((structure * k1 + plane) * rows + row) * n_blocks + block] = found[plane];
        }
    }
    free(x);
    return 0;
}

/* The transpose of les_analyse_planes. */
int64_t les_synthesise_planes(const Task *task, const Complex *in_plane, REAL *mesh)
{
    const int64_t k2 = task->size[1], k3 = task->size[2], n3 = task->extent[2];
    const int64_t n_blocks = blocks(task), rows = kept(task, 1), most = longest(task);
    Complex *x = buffers(task, 1);
    if (!x)
        return 1;
    Complex *other = x + most, *lines = x + 2 * most;
    for (int64_t plane = task->first; plane < task->last; plane++) {
        for (int64_t block = 0; block < n_blocks; block++) {
            memset(x, 0, sizeof(Complex) * (size_t)k2);
            for (int64_t row = 0; row < rows; row++)
                x[whole(task, 1, row)] = in_plane[(plane * rows + row) * n_blocks + block];
            const Complex *found = transform(x, other, k2, BACKWARD, task->roots[1]);
            for (int64_t row = 0; row < k2; row++)
                lines[row * n_blocks + block] = found[row];
        }
        REAL *points = mesh + plane * k2 * k3;
        for (int64_t row = 0; row < k2; row += 2 * LANES) {
            memset(x, 0, sizeof(Complex) * (size_t)k3);
            for (int64_t c = 0; c <= n3; c++) {
                Complex pair[2] = {{{0}, {0}}, {{0}, {0}}};
                for (int half = 0; half < 2; half++)
                    for (int lane = 0; lane < LANES; lane++) {
                        const int64_t own = row + half * LANES + lane;
                        const Complex *block = lines + (own < k2 ? own : row) * n_blocks + c / LANES;
                        pair[half].re[lane] = block->re[c % LANES];
                        pair[half].im[lane] = block->im[c % LANES];
                    }
                if (c == 0) {
                    x[0].re = pair[0].re, x[0].im = pair[1].re;
                    continue;
                }
                /* Half of a component and half of its conjugate. */
                x[c].re = (REAL)0.5 * (pair[0].re - pair[1].im);
                x[c].im = (REAL)0.5 * (pair[0].im + pair[1].re);
                x[k3 - c].re = (REAL)0.5 * (pair[0].re + pair[1].im);
                x[k3 - c].im = (REAL)0.5 * (pair[1].re - pair[0].im);
            }
            const Complex *found = transform(x, other, k3, BACKWARD, task->roots[2]);
            for (int lane = 0; lane < 2 * LANES && row + lane < k2; lane++) {
                REAL *line = points + (row + lane) * k3;
                const int own = lane % LANES;
                if (lane < LANES)
                    for (int64_t c = 0; c < k3; c++)
                        line[c] = found[c].re[own];
                else
                    for (int64_t c = 0; c < k3; c++)
                        line[c] = found[c].im[own];
            }
        }
    }
    free(x);
    return 0;
}

/* Ask for large pages for memory that nobody has written to: otherwise most of the time that a large
   mesh takes goes into giving it pages of 4 kB, one by one. */
void les_large_pages(void *memory, int64_t n_bytes)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t page = (uintptr_t)1 << 21, from = ((uintptr_t)memory + page - 1) & ~(page - 1);
    const uintptr_t to = ((uintptr_t)memory + (uintptr_t)n_bytes) & ~(page - 1);
    if (to > from)
        madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)memory, (void)n_bytes;
#endif
}
