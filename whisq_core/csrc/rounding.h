/* Where the two large products are PyTorch's, in bfloat16: what they are given, and what they leave.

   Everything between the two stays in float32, in the same arrays as without rounding. */
#ifndef ROUNDING_H
#define ROUNDING_H

#include "interaction.h"
#include "products.h"
#include "vectors.h"

#define FRAMES_TOGETHER_WITH_POINTS 48 /* whole tiles, whose frames stay in the second cache */

/* The points as columns, [points / TILE_COLUMNS][dim][TILE_COLUMNS]. */
static void pack_points_as_columns(const Interaction *m, int64_t columns, float *packed) {
    memset(packed, 0, sizeof(float) * columns * m->dim);
    for (int64_t point = 0; point < rows_of_points(m); point++) {
        float *to = packed + point / TILE_COLUMNS * TILE_COLUMNS * m->dim + point % TILE_COLUMNS;
        for (int64_t k = 0; k < m->dim; k++) to[k * TILE_COLUMNS] = points(m)[point * m->dim + k];
    }
}

/* How many floats `round_frames` works with. */
static int64_t floats_to_round_frames(const Interaction *m) {
    int64_t columns = round_up(rows_of_points(m), FRAME_PAD);
    return FRAMES_TOGETHER_WITH_POINTS * (m->dim + VL + columns) + columns * m->dim;
}

/* The frames relative to the centre: rounded, to `rounded_frames`, and in float32 times the points, to their scores.
   One way through the frames does both. */
static void round_frames(const Interaction *m) {
    int64_t dim = m->dim, columns = round_up(rows_of_points(m), TILE_COLUMNS);
    int64_t step = dim + VL; /* frames a power of two apart would share few places of the first cache */
    float *frames = m->work, *products = frames + FRAMES_TOGETHER_WITH_POINTS * step;
    float *packed = products + FRAMES_TOGETHER_WITH_POINTS * columns;
    pack_points_as_columns(m, columns, packed);
    for (int64_t first = 0; first < m->num_frames; first += FRAMES_TOGETHER_WITH_POINTS) {
        int64_t left = m->num_frames - first;
        int64_t count = left < FRAMES_TOGETHER_WITH_POINTS ? left : FRAMES_TOGETHER_WITH_POINTS;
        for (int64_t frame = 0; frame < count; frame++)
            for (int64_t at = 0; at < dim; at += VL) {
                int64_t place = (first + frame) * dim + at;
                vec value = from_halves(m->frames + place) - load(m->centre + at);
                store_rounded(m->rounded_frames + place, value);
                store(frames + frame * step + at, value);
            }
        for (int64_t column = 0; column < columns; column += TILE_COLUMNS)
            for (int64_t frame = 0; frame < count; frame += TILE_ROWS)
                tile(dim, frames + frame * step, step, 1, packed + column * dim,
                     products + frame * columns + column, columns, 0);
        for (int64_t point = 0; point < rows_of_points(m); point++)
            for (int64_t frame = 0; frame < count; frame++)
                scores_of_points(m)[point * m->stride + first + frame] = products[frame * columns + point];
    }
    for (int64_t point = 0; point < rows_of_points(m); point++)
        memset(scores_of_points(m) + point * m->stride + m->num_frames, 0,
               sizeof(float) * (m->stride - m->num_frames));
}

/* A direction's rows in base 2, from row `at` on; the row after them. */
static int64_t round_heads(const Interaction *m, const float *rows, int64_t at, uint16_t *rounded) {
    for (int64_t head = 0; head < m->heads; head++, at += m->num_tokens)
        for (int64_t k = 0; k < m->num_tokens * m->dim; k += VL)
            store_rounded(rounded + at * m->dim + k, LOG2_E * load(rows + head * m->head_step * m->dim + k));
    return at;
}

/* `count` rows of rounded scores from `first` on become float32 ones. */
static void widen_scores(const Interaction *m, int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; row++) {
        const uint16_t *from = m->rounded_scores + row * m->num_frames;
        float *to = m->state + row * m->stride;
        int64_t whole = m->num_frames / VL * VL;
        uint16_t rest[VL] = {0};
        for (int64_t frame = 0; frame < whole; frame += VL) store(to + frame, from_rounded(from + frame));
        memcpy(rest, from + whole, sizeof(uint16_t) * (m->num_frames - whole));
        if (whole < m->num_frames) store(to + whole, from_rounded(rest));
    }
}

/* The other way. */
static void round_scores(const Interaction *m, int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; row++) {
        const float *from = m->state + row * m->stride;
        uint16_t *to = m->rounded_scores + row * m->num_frames;
        int64_t whole = m->num_frames / VL * VL;
        uint16_t rest[VL];
        for (int64_t frame = 0; frame < whole; frame += VL) store_rounded(to + frame, load(from + frame));
        if (whole < m->num_frames) store_rounded(rest, load(from + whole));
        memcpy(to + whole, rest, sizeof(uint16_t) * (m->num_frames - whole));
    }
}

/* PyTorch's product of scores and frames, [rows][dim], laid out and widened as `multiply_backward` leaves its own. */
static const float *widen_product(const Interaction *m, const uint16_t *product) {
    int64_t padded = round_up(num_rows(m), ROW_PAD);
    for (int64_t row = 0; row < num_rows(m); row++)
        for (int64_t at = 0; at < m->dim; at += VL)
            store(m->work + at / TILE_COLUMNS * TILE_COLUMNS * padded + row * TILE_COLUMNS + at % TILE_COLUMNS,
                  from_rounded(product + row * m->dim + at));
    return m->work;
}

#endif
