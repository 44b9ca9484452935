import inspect

import numpy as np
import pytest
import slow_ntm
import tensorflow as tf

from ntm_keras import NTM, MANNCell, NTMCell, NTMState, trace
from ntm_keras.keras_compat import IS_KERAS_2, AbstractRNNCell, keras

SIZES = {
    "rnn_size": 6,
    "memory_size": 8,
    "memory_vector_dim": 4,
    "read_head_num": 1,
    "write_head_num": 1,
}
CONFIGURATIONS = [
    {},
    {"read_head_num": 3, "write_head_num": 2, "shift_range": 2},
    {"read_head_num": 2, "write_head_num": 3, "write_order": "simultaneous"},
    {"addressing_mode": "content", "output_dim": 2},
    {"shift_range": 0, "output_source": "controller_and_reads", "read_head_num": 2},
    {"memory_initializer": "random"},
    {"memory_initializer": "glorot_normal", "weighting_initializer": "focused"},
    {"memory_size": 3, "memory_vector_dim": 1, "rnn_size": 1},
]


def cell_of(**arguments):
    return NTMCell(**{**SIZES, **arguments})


def layer_of(**arguments):
    return NTM(**{**SIZES, **arguments})


def sequences(random, batch=3, time=5, features=7):
    return random.normal(size=(batch, time, features)).astype("float32")


def as_text(values):
    return ",".join(f"{name}={value}" for name, value in values.items()) or "default"


# What it computes


@pytest.mark.parametrize("arguments", CONFIGURATIONS, ids=as_text)
def test_it_computes_what_the_paper_says(random, arguments):
    cell = cell_of(**arguments, bias_initializer="random_normal", dtype="float64")
    inputs = sequences(random).astype("float64")
    outputs = keras.layers.RNN(cell, return_sequences=True, dtype="float64")(inputs)
    for sequence, output in zip(inputs, outputs):
        np.testing.assert_allclose(output, slow_ntm.run(cell, sequence)[0], atol=1e-6)


@pytest.mark.parametrize("arguments", CONFIGURATIONS, ids=as_text)
def test_its_state_is_what_the_paper_says(random, arguments):
    cell = cell_of(**arguments)
    inputs = sequences(random)
    _, *states = keras.layers.RNN(cell, return_state=True)(inputs)
    state = cell.unpack_state(states)
    for index, sequence in enumerate(inputs):
        _, weightings, memories = slow_ntm.run(cell, sequence)
        np.testing.assert_allclose(state.weightings[index], weightings[-1], atol=1e-5)
        np.testing.assert_allclose(state.memory[index], memories[-1], atol=1e-5)


def test_gradients_equal_finite_differences(random):
    cell = cell_of(read_head_num=2, write_head_num=2, dtype="float64")
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


@pytest.mark.parametrize("scale", [1e3, 30.0])
@pytest.mark.parametrize(
    "arguments",
    [
        {"memory_initializer": "constant"},
        {"memory_initializer": "zeros", "weighting_initializer": "focused", "controller": "rnn"},
        {"read_head_num": 2, "write_head_num": 2, "output_source": "controller_and_reads"},
    ],
    ids=as_text,
)
def test_outputs_and_gradients_are_finite_for_inputs_and_weights_up_to_1e3(
    random, scale, arguments
):
    layer = layer_of(memory_size=128, return_sequences=True, **arguments)
    inputs = tf.constant(scale * random.uniform(-1, 1, size=(2, 20, 7)), tf.float32)
    layer(inputs)
    weights = layer.trainable_weights
    for weight in weights:
        weight.assign(scale * random.uniform(-1, 1, size=weight.shape))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        loss = tf.reduce_mean(outputs)
    assert np.isfinite(outputs).all()
    for gradient in tape.gradient(loss, [inputs, *weights]):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("value", [1e-6, 0.0])
def test_gradients_are_sane_with_a_constant_memory(random, value):
    initializer = keras.initializers.Constant(value)
    layer = layer_of(memory_size=128, memory_vector_dim=20, memory_initializer=initializer)
    inputs = sequences(random)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(layer(inputs)))
    gradients = tape.gradient(loss, layer.trainable_weights)
    assert max(np.abs(gradient).max() for gradient in gradients) < 100


