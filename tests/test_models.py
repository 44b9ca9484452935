"""The models that settings make, and into how many parts they split a batch."""

import os

import numpy as np
import pytest
import tensorflow as tf
from runs import tiny

from ntm_keras import NTM
from ntm_keras.keras_compat import IS_KERAS_2, keras
from tasks.copy import Copy
from training import models


def machine():
    return NTM(3, 4, 2, 1, 1)


def parts(monkeypatch, layer, cores=2, gpus=0, xla=True, **others):
    monkeypatch.setattr(models, "cores", lambda: cores)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * gpus)
    return models.parts_of_a_batch(tiny(xla=xla, **others), layer)


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 runs every layer in its own loop")
@pytest.mark.parametrize(
    "cores, batch_size, expected",
    [(2, 16, 2), (2, 15, 0), (1, 64, 0), (8, 64, 8), (8, 40, 5), (2, 1, 0)],
)
def test_every_core_has_at_least_eight_sequences(monkeypatch, cores, batch_size, expected):
    assert parts(monkeypatch, machine(), cores, batch_size=batch_size) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing to bind a process with")
def test_cores_that_the_process_is_not_bound_to_do_not_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert models.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_batches_are_whole_on_a_gpu_without_xla_and_for_other_networks(monkeypatch):
    assert parts(monkeypatch, machine(), gpus=1, batch_size=64) == 0
    assert parts(monkeypatch, machine(), xla=False, batch_size=64) == 0
    assert parts(monkeypatch, keras.layers.LSTM(3), batch_size=64) == 0


def test_every_setting_of_the_machine_reaches_its_cell():
    given = {
        "rnn_size": 5,
        "memory_size": 9,
        "memory_vector_dim": 3,
        "read_head_num": 2,
        "write_head_num": 3,
        "addressing_mode": "content",
        "shift_range": 2,
        "controller": "rnn",
        "controller_layers": 2,
        "memory_initializer": "random",
        "weighting_initializer": "focused",
        "output_source": "controller_and_reads",
        "write_order": "simultaneous",
    }
    (layer,) = models.make_layers(tiny(**given))
    config = layer.cell.get_config()
    assert {name: config[name] for name in given} == given


def test_every_setting_of_a_mann_reaches_its_cell():
    given = {"head_num": 2, "gamma": 0.5, "k_strategy": "summary", "learned_key_strength": True}
    layer, _ = models.make_layers(tiny(model="mann", **given))
    config = layer.cell.get_config()
    assert {name: config[name] for name in given} == given


def noisy(first_step, stddev=0.5, seed=3):
    """Three batches of a task with noise on their inputs."""
    batches = Copy().training(64, 0, first_step)
    noisy = models.with_noise(batches, stddev, seed, first_step)
    return [[each.numpy() for each in batch] for batch in noisy.take(3)]


def test_noise_on_the_inputs_is_a_function_of_seed_and_step():
    found, later = noisy(4), noisy(5)
    np.testing.assert_array_equal(found[1][0], later[0][0])
    assert np.any(found[1][0] != noisy(5, seed=4)[0][0])
    added = [with_noise[0] - without[0] for with_noise, without in zip(found, noisy(4, 0.0))]
    assert [np.std(each) for each in added] == pytest.approx([0.5] * 3, rel=0.05)
    assert np.abs(added[0] - added[1]).max() > 0.1
    for with_noise, without in zip(found, noisy(4, 0.0)):
        for own, other in zip(with_noise[1:], without[1:]):  # Targets and mask have none.
            np.testing.assert_array_equal(own, other)


def test_the_learning_rate_falls_linearly_to_its_end():
    settings = tiny(learning_rate=0.5, learning_rate_end=0.1, learning_rate_steps=4)
    rate = models.falling(settings, "learning_rate")
    assert [float(rate(step)) for step in range(6)] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    assert models.falling(tiny(learning_rate=0.5), "learning_rate") == 0.5


def test_the_optimizer_has_what_the_settings_say():
    adam = models.make_optimizer(
        tiny(learning_rate=0.5, adam_epsilon=1e-3, clip_norm=2, ema_momentum=0.9)
    )
    assert (adam.epsilon, adam.global_clipnorm, adam.use_ema) == (1e-3, 2, True)
    assert float(adam.learning_rate) == 0.5
    rmsprop = models.make_optimizer(tiny(optimizer="rmsprop", clip_value=10))
    assert (rmsprop.rho, rmsprop.momentum, rmsprop.epsilon) == (0.95, 0.9, 1e-4)
    assert rmsprop.centered and rmsprop.clipvalue == 10
