/* Pairs of Gaussian multipoles in vacuum: energies with first derivatives, and the products of their
   second derivatives with vectors; see les/sums/cpu/multipole_pairs.py.

   Arrays are [structure][source][channel][atom] and [structure][axis][atom], with a multiple of STEP
   numbers along the last axis, whatever the precision of the results. Sources are 1 charge q, 3
   numbers of a dipole u, and 6 of half a quadrupole M: those of its diagonal, and twice those beside it.
   With g_n = (1/r d/dr)^n of the interaction and the vector d from a source, places feel

       phi = A_0,  phi_a = A_1 d_a + v1_a,
       phi_ab = A_1 delta_ab + A_2 d_a d_b + v2_a d_b + d_a v2_b + 2 M_ab g_2,
       A_n = q g_n + (tr M - u.d) g_(n+1) + d.M.d g_(n+2),  vn = -u g_n + 2 M.d g_(n+1).

   With changes of d by v, g_n changes by (d.v) g_(n+1), which adds (d.v) A_(n+1) to the change of
   A_n, and (d.v) v(n+1) to that of vn. */

#include "boys.h"

/* h follows from its power series for s below the first, with so many terms. */
#define SERIES_BELOW 4.0
#define SERIES_TERMS 27

#define INLINE static inline __attribute__((always_inline))
#define EACH(a) (int a = 0; a < 3; a++)
#define N_SOURCES(order) ((order) == 1 ? 4 : 10)
#define MOST_INTERACTIONS 7

typedef double Lanes __attribute__((vector_size(STEP * sizeof(double)), aligned(sizeof(double))));

typedef struct {
    int64_t n_structures, n_channels, n_atoms, n_sources;
    int64_t first, step; /* of the atoms whose pairs with later ones are summed */
    double prefactor;    /* of the interaction */
    double inverse;      /* of the unit of length, in which s is the squared distance */
    Series series;
} Task;

/* An atom with some of those behind it. */
typedef struct {
    double d[3][CHUNK], v[3][CHUNK], s[CHUNK], g[MOST_INTERACTIONS][CHUNK];
} Chunk;

/* Of pairs: the vector from a source, its change v, d.v, and g_n. */
typedef struct {
    Lanes d[3], v[3], along, g[MOST_INTERACTIONS];
} Pairs;

/* A source as places at d see it: M.d, tr M, tr M - u.d, d.M.d. */
typedef struct {
    Lanes q, u[3], M[3][3];
    Lanes m[3], trace, first, second;
} Source;

/* What places at d feel of a source: A_n, vn, phi_a and phi_ab. */
typedef struct {
    Lanes A[5], v[5][3], once[3], twice[3][3];
} Felt;

static const int PAIRS[6][2] = {{0, 0}, {1, 1}, {2, 2}, {0, 1}, {0, 2}, {1, 2}};

INLINE Lanes dot(const Lanes *a, const Lanes *b)
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

INLINE Lanes double_dot(const Source *a, const Source *b)
{
    return dot(a->M[0], b->M[0]) + dot(a->M[1], b->M[1]) + dot(a->M[2], b->M[2]);
}

/* Without quadrupoles M is zero, and all that follows from it is left out. */
INLINE void load(const Lanes *values, const int order, Source *source)
{
    source->q = values[0];
    for EACH (a)
        source->u[a] = values[1 + a];
#pragma GCC unroll 6
    for (int pair = 0; pair < 6; pair++) {
        const int a = PAIRS[pair][0], b = PAIRS[pair][1];
        const Lanes nothing = {0};
        source->M[a][b] = source->M[b][a] =
            order == 1 ? nothing : pair < 3 ? values[4 + pair] : 0.5 * values[4 + pair];
    }
}

INLINE void see(const Pairs *pairs, Source *source)
{
    for EACH (a)
        source->m[a] = dot(source->M[a], pairs->d);
    source->trace = source->M[0][0] + source->M[1][1] + source->M[2][2];
    source->first = source->trace - dot(source->u, pairs->d);
    source->second = dot(source->m, pairs->d);
}