# As a cell of Keras


def test_it_is_an_abstract_rnn_cell():
    assert issubclass(NTMCell, AbstractRNNCell)
    if hasattr(keras.layers, "AbstractRNNCell"):
        assert issubclass(NTMCell, keras.layers.AbstractRNNCell)


def test_arguments_stand_in_snowkylin_s_order_and_additions_are_keyword_only():
    parameters = list(inspect.signature(NTMCell).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [*SIZES, "addressing_mode", "shift_range", "output_dim"]


def test_the_layer_takes_every_argument_of_the_cell():
    of_cell = inspect.signature(NTMCell).parameters
    of_layer = inspect.signature(NTM).parameters
    assert {name: p.default for name, p in of_cell.items()} == {
        name: of_layer[name].default for name in of_cell
    }


def test_states_are_a_flat_list_that_matches_state_size(random):
    cell = cell_of(read_head_num=2, write_head_num=3)
    assert cell.state_size == [6, 6, 2 * 4, 5 * 8, 8 * 4]
    states = cell.get_initial_state(batch_size=3)
    output, new_states = cell(sequences(random)[:, 0], states)
    for each in (states, new_states):
        assert [tuple(state.shape) for state in each] == [(3, size) for size in cell.state_size]
    assert output.shape == (3, cell.output_size)


def test_the_initial_state_exists_before_the_cell_is_built():
    cell = cell_of()
    states = cell.get_initial_state(batch_size=2)
    assert not cell.built
    assert [state.dtype for state in states] == [tf.float32] * 5


def test_the_initial_state_takes_its_batch_size_from_inputs_and_its_dtype_as_told():
    states = cell_of().get_initial_state(inputs=tf.zeros([3, 5], tf.int32))
    assert {(state.shape[0], state.dtype) for state in states} == {(3, tf.float32)}
    states = cell_of().get_initial_state(batch_size=3, dtype=tf.float64)
    assert {(state.shape[0], state.dtype) for state in states} == {(3, tf.float64)}


def test_the_initial_state_is_learned(random):
    layer = layer_of()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(sequences(random)))
    initial = layer.cell.initial
    learned = [*initial.controller_state, initial.read_vectors, initial.weightings, initial.memory]
    for gradient in tape.gradient(loss, learned):
        assert np.any(gradient)


def initial_memory(**arguments):
    cell = cell_of(**arguments)
    state = cell.unpack_state(cell.get_initial_state(batch_size=1))
    return cell, np.array(state.memory[0])


def test_a_constant_memory_starts_at_1e_6_and_stays_fixed():
    cell, memory = initial_memory(memory_initializer="constant")
    np.testing.assert_allclose(memory, np.full((8, 4), 1e-6))
    assert len(cell.non_trainable_weights) == 1


def test_a_random_memory_is_small_fixed_and_distinguishable():
    cell, memory = initial_memory(memory_initializer="random")
    bound = (8 + 4) ** -0.5
    assert np.abs(memory).max() <= bound and np.abs(memory).max() > bound / 2
    assert len(np.unique(memory)) == 32
    assert len(cell.non_trainable_weights) == 1


def test_a_learned_memory_starts_within_the_tanh():
    cell, memory = initial_memory()
    np.testing.assert_allclose(memory, np.tanh(cell.initial.memory.numpy()), rtol=1e-6)
    assert not cell.non_trainable_weights


def test_a_keras_initializer_fills_the_memory_as_it_is():
    _, memory = initial_memory(memory_initializer=keras.initializers.Constant(0.25))
    np.testing.assert_array_equal(memory, np.full((8, 4), 0.25, "float32"))


def test_focused_weightings_start_on_the_first_location_and_spread_ones_everywhere():
    for initializer, least, most in (("focused", 0.99, 1.0), ("spread", 0.0, 0.2)):
        cell = cell_of(memory_size=64, weighting_initializer=initializer)
        state = cell.unpack_state(cell.get_initial_state(batch_size=1))
        assert least < np.max(state.weightings[0, 0, 0]) < most
        np.testing.assert_allclose(np.sum(state.weightings, axis=-1), 1, rtol=1e-5)


