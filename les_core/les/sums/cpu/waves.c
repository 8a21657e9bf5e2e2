/* Energies of sources and a Green's function, sum_k K(k) |S(k)|^2 + c sum_i q_i^2, with first
   derivatives, and the products of their second derivatives with vectors; see les/sums/cpu/waves.py.

   Sources of an atom multiply its waves and their derivatives up to some order: 1 charge, with 3 of a
   dipole, with 6 of a quadrupole, in the order below. Arrays of them are [row][source][channel][atom]. */

#include "waves.h"

static const int SOURCES[10][3] = {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {2, 0, 0},
                                   {0, 2, 0}, {0, 0, 2}, {1, 1, 0}, {1, 0, 1}, {0, 1, 1}};

#define EACH_SOURCE(source, order) \
    for (int source = 0; source < N_DERIVATIVES((order) + 1); source++)

/* Place of the derivative that a source multiplies, and of its derivatives along one and two axes. */
INLINE int place_once(int source, int a)
{
    const int *own = SOURCES[source];
    return place_of(own[0] + (a == 0), own[1] + (a == 1), own[2] + (a == 2));
}

INLINE int place_twice(int source, int a, int b)
{
    const int *own = SOURCES[source];
    return place_of(
        own[0] + (a == 0) + (b == 0), own[1] + (a == 1) + (b == 1), own[2] + (a == 2) + (b == 2));
}

INLINE int place_at(int source)
{
    return place_once(source, 3);
}

int64_t les_waves_space(const Task *task)
{
    return numbers_of_memory(task);
}

/* Sums over atoms of a row, of their sources q, and where there are changes, of the derivative in the
   direction (vq, vs). All are zero before.

   s, vs: [row][atom][3]; sums, changes: [channel][n1][n2][n3]. */
