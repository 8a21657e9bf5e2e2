/* Between positions in cells and what waves.c takes: coordinates s = R r with reciprocal vectors R,
   and the Green's function K(k^2), k = 2 pi R^T n, per volume, with the multiplicity of n and a
   prefactor. With small changes of positions and cell, R changes by -R dA^T R for vectors A of the
   cell. See les/sums/cpu/cells.py. */

#include <math.h>
#include <stdint.h>

#include "cell.h"
#include "greens.h"

#define TWO_PI 6.283185307179586

typedef struct {
    int64_t n_rows, n_atoms;
    int64_t extent[3];
    int64_t rows[2]; /* first one to do, and the one behind the last */
    double prefactor; /* of the Green's function */
    Greens greens;
} Task;

/* A k-point. */
typedef struct {
    double k[3], squared, factor; /* factor: prefactor and multiplicity per volume */
    double along[3];              /* products with the reciprocal vectors */
    double k_change[3], squared_change, along_change[3];
} Point;

/* Whether the Green's function is not zero there. */
static inline __attribute__((always_inline)) int find_point(
    const Task *task, const Cell *cell, int64_t sign, int64_t n1, int64_t n2, int64_t n3,
    const int changes, Point *point)
{
    const double n[3] = {
        (double)(sign < 2 ? n1 : -n1), (double)n2, (double)(sign % 2 == 0 ? n3 : -n3)};
    const int n_zeros = (n1 == 0) + (n2 == 0) + (n3 == 0);
    point->squared = 0.0;
    for (int i = 0; i < 3; i++) {
        const double (*R)[3] = cell->reciprocal;
        point->k[i] = TWO_PI * (n[0] * R[0][i] + n[1] * R[1][i] + n[2] * R[2][i]);
        point->squared += point->k[i] * point->k[i];
    }
    if (n_zeros == 3 || point->squared > task->greens.end)
        return 0;
    point->factor = 2.0 * task->prefactor / ((double)(1 << n_zeros) * cell->volume);
    for (int a = 0; a < 3; a++) {
        point->along[a] = 0.0;
        for (int i = 0; i < 3; i++)
            point->along[a] += cell->reciprocal[a][i] * point->k[i];
    }
    if (!changes)
        return 1;
    double stretch[3];
    point->squared_change = 0.0;
    for (int a = 0; a < 3; a++) {
        stretch[a] = 0.0;
        for (int i = 0; i < 3; i++)
            stretch[a] += cell->direction[a][i] * point->k[i];
        point->squared_change -= 2.0 * point->along[a] * stretch[a];
    }
    for (int i = 0; i < 3; i++) {
        point->k_change[i] = 0.0;
        for (int a = 0; a < 3; a++)
            point->k_change[i] -= cell->reciprocal[a][i] * stretch[a];
    }
    for (int a = 0; a < 3; a++) {
        point->along_change[a] = 0.0;
        for (int i = 0; i < 3; i++)
            point->along_change[a] += cell->change[a][i] * point->k[i] +
                                      cell->reciprocal[a][i] * point->k_change[i];
    }
    return 1;
}

#define EACH_POINT(task, sign, a, b, c)                    \
    for (int64_t sign = 0; sign < 4; sign++)               \
    for (int64_t a = 0; a <= (task)->extent[0]; a++)       \
    for (int64_t b = 0; b <= (task)->extent[1]; b++)       \
    for (int64_t c = 0; c <= (task)->extent[2]; c++)

/* Coordinate of an atom along one axis, from that of another one: energies do not depend on which,
   but float32 has only so many digits. */
static inline double coordinate(const double *R, const REAL *r, const REAL *origin)
{
    double sum = 0.0;
    for (int i = 0; i < 3; i++)
        sum += R[i] * ((double)r[i] - (double)origin[i]);
    return sum;
}

/* s and K of positions r and cells A, [row][atom][3] and [row][3][3], and where there is a vr, what
   they change by in the direction (vr, vA); vA may be NULL. s is wrapped before it is rounded, so
   that phases are exact far away from the cell. */
