"""What Keras asks of a recurrent cell: the cells in `keras.layers.RNN`, and their own layers.

`docs/contract.md` is the table of these tests; `python tests/test_contract.py` writes it.
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from ntm_keras import MANN, NTM, MANNCell, NTMCell
from ntm_keras.keras_compat import IS_KERAS_2, IS_TENSORFLOW, dtype_name, keras, ops, to_numpy
from ntm_keras.machine import MemoryLayer

pytestmark = pytest.mark.eager

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "contract.md"
BATCH, TIME, WIDTH = 3, 3, 4
SIZES = {"rnn_size": 6, "memory_size": 8, "memory_vector_dim": 4}
# Of each machine: its cell, its layer, the arguments it must have, and some that it can have.
MACHINES = {
    "NTM": (
        NTMCell,
        NTM,
        {**SIZES, "read_head_num": 1, "write_head_num": 2},
        {"shift_range": 2, "memory_initializer": "random", "output_dim": 3},
    ),
    "MANN": (
        MANNCell,
        MANN,
        {**SIZES, "head_num": 2},
        {"gamma": 0.9, "k_strategy": "summary", "learned_key_strength": True},
    ),
}
# The columns of the table: Keras 3 on each backend, and Keras 2.
COLUMNS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch", "keras_2": "Keras 2"}
COLUMN = "keras_2" if IS_KERAS_2 else keras.backend.backend()
# The features, in the order of the tests: title, and by column why it is not offered there.
FEATURES = []
IS_SLOW_HERE = COLUMN != "tensorflow"


def feature(title, **reasons):
    """Makes a test a row of the table; `reasons` says why columns do not offer it."""
    FEATURES.append((title, reasons))
    return pytest.mark.skipif(COLUMN in reasons, reason=f"{title}: {reasons.get(COLUMN)}")


def of_tensorflow(reason):
    """The reason why no other backend offers a feature."""
    return {"jax": reason, "torch": reason}


class Make:
    """Makes a layer: arguments of the cell as `cell`, those of the layer by themselves."""

    def __init__(self, name):
        self.machine = name.removesuffix("Cell")
        self.cell_class, self.layer_class, self.arguments, self.others = MACHINES[self.machine]
        self.is_layer = name == self.machine

    def __call__(self, cell=None, dtype=None, **options):
        if self.is_layer:
            return self.layer_class(**self.arguments, **(cell or {}), dtype=dtype, **options)
        return keras.layers.RNN(self.cell(cell, dtype), dtype=dtype, **options)

    def cell(self, cell=None, dtype=None):
        return self.cell_class(**self.arguments, **(cell or {}), dtype=dtype)


SINGLE = of_tensorflow("Keras computes in single precision")
double_precision = pytest.mark.skipif(COLUMN in SINGLE, reason=f"{SINGLE.get(COLUMN)}")
only_on_tensorflow = pytest.mark.skipif(not IS_TENSORFLOW, reason="of TensorFlow's functions")
ALL = ["NTMCell", "NTM", "MANNCell", "MANN"]


def rows(*fast):
    """All machines; those that are not among `fast` are slow."""
    return [pytest.param(name, marks=[] if name in fast else [pytest.mark.slow]) for name in ALL]


# Under Keras 2 all run in the loop of `keras.layers.RNN`; on JAX each operation is compiled.
@pytest.fixture(params=rows("NTM") if IS_SLOW_HERE else rows(*ALL))
def make(request):
    return Make(request.param)


# Each layer; only one where that is slow.
each_layer = pytest.mark.parametrize("name", ["NTM"] if IS_SLOW_HERE else MACHINES)

# For tests that take long.
costly = pytest.mark.parametrize("make", rows() if IS_SLOW_HERE else rows("NTM"), indirect=True)


@pytest.fixture
def inputs(random):
    return random.normal(size=[BATCH, TIME, WIDTH]).astype("float32")


def by_hand(layer, inputs, mask=None, states=None):
    """The outputs of a layer's cell, step by step, and its states after the last one."""
    cell = layer.cell
    states = cell.get_initial_state(batch_size=len(inputs)) if states is None else states
    outputs = []
    for t in range(inputs.shape[1]):
        output, after = cell(ops.convert_to_tensor(inputs[:, t]), states)
        if mask is not None:
            counts = ops.convert_to_tensor(mask[:, t, np.newaxis])
            states = [ops.where(counts, new, old) for new, old in zip(after, states)]
        else:
            states = after
        outputs.append(to_numpy(output))
    return np.stack(outputs, axis=1), states


def assert_equal(found, expected):
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-4, atol=1e-5)


def assert_the_same(found, expected):
    np.testing.assert_array_equal(to_numpy(found), to_numpy(expected))


def noise(random, tensor):
    return ops.convert_to_tensor(random.normal(size=tuple(tensor.shape)).astype("float32"))


def distance(one, other):
    return np.abs(to_numpy(one) - to_numpy(other)).max()


# Models


@feature("Sequential models")
def test_sequential_models(make, inputs):
    layer = make(return_sequences=True)
    model = keras.Sequential([keras.Input([None, WIDTH]), layer])
    assert_equal(model(inputs), by_hand(layer, inputs)[0])


@feature("Functional models")
def test_functional_models(make, inputs):
    layer = make(return_sequences=True)
    sequences = keras.Input([None, WIDTH])
    model = keras.Model(sequences, layer(sequences) * 2)
    assert_equal(model(inputs), 2 * by_hand(layer, inputs)[0])


