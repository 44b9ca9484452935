"""What holds on every backend of Keras 3, see CONTRIBUTING.md."""

import pathlib

import little_omniglot
import numpy as np
import pytest
import slow_mann
import slow_ntm
from runs import events, tiny

from ntm_keras import (
    MANN,
    NTM,
    BitCrossentropy,
    MemoryLayer,
    NoisyModel,
    NTMCell,
    WrongBitsPerSequence,
    trace_model,
    with_memory_size,
)
from ntm_keras.callbacks import GuardGradients, SwapAveragedWeights
from ntm_keras.keras_compat import IS_KERAS_2, keras, to_numpy
from ntm_keras.pictures import plot_trace
from tasks.copy import Copy
from tasks.omniglot import Omniglot
from training import BadInput, evaluate, train

if IS_KERAS_2:
    pytest.skip("Keras 2 has one backend", allow_module_level=True)

BACKEND = keras.backend.backend()
# On TensorFlow the tests of each module show the same.
pytestmark = [pytest.mark.slow] if BACKEND == "tensorflow" else []
PRETRAINED = pathlib.Path(__file__).parent.parent / "pretrained"
# A sequence of 20 vectors, and what the machine in pretrained/copy answered on TensorFlow.
SAID = np.load(pathlib.Path(__file__).parent / "copy_answers.npz")
SIZES = {"rnn_size": 6, "memory_size": 8, "memory_vector_dim": 4}
HEADS = {"read_head_num": 2, "write_head_num": 2}
SEQUENCES = {"return_sequences": True}


@keras.utils.register_keras_serializable("tests")
class OwnCell(NTMCell):
    """A cell of a user's, which has no fast loop."""


def make_own(dtype="float32", **options):
    return MemoryLayer(OwnCell(**SIZES, **HEADS, dtype=dtype), dtype=dtype, **SEQUENCES, **options)


MACHINES = {
    "NTM": lambda **options: NTM(**SIZES, **HEADS, **SEQUENCES, **options),
    "MANN": lambda **options: MANN(
        **SIZES, head_num=2, learned_key_strength=True, **SEQUENCES, **options
    ),
    "own": make_own,
}


@pytest.fixture(params=MACHINES)
def make(request):
    return MACHINES[request.param]


@pytest.fixture
def inputs(random):
    return random.normal(size=[3, 5, 4]).astype("float32")


def model_of(layer, is_masked=False):
    sequences = keras.Input([None, 4])
    before = keras.layers.Masking()(sequences) if is_masked else sequences
    return keras.Model(sequences, keras.layers.Dense(2)(layer(before)))


def loss_and_gradients(layer, inputs, mask):
    """Two functions of values of a layer's trained weights: a sum of squares, and its gradients."""
    weights = layer.trainable_variables
    if BACKEND == "jax":
        import jax

        others = [weight.value for weight in layer.non_trainable_variables]

        def loss(values):
            outputs, _ = layer.stateless_call(values, others, inputs, mask=mask)
            return keras.ops.sum(outputs**2)

        # The inner jit: a gradient of one's own must not hold on to what belongs to a jit.
        return jax.jit(loss), jax.jit(jax.grad(jax.jit(loss)))

    def loss(values):
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)
        return keras.ops.sum(layer(inputs, mask=mask) ** 2)

    def gradients(values):
        if BACKEND == "torch":
            loss(values).backward()
            return [weight.value.grad for weight in weights]
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(values)
        return tape.gradient(value, [weight.value for weight in weights])

    return loss, gradients


