/* Sources of atoms with respect to coordinates s = R r, with reciprocal vectors R of a cell, and the way
   back of their derivatives; see les/sums/cpu/sources.py.

   Sources are 1 charge, 3 numbers of a dipole u, and 6 of half a quadrupole, M = Q / 2: those of its
   diagonal, and twice those beside it. They become R u and R M R^T. Arrays are
   [row][source][channel][atom]. */

#include <math.h>
#include <stdint.h>

#include "cell.h"

typedef struct {
    int64_t n_rows, n_channels, n_atoms, n_sources;
    int64_t rows[2];      /* first one to do, and the one behind the last */
    double of_squares[3]; /* what squared charges, dipoles and numbers of Q are multiplied with in the
                             energies */
} Task;

/* Of an atom and a channel. */
typedef struct {
    double charge, dipole[3], matrix[3][3];
} Source;

static const int PAIRS[6][2] = {{0, 0}, {1, 1}, {2, 2}, {0, 1}, {0, 2}, {1, 2}};

/* The matrix of derivatives by the six numbers has each of them twice, as the matrix of the six has
   halves. */
static Source load(const Task *task, const REAL *values, int64_t step, const int are_derivatives)
{
    Source found = {values[0], {0.0}, {{0.0}}};
    for (int a = 0; a < 3; a++)
        found.dipole[a] = values[(1 + a) * step];
    for (int pair = 0; pair < 6 && task->n_sources > 4; pair++) {
        const int a = PAIRS[pair][0], b = PAIRS[pair][1];
        const double factor = a == b || are_derivatives ? 1.0 : 0.5;
        found.matrix[a][b] = found.matrix[b][a] = factor * values[(4 + pair) * step];
    }
    return found;
}

static void store(
    const Task *task, const Source *source, int64_t step, const int are_derivatives, REAL *values)
{
    values[0] = (REAL)source->charge;
    for (int a = 0; a < 3; a++)
        values[(1 + a) * step] = (REAL)source->dipole[a];
    for (int pair = 0; pair < 6 && task->n_sources > 4; pair++) {
        const int a = PAIRS[pair][0], b = PAIRS[pair][1];
        const double factor = a == b || are_derivatives ? 1.0 : 2.0;
        values[(4 + pair) * step] = (REAL)(factor * source->matrix[a][b]);
    }
}

/* Add what the dipole and the matrix become: L u, and L M R^T, with its transpose unless L is R. */
static void add_turned(
    const Source *source, double L[3][3], double R[3][3], const int is_symmetric,
    Source *turned)
{
    double half[3][3];
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < 3; i++) {
            turned->dipole[a] += L[a][i] * source->dipole[i];
            half[a][i] = 0.0;
            for (int j = 0; j < 3; j++)
                half[a][i] += L[a][j] * source->matrix[j][i];
        }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            for (int i = 0; i < 3; i++) {
                turned->matrix[a][b] += half[a][i] * R[b][i];
                if (!is_symmetric)
                    turned->matrix[b][a] += half[a][i] * R[b][i];
            }
}

/* A source with respect to coordinates; with a change of the source and of R, how that changes. */
static Source turned(
    const Source *source, const Source *change, double R[3][3], double R_change[3][3])
{
    const Source *own = change ? change : source;
    Source found = {own->charge, {0.0}, {{0.0}}};
    add_turned(own, R, R, 1, &found);
    if (change)
        add_turned(source, R_change, R, 0, &found);
    return found;
}

static void transpose(double from[3][3], double to[3][3])
{
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < 3; i++)
            to[a][i] = from[i][a];
}

/* Sources t with respect to coordinates from those q, and where there are changes vq, what they change
   by in the direction (vq, vA); vA may be NULL. A: [row][3][3]. */
