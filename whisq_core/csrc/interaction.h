/* What every kernel is given: one clip's frames and its prompt's rows. `kernels.py` mirrors this structure. */
#ifndef INTERACTION_H
#define INTERACTION_H

#include <stddef.h>
#include <stdint.h>

/* Rows that are multiplied with frames: those of `to_text` ([head][token]), of `to_audio` ([head][token]) and the
   points of the OT term ([token]), in this order, each kind only where its flag is 1.

   `state` holds `kernels_state_floats` floats and belongs to the clip from `kernels_score` to `kernels_collect`: the
   scores, a row of `stride` floats for each row, and what `text_mean` and `points` say below. `work` holds
   `kernels_work_floats` floats, which nobody expects to find again. `stride` is num_frames rounded up to a multiple of
   FRAME_PAD, `dim` a multiple of DIM_STEP. Arrays that all prompts of a batch share, and their gradients, have their
   heads `head_step` tokens apart. */
#define ROW_PAD 12
#define FRAME_PAD 32
#define DIM_STEP 16

typedef struct {
    int64_t num_frames, dim, num_tokens, heads, stride, head_step;
    int64_t attends_text, attends_audio, aligns;
    const uint16_t *frames;                  /* float16 [num_frames][dim] */
    const float *centre;                     /* [dim], subtracted from every frame */
    const float *tokens;                     /* [num_tokens][dim] */
    const float *to_text, *to_audio;         /* [heads][num_tokens][dim] */
    const float *to_text_constants;          /* [heads][num_tokens] */
    uint16_t *rounded_frames;                /* bfloat16 [num_frames][dim], and ... */
    uint16_t *rounded_scores;                /* ... [rows][num_frames] where the large products are PyTorch's; or null */
    float *state, *work;
} Interaction;

static inline int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

/* How many rows of each kind there are, and all of them. */
static inline int64_t rows_to_text(const Interaction *m) { return m->attends_text ? m->heads * m->num_tokens : 0; }
static inline int64_t rows_to_audio(const Interaction *m) { return m->attends_audio ? m->heads * m->num_tokens : 0; }
static inline int64_t rows_of_points(const Interaction *m) { return m->aligns ? m->num_tokens : 0; }
static inline int64_t num_rows(const Interaction *m) { return rows_to_text(m) + rows_to_audio(m) + rows_of_points(m); }

/* Rows of scores that there is room for: whole tiles, wherever they begin. */
static inline int64_t room_for_rows(const Interaction *m) { return round_up(num_rows(m), ROW_PAD) + ROW_PAD; }

/* Where the scores of each kind begin. */
static inline float *scores_to_text(const Interaction *m) { return m->state; }
static inline float *scores_to_audio(const Interaction *m) { return m->state + rows_to_text(m) * m->stride; }
static inline float *scores_of_points(const Interaction *m) {
    return m->state + (rows_to_text(m) + rows_to_audio(m)) * m->stride;
}

/* [heads][num_tokens]: how much of each token the mean frame attends to. */
static inline float *text_mean(const Interaction *m) { return m->state + room_for_rows(m) * m->stride; }

/* [num_tokens][dim]: the tokens relative to the centre, as the OT term sees them. */
static inline float *points(const Interaction *m) { return text_mean(m) + m->heads * m->num_tokens; }

#endif
