/* Spreading and gathering with B-splines, as les/sums/bases/splines.py does it with operations of torch.

   Compiled once for each REAL. The splines of an atom are REAL[order] along each axis; with
   derivatives d = (d1, d2, d3),

     mesh[a][b][c] += sum_d value_d x^(d1)[a] y^(d2)[b] z^(d3)[c],

   summed from the last axis, which is contiguous in memory, to the first. */

#include <math.h>
#include <stdint.h>

/* MOST is the largest order and number of derivatives along an axis. */
typedef struct {
    int64_t n_atoms, n_channels, n_derivatives;
    int64_t order, heights;    /* heights: number of derivatives along an axis, from 0 on */
    int64_t size[3];           /* mesh points along each axis */
    int64_t n_structures;
    int64_t first, last;       /* planes of the first axis (spread) or atoms (gather) to do */
    const int64_t *owner;      /* mesh of each atom, or NULL for one mesh */
    const int64_t *derivatives; /* [n_derivatives][3] */
} Task;

typedef struct {
    REAL splines[3][MOST][MOST];  /* [axis][derivative][point] */
    int64_t offset[2][MOST];      /* of each point in the mesh, along the first two axes */
    int64_t plane[MOST];          /* points along the first axis */
    int64_t start, n_before;      /* along the last one: the first, and how many until the end */
} Stencil;

/* polynomials: [heights][power][point], for t from the middle of a piece. */
static inline __attribute__((always_inline)) void place(
    const Task *task, const REAL *polynomials, const REAL *fractional, int64_t atom, const int p,
    const int64_t heights, Stencil *stencil)
{
    const int64_t strides[3] = {task->size[1] * task->size[2], task->size[2], 1};
    for (int axis = 0; axis < 3; axis++) {
        const int64_t size = task->size[axis];
        const REAL s = fractional[axis * task->n_atoms + atom];
        const REAL scaled = (s - FLOOR(s)) * (REAL)size, below = FLOOR(scaled);
        const REAL t = scaled - below - (REAL)0.5;
        REAL scale = 1;
        for (int64_t height = 0; height < heights; height++) {
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
        if (axis == 2) {
            stencil->start = point;
            stencil->n_before = size - point;
        }
        for (int a = 0; axis < 2 && a < p; a++) {
            stencil->offset[axis][a] = point * strides[axis];
            if (axis == 0)
                stencil->plane[a] = point;
            point = point + 1 < size ? point + 1 : 0;
        }
    }
}

static inline __attribute__((always_inline)) void spread(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *values,
    REAL *mesh, const int p, const int64_t heights)
{
    const int64_t n = task->n_atoms, size = task->size[2];
    const int64_t volume = task->size[0] * task->size[1] * size;
    Stencil stencil;
    for (int64_t atom = 0; atom < n; atom++) {
        place(task, polynomials, fractional, atom, p, heights, &stencil);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const int64_t own = task->owner ? task->owner[atom] : 0;
            REAL *structure = mesh + (channel * task->n_structures + own) * volume;
            REAL along_z[MOST][MOST][MOST];  /* [d1][d2][c] */
            for (int64_t i = 0; i < heights; i++)
                for (int64_t j = 0; j < heights; j++)
                    for (int c = 0; c < p; c++)
                        along_z[i][j][c] = 0;
            for (int64_t d = 0; d < task->n_derivatives; d++) {
                const REAL value = values[(d * task->n_channels + channel) * n + atom];
                const int64_t *times = task->derivatives + 3 * d;
                for (int c = 0; c < p; c++)
                    along_z[times[0]][times[1]][c] += value * stencil.splines[2][times[2]][c];
            }
            for (int a = 0; a < p; a++) {
                if (stencil.plane[a] < task->first || stencil.plane[a] >= task->last)
                    continue;
                REAL in_plane[MOST][MOST];  /* [d2][c] */
                for (int64_t j = 0; j < heights; j++) {
                    for (int c = 0; c < p; c++)
                        in_plane[j][c] = stencil.splines[0][0][a] * along_z[0][j][c];
                    for (int64_t i = 1; i < heights; i++)
                        for (int c = 0; c < p; c++)
                            in_plane[j][c] += stencil.splines[0][i][a] * along_z[i][j][c];
                }
                for (int b = 0; b < p; b++) {
                    REAL row[MOST];
                    for (int c = 0; c < p; c++)
                        row[c] = stencil.splines[1][0][b] * in_plane[0][c];
                    for (int64_t height = 1; height < heights; height++)
                        for (int c = 0; c < p; c++)
                            row[c] += stencil.splines[1][height][b] * in_plane[height][c];
                    REAL *line =
                        structure + stencil.offset[0][a] + stencil.offset[1][b] + stencil.start;
                    if (stencil.n_before >= p) {
                        for (int c = 0; c < p; c++)
                            line[c] += row[c];
                    } else if (size >= p) {
                        for (int c = 0; c < p; c++)
                            if (c < stencil.n_before)
                                line[c] += row[c];
                        for (int c = 0; c < p; c++)
                            if (c >= stencil.n_before)
                                line[c - size] += row[c];
                    } else {
                        for (int c = 0; c < p; c++)
                            line[(stencil.start + c) % size - stencil.start] += row[c];
                    }
                }
            }
        }
    }
}

