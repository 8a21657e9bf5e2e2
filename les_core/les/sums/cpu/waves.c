/* Energies of charges and a Green's function, sum_k K(k) |S(k)|^2 + c sum_i q_i^2, with first
   derivatives, and the products of their second derivatives with vectors; see les/sums/cpu/waves.py.

   The waves of an atom are products of cosines and sines of 2 pi n s along three axes, for n up to
   the extent of the axis: cos 0, sin 0, cos 1, sin 1, ... A sum over atoms of such products is
   one from the last axis to the first. ATOMS atoms are done at a time, so that a number of the
   sums is read and written once for all of them, and LANES numbers along the last axis, which is
   filled up with zeros. Where K is zero, nothing is summed, but for what is cheaper than not. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ATOMS 4
#define TWO_PI 6.283185307179586
#define INLINE static inline __attribute__((always_inline))

typedef REAL Vector __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));

typedef struct {
    int64_t n_rows, n_channels, n_atoms;
    int64_t extent[3];
    int64_t rows[2], atoms[2]; /* first one to do, and the one behind the last */
    double of_squares;         /* what the squared charges are multiplied with in the energies */
} Task;

/* Sizes of arrays that follow from the extents, and places in the memory that a call may use. */
typedef struct {
    int64_t n1, n2, n3, v3; /* cosines and sines along each axis; vectors along the last one */
    Vector *z, *lines, *fields, *sums;
    REAL *x, *y;
    int64_t *reach;
} Space;

/* Numbers of the memory that a call may use, for cosines and sines with two derivatives, lines with
   derivatives up to the second along the first two axes, two fields, and the sums of a row with
   their changes. */
int64_t les_waves_space(const Task *task)
{
    const int64_t n1 = 2 * (task->extent[0] + 1), n2 = 2 * (task->extent[1] + 1);
    const int64_t v3 = (2 * task->extent[2] + 1 + LANES) / LANES;
    const int64_t reach = n1 / 2 * v3 * (int64_t)(sizeof(int64_t) / sizeof(REAL));
    const int64_t grids = 2 * (1 + task->n_channels);
    return LANES * v3 * (9 * ATOMS + grids * n1 * n2) + 3 * ATOMS * (n1 + n2) + reach;
}

static Space divide(const Task *task, REAL *memory)
{
    Space space;
    space.n1 = 2 * (task->extent[0] + 1);
    space.n2 = 2 * (task->extent[1] + 1);
    space.n3 = 2 * (task->extent[2] + 1);
    space.v3 = (space.n3 + LANES - 1) / LANES;
    space.fields = (Vector *)memory;
    space.sums = space.fields + 2 * space.n1 * space.n2 * space.v3;
    space.z = space.sums + 2 * task->n_channels * space.n1 * space.n2 * space.v3;
    space.lines = space.z + 3 * ATOMS * space.v3;
    space.reach = (int64_t *)(space.lines + 6 * ATOMS * space.v3);
    space.x = (REAL *)(space.reach + space.n1 / 2 * space.v3);
    space.y = space.x + 3 * ATOMS * space.n1;
    memset(space.z, 0, (size_t)(3 * ATOMS * space.v3) * sizeof(Vector)); /* what is filled up */
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
            target[i * stride] = (REAL)cosine[i];
            target[i * stride + step] = (REAL)sine[i];
            if (heights > 1) {
                target[i * stride + size] = (REAL)(-factor * sine[i]);
                target[i * stride + size + step] = (REAL)(factor * cosine[i]);
            }
            if (heights > 2) {
                target[i * stride + 2 * size] = (REAL)(-factor * factor * cosine[i]);
                target[i * stride + 2 * size + step] = (REAL)(-factor * factor * sine[i]);
            }
        }
        for (int i = 0; i < ATOMS; i++) {
            const double next = c[i] * cosine[i] - d[i] * sine[i];
            sine[i] = d[i] * cosine[i] + c[i] * sine[i];
            cosine[i] = next;
        }
    }
}

INLINE void place_all(
    const Task *task, const REAL *s, int64_t n_atoms, const int heights, const Space *space)
{
    const int64_t width = space->v3 * LANES;
    place(task, s, n_atoms, 0, heights, ATOMS * space->n1, ATOMS, 1, space->x);
    place(task, s, n_atoms, 1, heights, ATOMS * space->n2, ATOMS, 1, space->y);
    place(task, s, n_atoms, 2, heights, ATOMS * width, 1, width, (REAL *)space->z);
}

