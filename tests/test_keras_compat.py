import os
import subprocess
import sys

import pytest
import tensorflow as tf

from ntm_keras.keras_compat import IS_KERAS_2, AbstractRNNCell, keras

ONCE = pytest.mark.skipif(IS_KERAS_2, reason="its processes choose their Keras themselves")


def import_under(program="import ntm_keras", **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@ONCE
def test_a_backend_that_cannot_train_is_refused_in_one_clear_error():
    finished = import_under(KERAS_BACKEND="numpy", TF_USE_LEGACY_KERAS="0")
    assert finished.returncode == 1
    last_line = finished.stderr.strip().splitlines()[-1]
    # Keras itself may lack what this backend needs.
    assert last_line.startswith("ImportError: ntm_keras needs ")
    assert "'numpy'" in last_line and "KERAS_BACKEND=tensorflow" in last_line


@ONCE
def test_keras_3_imported_beside_keras_2_is_told_in_one_clear_warning():
    pytest.importorskip("tf_keras")
    mixed = import_under(
        "import ntm_keras, importlib, sys; print('alone', file=sys.stderr)\n"
        "import keras; importlib.reload(ntm_keras.keras_compat)",
        TF_USE_LEGACY_KERAS="1",
    )
    assert mixed.returncode == 0
    alone, beside = mixed.stderr.split("alone\n")
    warnings = [line for line in beside.splitlines() if "UserWarning" in line]
    assert len(warnings) == 1 and "Use tf.keras instead" in warnings[0]
    assert "UserWarning" not in alone


def test_the_abstract_cell_starts_from_zeros():
    class Cell(AbstractRNNCell):
        state_size = [3, 2]
        output_size = 3

        def call(self, inputs, states):
            return states[0] + 1, [states[0] + 1, states[1]]

    cell = Cell()
    states = cell.get_initial_state(batch_size=4, dtype=tf.float32)
    assert [tuple(state.shape) for state in states] == [(4, 3), (4, 2)]
    assert not any(state.numpy().any() for state in states)
    assert keras.layers.RNN(cell)(tf.zeros([4, 5, 1])).numpy().tolist() == [[5.0] * 3] * 4
