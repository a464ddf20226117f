/* zoo/native/sine_fit.c: networks of sines fitted to images by Adam, one network after another, all of one shape.

A value is kept as (units, points): points are neighbours in memory, eight or sixteen of them are computed at a time.
Units are padded to a multiple of 4 (inputs to one of 2) and points to a multiple of 16 with zeros; padded points do not
count. Everything that one network's step touches stays in the cache, which is why a network is fitted to its end before
the next one. */

#include <math.h>

#include "vectors.h"

enum { UNITS = 4, POINTS = 16, MOST_LAYERS = 16 };

typedef struct {
    const float *coordinates; /* (inputs, points) */
    const float *targets;     /* (networks, outputs, points) */
    float *parameters;        /* (networks, parameters): of each layer the weight (out, in), then the bias */
    const float *rates;       /* (networks, most steps): the learning rate of each step */
    const float *enough;      /* (networks): mean squared error at which to stop */
    long *steps;              /* (networks): at most, and how many there were */
    float *errors;            /* (networks): mean squared error at the end */
    const long *widths;       /* (layers + 1) */
    const float *frequencies; /* (layers − 1): ω of each sine */
    long networks, points, layers, most_steps;
    float beta1, beta2, epsilon;
} Fit;

/* One network at work. Per layer: weight padded (out, in) and its transpose, bias, gradients alike. */
typedef struct {
    long points, layers, in[MOST_LAYERS], out[MOST_LAYERS]; /* padded */
    long back[MOST_LAYERS]; /* columns of the transposes: as out, but of the last layer those that there are */
    float *weight[MOST_LAYERS], *turned[MOST_LAYERS], *bias[MOST_LAYERS];
    float *by_weight[MOST_LAYERS], *by_bias[MOST_LAYERS];
    float *value[MOST_LAYERS + 1]; /* what goes into each layer, then what comes out of the last */
    float *slope[MOST_LAYERS];     /* derivative of each sine */
    float *by_value[2];
} Work;

static long padded(long size, long to) { return (size + to - 1) / to * to; }

/* sin and cos of x: x less a multiple of π/2 in three parts (Cody and Waite), then the polynomials of Cephes' sinf. */
INLINE void sine_of(vec x, vec *sine, vec *cosine) {
    const vec n = (x * 0.636619772367581343f + 12582912.0f) - 12582912.0f; /* adding 1.5·2²³ rounds to whole numbers */
    const vec r = ((x - n * 1.5703125f) - n * 4.837512969970703125e-4f) - n * 7.54978995489188216e-8f;
    const vec s = r * r;
    vec p = s * -1.9515295891e-4f + 8.3321608736e-3f;
    p = p * s - 1.6666654611e-1f;
    p = p * s * r + r;
    vec q = s * 2.443315711809948e-5f - 1.388731625493765e-3f;
    q = q * s + 4.166664568298827e-2f;
    q = q * s * s - 0.5f * s + 1.0f;
    const mask quarter = __builtin_convertvector(n, mask), odd = -(quarter & 1);
    const mask flip_sine = (quarter & 2) << 30, flip_cosine = ((quarter + 1) & 2) << 30;
    *sine = (vec)((((mask)q & odd) | ((mask)p & ~odd)) ^ flip_sine);
    *cosine = (vec)((((mask)p & odd) | ((mask)q & ~odd)) ^ flip_cosine);
}