/* sin 0 is left out. */
#define EACH_WAVE(n, end) (int64_t n = 0; n < (end); n += n == 0 ? 2 : 1)

/* Add atoms to sums[n1][n2][n3]. Lines are [pair][atom][n3], x and y have derivatives as told by
   the pair: none, and with two heights also x, y. */
INLINE void spread_lines(const Space *space, const int heights, Vector *sums)
{
    const int64_t v3 = space->v3, n2 = space->n2;
    for EACH_WAVE (a, space->n1) {
        const REAL *x = space->x + a * ATOMS, *dx = x + ATOMS * space->n1;
        for (int64_t v = 0; v < v3; v++) {
            const int64_t end = 2 * space->reach[a / 2 * v3 + v];
            const Vector *line = space->lines + v;
            Vector plane[ATOMS], along_y[ATOMS];
            for (int i = 0; i < ATOMS; i++) {
                plane[i] = x[i] * line[i * v3];
                if (heights > 1) {
                    plane[i] += dx[i] * line[(ATOMS + i) * v3];
                    along_y[i] = x[i] * line[(2 * ATOMS + i) * v3];
                }
            }
            Vector *target = sums + a * n2 * v3 + v;
            for EACH_WAVE (b, end) {
                const REAL *y = space->y + b * ATOMS, *dy = y + ATOMS * n2;
                Vector sum = target[b * v3];
                for (int i = 0; i < ATOMS; i++) {
                    sum += y[i] * plane[i];
                    if (heights > 1)
                        sum += dy[i] * along_y[i];
                }
                target[b * v3] = sum;
            }
        }
    }
}

/* The transpose: lines of a field for x and y with derivatives, of less than ``heights`` together:
   none, x, y, xx, xy, yy. */
