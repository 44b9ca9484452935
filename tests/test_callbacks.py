"""The callbacks of the library, in anybody's `model.fit`."""

import math

import numpy as np
import pytest
import tensorflow as tf
from fits import Recorder, fit, make_model, overflowing, sequences
from runs import events

from ntm_keras import NTM, BitCrossentropy, callbacks, pictures
from ntm_keras.callbacks.events import EventLog
from ntm_keras.keras_compat import IS_KERAS_2, keras

pytestmark = pytest.mark.eager


def make_machine():
    return make_model(NTM(6, 8, 4, 1, 2, return_sequences=True, name="machine"))


def test_the_gradient_norm_of_the_last_step_is_logged():
    model = make_model(learning_rate=1e-9)
    history = fit(model, callbacks.GuardGradients(), epochs=1).history
    *_, (inputs, targets, mask) = sequences()
    with tf.GradientTape() as tape:
        loss = BitCrossentropy()(targets, model(inputs), mask)
    norm = tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables))
    assert history["gradient_norm"] == [pytest.approx(float(norm), rel=1e-3)]


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2's optimizers scale no loss by themselves")
def test_the_gradient_norm_is_that_of_the_loss_before_it_is_scaled():
    norms = []
    for scale in (None, 1024.0):
        keras.utils.set_random_seed(0)
        model = make_model()
        model.compile(keras.optimizers.SGD(0.1, loss_scale_factor=scale), BitCrossentropy())
        norms += fit(model, callbacks.GuardGradients(), epochs=1).history["gradient_norm"]
    assert norms[0] == pytest.approx(norms[1])


def test_the_gradient_norm_is_logged_in_every_fit():
    model = make_model()
    for _ in range(2):
        norm = fit(model, callbacks.GuardGradients()).history["gradient_norm"]
        assert norm[0] != norm[1] and all(value > 0 for value in norm)


@pytest.mark.graph
def test_gradients_are_guarded_from_the_first_fit_on_or_not_at_all():
    model = make_model()
    fit(model)
    with pytest.raises(ValueError, match="training step on. Received: model=.plain., trained"):
        fit(model, callbacks.GuardGradients())
    model.compile("sgd", "mse")
    assert fit(model, callbacks.GuardGradients()).history["gradient_norm"][-1] > 0
    with pytest.raises(ValueError, match="needs a model that is compiled"):
        callbacks.GuardGradients().set_model(keras.Sequential())


@pytest.mark.parametrize("clipping", [{}, {"global_clipnorm": 1.0}, {"clipvalue": 1.0}])
def test_a_gradient_that_overflows_is_left_out(clipping):
    model = make_model()
    before = [np.array(weight) for weight in model.weights]
    model.compile(
        keras.optimizers.SGD(0.1, **clipping),
        lambda targets, logits: tf.reduce_mean(overflowing(logits) ** 2),
    )
    history = fit(model, callbacks.GuardGradients()).history
    assert math.isfinite(history["loss"][0])
    assert history["gradients_left_out"] == [2, 4]
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.skipif(not IS_KERAS_2, reason="Keras 3 has no legacy optimizers")
def test_gradients_of_a_legacy_optimizer_are_guarded():
    model = make_model()
    model.compile(keras.optimizers.legacy.Adam(0.1), BitCrossentropy())
    history = fit(model, callbacks.GuardGradients()).history
    assert all(norm > 0 for norm in history["gradient_norm"])
    assert history["gradients_left_out"] == [0, 0]


def test_an_optimizer_that_scales_the_loss_is_not_guarded():
    scaled = getattr(keras.mixed_precision, "LossScaleOptimizer", None)
    scaled = scaled or keras.optimizers.LossScaleOptimizer
    model = make_model()
    model.compile(scaled(keras.optimizers.SGD(0.1)), "mse")
    with pytest.raises(
        ValueError, match="an optimizer that handles gradients that overflow itself"
    ):
        fit(model, callbacks.GuardGradients())


def test_images_show_what_the_machine_does(tmp_path):
    inputs, targets, mask = next(iter(sequences()))

    def plot(logits, trace):
        return pictures.plot_trace(trace, inputs, targets, tf.sigmoid(logits), mask)

    fit(make_machine(), callbacks.MachineImages(str(tmp_path), inputs, plot, every=2), epochs=3)
    written = events(tmp_path)
    assert [(tag, step) for tag, step, _ in written] == [("machine", 4), ("machine", 6)]
    for _, _, (width, height, png) in written:
        picture = tf.io.decode_png(png).numpy()
        assert picture.shape == (int(height), int(width), 3)
        assert len(np.unique(picture)) > 2


def test_images_become_rarer(tmp_path):
    drawn = []

    class Recorded(callbacks.MachineImages):
        def _run(self, step):
            drawn.append(step)

    fit(make_model(), Recorded(tmp_path, next(iter(sequences()))[0]), epochs=9)
    assert drawn == [2, 4, 6, 8, 12, 16, 18]


@pytest.mark.parametrize("every", [0, -1, "x", 1.5])
def test_a_callback_cannot_be_called_every_0_epochs(every):
    with pytest.raises(ValueError, match=f"Received: every={every!r}"):
        callbacks.MachineImages("nowhere", tf.zeros([1, 2, 3]), every=every)


