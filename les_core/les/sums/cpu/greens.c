/* The periodic Green's function of Gaussian charges and its derivatives; see les/sums/cpu/greens.py. */

#include <stdint.h>

#include "greens.h"

typedef struct {
    int64_t n, order; /* numbers, and how often to differentiate */
    Greens greens;
} Task;

void les_greens(const Task *task, const REAL *k_squared, REAL *out)
{
    const REAL edge = (REAL)task->greens.end;
    if (task->order > 0) {
        for (int64_t i = 0; i < task->n; i++) {
            const REAL x = k_squared[i];
            out[i] = x != 0 && x <= edge ? (REAL)greens_derivative(&task->greens, task->order, x) : 0;
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < task->n; i++) {
        const int inside = k_squared[i] != 0 && k_squared[i] <= edge;
        const double x = inside ? k_squared[i] : 1.0, value = greens_derivative(&task->greens, 0, x);
        out[i] = inside ? (REAL)value : 0;
    }
}
