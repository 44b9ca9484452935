"""Fast loops run for exactly the cells that they know: what a user overrides is never ignored."""

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import MANN, NTM, MANNCell, MemoryLayer, NTMCell
from ntm_keras.controllers import FeedforwardCell
from ntm_keras.keras_compat import IS_KERAS_2, keras

NTM_SIZES = {
    "rnn_size": 5,
    "memory_size": 6,
    "memory_vector_dim": 3,
    "read_head_num": 1,
    "write_head_num": 1,
}
MANN_SIZES = {"rnn_size": 5, "memory_size": 6, "memory_vector_dim": 3, "head_num": 1}
SEQUENCES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")

needs_fast_loops = pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 runs every layer in its own loop")


class SilentCell(NTMCell):
    def step(self, inputs, state):
        step = super().step(inputs, state)
        return step._replace(outputs=tf.zeros_like(step.outputs))


class SilentMANNCell(MANNCell):
    def step(self, inputs, state):
        step = super().step(inputs, state)
        return step._replace(outputs=tf.zeros_like(step.outputs))


class BlindCell(NTMCell):
    def _address(self, memory_before, previous, parameters):
        return tf.zeros_like(super()._address(memory_before, previous, parameters))


class FarSightedCell(NTMCell):
    def address(self, state, parameters):
        return tf.roll(super().address(state, parameters), 1, axis=-1)


