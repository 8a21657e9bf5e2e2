#include <math.h>

/* The reciprocal vectors and the volume of a cell, and how fast these change in a direction. */
typedef struct {
    double reciprocal[3][3], volume;
    double change[3][3], log_volume; /* of the reciprocal vectors, and of the logarithm */
    double direction[3][3];
} Cell;

static Cell make_cell(const REAL *vectors, const REAL *direction)
{
    Cell cell;
    double (*R)[3] = cell.reciprocal, volume = 0.0, product[3][3];
    for (int a = 0; a < 3; a++) {
        const REAL *b = vectors + 3 * ((a + 1) % 3), *c = vectors + 3 * ((a + 2) % 3);
        for (int i = 0; i < 3; i++)
            R[a][i] = (double)b[(i + 1) % 3] * c[(i + 2) % 3] - (double)b[(i + 2) % 3] * c[(i + 1) % 3];
    }
    for (int i = 0; i < 3; i++)
        volume += vectors[i] * R[0][i];
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < 3; i++)
            R[a][i] /= volume;
    cell.volume = fabs(volume);
    cell.log_volume = 0.0;
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < 3; i++) {
            cell.direction[a][i] = direction ? direction[3 * a + i] : 0.0;
            cell.log_volume += R[a][i] * cell.direction[a][i];
        }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            product[a][b] = 0.0;
            for (int i = 0; i < 3; i++)
                product[a][b] += R[a][i] * cell.direction[b][i];
        }
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < 3; i++) {
            cell.change[a][i] = 0.0;
            for (int b = 0; b < 3; b++)
                cell.change[a][i] -= product[a][b] * R[b][i];
        }
    return cell;
}
