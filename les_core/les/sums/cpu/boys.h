/* Interactions of Gaussians: h_0(s) = erf(sqrt(s)) / sqrt(s) and h_(n+1) = -dh_n/ds, which are Boys
   functions times 2 / sqrt(pi). */

#include <math.h>
#include <stdint.h>

#include "decay.h"

#define CHUNK 64 /* partners of an atom at a time, in multiples of STEP */
#define TWO_BY_ROOT_PI 1.1283791670955126
#define MOST_TERMS 28

/* A Chebyshev series of exp(x^2) erfc(x), x < END, is one in
   slope (x - scale) / (x + scale) + intercept. */
typedef struct {
    double scale, slope, intercept;
    double chebyshev[DEGREE + 1];
} Series;

/* h_0 ... h_highest for so many places, and up to the next multiple of STEP. Where s is small
   they follow from the power series of exp(s) h_highest: below some s, with so many terms. */
static inline __attribute__((always_inline)) void boys(
    const Series *series, int count, const double *restrict s, const int highest,
    const double below, const int n_terms, double (*restrict h)[CHUNK])
{
    double ratios[MOST_TERMS];
    for (int k = 0; k < n_terms; k++)
        ratios[k] = 2.0 / (2 * (highest + k) + 3);
    const int end = (count + STEP - 1) / STEP * STEP;
#pragma omp simd
    for (int j = 0; j < end; j++) {
        const double tail = decay(s[j]), x = sqrt(s[j]), edge = TWO_BY_ROOT_PI * tail;
        const double by_twice = 0.5 / (s[j] > 0.0 ? s[j] : 1.0);
        const double inside = x < END ? x : END;
        const double u =
            series->slope * (inside - series->scale) / (inside + series->scale) + series->intercept;
        double later = 0.0, last = 0.0;
#pragma GCC unroll 32
        for (int k = DEGREE; k > 0; k--) {
            const double next = 2.0 * u * later - last + series->chebyshev[k];
            last = later;
            later = next;
        }
        const double complement = u * later - last + series->chebyshev[0];
        double far[8];
        far[0] = (1.0 - tail * complement) / (x > 0.0 ? x : 1.0);
#pragma GCC unroll 8
        for (int n = 0; n < highest; n++)
            far[n + 1] = ((2 * n + 1) * far[n] - edge) * by_twice;
        /* The recurrence loses digits near the origin, but not in the other direction. */
        const int is_near = s[j] < below;
        double sum = 1.0;
#pragma GCC unroll 32
        for (int k = n_terms - 1; k >= 0; k--)
            sum = sum * s[j] * ratios[k] + 1.0;
        double near = edge * sum * (1.0 / (2 * highest + 1));
        h[highest][j] = is_near ? near : far[highest];
#pragma GCC unroll 8
        for (int n = highest - 1; n >= 0; n--) {
            near = (2.0 * s[j] * near + edge) * (1.0 / (2 * n + 1));
            h[n][j] = is_near ? near : far[n];
        }
    }
}