/* How these change with the numbers of the source and with d. */
INLINE void see_change(const Pairs *pairs, const Source *source, Source *change)
{
    see(pairs, change);
    change->first -= dot(source->u, pairs->v);
    change->second += 2.0 * dot(source->m, pairs->v);
    for EACH (a)
        change->m[a] += dot(source->M[a], pairs->v);
}

INLINE void feel(const Pairs *pairs, const Source *source, const int order, Felt *felt)
{
    const Lanes *g = pairs->g, *d = pairs->d;
    const int most = 2 + order;
#pragma GCC unroll 5
    for (int n = 0; n <= most; n++) {
        felt->A[n] = source->q * g[n] + source->first * g[n + 1];
        if (order > 1)
            felt->A[n] += source->second * g[n + 2];
        for EACH (a) {
            felt->v[n][a] = -source->u[a] * g[n];
            if (order > 1)
                felt->v[n][a] += 2.0 * source->m[a] * g[n + 1];
        }
    }
    for EACH (a)
        felt->once[a] = felt->A[1] * d[a] + felt->v[1][a];
    for EACH (a)
        for EACH (b) {
            felt->twice[a][b] =
                felt->A[2] * d[a] * d[b] + felt->v[2][a] * d[b] + felt->v[2][b] * d[a];
            if (a == b)
                felt->twice[a][b] += felt->A[1];
            if (order > 1)
                felt->twice[a][b] += 2.0 * source->M[a][b] * g[2];
        }
}

INLINE void feel_change(
    const Pairs *pairs, const Source *source, const Source *change, const Felt *felt,
    const int order, Felt *changed)
{
    const Lanes *d = pairs->d, *v = pairs->v;
    feel(pairs, change, order, changed);
    const int most = 1 + order;
#pragma GCC unroll 5
    for (int n = 0; n <= most; n++) {
        changed->A[n] += pairs->along * felt->A[n + 1];
        for EACH (a)
            changed->v[n][a] += pairs->along * felt->v[n + 1][a];
    }
    for EACH (a)
        changed->once[a] = changed->A[1] * d[a] + felt->A[1] * v[a] + changed->v[1][a];
    for EACH (a)
        for EACH (b) {
            changed->twice[a][b] = changed->A[2] * d[a] * d[b] +
                                   felt->A[2] * (v[a] * d[b] + d[a] * v[b]) +
                                   changed->v[2][a] * d[b] + felt->v[2][a] * v[b] +
                                   changed->v[2][b] * d[a] + felt->v[2][b] * v[a];
            if (a == b)
                changed->twice[a][b] += changed->A[1];
            if (order > 1)
                changed->twice[a][b] += 2.0 * change->M[a][b] * pairs->g[2] +
                                        2.0 * source->M[a][b] * pairs->along * pairs->g[3];
        }
}

/* Add derivatives of the energy by sources that feel this, and return the energy. */
INLINE Lanes add_felt(const Felt *felt, const Lanes *sources, const int order, Lanes *sums)
{
    Lanes energy = sources[0] * felt->A[0];
    sums[0] += felt->A[0];
    for EACH (a) {
        sums[1 + a] += felt->once[a];
        energy += sources[1 + a] * felt->once[a];
    }
#pragma GCC unroll 6
    for (int pair = 0; pair < 6 && order > 1; pair++) {
        const Lanes value = felt->twice[PAIRS[pair][0]][PAIRS[pair][1]];
        sums[4 + pair] += value;
        energy += sources[4 + pair] * value;
    }
    return energy;
}

/* What is along d of the derivative below. */
INLINE Lanes slope_along(
    const Pairs *pairs, const Felt *felt, const Source *atom, const Source *other)
{
    return atom->trace * felt->A[2] + atom->second * felt->A[3] -
           2.0 * dot(atom->m, felt->v[3]) + 2.0 * double_dot(atom, other) * pairs->g[3];
}

/* Add the derivative by d of the energy of atoms that feel another source; m of theirs is that of the
   other direction. */
