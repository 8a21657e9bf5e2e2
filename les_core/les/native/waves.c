/* Sums over atoms of products of cosines and sines, as les/waves.py does it with operations of
   torch.

   An atom has size[axis] of them along each axis, cosines of n = 0, 1, ... and then sines. With
   derivatives d = (d1, d2, d3),

     sums[a][b][c] += sum_d value_d x^(d1)[a] y^(d2)[b] z^(d3)[c],

   summed from the last axis, which is contiguous in memory, to the first. A few atoms are done at
   a time, so that a number of the sums is read and written once for all of them. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "derivatives.h"

#define ATOMS 4  /* at a time */

/* LANES numbers along the last axis at a time, which is filled up with zeros. */

typedef REAL Vector __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));

typedef struct {
    int64_t n_rows, n_atoms, n_channels, n_derivatives;
    int64_t heights;            /* number of derivatives along an axis, from 0 on */
    int64_t size[3], width;     /* width: the last size, filled up */
    int64_t first, last;        /* rows to do */
    const int64_t *derivatives; /* [n_derivatives][3] */
    const REAL *factors[3];     /* [heights][size], of derivatives of cosines and sines */
    const REAL *fractional;     /* [row][atom][3] */
} Task;

/* out: [heights][ATOMS][width], zero where there is no atom and beyond the size of the axis. */
static void place(const Task *task, int axis, int64_t row, int64_t atom, int64_t width, REAL *out)
{
    const int64_t size = task->size[axis], half = size / 2;
    double plain[size];
    memset(out, 0, (size_t)(task->heights * ATOMS * width) * sizeof(REAL));
    for (int64_t i = 0; i < ATOMS && atom + i < task->n_atoms; i++) {
        const double s = task->fractional[(row * task->n_atoms + atom + i) * 3 + axis];
        /* Wrapping changes no phase, and keeps it exact far away from the cell. */
        const double phase = 6.283185307179586 * (s - rint(s)), c = cos(phase), d = sin(phase);
        plain[0] = 1.0;
        plain[half] = 0.0;
        for (int64_t n = 1; n < half; n++) {
            plain[n] = c * plain[n - 1] - d * plain[n - 1 + half];
            plain[n + half] = d * plain[n - 1] + c * plain[n - 1 + half];
        }
        for (int64_t height = 0; height < task->heights; height++) {
            const REAL *factors = task->factors[axis] + height * size;
            const int64_t shift = height % 2 ? half : 0;
            REAL *target = out + (height * ATOMS + i) * width;
            for (int64_t n = 0; n < half; n++) {
                target[n] = factors[n] * (REAL)plain[n + shift];
                target[n + half] = factors[n + half] * (REAL)plain[n + half - shift];
            }
        }
    }
}

/* values: [derivative][channel][row][atom]; sums: [channel][row][a][b][width]. */
void les_wave_sums(const Task *task, const REAL *values, REAL *sums)
{
    const int64_t n1 = task->size[0], n2 = task->size[1], width = task->width;
    const int64_t heights = task->heights, n_derivatives = task->n_derivatives;
    int64_t first[n_derivatives], second[n_derivatives], pair_of[n_derivatives];
    const int64_t n_pairs = find_pairs(n_derivatives, task->derivatives, first, second, pair_of);
    REAL x[heights][ATOMS][n1], y[heights][ATOMS][n2], z[heights][ATOMS][width];
    REAL lines[n_pairs][ATOMS][width], plane[heights][ATOMS][width];

    for (int64_t row = task->first; row < task->last; row++)
    for (int64_t atom = 0; atom < task->n_atoms; atom += ATOMS) {
        const int64_t n = task->n_atoms - atom < ATOMS ? task->n_atoms - atom : ATOMS;
        place(task, 0, row, atom, n1, &x[0][0][0]);
        place(task, 1, row, atom, n2, &y[0][0][0]);
        place(task, 2, row, atom, width, &z[0][0][0]);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            REAL *out = sums + (channel * task->n_rows + row) * n1 * n2 * width;
            memset(lines, 0, sizeof lines);
            for (int64_t d = 0; d < n_derivatives; d++) {
                const REAL *value =
                    values + ((d * task->n_channels + channel) * task->n_rows + row) * task->n_atoms;
                const int64_t height = task->derivatives[3 * d + 2];
                for (int64_t i = 0; i < n; i++)
                    for (int64_t c = 0; c < width; c++)
                        lines[pair_of[d]][i][c] += value[atom + i] * z[height][i][c];
            }
            for (int64_t a = 0; a < n1; a++) {
                memset(plane, 0, sizeof plane);
                for (int64_t pair = 0; pair < n_pairs; pair++)
                    for (int64_t i = 0; i < ATOMS; i++) {
                        const REAL factor = x[first[pair]][i][a];
                        for (int64_t c = 0; c < width; c++)
                            plane[second[pair]][i][c] += factor * lines[pair][i][c];
                    }
                for (int64_t height = 0; height < heights; height++)
                    for (int64_t c = 0; c < width; c += LANES) {
                        Vector along_z[ATOMS];
                        for (int i = 0; i < ATOMS; i++)
                            along_z[i] = *(const Vector *)&plane[height][i][c];
                        for (int64_t b = 0; b < n2; b++) {
                            Vector *target = (Vector *)(out + (a * n2 + b) * width + c);
                            Vector sum = *target;
                            for (int i = 0; i < ATOMS; i++)
                                sum += y[height][i][b] * along_z[i];
                            *target = sum;
                        }
                    }
            }
        }
    }
}

