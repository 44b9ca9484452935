import re

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import MANNCell, NTMCell
from ntm_keras.controllers import CountingLSTMCell, FeedforwardCell, make_controller, run_controller
from ntm_keras.keras_compat import AbstractRNNCell, keras


@pytest.mark.parametrize(
    "controller, layers, sizes",
    [
        ("lstm", 1, [6, 6]),
        ("lstm", 2, [6, 6, 6, 6]),
        ("counting_lstm", 1, [6, 6]),
        ("counting_lstm", 2, [6, 6, 6, 6]),
        ("rnn", 1, [6]),
        ("rnn", 3, [6, 6, 6]),
        ("feedforward", 1, []),
        ("feedforward", 2, []),
        (keras.layers.GRUCell(6), 1, [6]),
        (keras.layers.LSTMCell(6), 1, [6, 6]),
    ],
)
def test_a_controller_has_its_output_width_and_states(controller, layers, sizes):
    cell = make_controller(controller, 6, layers, "float32")
    assert tf.nest.flatten(cell.state_size) == sizes
    output, states = run_controller(cell, 6, tf.ones([2, 3]), [tf.zeros([2, n]) for n in sizes])
    assert output.shape == (2, 6)
    assert [tuple(state.shape) for state in states] == [(2, n) for n in sizes]


def test_the_feedforward_controller_is_dense_layers_with_tanh(random):
    cell = FeedforwardCell(5, layers=2)
    inputs = random.normal(size=(4, 3)).astype("float32")
    output, states = cell(inputs, [])
    kernel_0, bias_0, kernel_1, bias_1 = cell.get_weights()
    expected = np.tanh(np.tanh(inputs @ kernel_0 + bias_0) @ kernel_1 + bias_1)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert states == []


def test_the_counting_lstm_has_hard_gates_and_adds_up_its_candidate(random):
    cell = CountingLSTMCell(2)
    inputs, output, carry = (5 * random.normal(size=(4, n)).astype("float32") for n in (3, 2, 2))
    outputs, (_, carries) = cell(inputs, [output, carry])
    kernel, recurrent_kernel, bias = cell.get_weights()
    for row in range(4):
        sums = inputs[row] @ kernel + output[row] @ recurrent_kernel + bias
        for unit in range(2):
            i, f, o = (np.clip(sums[unit + 2 * gate] / 6 + 0.5, 0, 1) for gate in (0, 1, 3))
            expected = f * carry[row, unit] + i * sums[unit + 2 * 2]
            np.testing.assert_allclose(carries[row, unit], expected, rtol=1e-5)
            np.testing.assert_allclose(outputs[row, unit], o * np.tanh(expected), rtol=1e-5)


def test_the_counting_lstm_counts_without_end_or_leak():
    cell = CountingLSTMCell(1)
    cell.build((None, 1))
    # Input and forget gates open; what comes in is added as it is.
    kernel, bias = np.array([[0.0, 0, 1, 0]]), np.array([9.0, 9, 0, 9])
    cell.set_weights([kernel, np.zeros((1, 4)), bias])
    states = [tf.zeros([1, 1]), tf.zeros([1, 1])]
    for count in range(1, 101):
        _, states = cell(tf.ones([1, 1]), states)
        assert float(states[1][0, 0]) == count


def test_the_counting_lstm_forgets_nothing_at_first_where_fit_builds_it():
    model = keras.Sequential([keras.layers.RNN(CountingLSTMCell(3))])
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.0
    model.fit(np.ones([2, 4, 5]), np.ones([2, 3]), verbose=0)
    np.testing.assert_array_equal(model.get_weights()[-1], [0] * 3 + [1] * 3 + [0] * 6)


def test_the_counting_lstm_begins_like_keras_s_lstm():
    cell, lstm = CountingLSTMCell(3), keras.layers.LSTMCell(3)
    for each in (cell, lstm):
        each.build((None, 5))
    assert [w.shape for w in cell.get_weights()] == [w.shape for w in lstm.get_weights()]
    np.testing.assert_array_equal(cell.bias, lstm.bias)


def test_a_controller_s_dropout_draws_new_masks_for_every_sequence():
    cell = NTMCell(8, 6, 4, 1, 1, controller=keras.layers.LSTMCell(8, dropout=0.5))
    layer = keras.layers.RNN(cell)
    inputs = tf.ones([1, 3, 5])
    layer(inputs, training=True)
    drawn = {tuple(layer(inputs, training=True).numpy()[0]) for _ in range(4)}
    assert len(drawn) > 1
    still = {tuple(layer(inputs, training=False).numpy()[0]) for _ in range(4)}
    assert len(still) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"controller": "gru"}, "controller='gru'"),
        ({"controller": 3}, "controller=3"),
        ({"controller": keras.layers.LSTM(6)}, "must be a Keras RNN cell"),
        ({"controller": keras.layers.Dense(6)}, "must be a Keras RNN cell"),
        ({"controller": keras.layers.LSTMCell(7)}, "output_size=7, rnn_size=6"),
        ({"controller": keras.layers.LSTMCell(6), "controller_layers": 2}, "controller_layers=2"),
    ],
)
def test_a_controller_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NTMCell(6, 8, 4, 1, 1, **arguments)


class OfMatrices(keras.layers.SimpleRNNCell):
    """A cell whose state is a matrix."""

    @property
    def state_size(self):
        return [tf.TensorShape([2, 3])]

    @state_size.setter
    def state_size(self, size):
        pass


def test_a_controller_whose_states_are_no_vectors_is_refused():
    with pytest.raises(ValueError, match=r"whose states are vectors. .*TensorShape\(\[2, 3\]\)"):
        NTMCell(6, 8, 4, 1, 1, controller=OfMatrices(6))


