"""`with_memory_size`: a trained machine with another number of locations."""

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import MANN, NTM, MemoryLayer, NTMCell, SideBySide, with_memory_size
from ntm_keras.keras_compat import IS_KERAS_2, keras

pytestmark = pytest.mark.eager
SIZES = {"rnn_size": 6, "memory_size": 8, "memory_vector_dim": 4}
ARGUMENTS = {**SIZES, "read_head_num": 1, "write_head_num": 2, "memory_initializer": "constant"}


def layers():
    return {
        "NTM": NTM(**ARGUMENTS, return_sequences=True),
        "MANN": MANN(**SIZES, head_num=2, return_sequences=True),
        "MemoryLayer": MemoryLayer(NTMCell(**ARGUMENTS), return_sequences=True),
        "RNN": keras.layers.RNN(NTMCell(**ARGUMENTS), return_sequences=True),
        "Bidirectional": keras.layers.Bidirectional(NTM(**ARGUMENTS, return_sequences=True)),
        "Sequential": keras.Sequential([keras.Input([None, 3]), NTM(**ARGUMENTS)]),
    }


def sequences(random, time=5):
    return random.normal(size=(2, time, 3)).astype("float32")


def with_other_weights(layer, random):
    for weight in layer.trainable_weights:
        weight.assign(weight + 0.3 * random.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize("name", layers())
def test_with_the_old_size_it_is_the_same(random, name):
    layer, inputs = layers()[name], sequences(random)
    layer(inputs)
    with_other_weights(layer, random)
    same = with_memory_size(layer, 8)
    assert type(same) is type(layer) and same is not layer
    np.testing.assert_array_equal(same(inputs), layer(inputs))


@pytest.mark.parametrize("name", ["NTM", "MANN", "RNN"])
def test_a_larger_machine_can_be_made_smaller_again(random, name):
    layer, inputs = layers()[name], sequences(random)
    layer(inputs)
    larger = with_memory_size(with_other_weights(layer, random), 20)
    assert not np.array_equal(larger(inputs), layer(inputs))
    np.testing.assert_array_equal(with_memory_size(larger, 8)(inputs), layer(inputs))


def test_heads_begin_where_they_began(random):
    layer = with_other_weights(NTM(**ARGUMENTS, return_sequences=True), random)
    layer(sequences(random))
    larger = with_memory_size(layer, 5000)
    before, after = (
        each.cell.unpack_state(each.cell.get_initial_state(batch_size=1))
        for each in (layer, larger)
    )
    np.testing.assert_array_equal(after.weightings[:, :, :8], before.weightings)
    assert np.max(after.weightings[:, :, 8:]) < 1e-9
    np.testing.assert_array_equal(after.memory, np.full([1, 5000, 4], 1e-6, "float32"))


@pytest.mark.parametrize("initializer", ["random", keras.initializers.RandomNormal(stddev=0.2)])
def test_old_locations_keep_their_random_numbers_and_new_ones_are_of_the_same_kind(initializer):
    layer = NTM(**{**ARGUMENTS, "memory_initializer": initializer})
    layer.build((None, None, 3))
    first, second = (np.array(with_memory_size(layer, 2000).cell.initial.memory) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    old = np.array(layer.cell.initial.memory)
    np.testing.assert_array_equal(first[:8], old)
    expected = 0.2 if initializer != "random" else (12**-0.5) / 3**0.5
    np.testing.assert_allclose(np.std(first[8:]), expected, rtol=0.05)


def test_a_learned_memory_cannot_have_another_size():
    layer = NTM(**{**ARGUMENTS, "memory_initializer": "learned"})
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match="learned has only as many locations as were trained"):
        with_memory_size(layer, 9)
    np.testing.assert_array_equal(
        with_memory_size(layer, 8).cell.initial.memory, layer.cell.initial.memory
    )


def test_locations_on_which_heads_begin_are_not_dropped(random):
    layer = NTM(**ARGUMENTS)
    layer.build((None, None, 3))
    logits = np.zeros([3, 8], "float32")
    logits[1, 6] = 5.0
    layer.cell.initial.weightings.assign(logits)
    with pytest.raises(ValueError, match=r"0\.\d+ of an initial weighting .*memory_size=6"):
        with_memory_size(layer, 6)
    logits = np.zeros([3, 8], "float32")
    logits[:, 2] = 20.0
    layer.cell.initial.weightings.assign(logits)
    assert with_memory_size(layer, 6).memory_size == 6


def test_a_weight_without_a_rule_is_named():
    @keras.utils.register_keras_serializable("tests")
    class BiasedCell(NTMCell):
        def build(self, input_shape):
            super().build(input_shape)
            self.bias = self.add_weight(name="of_locations", shape=[self.memory_size])

    layer = MemoryLayer(BiasedCell(**ARGUMENTS))
    layer(tf.zeros([1, 2, 3]))
    with pytest.raises(ValueError, match=r"of_locations.* has another shape for another number"):
        with_memory_size(layer, 9)


@pytest.mark.parametrize("wrong", [None, "copy", keras.layers.Dense(3), NTM(**ARGUMENTS)])
def test_what_is_no_built_machine_is_refused(wrong):
    with pytest.raises(ValueError, match="`model_or_layer` must be a built model or layer"):
        with_memory_size(wrong, 9)


@pytest.mark.parametrize("wrong", [0, 9.5, None])
def test_a_size_that_is_no_number_of_locations_is_refused(wrong):
    with pytest.raises(ValueError, match="`memory_size` must be an integer of at least 1"):
        with_memory_size(NTM(**ARGUMENTS), wrong)


def test_a_stateful_layer_begins_anew(random):
    layer = NTM(**ARGUMENTS, stateful=True)
    inputs = sequences(random)
    first = np.array(layer(inputs))
    layer(inputs)
    np.testing.assert_array_equal(with_memory_size(layer, 8)(inputs), first)


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 runs every layer in its own loop")
def test_it_resizes_what_runs_side_by_side(random):
    layer = SideBySide(NTM(**ARGUMENTS, return_sequences=True), 2)
    inputs = sequences(random)
    layer(inputs)
    np.testing.assert_allclose(with_memory_size(layer, 8)(inputs), layer(inputs), atol=1e-6)