@pytest.mark.parametrize("is_masked", [False, True])
def test_gradients_equal_finite_differences(make, inputs, random, is_masked):
    # Keras computes in single precision on other backends.
    dtype, distance, tolerance = (
        ("float64", 1e-6, 1e-5) if BACKEND == "tensorflow" else ("float32", 1e-3, 2e-2)
    )
    layer, inputs = make(dtype=dtype), keras.ops.convert_to_tensor(inputs, dtype)
    layer.build(inputs.shape)
    mask = np.array([[True] * 5, [True, False, True, False, False], [False] * 5])
    mask = keras.ops.convert_to_tensor(mask) if is_masked else None
    loss, gradients = loss_and_gradients(layer, inputs, mask)
    starts = [to_numpy(weight).copy() for weight in layer.trainable_variables]
    towards = [random.normal(size=start.shape).astype(dtype) for start in starts]
    towards = [each / np.linalg.norm(each) for each in towards]
    ends = [
        float(to_numpy(loss([start + step * each for start, each in zip(starts, towards)])))
        for step in (distance, -distance)
    ]
    along = sum(
        np.sum(to_numpy(gradient) * each)
        for gradient, each in zip(gradients(starts), towards, strict=True)
        if gradient is not None
    )
    numeric = (ends[0] - ends[1]) / (2 * distance)
    np.testing.assert_allclose(along, numeric, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("is_masked", [True] if BACKEND == "tensorflow" else [False, True])
def test_training_lowers_the_loss(make, inputs, random, is_masked):
    model = model_of(make(), is_masked)
    inputs[1, 3:] = 0
    model.compile(
        keras.optimizers.Adam(1e-2), BitCrossentropy(), weighted_metrics=[WrongBitsPerSequence()]
    )
    targets, mask = random.integers(0, 2, size=[3, 5, 2]).astype("float32"), np.ones([3, 5])
    losses = model.fit(
        inputs, targets, sample_weight=mask, batch_size=3, epochs=30, verbose=0
    ).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_a_saved_model_gives_the_same(make, inputs, tmp_path):
    model = model_of(make())
    expected = to_numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(loaded(inputs)), expected, atol=1e-6)


@pytest.mark.parametrize("machine, slow", [("NTM", slow_ntm), ("MANN", slow_mann)])
def test_it_computes_what_a_slow_version_does(machine, slow, inputs):
    layer = MACHINES[machine]()
    for sequence, outputs in zip(inputs, to_numpy(layer(inputs)), strict=True):
        np.testing.assert_allclose(outputs, slow.run(layer.cell, sequence)[0], atol=1e-5)


def test_a_layer_that_goes_backwards_does_so_among_masked_steps_too(make, inputs):
    layer = make(go_backwards=True)
    mask = np.array([[True, True, True, False, False]] * 3)
    masked = to_numpy(layer(inputs, mask=keras.ops.convert_to_tensor(mask)))
    alone = to_numpy(layer(inputs[:, :3]))
    np.testing.assert_allclose(masked[:, 2:], alone, atol=1e-6)


def test_ntm_and_mann_have_a_fast_loop_where_keras_runs_on_tensorflow_or_jax():
    loops = [MACHINES[name]().has_fast_loop for name in ("NTM", "MANN", "own")]
    assert loops == [BACKEND != "torch", BACKEND != "torch", False]


def test_masked_outputs_may_be_zeros(make, inputs):
    layer = make(zero_output_for_mask=True)
    mask = np.array([[True, False, True, True, False]] * 3)
    masked = to_numpy(layer(inputs, mask=keras.ops.convert_to_tensor(mask)))
    whole = to_numpy(layer(inputs[:, [0, 2, 3]]))
    np.testing.assert_allclose(masked[:, [0, 2, 3]], whole, atol=1e-6)
    assert not np.any(masked[:, [1, 4]])


def test_masked_steps_change_nothing(make, inputs):
    layer = make()
    whole = to_numpy(layer(inputs[:, :3]))
    mask = keras.ops.convert_to_tensor([[True, True, True, False, False]] * 3)
    masked = to_numpy(layer(inputs, mask=mask))
    np.testing.assert_allclose(masked[:, :3], whole, atol=1e-6)
    np.testing.assert_allclose(masked[:, 3:], np.repeat(whole[:, -1:], 2, axis=1), atol=1e-6)


def test_a_trace_gives_the_layer_s_outputs_and_can_be_drawn(make, inputs):
    layer = make(name="machine")
    outputs, traces = trace_model(keras.Sequential([keras.Input([None, 4]), layer]), inputs)
    found = traces["machine"]
    np.testing.assert_allclose(to_numpy(found.outputs), to_numpy(outputs), atol=1e-6)
    assert len(plot_trace(found, inputs).axes) > 3


