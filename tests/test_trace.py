from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import MANN, NTM, MANNCell, NTMCell, trace
from ntm_keras.keras_compat import keras
from ntm_keras.tracing import trace_model

pytestmark = pytest.mark.eager
B, T, N, M, R, W = 2, 5, 8, 4, 2, 3


@pytest.fixture
def cell():
    return NTMCell(6, N, M, R, W, shift_range=2, output_dim=3)


@pytest.fixture
def inputs(random):
    return random.normal(size=(B, T, 7)).astype("float32")


def test_every_step_is_kept(cell, inputs):
    found = trace(cell, inputs)
    assert {name: tuple(value.shape) for name, value in found._asdict().items()} == {
        "outputs": (B, T, 3),
        "read_weightings": (B, T, R, N),
        "write_weightings": (B, T, W, N),
        "read_vectors": (B, T, R, M),
        "memory": (B, T, N, M),
        "key": (B, T, R + W, M),
        "key_strength": (B, T, R + W),
        "interpolation_gate": (B, T, R + W),
        "shift_weighting": (B, T, R + W, 5),
        "sharpening": (B, T, R + W),
        "erase_vector": (B, T, W, M),
        "add_vector": (B, T, W, M),
    }


def test_every_step_of_a_mann_is_kept(inputs):
    found = trace(MANNCell(6, N, M, R), inputs)
    assert {name: tuple(value.shape) for name, value in found._asdict().items()} == {
        "outputs": (B, T, 6 + R * M),
        "read_weightings": (B, T, R, N),
        "write_weightings": (B, T, R, N),
        "read_vectors": (B, T, R, M),
        "memory": (B, T, N, M),
        "usage": (B, T, N),
        "key": (B, T, R, M),
        "add_vector": (B, T, R, M),
        "write_gate": (B, T, R),
        "key_strength": (B, T, R),
    }


def test_outputs_are_those_of_the_layer(cell, inputs):
    layer = keras.layers.RNN(cell, return_sequences=True)
    np.testing.assert_allclose(trace(cell, inputs).outputs, layer(inputs), atol=1e-6)


def test_it_starts_from_a_given_state(cell, inputs):
    whole = trace(cell, inputs)
    first = trace(cell, inputs[:, :2])
    states = cell.get_initial_state(batch_size=B)
    for step in range(2):
        _, states = cell(inputs[:, step], states)
    for given in (states, cell.unpack_state(states)):
        rest = trace(cell, inputs[:, 2:], given)
        np.testing.assert_allclose(rest.outputs, whole.outputs[:, 2:], atol=1e-6)
    np.testing.assert_allclose(first.memory, whole.memory[:, :2], atol=1e-6)


def test_memory_is_that_after_the_step(cell, inputs):
    found = trace(cell, inputs)
    states = cell.get_initial_state(batch_size=B)
    _, states = cell(inputs[:, 0], states)
    np.testing.assert_allclose(found.memory[:, 0], cell.unpack_state(states).memory, atol=1e-6)


def test_a_state_of_another_batch_size_is_refused(cell, inputs):
    with pytest.raises(ValueError, match=r"`states` .* \(3, 6\)"):
        trace(cell, inputs, cell.get_initial_state(batch_size=3))


@pytest.mark.parametrize("shape", [(T, 7), (B, 0, 7)])
def test_inputs_that_are_no_sequences_are_refused(cell, shape):
    with pytest.raises(ValueError, match="inputs"):
        trace(cell, tf.zeros(shape))


def test_inputs_of_another_width_than_before_are_refused(cell, inputs):
    trace(cell, inputs)
    with pytest.raises(ValueError, match="must have 7 features"):
        trace(cell, inputs[:, :, :5])


def test_the_machines_inside_a_model_are_traced_with_what_reaches_them(inputs):
    inner = keras.Sequential(
        [keras.layers.Dense(5), NTM(6, N, M, 1, 1, return_sequences=True, name="inner")]
    )
    model = keras.Sequential([inner, MANN(6, N, M, 1, name="outer")])
    outputs, traces = trace_model(model, inputs)
    assert set(traces) == {"inner", "outer"}
    np.testing.assert_allclose(traces["outer"].outputs[:, -1], outputs, atol=1e-6)
    np.testing.assert_allclose(traces["inner"].outputs, inner(inputs), atol=1e-6)
    np.testing.assert_allclose(outputs, model(inputs), atol=1e-6)


