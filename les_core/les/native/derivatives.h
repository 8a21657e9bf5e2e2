#include <stdint.h>

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
