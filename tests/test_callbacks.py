import math
import pathlib
import re
import shutil
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import NTM, BitCrossentropy, WrongBitsPerSequence, callbacks, pictures
from ntm_keras.keras_compat import IS_KERAS_2, keras

BATCH, TIME, BITS = 4, 6, 3


def make_model(*layers, learning_rate=1e-2):
    """A model that compiles quickly: most callbacks work around any."""
    dense = keras.layers.Dense(BITS)
    model = keras.Sequential([keras.Input([None, BITS]), dense, *layers], name="plain")
    model.compile(
        keras.optimizers.SGD(learning_rate),
        BitCrossentropy(),
        weighted_metrics=[WrongBitsPerSequence()],
    )
    return model


def make_machine():
    return make_model(NTM(6, 8, 4, 1, 2, return_sequences=True, name="machine"))


def sequences(count=8):
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, size=(count, TIME, BITS)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((bits, bits, np.ones((count, TIME)))).batch(BATCH)


def fit(model, *used, epochs=2, **arguments):
    return model.fit(
        sequences(), epochs=epochs, callbacks=list(used), verbose=0, shuffle=False, **arguments
    )


def events(folder):
    """Everything written for TensorBoard in a folder, as (tag, step, value)."""
    found = []
    paths = pathlib.Path(folder).glob("events.out.tfevents.*")
    for path in sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)]):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.append((value.tag, event.step, tf.make_ndarray(value.tensor)))
    return found


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


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2's optimizers accumulate no gradients")
def test_all_sequences_are_counted_where_gradients_are_accumulated(tmp_path):
    model = make_model()
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), BitCrossentropy())
    fit(model, callbacks.ScalarLog(tmp_path, BATCH), callbacks.StopAfter(3), epochs=9)
    seen = [(step, value) for tag, step, value in events(tmp_path / "train") if "seen" in tag]
    assert seen == [(2, 2 * BATCH), (3, 3 * BATCH)]


def test_the_gradient_norm_is_logged_in_every_fit():
    model = make_model()
    for _ in range(2):
        norm = fit(model, callbacks.GuardGradients()).history["gradient_norm"]
        assert norm[0] != norm[1] and all(value > 0 for value in norm)


def test_gradients_are_guarded_from_the_first_fit_on_or_not_at_all():
    model = make_model()
    fit(model)
    with pytest.raises(ValueError, match="training step on. Received: model=.plain., trained"):
        fit(model, callbacks.GuardGradients())
    model.compile("sgd", "mse")
    assert fit(model, callbacks.GuardGradients()).history["gradient_norm"][-1] > 0
    with pytest.raises(ValueError, match="needs a model that is compiled"):
        callbacks.GuardGradients().set_model(keras.Sequential())


@tf.custom_gradient
def overflowing(outputs):
    """Leaves its argument as it is; its gradient is beyond all numbers."""
    return tf.identity(outputs), lambda d: d * math.inf


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


def test_an_optimizer_that_scales_the_loss_is_not_guarded():
    scaled = getattr(keras.mixed_precision, "LossScaleOptimizer", None)
    scaled = scaled or keras.optimizers.LossScaleOptimizer
    model = make_model()
    model.compile(scaled(keras.optimizers.SGD(0.1)), "mse")
    with pytest.raises(ValueError, match="do not leave out gradients that overflow by themselves"):
        fit(model, callbacks.GuardGradients())


def test_scalars_are_written_at_training_steps(tmp_path):
    model = make_model()
    used = callbacks.GuardGradients(), callbacks.ScalarLog(str(tmp_path), BATCH)
    history = fit(model, *used, epochs=3, validation_data=sequences()).history
    train, validation = events(tmp_path / "train"), events(tmp_path / "validation")
    for log, prefix in ((train, ""), (validation, "val_")):
        for tag in ("loss", "wrong_bits_per_sequence"):
            written = [(step, float(value)) for name, step, value in log if name == tag]
            assert [step for step, _ in written] == [2, 4, 6]
            np.testing.assert_allclose([v for _, v in written], history[prefix + tag], rtol=1e-5)
    values = {tag: [float(v) for name, _, v in train if name == tag] for tag, _, _ in train}
    assert values["sequences_seen"] == [8, 16, 24]
    assert values["learning_rate"] == pytest.approx([1e-2] * 3)
    assert len(values["gradient_norm"]) == 3
    assert min(values["sequences_per_second"]) > 0


