/* Vectors of VL floats: loads, float16, exponentials and logarithms in base 2.

   GCC's and Clang's vector extensions, so that one source serves every processor; intrinsics only where the
   extensions have no word for an instruction. VL is 16, 8 or 4 by the instruction set compiled for. */
#ifndef VECTORS_H
#define VECTORS_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#ifndef VL
#if defined(__AVX512F__)
#define VL 16
#elif defined(__AVX__)
#define VL 8
#else
#define VL 4
#endif
#endif

#define LOG2_E 1.4426950408889634f /* softmaxes are taken in base 2 */

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * VL)));
typedef int32_t ivec __attribute__((vector_size(4 * VL)));
typedef uint32_t bits __attribute__((vector_size(4 * VL)));
typedef uint16_t halves __attribute__((vector_size(2 * VL)));
typedef float vec_anywhere __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef uint16_t halves_anywhere __attribute__((vector_size(2 * VL), aligned(2), may_alias));

typedef float four __attribute__((vector_size(16)));
typedef int32_t four_places __attribute__((vector_size(16)));
typedef float four_anywhere __attribute__((vector_size(16), aligned(4), may_alias));

INLINE vec load(const float *from) { return *(const vec_anywhere *)from; }
INLINE void store(float *to, vec value) { *(vec_anywhere *)to = value; }
INLINE vec splat(float value) { return value - (vec){0}; }

INLINE vec larger(vec a, vec b) {
#if defined(__AVX512F__) && VL == 16
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__) && VL == 8
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE__) && VL == 4
    return (vec)_mm_max_ps((__m128)a, (__m128)b);
#elif defined(__ARM_NEON) && VL == 4
    return (vec)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#else
    ivec of_a = a > b;
    return (vec)((of_a & (ivec)a) | (~of_a & (ivec)b));
#endif
}

INLINE float sum(vec value) {
    float total = 0;
    for (int lane = 0; lane < VL; lane++) total += value[lane];
    return total;
}

INLINE float maximum(vec value) {
    float most = value[0];
    for (int lane = 1; lane < VL; lane++) most = value[lane] > most ? value[lane] : most;
    return most;
}

/* left . right */
INLINE float dot(const float *left, const float *right, int64_t count) {
    vec total = splat(0);
    for (int64_t at = 0; at < count; at += VL) total += load(left + at) * load(right + at);
    return sum(total);
}

/* to += scale x from */
INLINE void add_scaled(float scale, const float *from, float *to, int64_t count) {
    for (int64_t at = 0; at < count; at += VL) store(to + at, load(to + at) + scale * load(from + at));
}

/* `value` in its first `count` lanes, 0 in the others. */
INLINE vec first_lanes(vec value, int64_t count) {
    for (int64_t lane = count < 0 ? 0 : count; lane < VL; lane++) value[lane] = 0;
    return value;
}

/* Finite float16 numbers without a conversion instruction: shift the bits into place, correct the exponent. */
INLINE vec widen(bits half) {
    bits magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    vec scaled = (vec)magnitude * 0x1p112f;
    return (vec)((bits)scaled | sign);
}

INLINE vec from_halves(const uint16_t *from) {
#if defined(__AVX512F__) && VL == 16
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif defined(__F16C__) && VL == 8
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#else
    return widen(__builtin_convertvector(*(const halves_anywhere *)from, bits));
#endif
}

/* bfloat16 is the upper half of a float32. */
INLINE vec from_rounded(const uint16_t *from) {
    return (vec)(__builtin_convertvector(*(const halves_anywhere *)from, bits) << 16);
}

/* Ties go to even. */
INLINE void store_rounded(uint16_t *to, vec value) {
    bits upper = (bits)value + 0x7fff + (((bits)value >> 16) & 1);
    *(halves_anywhere *)to = __builtin_convertvector(upper >> 16, halves);
}

INLINE four four_from_halves(const uint16_t *from) {
#if defined(__F16C__)
    return (four)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)from));
#else
    typedef uint32_t four_bits __attribute__((vector_size(16)));
    four_bits half = {from[0], from[1], from[2], from[3]};
    four_bits magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    four scaled = (four)magnitude * 0x1p112f;
    return (four)((four_bits)scaled | sign);
#endif
}

/* 2^x to one unit in the last place for x in [-127, 127]; exactly 0 from -127 down, so that -inf weighs nothing. */
INLINE vec exp2_of(vec x) {
    x = larger(x, splat(-127));
    const float rounder = 0x1.8p23f; /* what is added to it loses its fraction */
    vec shifted = x + rounder;
    ivec whole = (ivec)shifted - (ivec)splat(rounder);
    vec part = x - (shifted - rounder); /* in [-1/2, 1/2] */
    vec power = splat(0x1.444000p-13f); /* Chebyshev interpolation of 2^part: relative error 2.5e-9 */
    power = power * part + 0x1.5f48c0p-10f;
    power = power * part + 0x1.3b2a1cp-7f;
    power = power * part + 0x1.c6aeccp-5f;
    power = power * part + 0x1.ebfbe0p-3f;
    power = power * part + 0x1.62e430p-1f;
    power = power * part + 1.0f;
    return power * (vec)((whole + 127) << 23);
}

/* log2 of positive normal numbers: the exponent, and log((1 + s) / (1 - s)) = 2 (s + s^3 / 3 + ...) of the mantissa. */
INLINE vec log2_of(vec x) {
    ivec exponent = ((ivec)x - 0x3f3504f3) >> 23; /* the mantissa is left in [sqrt(1/2), sqrt(2)) */
    vec mantissa = (vec)((ivec)x - (exponent << 23));
    vec s = (mantissa - 1) / (mantissa + 1), square = s * s;
    vec series = splat(1.0f / 9);
    series = series * square + 1.0f / 7;
    series = series * square + 1.0f / 5;
    series = series * square + 1.0f / 3;
    series = series * square * s + s;
    return __builtin_convertvector(exponent, vec) + series * 2.885390081777927f;
}

#endif