@pytest.mark.parametrize(
    "make, received",
    [
        (lambda: callbacks.MachineImages("nowhere", np.ones([2, 3, 4]), plot=3), "plot=3"),
        (lambda: callbacks.MachineImages("nowhere", None), "inputs=None"),
        (lambda: callbacks.MachineImages("nowhere", np.float32(3)), r"inputs=np.float32\(3"),
        (lambda: callbacks.MachineImages("nowhere", sequences()), "inputs=<.*Dataset"),
        (lambda: callbacks.Checkpoints("nowhere", seconds=-1), "seconds=-1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_training(make, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        make()


def test_of_a_model_without_a_machine_what_plot_makes_is_drawn(tmp_path):
    inputs, targets, mask = next(iter(sequences()))

    def plot(logits, trace):
        return pictures.plot_trace(trace, inputs, targets, tf.sigmoid(logits), mask)

    fit(make_model(), callbacks.MachineImages(tmp_path, inputs, plot))
    assert {tag for tag, _, _ in events(tmp_path)} == {"model"}
    with pytest.raises(ValueError, match="nothing to draw. Received: model='plain'"):
        fit(make_model(), callbacks.MachineImages(str(tmp_path), inputs))


def averaging_model(momentum):
    model = make_model()
    optimizer = keras.optimizers.SGD(0.5, use_ema=momentum > 0, ema_momentum=momentum)
    model.compile(optimizer, BitCrossentropy())
    return model


@pytest.mark.parametrize("validates", [False, True])
def test_validation_and_what_follows_it_see_the_averaged_weights(validates):
    model, recorder = averaging_model(0.5), Recorder()
    # The average begins with the weights after the first step, in Keras 2 with those before it.
    average = model.get_weights() if IS_KERAS_2 else None
    validation = {"validation_data": sequences()} if validates else {}
    fit(model, callbacks.SwapAveragedWeights(), recorder, **validation)
    averages = []
    for weights in recorder.after_steps:
        pairs = zip(average or weights, weights)
        average = [(before + weight) / 2 for before, weight in pairs]
        averages.append(average)
    seen = [*recorder.after_epochs, model.get_weights(), *recorder.in_tests]
    expected = [averages[1], averages[3], averages[3], *averages[1::2][: len(recorder.in_tests)]]
    assert len(seen) == len(expected) == (5 if validates else 3)
    for weights, others in zip(seen, expected):
        for weight, other in zip(weights, others):
            np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-7)


def test_another_fit_begins_with_the_weights_that_the_model_has_then():
    model, recorder, shown = averaging_model(0.5), Recorder(), callbacks.SwapAveragedWeights()
    fit(model, shown)
    model.set_weights([np.full_like(weight, 7) for weight in model.get_weights()])
    fit(model, shown, recorder, epochs=1)
    assert np.abs(recorder.after_steps[0][0] - 7).max() < 1


def test_an_optimizer_that_does_not_average_is_refused():
    with pytest.raises(ValueError, match="Received: SGD with use_ema=False"):
        fit(make_model(), callbacks.SwapAveragedWeights())


def test_training_goes_on_with_its_own_weights():
    recorders = Recorder(), Recorder()
    for recorder, momentum in zip(recorders, (0.0, 0.5)):
        keras.utils.set_random_seed(0)
        shown = [callbacks.SwapAveragedWeights()] if momentum else []
        fit(averaging_model(momentum), *shown, recorder, validation_data=sequences())
    for weights, others in zip(*(recorder.after_steps for recorder in recorders)):
        for weight, other in zip(weights, others):
            np.testing.assert_array_equal(weight, other)


def test_a_tilde_means_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    inputs = next(iter(sequences()))[0]
    fit(
        make_machine(),
        callbacks.MachineImages("~/images", inputs),
        callbacks.Checkpoints("~/checkpoints"),
        epochs=1,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "images"]


def test_events_are_written_as_soon_as_their_folder_can_be_made(tmp_path):
    (tmp_path / "run").write_text("in the way")
    log = EventLog(str(tmp_path / "run" / "train"))
    with pytest.raises(OSError), log.writing():
        tf.summary.scalar("loss", 1.0, step=1)
    (tmp_path / "run").unlink()
    with log.writing():
        tf.summary.scalar("loss", 1.0, step=2)
    assert [step for _, step, _ in events(tmp_path / "run" / "train")] == [2]


def test_events_begin_another_file_after_one_that_could_not_be_written(tmp_path, monkeypatch):
    log = EventLog(str(tmp_path))
    with log.writing():
        tf.summary.scalar("loss", 1.0, step=1)
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written: No space left"):
        with log.writing():
            raise tf.errors.ResourceExhaustedError(None, None, "file; No space left\n\tFailed")
    with log.writing():
        tf.summary.scalar("loss", 1.0, step=3)
    assert len(list(tmp_path.iterdir())) == 2
    assert [step for _, step, _ in events(tmp_path)] == [1, 3]


def test_the_package_has_its_documented_modules_as_attributes():
    import ntm_keras

    assert ntm_keras.callbacks is callbacks and ntm_keras.pictures is pictures
    assert ntm_keras.animation.animate_trace
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ntm_keras.nonsense  # noqa: B018