static inline __attribute__((always_inline)) void gather(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *mesh,
    REAL *values, const int p, const int64_t heights)
{
    const int64_t n = task->n_atoms, size = task->size[2];
    const int64_t volume = task->size[0] * task->size[1] * size;
    Stencil stencil;
    for (int64_t atom = task->first; atom < task->last; atom++) {
        place(task, polynomials, fractional, atom, p, heights, &stencil);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const int64_t own = task->owner ? task->owner[atom] : 0;
            const REAL *structure = mesh + (channel * task->n_structures + own) * volume;
            REAL along_z[MOST][MOST][MOST];  /* [d1][d2][c] */
            for (int64_t i = 0; i < heights; i++)
                for (int64_t j = 0; j < heights; j++)
                    for (int c = 0; c < p; c++)
                        along_z[i][j][c] = 0;
            for (int a = 0; a < p; a++) {
                REAL in_plane[MOST][MOST];  /* [d2][c] */
                for (int64_t height = 0; height < heights; height++)
                    for (int c = 0; c < p; c++)
                        in_plane[height][c] = 0;
                for (int b = 0; b < p; b++) {
                    const REAL *line =
                        structure + stencil.offset[0][a] + stencil.offset[1][b] + stencil.start;
                    REAL row[MOST];
                    if (stencil.n_before >= p) {
                        for (int c = 0; c < p; c++)
                            row[c] = line[c];
                    } else if (size >= p) {
                        for (int c = 0; c < p; c++)
                            row[c] = line[c < stencil.n_before ? c : c - size];
                    } else {
                        for (int c = 0; c < p; c++)
                            row[c] = line[(stencil.start + c) % size - stencil.start];
                    }
                    for (int64_t height = 0; height < heights; height++)
                        for (int c = 0; c < p; c++)
                            in_plane[height][c] += stencil.splines[1][height][b] * row[c];
                }
                for (int64_t i = 0; i < heights; i++)
                    for (int64_t j = 0; j < heights; j++)
                        for (int c = 0; c < p; c++)
                            along_z[i][j][c] += stencil.splines[0][i][a] * in_plane[j][c];
            }
            for (int64_t d = 0; d < task->n_derivatives; d++) {
                const int64_t *times = task->derivatives + 3 * d;
                REAL value = 0;
#pragma omp simd reduction(+ : value)
                for (int c = 0; c < p; c++)
                    value += stencil.splines[2][times[2]][c] * along_z[times[0]][times[1]][c];
                values[(d * task->n_channels + channel) * n + atom] = value;
            }
        }
    }
}

/* The compiler unrolls the orders and usual numbers of derivatives. */
#define OF_ORDER(action, H, P, ...)                         \
    if (task->order == P && task->heights == H) {           \
        action(task, __VA_ARGS__, P, H);                    \
        return;                                             \
    }

#define OF_HEIGHTS(action, H, ...)        \
    OF_ORDER(action, H, 4, __VA_ARGS__)   \
    OF_ORDER(action, H, 5, __VA_ARGS__)   \
    OF_ORDER(action, H, 6, __VA_ARGS__)   \
    OF_ORDER(action, H, 7, __VA_ARGS__)   \
    OF_ORDER(action, H, 8, __VA_ARGS__)

#define UNROLLED(action, ...)           \
    OF_HEIGHTS(action, 1, __VA_ARGS__)  \
    OF_HEIGHTS(action, 2, __VA_ARGS__)  \
    OF_HEIGHTS(action, 3, __VA_ARGS__)  \
    action(task, __VA_ARGS__, (int)task->order, task->heights);

void les_spread(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *values,
    REAL *mesh)
{
    UNROLLED(spread, polynomials, fractional, values, mesh)
}

void les_gather(
    const Task *task, const REAL *polynomials, const REAL *fractional, const REAL *mesh,
    REAL *values)
{
    UNROLLED(gather, polynomials, fractional, mesh, values)
}
