"""Training that begins again where the task is not solved in time."""

import numpy as np
import pytest
from fits import fit, make_model
from runs import tiny

from ntm_keras.keras_compat import keras, training_step
from training import callbacks, models

pytestmark = pytest.mark.eager

# Of the data of `fit`, an epoch has two.
STEPS = 2


def compiled(optimizer):
    model = make_model()
    model.compile(optimizer, "mse")
    return model


def other_weights(model):
    return [np.full(weight.shape, 0.25, "float32") for weight in model.get_weights()]


def begin_again(model, weights, steps=STEPS, until=100, is_passing=lambda: False):
    return callbacks.BeginAgain(steps, until, is_passing, weights)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_later_attempt_is_a_training_from_its_weights(optimizer):
    def made():
        settings = tiny(
            optimizer=optimizer,
            learning_rate=0.1,
            learning_rate_end=0.01,
            learning_rate_steps=3,
        )
        return compiled(models.make_optimizer(settings))

    once = made()
    once.set_weights(other_weights(once))
    fit(once, epochs=1)
    model, attempts = made(), []

    def weights(attempt):
        attempts.append(attempt)
        return other_weights(model)

    fit(model, begin_again(model, weights), epochs=3)
    assert attempts == [1, 2]
    assert training_step(model) == 3 * STEPS
    for found, expected in zip(model.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_averages_begin_with_the_weights_of_the_attempt():
    model = compiled(keras.optimizers.Adam(1e-12, use_ema=True, ema_momentum=0.5))
    fit(model, begin_again(model, lambda attempt: other_weights(model)))
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


def attempts_of(epochs, **arguments):
    """The steps at which attempts began, in a training of so many epochs of two steps."""
    model, began = make_model(), []

    def weights(attempt):
        began.append(training_step(model))
        assert attempt == len(began)
        return other_weights(model)

    fit(model, begin_again(model, weights, **arguments), epochs=epochs)
    return began


def test_an_attempt_ends_with_a_validation():
    assert attempts_of(epochs=5, steps=3) == [4, 8]


def test_training_begins_again_only_where_a_whole_attempt_is_left():
    assert attempts_of(epochs=6, steps=4, until=12) == [4, 8]
    assert attempts_of(epochs=6, steps=4, until=11) == [4]


def test_training_does_not_begin_again_without_attempts():
    assert attempts_of(epochs=3, steps=0) == []


def test_an_attempt_that_passes_validations_goes_on():
    passing = iter([True, False, True, True])
    assert attempts_of(epochs=5, steps=4, is_passing=lambda: next(passing)) == [6]


def test_it_passes_as_long_as_no_validation_and_no_test_is_failed():
    stop = callbacks.StopWhenSolved(1.0, lambda first, parts: 2.0, "val_loss", times=2)
    stop.set_model(make_model())
    passing = []
    for loss in (2.0, 0.5, 2.0, 0.5, 0.5, 0.5):
        stop.on_epoch_end(0, {"val_loss": loss})
        passing.append(stop.is_passing())
    assert passing == [False, True, False, True, False, False]


@pytest.mark.parametrize(
    "changes, may",
    [
        ({"steps": 11}, False),
        ({"steps": 12}, True),
        ({"steps": 12, "attempt_steps": 0}, False),
        ({"steps": 12, "init_from": "model.keras"}, False),
    ],
)
def test_a_run_may_begin_again_if_two_attempts_fit_and_its_weights_are_drawn(changes, may):
    assert tiny(**{"attempt_steps": 6, **changes}).may_begin_again == may
