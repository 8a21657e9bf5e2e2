/* Pairs of Gaussian charges in vacuum: energies with first derivatives, and the products of their
   second derivatives with vectors; see les/sums/cpu/pairs.py.

   Atoms are [structure][component][atom]. A pair interacts with f a q_i q_j h(s), where f is a
   prefactor, a the inverse unit of length, h(s) = erf(sqrt(s)) / sqrt(s), and s the squared
   distance in this unit. Distances are taken before they are scaled, so that where the structure is
   does not matter. */

#include "boys.h"

/* h follows from its power series for s below the first, with so many terms. */
#define SERIES_BELOW 0.5
#define SERIES_TERMS 14

typedef struct {
    int64_t n_structures, n_channels, n_atoms;
    int64_t first, step;       /* of the atoms whose pairs with later ones are summed */
    double prefactor;          /* of the interaction */
    double of_squares;         /* what the squared charges are multiplied with in the energies */
    double inverse;            /* of the unit of length */
    Series series;
} Task;

/* energy[structure], potential like q, gradient like r and the smallest squared distance of each
   structure; potential and gradient are zero before. */
void les_pairs_first(
    const Task *task, const REAL *restrict q, const REAL *restrict r, REAL *restrict energy,
    REAL *restrict potential, REAL *restrict gradient, REAL *restrict closest)
{
    const int64_t n = task->n_atoms, n_channels = task->n_channels;
    const double inverse = task->inverse, strength = task->prefactor * inverse;
    const double self = 2.0 * task->of_squares;
    for (int64_t structure = 0; structure < task->n_structures; structure++) {
        double total = 0.0, least = INFINITY;
        for (int64_t i = task->first; i + 1 < n; i += task->step) {
            for (int64_t start = i + 1; start < n; start += CHUNK) {
                const int count = (int)(n - start < CHUNK ? n - start : CHUNK);
                double d[3][CHUNK], s[CHUNK], h[3][CHUNK], products[CHUNK];
                for (int j = 0; j < CHUNK; j++)
                    s[j] = 1.0, products[j] = 0.0;
                for (int a = 0; a < 3; a++) {
                    const REAL *x = r + a * n;
                    for (int j = 0; j < count; j++)
                        d[a][j] = inverse * (double)(x[i] - x[start + j]);
                }
#pragma omp simd reduction(min : least)
                for (int j = 0; j < count; j++) {
                    s[j] = d[0][j] * d[0][j] + d[1][j] * d[1][j] + d[2][j] * d[2][j];
                    least = s[j] < least ? s[j] : least;
                }
                boys(&task->series, count, s, 2, SERIES_BELOW, SERIES_TERMS, h);
                for (int64_t c = 0; c < n_channels; c++) {
                    const REAL *charge = q + c * n;
                    REAL *phi = potential + c * n;
                    const double own = strength * charge[i];
                    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
                    for (int j = 0; j < count; j++) {
                        const double other = charge[start + j];
                        products[j] += own * other;
                        sum += other * h[0][j];
                        phi[start + j] += (REAL)(own * h[0][j]);
                    }
                    phi[i] += (REAL)(strength * sum);
                }
#pragma omp simd reduction(+ : total)
                for (int j = 0; j < count; j++)
                    total += products[j] * h[0][j];
                for (int a = 0; a < 3; a++) {
                    REAL *out = gradient + a * n;
                    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
                    for (int j = 0; j < count; j++) {
                        const double slope = -2.0 * inverse * products[j] * h[1][j] * d[a][j];
                        sum += slope;
                        out[start + j] -= (REAL)slope;
                    }
                    out[i] += (REAL)sum;
                }
            }
        }
        for (int64_t i = 0; i < n_channels * n && task->first == 0; i++) {
            total += 0.5 * self * (double)q[i] * q[i];
            potential[i] += (REAL)(self * q[i]);
        }
        energy[structure] = (REAL)total;
        closest[structure] = (REAL)least;
        q += n_channels * n;
        potential += n_channels * n;
        r += 3 * n;
        gradient += 3 * n;
    }
}

/* Derivatives of sum_ci vq_ci potential_ci + sum_ai vr_ai gradient_ai by q and r, zero before. */
void les_pairs_second(
    const Task *task, const REAL *restrict q, const REAL *restrict r, const REAL *restrict vq,
    const REAL *restrict vr, REAL *restrict to_q, REAL *restrict to_r)
{
    const int64_t n = task->n_atoms, n_channels = task->n_channels;
    const double inverse = task->inverse, strength = task->prefactor * inverse;
    const double self = 2.0 * task->of_squares;
    for (int64_t structure = 0; structure < task->n_structures; structure++) {
        for (int64_t i = task->first; i + 1 < n; i += task->step) {
            for (int64_t start = i + 1; start < n; start += CHUNK) {
                const int count = (int)(n - start < CHUNK ? n - start : CHUNK);
                double d[3][CHUNK], v[3][CHUNK], s[CHUNK], h[3][CHUNK];
                double products[CHUNK], changes[CHUNK], along[CHUNK];
                for (int j = 0; j < CHUNK; j++)
                    s[j] = 1.0, products[j] = changes[j] = along[j] = 0.0;
                for (int a = 0; a < 3; a++) {
                    const REAL *x = r + a * n, *y = vr + a * n;
                    for (int j = 0; j < count; j++) {
                        d[a][j] = inverse * (double)(x[i] - x[start + j]);
                        v[a][j] = inverse * (double)(y[i] - y[start + j]);
                    }
                }
                for (int j = 0; j < count; j++) {
                    s[j] = d[0][j] * d[0][j] + d[1][j] * d[1][j] + d[2][j] * d[2][j];
                    along[j] =
                        2.0 * (d[0][j] * v[0][j] + d[1][j] * v[1][j] + d[2][j] * v[2][j]);
                }
                boys(&task->series, count, s, 2, SERIES_BELOW, SERIES_TERMS, h);
                for (int64_t c = 0; c < n_channels; c++) {
                    const REAL *charge = q + c * n, *change = vq + c * n;
                    REAL *out = to_q + c * n;
                    const double own = strength * charge[i], own_change = strength * change[i];
                    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
                    for (int j = 0; j < count; j++) {
                        const double other = charge[start + j], other_change = change[start + j];
                        const double slope = -h[1][j] * along[j];
                        products[j] += own * other;
                        changes[j] += own * other_change + own_change * other;
                        sum += h[0][j] * other_change + slope * other;
                        out[start + j] += (REAL)(h[0][j] * own_change + slope * own);
                    }
                    out[i] += (REAL)(strength * sum);
                }
                for (int a = 0; a < 3; a++) {
                    REAL *out = to_r + a * n;
                    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
                    for (int j = 0; j < count; j++) {
                        const double slope = products[j] * h[2][j] * along[j] - changes[j] * h[1][j];
                        const double value =
                            2.0 * inverse * (slope * d[a][j] - products[j] * h[1][j] * v[a][j]);
                        sum += value;
                        out[start + j] -= (REAL)value;
                    }
                    out[i] += (REAL)sum;
                }
            }
        }
        for (int64_t i = 0; i < n_channels * n && task->first == 0; i++)
            to_q[i] += (REAL)(self * vq[i]);
        q += n_channels * n;
        vq += n_channels * n;
        to_q += n_channels * n;
        r += 3 * n;
        vr += 3 * n;
        to_r += 3 * n;
    }
}
