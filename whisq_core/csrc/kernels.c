/* The frame-sized part of a training step, one clip at a time: what `training/cpu.py` calls.

   The mathematics is that of `model/interaction.py` and `model/alignment.py`, the reference form. Every function may
   run in any thread; all memory comes from the caller. */
#include "attention.h"
#include "interaction.h"
#include "products.h"
#include "rounding.h"
#include "transport.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Denormal results are 0 while a kernel runs: they weigh nothing and are slow on some processors. Denormal inputs are
   not, since `widen` goes through them. */
#if defined(__SSE__)
#define WITHOUT_DENORMALS unsigned control = _mm_getcsr(); _mm_setcsr(control | 0x8000);
#define AS_BEFORE _mm_setcsr(control);
#else
#define WITHOUT_DENORMALS
#define AS_BEFORE
#endif

/* Whether this processor has the instructions that this library was compiled for. */
EXPORT int kernels_run_here(void) {
#if defined(__x86_64__) && defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__x86_64__) && defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1;
#endif
}

INLINE const float *token_of(const Interaction *m, int64_t row) { return m->tokens + row % m->num_tokens * m->dim; }

/* How many floats `work` must hold for this clip. */
EXPORT int64_t kernels_work_floats(const Interaction *m) {
    int64_t rows = round_up(num_rows(m), ROW_PAD), columns = round_up(m->dim, FRAME_PAD);
    int64_t products = rows * columns + FRAMES_AT_ONCE * columns;
    int64_t attention = m->heads * m->stride + (2 * m->heads + VL) * m->num_tokens;
    int64_t transported = 2 * m->stride + (2 * VL + 3) * m->num_tokens;
    int64_t rounding = floats_to_round_frames(m);
    int64_t most = products > attention ? products : attention;
    most = most > transported ? most : transported;
    return most > rounding ? most : rounding;
}

/* How many floats `state` must hold for this clip. */
EXPORT int64_t kernels_state_floats(const Interaction *m) {
    return room_for_rows(m) * m->stride + m->heads * m->num_tokens + rows_of_points(m) * m->dim;
}

/* |frame - centre|^2 / 2 of each frame. */
EXPORT void kernels_half_norms(const Interaction *m, float *half_norms) {
    for (int64_t frame = 0; frame < m->num_frames; frame++) {
        vec total = splat(0);
        for (int64_t at = 0; at < m->dim; at += VL) {
            vec value = from_halves(m->frames + frame * m->dim + at) - load(m->centre + at);
            total += value * value;
        }
        half_norms[frame] = sum(total) / 2;
    }
}

INLINE void place_points(const Interaction *m) {
    for (int64_t token = 0; token < rows_of_points(m); token++)
        for (int64_t at = 0; at < m->dim; at += VL)
            store(points(m) + token * m->dim + at, load(m->tokens + token * m->dim + at) - load(m->centre + at));
}

/* Fill `scores`: rows x frames. */
EXPORT void kernels_score(const Interaction *m) {
    WITHOUT_DENORMALS
    place_points(m);
    multiply_forward(m);
    AS_BEFORE
}

/* The first half of `kernels_score` where the large products are PyTorch's: fill the scores of the points,
   `rounded_frames`, and `rows`, bfloat16 [rows of attention][dim], whose product with those frames belongs into
   `rounded_scores`. */
EXPORT void kernels_round(const Interaction *m, uint16_t *rows) {
    WITHOUT_DENORMALS
    int64_t row = 0;
    place_points(m);
    round_frames(m);
    if (m->attends_text) row = round_heads(m, m->to_text, row, rows);
    if (m->attends_audio) round_heads(m, m->to_audio, row, rows);
    AS_BEFORE
}

/* From `scores`, or `rounded_scores`, to what the mean query finds in text and in audio: [heads][dim] each, where that
   direction is taken. The scores become the weights that `kernels_slopes` needs. */
