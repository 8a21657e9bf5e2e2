/* Waves at the places of atoms, with their derivatives: from what multiplies these to sums over atoms,
   and back to values at atoms.

   The waves of an atom are products of cosines and sines of 2 pi n s along three axes, for n up to
   the extent of the axis: cos 0, sin 0, cos 1, sin 1, ... A sum over atoms of such products is
   one from the last axis to the first. ATOMS atoms are done at a time, so that a number of the
   sums is read and written once for all of them, and LANES numbers along the last axis, which is
   filled up with zeros. Where K is zero, nothing is summed, but for what is cheaper than not.

   Derivatives of less than some number of heights together are in an order that place_of tells: none,
   x, y, z, xx, xy, xz, yy, yz, zz, ... Those along the first two axes alone are pairs: none, x, y, xx,
   xy, yy, ... */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ATOMS 4
#define TWO_PI 6.283185307179586
#define INLINE static inline __attribute__((always_inline))

#define MOST_HEIGHTS 5
#define N_PAIRS(heights) ((heights) * ((heights) + 1) / 2)
#define N_DERIVATIVES(heights) ((heights) * ((heights) + 1) * ((heights) + 2) / 6)

typedef REAL Vector __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));

typedef struct {
    int64_t n_rows, n_channels, n_atoms;
    int64_t extent[3];
    int64_t rows[2], atoms[2]; /* first one to do, and the one behind the last */
    int64_t order;             /* highest derivative that sources multiply */
    double of_squares;         /* what the squared charges are multiplied with in the energies */
} Task;

/* Sizes of arrays that follow from the extents, and places in the memory that a call may use. */
typedef struct {
    int64_t n1, n2, n3, v3; /* cosines and sines along each axis; vectors along the last one */
    Vector *z, *lines, *fields, *sums;
    REAL *x, *y;
    int64_t *reach;
} Space;

INLINE int pair_of(int x, int y)
{
    return N_PAIRS(x + y) + y;
}

INLINE int place_of(int x, int y, int z)
{
    return N_DERIVATIVES(x + y + z) + N_PAIRS(y + z) + z;
}

#define EACH_PAIR(x, y, heights)                \
    for (int y = 0; y < (heights); y++)         \
        for (int x = 0; x + y < (heights); x++)

/* Numbers of the memory that a call may use, for cosines and sines and lines with derivatives up to
   the second of those of the sources, two fields, and the sums of a row with their changes. */
static int64_t numbers_of_memory(const Task *task)
{
    const int64_t n1 = 2 * (task->extent[0] + 1), n2 = 2 * (task->extent[1] + 1);
    const int64_t v3 = (2 * task->extent[2] + 1 + LANES) / LANES;
    const int64_t reach = n1 / 2 * v3 * (int64_t)(sizeof(int64_t) / sizeof(REAL));
    const int64_t grids = 2 * (1 + task->n_channels), heights = task->order + 3;
    const int64_t lines = (heights + N_PAIRS(heights)) * ATOMS;
    return LANES * v3 * (lines + grids * n1 * n2) + heights * ATOMS * (n1 + n2) + reach;
}

static Space divide(const Task *task, REAL *memory)
{
    const int64_t heights = task->order + 3;
    Space space;
    space.n1 = 2 * (task->extent[0] + 1);
    space.n2 = 2 * (task->extent[1] + 1);
    space.n3 = 2 * (task->extent[2] + 1);
    space.v3 = (space.n3 + LANES - 1) / LANES;
    space.fields = (Vector *)memory;
    space.sums = space.fields + 2 * space.n1 * space.n2 * space.v3;
    space.z = space.sums + 2 * task->n_channels * space.n1 * space.n2 * space.v3;
    space.lines = space.z + heights * ATOMS * space.v3;
    space.reach = (int64_t *)(space.lines + N_PAIRS(heights) * ATOMS * space.v3);
    space.x = (REAL *)(space.reach + space.n1 / 2 * space.v3);
    space.y = space.x + heights * ATOMS * space.n1;
    /* What is filled up. */
    memset(space.z, 0, (size_t)(heights * ATOMS * space.v3) * sizeof(Vector));
    return space;
}

/* How many n2 there are at n1 and from a vector of n3 on, up to the last with a K that is not 0. */
static void find_reach(const REAL *K, const Space *space)
{
    const int64_t h1 = space->n1 / 2, h2 = space->n2 / 2, h3 = space->n3 / 2;
    for (int64_t a = 0; a < h1; a++) {
        int64_t *reach = space->reach + a * space->v3;
        memset(reach, 0, (size_t)space->v3 * sizeof *reach);
        for (int64_t sign = 0; sign < 4; sign++)
            for (int64_t b = 0; b < h2; b++) {
                const REAL *line = K + ((sign * h1 + a) * h2 + b) * h3;
                int64_t c = h3;
                while (c > 0 && line[c - 1] == 0)
                    c--;
                for (int64_t v = 0; v < (2 * c + LANES - 1) / LANES; v++)
                    reach[v] = b + 1 > reach[v] ? b + 1 : reach[v];
            }
    }
}