def test_two_machines_of_the_same_name_are_told_apart(inputs):
    first = keras.Sequential([NTM(6, N, M, 1, 1, return_sequences=True, name="ntm")], name="first")
    second = keras.Sequential([NTM(6, N, M, 1, 1, output_dim=2, name="ntm")], name="second")
    outputs, traces = trace_model(keras.Sequential([first, second]), inputs)
    np.testing.assert_allclose(traces["ntm"].outputs, first(inputs), atol=1e-6)
    np.testing.assert_allclose(traces["ntm_again"].outputs[:, -1], outputs, atol=1e-6)


def test_a_layer_that_runs_backwards_is_traced_backwards_from_its_initial_state(inputs):
    layer = NTM(6, N, M, 1, 1, go_backwards=True, return_sequences=True, name="machine")
    states = [tf.ones([B, size]) / 8 for size in layer.cell.state_size]
    sequences = keras.Input([T, 7])
    model = keras.Model(sequences, layer(sequences))
    outputs, traces = trace_model(model, inputs)
    np.testing.assert_allclose(traces["machine"].outputs, outputs, atol=1e-6)
    given = [keras.Input([size]) for size in layer.cell.state_size]
    model = keras.Model([sequences, *given], layer(sequences, initial_state=given))
    outputs, traces = trace_model(model, [tf.constant(inputs), *states])
    np.testing.assert_allclose(traces["machine"].outputs, outputs, atol=1e-6)


def test_a_model_whose_state_would_go_on_is_refused():
    machine = NTM(6, N, M, 1, 1, stateful=True, name="machine")
    model = keras.Sequential([keras.Input([T, 7], batch_size=B), machine], name="going_on")
    with pytest.raises(ValueError, match="no stateful layer.*'going_on' with 'machine'"):
        trace_model(model, tf.zeros([B, T, 7]))


def test_a_call_that_the_user_replaced_stays(inputs):
    layer = NTM(6, 8, 4, 1, 1)
    model = keras.Sequential([layer])
    model(inputs)
    call = layer.call
    layer.call = lambda *args, **kwargs: 2 * call(*args, **kwargs)
    before = model(inputs)
    outputs, _ = trace_model(model, inputs)
    np.testing.assert_array_equal(outputs, before)
    np.testing.assert_array_equal(model(inputs), before)


def test_a_model_without_a_machine_has_no_traces(inputs):
    model = keras.Sequential([keras.layers.LSTM(3, name="lstm")])
    outputs, traces = trace_model(model, inputs)
    np.testing.assert_allclose(outputs, model(inputs), atol=1e-6)
    assert traces == {}


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="Argument `model` must be a keras.Model. Received: .*=3"):
        trace_model(3, np.zeros([1, 2, 3]))


def test_what_is_no_cell_is_refused():
    for other in (NTM(6, 8, 4, 1, 1), keras.layers.LSTMCell(3)):
        with pytest.raises(ValueError, match="a layer has it as `layer.cell`"):
            trace(other, tf.zeros([2, 3, 5]))


def test_threads_trace_a_model_each_with_its_own_inputs(random):
    model = keras.Sequential([keras.Input([None, 7]), NTM(6, N, M, 1, 1, return_sequences=True)])
    several = random.normal(size=[8, B, T, 7]).astype("float32")
    with ThreadPoolExecutor(4) as threads:
        traced = threads.map(lambda inputs: trace_model(model, inputs), several)
        called = threads.map(model, several)
    for inputs, (outputs, traces), answer in zip(several, traced, called):
        (found,) = traces.values()
        np.testing.assert_allclose(outputs, answer, atol=1e-6)
        np.testing.assert_allclose(found.outputs, outputs, atol=1e-6)
        np.testing.assert_allclose(trace(model.layers[-1].cell, inputs).outputs, outputs, atol=1e-6)
