/* The two products of a training step that are as large as frames x rows, at the speed of the processor.

   Both keep a tile of TILE_ROWS x TILE_COLUMNS results in registers. What goes into the columns, frames, is widened
   from float16 and taken relative to the clip's centre while it is packed, so no float32 copy of a clip exists. */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "interaction.h"
#include "vectors.h"

#define TILE_ROWS (VL == 16 ? 12 : 6) /* by the number of registers: 32 or 16 */
#define TILE_COLUMNS (2 * VL)
#define DEPTH_AT_ONCE 128                      /* of the forward product, and ... */
#define FRAMES_AT_ONCE (VL == 16 ? 128 : 256) /* ... of the backward one: packed columns stay in the first cache */

#if ROW_PAD % 6 || FRAME_PAD % 32
#error "rows and frames are padded to whole tiles"
#endif

/* out (+)= rows x columns over `depth`. Rows lie `row_step` apart, and their numbers `depth_step`; columns are packed
   [depth][TILE_COLUMNS]. */
INLINE void tile(int64_t depth, const float *rows, int64_t row_step, int64_t depth_step, const float *columns,
                 float *out, int64_t out_step, int adds) {
    vec left[TILE_ROWS], right[TILE_ROWS];
    for (int row = 0; row < TILE_ROWS; row++) {
        if (adds) __builtin_prefetch(out + row * out_step, 1, 3);
        left[row] = right[row] = splat(0);
    }
    for (int64_t k = 0; k < depth; k++) {
        vec column_left = load(columns + k * TILE_COLUMNS), column_right = load(columns + k * TILE_COLUMNS + VL);
        for (int row = 0; row < TILE_ROWS; row++) {
            vec number = splat(rows[row * row_step + k * depth_step]);
            left[row] += number * column_left;
            right[row] += number * column_right;
        }
    }
    for (int row = 0; row < TILE_ROWS; row++) {
        float *to = out + row * out_step;
        store(to, adds ? load(to) + left[row] : left[row]);
        store(to + VL, adds ? load(to + VL) + right[row] : right[row]);
    }
}

/* `count` rows, times `scale`, into [row / TILE_ROWS][dim][TILE_ROWS] from row `at` on; the row after them. */
static int64_t pack_rows(const float *rows, int64_t count, int64_t dim, float scale, int64_t at, float *packed) {
    for (int64_t row = 0; row < count; row++) {
        int64_t place = at + row;
        float *to = packed + place / TILE_ROWS * TILE_ROWS * dim + place % TILE_ROWS;
        for (int64_t k = 0; k < dim; k++) to[k * TILE_ROWS] = scale * rows[row * dim + k];
    }
    return at + count;
}

static int64_t pack_heads(const Interaction *m, const float *rows, int64_t at, float *packed) {
    for (int64_t head = 0; head < m->heads; head++)
        at = pack_rows(rows + head * m->head_step * m->dim, m->num_tokens, m->dim, LOG2_E, at, packed);
    return at;
}

INLINE four four_of(const Interaction *m, int64_t frame, int64_t at, four centre) {
    return frame < m->num_frames ? four_from_halves(m->frames + frame * m->dim + at) - centre : (four){0};
}

#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (four_places){i, j, k, l})
#endif

/* Numbers `from` to `from + depth` of TILE_COLUMNS frames from `first` on, each of all frames side by side:
   [depth][TILE_COLUMNS]. */
static void pack_frames_as_columns(const Interaction *m, int64_t first, int64_t from, int64_t depth, float *packed) {
    for (int64_t column = 0; column < TILE_COLUMNS; column += 4) {
        int64_t frame = first + column;
        for (int64_t k = 0; k < depth; k += 4) {
            four centre = *(const four_anywhere *)(m->centre + from + k);
            four a = four_of(m, frame, from + k, centre), b = four_of(m, frame + 1, from + k, centre);
            four c = four_of(m, frame + 2, from + k, centre), d = four_of(m, frame + 3, from + k, centre);
            four ab_low = PICK(a, b, 0, 4, 1, 5), cd_low = PICK(c, d, 0, 4, 1, 5);
            four ab_high = PICK(a, b, 2, 6, 3, 7), cd_high = PICK(c, d, 2, 6, 3, 7);
            float *to = packed + k * TILE_COLUMNS + column;
            *(four_anywhere *)to = PICK(ab_low, cd_low, 0, 1, 4, 5);
            *(four_anywhere *)(to + TILE_COLUMNS) = PICK(ab_low, cd_low, 2, 3, 6, 7);
            *(four_anywhere *)(to + 2 * TILE_COLUMNS) = PICK(ab_high, cd_high, 0, 1, 4, 5);
            *(four_anywhere *)(to + 3 * TILE_COLUMNS) = PICK(ab_high, cd_high, 2, 3, 6, 7);
        }
    }
}

