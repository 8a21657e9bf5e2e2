/* Spreading and gathering with B-splines, as les/spreading.py does it with operations of torch.

   Compiled once for each REAL. The splines of an atom are REAL[order] along each axis; with
   derivatives d = (d1, d2, d3),

     mesh[a][b][c] += sum_d value_d x^(d1)[a] y^(d2)[b] z^(d3)[c],

   summed from the last axis, which is contiguous in memory, to the first. */

#include <math.h>
#include <stdint.h>

/* MOST is the largest order and number of derivatives along an axis, MOST_LIST the length of the
   longest list of derivatives. */
typedef struct {
    int64_t n_atoms, n_channels, n_derivatives;
    int64_t order, heights;    /* heights: number of derivatives along an axis, from 0 on */
    int64_t size[3];           /* mesh points along each axis */
    int64_t n_structures;
    int64_t first, last;       /* planes of the first axis (spread) or atoms (gather) to do */
    const int64_t *owner;      /* mesh of each atom, or NULL for one mesh */
    const int64_t *derivatives; /* [n_derivatives][3] */
} Task;

/* Derivatives along the first two axes that occur together in a list [n][3], and which of these
   pairs each one of the list has; returns the number of pairs. */
static inline int64_t find_pairs(
    int64_t n, const int64_t *derivatives, int64_t *first, int64_t *second, int64_t *pair_of)
{
    int64_t n_pairs = 0;
    for (int64_t d = 0; d < n; d++) {
        int64_t found = 0;
        first[n_pairs] = derivatives[3 * d];
        second[n_pairs] = derivatives[3 * d + 1];
        while (first[found] != first[n_pairs] || second[found] != second[n_pairs])
            found++;
        n_pairs += found == n_pairs;
        pair_of[d] = found;
    }
    return n_pairs;
}

typedef struct {
    REAL splines[3][MOST][MOST];  /* [axis][derivative][point] */
    int64_t offset[3][MOST];      /* of each point in the mesh */
    int64_t plane[MOST];          /* points along the first axis */
    int consecutive;              /* whether the points along the last axis are neighbours */
} Stencil;

/* polynomials: [heights][power][point], for t from the middle of a piece. */
static inline __attribute__((always_inline)) void place(
    const Task *task, const REAL *polynomials, const REAL *fractional, int64_t atom, const int p,
    Stencil *stencil)
{
    const int64_t strides[3] = {task->size[1] * task->size[2], task->size[2], 1};
    for (int axis = 0; axis < 3; axis++) {
        const int64_t size = task->size[axis];
        const REAL s = fractional[axis * task->n_atoms + atom];
        const REAL scaled = (s - FLOOR(s)) * (REAL)size, below = FLOOR(scaled);
        const REAL t = scaled - below - (REAL)0.5;
        REAL scale = 1;
        for (int64_t height = 0; height < task->heights; height++) {
            const REAL *piece = polynomials + height * p * p;
            REAL value[MOST];
            for (int a = 0; a < p; a++)
                value[a] = piece[(p - 1) * p + a];
            for (int power = p - 2; power >= 0; power--)
                for (int a = 0; a < p; a++)
                    value[a] = value[a] * t + piece[power * p + a];
            for (int a = 0; a < p; a++)
                stencil->splines[axis][height][a] = scale * value[a];
            scale *= (REAL)size;
        }
        /* A mesh may be smaller than a spline. */
        int64_t point = ((int64_t)below - (p - 1)) % size;
        point += point < 0 ? size : 0;
        if (axis == 2)
            stencil->consecutive = point + p <= size;
        for (int a = 0; a < p; a++) {
            stencil->offset[axis][a] = point * strides[axis];
            if (axis == 0)
                stencil->plane[a] = point;
            point = point + 1 < size ? point + 1 : 0;
        }
    }
}