def test_packing_a_state_undoes_unpacking_it(random):
    cell = cell_of(read_head_num=2)
    states = [random.normal(size=(3, size)).astype("float32") for size in cell.state_size]
    state = cell.unpack_state(states)
    assert isinstance(state, NTMState)
    assert [tuple(tensor.shape) for tensor in state.controller_state] == [(3, 6), (3, 6)]
    assert state.read_vectors.shape == (3, 2, 4)
    assert state.weightings.shape == (3, 3, 8)
    assert state.memory.shape == (3, 8, 4)
    for before, after in zip(states, cell.pack_state(state)):
        np.testing.assert_array_equal(before, after)


def test_states_of_another_number_or_width_are_refused(random):
    cell = cell_of()
    with pytest.raises(ValueError, match="list of 5 tensors: .*, weightings, memory. Received: 1$"):
        cell.unpack_state([tf.zeros([1, 6])])
    states = cell.get_initial_state(batch_size=3)
    states[3] = states[3][:, :-1]
    with pytest.raises(ValueError, match=r"\(3, 15\)"):
        layer_of()(sequences(random), initial_state=states)
    with pytest.raises(ValueError, match=r"`controller_state\[0\]` .*: \(2, 6\)"):
        cell(tf.zeros([3, 7]), cell.get_initial_state(batch_size=2))
    with pytest.raises(ValueError, match="list of 5 tensors: .* Received: 0"):
        cell(tf.zeros([3, 7]), [])
    with pytest.raises(ValueError, match="`batch_size` must be given"):
        cell.get_initial_state()


def test_a_named_state_may_have_been_kept_in_a_module(random):
    layer, keeper = layer_of(), tf.Module()
    layer.build((None, None, 7))
    keeper.state = layer.cell.unpack_state(layer.cell.get_initial_state(batch_size=3))
    inputs = sequences(random)
    np.testing.assert_array_equal(layer(inputs, initial_state=keeper.state), layer(inputs))


def test_a_named_state_of_another_machine_is_refused(random):
    mann = MANNCell(6, 8, 4, 1)
    state = mann.unpack_state(mann.get_initial_state(batch_size=3))
    with pytest.raises(ValueError, match="must be a `NTMState`. Received: a `MANNState`"):
        layer_of()(sequences(random), initial_state=state)
    with pytest.raises(
        ValueError, match="which the cell's `pack_state` makes. Received: a `MANNSt"
    ):
        cell_of().unpack_state(state)


def test_a_named_state_whose_tensors_have_other_shapes_is_refused(random):
    cell = cell_of()
    state = cell.unpack_state(cell.get_initial_state(batch_size=3))
    for wrong, told in (
        (tf.zeros([3, 8, 5]), r"\(3, 8, 5\)"),
        (tf.zeros([3, 32]), r"\(3, 32\)"),
        (None, "`NoneType`"),
    ):
        wanted = r"`memory` must be a tensor of the shape \(batch, 8, 4\)\. Received: .*"
        with pytest.raises(ValueError, match=f"{wanted}{told}$"):
            layer_of()(sequences(random), initial_state=state._replace(memory=wrong))


@pytest.mark.parametrize("shape", [[7], [3, 7]])
def test_an_input_that_is_no_batch_of_sequences_is_refused_by_the_layer(shape):
    with pytest.raises(ValueError, match=r"shape \(batch, time|ndim=3"):
        layer_of()(tf.zeros(shape))


@pytest.mark.parametrize("shape", [[3, 7], [3, 5, 7, 2]])
@pytest.mark.parametrize("make", [layer_of, lambda: keras.layers.RNN(cell_of())])
def test_sequences_of_another_rank_are_refused(make, shape):
    with pytest.raises(ValueError, match=r"must have the shape \(batch, "):
        make()(tf.zeros(shape))


@pytest.mark.parametrize("shape", [[7], [3, 5, 7]])
def test_an_input_of_a_cell_of_another_rank_is_refused(shape):
    cell = cell_of()
    with pytest.raises(ValueError, match=r"must have the shape \(batch, features\)"):
        cell(tf.zeros(shape), cell.get_initial_state(batch_size=3))
    cell(tf.zeros([3, 7]), cell.get_initial_state(batch_size=3))
    with pytest.raises(ValueError, match="ndim"):
        cell(tf.zeros(shape), cell.get_initial_state(batch_size=3))