INLINE float sum_of(vec x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

/* to (rows, points) = weight (rows, columns) · from (columns, points) + bias; bias may be missing. */
static void multiply(const float *weight, const float *bias, const float *from, float *to, long rows, long columns,
                     long points) {
    for (long row = 0; row < rows; row += UNITS)
        for (long point = 0; point < points; point += POINTS) {
            vec sum[UNITS][2];
            UNROLL for (int r = 0; r < UNITS; r++) sum[r][0] = sum[r][1] = all(bias ? bias[row + r] : 0);
            for (long column = 0; column < columns; column++) {
                const vec first = load(from + column * points + point), second = load(from + column * points + point + 8);
                UNROLL for (int r = 0; r < UNITS; r++) {
                    const vec factor = all(weight[(row + r) * columns + column]);
                    sum[r][0] += factor * first;
                    sum[r][1] += factor * second;
                }
            }
            UNROLL for (int r = 0; r < UNITS; r++) {
                store(to + (row + r) * points + point, sum[r][0]);
                store(to + (row + r) * points + point + 8, sum[r][1]);
            }
        }
}

/* by_weight (rows, columns) = by_output (rows, points) · input (columns, points)ᵀ; by_bias = sums of by_output. */
static void correlate(const float *by_output, const float *input, float *by_weight, float *by_bias, long rows,
                      long columns, long points) {
    for (long row = 0; row < rows; row += UNITS) {
        for (long column = 0; column < columns; column += 2) {
            vec sum[UNITS][2];
            UNROLL for (int r = 0; r < UNITS; r++) sum[r][0] = sum[r][1] = all(0);
            for (long point = 0; point < points; point += 8) {
                const vec first = load(input + column * points + point), second = load(input + (column + 1) * points + point);
                UNROLL for (int r = 0; r < UNITS; r++) {
                    const vec factor = load(by_output + (row + r) * points + point);
                    sum[r][0] += factor * first;
                    sum[r][1] += factor * second;
                }
            }
            UNROLL for (int r = 0; r < UNITS; r++) {
                by_weight[(row + r) * columns + column] = sum_of(sum[r][0]);
                by_weight[(row + r) * columns + column + 1] = sum_of(sum[r][1]);
            }
        }
        UNROLL for (int r = 0; r < UNITS; r++) {
            vec sum = all(0);
            for (long point = 0; point < points; point += 8) sum += load(by_output + (row + r) * points + point);
            by_bias[row + r] = sum_of(sum);
        }
    }
}

/* All values, and the derivative of each sine. */
static void run(const Fit *fit, Work *work) {
    for (long layer = 0; layer < work->layers; layer++) {
        float *out = work->value[layer + 1], *slope = work->slope[layer];
        multiply(work->weight[layer], work->bias[layer], work->value[layer], out, work->out[layer], work->in[layer],
                 work->points);
        if (layer == work->layers - 1) break;
        const float frequency = fit->frequencies[layer];
        for (long at = 0; at < work->out[layer] * work->points; at += 8) {
            vec sine, cosine;
            sine_of(load(out + at) * frequency, &sine, &cosine);
            store(out + at, sine);
            store(slope + at, cosine * frequency);
        }
    }
}

/* Mean squared error; by_output = its derivative. */
static float judged(const Fit *fit, const Work *work, const float *target, float *by_output) {
    const long outputs = fit->widths[fit->layers], points = fit->points;
    const float *value = work->value[work->layers];
    const float share = 1.0f / (float)(outputs * points);
    double total = 0;
    for (long output = 0; output < outputs; output++)
        for (long point = 0; point < points; point++) {
            const float difference = value[output * work->points + point] - target[output * points + point];
            by_output[output * work->points + point] = 2 * share * difference;
            total += (double)difference * difference;
        }
    return (float)(total * share);
}

static void gradients(Work *work) {
    for (long layer = work->layers - 1;; layer--) {
        const float *by_output = work->by_value[layer % 2];
        float *by_input = work->by_value[(layer + 1) % 2];
        correlate(by_output, work->value[layer], work->by_weight[layer], work->by_bias[layer], work->out[layer],
                  work->in[layer], work->points);
        if (layer == 0) return;
        multiply(work->turned[layer], NULL, by_output, by_input, work->in[layer], work->back[layer], work->points);
        const float *slope = work->slope[layer - 1];
        for (long at = 0; at < work->in[layer] * work->points; at += 8) {
            store(by_input + at, load(by_input + at) * load(slope + at));
        }
    }
}

static void place(const Fit *fit, Work *work, const float *parameters) {
    for (long layer = 0; layer < work->layers; layer++) {
        const long in = fit->widths[layer], out = fit->widths[layer + 1];
        for (long row = 0; row < out; row++)
            for (long column = 0; column < in; column++) {
                const float number = *parameters++;
                work->weight[layer][row * work->in[layer] + column] = number;
                work->turned[layer][column * work->back[layer] + row] = number;
            }
        memcpy(work->bias[layer], parameters, out * sizeof(float));
        parameters += out;
    }
}

static void collect(const Fit *fit, const Work *work, float *gradient) {
    for (long layer = 0; layer < work->layers; layer++) {
        const long in = fit->widths[layer], out = fit->widths[layer + 1];
        for (long row = 0; row < out; row++, gradient += in)
            memcpy(gradient, work->by_weight[layer] + row * work->in[layer], in * sizeof(float));
        memcpy(gradient, work->by_bias[layer], out * sizeof(float));
        gradient += out;
    }
}

static void fit_one(const Fit *fit, Work *work, long network, long count, float *moments) {
    float *parameters = fit->parameters + network * count, *first = moments, *second = moments + count;
    float *gradient = moments + 2 * count;
    const float *target = fit->targets + network * fit->widths[fit->layers] * fit->points;
    float *by_output = work->by_value[(work->layers - 1) % 2];
    double decayed1 = 1, decayed2 = 1;
    memset(moments, 0, 2 * count * sizeof(float));
    long step = 0;
    for (;; step++) {
        place(fit, work, parameters);
        run(fit, work);
        memset(by_output, 0, work->out[work->layers - 1] * work->points * sizeof(float));
        const float error = fit->errors[network] = judged(fit, work, target, by_output);
        if (step == fit->steps[network] || !(error > fit->enough[network])) break;
        gradients(work);
        collect(fit, work, gradient);
        decayed1 *= fit->beta1, decayed2 *= fit->beta2;
        const float rate = (float)(fit->rates[network * fit->most_steps + step] / (1 - decayed1));
        const float correction = (float)(1 / sqrt(1 - decayed2));
        for (long at = 0; at < count; at++) {
            first[at] += (1 - fit->beta1) * (gradient[at] - first[at]);
            second[at] += (1 - fit->beta2) * (gradient[at] * gradient[at] - second[at]);
            parameters[at] -= rate * first[at] / (sqrtf(second[at]) * correction + fit->epsilon);
        }
    }
    fit->steps[network] = step;
}

/* Returns 0, or 1 where there is no memory. */
int nfn_fit_sines(const Fit *fit) {
    Work work = {.points = padded(fit->points, POINTS), .layers = fit->layers};
    if (work.points % 128 == 0) work.points += POINTS; /* rows a multiple of 512 bytes apart would share cache sets */
    if (fit->layers < 1 || fit->layers > MOST_LAYERS) return 1;
    long count = 0, size = 0, widest = 0;
    for (long layer = 0; layer < fit->layers; layer++) {
        const long in = fit->widths[layer], out = fit->widths[layer + 1];
        count += out * (in + 1);
        work.in[layer] = padded(in, layer ? UNITS : 2), work.out[layer] = padded(out, UNITS);
        work.back[layer] = layer == fit->layers - 1 ? out : work.out[layer];
        size += 3 * work.in[layer] * work.out[layer] + 2 * work.out[layer];
        size += work.points * (work.in[layer] + work.out[layer]);
        widest = work.in[layer] > widest ? work.in[layer] : widest;
        widest = work.out[layer] > widest ? work.out[layer] : widest;
    }
    size += work.points * (work.out[fit->layers - 1] + 2 * widest) + 3 * count;
    float *memory = calloc(size, sizeof(float)), *next = memory;
    if (!memory) return 1;
    for (long layer = 0; layer < fit->layers; layer++) {
        const long both = work.in[layer] * work.out[layer];
        work.weight[layer] = next, next += both;
        work.turned[layer] = next, next += both;
        work.by_weight[layer] = next, next += both;
        work.bias[layer] = next, next += work.out[layer];
        work.by_bias[layer] = next, next += work.out[layer];
        work.value[layer] = next, next += work.points * work.in[layer];
        work.slope[layer] = next, next += work.points * work.out[layer];
    }
    work.value[fit->layers] = next, next += work.points * work.out[fit->layers - 1];
    work.by_value[0] = next, next += work.points * widest;
    work.by_value[1] = next, next += work.points * widest;
    for (long input = 0; input < fit->widths[0]; input++)
        memcpy(work.value[0] + input * work.points, fit->coordinates + input * fit->points, fit->points * sizeof(float));
    for (long network = 0; network < fit->networks; network++) fit_one(fit, &work, network, count, next);
    free(memory);
    return 0;
}