static inline __attribute__((always_inline)) void spread(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *values,
    REAL *mesh, const int p)
{
    const int64_t n = task->n_atoms, volume = task->size[0] * task->size[1] * task->size[2];
    int64_t first[MOST_LIST], second[MOST_LIST], pair_of[MOST_LIST];
    const int64_t n_pairs =
        find_pairs(task->n_derivatives, task->derivatives, first, second, pair_of);
    Stencil stencil;
    for (int64_t atom = 0; atom < n; atom++) {
        place(task, polynomials, fractional, atom, p, &stencil);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const int64_t own = task->owner ? task->owner[atom] : 0;
            REAL *structure = mesh + (channel * task->n_structures + own) * volume;
            REAL along_z[MOST_LIST][MOST];
            for (int64_t pair = 0; pair < n_pairs; pair++)
                for (int c = 0; c < p; c++)
                    along_z[pair][c] = 0;
            for (int64_t d = 0; d < task->n_derivatives; d++) {
                const REAL value = values[(d * task->n_channels + channel) * n + atom];
                const REAL *z = stencil.splines[2][task->derivatives[3 * d + 2]];
                for (int c = 0; c < p; c++)
                    along_z[pair_of[d]][c] += value * z[c];
            }
            for (int a = 0; a < p; a++) {
                if (stencil.plane[a] < task->first || stencil.plane[a] >= task->last)
                    continue;
                REAL in_plane[MOST][MOST];  /* [d2][c] */
                for (int64_t height = 0; height < task->heights; height++)
                    for (int c = 0; c < p; c++)
                        in_plane[height][c] = 0;
                for (int64_t pair = 0; pair < n_pairs; pair++) {
                    const REAL x = stencil.splines[0][first[pair]][a];
                    for (int c = 0; c < p; c++)
                        in_plane[second[pair]][c] += x * along_z[pair][c];
                }
                for (int b = 0; b < p; b++) {
                    REAL row[MOST];
                    for (int c = 0; c < p; c++)
                        row[c] = stencil.splines[1][0][b] * in_plane[0][c];
                    for (int64_t height = 1; height < task->heights; height++)
                        for (int c = 0; c < p; c++)
                            row[c] += stencil.splines[1][height][b] * in_plane[height][c];
                    REAL *line = structure + stencil.offset[0][a] + stencil.offset[1][b];
                    if (stencil.consecutive) {
                        line += stencil.offset[2][0];
                        for (int c = 0; c < p; c++)
                            line[c] += row[c];
                    } else {
                        for (int c = 0; c < p; c++)
                            line[stencil.offset[2][c]] += row[c];
                    }
                }
            }
        }
    }
}

static inline __attribute__((always_inline)) void gather(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *mesh,
    REAL *values, const int p)
{
    const int64_t n = task->n_atoms, volume = task->size[0] * task->size[1] * task->size[2];
    int64_t first[MOST_LIST], second[MOST_LIST], pair_of[MOST_LIST];
    const int64_t n_pairs =
        find_pairs(task->n_derivatives, task->derivatives, first, second, pair_of);
    Stencil stencil;
    for (int64_t atom = task->first; atom < task->last; atom++) {
        place(task, polynomials, fractional, atom, p, &stencil);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const int64_t own = task->owner ? task->owner[atom] : 0;
            const REAL *structure = mesh + (channel * task->n_structures + own) * volume;
            REAL along_z[MOST_LIST][MOST];
            for (int64_t pair = 0; pair < n_pairs; pair++)
                for (int c = 0; c < p; c++)
                    along_z[pair][c] = 0;
            for (int a = 0; a < p; a++) {
                REAL in_plane[MOST][MOST];  /* [d2][c] */
                for (int64_t height = 0; height < task->heights; height++)
                    for (int c = 0; c < p; c++)
                        in_plane[height][c] = 0;
                for (int b = 0; b < p; b++) {
                    const REAL *line = structure + stencil.offset[0][a] + stencil.offset[1][b];
                    REAL row[MOST];
                    if (stencil.consecutive) {
                        line += stencil.offset[2][0];
                        for (int c = 0; c < p; c++)
                            row[c] = line[c];
                    } else {
                        for (int c = 0; c < p; c++)
                            row[c] = line[stencil.offset[2][c]];
                    }
                    for (int64_t height = 0; height < task->heights; height++)
                        for (int c = 0; c < p; c++)
                            in_plane[height][c] += stencil.splines[1][height][b] * row[c];
                }
                for (int64_t pair = 0; pair < n_pairs; pair++) {
                    const REAL x = stencil.splines[0][first[pair]][a];
                    for (int c = 0; c < p; c++)
                        along_z[pair][c] += x * in_plane[second[pair]][c];
                }
            }
            for (int64_t d = 0; d < task->n_derivatives; d++) {
                const REAL *z = stencil.splines[2][task->derivatives[3 * d + 2]];
                REAL value = 0;
#pragma omp simd reduction(+ : value)
                for (int c = 0; c < p; c++)
                    value += z[c] * along_z[pair_of[d]][c];
                values[(d * task->n_channels + channel) * n + atom] = value;
            }
        }
    }
}

/* The compiler unrolls each order. */
#define FOR_EACH_ORDER(action, ...)            \
    switch (task->order) {                     \
    case 4: action(task, __VA_ARGS__, 4); break; \
    case 5: action(task, __VA_ARGS__, 5); break; \
    case 6: action(task, __VA_ARGS__, 6); break; \
    case 7: action(task, __VA_ARGS__, 7); break; \
    case 8: action(task, __VA_ARGS__, 8); break; \
    }

void les_spread(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *values,
    REAL *mesh)
{
    FOR_EACH_ORDER(spread, polynomials, fractional, values, mesh)
}

void les_gather(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *mesh,
    REAL *values)
{
    FOR_EACH_ORDER(gather, polynomials, fractional, mesh, values)
}