INLINE void add_slope(
    const Pairs *pairs, const Felt *felt, const Source *atom, const Source *other,
    const int order, Lanes *sums)
{
    const Lanes *g = pairs->g;
    for EACH (c)
        sums[c] += atom->q * felt->once[c] + dot(atom->u, felt->twice[c]);
    if (order == 1)
        return;
    const Lanes by_d = slope_along(pairs, felt, atom, other);
    for EACH (c)
        sums[c] += by_d * pairs->d[c] + atom->trace * felt->v[2][c] +
                   atom->second * felt->v[3][c] - 2.0 * felt->A[2] * atom->m[c] -
                   4.0 * g[3] * dot(other->M[c], atom->m) + 2.0 * dot(atom->M[c], felt->v[2]);
}

/* How that changes. */
INLINE void add_slope_change(
    const Pairs *pairs, const Felt *felt, const Felt *changed, const Source *atom,
    const Source *change, const Source *other, const Source *other_change, const int order,
    Lanes *sums)
{
    const Lanes *g = pairs->g;
    for EACH (c)
        sums[c] += change->q * felt->once[c] + atom->q * changed->once[c] +
                   dot(change->u, felt->twice[c]) + dot(atom->u, changed->twice[c]);
    if (order == 1)
        return;
    const Lanes by_d = slope_along(pairs, felt, atom, other);
    const Lanes by_d_change =
        change->trace * felt->A[2] + atom->trace * changed->A[2] + change->second * felt->A[3] +
        atom->second * changed->A[3] -
        2.0 * (dot(change->m, felt->v[3]) + dot(atom->m, changed->v[3])) +
        2.0 * (double_dot(change, other) + double_dot(atom, other_change)) * g[3] +
        2.0 * double_dot(atom, other) * pairs->along * g[4];
    for EACH (c) {
        sums[c] += by_d_change * pairs->d[c] + by_d * pairs->v[c];
        sums[c] += change->trace * felt->v[2][c] + atom->trace * changed->v[2][c];
        sums[c] += change->second * felt->v[3][c] + atom->second * changed->v[3][c];
        sums[c] -= 2.0 * (changed->A[2] * atom->m[c] + felt->A[2] * change->m[c]);
        sums[c] -= 4.0 * pairs->along * g[4] * dot(other->M[c], atom->m);
        sums[c] -= 4.0 * g[3] * (dot(other_change->M[c], atom->m) + dot(other->M[c], change->m));
        sums[c] += 2.0 * (dot(change->M[c], felt->v[2]) + dot(atom->M[c], changed->v[2]));
    }
}

/* Vectors to atom i from those at start, ... and the interactions with them, zero but for later atoms.
   Returns the smallest squared distance. */
INLINE double find_chunk(
    const Task *task, const double *r, const double *vr, int64_t width, int64_t i, int64_t start,
    int count, const int highest, Chunk *chunk)
{
    const int64_t n = task->n_atoms;
    double least = INFINITY;
    for EACH (a) {
        const double *x = r + a * width, *y = vr ? vr + a * width : 0;
        for (int j = 0; j < count; j++)
            chunk->d[a][j] = x[i] - x[start + j];
        for (int j = 0; j < count && vr; j++)
            chunk->v[a][j] = y[i] - y[start + j];
    }
    for (int j = 0; j < count; j++) {
        const double(*d)[CHUNK] = (const double(*)[CHUNK])chunk->d;
        const double s = (d[0][j] * d[0][j] + d[1][j] * d[1][j] + d[2][j] * d[2][j]) *
                         (task->inverse * task->inverse);
        chunk->s[j] = s;
        least = start + j > i && start + j < n && s < least ? s : least;
    }
    boys(&task->series, count, chunk->s, highest, SERIES_BELOW, SERIES_TERMS, chunk->g);
    double factor = task->prefactor * task->inverse;
    for (int order = 0; order <= highest; order++) {
        for (int j = 0; j < count; j++)
            chunk->g[order][j] =
                start + j > i && start + j < n ? factor * chunk->g[order][j] : 0.0;
        factor *= -2.0 * task->inverse * task->inverse;
    }
    return least;
}