@pytest.mark.parametrize("value", ["a", 1j])
def test_inputs_that_are_no_real_numbers_are_refused(value):
    cell, inputs = cell_of(), tf.fill([3, 5, 7], value)
    message = f"must hold real numbers .* of dtype {inputs.dtype.name}"
    for call in (
        lambda: layer_of()(inputs),
        lambda: keras.layers.RNN(cell_of())(inputs),
        lambda: cell(inputs[:, 0], cell.get_initial_state(batch_size=3)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_output_is_as_wide_as_the_input_unless_told_otherwise(random):
    assert layer_of()(sequences(random)).shape == (3, 7)
    assert layer_of(output_dim=2)(sequences(random)).shape == (3, 2)


def test_a_sequence_s_answer_does_not_depend_on_its_batch(random):
    layer, inputs = layer_of(), sequences(random)
    np.testing.assert_allclose(layer(inputs)[:1], layer(inputs[:1]), atol=1e-6)


def test_all_zero_states_are_a_sensible_start(random):
    cell = cell_of()
    inputs = tf.constant(sequences(random))
    states = [tf.zeros([3, size]) for size in cell.state_size]
    layer = keras.layers.RNN(cell, return_sequences=True)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, initial_state=states)
    assert np.isfinite(outputs).all()
    assert np.isfinite(tape.gradient(outputs, inputs)).all()
    _, new_states = cell(inputs[:, 0], states)
    weightings = cell.unpack_state(new_states).weightings
    np.testing.assert_allclose(np.sum(weightings, axis=-1), 1, rtol=1e-5)


def test_the_projections_start_from_different_numbers():
    layer = layer_of(read_head_num=2, output_dim=23 * 2, kernel_initializer="random_normal")
    layer(tf.zeros([1, 1, 7]))
    parameters = layer.cell.parameter_projection.kernel.numpy()
    output = layer.cell.output_projection.kernel.numpy()
    assert np.abs(parameters[:, :10] - output[:, :10]).max() > 0


def test_it_learns_with_fit(random):
    inputs = random.integers(0, 2, size=(32, 6, 3)).astype("float32")
    targets = np.roll(inputs, 1, axis=1)
    targets[:, 0] = 0
    model = keras.Sequential([keras.Input([None, 3]), layer_of(rnn_size=32, return_sequences=True)])
    model.compile(keras.optimizers.Adam(2e-2), keras.losses.BinaryCrossentropy(from_logits=True))
    losses = model.fit(inputs, targets, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


# Saving


def test_the_config_makes_the_same_cell():
    arguments = {
        **CONFIGURATIONS[1],
        "controller": "rnn",
        "controller_layers": 2,
        "memory_initializer": "random",
        "weighting_initializer": "focused",
        "write_order": "simultaneous",
        "kernel_regularizer": "l2",
    }
    cell = cell_of(**arguments)
    again = NTMCell.from_config(cell.get_config())
    assert again.get_config() == cell.get_config()
    assert again.state_size == cell.state_size


# Bad input


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", None, True])
def test_a_size_that_is_no_positive_integer_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}={value!r}"):
        cell_of(**{name: value})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shift_range": -1}, "shift_range=-1"),
        ({"shift_range": 4}, "shift_range=4, memory_size=8"),
        ({"addressing_mode": "location"}, "addressing_mode='location'"),
        ({"output_dim": 0}, "output_dim=0"),
        ({"controller_layers": 0}, "controller_layers=0"),
        ({"memory_initializer": "big"}, "memory_initializer='big'"),
        ({"memory_initializer": 3}, "memory_initializer=3"),
        ({"weighting_initializer": "everywhere"}, "weighting_initializer='everywhere'"),
        ({"output_source": "memory"}, "output_source='memory'"),
        ({"write_order": "random"}, "write_order='random'"),
    ],
    ids=str,
)
def test_a_bad_argument_is_named_with_what_was_given(arguments, message):
    for make in (cell_of, layer_of):
        with pytest.raises(ValueError, match=message):
            make(**arguments)


KERAS_3_ALONE = pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 checks inputs in its own way")