INLINE void gather_lines(const Space *space, const int heights, const Vector *field)
{
    const int64_t v3 = space->v3, n2 = space->n2, n_pairs = heights * (heights + 1) / 2;
    memset(space->lines, 0, (size_t)(n_pairs * ATOMS * v3) * sizeof(Vector));
    for EACH_WAVE (a, space->n1) {
        const REAL *x = space->x + a * ATOMS, *dx = x + ATOMS * space->n1;
        const REAL *ddx = dx + ATOMS * space->n1;
        for (int64_t v = 0; v < v3; v++) {
            const int64_t end = 2 * space->reach[a / 2 * v3 + v];
            const Vector *source = field + a * n2 * v3 + v;
            Vector *line = space->lines + v;
            Vector plane[3][ATOMS];
            memset(plane, 0, sizeof plane);
            for EACH_WAVE (b, end) {
                const Vector value = source[b * v3];
                const REAL *y = space->y + b * ATOMS;
                for (int height = 0; height < heights; height++)
                    for (int i = 0; i < ATOMS; i++)
                        plane[height][i] += y[height * ATOMS * n2 + i] * value;
            }
            for (int i = 0; i < ATOMS; i++) {
                line[i * v3] += x[i] * plane[0][i];
                line[(ATOMS + i) * v3] += dx[i] * plane[0][i];
                line[(2 * ATOMS + i) * v3] += x[i] * plane[1][i];
                if (heights > 2) {
                    line[(3 * ATOMS + i) * v3] += ddx[i] * plane[0][i];
                    line[(4 * ATOMS + i) * v3] += dx[i] * plane[1][i];
                    line[(5 * ATOMS + i) * v3] += x[i] * plane[2][i];
                }
            }
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

/* Sums over atoms of a row, of their charges q, and where there are changes, of the derivative in the
   direction (vq, vs). All are zero before.

   q, vq: [row][channel][atom]; s, vs: [row][atom][3]; sums, changes: [channel][n1][n2][n3]. */
static void add_row(
    const Task *task, const Space *space, int64_t row, const REAL *q, const REAL *s,
    const REAL *vq, const REAL *vs, Vector *sums, Vector *changes)
{
    const int64_t size = space->n1 * space->n2 * space->v3, v3 = space->v3, n = task->n_atoms;
    for (int64_t atom = task->atoms[0]; atom < task->atoms[1]; atom += ATOMS) {
        const int64_t left = task->atoms[1] - atom, count = left < ATOMS ? left : ATOMS;
        if (changes)
            place_all(task, s + (row * n + atom) * 3, count, 2, space);
        else
            place_all(task, s + (row * n + atom) * 3, count, 1, space);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const int64_t first = (row * task->n_channels + channel) * n + atom;
            for (int64_t i = 0; i < ATOMS; i++) {
                const REAL own = i < count ? q[first + i] : 0;
                for (int64_t v = 0; v < v3; v++)
                    space->lines[i * v3 + v] = own * space->z[i * v3 + v];
            }
            spread_lines(space, 1, sums + channel * size);
            if (!changes)
                continue;
            for (int64_t i = 0; i < ATOMS; i++) {
                const REAL *step = vs + (row * n + atom + i) * 3;
                const REAL own = i < count ? q[first + i] : 0, change = i < count ? vq[first + i] : 0;
                const REAL x = i < count ? own * step[0] : 0, y = i < count ? own * step[1] : 0;
                const REAL dz = i < count ? own * step[2] : 0;
                Vector *line = space->lines + i * v3;
                const Vector *z = space->z + i * v3;
                for (int64_t v = 0; v < v3; v++) {
                    line[v] = change * z[v] + dz * z[v + ATOMS * v3];
                    line[v + ATOMS * v3] = x * z[v];
                    line[v + 2 * ATOMS * v3] = y * z[v];
                }
            }
            spread_lines(space, 2, changes + channel * size);
        }
    }
}

/* Sums for some of the atoms of each row, sums[row][channel][n1][n2][n3]; see add_row.
   K: [row][sign][n1][n2][n3]. */
void les_waves_sums(
    const Task *task, REAL *memory, const REAL *q, const REAL *s, const REAL *K, const REAL *vq,
    const REAL *vs, REAL *sums, REAL *changes)
{
    Space space = divide(task, memory);
    const int64_t size = task->n_channels * space.n1 * space.n2 * space.v3;
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        find_reach(K + row * space.n1 * space.n2 * space.n3 / 2, &space);
        add_row(
            task, &space, row, q, s, vq, vs, (Vector *)sums + row * size,
            changes ? (Vector *)changes + row * size : 0);
    }
}

/* The same for all atoms of a row, in the memory of the call. */
static void add_all(
    const Task *task, const Space *space, int64_t row, const REAL *q, const REAL *s,
    const REAL *vq, const REAL *vs, const int with_changes)
{
    const int64_t size = task->n_channels * space->n1 * space->n2 * space->v3;
    memset(space->sums, 0, (size_t)((with_changes ? 2 : 1) * size) * sizeof(Vector));
    add_row(
        task, space, row, q, s, vq, vs, space->sums, with_changes ? space->sums + size : 0);
}

/* Real and imaginary part of the sums with e^{i(s n1 + n2 + t n3)} for the signs
   (s, t) = (+, +), (+, -), (-, +), (-, -), of those with cosines (0) and sines (1). */
INLINE void combine(const REAL *sums, int64_t n2, int64_t width, double real[4], double imag[4])
{
    const double c = sums[0], ccs = sums[1], csc = sums[width], css = sums[width + 1];
    const REAL *sines = sums + n2 * width;
    const double scc = sines[0], scs = sines[1], ssc = sines[width], sss = sines[width + 1];
    const double a = c - ssc, b = css + scs, d = c + ssc, e = css - scs;
    const double f = csc + scc, g = ccs - sss, h = csc - scc, l = ccs + sss;
    real[0] = a - b, real[1] = a + b, real[2] = d - e, real[3] = d + e;
    imag[0] = f + g, imag[1] = f - g, imag[2] = h + l, imag[3] = h - l;
}

/* The transpose. */
INLINE void separate(
    const double real[4], const double imag[4], int64_t n2, int64_t width, REAL *field)
{
    const double a = real[0] + real[1], b = real[1] - real[0];
    const double d = real[2] + real[3], e = real[3] - real[2];
    const double f = imag[0] + imag[1], g = imag[0] - imag[1];
    const double h = imag[2] + imag[3], l = imag[2] - imag[3];
    REAL *sines = field + n2 * width;
    field[0] = (REAL)(a + d), field[1] = (REAL)(g + l);
    field[width] = (REAL)(f + h), field[width + 1] = (REAL)(b + e);
    sines[0] = (REAL)(f - h), sines[1] = (REAL)(b - e);
    sines[width] = (REAL)(d - a), sines[width + 1] = (REAL)(l - g);
}

/* Field whose values at atoms are the derivatives by their charges, and powers |S|^2; with changes of
   sums and K also the field and the powers that change. Powers add up; either may be NULL. Returns
   the energy. */
static double find_fields(
    const Space *space, const REAL *K, const REAL *vK, const REAL *sums,
    const REAL *changes, REAL *power, REAL *power_change)
{
    const int64_t h1 = space->n1 / 2, h2 = space->n2 / 2, h3 = space->n3 / 2, n2 = space->n2;
    const int64_t width = space->v3 * LANES, sign_step = h1 * h2 * h3;
    REAL *field = (REAL *)space->fields, *change = field + space->n1 * n2 * width;
    double energy = 0.0;
    for (int64_t a = 0; a < h1; a++)
    for (int64_t v = 0; v < space->v3; v++)
    for (int64_t b = 0; b < space->reach[a * space->v3 + v]; b++)
    for (int64_t c = v * LANES / 2; c < (v + 1) * LANES / 2 && c < h3; c++) {
        const int64_t k = (a * h2 + b) * h3 + c, first = (2 * a * n2 + 2 * b) * width + 2 * c;
        double real[4], imag[4], other_real[4], other_imag[4];
        combine(sums + first, n2, width, real, imag);
        if (changes)
            combine(changes + first, n2, width, other_real, other_imag);
        for (int sign = 0; sign < 4; sign++) {
            const int64_t place = sign * sign_step + k;
            const double of = K[place];
            const double square = real[sign] * real[sign] + imag[sign] * imag[sign];
            if (power)
                power[place] += (REAL)square;
            energy += of * square;
            if (changes) {
                const double product = real[sign] * other_real[sign] + imag[sign] * other_imag[sign];
                if (power_change)
                    power_change[place] += (REAL)(2.0 * product);
                other_real[sign] = 2.0 * (of * other_real[sign] + vK[place] * real[sign]);
                other_imag[sign] = 2.0 * (of * other_imag[sign] + vK[place] * imag[sign]);
            }
            real[sign] *= 2.0 * of;
            imag[sign] *= 2.0 * of;
        }
        if (changes)
            separate(other_real, other_imag, n2, width, change + first);
        separate(real, imag, n2, width, field + first);
    }
    return energy;
}

/* Energies [row] and their derivatives by q, s and K, zero before; energies and those by K, which may
   be NULL, by the first share of the atoms alone. The sums [row][channel][n1][n2][n3] are needed with shares only. */
void les_waves_first(
    const Task *task, REAL *memory, const REAL *q, const REAL *s, const REAL *K, const REAL *sums,
    REAL *energy, REAL *to_q, REAL *to_s, REAL *to_K)
{
    Space space = divide(task, memory);
    const int64_t size = space.n1 * space.n2 * space.v3 * LANES, n = task->n_atoms;
    const int64_t n_K = space.n1 * space.n2 * space.n3 / 2;
    memset(space.fields, 0, (size_t)size * sizeof(REAL));
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        find_reach(K + row * n_K, &space);
        if (!sums)
            add_all(task, &space, row, q, s, 0, 0, 0);
        double total = 0.0;
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const int64_t of = row * task->n_channels + channel;
            const REAL *own = sums ? sums + of * size : (REAL *)space.sums + channel * size;
            total += find_fields(
                &space, K + row * n_K, 0, own, 0,
                task->atoms[0] == 0 && to_K ? to_K + row * n_K : 0, 0);
            for (int64_t atom = task->atoms[0]; atom < task->atoms[1]; atom += ATOMS) {
                const int64_t left = task->atoms[1] - atom, count = left < ATOMS ? left : ATOMS;
                place_all(task, s + (row * n + atom) * 3, count, 2, &space);
                gather_lines(&space, 2, space.fields);
                for (int64_t i = 0; i < count; i++) {
                    const REAL own = q[of * n + atom + i];
                    REAL *gradient = to_s + (row * n + atom + i) * 3;
                    to_q[of * n + atom + i] =
                        (REAL)(along_z(&space, 0, 0, i) + 2.0 * task->of_squares * own);
                    gradient[0] += own * along_z(&space, 1, 0, i);
                    gradient[1] += own * along_z(&space, 2, 0, i);
                    gradient[2] += own * along_z(&space, 0, 1, i);
                }
            }
        }
        if (task->atoms[0] != 0)
            continue;
        double squares = 0.0;
        for (int64_t i = row * task->n_channels * n; i < (row + 1) * task->n_channels * n; i++)
            squares += (double)q[i] * q[i];
        energy[row] = (REAL)(total + task->of_squares * squares);
    }
}

