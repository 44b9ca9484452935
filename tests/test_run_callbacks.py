"""The callbacks that only a run needs."""

import math
import pathlib
import re
import shutil
import signal
import threading
import types

import numpy as np
import pytest
import tensorflow as tf
from fits import BATCH, Recorder, fit, make_model, overflowing, sequences
from runs import events

from ntm_keras import BitCrossentropy
from ntm_keras.callbacks import Checkpoints, GuardGradients
from ntm_keras.keras_compat import IS_KERAS_2, keras
from training import callbacks

pytestmark = pytest.mark.eager


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2's optimizers accumulate no gradients")
def test_all_sequences_are_counted_where_gradients_are_accumulated(tmp_path):
    model = make_model()
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), BitCrossentropy())
    fit(model, callbacks.ScalarLog(tmp_path, BATCH, {}), callbacks.StopAfter(3), epochs=9)
    seen = [(step, value) for tag, step, value in events(tmp_path / "train") if "seen" in tag]
    assert seen == [(2, 2 * BATCH), (3, 3 * BATCH)]


def test_scalars_are_written_at_training_steps(tmp_path):
    model = make_model()
    used = GuardGradients(), callbacks.ScalarLog(str(tmp_path), BATCH, {})
    history = fit(model, *used, epochs=3, validation_data=sequences()).history
    train, validation = events(tmp_path / "train"), events(tmp_path / "validation")
    for log, prefix in ((train, ""), (validation, "val_")):
        for tag in ("loss", "wrong_bits_per_sequence"):
            written = [
                (step, float(value)) for name, step, value in log if name == f"learning/{tag}"
            ]
            assert [step for step, _ in written] == [2, 4, 6]
            np.testing.assert_allclose([v for _, v in written], history[prefix + tag], rtol=1e-5)
    values = {tag: [float(v) for name, _, v in train if name == tag] for tag, _, _ in train}
    assert values["training/sequences_seen"] == [8, 16, 24]
    assert values["training/learning_rate"] == pytest.approx([1e-2] * 3)
    assert len(values["training/gradient_norm"]) == 3
    assert min(values["training/sequences_per_second"]) > 0


def test_each_size_is_measured_every_so_often_and_at_the_end_into_a_run_of_its_own(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"10": {"wrong_bits": len(calls)}, "20": {"wrong_bits": 9}}

    log = callbacks.SizeLog(str(tmp_path), measure, {"wrong_bits": "How many."}, every=2)
    fit(make_model(), log, epochs=5)
    for size, values in (("10", [1, 2, 3]), ("20", [9, 9, 9])):
        assert [
            (tag, step, int(value)) for tag, step, value in events(tmp_path / f"size_{size}")
        ] == [("sizes/wrong_bits", step, value) for step, value in zip((4, 8, 10), values)]


@pytest.mark.parametrize("seconds, saves", [(0.0, 4), (3600.0, 2)])
def test_the_latest_model_is_saved_no_more_often_than_asked_and_at_the_end(
    tmp_path, monkeypatch, seconds, saves
):
    model = make_model()
    path = str(tmp_path / "model.keras")
    latest = callbacks.SaveLatest(path, model, seconds)
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


def test_the_best_model_is_the_latest_with_the_lowest_value(tmp_path):
    model = make_model()
    path = str(tmp_path / "best.keras")
    best = callbacks.SaveBest(path, model, "loss")
    for step, loss in enumerate([3.0, math.nan, 2.0, 5.0, 2.0]):
        model.set_weights([np.full(weight.shape, step) for weight in model.get_weights()])
        best.on_epoch_end(step, {"loss": loss})
    for weight in keras.models.load_model(path).get_weights():
        np.testing.assert_array_equal(weight, 4)
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


def test_training_goes_on_where_a_callback_cannot_write(tmp_path):
    class Removes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                shutil.rmtree(tmp_path / "run")

    folder = tmp_path / "run"
    folder.mkdir()
    model = make_model()
    writing = [
        callbacks.ScalarLog(str(folder), batch_size=4, descriptions={}),
        callbacks.SaveLatest(str(folder / "model.keras"), model, seconds=0.0),
        Checkpoints(str(folder / "checkpoints"), seconds=0.0),
    ]
    with pytest.warns(UserWarning, match="Training goes on") as warned:
        fit(model, *map(callbacks.ignore_write_errors, writing), Removes(), epochs=3)
    complaints = [str(each.message) for each in warned if "Training goes on" in str(each.message)]
    assert int(model.optimizer.iterations) == 6
    assert len(complaints) == 3  # one for each, though each failed twice
    for complaint, name in zip(sorted(complaints), ("checkpoints", "model.keras", "train")):
        assert f"{folder / name}" in complaint and "cannot be written" in complaint
    assert not folder.exists()