@feature("Subclassed models")
def test_subclassed_models(make, inputs):
    class Doubled(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = make(return_sequences=True)

        def call(self, sequences):
            return 2 * self.layer(sequences)

    model = Doubled()
    model.compile("sgd", "mse")
    before = model.predict(inputs, verbose=0)
    assert_equal(before, 2 * by_hand(model.layer, inputs)[0])
    model.fit(inputs, np.ones_like(before), verbose=0)
    assert np.abs(model.predict(inputs, verbose=0) - before).max() > 0


@feature("Layers before and after")
def test_layers_before_and_after(make, inputs):
    layer = make(return_sequences=True)
    before, after = keras.layers.Dense(WIDTH), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input([None, WIDTH]), before, layer, after])
    assert_equal(model(inputs), after(by_hand(layer, to_numpy(before(inputs)))[0]))


@feature("`Bidirectional`")
def test_bidirectional(make, inputs):
    both = keras.layers.Bidirectional(make(return_sequences=True), merge_mode="concat")
    found = both(inputs)
    forward, _ = by_hand(both.forward_layer, inputs)
    backward, _ = by_hand(both.backward_layer, inputs[:, ::-1])
    assert_equal(found, np.concatenate([forward, backward[:, ::-1]], axis=-1))


@feature("`StackedRNNCells`, with `LSTMCell` below and above and two of the cells")
@each_layer
def test_stacked_cells(inputs, name):
    make = Make(name)
    cells = [keras.layers.LSTMCell(5), make.cell(), make.cell(), keras.layers.LSTMCell(3)]
    layer = keras.layers.RNN(keras.layers.StackedRNNCells(cells), return_sequences=True)
    found = layer(inputs)
    expected = inputs
    for cell in cells:
        layer_of_one = keras.layers.RNN(cell, return_sequences=True)
        expected = layer_of_one(expected)
    assert_equal(found, expected)


@feature("`TimeDistributed` around it")
def test_time_distributed(make, inputs):
    layer = make()
    several = np.stack([inputs, 2 * inputs], axis=1)
    expected = np.stack([by_hand(built(layer), each)[0][:, -1] for each in (inputs, 2 * inputs)], 1)
    assert_equal(keras.layers.TimeDistributed(layer)(several), expected)


@only_on_tensorflow
@pytest.mark.graph
@pytest.mark.parametrize("name", ["NTM", pytest.param("MANN", marks=pytest.mark.slow)])
def test_time_distributed_over_an_unknown_number_of_parts(name, inputs):
    layer = built(Make(name)())
    wrapped = keras.layers.TimeDistributed(layer)
    # Keras 3 takes the batch size for the number of parts: here they are the same.
    several = np.stack([inputs, 2 * inputs, 3 * inputs], axis=1)
    call = tf.function(
        wrapped, input_signature=[tf.TensorSpec([BATCH, None, TIME, WIDTH], tf.float32)]
    )
    expected = [by_hand(layer, part)[0][:, -1] for part in np.moveaxis(several, 1, 0)]
    assert_equal(call(several), np.stack(expected, axis=1))


def built(layer):
    """The same layer, with weights."""
    layer.build((BATCH, TIME, WIDTH))
    return layer


# Arguments of RNN layers


@feature("`return_sequences`")
def test_return_sequences(make, inputs):
    last, every = make(), make(return_sequences=True)
    expected, _ = by_hand(built(last), inputs)
    assert_equal(last(inputs), expected[:, -1])
    built(every).set_weights(last.get_weights())
    assert_equal(every(inputs), expected)


@feature("`return_state`")
def test_return_state(make, inputs):
    layer = make(return_state=True)
    output, *states = layer(inputs)
    outputs, expected = by_hand(layer, inputs)
    assert_equal(output, outputs[:, -1])
    assert len(states) == len(layer.cell.state_size)
    for found, state in zip(states, expected):
        assert_equal(found, state)


@feature("`go_backwards`")
def test_go_backwards(make, inputs):
    layer = make(go_backwards=True, return_sequences=True)
    assert_equal(built(layer)(inputs), by_hand(layer, inputs[:, ::-1])[0])


@feature("`unroll`")
def test_unroll(make, inputs):
    layer = make(unroll=True, return_sequences=True)
    sequences = keras.Input([TIME, WIDTH])
    model = keras.Model(sequences, layer(sequences))
    assert_equal(model(inputs), by_hand(layer, inputs)[0])


@feature("`stateful`; the layers reset to the cell's initial state, learned or not")
def test_stateful(make, inputs):
    layer = make(stateful=True, return_sequences=True)
    sequences = keras.Input(batch_shape=[BATCH, None, WIDTH])
    model = keras.Model(sequences, layer(sequences))
    parts = inputs[:, :2], inputs[:, 2:]
    found = [to_numpy(model(part)) for part in parts]
    assert_equal(np.concatenate(found, axis=1), by_hand(layer, inputs)[0])
    layer.reset_states() if IS_KERAS_2 else layer.reset_state()
    again = model(parts[0])
    if isinstance(layer, MemoryLayer):
        assert_equal(again, found[0])
    else:  # Keras's own layer resets to zeros.
        zeros = [ops.zeros([BATCH, size]) for size in layer.cell.state_size]
        assert_equal(again, by_hand(layer, parts[0], states=zeros)[0])


@feature("`stateful` in half precision", torch="a stateful LSTM keeps no state there either")
def test_stateful_in_half_precision(make, inputs):
    assert_keeps_state(make(dtype="mixed_float16", stateful=True, return_sequences=True), inputs)


@double_precision
def test_stateful_in_double_precision(make, inputs):
    assert_keeps_state(make(dtype="float64", stateful=True, return_sequences=True), inputs)


