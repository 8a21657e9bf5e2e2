#include <stdint.h>

#include "decay.h"

/* The periodic Green's function of Gaussian charges, of the squared k. */
typedef struct {
    double sigma, start, end; /* width; where the cutoff begins to fall and ends, the same if sharp */
} Greens;

/* Coefficients of the Taylor series in x - k^2 of the factors, multiplied with one another. */
static inline __attribute__((always_inline)) double greens_derivative(
    const Greens *greens, const int64_t order, double x)
{
    const double width = greens->end - greens->start;
    const double by_width = width > 0.0 ? 1.0 / width : 0.0;
    const double t = x > greens->start ? (x - greens->start) * by_width : 0.0;
    double weight[6];
    weight[0] = 1.0 - t * t * t * (10.0 - 15.0 * t + 6.0 * t * t);
    if (order > 0) {
        const double inside = x > greens->start ? by_width : 0.0;
        const double power = inside * inside * inside;
        weight[1] = -30.0 * t * t * (1.0 - t) * (1.0 - t) * inside;
        weight[2] = -30.0 * t * (1.0 - t) * (1.0 - 2.0 * t) * inside * inside;
        weight[3] = -10.0 * (1.0 - 6.0 * t + 6.0 * t * t) * power;
        weight[4] = 15.0 * (1.0 - 2.0 * t) * power * inside;
        weight[5] = -6.0 * power * inside * inside;
    }
    const double slope = -0.5 * greens->sigma * greens->sigma, inverse = 1.0 / x;
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
