/* Attention of which only the mean over queries is used: both softmaxes, and their gradients, in place. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "interaction.h"
#include "rounding.h"
#include "vectors.h"

#define FRAMES_TOGETHER 4

/* Frames query tokens. The scores of each frame, plus `constants` in base 2, become softmax / num_frames; their
   sums over frames go to `text_mean`. Padded frames weigh 0. `sums` has room for num_tokens vectors. */
static void softmax_over_tokens(const Interaction *m, const float *constants, float *sums) {
    int64_t num_tokens = m->num_tokens, step = m->stride;
    for (int64_t head = 0; head < m->heads; head++) {
        float *scores = scores_to_text(m) + head * num_tokens * step;
        const float *constant = constants + head * num_tokens;
        if (m->rounded_scores) widen_scores(m, head * num_tokens, num_tokens);
        memset(sums, 0, sizeof(float) * VL * num_tokens);
        for (int64_t token = 0; token < num_tokens; token++)
            for (int64_t frame = m->num_frames; frame < step; frame++) scores[token * step + frame] = 0;
        for (int64_t frame = 0; frame < m->num_frames; frame += VL) {
            float *column = scores + frame;
            vec most = load(column) + constant[0];
            for (int64_t token = 1; token < num_tokens; token++)
                most = larger(most, load(column + token * step) + constant[token]);
            vec total = splat(0);
            for (int64_t token = 0; token < num_tokens; token++) {
                vec weight = exp2_of(load(column + token * step) + constant[token] - most);
                store(column + token * step, weight);
                total += weight;
            }
            vec share = first_lanes(1.0f / (total * (float)m->num_frames), m->num_frames - frame);
            for (int64_t token = 0; token < num_tokens; token++) {
                vec weight = load(column + token * step) * share;
                store(column + token * step, weight);
                store(sums + token * VL, load(sums + token * VL) + weight);
            }
        }
        for (int64_t token = 0; token < num_tokens; token++)
            text_mean(m)[head * num_tokens + token] = sum(load(sums + token * VL));
    }
}

/* Tokens query frames. The scores of each row become softmax / num_tokens; their sums over tokens, of each head, go to
   `means` [heads][stride]. Padded frames weigh 0. */
static void softmax_over_frames(const Interaction *m, float *means) {
    memset(means, 0, sizeof(float) * m->heads * m->stride);
    for (int64_t row = 0; row < rows_to_audio(m); row++) {
        float *scores = scores_to_audio(m) + row * m->stride, *mean = means + row / m->num_tokens * m->stride;
        if (m->rounded_scores) widen_scores(m, rows_to_text(m) + row, 1);
        for (int64_t frame = m->num_frames; frame < m->stride; frame++) scores[frame] = -__builtin_inff();
        vec most = load(scores), total = splat(0);
        for (int64_t frame = VL; frame < m->num_frames; frame += VL) most = larger(most, load(scores + frame));
        vec top = splat(maximum(most));
        for (int64_t frame = 0; frame < m->stride; frame += VL) {
            vec weight = exp2_of(load(scores + frame) - top);
            store(scores + frame, weight);
            total += weight;
        }
        float share = 1 / (sum(total) * (float)m->num_tokens);
        for (int64_t frame = 0; frame < m->stride; frame += VL) {
            vec weight = load(scores + frame) * share;
            store(scores + frame, weight);
            store(mean + frame, load(mean + frame) + weight);
        }
    }
}