def assert_keeps_state(layer, inputs):
    first, second = (layer(ops.convert_to_tensor(inputs)) for _ in range(2))
    assert dtype_name(first.dtype) == layer.compute_dtype
    assert distance(ops.cast(first, "float32"), ops.cast(second, "float32")) > 1e-3


@feature("`stateful` in `predict`", jax="Keras keeps states only where the model is called")
def test_stateful_in_predict(make, inputs):
    model = stateful_model(make)
    first, second = (model.predict(inputs, verbose=0) for _ in range(2))
    assert distance(first, second) > 1e-4


def answers(model, sequences):
    return model(sequences) if COLUMN == "jax" else model.predict(sequences, verbose=0)


def advanced(model):
    """A model with one stateful layer, after a batch."""
    answers(model, np.ones([BATCH, 2, WIDTH], "float32"))
    return model


def stateful_model(make):
    layer = make(stateful=True, return_sequences=True)
    return keras.Sequential([keras.Input(batch_shape=[BATCH, None, WIDTH]), layer])


WITH_WEIGHTS_OF = {
    "load_model": lambda model, file: keras.models.load_model(saved(model, file + ".keras")),
    "set_weights": lambda model, file: give(cloned(model), model.get_weights()),
    "load_weights": lambda model, file: load(cloned(model), model, file + ".weights.h5"),
}


def saved(model, path):
    model.save(path)
    return path


def cloned(model):
    return keras.models.clone_model(model)


def give(model, weights):
    model.set_weights(weights)
    return model


def load(clone, model, path):
    model.save_weights(path)
    clone.load_weights(path)
    return clone


@feature("Stateful layers begin with the weights they have now: loaded, cloned or set")
@pytest.mark.parametrize("way", WITH_WEIGHTS_OF)
@each_layer
def test_stateful_layers_with_other_weights(inputs, tmp_path, name, way):
    model = advanced(stateful_model(Make(name)))
    other = WITH_WEIGHTS_OF[way](model, str(tmp_path / "model"))
    expected, _ = by_hand(model.layers[-1], inputs)
    assert_equal(answers(other, inputs), expected)
    assert distance(answers(other, inputs), expected) > 1e-4  # It goes on.


OF_ITS_FIRST_WEIGHTS = "it begins with the weights it was built with; use `NTM`"
FEATURES.append(
    (
        "The same for a stateful `keras.layers.RNN` around an `NTMCell`",
        dict.fromkeys(COLUMNS, OF_ITS_FIRST_WEIGHTS),
    )
)


def test_a_stateful_rnn_around_a_cell_begins_as_its_first_weights_say(inputs):
    model, other = (stateful_model(Make("NTMCell")) for _ in range(2))
    first = other.layers[-1].cell.get_initial_state(batch_size=BATCH)
    other.set_weights(model.get_weights())
    expected, _ = by_hand(model.layers[-1], inputs, states=first)
    assert_equal(other.predict(inputs, verbose=0), expected)


@feature("`initial_state` for a stateful layer that was reset")
def test_stateful_layers_take_an_initial_state(make, inputs, random):
    model = advanced(stateful_model(make))
    layer = model.layers[-1]
    layer.reset_states() if IS_KERAS_2 else layer.reset_state()
    states = layer.cell.get_initial_state(batch_size=BATCH)
    states[-1] = states[-1] + noise(random, states[-1])
    expected, _ = by_hand(layer, inputs, states=states)
    assert_equal(layer(ops.convert_to_tensor(inputs), initial_state=states), expected)


NOT_IN_KERAS_3 = "Keras 3 has no such argument"


@feature("`time_major`", tensorflow=NOT_IN_KERAS_3, **of_tensorflow(NOT_IN_KERAS_3))
def test_time_major(make, inputs):
    layer = make(time_major=True, return_sequences=True)
    found = layer(np.swapaxes(inputs, 0, 1))
    assert_equal(np.swapaxes(found, 0, 1), by_hand(layer, inputs)[0])


# Masks, initial states, shapes


def some_mask():
    """Sequences that end early, begin late, and pause."""
    return np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1]], bool)


OF_THE_FIRST_STATE = "Keras repeats its first state for its output; use `NTM`"


@feature("Explicit masks: a masked step changes neither output nor state")
def test_explicit_masks(make, inputs, request):
    fails_on_jax_for_a_cell(make, request, OF_THE_FIRST_STATE)
    layer = make(return_sequences=True, return_state=True)
    mask = some_mask()
    outputs, *states = layer(inputs, mask=ops.convert_to_tensor(mask))
    expected, expected_states = by_hand(layer, inputs, mask)
    outputs = to_numpy(outputs)
    assert_equal(outputs[mask], expected[mask])
    for found, state in zip(states, expected_states):
        assert_equal(found, state)
    np.testing.assert_array_equal(outputs[0, 1], outputs[0, 0])
    np.testing.assert_array_equal(outputs[0, 2], outputs[0, 0])


@feature("`Masking` before it, sequences of several lengths in one batch")
def test_masking(make, inputs, request):
    fails_on_jax_for_a_cell(make, request, OF_THE_FIRST_STATE)
    layer = make()
    lengths = [3, 2, 1]
    padded = inputs * (np.arange(TIME) < np.array(lengths)[:, np.newaxis])[:, :, np.newaxis]
    model = keras.Sequential([keras.Input([None, WIDTH]), keras.layers.Masking(), layer])
    found = to_numpy(model(padded))
    for index, length in enumerate(lengths):
        alone = inputs[index : index + 1, :length]
        assert_equal(found[index], by_hand(layer, alone)[0][0, -1])