def test_other_errors_are_not_ignored():
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        fit(make_model(), callbacks.ignore_write_errors(Fails()))


def test_what_is_not_finite_is_named():
    model = make_model()
    model.compile(
        keras.optimizers.SGD(0.1),
        lambda targets, logits: tf.reduce_mean(overflowing(logits) ** 2),
    )
    guard = GuardGradients()
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
    in_order = [
        GuardGradients(),
        callbacks.StopWhenNotFinite(),
        callbacks.SaveLatest(str(path), model),
    ]
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
    with pytest.raises(callbacks.SignalReceivedError, match="SIGTERM"):
        fit(model, Sends(), stop, epochs=9)
    assert saved == [1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_than_the_main_one_signals_are_let_alone():
    model, handler = make_model(), signal.getsignal(signal.SIGTERM)
    stop = callbacks.StopOnSignal(pytest.fail)
    thread = threading.Thread(target=fit, args=[model, stop])
    thread.start()
    thread.join()
    assert int(model.optimizer.iterations) == 4
    assert signal.getsignal(signal.SIGTERM) is handler


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
    with pytest.raises(callbacks.SignalReceivedError):
        fit(model, signalling(model, 2), recorder, stop, epochs=9, validation_data=sequences())
    assert int(model.optimizer.iterations) == 2
    assert len(recorder.in_tests) == 1


def test_signals_are_heard_where_nobody_knows_how_many_steps_an_epoch_has():
    model = make_model()
    endless = sequences().repeat().filter(lambda *batch: True)
    stop = callbacks.StopOnSignal(lambda: None)
    with pytest.raises(callbacks.SignalReceivedError):
        model.fit(endless, callbacks=[signalling(model, 3), stop], shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 3


def test_a_training_that_was_stopped_goes_on_with_the_same_callbacks():
    model = make_model()
    used = signalling(model, 3), callbacks.StopOnSignal(lambda: None)
    with pytest.raises(callbacks.SignalReceivedError):
        fit(model, *used, epochs=9)
    fit(model, *used, epochs=3)
    assert int(model.optimizer.iterations) == 9


def test_training_stops_after_so_many_steps():
    model = make_model()
    fit(model, callbacks.StopAfter(3), epochs=9)
    assert int(model.optimizer.iterations) == 3


def test_training_stops_when_validation_and_all_parts_of_a_test_are_below_the_threshold():
    found = {(8, 1): 5.0, (16, 1): 0.5, (17, 1): 2.0, (24, 1): 0.5, (25, 1): 0.5, (26, 2): 1.6}
    found |= {(32, 1): 0.5, (33, 1): 0.5, (34, 2): 1.4}
    drawn = []

    def test(first, parts):
        drawn.append((first, parts))
        return found[drawn[-1]]

    stop = callbacks.StopWhenSolved(below=1.0, test=test, monitor="loss", parts=4)
    model = make_model()
    fit(model, stop, epochs=9)
    assert drawn == list(found)
    assert int(model.optimizer.iterations) == 8
    assert stop.failed_test is None


def test_the_mean_of_a_test_that_was_not_passed_is_kept_until_the_next_validation():
    stop = callbacks.StopWhenSolved(1.0, lambda first, _: [0.5, 2.0][first % 2], "loss", parts=4)
    stop.set_model(make_model())
    stop.on_epoch_end(0, {"loss": 0.0})
    assert stop.failed_test == 1.25
    stop.on_epoch_end(1, {"loss": 1.0})
    assert stop.failed_test is None


def test_training_stops_only_after_so_many_passed_validations_in_a_row():
    stop = callbacks.StopWhenSolved(below=1.0, test=lambda *_: 0.0, monitor="loss", times=2)
    stop.set_model(make_model())
    stop.model.stop_training = False
    for epoch, (loss, stops) in enumerate([(0, False), (2, False), (0, False), (0, True)]):
        stop.on_epoch_end(epoch, {"loss": loss})
        assert stop.model.stop_training == stops
    stop.on_epoch_end(4, {"loss": 0})
    assert stop.passed == 2


def test_training_goes_on_and_no_test_is_made_while_validation_is_above():
    stop = callbacks.StopWhenSolved(1e-9, pytest.fail, monitor="loss")
    model = make_model()
    fit(model, stop, epochs=3)
    assert int(model.optimizer.iterations) == 6