/* Both ways: to the atom from those of the chunk, and back. */
INLINE void find_pairs(
    const Chunk *chunk, int j, const int highest, const int with_changes, Pairs *there, Pairs *back)
{
    for EACH (a) {
        there->d[a] = *(const Lanes *)(chunk->d[a] + j);
        back->d[a] = -there->d[a];
        if (with_changes) {
            there->v[a] = *(const Lanes *)(chunk->v[a] + j);
            back->v[a] = -there->v[a];
        }
    }
    if (with_changes)
        there->along = back->along = dot(there->d, there->v);
#pragma GCC unroll 7
    for (int n = 0; n <= highest; n++)
        there->g[n] = back->g[n] = *(const Lanes *)(chunk->g[n] + j);
}

INLINE double total(Lanes values)
{
    double sum = 0.0;
    for (int lane = 0; lane < STEP; lane++)
        sum += values[lane];
    return sum;
}

/* Sources of an atom for all partners, and those of some atoms, and back. */
INLINE void load_all(
    const double *values, int64_t stride, int64_t at, const int is_one, const int n, Lanes *lanes)
{
#pragma GCC unroll 10
    for (int k = 0; k < n; k++) {
        const double *place = values + k * stride + at;
        const Lanes nothing = {0};
        lanes[k] = is_one ? nothing + place[0] : *(const Lanes *)place;
    }
}

INLINE void add_all(const Lanes *lanes, double *values, int64_t stride, int64_t at, const int n)
{
#pragma GCC unroll 10
    for (int k = 0; k < n; k++)
        *(Lanes *)(values + k * stride + at) += lanes[k];
}

INLINE void add_totals(const Lanes *lanes, double *values, int64_t stride, int64_t at, const int n)
{
    for (int k = 0; k < n; k++)
        values[k * stride + at] += total(lanes[k]);
}

#define EACH_CHUNK(start, i, width) \
    (int64_t start = ((i) + 1) / STEP * STEP; start < (width); start += CHUNK)

INLINE void first_of(
    const Task *task, const double *q, const double *r, double *energy, double *to_q, double *to_r,
    double *closest, const int order)
{
    const int64_t n = task->n_atoms, n_channels = task->n_channels;
    const int64_t width = (n + STEP - 1) / STEP * STEP, stride = n_channels * width;
    const int highest = 1 + 2 * order;
    for (int64_t structure = 0; structure < task->n_structures; structure++) {
        Lanes sum = {0};
        double least = INFINITY;
        for (int64_t i = task->first; i + 1 < n; i += task->step)
            for EACH_CHUNK (start, i, width) {
                const int count = (int)(width - start < CHUNK ? width - start : CHUNK);
                Chunk chunk;
                const double near = find_chunk(task, r, 0, width, i, start, count, highest, &chunk);
                least = near < least ? near : least;
                for (int64_t channel = 0; channel < n_channels; channel++) {
                    const double *own = q + channel * width;
                    double *out = to_q + channel * width;
                    Lanes here[10], to_here[10] = {{0}}, slope_here[3] = {{0}};
                    load_all(own, stride, i, 1, N_SOURCES(order), here);
                    for (int j = 0; j < count; j += STEP) {
                        Pairs there, back;
                        Source atom, other;
                        Felt felt;
                        Lanes others[10], to_others[10] = {{0}}, slope[3] = {{0}};
                        find_pairs(&chunk, j, highest, 0, &there, &back);
                        load_all(own, stride, start + j, 0, N_SOURCES(order), others);
                        load(here, order, &atom);
                        load(others, order, &other);
                        see(&back, &atom);
                        see(&there, &other);
                        feel(&there, &other, order, &felt);
                        sum += add_felt(&felt, here, order, to_here);
                        add_slope(&there, &felt, &atom, &other, order, slope);
                        feel(&back, &atom, order, &felt);
                        add_felt(&felt, others, order, to_others);
                        add_all(to_others, out, stride, start + j, N_SOURCES(order));
                        for EACH (a) {
                            slope_here[a] += slope[a];
                            slope[a] = -slope[a];
                        }
                        add_all(slope, to_r, width, start + j, 3);
                    }
                    add_totals(to_here, out, stride, i, N_SOURCES(order));
                    add_totals(slope_here, to_r, width, i, 3);
                }
            }
        energy[structure] = total(sum);
        closest[structure] = least;
        q += N_SOURCES(order) * stride;
        to_q += N_SOURCES(order) * stride;
        r += 3 * width;
        to_r += 3 * width;
    }
}

