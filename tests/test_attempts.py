"""Training that begins again where the task is not solved in time."""

import numpy as np
import pytest
from fits import fit, make_model
from runs import tiny

from ntm_keras.keras_compat import keras
from training import callbacks, models, schedules

pytestmark = pytest.mark.eager

# Of the data of `fit`, an epoch has two.
STEPS = 2


def compiled(optimizer):
    model = make_model()
    model.compile(optimizer, "mse")
    return model


def other_weights(model):
    return [np.full(weight.shape, 0.25, "float32") for weight in model.get_weights()]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_later_attempt_is_a_training_from_its_weights(optimizer):
    def made(attempt_steps):
        settings = tiny(
            optimizer=optimizer,
            learning_rate=0.1,
            learning_rate_end=0.01,
            learning_rate_steps=3,
            steps=3 * STEPS,
            validate_every=STEPS,
            attempt_steps=attempt_steps,
        )
        return compiled(models.make_optimizer(settings))

    once = made(0)
    once.set_weights(other_weights(once))
    fit(once, epochs=1)
    model, attempts = made(STEPS), []

    def weights(attempt):
        attempts.append(attempt)
        return other_weights(model)

    fit(model, callbacks.BeginAgain(STEPS, 3, weights), epochs=3)
    assert attempts == [1, 2]
    for found, expected in zip(model.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_averages_begin_with_the_weights_of_the_attempt():
    model = compiled(keras.optimizers.Adam(1e-12, use_ema=True, ema_momentum=0.5))
    fit(model, callbacks.BeginAgain(STEPS, 2, lambda attempt: other_weights(model)))
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-12)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for found, expected in zip(model.get_weights(), other_weights(model), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_each_attempt_has_weights_of_its_own():
    first, twin, next_one, other_seed = (
        np.concatenate([each.ravel() for each in models.weights_of_attempt(settings, attempt)])
        for settings, attempt in ((tiny(), 1), (tiny(), 1), (tiny(), 2), (tiny(seed=1), 1))
    )
    np.testing.assert_array_equal(first, twin)
    assert np.mean(first != next_one) > 0.5
    assert np.mean(first != other_seed) > 0.5


def test_noise_that_falls_does_so_in_every_attempt():
    settings = tiny(
        weight_noise=0.5,
        weight_noise_end=0.1,
        weight_noise_steps=2,
        validate_every=1,
        attempt_steps=3,
        steps=8,
    )
    noise = schedules.weight_noise(settings)
    expected = [0.5, 0.3, 0.1, 0.5, 0.3, 0.1, 0.1, 0.1]
    assert [float(noise(step)) for step in range(8)] == pytest.approx(expected)


def test_an_attempt_ends_with_a_validation():
    assert tiny(attempt_steps=7, validate_every=3).steps_of_attempt == 9
    assert tiny(attempt_steps=6, validate_every=3).steps_of_attempt == 6


@pytest.mark.parametrize("steps, attempts", [(5, 1), (11, 1), (12, 2), (17, 2), (18, 3)])
def test_training_begins_again_where_a_whole_attempt_is_left(steps, attempts):
    assert tiny(attempt_steps=6, validate_every=3, steps=steps).attempts == attempts


def test_the_last_attempt_goes_on_to_the_end():
    model, attempts = make_model(), []

    def weights(attempt):
        attempts.append(attempt)
        return other_weights(model)

    fit(model, callbacks.BeginAgain(STEPS, 2, weights), epochs=4)
    assert attempts == [1]


def test_training_does_not_begin_again_without_attempts_or_with_weights_that_were_given():
    assert tiny(steps=20).attempts == 1
    assert tiny(steps=20, attempt_steps=6, init_from="model.keras").attempts == 1