/* Cosine and sine of 2 pi t, |t| <= 1/2: of what is left of a whole number of quarters. */
INLINE void turn(double t, double *cosine, double *sine)
{
    const double quarters = rint(4.0 * t), x = TWO_PI * (t - 0.25 * quarters), u = x * x;
    double c = 1.0 / 20922789888000.0, d = -1.0 / 1307674368000.0;
    c = c * u - 1.0 / 87178291200.0, d = d * u + 1.0 / 6227020800.0;
    c = c * u + 1.0 / 479001600.0, d = d * u - 1.0 / 39916800.0;
    c = c * u - 1.0 / 3628800.0, d = d * u + 1.0 / 362880.0;
    c = c * u + 1.0 / 40320.0, d = d * u - 1.0 / 5040.0;
    c = c * u - 1.0 / 720.0, d = d * u + 1.0 / 120.0;
    c = c * u + 1.0 / 24.0, d = d * u - 1.0 / 6.0;
    c = (c * u - 0.5) * u + 1.0, d = (d * u) * x + x;
    const double number = fabs(quarters), odd = number == 1.0, sign = number == 2.0 ? -1.0 : 1.0;
    *cosine = odd ? -quarters * d : sign * c;
    *sine = odd ? quarters * c : sign * d;
}

/* Cosines, sines and their derivatives by s: out[height][n * step + atom * stride]. */
INLINE void place(
    const Task *task, const REAL *s, int64_t n_atoms, int axis, const int heights, int64_t size,
    int64_t step, int64_t stride, REAL *out)
{
    double c[ATOMS], d[ATOMS], cosine[ATOMS], sine[ATOMS];
    for (int i = 0; i < ATOMS; i++) {
        const double t = i < n_atoms ? s[3 * i + axis] : 0.0;
        /* Wrapping changes no phase, and keeps it exact far away from the cell. */
        turn(t - rint(t), c + i, d + i);
        cosine[i] = 1.0, sine[i] = 0.0;
    }
    for (int64_t n = 0; n <= task->extent[axis]; n++) {
        const double factor = TWO_PI * (double)n;
        REAL *target = out + 2 * n * step;
#pragma GCC unroll 4
        for (int i = 0; i < ATOMS; i++) {
            double of_cosine = cosine[i], of_sine = sine[i];
#pragma GCC unroll 5
            for (int height = 0; height < heights; height++) {
                target[i * stride + height * size] = (REAL)of_cosine;
                target[i * stride + height * size + step] = (REAL)of_sine;
                const double raised = -factor * of_sine;
                of_sine = factor * of_cosine;
                of_cosine = raised;
            }
        }
        for (int i = 0; i < ATOMS; i++) {
            const double next = c[i] * cosine[i] - d[i] * sine[i];
            sine[i] = d[i] * cosine[i] + c[i] * sine[i];
            cosine[i] = next;
        }
    }
}

INLINE void place_axes(
    const Task *task, const REAL *s, int64_t n_atoms, const Space *space, const int heights)
{
    const int64_t width = space->v3 * LANES;
    place(task, s, n_atoms, 0, heights, ATOMS * space->n1, ATOMS, 1, space->x);
    place(task, s, n_atoms, 1, heights, ATOMS * space->n2, ATOMS, 1, space->y);
    place(task, s, n_atoms, 2, heights, ATOMS * width, 1, width, (REAL *)space->z);
}

/* sin 0 is left out. */
#define EACH_WAVE(n, end) (int64_t n = 0; n < (end); n += n == 0 ? 2 : 1)

/* Add atoms to sums[n1][n2][n3]. Their factors [derivative][atom] are of all derivatives of less than
   these heights. Lines are [pair][atom][n3]. */