/* Derivatives by q, s and K of what first derivatives change by in the direction (vq, vs, vK), zero
   before, and the first derivatives by s and K. Those by K may be NULL, and the first ones, too. */
void les_waves_second(
    const Task *task, REAL *memory, const REAL *q, const REAL *s, const REAL *K, const REAL *vq,
    const REAL *vs, const REAL *vK, const REAL *sums, const REAL *changes, REAL *to_q, REAL *to_s,
    REAL *to_K, REAL *first_s, REAL *first_K)
{
    Space space = divide(task, memory);
    const int64_t size = space.n1 * space.n2 * space.v3 * LANES, n = task->n_atoms;
    const int64_t n_K = space.n1 * space.n2 * space.n3 / 2;
    memset(space.fields, 0, (size_t)(2 * size) * sizeof(REAL));
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        find_reach(K + row * n_K, &space);
        if (!sums)
            add_all(task, &space, row, q, s, vq, vs, 1);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const int64_t of = row * task->n_channels + channel;
            const REAL *own = sums ? sums + of * size : (REAL *)space.sums + channel * size;
            const REAL *change = sums ? changes + of * size : own + task->n_channels * size;
            find_fields(
                &space, K + row * n_K, vK + row * n_K, own, change,
                task->atoms[0] == 0 && first_K ? first_K + row * n_K : 0,
                task->atoms[0] == 0 && to_K ? to_K + row * n_K : 0);
            for (int64_t atom = task->atoms[0]; atom < task->atoms[1]; atom += ATOMS) {
                const int64_t left = task->atoms[1] - atom, count = left < ATOMS ? left : ATOMS;
                place_all(task, s + (row * n + atom) * 3, count, 3, &space);
                gather_lines(&space, 3, space.fields);
                for (int64_t i = 0; i < count; i++) {
                    const REAL own = q[of * n + atom + i], change = vq[of * n + atom + i];
                    const REAL *step = vs + (row * n + atom + i) * 3;
                    REAL *gradient = to_s + (row * n + atom + i) * 3;
                    const REAL x = along_z(&space, 1, 0, i), y = along_z(&space, 2, 0, i);
                    const REAL z = along_z(&space, 0, 1, i), xx = along_z(&space, 3, 0, i);
                    const REAL xy = along_z(&space, 4, 0, i), yy = along_z(&space, 5, 0, i);
                    const REAL xz = along_z(&space, 1, 1, i), yz = along_z(&space, 2, 1, i);
                    const REAL zz = along_z(&space, 0, 2, i);
                    if (first_s) {
                        REAL *first = first_s + (row * n + atom + i) * 3;
                        first[0] += own * x, first[1] += own * y, first[2] += own * z;
                    }
                    to_q[of * n + atom + i] = (REAL)(
                        step[0] * x + step[1] * y + step[2] * z + 2.0 * task->of_squares * change);
                    gradient[0] +=
                        change * x + own * (step[0] * xx + step[1] * xy + step[2] * xz);
                    gradient[1] +=
                        change * y + own * (step[0] * xy + step[1] * yy + step[2] * yz);
                    gradient[2] +=
                        change * z + own * (step[0] * xz + step[1] * yz + step[2] * zz);
                }
                gather_lines(&space, 2, space.fields + size / LANES);
                for (int64_t i = 0; i < count; i++) {
                    const REAL own = q[of * n + atom + i];
                    REAL *gradient = to_s + (row * n + atom + i) * 3;
                    to_q[of * n + atom + i] += along_z(&space, 0, 0, i);
                    gradient[0] += own * along_z(&space, 1, 0, i);
                    gradient[1] += own * along_z(&space, 2, 0, i);
                    gradient[2] += own * along_z(&space, 0, 1, i);
                }
            }
        }
    }
}
