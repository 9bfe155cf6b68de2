import numpy as np
import tensorflow as tf
from support.runs.tiny_models import normal

from trainer.models.hierarchical.discriminator import Discriminator, adversarial_losses

BINS = 32


def make_discriminator():
    tf.keras.utils.set_random_seed(0)
    discriminator = Discriminator(BINS, "float32")
    discriminator(magnitudes(1, 0, 1.0))  # creates its weights
    return discriminator


def magnitudes(clips, seed, spread):
    return -6.0 + spread * tf.random.stateless_normal([clips, 16, BINS], [seed, 0])


def test_each_loss_has_a_gradient_for_its_own_side_only():
    discriminator, real = make_discriminator(), magnitudes(2, 1, 2.0)
    decoded = tf.Variable(magnitudes(2, 2, 1.0))
    with tf.GradientTape(persistent=True) as tape:
        losses = adversarial_losses(discriminator, real, decoded)
    variables = discriminator.trainable_variables
    assert float(tf.norm(tape.gradient(losses.discriminator, decoded))) == 0
    assert float(tf.norm(tape.gradient(losses.decoder, decoded))) > 1e-4
    own, other = (
        float(tf.linalg.global_norm(tape.gradient(loss, variables)))
        for loss in (losses.discriminator, losses.decoder)
    )
    assert own > 1e-3
    assert other < 1e-5 * own


def test_losses_of_a_clip_do_not_depend_on_the_others():
    discriminator, real, decoded = make_discriminator(), magnitudes(3, 1, 2.0), magnitudes(3, 2, 1.0)
    together = adversarial_losses(discriminator, real, decoded)
    alone = adversarial_losses(discriminator, real[1:2], decoded[1:2])
    for all_clips, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(all_clips[1], one[0], rtol=1e-4, atol=1e-5)


def test_the_discriminator_learns_what_blurs_and_the_decoder_to_avoid_it():
    """Its opponent is a decoder whose only weight is the spread of its magnitudes."""
    discriminator, spread = make_discriminator(), tf.Variable(0.5)
    optimizer = tf.keras.optimizers.Adam(3e-3)
    optimizer.build([spread, *discriminator.trainable_variables])

    @tf.function
    def step(seed):
        real, noise = (tf.random.stateless_normal([4, 16, BINS], [seed, side]) for side in range(2))
        with tf.GradientTape() as tape:
            losses = adversarial_losses(discriminator, -6.0 + 2.0 * real, -6.0 + spread * noise)
            loss = tf.reduce_sum(losses.discriminator + losses.decoder)
        variables = [spread, *discriminator.trainable_variables]
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for seed in tf.range(300):
        step(seed)
    assert 1.0 < float(spread) < 3.0


def test_inaudible_differences_do_not_count():
    discriminator = make_discriminator()
    quiet, quieter = (tf.fill([1, 16, BINS], level) for level in (-20.0, -30.0))
    np.testing.assert_array_equal(discriminator(quiet)[0], discriminator(quieter)[0])


def test_scores_differ_between_frequencies_once_positions_are_learned():
    discriminator = make_discriminator()
    discriminator.position.assign(normal(discriminator.position.shape))
    low, high = (tf.roll(magnitudes(1, 1, 1.0), shift, axis=2) for shift in (0, BINS // 2))
    assert not np.allclose(discriminator(low)[0], discriminator(high)[0])