@pytest.mark.skipif(not IS_KERAS_2, reason="Keras 3 has no legacy optimizers")
def test_the_learning_rate_of_a_legacy_optimizer_is_written(tmp_path):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    model = make_model()
    model.compile(keras.optimizers.legacy.Adam(schedule), BitCrossentropy())
    fit(model, callbacks.GuardGradients(), callbacks.ScalarLog(tmp_path, BATCH))
    written = [value for tag, _, value in events(tmp_path / "train") if tag == "learning_rate"]
    np.testing.assert_allclose(written, [0.05, 0.025], rtol=1e-6)


def test_measurements_are_written_every_so_often_and_at_the_end(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"size/10": len(calls)}

    fit(make_model(), callbacks.Measurements(str(tmp_path), measure, every=2), epochs=5)
    assert [(tag, step, int(value)) for tag, step, value in events(tmp_path)] == [
        ("size/10", 4, 1),
        ("size/10", 8, 2),
        ("size/10", 10, 3),
    ]


def test_images_show_what_the_machine_does(tmp_path):
    inputs, targets, mask = next(iter(sequences()))

    def draw(logits):
        return {"answers": (pictures.draw_answers(targets, tf.sigmoid(logits), mask), "")}

    fit(make_machine(), callbacks.MachineImages(str(tmp_path), inputs, draw, every=2), epochs=3)
    written = events(tmp_path)
    assert sorted({(tag, step) for tag, step, _ in written}) == [
        (tag, step)
        for tag in (
            "answers",
            "machine/add_vectors",
            "machine/memory",
            "machine/read_vectors",
            "machine/read_weightings",
            "machine/write_weightings",
        )
        for step in (4, 6)
    ]
    for tag, _, value in written:
        width, height, png = value[0], value[1], value[2]
        picture = tf.io.decode_png(png).numpy()
        assert picture.shape == (int(height), int(width), 3)
        assert len(np.unique(picture)) > 2, tag


@pytest.mark.parametrize("every", [0, -1, "x", 1.5])
def test_a_callback_cannot_be_called_every_0_epochs(every):
    with pytest.raises(ValueError, match=f"Received: every={every!r}"):
        callbacks.MachineImages("nowhere", tf.zeros([1, 2, 3]), every=every)
    with pytest.raises(ValueError, match=f"Received: every={every!r}"):
        callbacks.Measurements("nowhere", dict, every=every)