void les_sources_enter(
    const Task *task, const REAL *A, const REAL *vA, const REAL *q, const REAL *vq, REAL *t, REAL *vt)
{
    const int64_t step = task->n_channels * task->n_atoms;
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        Cell cell = make_cell(A + 9 * row, vA ? vA + 9 * row : 0);
        for (int64_t i = row * task->n_sources * step, end = i + step; i < end; i++) {
            const Source source = load(task, q + i, step, 0);
            const Source own = turned(&source, 0, cell.reciprocal, cell.change);
            store(task, &own, step, 0, t + i);
            if (!vq)
                continue;
            const Source change = load(task, vq + i, step, 0);
            const Source moved = turned(&source, &change, cell.reciprocal, cell.change);
            store(task, &moved, step, 0, vt + i);
        }
    }
}

/* The way back: derivatives by q from those by t, to_t, and what is added to derivatives by A, which
   may be NULL; energies of sources with themselves are added to energies and derivatives. With changes
   of to_t also what these change by, for changes vq and vt, and no energies. */
void les_sources_leave(
    const Task *task, const REAL *A, const REAL *vA, const REAL *q, const REAL *vq, const REAL *t,
    const REAL *vt, const REAL *to_t, const REAL *to_t_change, REAL *energy, REAL *to_q, REAL *to_A)
{
    const int64_t step = task->n_channels * task->n_atoms;
    const double *own = task->of_squares;
    for (int64_t row = task->rows[0]; row < task->rows[1]; row++) {
        Cell cell = make_cell(A + 9 * row, vA ? vA + 9 * row : 0);
        double back[3][3], back_change[3][3], sum[3][3] = {{0.0}}, changed[3][3] = {{0.0}};
        double squares = 0.0;
        transpose(cell.reciprocal, back);
        transpose(cell.change, back_change);
        for (int64_t i = row * task->n_sources * step, end = i + step; i < end; i++) {
            const Source felt = load(task, to_t + i, step, 1);
            Source change;
            if (to_t_change)
                change = load(task, to_t_change + i, step, 1);
            const Source found = turned(&felt, to_t_change ? &change : 0, back, back_change);
            store(task, &found, step, 1, to_q + i);
            for (int64_t source = 0; source < task->n_sources; source++) {
                const double factor = source == 0 ? own[0] : source < 4 ? own[1]
                                                         : source < 7   ? 4.0 * own[2]
                                                                        : 2.0 * own[2];
                const REAL value = (to_t_change ? vq : q)[i + source * step];
                to_q[i + source * step] += (REAL)(2.0 * factor * value);
                squares += factor * value * value;
            }
            if (!to_A)
                continue;
            /* The derivative by R, times R: t and its derivatives, of which matrices count twice. */
            const Source placed = load(task, t + i, step, 0);
            Source moved;
            if (to_t_change)
                moved = load(task, vt + i, step, 0);
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++) {
                    sum[a][b] += placed.dipole[a] * felt.dipole[b];
                    for (int c = 0; c < 3; c++)
                        sum[a][b] += 2.0 * placed.matrix[a][c] * felt.matrix[c][b];
                    if (!to_t_change)
                        continue;
                    changed[a][b] +=
                        placed.dipole[a] * change.dipole[b] + moved.dipole[a] * felt.dipole[b];
                    for (int c = 0; c < 3; c++)
                        changed[a][b] += 2.0 * (placed.matrix[a][c] * change.matrix[c][b] +
                                                moved.matrix[a][c] * felt.matrix[c][b]);
                }
        }
        if (energy)
            energy[row] += (REAL)squares;
        for (int a = 0; a < 3 && to_A; a++)
            for (int i = 0; i < 3; i++) {
                double total = 0.0;
                for (int b = 0; b < 3; b++)
                    total += to_t_change ? changed[a][b] * cell.reciprocal[b][i] +
                                               sum[a][b] * cell.change[b][i]
                                         : sum[a][b] * cell.reciprocal[b][i];
                to_A[9 * row + 3 * a + i] -= (REAL)total;
            }
    }
}
