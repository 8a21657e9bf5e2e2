/* The periodic Green's function of Gaussian charges and its derivatives; see les/native/greens.py. */

#include <stdint.h>

#include "decay.h"

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int64_t n, order;               /* numbers, and how often to differentiate */
    double sigma, edge;             /* width; squared k that the sum ends at */
    double taper_start, taper_end;  /* squared k between which a smooth end falls; equal if sharp */
} Task;

/* Coefficients of the Taylor series in x - k^2 of the factors, multiplied with one another. */
INLINE double derivative(const Task *task, const int64_t order, double x)
{
    const double width = task->taper_end - task->taper_start;
    const double by_width = width > 0.0 ? 1.0 / width : 0.0;
    const double t = x > task->taper_start ? (x - task->taper_start) * by_width : 0.0;
    double weight[6];
    weight[0] = 1.0 - t * t * t * (10.0 - 15.0 * t + 6.0 * t * t);
    if (order > 0) {
        const double inside = x > task->taper_start ? by_width : 0.0;
        const double power = inside * inside * inside;
        weight[1] = -30.0 * t * t * (1.0 - t) * (1.0 - t) * inside;
        weight[2] = -30.0 * t * (1.0 - t) * (1.0 - 2.0 * t) * inside * inside;
        weight[3] = -10.0 * (1.0 - 6.0 * t + 6.0 * t * t) * power;
        weight[4] = 15.0 * (1.0 - 2.0 * t) * power * inside;
        weight[5] = -6.0 * power * inside * inside;
    }
    const double slope = -0.5 * task->sigma * task->sigma, inverse = 1.0 / x;
    double sum = 0.0, factorial = 1.0, of_decay = decay(-slope * x);
    for (int64_t i = 0; i <= order; i++) {
        double of_inverse = inverse;
        for (int64_t j = 0; j <= order - i; j++) {
            if (order - i - j < 6)
                sum += of_decay * of_inverse * weight[order - i - j];
            of_inverse *= -inverse;
        }
        of_decay *= slope / (double)(i + 1);
        factorial *= i > 0 ? (double)i : 1.0;
    }
    return factorial * sum;
}

void les_greens(const Task *task, const REAL *k_squared, REAL *out)
{
    const REAL edge = (REAL)task->edge;
    if (task->order > 0) {
        for (int64_t i = 0; i < task->n; i++) {
            const REAL x = k_squared[i];
            out[i] = x != 0 && x <= edge ? (REAL)derivative(task, task->order, x) : 0;
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < task->n; i++) {
        const int inside = k_squared[i] != 0 && k_squared[i] <= edge;
        const double x = inside ? k_squared[i] : 1.0, value = derivative(task, 0, x);
        out[i] = inside ? (REAL)value : 0;
    }
}
