"""Parts of a batch computed side by side: the layer's own numbers and gradients."""

import numpy as np
import pytest
import tensorflow as tf
from test_loop import MASK, results_and_gradients
from test_ntm import SIZES, sequences

from ntm_keras import NTM, MemoryLayer, NoisyModel, NTMCell, SideBySide
from ntm_keras.keras_compat import IS_KERAS_2, keras
from ntm_keras.tracing import trace_model

keras_3 = pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 runs every layer in its own loop")


class OwnCell(NTMCell):
    """A cell of a user's."""


def make_layer(**options):
    return NTM(**SIZES, bias_initializer="random_normal", dtype="float64", **options)


def models_of(layer, **options):
    """A model of the layer, and one that computes its batches in parts."""
    inputs, mask = keras.Input([None, 7], dtype="float64"), keras.Input([None], dtype="bool")
    return [
        keras.Model([inputs, mask], each(inputs, mask=mask))
        for each in (layer, SideBySide(layer, dtype="float64", **options))
    ]


@keras_3
def test_it_gives_what_the_layer_gives(random):
    layer = make_layer(return_sequences=True, return_state=True)
    wrapper = SideBySide(layer, parts=2, dtype="float64")
    inputs = sequences(random).astype("float64")
    assert len(inputs) == 3
    expected = results_and_gradients(layer, inputs, mask=tf.constant(MASK))
    in_a_graph = tf.function(results_and_gradients)
    found = in_a_graph(wrapper, inputs, mask=tf.constant(MASK))
    for own, others in zip(expected, found):
        assert len(own) == len(others)
        for each, other in zip(own, others):
            np.testing.assert_allclose(other, each, rtol=1e-6, atol=1e-9)


@keras_3
def test_a_batch_may_have_any_size_when_it_is_not_known_before(random):
    layer = make_layer(return_sequences=True)
    wrapper = SideBySide(layer, parts=2, dtype="float64")
    call = tf.function(wrapper, input_signature=[tf.TensorSpec([None, None, 7], tf.float64)])
    for batch_size in (1, 3):
        inputs = random.normal(size=[batch_size, 4, 7])
        np.testing.assert_allclose(call(inputs), layer(inputs), rtol=1e-9, atol=1e-12)


@keras_3
def test_its_output_has_the_shape_of_the_layers():
    side_by_side = SideBySide(NTM(6, 8, 4, 1, 1, return_sequences=True))
    assert tuple(side_by_side.compute_output_shape((3, 7, 4))) == (3, 7, 4)


@keras_3
def test_a_model_with_it_is_not_compiled_as_a_whole():
    plain, in_parts = models_of(make_layer())
    plain.compile("sgd", "mse", jit_compile=True)
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        in_parts.compile("sgd", "mse", jit_compile=True)
    assert (plain.jit_compile, in_parts.jit_compile) == (True, False)


@keras_3
@pytest.mark.slow
def test_training_is_the_same_with_noise_on_the_weights_too(random):
    inputs = random.normal(size=[6, 4, 7])
    mask = np.ones([6, 4], bool)
    weights = []
    for index in range(2):
        keras.utils.set_random_seed(0)
        model = models_of(make_layer())[index]
        model = NoisyModel(model.inputs, model.outputs, 0.1)
        model.compile("sgd", "mse", jit_compile=False)
        model.fit([inputs, mask], inputs[:, 0], batch_size=6, epochs=3, verbose=0)
        weights.append(model.get_weights())
    for own, other in zip(*weights):
        np.testing.assert_allclose(other, own, rtol=1e-5, atol=1e-7)


@keras_3
def test_it_is_saved_and_loaded_with_its_layer(random, tmp_path):
    _, model = models_of(make_layer(), parts=3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].parts == 3
    inputs = [random.normal(size=[3, 4, 7]), np.ones([3, 4], bool)]
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), model(inputs), rtol=1e-5)


@keras_3
def test_the_machine_in_it_can_be_traced(random):
    layer = make_layer(return_sequences=True, name="machine")
    expected, in_parts = models_of(layer)
    inputs = [tf.constant(random.normal(size=[3, 4, 7])), tf.ones([3, 4], tf.bool)]
    for trace in (trace_model, tf.function(trace_model)):
        outputs, traces = trace(in_parts, inputs)
        np.testing.assert_allclose(outputs, expected(inputs), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(traces["machine"].outputs, outputs, rtol=1e-6, atol=1e-9)
    assert "call" not in vars(layer) and "call" not in vars(in_parts.layers[-1])


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: keras.layers.LSTM(3), "It is another layer"),
        (lambda: make_layer(stateful=True), "It is stateful"),
        (lambda: make_layer(activity_regularizer="l2"), "It has an activity regularizer"),
        *(
            [(make_layer, "Under Keras 2")]
            if IS_KERAS_2
            else [
                (lambda: make_layer(unroll=True), "It is unrolled"),
                (lambda: make_layer(controller=keras.layers.GRUCell(6)), "no fast loop"),
                (lambda: NTM(**SIZES, dtype="mixed_float16"), "no fast loop"),
                (lambda: MemoryLayer(OwnCell(**SIZES)), "no fast loop"),
            ]
        ),
    ],
)
def test_other_layers_are_refused_with_the_reason(make, told):
    with pytest.raises(ValueError, match=f"`layer` must be an NTM or MANN .* {told}.* Received:"):
        SideBySide(make())


@keras_3
@pytest.mark.parametrize("parts", [0, -1, 2.5, True, "2", None])
def test_wrong_numbers_of_parts_are_refused(parts):
    with pytest.raises(ValueError, match="Argument `parts` must be an integer of at least 1"):
        SideBySide(make_layer(), parts)
