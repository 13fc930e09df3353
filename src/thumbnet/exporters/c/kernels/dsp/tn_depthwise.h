/* Depthwise convolutions of four channels at a time, for cores with the DSP extension.
 *
 * A line holds two input rows of four channels as int16: for each two columns, and for each channel, a word of the upper
 * row and a word of the lower row. A row function computes one output row, or two with stride 1, of up to four channels.
 */
#ifndef TN_DEPTHWISE_H
#define TN_DEPTHWISE_H

#include "tn_kernels_dsp.h"

typedef struct tn_depthwise_job tn_depthwise_job;
typedef void tn_depthwise_rows(const tn_depthwise_job *job);

/* The output rows of up to four channels: tn_depthwise_rows.h knows these offsets. */
struct tn_depthwise_job {
    uint32_t *lines[3];            /*  0: the uppermost first; kernels of 3 rows need two */
    int32_t rounding;              /* 12: 1 + 2 zero_point */
    int32_t step;                  /* 16: bytes between two columns of the output */
    int32_t below;                 /* 20: bytes to the next output row; 0: there is none */
    int8_t *out;                   /* 24: first output of the first channel */
    int32_t span;                  /* 28: bytes of a channel's words in a line where two outputs begin */
    int32_t back;                  /* 32: bytes from their end to the first word of the next channel */
    int32_t out_back;              /* 36: likewise for outputs */
    const uint32_t *constants;     /* 40: of each channel: bias, multiplier, shift or rounding, weights */
    const uint32_t *constants_end; /* 44 */
    int32_t last_step;             /* 48: as `step`, for the last two outputs; 0: there is only one */

    tn_depthwise_rows *rows; /* 52 */
    int32_t out_rows;        /* 56: that `rows` computes */
    int32_t left;            /* 60: output rows to compute */
    int32_t out_step;        /* 64: bytes from `out` to where it goes on */
    int32_t kept;            /* 68: lines that are used again */
    int32_t held;            /* 72: lines */

    const int8_t *in; /*  76: first channel of the input */
    int32_t row;      /*  80: its next row to load; negative: padding above */
    int32_t in_row;   /*  84: bytes between two rows */
    int32_t in_h;     /*  88: rows that are loaded; those beyond are padding */
    int32_t in_back;  /*  92: rows to go back after those for `held` lines */
    int32_t in_step;  /*  96: bytes between two columns */
    int32_t head;     /* 100: whether the first word holds padding and the first column */
    int32_t pairs;    /* 104: words of two columns */
    int32_t tail;     /* 108: whether the last column shares its word with padding */
    int32_t begin;    /* 112: bytes of a line before the first word that holds a column */
    uint32_t zero;    /* 116: the input's zero point, four times */
};

/* What tells depthwise convolutions apart. */
typedef struct {
    tn_depthwise_rows *rows;
    uint32_t *(*pack)(const int8_t *weight, uint32_t shift, uint32_t *words); /* returns their end */
    uint8_t words;    /* of packed weights of a channel */
    uint8_t ceiling;  /* whether `span` includes a single last output */
    uint8_t positive; /* whether nothing below the output's zero point survives the clamp */
} tn_depthwise_kind;

void tn_depthwise_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch,
                      const tn_depthwise_kind *kind);
void tn_depthwise_channels_dsp(tn_depthwise_job *job);
tn_depthwise_rows tn_depthwise_k3s1_rows_dsp, tn_depthwise_k3s1_positive_rows_dsp;
tn_depthwise_rows tn_depthwise_k3s2_rows_dsp, tn_depthwise_k3s2_positive_rows_dsp;
tn_depthwise_rows tn_depthwise_k5s1_rows_dsp, tn_depthwise_k5s1_positive_rows_dsp;
tn_depthwise_rows tn_depthwise_k5s2_rows_dsp, tn_depthwise_k5s2_positive_rows_dsp;

/* Two neighbouring taps as SMLAD takes them. */
static inline uint32_t tn_taps(uint32_t first, uint32_t second)
{
    return (first & 0xffff) | second << 16;
}

#endif
