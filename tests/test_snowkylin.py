import pathlib

import numpy as np
import pytest

import ntm_keras
from ntm_keras.keras_compat import keras, to_numpy

RECORDED = sorted((pathlib.Path(__file__).parent / "golden").glob("*.npz"))
ARGUMENTS = (
    "rnn_size",
    "memory_size",
    "memory_vector_dim",
    "read_head_num",
    "write_head_num",
    "addressing_mode",
    "shift_range",
    "output_dim",
)


@pytest.fixture(params=RECORDED, ids=lambda path: path.stem)
def recorded(request):
    return dict(np.load(request.param))


def cell_for(recorded, **more):
    arguments = {name: recorded[name].item() for name in ARGUMENTS}
    return ntm_keras.NTMCell(**{**arguments, **more})


def test_recordings_are_there():
    assert len(RECORDED) == 2


def test_every_step_is_what_snowkylin_s_cell_computed(recorded):
    cell = cell_for(recorded)
    ntm_keras.load_snowkylin_weights(cell, recorded)
    trace = ntm_keras.trace(cell, recorded["inputs"])
    reading, writing = to_numpy(trace.read_weightings), to_numpy(trace.write_weightings)
    weightings = np.concatenate([reading, writing], axis=2)
    np.testing.assert_allclose(weightings, recorded["weightings"][:, 1:], atol=1e-5)
    np.testing.assert_allclose(to_numpy(trace.outputs), recorded["outputs"], atol=1e-5)
    for name in ("memory", "read_vectors"):
        found = to_numpy(getattr(trace, name))
        np.testing.assert_allclose(found, recorded[name][:, 1:], atol=1e-5)


def test_the_initial_state_is_snowkylin_s(recorded):
    cell = cell_for(recorded)
    ntm_keras.load_snowkylin_weights(cell, recorded)
    batch_size = len(recorded["inputs"])
    state = cell.unpack_state(cell.get_initial_state(batch_size=batch_size))
    for found, name in (
        (state.controller_state[0], "hidden"),
        (state.controller_state[1], "carry"),
        (state.read_vectors, "read_vectors"),
        (state.weightings, "weightings"),
        (state.memory, "memory"),
    ):
        np.testing.assert_allclose(to_numpy(found), recorded[name][:, 0], atol=1e-6)


def test_it_is_the_same_in_keras_s_rnn_layer(recorded):
    cell = cell_for(recorded)
    ntm_keras.load_snowkylin_weights(cell, recorded)
    layer = keras.layers.RNN(cell, return_sequences=True)
    outputs = to_numpy(layer(recorded["inputs"]))
    np.testing.assert_allclose(outputs, recorded["outputs"], atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"controller": "rnn"}, "controller='rnn'"),
        ({"controller_layers": 2}, "controller='lstm', controller_layers=2"),
        ({"memory_initializer": "constant"}, "constant"),
        ({"output_source": "controller_and_reads"}, "controller_and_reads"),
        ({"memory_size": 30}, "30"),
    ],
)
def test_a_cell_of_another_kind_is_refused(recorded, arguments, message):
    with pytest.raises(ValueError, match=message):
        ntm_keras.load_snowkylin_weights(cell_for(recorded, **arguments), recorded)


def test_what_is_no_ntm_cell_is_refused(recorded):
    for other in (ntm_keras.NTM(6, 8, 4, 1, 1), ntm_keras.MANNCell(6, 8, 4, 1)):
        with pytest.raises(ValueError, match="must be an NTMCell; a layer has it"):
            ntm_keras.load_snowkylin_weights(other, recorded)


def test_weights_that_do_not_fit_are_named_and_change_nothing(recorded):
    cell = cell_for(recorded)
    before = cell.get_initial_state(batch_size=1)
    with pytest.raises(ValueError, match=r"'init_M'.*\(2, 2\)"):
        ntm_keras.load_snowkylin_weights(cell, {**recorded, "init_M": np.zeros((2, 2))})
    for state, other in zip(before, cell.get_initial_state(batch_size=1)):
        np.testing.assert_array_equal(to_numpy(state), to_numpy(other))


def test_a_missing_weight_is_named(recorded):
    del recorded["init_M"]
    with pytest.raises(ValueError, match="init_M"):
        ntm_keras.load_snowkylin_weights(cell_for(recorded), recorded)
