/* zoo/native/vectors.h: eight numbers at a time, and the functions of one number that networks use. */

#include <stdlib.h>
#include <string.h>

typedef float vec __attribute__((vector_size(32), aligned(4)));
typedef int mask __attribute__((vector_size(32), aligned(4)));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_BY_4 _Pragma("GCC unroll 4")

enum { IDENTITY = 0, RELU = 1, LEAKY_RELU = 2, TANH = 3, GELU = 4, SILU = 5 };

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }
INLINE vec all(float value) { return (vec){value, value, value, value, value, value, value, value}; }

INLINE vec where_positive(vec tested, vec yes, vec no) {
    const mask keep = tested > 0;
    return (vec)(((mask)yes & keep) | ((mask)no & ~keep));
}

INLINE vec clamped(vec x, float low, float high) {
    x = where_positive(x - high, all(high), x);
    return where_positive(low - x, all(low), x);
}

/* tanh as odd over even polynomial (the minimax pair of Eigen's float tanh): within a few units in the last place. */
INLINE vec tanh_of(vec x) {
    x = clamped(x, -7.90531110763549805f, 7.90531110763549805f);
    const vec s = x * x;
    vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
    p = p * s - 8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return x * p / q;
}

/* e^x = 2^n e^r with |r| ≤ ln 2 / 2; the polynomial is Cephes' expf. */
INLINE vec exp_of(vec x) {
    x = clamped(x, -87.0f, 88.0f);
    const vec n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f; /* adding 1.5·2²³ rounds to whole numbers */
    const vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const mask power = (__builtin_convertvector(n, mask) + 127) << 23;
    return p * (vec)power;
}

/* Φ(x), the normal distribution function, and its density, by formula 7.1.26 of Abramowitz and Stegun (error 1.5·10⁻⁷). */
INLINE vec normal_of(vec x, vec *density) {
    const vec magnitude = where_positive(x, x, -x), bell = exp_of(-0.5f * x * x);
    const vec t = 1.0f / (1.0f + 0.23164190f * magnitude); /* 0.3275911 / √2 */
    vec p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const vec tail = 0.5f * p * t * bell;
    *density = bell * 0.39894228040143268f;
    return where_positive(x, 1.0f - tail, tail);
}

INLINE vec activated(vec value, long activation, float slope) {
    vec density;
    if (activation == RELU) return where_positive(value, value, all(0));
    if (activation == LEAKY_RELU) return where_positive(value, value, value * slope);
    if (activation == TANH) return tanh_of(value);
    if (activation == GELU) return value * normal_of(value, &density);
    if (activation == SILU) return value / (1.0f + exp_of(-value));
    return value;
}

/* Derivative: of gelu and silu told from what went in, of the others from what came out. */
INLINE vec derivative(vec value, long activation, float slope) {
    vec density;
    if (activation == RELU) return where_positive(value, all(1), all(0));
    if (activation == LEAKY_RELU) return where_positive(value, all(1), all(slope));
    if (activation == TANH) return 1 - value * value;
    if (activation == GELU) {
        const vec below = normal_of(value, &density);
        return below + value * density;
    }
    if (activation == SILU) {
        const vec s = 1.0f / (1.0f + exp_of(-value));
        return s * (1.0f + value * (1.0f - s));
    }
    return all(1);
}