class DoublingDense(keras.layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def layers_around(cell):
    """Every layer that can have the cell, each built."""
    sizes, layer_class = (MANN_SIZES, MANN) if isinstance(cell, MANNCell) else (NTM_SIZES, NTM)
    replaced = layer_class(**sizes, return_sequences=True)
    replaced.cell = cell
    layers = [replaced, MemoryLayer(cell, return_sequences=True)]
    for layer in layers:
        layer.build(SEQUENCES.shape)
    return layers


def assert_as_in_keras_loop(cell):
    """The layers give what Keras's own loop gives, which calls the cell in every step."""
    expected = keras.layers.RNN(cell, return_sequences=True)(SEQUENCES)
    for layer in layers_around(cell):
        assert not layer.has_fast_loop
        np.testing.assert_allclose(layer(SEQUENCES), expected, rtol=1e-5, atol=1e-6)
    return expected


@pytest.mark.parametrize(
    "cell",
    [SilentCell(**NTM_SIZES), SilentMANNCell(**MANN_SIZES)],
    ids=lambda each: type(each).__name__,
)
def test_an_overridden_step_is_what_runs(cell):
    assert not np.any(assert_as_in_keras_loop(cell))


@pytest.mark.parametrize("cell_class", [BlindCell, FarSightedCell])
def test_overridden_addressing_is_what_runs(cell_class):
    cell = cell_class(**NTM_SIZES, output_source="controller_and_reads")
    found = assert_as_in_keras_loop(cell)
    plain = NTM(**NTM_SIZES, output_source="controller_and_reads", return_sequences=True)
    plain.build(SEQUENCES.shape)
    plain.set_weights(cell.get_weights())
    assert np.abs(plain(SEQUENCES) - found).max() > 1e-3


@pytest.mark.parametrize(
    "cell_class, sizes, name, change",
    [
        (NTMCell, NTM_SIZES, "step", lambda step: lambda inputs, *rest: step(2 * inputs, *rest)),
        (MANNCell, MANN_SIZES, "step", lambda step: lambda inputs, *rest: step(2 * inputs, *rest)),
        (NTMCell, NTM_SIZES, "head_parameters", lambda of: lambda projection: of(3 * projection)),
        (NTMCell, NTM_SIZES, "with_reads", lambda with_: lambda x, reads: with_(x, 2 * reads)),
        (NTMCell, NTM_SIZES, "project", lambda project: lambda *given: 2 * project(*given)),
    ],
    ids=["NTM step", "MANN step", "head_parameters", "with_reads", "project"],
)
def test_a_method_that_is_replaced_on_one_cell_is_what_runs(cell_class, sizes, name, change):
    cell = cell_class(**sizes)
    setattr(cell, name, change(getattr(cell, name)))
    assert_as_in_keras_loop(cell)


def test_a_cell_may_give_up_its_fast_loop():
    cell = NTMCell(**NTM_SIZES)
    cell.fast_loop = None
    assert_as_in_keras_loop(cell)


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 does not cast what a cell in a stack gets")
def test_a_stack_of_another_precision_than_its_layers_is_what_runs():
    layers = [keras.layers.LSTMCell(4, dtype="float32"), keras.layers.LSTMCell(5, dtype="float32")]
    stack = keras.layers.StackedRNNCells(layers, dtype="float64")
    assert_as_in_keras_loop(NTMCell(**NTM_SIZES, controller=stack))


def test_a_controller_whose_call_is_replaced_is_what_runs():
    cell = NTMCell(**NTM_SIZES, controller="feedforward", controller_layers=2)
    call = cell.controller.call
    cell.controller.call = lambda inputs, states: call(2 * inputs, states)
    assert_as_in_keras_loop(cell)


@pytest.mark.parametrize(
    "cell_class, sizes, name",
    [
        (NTMCell, NTM_SIZES, "parameter_projection"),
        (NTMCell, NTM_SIZES, "output_projection"),
        (MANNCell, MANN_SIZES, "parameter_projection"),
    ],
)
def test_a_projection_that_was_replaced_is_what_runs(cell_class, sizes, name):
    cell = cell_class(**sizes)
    cell.build((None, SEQUENCES.shape[-1]))
    kernel, bias = getattr(cell, name).get_weights()
    doubling = DoublingDense(len(bias))
    doubling.build((None, len(kernel)))
    doubling.set_weights([kernel, bias])
    if not IS_KERAS_2:  # As Keras itself does before it replaces parts of a built layer.
        cell._tracker.unlock()
    setattr(cell, name, doubling)
    assert_as_in_keras_loop(cell)


class OwnLSTMCell(keras.layers.LSTMCell):
    def call(self, inputs, states, training=None):
        output, states = super().call(inputs, states, training)
        return 2 * output, states


@pytest.mark.parametrize(
    "controller",
    [
        OwnLSTMCell(5),
        keras.layers.GRUCell(5),
        keras.layers.LSTMCell(5, activation="relu"),
        keras.layers.LSTMCell(5, recurrent_activation="hard_sigmoid"),
        keras.layers.LSTMCell(5, use_bias=False),
        keras.layers.LSTMCell(5, dropout=0.1),
        keras.layers.SimpleRNNCell(5, activation="relu"),
        keras.layers.SimpleRNNCell(5, recurrent_dropout=0.1),
        keras.layers.LSTMCell(5, dtype="float64"),
        keras.layers.StackedRNNCells([keras.layers.LSTMCell(4), keras.layers.SimpleRNNCell(5)]),
    ],
    ids=lambda controller: f"{type(controller).__name__}{controller.name[-2:]}",
)
def test_a_controller_that_is_not_known_exactly_runs_in_keras_loop(controller):
    assert_as_in_keras_loop(NTMCell(**NTM_SIZES, controller=controller))


@needs_fast_loops
@pytest.mark.parametrize("layer_class, sizes", [(NTM, NTM_SIZES), (MANN, MANN_SIZES)])
@pytest.mark.parametrize(
    "name, controller",
    [
        ("lstm", keras.layers.LSTMCell(5)),
        ("rnn", keras.layers.SimpleRNNCell(5)),
        ("feedforward", FeedforwardCell(5)),
    ],
    ids=["lstm", "rnn", "feedforward"],
)
def test_a_given_controller_that_a_name_would_make_has_the_loop_of_the_name(
    layer_class, sizes, name, controller
):
    given = layer_class(**sizes, controller=controller.from_config(controller.get_config()))
    named = layer_class(**sizes, controller=name)
    for layer in (given, named):
        layer.build(SEQUENCES.shape)
    named.set_weights(given.get_weights())
    assert given.has_fast_loop
    np.testing.assert_array_equal(given(SEQUENCES), named(SEQUENCES))


@needs_fast_loops
def test_a_given_stack_of_lstms_of_several_widths_has_a_fast_loop():
    stack = keras.layers.StackedRNNCells([keras.layers.LSTMCell(4), keras.layers.LSTMCell(5)])
    layer = NTM(**NTM_SIZES, controller=stack, return_sequences=True)
    found = layer(SEQUENCES)
    assert layer.has_fast_loop
    expected = keras.layers.RNN(layer.cell, return_sequences=True)(SEQUENCES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


class RenamedCell(NTMCell):
    fast_loop = NTMCell.fast_loop


@needs_fast_loops
def test_a_subclass_has_the_fast_loop_if_it_says_so():
    layer = MemoryLayer(RenamedCell(**NTM_SIZES), return_sequences=True)
    found = layer(SEQUENCES)
    assert layer.has_fast_loop
    expected = keras.layers.RNN(layer.cell, return_sequences=True)(SEQUENCES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_bias_that_was_replaced_is_what_is_added():
    layer = NTM(**NTM_SIZES, return_sequences=True)
    layer(SEQUENCES)
    layer.cell.parameter_projection.bias = tf.ones([layer.cell.parameter_count])
    expected = keras.layers.RNN(layer.cell, return_sequences=True)(SEQUENCES)
    np.testing.assert_allclose(layer(SEQUENCES), expected, rtol=1e-5, atol=1e-6)


@needs_fast_loops
@pytest.mark.parametrize(
    "controller",
    [
        keras.layers.LSTMCell(5, activity_regularizer="l2"),
        FeedforwardCell(5, activity_regularizer="l2"),
        keras.layers.StackedRNNCells([keras.layers.LSTMCell(5)], activity_regularizer="l2"),
    ],
    ids=["lstm", "feedforward", "stack"],
)
def test_activity_regularizers_are_left_to_keras_loop(controller):
    assert not NTM(**NTM_SIZES, controller=controller).has_fast_loop
    assert not MemoryLayer(NTMCell(**NTM_SIZES, activity_regularizer="l2")).has_fast_loop


@needs_fast_loops
def test_layers_that_nobody_changed_have_fast_loops():
    for layer in (NTM(**NTM_SIZES), MANN(**MANN_SIZES), MemoryLayer(NTMCell(**NTM_SIZES))):
        assert layer.has_fast_loop
        layer.build(SEQUENCES.shape)
        assert layer.has_fast_loop


@pytest.mark.skipif(not IS_KERAS_2, reason="of Keras 2")
def test_keras_2_runs_every_layer_in_its_own_loop():
    assert not NTM(**NTM_SIZES).has_fast_loop
