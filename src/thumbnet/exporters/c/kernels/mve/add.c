#include "tn_add_mve.h"

void tn_add_mve(const tn_add_mve_params *p, const int8_t *exact, const int8_t *other, int8_t *out)
{
    tn_sums_mve(p, exact, other, out, 0);
}
