import inspect

import numpy as np
import pytest
import slow_mann
import tensorflow as tf

from ntm_keras import MANN, MANNCell, MANNState, trace
from ntm_keras.keras_compat import keras
from ntm_keras.mann_heads import least_used_locations

SIZES = {"rnn_size": 6, "memory_size": 8, "memory_vector_dim": 4, "head_num": 2}


def cell_of(**arguments):
    return MANNCell(**{**SIZES, **arguments})


def layer_of(**arguments):
    return MANN(**{**SIZES, **arguments})


def sequences(random, batch=3, time=7, features=5):
    return random.normal(size=(batch, time, features)).astype("float32")


def state_of(cell, batch_size=1):
    return cell.unpack_state(cell.get_initial_state(batch_size=batch_size))


# What it computes


@pytest.mark.parametrize("k_strategy", ["separate", "summary"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"head_num": 1, "learned_key_strength": True},
        {"head_num": 3, "gamma": 0.5},
        {"head_num": 4, "memory_size": 4, "learned_key_strength": True},
        {"head_num": 1, "memory_size": 1, "memory_vector_dim": 1, "rnn_size": 1},
        {"memory_size": 40, "memory_vector_dim": 11, "rnn_size": 13, "batch": 1},
    ],
    ids=str,
)
def test_it_computes_what_the_equations_say(random, arguments, k_strategy):
    arguments = dict(arguments)
    inputs = sequences(random, arguments.pop("batch", 3))
    cell = cell_of(**arguments, k_strategy=k_strategy, bias_initializer="random_normal")
    found = trace(cell, inputs)
    outputs = keras.layers.RNN(cell, return_sequences=True)(inputs)
    for index, sequence in enumerate(inputs):
        expected = slow_mann.run(cell, sequence)
        names = "outputs", "read_weightings", "write_weightings", "usage", "memory"
        for name, values in zip(names, expected):
            np.testing.assert_allclose(getattr(found, name)[index], values, atol=1e-5)
        np.testing.assert_allclose(outputs[index], expected[0], atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_among_equally_used_locations_the_last_ones_are_least_used(jit_compile):
    find = tf.function(least_used_locations, jit_compile=jit_compile)
    usage = tf.constant([[1.0, 0, 0, 0, 0], [0.3, 0.1, 0.2, 0.1, 0.5], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(find(usage, 3), [[4, 3, 2], [3, 1, 2], [4, 3, 2]])


def test_the_first_write_clears_and_fills_the_last_location(random):
    found = trace(cell_of(head_num=1), sequences(random))
    gate = found.write_gate[:, 0, 0]
    np.testing.assert_allclose(found.write_weightings[:, 0, 0, -1], 1 - gate, atol=1e-6)
    np.testing.assert_allclose(
        found.memory[:, 0, -1], (1 - gate)[:, np.newaxis] * found.add_vector[:, 0, 0], atol=1e-6
    )


def test_with_the_summary_strategy_the_key_is_written(random):
    found = trace(cell_of(k_strategy="summary"), sequences(random))
    np.testing.assert_array_equal(found.key, found.add_vector)


def test_a_learned_key_strength_begins_near_4_and_sharpens_the_reading(random):
    inputs = sequences(random)
    plain, sharp = (
        trace(cell_of(learned_key_strength=learned), inputs) for learned in (False, True)
    )
    assert (np.asarray(plain.key_strength) == 1).all()
    assert np.abs(np.asarray(sharp.key_strength) - 4.05).max() < 1.5
    assert np.max(sharp.read_weightings) > np.max(plain.read_weightings[:, 1:])


def test_gradients_equal_finite_differences(random):
    cell = cell_of(learned_key_strength=True, dtype="float64")
    layer = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
    inputs = tf.constant(sequences(random, batch=2, time=4), tf.float64)

    def loss():
        return tf.reduce_sum(tf.square(layer(inputs)))

    loss()
    with tf.GradientTape() as tape:
        value = loss()
    weights = layer.trainable_weights
    for weight, gradient in zip(weights, tape.gradient(value, weights)):
        start, towards = weight.numpy(), random.normal(size=weight.shape)
        ends = []
        for distance in (1e-6, -1e-6):
            weight.assign(start + distance * towards)
            ends.append(float(loss()))
        weight.assign(start)
        numeric = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(np.sum(gradient * towards), numeric, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", [1e3, 1.0])
def test_outputs_and_gradients_are_finite_for_inputs_and_weights_up_to_1e3(random, scale):
    layer = layer_of(memory_size=128, learned_key_strength=True, return_sequences=True)
    inputs = tf.constant(scale * random.uniform(-1, 1, size=(2, 20, 5)), tf.float32)
    layer(inputs)
    weights = layer.trainable_weights
    for weight in weights:
        weight.assign(scale * random.uniform(-1, 1, size=weight.shape))
    with tf.GradientTape() as tape:
        outputs = layer(inputs)
        loss = tf.reduce_mean(outputs)
    assert np.isfinite(outputs).all()
    for gradient in tape.gradient(loss, weights):
        assert np.isfinite(gradient).all()


# As a cell and a layer of Keras


def test_arguments_stand_in_snowkylin_s_order_without_reuse_and_additions_are_keyword_only():
    parameters = list(inspect.signature(MANNCell).parameters.values())
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    defaults = {"gamma": 0.95, "k_strategy": "separate"}
    assert positional == {**dict.fromkeys(SIZES, inspect.Parameter.empty), **defaults}


def test_the_layer_takes_every_argument_of_the_cell():
    of_cell = inspect.signature(MANNCell).parameters
    of_layer = inspect.signature(MANN).parameters
    assert {name: p.default for name, p in of_cell.items()} == {
        name: of_layer[name].default for name in of_cell
    }


def test_it_starts_with_an_empty_memory_at_the_first_location():
    state = state_of(cell_of(), batch_size=3)
    assert isinstance(state, MANNState)
    np.testing.assert_array_equal(state.memory, np.full([3, 8, 4], 1e-6, "float32"))
    np.testing.assert_array_equal(state.usage, np.eye(8)[[0, 0, 0]])
    np.testing.assert_array_equal(state.read_weightings[:, 1], np.eye(8)[[0, 0, 0]])
    for zeros in (state.read_vectors, *state.controller_state):
        assert not np.any(zeros)


def test_states_are_a_flat_list_that_matches_state_size(random):
    cell = cell_of()
    assert cell.state_size == [6, 6, 2 * 4, 2 * 8, 8, 8 * 4]
    states = cell.get_initial_state(batch_size=3)
    output, new_states = cell(sequences(random)[:, 0], states)
    for each in (states, new_states):
        assert [tuple(state.shape) for state in each] == [(3, size) for size in cell.state_size]
    assert output.shape == (3, cell.output_size) == (3, 6 + 2 * 4)


def test_packing_a_state_undoes_unpacking_it(random):
    cell = cell_of()
    states = [random.normal(size=(3, size)).astype("float32") for size in cell.state_size]
    for before, after in zip(states, cell.pack_state(cell.unpack_state(states))):
        np.testing.assert_array_equal(before, after)


def test_the_config_makes_the_same_cell():
    cell = cell_of(
        gamma=0.5,
        k_strategy="summary",
        learned_key_strength=True,
        controller="feedforward",
        controller_layers=2,
        kernel_regularizer="l2",
    )
    again = MANNCell.from_config(cell.get_config())
    assert again.get_config() == cell.get_config()


def test_the_layer_is_its_cell_in_an_rnn_layer(random):
    layer, inputs = layer_of(return_sequences=True), sequences(random)
    around = keras.layers.RNN(layer.cell, return_sequences=True)
    np.testing.assert_allclose(layer(inputs), around(inputs), atol=1e-6)


def test_a_masked_step_changes_neither_output_nor_state(random):
    layer, inputs = layer_of(return_state=True), sequences(random)
    mask = np.array([[True] * 7, [True, False] * 3 + [True], [False] * 7])
    output, *states = layer(inputs, mask=tf.constant(mask))
    short, *states_of_short = layer(inputs[1:2, ::2])
    np.testing.assert_allclose(output[1:2], short, atol=1e-6)
    for state, expected in zip(states, states_of_short):
        np.testing.assert_allclose(state[1:2], expected, atol=1e-6)
    initial = layer.cell.get_initial_state(batch_size=1)
    for state, expected in zip(states, initial):
        np.testing.assert_array_equal(state[2:], expected)


def test_it_starts_from_a_given_state(random):
    layer, inputs = layer_of(return_sequences=True, return_state=True), sequences(random)
    whole, *_ = layer(inputs)
    _, *states = layer(inputs[:, :4])
    for given in (states, layer.cell.unpack_state(states)):
        rest, *_ = layer(inputs[:, 4:], initial_state=given)
        np.testing.assert_allclose(rest, whole[:, 4:], atol=1e-6)


def test_a_stateful_layer_is_reset_to_an_empty_memory(random):
    inputs = tf.constant(sequences(random))
    layer = layer_of(stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=inputs.shape), layer])
    first, second = model(inputs), model(inputs)
    assert np.abs(first - second).max() > 1e-5
    layer.reset_state()
    np.testing.assert_allclose(model(inputs), first, atol=1e-6)


def test_xla_changes_nothing(random):
    layer, inputs = layer_of(return_sequences=True), tf.constant(sequences(random))
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(compiled(inputs), layer(inputs), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_outputs_are_near_those_in_full(random, policy):
    half, full = layer_of(dtype=policy, return_state=True), layer_of()
    inputs = sequences(random)
    half(inputs), full(inputs)
    half.set_weights(full.get_weights())
    # Which of two locations is used less may be another one, so states are not compared.
    output, *states = half(inputs)
    assert {each.dtype.name for each in [output, *states]} == {half.compute_dtype}
    np.testing.assert_allclose(tf.cast(output, tf.float32), full(inputs), atol=0.1)


@pytest.mark.parametrize(
    "controller",
    ["lstm", "feedforward", keras.layers.GRUCell(6)],
    ids=["lstm", "feedforward", "cell"],
)
def test_a_model_is_the_same_after_it_was_saved(random, tmp_path, controller):
    layer = layer_of(controller=controller, learned_key_strength=True)
    model = keras.Sequential([keras.Input([None, 5]), layer])
    inputs, path = sequences(random), str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_it_learns_with_fit(random):
    inputs = random.integers(0, 2, size=(32, 6, 3)).astype("float32")
    targets = np.roll(inputs, 1, axis=1)
    targets[:, 0] = 0
    model = keras.Sequential(
        [
            keras.Input([None, 3]),
            layer_of(rnn_size=32, learned_key_strength=True, return_sequences=True),
            keras.layers.Dense(3),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-2), keras.losses.BinaryCrossentropy(from_logits=True))
    losses = model.fit(inputs, targets, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


# Bad input


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, 1.5, None, True])
def test_a_size_that_is_no_positive_integer_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}={value!r}"):
        cell_of(**{name: value})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"head_num": 9}, "head_num=9, memory_size=8"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"gamma": float("nan")}, "gamma=nan"),
        ({"gamma": "much"}, "gamma='much'"),
        ({"gamma": True}, "gamma=True"),
        ({"k_strategy": "both"}, "k_strategy='both'"),
        ({"learned_key_strength": "no"}, "learned_key_strength='no'"),
        ({"controller": "gru"}, "controller='gru'"),
        ({"controller_layers": 0}, "controller_layers=0"),
    ],
    ids=str,
)
def test_a_bad_argument_is_named_with_what_was_given(arguments, message):
    for make in (cell_of, layer_of):
        with pytest.raises(ValueError, match=message):
            make(**arguments)
