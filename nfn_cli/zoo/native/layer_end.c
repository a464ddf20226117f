/* zoo/native/layer_end.c: what follows a convolution, of many networks: batch norm, shortcut, activation, and back.

Layout: (m, rows, channels) with one network along m, channels a multiple of 8. Rows are taken in blocks that stay in the
first cache while eight channels at a time go through them; sums are taken within a block, then over blocks, so that no
large sum loses small terms. With x̂ = (y − mean)·inverse: z = gamma·x̂ + beta + shortcut, out = σ(z). */

#include "vectors.h"

typedef struct {
    const float *y, *shortcut; /* (m, rows, c); shortcut or none */
    float *mean, *variance;    /* (m, c): of the batch, written where `training`, else read; none without a norm */
    const float *gamma, *beta; /* (m, c) */
    float *z, *out;            /* (m, rows, c); z where the derivative needs it, or none */
    const float *by_out;       /* gradient, as out */
    float *by_z, *by_y;        /* as y; may be the same where by_z is not asked for */
    float *by_gamma, *by_beta; /* (m, c) */
    long networks, rows, channels, activation, training;
    float slope, eps;
} End;

#define BLOCK 64

INLINE vec root(vec x) {
    for (int i = 0; i < 8; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
}

/* Mean and variance of every channel, block by block (Chan, Golub and LeVeque 1979): exact, and y is read once. */
static void moments(const float *y, float *mean, float *variance, long rows, long channels) {
    memset(mean, 0, channels * sizeof(float));
    memset(variance, 0, channels * sizeof(float));
    for (long start = 0; start < rows; start += BLOCK) {
        const long end = start + BLOCK < rows ? start + BLOCK : rows, count = end - start;
        for (long at = 0; at < channels; at += 8) {
            vec sum = all(0), spread = all(0);
            for (long r = start; r < end; r++) sum += load(y + r * channels + at);
            const vec here = sum / (float)count;
            for (long r = start; r < end; r++) {
                const vec d = load(y + r * channels + at) - here;
                spread += d * d;
            }
            const vec off = here - load(mean + at);
            store(mean + at, load(mean + at) + off * ((float)count / end));
            store(variance + at, load(variance + at) + spread + off * off * ((float)start * count / end));
        }
    }
    for (long at = 0; at < channels; at += 8) store(variance + at, load(variance + at) / (float)rows);
}

/* The constant activation lets the compiler write a loop for each. */
INLINE void forward_rows(const End *e, long m, const long activation) {
    const long channels = e->channels;
    for (long start = 0; start < e->rows; start += BLOCK)
        for (long at = 0; at < channels; at += 8) {
            const long c = m * channels + at;
            vec scale = all(1), shift = all(0);
            if (e->gamma) {
                scale = load(e->gamma + c) / root(load(e->variance + c) + e->eps);
                shift = load(e->beta + c) - load(e->mean + c) * scale;
            }
            for (long r = start; r < e->rows && r < start + BLOCK; r++) {
                const long i = (m * e->rows + r) * channels + at;
                vec z = load(e->y + i);
                if (e->gamma) z = z * scale + shift;
                if (e->shortcut) z += load(e->shortcut + i);
                if (e->z) store(e->z + i, z);
                store(e->out + i, activated(z, activation, e->slope));
            }
        }
}

INLINE vec inverse_of(const End *e, long c) { return 1.0f / root(load(e->variance + c) + e->eps); }

/* by_z, and with a norm its sums alone (by_beta) and along x̂ (by_gamma). */
INLINE void backward_rows(const End *e, long m, const long activation) {
    const float *told = e->z ? e->z : e->out;
    const long channels = e->channels;
    for (long start = 0; start < e->rows; start += BLOCK)
        for (long at = 0; at < channels; at += 8) {
            const long c = m * channels + at;
            const vec mean = e->gamma ? load(e->mean + c) : all(0), inverse = e->gamma ? inverse_of(e, c) : all(0);
            vec alone = all(0), along = all(0);
            for (long r = start; r < e->rows && r < start + BLOCK; r++) {
                const long i = (m * e->rows + r) * channels + at;
                const vec g = load(e->by_out + i) * derivative(load(told + i), activation, e->slope);
                store(e->by_z + i, g);
                if (e->gamma) alone += g, along += g * (load(e->y + i) - mean);
            }
            if (!e->gamma) continue;
            store(e->by_beta + c, load(e->by_beta + c) + alone);
            store(e->by_gamma + c, load(e->by_gamma + c) + along * inverse);
        }
}

/* Through the norm, whose statistics moved with y. */
static void backward_norm(const End *e, long m) {
    const long channels = e->channels;
    for (long start = 0; start < e->rows; start += BLOCK)
        for (long at = 0; at < channels; at += 8) {
            const long c = m * channels + at;
            const vec mean = load(e->mean + c), inverse = inverse_of(e, c), scale = load(e->gamma + c) * inverse;
            const vec alone = load(e->by_beta + c) / (float)e->rows;
            const vec along = load(e->by_gamma + c) / (float)e->rows * inverse;
            for (long r = start; r < e->rows && r < start + BLOCK; r++) {
                const long i = (m * e->rows + r) * channels + at;
                store(e->by_y + i, scale * (load(e->by_z + i) - alone - (load(e->y + i) - mean) * along));
            }
        }
}

#define FOR_THE_ACTIVATION(f)                            \
    switch (e->activation) {                             \
        case IDENTITY: f(e, m, IDENTITY); break;         \
        case RELU: f(e, m, RELU); break;                 \
        case LEAKY_RELU: f(e, m, LEAKY_RELU); break;     \
        case TANH: f(e, m, TANH); break;                 \
        case GELU: f(e, m, GELU); break;                 \
        case SILU: f(e, m, SILU); break;                 \
        default: return 1;                               \
    }

int nfn_end_layer(const End *e) {
    for (long m = 0; m < e->networks; m++) {
        const long c = m * e->channels;
        if (e->gamma && e->training)
            moments(e->y + c * e->rows, e->mean + c, e->variance + c, e->rows, e->channels);
        FOR_THE_ACTIVATION(forward_rows)
    }
    return 0;
}

int nfn_end_layer_back(const End *e) {
    for (long m = 0; m < e->networks; m++) {
        if (e->gamma) {
            memset(e->by_beta + m * e->channels, 0, e->channels * sizeof(float));
            memset(e->by_gamma + m * e->channels, 0, e->channels * sizeof(float));
        }
        FOR_THE_ACTIVATION(backward_rows)
        if (e->gamma) backward_norm(e, m);
    }
    return 0;
}
