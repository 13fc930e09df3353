#include "tn_kernels.h"

/* Fixed point as in gemmlowp: "Qm" has m integer bits and 31 - m fractional ones; products are tn_high_mul. */

/* exp(x) for x in [-1/4, 0), Q0 to Q0: Taylor series around -1/8. */
static int32_t exp_quarter(int32_t a)
{
    const int32_t x = a + (1 << 28);
    const int32_t x2 = tn_high_mul(x, x);
    const int32_t x3 = tn_high_mul(x2, x);
    const int32_t x4 = tn_high_mul(x2, x2);
    const int32_t sixths = tn_high_mul(tn_round_shift(x4, 2) + x3, 715827883); /* 1/3 */
    const int32_t series = x + tn_round_shift(sixths + x2, 1);
    return 1895147668 + tn_high_mul(series, 1895147668); /* exp(-1/8) */
}

/* exp(x) for x <= 0, Q5 to Q0: the interval above times the powers that x's bits select. */
static int32_t exp_negative(int32_t a)
{
    static const int32_t powers[7] = {
        1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242, /* exp(-2^(i - 2)) */
    };
    const int32_t quarter = 1 << 24;
    const int32_t rest = (a & (quarter - 1)) - quarter;
    const int32_t whole = rest - a;
    int32_t result = exp_quarter(rest * 32);
    if (a == 0) {
        return INT32_MAX;
    }
    for (int i = 0; i < 7; i++) {
        if ((whole >> (24 + i)) & 1) {
            result = tn_high_mul(result, powers[i]);
        }
    }
    return result;
}

/* 1 / (1 + x) for x in [0, 1), Q0 to Q0: three steps of Newton's method. */
static int32_t reciprocal(int32_t x)
{
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) >> 1);
    int32_t r = 1515870810 + tn_high_mul(half, -1010580540); /* 48/17 - 32/17 half, Q2 */
    for (int i = 0; i < 3; i++) {
        r += tn_high_mul(r, (1 << 29) - tn_high_mul(half, r)) * 4;
    }
    return r > (INT32_MAX >> 1) ? INT32_MAX : r * 2;
}

static int leading_zeros(uint32_t x)
{
    int n = 0;
    for (; n < 32 && !(x & 0x80000000u); x <<= 1) {
        n++;
    }
    return n;
}

/* Output scale 1/256, zero point -128. Order: a row is read before it is written, element by element. */
void tn_softmax(const tn_softmax_params *p, const int8_t *in, int8_t *out)
{
    for (int row = 0; row < p->rows; row++, in += p->depth, out += p->depth) {
        int32_t max = INT8_MIN;
        int32_t sum = 0; /* Q12 */
        for (int i = 0; i < p->depth; i++) {
            max = in[i] > max ? in[i] : max;
        }
        for (int i = 0; i < p->depth; i++) {
            const int32_t diff = in[i] - max;
            if (diff >= p->diff_min) {
                sum += tn_round_shift(exp_negative(tn_scale(diff, p->multiplier, p->shift)), 12);
            }
        }
        const int zeros = leading_zeros((uint32_t)sum);
        const int32_t scale = reciprocal((int32_t)(((uint32_t)sum << zeros) - 0x80000000u));
        for (int i = 0; i < p->depth; i++) {
            const int32_t diff = in[i] - max;
            int32_t v = 0;
            if (diff >= p->diff_min) {
                v = tn_high_mul(scale, exp_negative(tn_scale(diff, p->multiplier, p->shift)));
                v = tn_round_shift(v, 12 - zeros + 31 - 8);
            }
            out[i] = tn_clamp(v - 128, -128, 127);
        }
    }
}