INLINE void spread_lines(
    const Space *space, REAL factors[][ATOMS], Vector *sums, const int heights)
{
    const int64_t v3 = space->v3, n1 = space->n1, n2 = space->n2;
#pragma GCC unroll 5
    EACH_PAIR (x, y, heights)
        for (int64_t i = 0; i < ATOMS; i++) {
            Vector *line = space->lines + (pair_of(x, y) * ATOMS + i) * v3;
            for (int64_t v = 0; v < v3; v++) {
                line[v] = factors[place_of(x, y, 0)][i] * space->z[i * v3 + v];
                for (int z = 1; x + y + z < heights; z++)
                    line[v] += factors[place_of(x, y, z)][i] * space->z[(z * ATOMS + i) * v3 + v];
            }
        }
    for EACH_WAVE (a, n1) {
        const REAL *wave_x = space->x + a * ATOMS;
        for (int64_t v = 0; v < v3; v++) {
            const int64_t end = 2 * space->reach[a / 2 * v3 + v];
            const Vector *line = space->lines + v;
            Vector plane[MOST_HEIGHTS][ATOMS];
#pragma GCC unroll 5
            EACH_PAIR (x, y, heights)
                for (int i = 0; i < ATOMS; i++) {
                    const Vector own =
                        wave_x[x * ATOMS * n1 + i] * line[(pair_of(x, y) * ATOMS + i) * v3];
                    plane[y][i] = x == 0 ? own : plane[y][i] + own;
                }
            Vector *target = sums + a * n2 * v3 + v;
            for EACH_WAVE (b, end) {
                const REAL *wave_y = space->y + b * ATOMS;
                Vector sum = target[b * v3];
                for (int y = 0; y < heights; y++)
                    for (int i = 0; i < ATOMS; i++)
                        sum += wave_y[y * ATOMS * n2 + i] * plane[y][i];
                target[b * v3] = sum;
            }
        }
    }
}

/* The transpose: lines of a field for x and y with derivatives of less than these heights. */
INLINE void gather_lines(const Space *space, const Vector *field, const int heights)
{
    const int64_t v3 = space->v3, n1 = space->n1, n2 = space->n2;
    memset(space->lines, 0, (size_t)(N_PAIRS(heights) * ATOMS * v3) * sizeof(Vector));
    for EACH_WAVE (a, n1) {
        const REAL *wave_x = space->x + a * ATOMS;
        for (int64_t v = 0; v < v3; v++) {
            const int64_t end = 2 * space->reach[a / 2 * v3 + v];
            const Vector *source = field + a * n2 * v3 + v;
            Vector *line = space->lines + v;
            Vector plane[MOST_HEIGHTS][ATOMS];
            memset(plane, 0, sizeof plane);
            for EACH_WAVE (b, end) {
                const Vector value = source[b * v3];
                const REAL *wave_y = space->y + b * ATOMS;
                for (int y = 0; y < heights; y++)
                    for (int i = 0; i < ATOMS; i++)
                        plane[y][i] += wave_y[y * ATOMS * n2 + i] * value;
            }
#pragma GCC unroll 5
            EACH_PAIR (x, y, heights)
                for (int i = 0; i < ATOMS; i++)
                    line[(pair_of(x, y) * ATOMS + i) * v3] +=
                        wave_x[x * ATOMS * n1 + i] * plane[y][i];
        }
    }
}

/* Product of a line with the waves of an atom along the last axis, or with a derivative. */
INLINE REAL along_z(const Space *space, int pair, int height, int64_t i)
{
    const Vector *line = space->lines + (pair * ATOMS + i) * space->v3;
    const Vector *z = space->z + (height * ATOMS + i) * space->v3;
    Vector sum = {0};
    for (int64_t v = 0; v < space->v3; v++)
        sum += line[v] * z[v];
    REAL total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += sum[lane];
    return total;
}

/* Derivatives of less than these heights of what lines have gathered, at an atom. */
INLINE void values_of_lines(const Space *space, int64_t i, REAL *values, const int heights)
{
#pragma GCC unroll 5
    EACH_PAIR (x, y, heights)
        for (int z = 0; x + y + z < heights; z++)
            values[place_of(x, y, z)] = along_z(space, pair_of(x, y), z, i);
}

/* The loops above for each number of heights. */
#define FOR_HEIGHTS(loops, heights, ...)           \
    do {                                           \
        switch (heights) {                         \
        case 1: loops(__VA_ARGS__, 1); break;      \
        case 2: loops(__VA_ARGS__, 2); break;      \
        case 3: loops(__VA_ARGS__, 3); break;      \
        case 4: loops(__VA_ARGS__, 4); break;      \
        default: loops(__VA_ARGS__, MOST_HEIGHTS); \
        }                                          \
    } while (0)

static void place_all(
    const Task *task, const REAL *s, int64_t n_atoms, int heights, const Space *space)
{
    FOR_HEIGHTS(place_axes, heights, task, s, n_atoms, space);
}

static void spread(const Space *space, int heights, REAL factors[][ATOMS], Vector *sums)
{
    FOR_HEIGHTS(spread_lines, heights, space, factors, sums);
}

static void gather(const Space *space, int heights, const Vector *field)
{
    FOR_HEIGHTS(gather_lines, heights, space, field);
}

static void values_of(const Space *space, int heights, int64_t i, REAL *values)
{
    FOR_HEIGHTS(values_of_lines, heights, space, i, values);
}