@KERAS_3_ALONE
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (2, 3, None)], ids=str)
def test_an_input_of_another_rank_or_of_unknown_width_is_refused_by_the_layer(shape):
    with pytest.raises(ValueError, match=r"3|known number of features"):
        layer_of()(keras.Input(shape[1:]))


@KERAS_3_ALONE
def test_an_input_of_another_width_than_before_is_refused_by_the_layer(random):
    layer = layer_of()
    layer(sequences(random))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 7"):
        layer(sequences(random, features=4))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize("make", [layer_of, lambda: keras.layers.RNN(cell_of())])
def test_whole_numbers_and_truth_values_are_taken_as_inputs(make, dtype):
    layer, inputs = make(), (np.arange(12) % 3).reshape([1, 4, 3]).astype(dtype)
    np.testing.assert_array_equal(layer(inputs), layer(inputs.astype("float32")))


def test_heads_that_begin_by_location_write_one_location_after_another_and_read_where_they_are():
    sizes = {**SIZES, "memory_size": 10, "read_head_num": 2, "write_head_num": 2}
    cell = NTMCell(
        **sizes,
        weighting_initializer="focused",
        head_initializer="by_location",
        kernel_initializer="zeros",
    )
    found = trace(cell, np.zeros([1, 4, 7], "float32"))
    for head in range(2):
        written = np.argmax(found.write_weightings[0, :, head], axis=-1)
        read = np.argmax(found.read_weightings[0, :, head], axis=-1)
        assert written.tolist() == [1, 2, 3, 4] and read.tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(found.interpolation_gate[0, 0], tf.sigmoid([-3.0, -3, -2, -2]))
    read_shifts = tf.nn.softmax([1.0, 0.0, -3.0])  # They hardly go back.
    np.testing.assert_allclose(found.shift_weighting[0, 0, :2], [read_shifts] * 2, rtol=1e-5)
    assert not np.any(found.key)


def test_heads_that_begin_by_location_keep_the_biases_own_initializer():
    made = cell_of(head_initializer="by_location", bias_initializer="ones")
    neutral = cell_of(bias_initializer="ones")
    for cell in (made, neutral):
        cell.build((None, 7))
    difference = made.parameter_projection.bias - neutral.parameter_projection.bias
    assert np.count_nonzero(difference) == 3 * SIZES["read_head_num"] + 3 * SIZES["write_head_num"]
    again = NTMCell.from_config(made.get_config())
    assert again.head_initializer == "by_location"


class WithOneMoreParameter(NTMCell):
    @property
    def parameter_count(self):
        return super().parameter_count + 1

    def head_parameters(self, projection):
        return super().head_parameters(projection[:, :-1])


def test_heads_of_a_subclass_with_more_parameters_can_begin_by_location():
    cells = [
        each(**SIZES, head_initializer="by_location") for each in (NTMCell, WithOneMoreParameter)
    ]
    for cell in cells:
        cell.build((None, 7))
    own, more = (cell.parameter_projection.bias for cell in cells)
    np.testing.assert_array_equal(more, np.append(own, 0))


@pytest.mark.parametrize("others", [{"shift_range": 0}, {"addressing_mode": "content"}])
def test_heads_that_cannot_shift_cannot_begin_by_location(others):
    with pytest.raises(ValueError, match='can be "by_location" only where heads can shift'):
        cell_of(head_initializer="by_location", **others)


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 pads ragged tensors itself")
def test_ragged_sequences_are_refused_with_the_way_to_pad_them():
    ragged = tf.RaggedTensor.from_row_lengths(tf.ones([3, 7]), [1, 2])
    with pytest.raises(
        ValueError, match=r"pad it with `to_tensor\(\)`.* Received: shape \(2, None"
    ):
        layer_of()(ragged)
    layer_of()(ragged.to_tensor(), mask=tf.sequence_mask(ragged.row_lengths()))


def test_sequences_without_a_step_are_refused():
    layer = layer_of()
    for _ in range(2):  # Before and after it is built.
        with pytest.raises(ValueError, match=r"at least one step. Received: shape \(3, 0, 7\)"):
            layer(tf.zeros([3, 0, 7]))
        layer(tf.zeros([3, 1, 7]))
