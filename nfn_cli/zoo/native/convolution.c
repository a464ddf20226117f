/* zoo/native/convolution.c: a small convolution of many networks, forward and backward, on one core.

Layout, as in batched_convolution.py: activations (m, n, h, w, channels), kernels (m, k, k, i, o), one network along m.
Written for channels that fill vectors: o and, where the input needs a gradient, i are multiples of 8. An image is copied
into a frame of zeros small enough for the first cache, so that no loop asks where the border is; a product of 6 positions
by 16 channels then stays in registers. Every sum runs in one fixed order: the result does not depend on anything else. */

#include "vectors.h"

#define MAX_TAPS 9

typedef struct {
    const float *input;      /* (m or 1, n, h, w, i) */
    long input_per_network;  /* 0 where all networks read the same */
    const float *kernel;     /* (m, k, k, i, o) */
    const float *bias;       /* (m, o) or none */
    float *output;           /* (m, n, h', w', o), after the activation */
    const float *by_output;  /* gradient, as output */
    float *by_input;         /* as input, or none */
    float *by_kernel;        /* as kernel */
    float *by_bias;          /* as bias, or none */
    long networks, images, height, width, in, out, size, stride, activation;
    float slope;
} Call;

/* What one output position gathers: run t of `in` numbers lies shift[t] further than the position; weights (in, out). */
typedef struct {
    long count, shift[MAX_TAPS];
    const float *weights[MAX_TAPS];
} Taps;

/* acc[p][v] = sum over taps and channels of from[p] * weights: P positions by V vectors. */
INLINE void gather(const int P, const int V, const float **from, const Taps *taps, long in, long out, long at,
                   vec acc[6][2]) {
    for (long t = 0; t < taps->count; t++) {
        const float *weights = taps->weights[t] + at;
        const float *x[6];
        UNROLL for (int p = 0; p < P; p++) x[p] = from[p] + taps->shift[t];
        UNROLL_BY_4 for (long c = 0; c < in; c++, weights += out) {
            vec w[2];
            UNROLL for (int v = 0; v < V; v++) w[v] = load(weights + 8 * v);
            UNROLL for (int p = 0; p < P; p++) {
                const vec value = all(x[p][c]);
                UNROLL for (int v = 0; v < V; v++) acc[p][v] += value * w[v];
            }
        }
    }
}

/* What a convolution can end in itself: activations whose derivative is told from the output. */
INLINE vec ended(vec value, long activation, float slope) {
    if (activation == RELU) return activated(value, RELU, slope);
    if (activation == LEAKY_RELU) return activated(value, LEAKY_RELU, slope);
    if (activation == TANH) return activated(value, TANH, slope);
    return value;
}

INLINE vec ended_derivative(vec output, long activation, float slope) {
    if (activation == RELU) return derivative(output, RELU, slope);
    if (activation == LEAKY_RELU) return derivative(output, LEAKY_RELU, slope);
    if (activation == TANH) return derivative(output, TANH, slope);
    return all(1);
}

INLINE void tile(const int P, const int V, const float *frame, const long *reads, float *output, const long *writes,
                 const Taps *taps, long in, long out, long at, const float *bias, long activation, float slope) {
    const float *from[6];
    vec acc[6][2];
    UNROLL for (int p = 0; p < P; p++) {
        from[p] = frame + reads[p];
        UNROLL for (int v = 0; v < V; v++) acc[p][v] = bias ? load(bias + at + 8 * v) : all(0);
    }
    if (in == 3)
        gather(P, V, from, taps, 3, out, at, acc); /* one channel, three columns: too short for a loop */
    else
        gather(P, V, from, taps, in, out, at, acc);
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++)
            store(output + writes[p] + at + 8 * v, ended(acc[p][v], activation, slope));
}

/* All positions of one image: position q reads frame + reads[q] and writes output + writes[q]. */
static void positions(const float *frame, const long *reads, float *output, const long *writes, long count,
                      const Taps *taps, long in, long out, const float *bias, long activation, float slope) {
    for (long at = 0; at < out; at += 16) {
        long q = 0;
#define TILE(P, V) \
    tile(P, V, frame, reads + q, output, writes + q, taps, in, out, at, bias, activation, slope), q += P
        if (at + 16 <= out) {
            while (q + 6 <= count) TILE(6, 2);
            if (q + 4 <= count) TILE(4, 2);
            while (q < count) TILE(1, 2);
        } else {
            while (q + 6 <= count) TILE(6, 1);
            if (q + 4 <= count) TILE(4, 1);
            while (q < count) TILE(1, 1);
        }
    }
}

/* One image into the middle of a frame whose border is zero already. */
static void framed(float *frame, const float *image, long height, long width, long channels, long border) {
    const long row = (width + 2 * border) * channels;
    for (long y = 0; y < height; y++)
        memcpy(frame + (y + border) * row + border * channels, image + y * width * channels,
               width * channels * sizeof(float));
}