FEATURES.append(("Both for an `NTMCell` in `keras.layers.RNN`", {"jax": OF_THE_FIRST_STATE}))


def fails_on_jax_for_a_cell(make, request, reason):
    if COLUMN == "jax" and not make.is_layer:
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))


@feature("`zero_output_for_mask`")
def test_zero_output_for_mask(make, inputs):
    layer = make(return_sequences=True, zero_output_for_mask=True)
    mask = some_mask()
    outputs = to_numpy(layer(inputs, mask=ops.convert_to_tensor(mask)))
    assert (outputs[~mask] == 0).all()
    assert_equal(outputs[mask], by_hand(layer, inputs, mask)[0][mask])


@feature("`initial_state`, as a flat list")
def test_initial_state_as_a_list(make, inputs, random):
    layer = built(make(return_sequences=True))
    states = layer.cell.get_initial_state(batch_size=BATCH)
    states[-1] = states[-1] + noise(random, states[-1])
    expected, _ = by_hand(layer, inputs, states=states)
    assert_equal(layer(inputs, initial_state=states), expected)
    assert distance(layer(inputs), expected) > 1e-4


@feature("`initial_state`, from an `NTMState` or a `MANNState`")
def test_initial_state_from_a_named_tuple(make, inputs, random):
    layer = built(make(return_sequences=True))
    cell = layer.cell
    state = cell.unpack_state(cell.get_initial_state(batch_size=BATCH))
    state = state._replace(memory=state.memory + noise(random, state.memory))
    packed = cell.pack_state(state)
    given = state if isinstance(layer, MemoryLayer) else packed
    expected, _ = by_hand(layer, inputs, states=packed)
    assert_equal(layer(inputs, initial_state=given), expected)
    sequences, *states = (keras.Input(each.shape[1:]) for each in (inputs, *packed))
    given = cell.unpack_state(states) if isinstance(layer, MemoryLayer) else states
    model = keras.Model([sequences, *states], layer(sequences, initial_state=given))
    assert_equal(model([ops.convert_to_tensor(inputs), *packed]), expected)


@pytest.mark.graph
@feature("Batch size and length may be unknown, and change")
@pytest.mark.parametrize("jit_compile", [False, True])
@costly
def test_dynamic_shapes(make, inputs, jit_compile):
    layer = built(make(return_sequences=True))
    if IS_TENSORFLOW:
        signature = [tf.TensorSpec([None, None, WIDTH], tf.float32)]
        call = tf.function(layer, input_signature=signature, jit_compile=jit_compile)
    else:
        model = keras.Sequential([keras.Input([None, WIDTH]), layer])
        model.compile(jit_compile=jit_compile)
        call = model.predict_on_batch
    for shape in ((BATCH, TIME), (1, 2)):
        some = inputs[: shape[0], : shape[1]]
        assert_equal(call(some), by_hand(layer, some)[0])


@feature("A batch of one sequence")
def test_a_batch_of_one(make, inputs):
    layer = make()
    assert_equal(layer(inputs[:1]), by_hand(layer, inputs[:1])[0][:, -1])


@feature("Symbolic shapes, and `compute_output_shape`, are the real ones")
@pytest.mark.parametrize("return_sequences", [False, True])
def test_shapes(make, inputs, return_sequences):
    layer = make(make.others, return_sequences=return_sequences, return_state=True)
    symbolic = layer(keras.Input(batch_shape=[BATCH, TIME, WIDTH]))
    computed = layer.compute_output_shape((BATCH, TIME, WIDTH))
    real = layer(inputs)
    assert len(symbolic) == len(computed) == len(real)
    for one, other, result in zip(symbolic, computed, real):
        assert tuple(one.shape) == tuple(other) == tuple(result.shape)


@feature("Layers that were not built compute their output's shape, in wrappers too")
@pytest.mark.parametrize("name", MACHINES)
def test_shapes_before_building(name):
    make = Make(name)
    width = WIDTH if name == "NTM" else 14

    def computed(layer, *shape):
        return tuple(layer.compute_output_shape(shape))

    layers = keras.layers
    assert computed(make(return_sequences=True), 3, 7, WIDTH) == (3, 7, width)
    assert computed(make(), 3, 7, WIDTH) == (3, width)
    assert computed(layers.Bidirectional(make()), 3, 7, WIDTH) == (3, 2 * width)
    assert computed(layers.TimeDistributed(make()), 3, 2, 7, WIDTH) == (3, 2, width)
    assert computed(make(), np.int64(3), np.int64(7), np.int64(WIDTH)) == (3, width)


def test_a_cell_says_where_the_width_of_its_output_is_not_known():
    layer = keras.layers.RNN(Make("NTM").cell())
    with pytest.raises(ValueError, match="Without an `output_dim`"):
        layer.compute_output_shape((3, 7, WIDTH))


# Derivatives and vectorization


def double_layer(make, cell):
    layer = make(cell, dtype="float64", return_sequences=True)
    layer(np.zeros([1, 3, WIDTH]))
    return layer


def numeric_jacobians(function, inputs):
    """By the inputs of its own sequence alone, from differences: `(batch, *output, *input)`."""
    moves = np.eye(inputs[0].size).reshape([-1, *inputs[0].shape]) * 1e-6
    steps = [function(inputs + move) - function(inputs - move) for move in moves]
    jacobians = np.stack(steps, axis=-1) / 2e-6
    return jacobians.reshape([*jacobians.shape[:-1], *inputs[0].shape])


