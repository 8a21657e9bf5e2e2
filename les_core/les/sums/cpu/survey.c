/* What les/sums/survey.py has to know of the values of a batch; see les/sums/cpu/survey.py. */

#include <math.h>
#include <stdint.h>

typedef struct {
    int64_t n_atoms, n_channels, n_structures;
    double dl, edge_tolerance, smallest; /* the last: volume, and area */
} Task;

/* Not contracted with a sum: of flat cells nothing must be left. */
static double product(double a, double b)
{
    const volatile double rounded = a * b;
    return rounded;
}

static double cross(const REAL *a, const REAL *b, double *out)
{
    for (int i = 0; i < 3; i++)
        out[i] = product(a[(i + 1) % 3], b[(i + 2) % 3]) - product(a[(i + 2) % 3], b[(i + 1) % 3]);
    return sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2]);
}

/* Largest size of the values, or NaN if one of them is no number or infinite. */
static double find_largest(int64_t n, const REAL *values)
{
    REAL broken = 0, largest = 0;
#pragma omp simd reduction(+ : broken) reduction(max : largest)
    for (int64_t i = 0; i < n; i++) {
        const REAL size = values[i] < 0 ? -values[i] : values[i];
        broken += values[i] - values[i];
        largest = size > largest ? size : largest;
    }
    return (double)largest + (double)broken;
}

/* Counts are zero before. Numbers: mistakes in the order of atoms and in axes, atoms of the largest
   open and periodic structure, sum of squared counts, periodic structures, slabs, what find_largest
   says of positions, charges and cells, and the numbers of k-points along the axes, not rounded
   down. */
void les_survey(
    const Task *task, const REAL *charges, const REAL *positions, const REAL *cell,
    const int64_t *owner, const uint8_t *pbc, int64_t *counts, uint8_t *periodic, uint8_t *slab,
    double *numbers)
{
    double mistakes = 0.0, squares = 0.0, reach[3] = {0.0, 0.0, 0.0};
    int64_t largest[2] = {0, 0}, n_periodic = 0, n_slabs = 0;
    if (!owner)
        counts[0] = task->n_atoms;
    else
        for (int64_t i = 0; i < task->n_atoms; i++) {
            const int known = owner[i] >= 0 && owner[i] < task->n_structures;
            mistakes += !known || (i > 0 && owner[i] < owner[i - 1]);
            if (known)
                counts[owner[i]]++;
        }
    for (int64_t structure = 0; structure < task->n_structures; structure++) {
        const REAL *vectors = cell + 9 * structure;
        double normals[3][3], area = 0.0, volume = 0.0;
        int n_axes = 0;
        for (int a = 0; a < 3; a++) {
            const double size =
                cross(vectors + 3 * ((a + 1) % 3), vectors + 3 * ((a + 2) % 3), normals[a]);
            volume += product(vectors[a], normals[0][a]);
            if (!pbc)
                continue;
            const int is_periodic = pbc[3 * structure + a] != 0;
            n_axes += is_periodic;
            area = !is_periodic && size > area ? size : area;
        }
        const int has_volume = fabs(volume) >= task->smallest;
        const int has_area = area > task->smallest;
        periodic[structure] = pbc ? n_axes >= 2 : has_volume;
        slab[structure] = n_axes == 2;
        mistakes += n_axes == 1 || (n_axes == 3 && !has_volume) || (n_axes == 2 && !has_area);
        n_periodic += periodic[structure];
        n_slabs += slab[structure];
        const int64_t count = counts[structure];
        squares += (double)count * (double)count;
        if (count > largest[periodic[structure]])
            largest[periodic[structure]] = count;
        for (int a = 0; a < 3 && periodic[structure]; a++) {
            const REAL *v = vectors + 3 * a;
            const double length = sqrt((double)v[0] * v[0] + (double)v[1] * v[1] + (double)v[2] * v[2]);
            const double points = length / task->dl * (1.0 + task->edge_tolerance);
            reach[a] = points > reach[a] ? points : reach[a];
        }
    }
    numbers[0] = mistakes;
    numbers[1] = (double)largest[0];
    numbers[2] = (double)largest[1];
    numbers[3] = squares;
    numbers[4] = (double)n_periodic;
    numbers[5] = (double)n_slabs;
    numbers[6] = find_largest(3 * task->n_atoms, positions);
    numbers[7] = find_largest(task->n_atoms * task->n_channels, charges);
    numbers[8] = find_largest(9 * task->n_structures, cell);
    for (int a = 0; a < 3; a++)
        numbers[9 + a] = reach[a];
}