EXPORT void kernels_attend(const Interaction *m, float *of_text, float *of_audio) {
    WITHOUT_DENORMALS
    if (m->attends_text) {
        float *constants = m->work, *sums = constants + rows_to_text(m);
        for (int64_t row = 0; row < rows_to_text(m); row++) {
            int64_t place = row / m->num_tokens * m->head_step + row % m->num_tokens;
            float of_centre = dot(m->to_text + place * m->dim, m->centre, m->dim);
            constants[row] = LOG2_E * (m->to_text_constants[place] + of_centre);
        }
        softmax_over_tokens(m, constants, sums);
        memset(of_text, 0, sizeof(float) * m->heads * m->dim);
        for (int64_t row = 0; row < rows_to_text(m); row++)
            add_scaled(text_mean(m)[row], token_of(m, row), of_text + row / m->num_tokens * m->dim, m->dim);
    }
    if (m->attends_audio) {
        softmax_over_frames(m, m->work);
        weigh_frames(m, m->work, of_audio);
    }
    AS_BEFORE
}

/* The OT term of this clip: scores of points become -1 x the plan. Returns raw(x, y), or NaN where it, and with it the
   plan, must not be trusted. */
EXPORT double kernels_align(const Interaction *m, const float *frame_half_norms, const float *per_epsilon,
                            int64_t num_updates) {
    WITHOUT_DENORMALS
    double value = transport(m, frame_half_norms, per_epsilon, num_updates);
    AS_BEFORE
    return value - value == 0 ? value : __builtin_nan("");
}

/* The gradient of `slope` x raw(x, y): the plan in the scores of points becomes that towards the scores, and its other
   part is added to `of_points`. Without a slope the plan is not looked at, which may then be one not to be trusted. */
INLINE void gradient_of_transport(const Interaction *m, float slope, float *of_points) {
    float *plan = scores_of_points(m);
    if (slope == 0) {
        memset(plan, 0, sizeof(float) * m->num_tokens * m->stride);
        return;
    }
    for (int64_t at = 0; at < m->num_tokens * m->stride; at += VL) store(plan + at, load(plan + at) * slope);
    add_scaled(slope / (float)m->num_tokens, points(m), of_points, m->num_tokens * m->dim);
}

/* Given the gradients of what was found, the weights in `scores` become the gradients of the scores, in
   `rounded_scores` where there is such an array; `of_divergence` is the gradient of raw(x, y). Added to the prompt's
   gradients is what does not pass through frames. */
EXPORT void kernels_slopes(const Interaction *m, const float *of_text, const float *of_audio, float of_divergence,
                           float *of_tokens, float *of_to_text, float *of_constants, float *of_points) {
    WITHOUT_DENORMALS
    if (m->attends_text) {
        float *of_mean = m->work, *added = of_mean + rows_to_text(m), *sums = added + rows_to_text(m);
        for (int64_t row = 0; row < rows_to_text(m); row++) {
            const float *gradient = of_text + row / m->num_tokens * m->dim;
            of_mean[row] = dot(gradient, token_of(m, row), m->dim);
            add_scaled(text_mean(m)[row], gradient, of_tokens + row % m->num_tokens * m->dim, m->dim);
        }
        gradient_over_tokens(m, of_mean, added, sums);
        for (int64_t row = 0; row < rows_to_text(m); row++) {
            int64_t place = row / m->num_tokens * m->head_step + row % m->num_tokens;
            of_constants[place] += added[row];
            add_scaled(added[row], m->centre, of_to_text + place * m->dim, m->dim);
        }
    }
    if (m->attends_audio) {
        multiply_frames(m, of_audio, m->work);
        gradient_over_frames(m, m->work);
    }
    if (m->aligns) gradient_of_transport(m, of_divergence, of_points);
    if (m->rounded_scores) round_scores(m, num_rows(m) - rows_of_points(m), rows_of_points(m));
    AS_BEFORE
}

/* Add the gradients of the rows, scores x frames, to those of the prompt; `rounded_product`, [rows][dim], is PyTorch's
   product of the two in bfloat16, null where it is ours to make. */
EXPORT void kernels_collect(const Interaction *m, const uint16_t *rounded_product, float *of_to_text,
                            float *of_to_audio, float *of_points) {
    WITHOUT_DENORMALS
    const float *product = rounded_product ? widen_product(m, rounded_product) : multiply_backward(m);
    int64_t row = 0;
    if (m->attends_text) row = add_heads(m, product, row, of_to_text);
    if (m->attends_audio) row = add_heads(m, product, row, of_to_audio);
    if (m->aligns) add_rows(m, product, row, m->num_tokens, of_points);
    AS_BEFORE
}
