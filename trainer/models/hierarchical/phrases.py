"""The form of new clips: phrases return.

The prior looks back on some steps, not on the bars before. Without help, no second of a new clip is like another one,
as the seconds of music are. The steps of a phrase therefore take the noise of the steps at the same place of an earlier
one: with the same beat, the prior then samples nearly the same again. The noise of each single step stays standard
normal.
"""

from __future__ import annotations

import tensorflow as tf

from trainer.dsp.sizes import Size

PHRASES_PER_SECTION = 4  # which are alike; the next section is new


def noise_steps(steps_per_beat: tf.Tensor, phrase_beats: int, steps: Size) -> tf.Tensor:
    """Return the number of the step whose noise each step takes, `[batch, steps]` int32: its own or an earlier one.

    Args:
        steps_per_beat: `[batch]`; NaN where a clip has no tempo, and so no phrases.
        phrase_beats: Beats of a phrase; the first one begins with the clip.
        steps: Of a clip.
    """
    step = tf.range(steps, dtype=tf.float32)[tf.newaxis]
    length = phrase_beats * steps_per_beat[:, tf.newaxis]
    phrase = tf.floor(step / length)
    source = tf.round(step - phrase % PHRASES_PER_SECTION * length)
    return tf.cast(tf.where(tf.math.is_nan(length), step, tf.minimum(source, step)), tf.int32)