def assert_jacobians_match(layer, mask, kinds):
    mask = None if mask is None else tf.constant(mask)
    inputs = tf.constant(np.random.default_rng(0).normal(size=[2, 3, WIDTH]))
    call = tf.function(lambda sequences: layer(sequences, mask=mask))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        outputs = layer(inputs, mask=mask)
    by_own_sequence = numeric_jacobians(call, inputs.numpy())
    by_all = np.zeros([*outputs.shape, *inputs.shape])
    for index, jacobian in enumerate(by_own_sequence):
        by_all[index][:, :, index] = jacobian
    expected = {"batch_jacobian": by_own_sequence, "jacobian": by_all}
    for kind in kinds:
        found = getattr(tape, kind)(outputs, inputs)
        np.testing.assert_allclose(found, expected[kind], atol=1e-8)


SOME_STEPS = np.array([[True, True, True], [False, True, False]])


OF_TENSORFLOW = of_tensorflow("this is TensorFlow's")


@pytest.mark.graph
@feature("`GradientTape.jacobian` and `batch_jacobian`", **OF_TENSORFLOW)
@costly
def test_jacobians(make):
    kind = "batch_jacobian" if make.is_layer else "jacobian"
    assert_jacobians_match(double_layer(make, {}), SOME_STEPS, [kind])


@only_on_tensorflow
@pytest.mark.graph
@pytest.mark.slow
@pytest.mark.parametrize("mask", [None, SOME_STEPS], ids=["all", "masked"])
@pytest.mark.parametrize("controller", ["lstm", "counting_lstm", "feedforward", "rnn", "cell"])
def test_jacobians_with_every_controller(make, controller, mask):
    cell = keras.layers.GRUCell(6, dtype="float64") if controller == "cell" else controller
    layer = double_layer(make, {"controller": cell})
    assert_jacobians_match(layer, mask, ["jacobian", "batch_jacobian"])


@pytest.mark.graph
@feature("`tf.vectorized_map`; masks that differ need `unroll=True`", **OF_TENSORFLOW)
@costly
def test_vectorized_map(make, random):
    layer = double_layer(make, {})
    several = tf.constant(random.normal(size=[2, 2, 3, WIDTH]))
    found = tf.vectorized_map(layer, several)
    np.testing.assert_allclose(found, [layer(each) for each in several], atol=1e-12)


@only_on_tensorflow
@pytest.mark.graph
@pytest.mark.parametrize("name", ["NTM", pytest.param("MANN", marks=pytest.mark.slow)])
def test_vectorized_map_over_masks(name, random):
    layer = Make(name)(dtype="float64", unroll=True)
    several = tf.constant(random.normal(size=[2, 2, 3, WIDTH]))
    masks = tf.constant([SOME_STEPS, SOME_STEPS[::-1]])
    found = tf.vectorized_map(lambda both: layer(both[0], mask=both[1]), (several, masks))
    expected = [layer(each, mask=mask) for each, mask in zip(several, masks)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


# Training


KEEPS_DROPOUT_MASKS = "it keeps its masks; use `NTM`"
FAILS_WITH_DROPOUT = f"it fails, or {KEEPS_DROPOUT_MASKS}"


@feature("`training` reaches a controller with dropout; a mask for every sequence")
@costly
@pytest.mark.parametrize("is_nested", [False, True])
def test_dropout(make, inputs, is_nested, request):
    fails_on_jax_for_a_cell(make, request, FAILS_WITH_DROPOUT)
    controller = keras.layers.LSTMCell(6, dropout=0.5)
    if is_nested:
        controller = NTMCell(6, 5, 3, 1, 1, output_dim=6, controller=controller)
    layer = built(make({"controller": controller}))
    assert_equal(layer(inputs), by_hand(layer, inputs)[0][:, -1])
    first, second = (layer(inputs, training=True) for _ in range(2))
    assert distance(first, second) > 1e-5
    assert distance(first, layer(inputs)) > 1e-5


FEATURES.append(
    (
        "The same for an `NTMCell` in `keras.layers.RNN`",
        {
            **dict.fromkeys(COLUMNS, f"not where `initial_state` is given: {KEEPS_DROPOUT_MASKS}"),
            "jax": FAILS_WITH_DROPOUT,
        },
    )
)


@pytest.mark.skipif(COLUMN == "jax", reason=FAILS_WITH_DROPOUT)
def test_a_cell_in_an_rnn_layer_keeps_its_dropout_masks_where_a_state_is_given(inputs):
    controller = keras.layers.LSTMCell(6, dropout=0.5)
    layer = built(Make("NTMCell")({"controller": controller}))
    states = layer.cell.get_initial_state(batch_size=BATCH)
    first, second = (layer(inputs, initial_state=states, training=True) for _ in range(2))
    assert_equal(first, second)


def projections(layer):
    """The dense layers of a layer's cell that are not its controller's."""
    cell = layer.cell
    output = [cell.output_projection] if isinstance(cell, NTMCell) else []
    return [cell.parameter_projection, *output]


@feature("Regularizers")
def test_regularizers(make, inputs):
    layer = built(make({"kernel_regularizer": "l2", "bias_regularizer": "l1"}))
    assert len(layer.losses) == 2 * len(projections(layer))
    expected = sum(
        0.01 * np.sum(to_numpy(each.kernel) ** 2) + 0.01 * np.sum(np.abs(to_numpy(each.bias)))
        for each in projections(layer)
    )
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-4)


@feature("Constraints")
@costly
def test_constraints(make, inputs):
    layer = make({"kernel_constraint": "non_neg", "bias_constraint": "non_neg"})
    model = keras.Sequential([keras.Input([None, WIDTH]), layer])
    model.compile(keras.optimizers.SGD(10.0), "mse")
    model.fit(inputs, np.ones([BATCH, layer.cell.output_size]), verbose=0)
    for projection in projections(layer):
        for weight in projection.weights:
            assert np.min(to_numpy(weight)) >= 0


