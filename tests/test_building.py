"""Into how many parts train.py splits a batch."""

import os

import pytest
import tensorflow as tf
from absl.testing import flagsaver
from test_ntm import layer_of

from configs import building
from ntm_keras.keras_compat import IS_KERAS_2, keras


def parts(monkeypatch, layer, cores=2, gpus=0, **flags):
    monkeypatch.setattr(building, "cores", lambda: cores)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * gpus)
    building.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**flags):
        return building.parts_of_a_batch(layer)


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 runs every layer in its own loop")
@pytest.mark.parametrize(
    "cores, batch_size, expected",
    [(2, 16, 2), (2, 15, 0), (1, 64, 0), (8, 64, 8), (8, 40, 5), (2, 1, 0)],
)
def test_every_core_has_at_least_eight_sequences(monkeypatch, cores, batch_size, expected):
    assert parts(monkeypatch, layer_of(), cores, batch_size=batch_size) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing to bind a process with")
def test_cores_that_the_process_is_not_bound_to_do_not_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert building.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_batches_are_whole_on_a_gpu_without_xla_and_for_other_networks(monkeypatch):
    assert parts(monkeypatch, layer_of(), gpus=1, batch_size=64) == 0
    assert parts(monkeypatch, layer_of(), xla=False, batch_size=64) == 0
    assert parts(monkeypatch, keras.layers.LSTM(3), batch_size=64) == 0