/* The same for a gradient, through the activation: times its derivative, told from the output. */
static void framed_gradient(float *frame, const float *gradient, const float *output, long height, long width,
                            long channels, long activation, float slope) {
    const long row = (width + 2) * channels;
    for (long y = 0; y < height; y++) {
        float *to = frame + (y + 1) * row + channels;
        for (long x = 0; x < width * channels; x += 8) {
            const vec g = load(gradient) * ended_derivative(load(output), activation, slope);
            store(to + x, g);
            gradient += 8, output += 8;
        }
    }
}

/* R rows (tap and channel) of the kernel's gradient by V vectors, over the positions of one image. */
INLINE void outer(const int R, const int V, const Call *c, const float *frame, const float *gradient,
                  const long *offsets, float *by_kernel, long at, long rows, long columns, long row_of_frame) {
    vec acc[9][2];
    const long out = c->out, step = c->stride * c->in;
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) acc[r][v] = load(by_kernel + r * out + at + 8 * v);
    for (long i = 0; i < rows; i++) {
        const float *x = frame + i * c->stride * row_of_frame;
        const float *g = gradient + ((i + 1) * (columns + 2) + 1) * out + at;
        UNROLL_BY_4 for (long j = 0; j < columns; j++, x += step, g += out) {
            vec w[2];
            UNROLL for (int v = 0; v < V; v++) w[v] = load(g + 8 * v);
            UNROLL for (int r = 0; r < R; r++) {
                const vec value = all(x[offsets[r]]);
                UNROLL for (int v = 0; v < V; v++) acc[r][v] += value * w[v];
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) store(by_kernel + r * out + at + 8 * v, acc[r][v]);
}

static void kernel_gradient(const Call *c, const float *frame, const float *gradient, const long *offsets,
                            float *by_kernel, long rows, long columns, long row_of_frame) {
    const long count = c->size * c->size * c->in;
    for (long at = 0; at < c->out; at += 16) {
        const int whole = at + 16 <= c->out;
        long r = 0;
#define OUTER(R, V, AT) outer(R, V, c, frame, gradient, offsets + r, by_kernel + r * c->out, AT, rows, columns, row_of_frame)
        if (count % 6 == 3) { /* few channels: nine rows of one vector keep the multipliers as busy */
            OUTER(9, 1, at);
            if (whole) OUTER(9, 1, at + 8);
            r = 9;
        }
        if (whole) {
            for (; r + 6 <= count; r += 6) OUTER(6, 2, at);
            for (; r + 2 <= count; r += 2) OUTER(2, 2, at);
            for (; r < count; r++) OUTER(1, 2, at);
        } else {
            for (; r + 6 <= count; r += 6) OUTER(6, 1, at);
            for (; r + 2 <= count; r += 2) OUTER(2, 1, at);
            for (; r < count; r++) OUTER(1, 1, at);
        }
    }
}

static void bias_gradient(const float *gradient, float *by_bias, long rows, long columns, long out) {
    for (long at = 0; at < out; at += 8) {
        vec sum = load(by_bias + at);
        for (long i = 0; i < rows; i++)
            for (long j = 0; j < columns; j++) sum += load(gradient + ((i + 1) * (columns + 2) + j + 1) * out + at);
        store(by_bias + at, sum);
    }
}

/* Where a frame of the input is read for output position (0, 0): one entry for each tap, or tap and channel. */
static void tap_shifts(const Call *c, long row_of_frame, long *shift) {
    for (long a = 0; a < c->size; a++)
        for (long b = 0; b < c->size; b++) shift[a * c->size + b] = a * row_of_frame + b * c->in;
}

int nfn_convolve(const Call *c) {
    const long border = c->size / 2, rows = (c->height + c->stride - 1) / c->stride,
               columns = (c->width + c->stride - 1) / c->stride, count = rows * columns,
               row = (c->width + 2 * border) * c->in, image = c->height * c->width * c->in;
    float *frame = calloc((c->height + 2 * border) * row, sizeof(float));
    long *reads = malloc(2 * count * sizeof(long)), *writes = reads + count;
    if (!frame || !reads) return free(frame), free(reads), 1;
    for (long q = 0; q < count; q++) {
        reads[q] = (q / columns) * c->stride * row + (q % columns) * c->stride * c->in;
        writes[q] = q * c->out;
    }
    /* columns and channels of one kernel row lie side by side in the frame and in the kernel: one run */
    const long run = c->size * c->in;
    Taps taps = {.count = c->size};
    for (long t = 0; t < taps.count; t++) taps.shift[t] = t * row;
    for (long m = 0; m < c->networks; m++) {
        for (long t = 0; t < taps.count; t++) taps.weights[t] = c->kernel + (m * taps.count + t) * run * c->out;
        for (long n = 0; n < c->images; n++) {
            framed(frame, c->input + m * c->input_per_network + n * image, c->height, c->width, c->in, border);
            positions(frame, reads, c->output + (m * c->images + n) * count * c->out, writes, count, &taps, run,
                      c->out, c->bias ? c->bias + m * c->out : 0, c->activation, c->slope);
        }
    }
    return free(frame), free(reads), 0;
}

/* The input's gradient is a convolution of the framed gradient for each remainder of a pixel modulo the stride. */
typedef struct {
    long count, *reads, *writes, taps, which[MAX_TAPS], shift[MAX_TAPS];
} Remainder;

static int remainder_of(const Call *c, long ry, long rx, long rows_of_frame, Remainder *to) {
    const long border = c->size / 2, s = c->stride;
    to->count = to->taps = 0;
    to->reads = malloc(2 * c->height * c->width * sizeof(long));
    if (!to->reads) return 1;
    to->writes = to->reads + c->height * c->width;
    for (long y = ry; y < c->height; y += s)
        for (long x = rx; x < c->width; x += s) {
            to->reads[to->count] = ((y / s) + 1) * rows_of_frame + ((x / s) + 1) * c->out;
            to->writes[to->count++] = (y * c->width + x) * c->in;
        }
    for (long a = 0; a < c->size; a++)
        for (long b = 0; b < c->size; b++) {
            const long dy = ry + border - a, dx = rx + border - b;
            if (dy % s || dx % s) continue;
            to->which[to->taps] = a * c->size + b;
            to->shift[to->taps++] = dy / s * rows_of_frame + dx / s * c->out;
        }
    return 0;
}

int nfn_convolve_back(const Call *c) {
    const long border = c->size / 2, rows = (c->height + c->stride - 1) / c->stride,
               columns = (c->width + c->stride - 1) / c->stride, taps = c->size * c->size,
               row = (c->width + 2 * border) * c->in, image = c->height * c->width * c->in,
               row_of_gradient = (columns + 2) * c->out, weights = taps * c->in * c->out;
    Remainder remainders[4] = {{0}};
    const long kinds = c->by_input ? c->stride * c->stride : 0;
    float *frame = calloc((c->height + 2 * border) * row, sizeof(float));
    float *gradient = calloc((rows + 2) * row_of_gradient, sizeof(float));
    float *turned = malloc(weights * sizeof(float));
    long *offsets = malloc(taps * c->in * sizeof(long)), shift[MAX_TAPS];
    int failed = !frame || !gradient || !turned || !offsets || kinds > 4;
    for (long r = 0; r < kinds && !failed; r++)
        failed = remainder_of(c, r / c->stride, r % c->stride, row_of_gradient, &remainders[r]);
    tap_shifts(c, row, shift);
    for (long r = 0; r < taps * c->in && !failed; r++) offsets[r] = shift[r / c->in] + r % c->in;
    for (long m = 0; m < c->networks && !failed; m++) {
        const float *kernel = c->kernel + m * weights;
        for (long t = 0; t < taps && kinds; t++)
            for (long i = 0; i < c->in; i++)
                for (long o = 0; o < c->out; o++)
                    turned[(t * c->out + o) * c->in + i] = kernel[(t * c->in + i) * c->out + o];
        memset(c->by_kernel + m * weights, 0, weights * sizeof(float));
        if (c->by_bias) memset(c->by_bias + m * c->out, 0, c->out * sizeof(float));
        for (long n = 0; n < c->images; n++) {
            const long at = (m * c->images + n) * rows * columns * c->out;
            framed(frame, c->input + m * c->input_per_network + n * image, c->height, c->width, c->in, border);
            framed_gradient(gradient, c->by_output + at, c->output + at, rows, columns, c->out, c->activation, c->slope);
            kernel_gradient(c, frame, gradient, offsets, c->by_kernel + m * weights, rows, columns, row);
            if (c->by_bias) bias_gradient(gradient, c->by_bias + m * c->out, rows, columns, c->out);
            for (long r = 0; r < kinds; r++) {
                Taps through = {.count = remainders[r].taps};
                for (long t = 0; t < through.count; t++) {
                    through.shift[t] = remainders[r].shift[t];
                    through.weights[t] = turned + remainders[r].which[t] * c->in * c->out;
                }
                positions(gradient, remainders[r].reads, c->by_input + (m * c->images + n) * image,
                          remainders[r].writes, remainders[r].count, &through, c->out, c->in, 0, IDENTITY, 0);
            }
        }
    }
    for (long r = 0; r < kinds; r++) free(remainders[r].reads);
    free(frame), free(gradient), free(turned), free(offsets);
    return failed;
}