INLINE void second_of(
    const Task *task, const double *q, const double *r, const double *vq, const double *vr,
    double *to_q, double *to_r, const int order)
{
    const int64_t n = task->n_atoms, n_channels = task->n_channels;
    const int64_t width = (n + STEP - 1) / STEP * STEP, stride = n_channels * width;
    const int highest = 2 + 2 * order;
    for (int64_t structure = 0; structure < task->n_structures; structure++) {
        for (int64_t i = task->first; i + 1 < n; i += task->step)
            for EACH_CHUNK (start, i, width) {
                const int count = (int)(width - start < CHUNK ? width - start : CHUNK);
                Chunk chunk;
                find_chunk(task, r, vr, width, i, start, count, highest, &chunk);
                for (int64_t channel = 0; channel < n_channels; channel++) {
                    const double *own = q + channel * width, *direction = vq + channel * width;
                    double *out = to_q + channel * width;
                    Lanes here[10], to_here[10] = {{0}}, slope_here[3] = {{0}};
                    Lanes moved_here[10];
                    load_all(own, stride, i, 1, N_SOURCES(order), here);
                    load_all(direction, stride, i, 1, N_SOURCES(order), moved_here);
                    for (int j = 0; j < count; j += STEP) {
                        Pairs there, back;
                        Source atom, change, other, other_change;
                        Felt felt, changed;
                        Lanes others[10], to_others[10] = {{0}}, slope[3] = {{0}}, moved[10];
                        find_pairs(&chunk, j, highest, 1, &there, &back);
                        load_all(own, stride, start + j, 0, N_SOURCES(order), others);
                        load_all(direction, stride, start + j, 0, N_SOURCES(order), moved);
                        load(here, order, &atom);
                        load(moved_here, order, &change);
                        load(others, order, &other);
                        load(moved, order, &other_change);
                        see(&back, &atom);
                        see_change(&back, &atom, &change);
                        see(&there, &other);
                        see_change(&there, &other, &other_change);
                        feel(&there, &other, order, &felt);
                        feel_change(&there, &other, &other_change, &felt, order, &changed);
                        add_felt(&changed, here, order, to_here);
                        add_slope_change(
                            &there, &felt, &changed, &atom, &change, &other, &other_change, order,
                            slope);
                        feel(&back, &atom, order, &felt);
                        feel_change(&back, &atom, &change, &felt, order, &changed);
                        add_felt(&changed, others, order, to_others);
                        add_all(to_others, out, stride, start + j, N_SOURCES(order));
                        for EACH (a) {
                            slope_here[a] += slope[a];
                            slope[a] = -slope[a];
                        }
                        add_all(slope, to_r, width, start + j, 3);
                    }
                    add_totals(to_here, out, stride, i, N_SOURCES(order));
                    add_totals(slope_here, to_r, width, i, 3);
                }
            }
        q += N_SOURCES(order) * stride;
        vq += N_SOURCES(order) * stride;
        to_q += N_SOURCES(order) * stride;
        r += 3 * width;
        vr += 3 * width;
        to_r += 3 * width;
    }
}

/* energy[structure], derivatives like q and r, and the smallest squared distance of each structure;
   derivatives are zero before. */
void les_multipole_pairs_first(
    const Task *task, const double *q, const double *r, double *energy, double *to_q, double *to_r,
    double *closest)
{
    if (task->n_sources == N_SOURCES(1))
        first_of(task, q, r, energy, to_q, to_r, closest, 1);
    else
        first_of(task, q, r, energy, to_q, to_r, closest, 2);
}

/* Derivatives by q and r of what first derivatives change by in the direction (vq, vr), zero before. */
void les_multipole_pairs_second(
    const Task *task, const double *q, const double *r, const double *vq, const double *vr,
    double *to_q, double *to_r)
{
    if (task->n_sources == N_SOURCES(1))
        second_of(task, q, r, vq, vr, to_q, to_r, 1);
    else
        second_of(task, q, r, vq, vr, to_q, to_r, 2);
}