/* `count` frames from `first` on, cut into columns of their numbers: [dim / TILE_COLUMNS][count][TILE_COLUMNS]. */
static void pack_frames_as_rows(const Interaction *m, int64_t first, int64_t count, float *packed) {
    for (int64_t k = 0; k < count; k++) {
        const uint16_t *frame = m->frames + (first + k) * m->dim;
        for (int64_t at = 0; at < m->dim; at += VL) {
            float *to = packed + at / TILE_COLUMNS * TILE_COLUMNS * count + k * TILE_COLUMNS + at % TILE_COLUMNS;
            store(to, from_halves(frame + at) - load(m->centre + at));
        }
    }
}

/* All rows, packed; their number. */
static int64_t pack_all_rows(const Interaction *m, float *packed) {
    int64_t count = 0;
    memset(packed, 0, sizeof(float) * round_up(num_rows(m), ROW_PAD) * m->dim);
    if (m->attends_text) count = pack_heads(m, m->to_text, count, packed);
    if (m->attends_audio) count = pack_heads(m, m->to_audio, count, packed);
    if (m->aligns) count = pack_rows(points(m), m->num_tokens, m->dim, 1, count, packed);
    return count;
}

/* Ask for numbers `from` to `from + depth` of a frame that will be packed later. */
INLINE void fetch_ahead(const Interaction *m, int64_t frame, int64_t from, int64_t depth) {
    if (frame >= m->num_frames) return;
    const uint16_t *numbers = m->frames + frame * m->dim + from;
    for (int64_t at = 0; at < depth; at += 32) __builtin_prefetch(numbers + at, 0, 2);
}

/* scores = rows x frames, those of attention in base 2; padded frames score 0. */
static void multiply_forward(const Interaction *m) {
    float *rows = m->work, *columns = rows + round_up(num_rows(m), ROW_PAD) * m->dim;
    int64_t count = pack_all_rows(m, rows);
    for (int64_t from = 0; from < m->dim; from += DEPTH_AT_ONCE) {
        int64_t depth = m->dim - from < DEPTH_AT_ONCE ? m->dim - from : DEPTH_AT_ONCE;
        for (int64_t frame = 0; frame < m->num_frames; frame += TILE_COLUMNS) {
            pack_frames_as_columns(m, frame, from, depth, columns);
            for (int64_t row = 0; row < count; row += TILE_ROWS) {
                if (row / TILE_ROWS < TILE_COLUMNS)
                    fetch_ahead(m, frame + TILE_COLUMNS + row / TILE_ROWS, from, depth);
                tile(depth, rows + row * m->dim + from * TILE_ROWS, 1, TILE_ROWS, columns,
                     m->state + row * m->stride + frame, m->stride, from > 0);
            }
        }
    }
}

/* What `multiply_backward` finds: scores x frames as [dim / TILE_COLUMNS][rows][TILE_COLUMNS]. */
static float *multiply_backward(const Interaction *m) {
    int64_t count = round_up(num_rows(m), ROW_PAD), num_columns = round_up(m->dim, TILE_COLUMNS);
    float *out = m->work, *columns = out + count * num_columns;
    memset(columns, 0, sizeof(float) * FRAMES_AT_ONCE * num_columns); /* where dim ends inside a tile */
    for (int64_t frame = 0; frame < m->num_frames; frame += FRAMES_AT_ONCE) {
        int64_t depth = m->num_frames - frame < FRAMES_AT_ONCE ? m->num_frames - frame : FRAMES_AT_ONCE;
        pack_frames_as_rows(m, frame, depth, columns);
        for (int64_t at = 0; at < num_columns; at += TILE_COLUMNS)
            for (int64_t row = 0; row < count; row += TILE_ROWS)
                tile(depth, m->state + row * m->stride + frame, m->stride, 1, columns + at * depth,
                     out + at * count + row * TILE_COLUMNS, TILE_COLUMNS, frame > 0);
    }
    return out;
}

/* Add rows `first` to `first + count` of `multiply_backward`'s result to [count][dim]. */
static void add_rows(const Interaction *m, const float *product, int64_t first, int64_t count, float *to) {
    int64_t padded = round_up(num_rows(m), ROW_PAD);
    for (int64_t at = 0; at < m->dim; at += VL) {
        const float *from = product + at / TILE_COLUMNS * TILE_COLUMNS * padded + at % TILE_COLUMNS;
        for (int64_t row = 0; row < count; row++) {
            float *place = to + row * m->dim + at;
            store(place, load(place) + load(from + (first + row) * TILE_COLUMNS));
        }
    }
}

/* The same for rows of every head; the row after them. */
static int64_t add_heads(const Interaction *m, const float *product, int64_t first, float *to) {
    for (int64_t head = 0; head < m->heads; head++, first += m->num_tokens)
        add_rows(m, product, first, m->num_tokens, to + head * m->head_step * m->dim);
    return first;
}

#endif