@pytest.mark.parametrize(
    "make, received",
    [
        (lambda: callbacks.StopAfter("a"), "steps='a'"),
        (lambda: callbacks.StopWhenSolved("a", float), "below='a'"),
        (lambda: callbacks.StopWhenSolved(1, 3), "test=3"),
        (lambda: callbacks.StopWhenSolved(1, float, times=0), "times=0"),
        (lambda: callbacks.StopOnSignal(3), "save=3"),
        (lambda: callbacks.RunTime("a"), "started='a'"),
        (lambda: callbacks.ScalarLog("nowhere", -1), "batch_size=-1"),
        (lambda: callbacks.Measurements("nowhere", 3), "measure=3"),
        (lambda: callbacks.MachineImages("nowhere", np.ones([2, 3, 4]), draw=3), "draw=3"),
        (lambda: callbacks.MachineImages("nowhere", None), "inputs=None"),
        (lambda: callbacks.MachineImages("nowhere", np.float32(3)), r"inputs=np.float32\(3"),
        (lambda: callbacks.MachineImages("nowhere", sequences()), "inputs=<.*Dataset"),
        (lambda: callbacks.SaveLatest("model.keras", seconds="a"), "seconds='a'"),
        (lambda: callbacks.Checkpoints("nowhere", seconds=-1), "seconds=-1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_training(make, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        make()


def test_of_a_model_without_a_machine_only_what_draw_makes_is_drawn(tmp_path):
    inputs, targets, mask = next(iter(sequences()))

    def draw(logits):
        return {"answers": (pictures.draw_answers(targets, tf.sigmoid(logits), mask), "")}

    fit(make_model(), callbacks.MachineImages(tmp_path, inputs, draw))
    assert {tag for tag, _, _ in events(tmp_path)} == {"answers"}
    with pytest.raises(ValueError, match="nothing to draw. Received: model='plain'"):
        fit(make_model(), callbacks.MachineImages(str(tmp_path), inputs))


class Recorder(keras.callbacks.Callback):
    """Keeps the weights after every step, before validation, and after every epoch."""

    def __init__(self):
        super().__init__()
        self.after_steps, self.in_tests, self.after_epochs = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.after_steps.append(self.model.get_weights())

    def on_test_begin(self, logs=None):
        self.in_tests.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.after_epochs.append(self.model.get_weights())


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
    fit(model, callbacks.ShowAveragedWeights(), recorder, **validation)
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
    model, recorder, shown = averaging_model(0.5), Recorder(), callbacks.ShowAveragedWeights()
    fit(model, shown)
    model.set_weights([np.full_like(weight, 7) for weight in model.get_weights()])
    fit(model, shown, recorder, epochs=1)
    assert np.abs(recorder.after_steps[0][0] - 7).max() < 1


def test_an_optimizer_that_does_not_average_is_refused():
    with pytest.raises(ValueError, match="Received: SGD with use_ema=False"):
        fit(make_model(), callbacks.ShowAveragedWeights())


def test_training_goes_on_with_its_own_weights():
    recorders = Recorder(), Recorder()
    for recorder, momentum in zip(recorders, (0.0, 0.5)):
        keras.utils.set_random_seed(0)
        shown = [callbacks.ShowAveragedWeights()] if momentum else []
        fit(averaging_model(momentum), *shown, recorder, validation_data=sequences())
    for weights, others in zip(*(recorder.after_steps for recorder in recorders)):
        for weight, other in zip(weights, others):
            np.testing.assert_array_equal(weight, other)


@pytest.mark.parametrize("seconds, saves", [(0.0, 4), (3600.0, 2)])
def test_the_latest_model_is_saved_no_more_often_than_asked_and_at_the_end(
    tmp_path, monkeypatch, seconds, saves
):
    model = make_model()
    path = str(tmp_path / "model.keras")
    latest = callbacks.SaveLatest(path, seconds=seconds)
    saved_at = []
    monkeypatch.setattr(
        latest, "save", lambda: saved_at.append(1) or callbacks.SaveLatest.save(latest)
    )
    fit(model, latest, epochs=3)
    assert len(saved_at) == saves
    loaded = keras.models.load_model(path)
    inputs = next(iter(sequences()))[0]
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    assert int(loaded.optimizer.iterations) == 6
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("save", [callbacks.SaveLatest, callbacks.SaveBest])
def test_the_folder_of_a_saved_model_is_made_if_need_be(save, tmp_path):
    path = tmp_path / "a" / "b" / "model.keras"
    fit(make_model(), save(path, **({"monitor": "loss"} if save is callbacks.SaveBest else {})))
    assert path.exists()


def test_a_tilde_means_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    used = (
        callbacks.Measurements("~/measures", lambda: {"measure": 1.0}),
        callbacks.SaveLatest("~/model.keras"),
        callbacks.SaveBest("~/best.keras", "loss"),
        callbacks.ScalarLog("~/logs", BATCH),
        callbacks.Checkpoints("~/checkpoints"),
    )
    fit(make_model(), *used)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["best.keras", "checkpoints", "logs", "measures", "model.keras"]


def test_the_best_model_is_that_of_the_lowest_value(tmp_path):
    model = make_model()
    path = str(tmp_path / "best.keras")
    best = callbacks.SaveBest(path, "loss")
    best.set_model(model)
    for step, loss in enumerate([3.0, math.nan, 2.0, 5.0, 2.0]):
        model.set_weights([np.full(weight.shape, step) for weight in model.get_weights()])
        best.on_epoch_end(step, {"loss": loss})
    for weight in keras.models.load_model(path).get_weights():
        np.testing.assert_array_equal(weight, 2)
    assert float(best.variables["lowest"]) == 2.0


def test_a_model_that_cannot_be_saved_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("the one before")

    def save_half(path):
        pathlib.Path(path).write_text("half")
        raise OSError("No space left on device")

    latest = callbacks.SaveLatest(str(path), types.SimpleNamespace(save=save_half))
    with pytest.raises(OSError, match="model.keras cannot be written: No space left"):
        latest.save()
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]
    assert path.read_text() == "the one before"


def test_training_goes_on_where_a_forgiven_callback_cannot_write(tmp_path):
    class Removes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                shutil.rmtree(tmp_path / "run")

    folder = tmp_path / "run"
    folder.mkdir()
    complaints = []
    written = [
        callbacks.ScalarLog(str(folder), batch_size=4),
        callbacks.SaveLatest(str(folder / "model.keras"), seconds=0.0),
        callbacks.Checkpoints(str(folder / "checkpoints"), seconds=0.0),
    ]
    forgiven = [callbacks.forgiving(each, complaints.append) for each in written]
    model = make_model()
    fit(model, *forgiven, Removes(), epochs=3)
    assert int(model.optimizer.iterations) == 6
    assert len(complaints) == 3  # one for each, though each failed twice
    for complaint, name in zip(sorted(complaints), ("checkpoints", "model.keras", "train")):
        assert f"{folder / name}" in complaint and "cannot be written" in complaint
    assert not folder.exists()


def test_events_are_written_as_soon_as_their_folder_can_be_made(tmp_path):
    (tmp_path / "run").write_text("in the way")
    log = callbacks.EventLog(str(tmp_path / "run" / "train"))
    with pytest.raises(OSError), log.writing():
        tf.summary.scalar("loss", 1.0, step=1)
    (tmp_path / "run").unlink()
    with log.writing():
        tf.summary.scalar("loss", 1.0, step=2)
    assert [step for _, step, _ in events(tmp_path / "run" / "train")] == [2]


def test_other_errors_are_not_forgiven():
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        fit(make_model(), callbacks.forgiving(Fails(), print))


def test_events_begin_another_file_after_one_that_could_not_be_written(tmp_path, monkeypatch):
    log = callbacks.EventLog(str(tmp_path))
    with log.writing():
        tf.summary.scalar("loss", 1.0, step=1)
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written: No space left"):
        with log.writing():
            raise tf.errors.ResourceExhaustedError(None, None, "file; No space left\n\tFailed")
    with log.writing():
        tf.summary.scalar("loss", 1.0, step=3)
    assert len(list(tmp_path.iterdir())) == 2
    assert [step for _, step, _ in events(tmp_path)] == [1, 3]


def test_what_is_not_finite_is_named():
    model = make_model()
    model.compile(
        keras.optimizers.SGD(0.1),
        lambda targets, logits: tf.reduce_mean(overflowing(logits) ** 2),
    )
    guard = callbacks.GuardGradients()
    fit(model, guard, epochs=2)
    weights = model.trainable_variables
    weights[-1].assign(tf.fill(weights[-1].shape, math.nan))
    with pytest.raises(callbacks.NonFiniteLossError) as error:
        fit(model, callbacks.StopWhenNotFinite())
    named = re.search("with (.*) not finite; the first .* that of (.*) in step 1", str(error.value))
    names = [getattr(weight, "path", weight.name) for weight in weights]
    assert named and named[1] == names[-1] and named[2] in names


@pytest.mark.parametrize("when", ["training", "validation"])
def test_a_loss_that_is_not_finite_ends_the_run_before_anything_is_saved(tmp_path, when):
    model = make_model()

    def spoilt(inputs, targets, mask):
        return inputs, targets * math.nan, mask

    data = {"training": sequences().map(spoilt), "validation": sequences()}[when]
    validation = {"training": None, "validation": sequences().map(spoilt)}[when]
    path = tmp_path / "model.keras"
    in_order = [callbacks.StopWhenNotFinite(), callbacks.SaveLatest(str(path))]
    with pytest.raises(callbacks.NonFiniteLossError, match="loss became nan by training step"):
        model.fit(data, validation_data=validation, callbacks=in_order, verbose=0, shuffle=False)
    assert not path.exists()


def test_a_signal_ends_training_after_its_step_and_then_means_what_it_did_before():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    saved = []

    class Sends(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            signal.raise_signal(signal.SIGTERM)

    model = make_model()
    stop = callbacks.StopOnSignal(lambda: saved.append(int(model.optimizer.iterations)))
    with pytest.raises(callbacks.StoppedBySignalError, match="SIGTERM"):
        fit(model, Sends(), stop, epochs=9)
    assert saved == [1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def signalling(model, at):
    """A callback that sends a signal after a training step."""

    class Sends(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(model.optimizer.iterations) == at:
                signal.raise_signal(signal.SIGTERM)

    return Sends()


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_validation(steps_per_call):
    model, recorder = make_model(), Recorder()
    model.compile(keras.optimizers.SGD(0.1), BitCrossentropy(), steps_per_execution=steps_per_call)
    stop = callbacks.StopOnSignal(lambda: None)
    with pytest.raises(callbacks.StoppedBySignalError):
        fit(model, signalling(model, 2), recorder, stop, epochs=9, validation_data=sequences())
    assert int(model.optimizer.iterations) == 2
    assert len(recorder.in_tests) == 1


def test_signals_are_heard_where_nobody_knows_how_many_steps_an_epoch_has():
    model = make_model()
    endless = sequences().repeat().filter(lambda *batch: True)
    stop = callbacks.StopOnSignal(lambda: None)
    with pytest.raises(callbacks.StoppedBySignalError):
        model.fit(endless, callbacks=[signalling(model, 3), stop], shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 3


def test_a_training_that_was_stopped_goes_on_with_the_same_callbacks():
    model = make_model()
    used = signalling(model, 3), callbacks.StopOnSignal(lambda: None)
    with pytest.raises(callbacks.StoppedBySignalError):
        fit(model, *used, epochs=9)
    fit(model, *used, epochs=3)
    assert int(model.optimizer.iterations) == 9


def test_a_warning_says_that_what_is_monitored_is_not_in_the_logs(tmp_path):
    watching = (
        callbacks.SaveBest(str(tmp_path / "best.keras"), "val_accuracy"),
        callbacks.StopWhenSolved(1.0, test=lambda step: 0.0, monitor="val_accuracy"),
    )
    for each in watching:
        with pytest.warns(UserWarning, match="monitor='val_accuracy'; the logs have .*'loss'"):
            fit(make_model(), each, epochs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("callback", [callbacks.SaveLatest, callbacks.SaveBest])
def test_a_model_is_saved_in_a_keras_file_only(callback):
    with pytest.raises(ValueError, match="must end in '.keras'. Received: path='model.h5'"):
        callback("model.h5")


def test_training_stops_after_so_many_steps():
    model = make_model()
    fit(model, callbacks.StopAfter(3), epochs=9)
    assert int(model.optimizer.iterations) == 3


def test_training_stops_when_validation_and_test_are_below_the_threshold():
    tests = iter([5.0, 0.5])
    steps = []

    def test(step):
        steps.append(step)
        return next(tests)

    stop = callbacks.StopWhenSolved(below=1.0, test=test, monitor="loss")
    model = make_model()
    fit(model, stop, epochs=9)
    assert steps == [2, 4]
    assert int(model.optimizer.iterations) == 4


def test_training_stops_only_after_so_many_passed_validations_in_a_row():
    stop = callbacks.StopWhenSolved(below=1.0, test=lambda step: 0.0, monitor="loss", times=2)
    stop.set_model(make_model())
    stop.model.stop_training = False
    for epoch, (loss, stops) in enumerate([(0, False), (2, False), (0, False), (0, True)]):
        stop.on_epoch_end(epoch, {"loss": loss})
        assert stop.model.stop_training == stops


def test_training_goes_on_and_no_test_is_made_while_validation_is_above():
    stop = callbacks.StopWhenSolved(below=1e-9, test=pytest.fail, monitor="loss")
    model = make_model()
    fit(model, stop, epochs=3)
    assert int(model.optimizer.iterations) == 6