class Forgetful(keras.layers.SimpleRNNCell):
    """Returns fewer states than it says."""

    def call(self, inputs, states):
        return super().call(inputs, states)[0], []


class Narrow(keras.layers.SimpleRNNCell):
    """Returns less than it says."""

    def call(self, inputs, states):
        output, states = super().call(inputs, states)
        return output[:, 1:], states


class Vague(keras.layers.SimpleRNNCell):
    """Returns states of a width that is known only when there are numbers."""

    def call(self, inputs, states):
        output, states = super().call(inputs, states)
        return output, [tf.boolean_mask(states[0], tf.fill([tf.shape(states[0])[1]], True), axis=1)]


@pytest.mark.parametrize("make, shapes", [(Forgetful, [(2, 6)]), (Narrow, [(2, 5), (2, 6)])])
def test_a_controller_that_returns_something_else_than_it_says_is_named(make, shapes):
    cell = NTMCell(6, 8, 4, 1, 1, controller=make(6))
    shapes = re.escape(str([tf.TensorShape(shape) for shape in shapes]))
    message = rf"controller's `call` must .* \[6, 6\]. Received: {shapes} from <"
    with pytest.raises(ValueError, match=message):
        cell(tf.zeros([2, 3]), cell.get_initial_state(batch_size=2))


def test_a_controller_may_leave_a_width_open_until_there_are_numbers():
    cell = NTMCell(6, 8, 4, 1, 1, controller=Vague(6))
    states = cell.get_initial_state(batch_size=2)
    outputs, _ = tf.function(cell)(tf.zeros([2, 3]), states)
    np.testing.assert_allclose(outputs, cell(tf.zeros([2, 3]), states)[0], atol=1e-6)


@pytest.mark.parametrize("units", [0, 1.5, "wide"])
def test_a_controller_without_a_width_is_refused(units):
    for controller in (FeedforwardCell, CountingLSTMCell):
        with pytest.raises(ValueError, match=f"`units` must be .* Received: units={units!r}"):
            controller(units)
    with pytest.raises(ValueError, match="`layers` must be .* Received: layers=0"):
        FeedforwardCell(3, layers=0)


class Constant(AbstractRNNCell):
    """A cell of a constant state, whose size it gives as older cells do: as a shape."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    @property
    def state_size(self):
        return (tf.TensorShape([6]),)

    @property
    def output_size(self):
        return 6

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        return [tf.fill([batch_size, 6], tf.cast(self.value, dtype or "float32"))]

    def call(self, inputs, states):
        return states[0], states


CELLS = {
    "NTM": lambda controller: NTMCell(6, 8, 4, 1, 1, controller=controller),
    "MANN": lambda controller: MANNCell(6, 8, 4, 1, controller=controller),
}


@pytest.mark.parametrize("machine", CELLS)
def test_a_controllers_own_initial_state_is_respected(machine):
    cell = CELLS[machine](Constant(5.0))
    assert cell.state_size[0] == 6
    state = cell.get_initial_state(batch_size=2)[0]
    np.testing.assert_array_equal(state, np.full([2, 6], 5.0))
    _, (after, *_) = cell(tf.ones([2, 3]), cell.get_initial_state(batch_size=2))
    np.testing.assert_array_equal(after, state)


class Learned(keras.layers.SimpleRNNCell):
    """A cell that learns its initial state."""

    def build(self, input_shape):
        self.first = self.add_weight(name="first", shape=(self.units,), initializer="ones")
        super().build(input_shape)

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        return [tf.repeat(self.first[tf.newaxis], batch_size, axis=0)]


@pytest.mark.parametrize("machine", CELLS)
def test_a_controllers_initial_state_may_be_a_weight_of_its_own(machine):
    cell = CELLS[machine](Learned(6))
    layer = keras.layers.RNN(cell)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.ones([2, 3, 4])) ** 2)
    np.testing.assert_array_equal(cell.get_initial_state(batch_size=2)[0], np.ones([2, 6]))
    assert np.abs(tape.gradient(loss, cell.controller.trainable_weights)[0]).max() > 0


def test_an_ntm_learns_the_initial_state_of_a_controller_that_says_zeros():
    cell = CELLS["NTM"](Constant(0.0))
    assert np.abs(cell.get_initial_state(batch_size=1)[0]).max() > 0
    assert [weight.shape for weight in cell.initial.controller_state] == [(6,)]


@pytest.mark.parametrize("machine", CELLS)
def test_a_controller_may_say_itself_that_it_is_built(machine):
    controller = Constant(1.0)
    controller.built = True
    cell = CELLS[machine](controller)
    cell.build((None, 3))
    assert cell.built


@pytest.mark.parametrize("machine", CELLS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.GRUCell(6),
        lambda: keras.layers.StackedRNNCells([keras.layers.GRUCell(5), keras.layers.GRUCell(6)]),
        lambda: CountingLSTMCell(6),
        lambda: FeedforwardCell(6),
    ],
)
@pytest.mark.parametrize("is_called", [False, True])
def test_a_controller_built_for_another_width_is_refused(machine, make, is_called):
    controller = make()
    if is_called:
        sizes = tf.nest.map_structure(int, controller.state_size)
        states = tf.nest.map_structure(lambda size: tf.ones([1, size]), sizes)
        controller(tf.ones([1, 9]), states if tf.nest.is_nested(states) else [states])
    else:
        controller.build((None, 9))
    with pytest.raises(ValueError, match=r"`controller`.* width than 7,.*built for 9"):
        CELLS[machine](controller).build((None, 3))
    fitting = CELLS[machine](controller)
    fitting.build((None, 5))
    assert fitting.built
