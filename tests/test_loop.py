"""The layers' own loops against the cells in Keras's loop: the same numbers, the same gradients."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import test_mann
import test_ntm
from tensorflow.python.framework import ops
from test_ntm import CONFIGURATIONS, as_text, sequences

from ntm_keras import MANN, NTM, MANNCell, NTMCell, SideBySide, fast
from ntm_keras.keras_compat import IS_KERAS_2, keras

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 runs every layer in its own loop")

MACHINES = [
    *CONFIGURATIONS,
    {"controller": "feedforward"},
    {"controller": "feedforward", "controller_layers": 3, "output_source": "controller_and_reads"},
    {"controller": "rnn", "controller_layers": 2},
    {"controller": "counting_lstm", "controller_layers": 2},
    {"controller": "lstm", "controller_layers": 2, "read_head_num": 2},
    {"addressing_mode": "content", "write_head_num": 2, "write_order": "simultaneous"},
    {"head_num": 1},
    {"head_num": 3, "learned_key_strength": True},
    {"head_num": 2, "k_strategy": "summary", "gamma": 0.5},
    {"head_num": 2, "controller": "feedforward", "controller_layers": 2},
    {"head_num": 8, "controller": "rnn"},
]


def layer_and_cell(machine, **options):
    """The layer, and a layer of Keras around a cell with the same weights, both in float64."""
    if "head_num" in machine:
        layer_class, cell_class, sizes = MANN, MANNCell, test_mann.SIZES
    else:
        layer_class, cell_class, sizes = NTM, NTMCell, test_ntm.SIZES
    arguments = {**sizes, "bias_initializer": "random_normal", **machine, "dtype": "float64"}
    layer = layer_class(**arguments, return_state=True, **options)
    around_cell = keras.layers.RNN(
        cell_class(**arguments), return_state=True, **options, dtype="float64"
    )
    for each in (layer, around_cell):
        each.build((3, 5, 7))
    around_cell.set_weights(layer.get_weights())
    assert layer.has_fast_loop is not options.get("unroll", False)
    return layer, around_cell


def results_and_gradients(layer, inputs, **call):
    """What a layer returns, and the gradients of some function of all that."""
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = layer(inputs, **call)
        loss = tf.add_n([tf.reduce_sum(tf.sin(3 * result)) for result in results])
    sources = [inputs, *layer.trainable_weights]
    gradients = tape.gradient(loss, sources)
    return results, [
        tf.zeros(source.shape, tf.float64) if gradient is None else gradient
        for source, gradient in zip(sources, gradients)
    ]


def assert_same(layer, around_cell, inputs, **call):
    for expected, found in zip(
        results_and_gradients(around_cell, inputs, **call),
        results_and_gradients(layer, inputs, **call),
    ):
        assert len(expected) == len(found)
        for each, other in zip(expected, found):
            np.testing.assert_allclose(other, each, rtol=1e-6, atol=1e-9)


def inputs_of(random, **sizes):
    return sequences(random, **sizes).astype("float64")


# The masked test that follows sees every machine.
@pytest.mark.parametrize(
    "machine", [{}, {"addressing_mode": "content"}, {"head_num": 3}], ids=as_text
)
def test_it_gives_what_the_cell_gives(random, machine):
    assert_same(*layer_and_cell(machine, return_sequences=True), inputs_of(random))


MASK = np.array([[0, 0, 1, 0, 0], [1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)


@pytest.mark.parametrize("machine", MACHINES, ids=as_text)
def test_masked_steps_change_nothing(random, machine):
    layer, around_cell = layer_and_cell(machine, return_sequences=True)
    assert_same(layer, around_cell, inputs_of(random), mask=tf.constant(MASK))


@pytest.mark.parametrize("option", ["go_backwards", "zero_output_for_mask"])
def test_masked_steps_change_nothing_with_other_options_either(random, option):
    layer, around_cell = layer_and_cell({"read_head_num": 2}, **{option: True})
    assert_same(layer, around_cell, inputs_of(random), mask=tf.constant(MASK))


@pytest.mark.parametrize("dtype", [tf.int32, tf.float32])
def test_a_mask_may_be_of_numbers_and_have_a_third_axis(random, dtype):
    layer, around_cell = layer_and_cell({}, return_sequences=True)
    mask = tf.cast(MASK, dtype)
    assert_same(layer, around_cell, inputs_of(random), mask=mask)
    assert_same(layer, around_cell, inputs_of(random), mask=mask[:, :, tf.newaxis])


def test_one_mask_may_be_for_all_sequences(random):
    layer, around_cell = layer_and_cell({}, return_sequences=True)
    assert_same(layer, around_cell, inputs_of(random), mask=MASK[:1])


@pytest.mark.parametrize("shape", [[5, 3], [15], [3, 4], [2, 5], [3, 5, 2]])
def test_a_mask_of_another_shape_is_refused(random, shape):
    layer, _ = layer_and_cell({}, return_sequences=True)
    for call in (layer, SideBySide(layer)):
        with pytest.raises(ValueError, match=r"`mask` must have the shape .*, here \(3, 5\)"):
            call(inputs_of(random), mask=np.ones(shape, bool))


@pytest.mark.parametrize("zero_output_for_mask", [False, True])
def test_it_ends_with_the_last_step_that_the_mask_asks_for(random, zero_output_for_mask):
    layer, around_cell = layer_and_cell(
        {}, return_sequences=True, zero_output_for_mask=zero_output_for_mask
    )
    mask = tf.sequence_mask([2, 1, 3], 5)
    assert_same(layer, around_cell, inputs_of(random), mask=mask)


def test_a_mask_may_ask_for_no_step_at_all(random):
    layer, around_cell = layer_and_cell({}, return_sequences=True)
    assert_same(layer, around_cell, inputs_of(random), mask=tf.zeros([3, 5], tf.bool))


def test_it_goes_backwards(random):
    assert_same(*layer_and_cell({}, go_backwards=True), inputs_of(random))


@pytest.mark.parametrize("machine", [{"read_head_num": 2}, {"head_num": 2}], ids=as_text)
def test_gradients_reach_a_given_initial_state(random, machine):
    layer, around_cell = layer_and_cell(machine)
    states = [tf.constant(random.normal(size=(3, n)) ** 2) for n in layer.cell.state_size]
    inputs = inputs_of(random)

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(states)
            loss = tf.reduce_sum(layer(inputs, initial_state=states)[0] ** 2)
        return tape.gradient(loss, states, unconnected_gradients="zero")

    for expected, found in zip(gradients(around_cell), gradients(layer)):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "machine, jit_compile, masked",
    [({}, False, False), ({}, True, True), ({"head_num": 2}, False, True)],
)
def test_it_gives_the_same_as_a_graph_of_dynamic_batch_and_time(
    random, machine, jit_compile, masked
):
    layer, _ = layer_and_cell(machine, return_sequences=True)
    inputs = inputs_of(random)
    mask = tf.sequence_mask([2, 1, 3], 5) if masked else None

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec([None, None, 7], tf.float64)],
    )
    def in_graph(inputs):
        return results_and_gradients(layer, inputs, mask=mask)

    for eager, graph in zip(results_and_gradients(layer, inputs, mask=mask), in_graph(inputs)):
        for each, other in zip(eager, graph):
            np.testing.assert_allclose(other, each, rtol=1e-6, atol=1e-9)


def test_it_is_compiled_once_for_masks_of_every_length(random):
    layer, _ = layer_and_cell({}, return_sequences=True)

    @tf.function(jit_compile=True)
    def gradients(inputs, mask):
        return results_and_gradients(layer, inputs, mask=mask)[1]

    inputs, mask = tf.constant(inputs_of(random)), tf.constant(MASK)
    program = gradients.experimental_get_compiler_ir(inputs, mask)("hlo")
    # What XLA compiles a value into is no parameter of the program.
    parameters = program.splitlines()[0].split("entry_computation_layout=")[1].split("->")[0]
    assert "pred[3,5]" in parameters


def test_a_known_batch_size_of_the_state_is_enough(random):
    layer, _ = layer_and_cell({})
    states = layer.cell.get_initial_state(batch_size=1)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 7], tf.float64)])
    def in_graph(inputs):
        return layer(inputs, initial_state=states)[0]

    inputs = inputs_of(random, batch=1)
    np.testing.assert_allclose(in_graph(inputs), layer(inputs)[0], rtol=1e-6)


class Unserializable(keras.layers.GRUCell):
    def get_config(self):
        raise NotImplementedError


def test_half_precision_given_controllers_and_unrolling_are_left_to_keras():
    for arguments in ({"dtype": "mixed_bfloat16"}, {"controller": Unserializable(6)}):
        assert not fast.loop_for(NTMCell(**test_ntm.SIZES, **arguments))
        assert NTM(**test_ntm.SIZES, **arguments)(np.ones([3, 5, 7])).shape == (3, 7)
    layer, around_cell = layer_and_cell({}, unroll=True)
    assert_same(layer, around_cell, np.ones([3, 5, 7]))


@pytest.mark.parametrize(
    "layer_class, jit_compile",
    [
        (NTM, False),
        pytest.param(NTM, True, marks=pytest.mark.slow),
        pytest.param(MANN, False, marks=pytest.mark.slow),
        pytest.param(MANN, True, marks=pytest.mark.slow),
    ],
)
def test_a_trace_that_is_dropped_leaves_nothing_behind(layer_class, jit_compile):
    arguments = {NTM: test_ntm.SIZES, MANN: {**test_mann.SIZES, "head_num": 2}}[layer_class]
    layer = layer_class(**arguments)
    layer.build((2, 3, 7))

    def trace():
        @tf.function(jit_compile=jit_compile)
        def gradients(sequences):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(sequences))
            return tape.gradient(loss, layer.trainable_weights)

        gradients(tf.ones([2, 3, 7]))
        return weakref.ref(gradients.get_concrete_function(tf.ones([2, 3, 7])).graph)

    registered = set(ops.gradient_registry.list())
    graph = trace()
    gc.collect()
    assert graph() is None
    left = set(ops.gradient_registry.list()) - registered
    assert [name for name in left if name.startswith("CustomGradient")] == []


def test_weightings_below_zero_count_as_zero(random):
    layer, around_cell = layer_and_cell({})
    inputs = tf.constant(random.normal(size=[2, 3, 7]))
    states = [tf.fill([2, size], tf.constant(-0.5, tf.float64)) for size in layer.cell.state_size]
    found, expected = (each(inputs, initial_state=states) for each in (layer, around_cell))
    for one, other in zip(found, expected):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=1e-12)