@feature("Initializers")
def test_initializers(make, inputs):
    constant = keras.initializers.Constant(0.25)
    layer = built(make({"kernel_initializer": "ones", "bias_initializer": constant}))
    for projection in projections(layer):
        assert (to_numpy(projection.kernel) == 1).all()
        assert (to_numpy(projection.bias) == 0.25).all()


@feature("`trainable = False`")
def test_freezing(make, inputs):
    layer = make()
    model = keras.Sequential([keras.Input([None, WIDTH]), layer, keras.layers.Dense(1)])
    layer.trainable = False
    assert len(model.trainable_weights) == 2
    model.compile("sgd", "mse")
    before, after = layer.get_weights(), model.layers[-1].get_weights()
    model.fit(inputs, np.ones([BATCH, 1]), verbose=0)
    for weight, value in zip(layer.get_weights(), before):
        np.testing.assert_array_equal(weight, value)
    assert np.abs(model.layers[-1].get_weights()[0] - after[0]).max() > 0


@feature("`trainable` reaches the cell: as an argument, False, and True again")
def test_trainable_reaches_the_cell(make):
    layer = make()
    for value in (False, True):
        layer.trainable = value
        assert layer.cell.trainable == layer.cell.controller.trainable == value
    assert len(built(layer).trainable_weights) == len(layer.get_weights()) > 0
    if isinstance(layer, MemoryLayer):
        frozen = built(make(trainable=False))
        assert not frozen.cell.trainable
        assert frozen.trainable_weights == []


@feature("`activity_regularizer` of the layers")
@pytest.mark.parametrize("name", MACHINES)
def test_activity_regularizers(inputs, name):
    layer = Make(name)(activity_regularizer="l2")
    again = type(layer).from_config(layer.get_config())
    for each in (layer, again):
        each(inputs)
        assert len(each.losses) == 1


# Models as a whole


@feature("No two weights of a model have the same path")
def test_paths_of_weights(make):
    layers = [make(return_sequences=True), make(return_sequences=True)]
    both = keras.layers.Bidirectional(make())
    model = keras.Sequential([keras.Input([None, WIDTH]), *layers, both])
    paths = [weight.name if IS_KERAS_2 else weight.path for weight in model.weights]
    assert len(set(paths)) == len(paths) > 0
    if not IS_KERAS_2:
        model.compile("adam", "mse")
        assert model.get_state_tree()["optimizer_variables"]


def test_a_cell_can_be_the_controller_of_another_without_sharing_paths(make, inputs):
    inner = NTMCell(6, memory_size=5, memory_vector_dim=3, read_head_num=1, write_head_num=1)
    with pytest.raises(ValueError, match="output_dim"):
        make({"controller": inner})
    inner = NTMCell(6, 5, 3, 1, 1, output_dim=6)
    layer = make({"controller": inner})
    assert np.isfinite(to_numpy(layer(inputs))).all()
    paths = [weight.name if IS_KERAS_2 else weight.path for weight in layer.weights]
    assert len(set(paths)) == len(paths)


@feature("`clone_model`")
def test_clone_model(make, inputs):
    model = keras.Sequential([keras.Input([None, WIDTH]), make(make.others)])
    clone = keras.models.clone_model(model)
    assert clone.layers[-1].cell.get_config().items() >= make.others.items()
    clone.set_weights(model.get_weights())
    assert_equal(clone(inputs), model(inputs))


@feature("`get_weights` and `set_weights`")
def test_weights(make, inputs):
    layer, other = built(make()), built(make())
    other.set_weights(layer.get_weights())
    assert_equal(other(inputs), layer(inputs))


@feature("`summary`")
def test_summary(make):
    model = keras.Sequential([keras.Input([None, WIDTH]), make()])
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert f"{model.count_params():,}" in "\n".join(lines)


@feature("`plot_model`, where pydot and graphviz are installed")
def test_plot_model(make, tmp_path):
    if not importlib.util.find_spec("pydot") or not shutil.which("dot"):
        pytest.skip("pydot and graphviz are not installed")
    model = keras.Sequential([keras.Input([None, WIDTH]), make()])
    keras.utils.plot_model(model, str(tmp_path / "model.png"), show_shapes=True)
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


# Saving