/* The gradient of `softmax_over_tokens` in place, given that of `text_mean`; that of the constants to `of_constants`. */
static void gradient_over_tokens(const Interaction *m, const float *of_mean, float *of_constants, float *sums) {
    int64_t num_tokens = m->num_tokens, step = m->stride;
    for (int64_t head = 0; head < m->heads; head++) {
        float *weights = scores_to_text(m) + head * num_tokens * step;
        const float *gradient = of_mean + head * num_tokens;
        memset(sums, 0, sizeof(float) * VL * num_tokens);
        for (int64_t frame = 0; frame < m->num_frames; frame += VL) {
            float *column = weights + frame;
            vec average = splat(0);
            for (int64_t token = 0; token < num_tokens; token++)
                average += load(column + token * step) * gradient[token];
            average *= (float)m->num_frames;
            for (int64_t token = 0; token < num_tokens; token++) {
                vec slope = load(column + token * step) * (gradient[token] - average);
                store(column + token * step, slope);
                store(sums + token * VL, load(sums + token * VL) + slope);
            }
        }
        for (int64_t token = 0; token < num_tokens; token++)
            of_constants[head * num_tokens + token] = sum(load(sums + token * VL));
        if (m->rounded_scores) round_scores(m, head * num_tokens, num_tokens);
    }
}

/* The gradient of `softmax_over_frames` in place, given that of `means`. */
static void gradient_over_frames(const Interaction *m, const float *of_means) {
    for (int64_t row = 0; row < rows_to_audio(m); row++) {
        float *weights = scores_to_audio(m) + row * m->stride;
        const float *of_mean = of_means + row / m->num_tokens * m->stride;
        vec total = splat(0);
        for (int64_t frame = 0; frame < m->stride; frame += VL) total += load(weights + frame) * load(of_mean + frame);
        float average = sum(total) * (float)m->num_tokens;
        for (int64_t frame = 0; frame < m->stride; frame += VL)
            store(weights + frame, load(weights + frame) * (load(of_mean + frame) - average));
        if (m->rounded_scores) round_scores(m, rows_to_text(m) + row, 1);
    }
}

/* found[head] = sum over frames of means[head][frame] x frame, for weights that add up to 1: no centre is needed. */
static void weigh_frames(const Interaction *m, const float *means, float *found) {
    memset(found, 0, sizeof(float) * m->heads * m->dim);
    for (int64_t first = 0; first < m->num_frames; first += FRAMES_TOGETHER) {
        int64_t count = m->num_frames - first < FRAMES_TOGETHER ? m->num_frames - first : FRAMES_TOGETHER;
        for (int64_t at = 0; at < m->dim; at += VL) {
            vec frames[FRAMES_TOGETHER];
            for (int64_t frame = 0; frame < FRAMES_TOGETHER; frame++)
                frames[frame] = frame < count ? from_halves(m->frames + (first + frame) * m->dim + at) : splat(0);
            for (int64_t head = 0; head < m->heads; head++) {
                vec total = load(found + head * m->dim + at);
                for (int64_t frame = 0; frame < FRAMES_TOGETHER; frame++)
                    total += means[head * m->stride + first + frame] * frames[frame];
                store(found + head * m->dim + at, total);
            }
        }
    }
}

/* products[head][frame] = vectors[head] . (frame - centre); 0 for padded frames. */
static void multiply_frames(const Interaction *m, const float *vectors, float *products) {
    memset(products, 0, sizeof(float) * m->heads * m->stride);
    for (int64_t frame = 0; frame < m->num_frames; frame += 2) {
        const uint16_t *one = m->frames + frame * m->dim, *other = frame + 1 < m->num_frames ? one + m->dim : one;
        for (int64_t head = 0; head < m->heads; head += 4) {
            int64_t count = m->heads - head < 4 ? m->heads - head : 4;
            const float *from[4];
            for (int64_t k = 0; k < 4; k++) from[k] = vectors + (head + (k < count ? k : 0)) * m->dim;
            vec of_one[4] = {{0}}, of_other[4] = {{0}};
            for (int64_t at = 0; at < m->dim; at += VL) {
                vec centre = load(m->centre + at);
                vec a = from_halves(one + at) - centre, b = from_halves(other + at) - centre;
                for (int64_t k = 0; k < 4; k++) {
                    of_one[k] += a * load(from[k] + at);
                    of_other[k] += b * load(from[k] + at);
                }
            }
            for (int64_t k = 0; k < count; k++) {
                float *to = products + (head + k) * m->stride + frame;
                to[0] = sum(of_one[k]);
                if (frame + 1 < m->num_frames) to[1] = sum(of_other[k]);
            }
        }
    }
}

#endif