static void add_row(
    const Task *task, const Space *space, int64_t row, const REAL *q, const REAL *s,
    const REAL *vq, const REAL *vs, Vector *sums, Vector *changes)
{
    const int order = (int)task->order;
    const int64_t size = space->n1 * space->n2 * space->v3, n = task->n_atoms;
    const int64_t n_columns = N_DERIVATIVES(order + 1) * task->n_channels;
    for (int64_t atom = task->atoms[0]; atom < task->atoms[1]; atom += ATOMS) {
        const int64_t left = task->atoms[1] - atom, count = left < ATOMS ? left : ATOMS;
        if (changes)
            place_all(task, s + (row * n + atom) * 3, count, order + 2, space);
        else
            place_all(task, s + (row * n + atom) * 3, count, order + 1, space);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            REAL own[N_DERIVATIVES(3)][ATOMS], moved[N_DERIVATIVES(4)][ATOMS];
            memset(own, 0, sizeof own);
            memset(moved, 0, sizeof moved);
            EACH_SOURCE (source, order) {
                const int64_t first =
                    (row * n_columns + source * task->n_channels + channel) * n + atom;
                for (int64_t i = 0; i < count; i++) {
                    own[place_at(source)][i] = q[first + i];
                    if (!changes)
                        continue;
                    const REAL *step = vs + (row * n + atom + i) * 3;
                    moved[place_at(source)][i] += vq[first + i];
                    for (int a = 0; a < 3; a++)
                        moved[place_once(source, a)][i] += step[a] * q[first + i];
                }
            }
            spread(space, order + 1, own, sums + channel * size);
            if (changes)
                spread(space, order + 2, moved, changes + channel * size);
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
   be NULL, by the first share of the atoms alone. The sums [row][channel][n1][n2][n3] are needed with
   shares only. */
void les_waves_first(
    const Task *task, REAL *memory, const REAL *q, const REAL *s, const REAL *K, const REAL *sums,
    REAL *energy, REAL *to_q, REAL *to_s, REAL *to_K)
{
    Space space = divide(task, memory);
    const int64_t size = space.n1 * space.n2 * space.v3 * LANES, n = task->n_atoms;
    const int order = (int)task->order;
    const int64_t n_K = space.n1 * space.n2 * space.n3 / 2, n_channels = task->n_channels;
    const int64_t n_columns = N_DERIVATIVES(order + 1) * n_channels;
    memset(space.fields, 0, (size_t)size * sizeof(REAL));
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        find_reach(K + row * n_K, &space);
        if (!sums)
            add_all(task, &space, row, q, s, 0, 0, 0);
        double total = 0.0;
        for (int64_t channel = 0; channel < n_channels; channel++) {
            const REAL *own = sums ? sums + (row * n_channels + channel) * size
                                   : (REAL *)space.sums + channel * size;
            total += find_fields(
                &space, K + row * n_K, 0, own, 0,
                task->atoms[0] == 0 && to_K ? to_K + row * n_K : 0, 0);
            for (int64_t atom = task->atoms[0]; atom < task->atoms[1]; atom += ATOMS) {
                const int64_t left = task->atoms[1] - atom, count = left < ATOMS ? left : ATOMS;
                place_all(task, s + (row * n + atom) * 3, count, order + 2, &space);
                gather(&space, order + 2, space.fields);
                for (int64_t i = 0; i < count; i++) {
                    REAL *gradient = to_s + (row * n + atom + i) * 3;
                    REAL field[N_DERIVATIVES(4)];
                    values_of(&space, order + 2, i, field);
                    EACH_SOURCE (source, order) {
                        const int64_t place =
                            (row * n_columns + source * n_channels + channel) * n + atom + i;
                        const REAL strength = q[place];
                        to_q[place] =
                            (REAL)(field[place_at(source)] + 2.0 * task->of_squares * strength);
                        for (int a = 0; a < 3; a++)
                            gradient[a] += strength * field[place_once(source, a)];
                    }
                }
            }
        }
        if (task->atoms[0] != 0)
            continue;
        double squares = 0.0;
        for (int64_t i = row * n_columns * n; i < (row + 1) * n_columns * n; i++)
            squares += (double)q[i] * q[i];
        energy[row] = (REAL)(total + task->of_squares * squares);
    }
}

/* Derivatives by q, s and K of what first derivatives change by in the direction (vq, vs, vK), zero
   before, and the first derivatives, without those of squares. Those by K may be NULL, and the first
   ones, too. */
void les_waves_second(
    const Task *task, REAL *memory, const REAL *q, const REAL *s, const REAL *K, const REAL *vq,
    const REAL *vs, const REAL *vK, const REAL *sums, const REAL *changes, REAL *to_q, REAL *to_s,
    REAL *to_K, REAL *first_q, REAL *first_s, REAL *first_K)
{
    Space space = divide(task, memory);
    const int64_t size = space.n1 * space.n2 * space.v3 * LANES, n = task->n_atoms;
    const int order = (int)task->order;
    const int64_t n_K = space.n1 * space.n2 * space.n3 / 2, n_channels = task->n_channels;
    const int64_t n_columns = N_DERIVATIVES(order + 1) * n_channels;
    memset(space.fields, 0, (size_t)(2 * size) * sizeof(REAL));
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        find_reach(K + row * n_K, &space);
        if (!sums)
            add_all(task, &space, row, q, s, vq, vs, 1);
        for (int64_t channel = 0; channel < n_channels; channel++) {
            const int64_t of = row * n_channels + channel;
            const REAL *own = sums ? sums + of * size : (REAL *)space.sums + channel * size;
            const REAL *change = sums ? changes + of * size : own + n_channels * size;
            find_fields(
                &space, K + row * n_K, vK + row * n_K, own, change,
                task->atoms[0] == 0 && first_K ? first_K + row * n_K : 0,
                task->atoms[0] == 0 && to_K ? to_K + row * n_K : 0);
            for (int64_t atom = task->atoms[0]; atom < task->atoms[1]; atom += ATOMS) {
                const int64_t left = task->atoms[1] - atom, count = left < ATOMS ? left : ATOMS;
                place_all(task, s + (row * n + atom) * 3, count, order + 3, &space);
                gather(&space, order + 3, space.fields);
                REAL field[ATOMS][N_DERIVATIVES(5)], changed[N_DERIVATIVES(4)];
                for (int64_t i = 0; i < count; i++)
                    values_of(&space, order + 3, i, field[i]);
                gather(&space, order + 2, space.fields + size / LANES);
                for (int64_t i = 0; i < count; i++) {
                    const REAL *step = vs + (row * n + atom + i) * 3;
                    REAL *gradient = to_s + (row * n + atom + i) * 3;
                    values_of(&space, order + 2, i, changed);
                    EACH_SOURCE (source, order) {
                        const int64_t place =
                            (row * n_columns + source * n_channels + channel) * n + atom + i;
                        const REAL strength = q[place], strength_change = vq[place];
                        REAL along = changed[place_at(source)];
                        if (first_q)
                            first_q[place] = field[i][place_at(source)];
                        for (int a = 0; a < 3; a++) {
                            const REAL slope = field[i][place_once(source, a)];
                            REAL slope_change = changed[place_once(source, a)];
                            for (int b = 0; b < 3; b++)
                                slope_change += step[b] * field[i][place_twice(source, a, b)];
                            along += step[a] * slope;
                            gradient[a] += strength_change * slope + strength * slope_change;
                            if (first_s)
                                first_s[(row * n + atom + i) * 3 + a] += strength * slope;
                        }
                        to_q[place] = (REAL)(along + 2.0 * task->of_squares * strength_change);
                    }
                }
            }
        }
    }
}