def test_gradients_that_overflow_are_left_out(inputs):
    model = keras.Sequential([keras.Input([5, 4]), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [to_numpy(weight).copy() for weight in model.weights]
    targets = np.full([3, 5, 2], 1e30, "float32")
    guard = GuardGradients()
    history = model.fit(inputs, targets, epochs=2, verbose=0, callbacks=[guard]).history
    assert history["gradients_left_out"] == [1, 2]
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)
    history = model.fit(inputs, 0 * targets, verbose=0, callbacks=[guard]).history
    assert history["gradients_left_out"] == [2] and 0 < history["gradient_norm"][0] < 1e3


def test_steps_that_a_layer_masks_count_neither_in_losses_nor_in_measures(inputs):
    model = keras.Sequential(
        [keras.Input([5, 4]), keras.layers.Masking(), NTM(**SIZES, **HEADS, **SEQUENCES)]
    )
    model.compile(loss=BitCrossentropy(), weighted_metrics=[WrongBitsPerSequence()])
    mask = np.ones([3, 5], "float32")
    mask[0, 2:] = 0
    inputs = inputs * mask[:, :, None]
    targets = np.ones([3, 5, 4], "float32")
    found = model.evaluate(inputs, targets, verbose=0, return_dict=True)
    logits = to_numpy(model(inputs))
    loss = to_numpy(BitCrossentropy()(targets, logits, mask))
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)
    wrong = (mask[:, :, None] * (logits <= 0)).sum(axis=(1, 2)).mean()
    assert found["wrong_bits_per_sequence"] == pytest.approx(wrong)


def test_validations_see_averaged_weights(inputs):
    model = keras.Sequential([keras.Input([5, 4]), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
    data = inputs, np.zeros([3, 5, 2])
    for _ in range(2):
        history = model.fit(
            *data,
            batch_size=3,
            epochs=2,
            verbose=0,
            validation_data=data,
            callbacks=[SwapAveragedWeights()],
        ).history
        # After training the model keeps the averages.
        assert model.evaluate(*data, verbose=0) == pytest.approx(history["val_loss"][-1], rel=1e-5)


@pytest.mark.skipif(BACKEND != "jax", reason="test_run.py says more of TensorFlow")
def test_a_run_trains_and_is_measured(tmp_path):
    settings = tiny(ema_momentum=0.9, memory_initializer="constant", training_memory_size=5)
    result = train(settings, tmp_path)
    (record,) = evaluate(settings, tmp_path)
    assert result["steps"] == 5 and record["sequences"] == 8
    tags = {tag for tag, *_ in events(tmp_path / "train")}
    assert tags >= {"ntm", "learning/loss", "training/gradient_norm", "training/learning_rate"}
    assert {tag for tag, *_ in events(tmp_path / "eval" / "size_2")} >= {"ntm_at_sizes"}


def test_an_episode_of_omniglot_is_told(tmp_path):
    task = Omniglot(omniglot=str(little_omniglot.write(tmp_path)))
    inputs, targets, mask = next(iter(task.evaluation(2, 1, 1, 0)))
    said = task.as_text(inputs, targets, np.array(targets), mask)
    assert "step  instance  label  answer" in said and "wrong" not in said


@pytest.mark.skipif(BACKEND != "jax", reason="test_run.py says the same of TensorFlow")
def test_a_loss_that_is_not_finite_ends_the_run_with_a_message(tmp_path):
    with pytest.raises(BadInput, match="loss became nan .* not finite.* --learning_rate"):
        train(tiny(learning_rate=1e38), tmp_path)


@pytest.mark.skipif(BACKEND != "torch", reason="TensorFlow and JAX can do both")
def test_what_a_backend_cannot_do_is_refused_in_one_line(tmp_path):
    with pytest.raises(BadInput, match="needs Keras on TensorFlow or JAX"):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    inputs = keras.Input([3])
    with pytest.raises(ValueError, match="TensorFlow and JAX only. Received: backend='torch'"):
        NoisyModel(inputs, keras.layers.Dense(2)(inputs), stddev=0.5)


@pytest.fixture(scope="module")
def copier():
    return keras.models.load_model(PRETRAINED / "copy" / "model.keras", compile=False)


def wrong_bits(model, size):
    inputs, targets, mask = (
        np.array(each) for each in next(iter(Copy().evaluation(size, 8, 8, 0)))
    )
    wrong = WrongBitsPerSequence()
    wrong.update_state(targets, model(inputs), mask)
    return float(to_numpy(wrong.result()))


def test_a_machine_that_was_trained_on_tensorflow_copies(copier):
    assert wrong_bits(copier, 20) == 0


def test_its_answers_are_those_that_it_gave_on_tensorflow(copier):
    answers = keras.ops.sigmoid(copier(SAID["inputs"]))
    np.testing.assert_allclose(to_numpy(answers), SAID["answers"], atol=1e-5)


def test_it_copies_more_vectors_with_more_locations(copier):
    assert wrong_bits(copier, 150) > 100
    assert wrong_bits(with_memory_size(copier, 160), 150) == 0
