/* Sinkhorn's transport between a clip's frames and its prompt's tokens: raw(x, y) of `model/alignment.py` for p = 2.

   Both soft-minima of an update are taken from the same potentials, so each iteration forms every exponential once, in
   registers: no array of the size frames x tokens is written before the last iteration, which leaves the plan. */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include "interaction.h"
#include "vectors.h"

#define SMALLEST -126.0f  /* exponent below which a float32 is denormal */
#define TRUSTED 0x1p-100f /* column sums below this have lost digits to underflow */

/* Half squared norms and potentials of both sides, without the half norms in them; see `model/alignment.py`. */
typedef struct {
    float *f, *g;             /* [stride], [num_tokens] */
    float *kernel;            /* [num_tokens] vectors: exponentials of a few frames with all tokens */
    float *columns;           /* [num_tokens] vectors: what each token's column adds up to, relative to 2^tops */
    float *tops;              /* [stride]: `top` as it was when a frame's row of the plan was written */
    float *scaled_g;          /* [num_tokens] */
    float *half_norms;        /* [num_tokens], of the points */
    float log2_frame_weight, log2_token_weight;
} Transport;

/* One update of the potentials at 1 / (epsilon log 2) = `per_epsilon`; a full one, or half of it. With `writes_plan`
   the products become row weights x kernel. Returns the smallest column sum. */
INLINE float update(const Interaction *m, const Transport *t, float per_epsilon, int is_full, int writes_plan) {
    int64_t num_tokens = m->num_tokens;
    float *products = scores_of_points(m);
    for (int64_t token = 0; token < num_tokens; token++)
        t->scaled_g[token] = t->log2_token_weight + t->g[token] * per_epsilon;
    memset(t->columns, 0, sizeof(float) * VL * num_tokens);
    vec top = splat(-__builtin_inff());
    for (int64_t frame = 0; frame < m->num_frames; frame += VL) {
        float *column = products + frame;
        vec most = splat(-__builtin_inff());
        for (int64_t token = 0; token < num_tokens; token++) {
            vec score = load(column + token * m->stride) * per_epsilon + t->scaled_g[token];
            store(t->kernel + token * VL, score);
            most = larger(most, score);
        }
        vec total = splat(0);
        for (int64_t token = 0; token < num_tokens; token++) {
            vec weight = exp2_of(larger(load(t->kernel + token * VL) - most, splat(SMALLEST)));
            store(t->kernel + token * VL, weight);
            total += weight;
        }
        vec f = load(t->f + frame);
        vec row = most + f * per_epsilon + t->log2_frame_weight;
        for (int64_t lane = m->num_frames - frame; lane < VL; lane++) row[lane] = -__builtin_inff();
        vec minus_f = log2_of(total) + most; /* in units of epsilon, base 2 */
        store(t->f + frame, is_full ? minus_f * (-1 / per_epsilon) : 0.5f * f - minus_f * (0.5f / per_epsilon));
        vec before = top;
        top = larger(top, row);
        vec row_weight = exp2_of(row - top), shrink = exp2_of(before - top);
        for (int64_t token = 0; token < num_tokens; token++) {
            vec weight = load(t->kernel + token * VL) * row_weight;
            store(t->columns + token * VL, load(t->columns + token * VL) * shrink + weight);
            if (writes_plan) store(column + token * m->stride, weight);
        }
        if (writes_plan) store(t->tops + frame, top);
    }
    vec highest = splat(maximum(top)), rescale = exp2_of(top - highest);
    float smallest = __builtin_inff();
    for (int64_t token = 0; token < num_tokens; token++) {
        float column = sum(load(t->columns + token * VL) * rescale);
        t->columns[token * VL] = column;
        smallest = column < smallest ? column : smallest;
        float minus_g = log2_of(splat(column))[0] + highest[0] - t->scaled_g[token];
        t->g[token] = is_full ? minus_g * (-1 / per_epsilon) : 0.5f * t->g[token] - minus_g * (0.5f / per_epsilon);
    }
    if (writes_plan)
        for (int64_t frame = 0; frame < m->num_frames; frame += VL)
            store(t->tops + frame, exp2_of(load(t->tops + frame) - highest));
    return smallest;
}

/* Anneal the potentials over `per_epsilon`; the products of points and frames become -1 x the plan. Returns
   raw(x, y), NaN where numbers underflowed and the plan must not be used. */
static double transport(const Interaction *m, const float *frame_half_norms, const float *per_epsilon,
                        int64_t num_updates) {
    int64_t num_tokens = m->num_tokens;
    float *work = m->work;
    Transport t;
    t.f = work, work += m->stride;
    t.tops = work, work += m->stride;
    t.kernel = work, work += VL * num_tokens;
    t.columns = work, work += VL * num_tokens;
    t.g = work, work += num_tokens;
    t.scaled_g = work, work += num_tokens;
    t.half_norms = work;
    t.log2_frame_weight = -log2_of(splat((float)m->num_frames))[0];
    t.log2_token_weight = -log2_of(splat((float)num_tokens))[0];
    for (int64_t frame = 0; frame < m->stride; frame++)
        t.f[frame] = frame < m->num_frames ? -frame_half_norms[frame] : 0;
    for (int64_t token = 0; token < num_tokens; token++) {
        const float *point = points(m) + token * m->dim;
        t.half_norms[token] = dot(point, point, m->dim) / 2;
        t.g[token] = -t.half_norms[token];
    }
    float smallest = __builtin_inff();
    for (int64_t step = 0; step < num_updates; step++) {
        float found;
        if (step == num_updates - 1) /* the first and the last update are full ones */
            found = update(m, &t, per_epsilon[step], 1, 1);
        else
            found = update(m, &t, per_epsilon[step], step == 0, 0);
        smallest = !(found >= smallest) ? found : smallest;
    }
    for (int64_t token = 0; token < num_tokens; token++) {
        float *plan = scores_of_points(m) + token * m->stride;
        vec share = splat(-1 / ((float)num_tokens * t.columns[token * VL]));
        for (int64_t frame = 0; frame < m->num_frames; frame += VL)
            store(plan + frame, load(plan + frame) * load(t.tops + frame) * share);
    }
    double of_frames = 0, of_tokens = 0;
    for (int64_t frame = 0; frame < m->num_frames; frame++) of_frames += (double)t.f[frame] + frame_half_norms[frame];
    for (int64_t token = 0; token < num_tokens; token++) of_tokens += (double)t.g[token] + t.half_norms[token];
    double value = of_frames / (double)m->num_frames + of_tokens / (double)num_tokens;
    return smallest > TRUSTED ? value : __builtin_nan("");
}

#endif