void les_cells_enter(
    const Task *task, const REAL *r, const REAL *A, const REAL *vr, const REAL *vA, REAL *s, REAL *K,
    REAL *vs, REAL *vK)
{
    const int64_t n = task->n_atoms;
    const int64_t n_K = 4 * (task->extent[0] + 1) * (task->extent[1] + 1) * (task->extent[2] + 1);
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        const Cell cell = make_cell(A + 9 * row, vA ? vA + 9 * row : 0);
        const REAL *origin = r + 3 * row * n, *origin_change = vr ? vr + 3 * row * n : 0;
        for (int64_t atom = row * n; atom < (row + 1) * n; atom++)
            for (int a = 0; a < 3; a++) {
                const double *R = cell.reciprocal[a], *change = cell.change[a];
                const REAL *x = r + 3 * atom;
                const double place = coordinate(R, x, origin);
                s[3 * atom + a] = (REAL)(place - rint(place));
                if (vr) {
                    const REAL *v = vr + 3 * atom;
                    vs[3 * atom + a] =
                        (REAL)(coordinate(R, v, origin_change) + coordinate(change, x, origin));
                }
            }
        int64_t i = row * n_K;
        EACH_POINT(task, sign, a, b, c) {
            Point point;
            double value = 0.0, value_change = 0.0;
            if (find_point(task, &cell, sign, a, b, c, vA != 0, &point)) {
                value = point.factor * greens_derivative(&task->greens, 0, point.squared);
                if (vA)
                    value_change =
                        point.factor * greens_derivative(&task->greens, 1, point.squared) *
                            point.squared_change -
                        value * cell.log_volume;
            }
            K[i] = (REAL)value;
            if (vr)
                vK[i] = (REAL)value_change;
            i++;
        }
    }
}

/* The way back: derivatives by r and A from those by s and K, to_s and to_K; or, with changes of
   these and of s in a direction, their changes. Without cells, to_A, to_K and its change are NULL.
   When cells change with the atoms where they are, it matters in which image of the cell these are. */
void les_cells_leave(
    const Task *task, const REAL *A, const REAL *vA, const REAL *r, const REAL *vs, const REAL *to_s,
    const REAL *to_s_change, const REAL *to_K, const REAL *to_K_change, REAL *to_r, REAL *to_A)
{
    const int64_t n = task->n_atoms;
    const int64_t n_K = 4 * (task->extent[0] + 1) * (task->extent[1] + 1) * (task->extent[2] + 1);
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        const Cell cell = make_cell(A + 9 * row, vA ? vA + 9 * row : 0);
        const REAL *origin = r + 3 * row * n;
        double sum[3][3] = {{0.0}}, energy = 0.0, energy_change = 0.0;
        for (int64_t atom = row * n; atom < (row + 1) * n; atom++)
            for (int i = 0; i < 3; i++) {
                double own = 0.0, change = 0.0;
                for (int a = 0; a < 3; a++)
                    own += to_s[3 * atom + a] * cell.reciprocal[a][i];
                for (int a = 0; a < 3 && to_s_change; a++)
                    change += to_s_change[3 * atom + a] * cell.reciprocal[a][i] +
                              to_s[3 * atom + a] * cell.change[a][i];
                to_r[3 * atom + i] = (REAL)(to_s_change ? change : own);
                for (int a = 0; a < 3 && to_A; a++) {
                    const double s = coordinate(cell.reciprocal[a], r + 3 * atom, origin);
                    sum[a][i] -= to_s_change ? vs[3 * atom + a] * own + s * change : s * own;
                }
            }
        if (!to_A)
            continue;
        int64_t at = row * n_K;
        EACH_POINT(task, sign, a, b, c) {
            Point point;
            const int64_t place = at++;
            if (!find_point(task, &cell, sign, a, b, c, to_s_change != 0, &point))
                continue;
            const double value = point.factor * greens_derivative(&task->greens, 0, point.squared);
            const double slope = point.factor * greens_derivative(&task->greens, 1, point.squared);
            const double power = to_K[place], weight = -2.0 * power * slope;
            energy += power * value;
            if (!to_s_change) {
                for (int j = 0; j < 3; j++)
                    for (int i = 0; i < 3; i++)
                        sum[j][i] += weight * point.along[j] * point.k[i];
                continue;
            }
            const double curvature =
                point.factor * greens_derivative(&task->greens, 2, point.squared);
            const double power_change = to_K_change[place];
            const double value_change = slope * point.squared_change - value * cell.log_volume;
            const double slope_change = curvature * point.squared_change - slope * cell.log_volume;
            const double weight_change = -2.0 * (power_change * slope + power * slope_change);
            energy_change += power_change * value + power * value_change;
            for (int j = 0; j < 3; j++)
                for (int i = 0; i < 3; i++)
                    sum[j][i] += weight_change * point.along[j] * point.k[i] +
                                 weight * (point.along_change[j] * point.k[i] +
                                           point.along[j] * point.k_change[i]);
        }
        for (int j = 0; j < 3; j++)
            for (int i = 0; i < 3; i++) {
                sum[j][i] -= to_s_change ? energy_change * cell.reciprocal[j][i] +
                                               energy * cell.change[j][i]
                                         : energy * cell.reciprocal[j][i];
                to_A[9 * row + 3 * j + i] = (REAL)sum[j][i];
            }
    }
}
