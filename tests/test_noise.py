import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import NTM, NoisyModel, NTMCell
from ntm_keras.keras_compat import IS_KERAS_2, IS_TENSORFLOW, keras, steps_seen_by, to_numpy

INPUTS, TARGETS = np.ones([4, 3], "float32"), np.zeros([4, 2], "float32")


def noisy_model(learning_rate=0.0, xla=False, **options):
    """A linear model with noise, and the layer in it."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(2)
    inputs = keras.Input([3])
    model = NoisyModel(inputs, layer(inputs), **{"stddev": 0.5, **options})
    model.compile(keras.optimizers.SGD(learning_rate), "mse", jit_compile=xla)
    return model, layer


def losses(model, steps):
    """The loss of each training step."""
    return model.fit(INPUTS, TARGETS, epochs=steps, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize("xla", [False, True])
def test_every_training_step_sees_other_weights(xla):
    model, _ = noisy_model(xla=xla)
    assert len(set(losses(model, 5))) == 5


def test_outside_training_there_is_no_noise():
    model, layer = noisy_model()
    losses(model, 2)
    np.testing.assert_array_equal(model(INPUTS), layer(INPUTS))
    assert model.evaluate(INPUTS, TARGETS, verbose=0) == pytest.approx(
        float(tf.reduce_mean(layer(INPUTS) ** 2))
    )


@pytest.mark.parametrize("xla", [False, True])
def test_the_weights_themselves_carry_no_noise(xla):
    model, layer = noisy_model(xla=xla)
    before = layer.get_weights()
    losses(model, 3)
    for expected, found in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(found, expected)


def test_the_gradient_is_that_of_the_noisy_weights():
    model, layer = noisy_model(learning_rate=1.0)
    kernel, bias = layer.get_weights()
    model.optimizer.build(model.trainable_variables)
    noises = model._noise([layer.kernel, layer.bias], 0)
    kernel_noise, bias_noise = map(to_numpy, noises)
    losses(model, 1)
    outputs = INPUTS @ (kernel + kernel_noise) + bias + bias_noise
    # The loss is the mean over 4 x 2 squares.
    np.testing.assert_allclose(
        layer.get_weights()[0], kernel - INPUTS.T @ (2 * outputs / 8), atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.skipif(not IS_TENSORFLOW, reason="it takes TensorFlow's gradients")
@pytest.mark.parametrize(
    "make, xla",
    # Under Keras 2 both run in the same loop.
    [(NTM, True), (lambda *a: keras.layers.RNN(NTMCell(*a)), False)][: 1 if IS_KERAS_2 else 2],
)
def test_the_gradient_through_time_is_that_of_the_noisy_weights(make, xla):
    keras.utils.set_random_seed(0)
    inputs = keras.Input([None, 3])
    model = NoisyModel(inputs, make(5, 6, 4, 1, 1)(inputs), stddev=0.1)
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=xla)
    model.optimizer.build(model.trainable_variables)
    sequences, targets = tf.ones([2, 4, 3]), tf.zeros([2, 3])
    weights = model.trainable_variables
    before = [weight.numpy() for weight in weights]
    # XLA draws others, unless the step is a constant.
    step = steps_seen_by(model.optimizer)
    noises = tf.function(lambda: model._noise(weights, step), jit_compile=xla)()
    for weight, noise in zip(weights, noises):
        weight.assign_add(noise)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(sequences) - targets) ** 2)
    gradients = tape.gradient(loss, weights)
    for weight, value in zip(weights, before):
        weight.assign(value)
    model.fit(sequences, targets, verbose=0)
    for weight, value, gradient in zip(weights, before, gradients):
        np.testing.assert_allclose(weight, value - tf.convert_to_tensor(gradient), atol=1e-5)


@pytest.mark.skipif(not IS_TENSORFLOW, reason="on JAX only fit is noisy")
def test_a_model_that_is_not_compiled_cannot_be_trained_with_noise():
    inputs = keras.Input([3])
    model = NoisyModel(inputs, keras.layers.Dense(2)(inputs), stddev=0.5)
    with pytest.raises(ValueError, match="must be compiled"):
        model(INPUTS, training=True)


def test_mixed_precision_is_refused():
    inputs = keras.Input([3])
    outputs = keras.layers.Dense(2)(inputs)
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match="mixed precision"):
            NoisyModel(inputs, outputs, stddev=0.5)
    finally:
        keras.mixed_precision.set_global_policy(policy)


def test_the_noise_follows_a_schedule():
    falling = keras.optimizers.schedules.PolynomialDecay(0.5, 4, 0.1)
    model, _ = noisy_model(stddev=falling)
    deviations = []
    for step in range(6):
        (noise,) = model._noise([tf.zeros([100, 100])], step)
        deviations.append(np.std(to_numpy(noise)))
    np.testing.assert_allclose(deviations, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1], rtol=0.05)


def test_the_noise_is_a_function_of_seed_and_step():
    again = losses(noisy_model(seed=1)[0], 3)
    assert losses(noisy_model(seed=1)[0], 3) == again
    assert losses(noisy_model(seed=2)[0], 3) != again


def test_what_it_saves_is_the_model_without_noise(tmp_path):
    inputs, layer = {"x": keras.Input([3], name="x")}, keras.layers.Dense(2)
    model = NoisyModel(inputs, {"y": layer(inputs["x"])}, stddev=0.5, name="named")
    model.save(str(tmp_path / "model.keras"))
    loaded = keras.models.load_model(str(tmp_path / "model.keras"))
    assert loaded.name == "named"
    found = loaded({"x": tf.constant(INPUTS)}, training=True)
    np.testing.assert_array_equal(found["y"], layer(INPUTS))


def test_a_model_with_nothing_to_train_has_no_noise():
    model, layer = noisy_model()
    layer.trainable = False
    np.testing.assert_array_equal(model(INPUTS, training=True), layer(INPUTS))


@pytest.mark.parametrize("seed", [1.5, "a", -1])
def test_a_seed_that_cannot_be_is_refused(seed):
    with pytest.raises(ValueError, match=f"Received: seed={seed!r}"):
        noisy_model(seed=seed)


@pytest.mark.parametrize("stddev", [-1.0, float("nan"), float("inf"), "a", None])
def test_a_deviation_that_cannot_be_is_refused(stddev):
    with pytest.raises(ValueError, match=f"Received: stddev={stddev!r}"):
        noisy_model(stddev=stddev)