def run_python(program, folder, **environment):
    """Runs a program in a folder, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, check=True, capture_output=True
    )


def assert_saved_and_loaded(make, options, inputs, folder):
    model = keras.Sequential([keras.Input([None, WIDTH]), make(options)])
    path = str(folder / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path, safe_mode=True)
    assert_the_same(loaded(inputs), model(inputs))


@feature("`.keras` files, with `safe_mode`")
@costly
def test_saved_models(make, inputs, tmp_path):
    assert_saved_and_loaded(make, {}, inputs, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"controller": "feedforward", "controller_layers": 2},
        {"controller": "lstm", "controller_layers": 2},
        {"controller": "counting_lstm"},
        {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.1)},
        {"controller": keras.layers.serialize(keras.layers.GRUCell(6))},
    ],
    ids=["feedforward", "stacked", "counting", "initializer", "cell"],
)
@each_layer
def test_layers_are_saved_with_their_cell_s_options(inputs, tmp_path, name, options):
    assert_saved_and_loaded(Make(name), options, inputs, tmp_path)


@feature("`.h5` files: two layers in a nested model, `Bidirectional` (Keras 2: `custom_objects`)")
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@costly
def test_h5_models(make, inputs, tmp_path):
    def layer():
        return make(return_sequences=True)

    nested = keras.Sequential([keras.Input([None, WIDTH]), layer(), layer()])
    both = keras.layers.Bidirectional(layer())
    model = keras.Sequential([keras.Input([None, WIDTH]), nested, both])
    path = str(tmp_path / "model.h5")
    model.save(path)
    classes = {each.__name__: each for each in (NTM, NTMCell, MANN, MANNCell)}
    loaded = keras.models.load_model(path, custom_objects=classes, compile=False)
    assert_the_same(loaded(inputs), model(inputs))


@feature("`.weights.h5` files")
def test_saved_weights(make, inputs, tmp_path):
    first, second = (
        keras.Sequential([keras.Input([None, WIDTH]), make(make.others)]) for _ in range(2)
    )
    path = str(tmp_path / "model.weights.h5")
    first.save_weights(path)
    second.load_weights(path)
    assert_the_same(second(inputs), first(inputs))


@feature("`.weights.h5` files that the other Keras wrote, of whole models")
def test_weights_of_the_other_keras(inputs, tmp_path):
    if not importlib.util.find_spec("tf_keras"):
        pytest.skip("tf_keras is not installed")
    np.save(tmp_path / "inputs.npy", inputs)
    program = """
        import numpy as np
        from test_contract import ALL, WIDTH, Make, keras
        for name in ALL:
            make = Make(name)
            model = keras.Sequential([keras.Input([None, WIDTH]), make(make.others)])
            model.save_weights(f"{name}.weights.h5")
            np.save(f"{name}.npy", model(np.load("inputs.npy")))
    """
    other = {
        "KERAS_BACKEND": "tensorflow",
        "TF_USE_LEGACY_KERAS": "0" if IS_KERAS_2 else "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    run_python(program, tmp_path, **other)
    for name in ALL:
        make = Make(name)
        model = keras.Sequential([keras.Input([None, WIDTH]), make(make.others)])
        model.load_weights(str(tmp_path / f"{name}.weights.h5"))
        assert_equal(model(inputs), np.load(tmp_path / f"{name}.npy"))


@feature("`get_config` and `from_config`, with a controller cell of one's own in it")
def test_config(make, inputs):
    layer = make({"controller": keras.layers.LSTMCell(6), **make.others})
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    built(again).set_weights(built(layer).get_weights())
    assert_equal(again(inputs), layer(inputs))


def assert_exported_and_loaded(name, inputs, folder):
    layer = Make(name)(return_sequences=True)
    model = keras.Sequential([keras.Input([None, WIDTH]), layer])
    model.export(str(folder / "model"))
    np.save(folder / "inputs.npy", inputs)
    program = """
        import sys
        import numpy as np
        import tensorflow as tf
        exported = tf.saved_model.load("model")
        np.save("outputs.npy", exported.serve(np.load("inputs.npy")))
        assert not any(name.startswith("ntm_keras") for name in sys.modules)
    """
    run_python(program, folder)
    assert_equal(np.load(folder / "outputs.npy"), model(inputs))


NO_SAVED_MODEL = "PyTorch makes no SavedModel"


@pytest.mark.graph
@feature(
    "`model.export` of `NTM`, and `tf.saved_model.load` where `ntm_keras` is not known",
    torch=NO_SAVED_MODEL,
)
@pytest.mark.parametrize("name", rows("NTM")[:2])
def test_export(inputs, tmp_path, name):
    assert_exported_and_loaded(name, inputs, tmp_path)


@pytest.mark.graph
@feature(
    "The same of `MANN`", jax="TensorFlow 2.21 cannot read JAX 0.10's `top_k`", torch=NO_SAVED_MODEL
)
@pytest.mark.parametrize("name", rows()[2:])
def test_export_of_a_mann(inputs, tmp_path, name):
    assert_exported_and_loaded(name, inputs, tmp_path)


# Precision and devices


@feature("`float64`", **SINGLE)
def test_double_precision(make, inputs):
    double, single = (built(make(dtype=dtype)) for dtype in ("float64", "float32"))
    double.set_weights(single.get_weights())
    outputs = double(inputs)
    assert dtype_name(outputs.dtype) == "float64"
    assert_equal(outputs, single(inputs))


@feature("`mixed_float16` and `mixed_bfloat16`: states and outputs in half precision")
@pytest.mark.parametrize(
    "policy, controller", [("mixed_bfloat16", "lstm"), ("mixed_float16", "counting_lstm")]
)
@costly
def test_mixed_precision(make, inputs, policy, controller):
    cell = {"controller": controller}
    half = make(cell, policy, return_state=True)
    single = built(make(cell, return_state=True))
    built(half).set_weights(single.get_weights())
    (output, *states), (expected, *expected_states) = half(inputs), single(inputs)
    assert {dtype_name(each.dtype) for each in (output, *states)} == {half.compute_dtype}
    assert half.compute_dtype != half.variable_dtype
    assert distance(ops.cast(output, "float32"), expected) < 0.1
    # A MANN may find another one of its locations least used: what stands in them changes places.
    for found, expected in zip(states, expected_states):
        found, expected = (
            np.sort(to_numpy(ops.cast(each, "float32"))) for each in (found, expected)
        )
        assert distance(found, expected) < 0.1


def cells_of_single_precision():
    """Cells for a controller, made under the default policy."""
    layers = keras.layers
    return {
        "gru": layers.GRUCell(6),
        "stacked": layers.StackedRNNCells([layers.GRUCell(5), layers.LSTMCell(6)]),
    }


@feature("A controller cell of another dtype policy")
@pytest.mark.parametrize(
    "policy, controller",
    [("mixed_float16", "gru"), pytest.param("float64", "stacked", marks=double_precision)],
)
@costly
def test_controllers_of_another_dtype(make, inputs, policy, controller):
    layer = make({"controller": cells_of_single_precision()[controller]}, policy, return_state=True)
    single = make({"controller": cells_of_single_precision()[controller]}, return_state=True)
    built(layer).set_weights(built(single).get_weights())
    results = layer(inputs)
    assert {dtype_name(each.dtype) for each in results} == {layer.compute_dtype}
    assert distance(ops.cast(results[0], "float32"), single(inputs)[0]) < 0.1


@feature("`dtype_policy` set after the layer was made", keras_2="Keras 2 has no such setter")
@pytest.mark.parametrize("is_built", [False, True])
@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("float64", marks=double_precision)]
)
def test_setting_a_dtype_policy(make, inputs, is_built, policy):
    layer = make()
    expected = built(layer)(inputs) if is_built else None
    layer.dtype_policy = policy
    found = layer(inputs)
    assert dtype_name(found.dtype) == layer.compute_dtype != "float32"
    if is_built:
        accuracy = 1e-5 if policy == "float64" else 0.1
        assert distance(ops.cast(found, "float32"), expected) < accuracy


NONE = "Keras 2 has none"


@keras.utils.register_keras_serializable()
class WithDense(keras.layers.SimpleRNNCell):
    """A cell with a layer inside, which Keras would quantize."""

    def build(self, input_shape):
        self.dense = keras.layers.Dense(input_shape[-1])
        self.dense.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, states, training=False):
        return super().call(self.dense(inputs), states, training=training)


@feature("`model.quantize`, which leaves a cell as it is, an LSTM's too", keras_2=NONE)
@pytest.mark.parametrize("controller", ["lstm", "feedforward", "given"])
@costly
def test_quantization_leaves_the_cell(make, inputs, tmp_path, controller):
    cell = WithDense(6) if controller == "given" else controller
    layer = make({"controller": cell}, return_sequences=True)
    model = keras.Sequential([keras.Input([None, WIDTH]), layer, keras.layers.Dense(64)])
    in_layer, before = layer(inputs), model(inputs)
    with pytest.warns(UserWarning, match="'parameter_projection' is a part of a cell"):
        model.quantize("int8")
    assert_the_same(layer(inputs), in_layer)
    found = model.predict(inputs, verbose=0)
    assert 0 < distance(found, before) < 0.1
    path = str(tmp_path / "model.keras")
    model.save(path)
    assert_equal(keras.models.load_model(path).predict(inputs, verbose=0), found)


@feature("`enable_lora` of a cell's projections", keras_2=NONE)
@costly
def test_lora(make, inputs):
    layer = make(return_sequences=True)
    model = keras.Sequential([keras.Input([None, WIDTH]), layer])
    before = model(inputs)
    layer.cell.parameter_projection.enable_lora(2)
    model.compile("sgd", "mse")
    model.fit(inputs, np.ones(before.shape), verbose=0)
    found = model.predict(inputs, verbose=0)
    assert_equal(found, by_hand(layer, inputs)[0])
    assert distance(found, before) > 0


@pytest.mark.graph
@feature("The same numbers with and without `jit_compile=True`")
@costly
def test_xla(make, inputs):
    model = keras.Sequential([keras.Input([None, WIDTH]), make()])
    found = []
    for jit_compile in (False, True):
        model.compile("sgd", "mse", jit_compile=jit_compile)
        found.append(model.predict(inputs, verbose=0))
    assert_equal(*found)


@pytest.mark.graph
@feature(
    "No operation without a GPU kernel, in training, and no device named",
    **of_tensorflow("not tested: it says which operations it has only when they run"),
)
@costly
def test_gpu_kernels(make):
    layer = built(make(return_sequences=True))

    @tf.function(input_signature=[tf.TensorSpec([None, None, WIDTH], tf.float32)])
    def gradients(sequences):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(sequences, training=True))
        return tape.gradient(loss, layer.trainable_weights)

    def runs_on_a_gpu(operation):
        found = kernels.get_registered_kernels_for_op(operation).kernel
        return bool({"GPU", "DEFAULT"} & {kernel.device_type for kernel in found})

    if not runs_on_a_gpu("MatMul"):
        pytest.skip("this TensorFlow was built without GPU kernels")
    graph = gradients.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for body in graph.library.function for node in body.node_def)]
    assert {node.op for node in nodes} >= {"MatMul", "BatchMatMulV2"}
    assert [node.op for node in nodes if not runs_on_a_gpu(node.op)] == []
    assert {node.device for node in nodes} == {""}


# The page


def line(cells):
    return f"| {' | '.join(cells)} |\n"


def page():
    rows = [
        line([title, *(reasons.get(column, "passes") for column in COLUMNS)])
        for title, reasons in FEATURES
    ]
    return f"""# What Keras asks of a recurrent cell

`NTMCell` and `MANNCell` in `keras.layers.RNN`, and the layers `NTM` and `MANN`, under Keras 3 on
each of its backends, and under Keras 2. Every row is a test in `tests/test_contract.py`; what takes
long is marked slow. Where a row does not say "passes", it says why: mostly Keras itself does not
offer it. Except in the first column the tests are made with `NTM`, where a row names no other, and
with `-m slow` most of them with all four.

{line(["", *COLUMNS.values()])}{line(["---"] * (len(COLUMNS) + 1))}{"".join(rows)}"""


def test_the_page_is_made_of_these_tests():
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/test_contract.py writes it"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