/* The transpose: components like sums above, values as there. */
void les_wave_values(const Task *task, const REAL *components, REAL *values)
{
    const int64_t n1 = task->size[0], n2 = task->size[1], width = task->width;
    const int64_t heights = task->heights, n_derivatives = task->n_derivatives;
    int64_t first[n_derivatives], second[n_derivatives], pair_of[n_derivatives];
    const int64_t n_pairs = find_pairs(n_derivatives, task->derivatives, first, second, pair_of);
    REAL x[heights][ATOMS][n1], y[heights][ATOMS][n2], z[heights][ATOMS][width];
    REAL lines[n_pairs][ATOMS][width], plane[heights][ATOMS][width];

    for (int64_t row = task->first; row < task->last; row++)
    for (int64_t atom = 0; atom < task->n_atoms; atom += ATOMS) {
        const int64_t n = task->n_atoms - atom < ATOMS ? task->n_atoms - atom : ATOMS;
        place(task, 0, row, atom, n1, &x[0][0][0]);
        place(task, 1, row, atom, n2, &y[0][0][0]);
        place(task, 2, row, atom, width, &z[0][0][0]);
        for (int64_t channel = 0; channel < task->n_channels; channel++) {
            const REAL *in = components + (channel * task->n_rows + row) * n1 * n2 * width;
            memset(lines, 0, sizeof lines);
            for (int64_t a = 0; a < n1; a++) {
                for (int64_t height = 0; height < heights; height++)
                    for (int64_t c = 0; c < width; c += LANES) {
                        Vector sum[ATOMS] = {{0}};
                        for (int64_t b = 0; b < n2; b++) {
                            const Vector source = *(const Vector *)(in + (a * n2 + b) * width + c);
                            for (int i = 0; i < ATOMS; i++)
                                sum[i] += y[height][i][b] * source;
                        }
                        for (int i = 0; i < ATOMS; i++)
                            *(Vector *)&plane[height][i][c] = sum[i];
                    }
                for (int64_t pair = 0; pair < n_pairs; pair++)
                    for (int64_t i = 0; i < ATOMS; i++) {
                        const REAL factor = x[first[pair]][i][a];
                        for (int64_t c = 0; c < width; c++)
                            lines[pair][i][c] += factor * plane[second[pair]][i][c];
                    }
            }
            for (int64_t d = 0; d < n_derivatives; d++) {
                REAL *value =
                    values + ((d * task->n_channels + channel) * task->n_rows + row) * task->n_atoms;
                const int64_t height = task->derivatives[3 * d + 2];
                for (int64_t i = 0; i < n; i++) {
                    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
                    for (int64_t c = 0; c < width; c++)
                        sum += z[height][i][c] * lines[pair_of[d]][i][c];
                    value[atom + i] = sum;
                }
            }
        }
    }
}
