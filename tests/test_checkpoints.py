import re

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import NTM, NoisyModel
from ntm_keras.callbacks import Checkpoints, SwapAveragedWeights
from ntm_keras.keras_compat import IS_KERAS_2, keras
from training import run_folder

pytestmark = pytest.mark.eager

INPUTS = np.linspace(-1, 1, 24).reshape(8, 3).astype("float32")
TARGETS = INPUTS[:, :2] ** 2


class Training:
    """A small model in training; `train` brings it to a step, from its last checkpoint on."""

    def __init__(self, folder, seed=0, xla=False, optimizer=None, **options):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input([3])
        self.model = NoisyModel(inputs, keras.layers.Dense(2)(inputs), stddev=0.1)
        averaging = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5)
        self.model.compile(optimizer or averaging, "mse", jit_compile=xla)
        self.averages = None if optimizer else SwapAveragedWeights()
        self.checkpoints = Checkpoints(
            str(folder), averages=self.averages, **{"seconds": 0.0, **options}
        )

    def train(self, until):
        step = self.checkpoints.restore(self.model)
        self.model.fit(
            INPUTS,
            TARGETS,
            batch_size=4,
            initial_epoch=step // 2,
            epochs=until // 2,
            callbacks=[*([self.averages] if self.averages else []), self.checkpoints],
            shuffle=False,
            verbose=0,
        )
        return self.model.get_weights()


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the steps 6, 8 and 10."""
    Training(tmp_path / "checkpoints").train(10)
    return tmp_path / "checkpoints"


def test_other_files_in_the_folder_are_let_alone(folder):
    mine = (
        "step-000000010 (copy).sha256",
        "step-by-step.txt",
        "step-5.keras",
        "step-12.weights.h5",
    )
    for name in mine:
        (folder / name).write_text("mine")
    assert Training(folder).checkpoints.restore(Training(folder).model) == 10
    assert run_folder.kept_steps(str(folder.parent)) == [6, 8, 10]
    Training(folder).train(12)
    assert all((folder / name).exists() for name in mine)


@pytest.mark.parametrize("wrong", [{"averages": True}, {"variables": ["a"]}, {"seconds": -1}])
def test_wrong_arguments_are_refused_by_name(folder, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"Argument `{name}` must be .* Received: {name}="):
        Checkpoints(folder, **wrong)


def test_a_training_that_begins_anew_among_later_states_is_refused(folder):
    training = Training(folder)
    message = r"later step, unless it was restored. Received: .* which has one of step 10"
    with pytest.raises(ValueError, match=message):
        training.model.fit(INPUTS, TARGETS, callbacks=[training.checkpoints], verbose=0)


@pytest.mark.graph
@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_training_that_goes_on_ends_like_one_that_never_stopped(tmp_path, xla):
    expected = Training(tmp_path / "whole", xla=xla).train(12)
    for seed, until in enumerate((2, 6, 12)):  # Another seed makes other weights to begin with.
        found = Training(tmp_path / "parts", seed, xla=xla).train(until)
    for each, other in zip(expected, found):
        np.testing.assert_array_equal(each, other)


def accumulating():
    return keras.optimizers.Adam(0.1, gradient_accumulation_steps=3)


def scaling(optimizer):
    scaled = getattr(keras.mixed_precision, "LossScaleOptimizer", None)
    scaled = scaled or keras.optimizers.LossScaleOptimizer
    return scaled(optimizer, dynamic_growth_steps=3)


OPTIMIZERS = {"scaling the loss": lambda: scaling(keras.optimizers.Adam(0.1))}
if IS_KERAS_2:
    OPTIMIZERS["legacy"] = lambda: keras.optimizers.legacy.Adam(0.1, decay=0.1)
else:
    OPTIMIZERS["accumulating"] = accumulating
    OPTIMIZERS["both"] = lambda: scaling(accumulating())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_goes_on_with_any_optimizer(tmp_path, name):
    make = OPTIMIZERS[name]
    expected = Training(tmp_path / "whole", optimizer=make()).train(12)
    for seed, until in enumerate((2, 4)):
        parts = Training(tmp_path / "parts", seed, optimizer=make())
        parts.train(until)
    for each, other in zip(expected, parts.train(12)):
        np.testing.assert_array_equal(each, other)


def test_a_learning_rate_that_was_changed_is_kept(tmp_path):
    training, again = Training(tmp_path), Training(tmp_path)
    training.model.optimizer.learning_rate = 0.5
    training.train(2)
    again.checkpoints.restore(again.model)
    assert float(again.model.optimizer.learning_rate) == 0.5


STATEFUL = {
    "LSTM": lambda: keras.layers.LSTM(3, stateful=True),
    "RNN": lambda: keras.layers.RNN(keras.layers.SimpleRNNCell(3), stateful=True),
    "Bidirectional": lambda: keras.layers.Bidirectional(keras.layers.GRU(3, stateful=True)),
    "NTM": lambda: NTM(3, 4, 2, 1, 1, stateful=True),
}
SEQUENCES = np.linspace(-1, 1, 24).reshape(4, 3, 2).astype("float32")


def stateful_model(layer):
    model = keras.Sequential([keras.Input([3, 2], batch_size=4), layer])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("name", STATEFUL)
def test_the_states_of_stateful_layers_are_kept(tmp_path, name):
    model, again = (stateful_model(STATEFUL[name]()) for _ in range(2))
    targets = np.zeros(model.output_shape)
    model.fit(SEQUENCES, targets, batch_size=4, verbose=0, callbacks=[Checkpoints(tmp_path)])
    assert Checkpoints(tmp_path).restore(again) == 1
    np.testing.assert_array_equal(again(SEQUENCES), model(SEQUENCES))


def test_a_state_that_was_written_without_those_of_layers_is_taken_with_a_warning(tmp_path):
    model, again = (stateful_model(keras.layers.SimpleRNN(3, stateful=True)) for _ in range(2))
    model.fit(SEQUENCES, np.zeros([4, 3]), batch_size=4, verbose=0)
    written = Checkpoints(tmp_path)
    written.set_model(model)
    written._others = list  # What versions before this one wrote.
    written.write()
    with pytest.warns(UserWarning, match="is from an earlier version: it has no "):
        assert Checkpoints(tmp_path).restore(again) == 1
    for weight, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(weight, other)


def test_the_latest_states_are_kept(folder):
    assert sorted(path.stem for path in folder.glob("*.sha256")) == [
        "step-000000006",
        "step-000000008",
        "step-000000010",
    ]
    assert len(list(folder.iterdir())) == 3 * 3


def test_a_state_is_a_checkpoint_of_tensorflow(folder):
    reader = tf.train.load_checkpoint(str(folder / "step-000000010"))
    assert [3, 2] in reader.get_variable_to_shape_map().values()


def test_its_weights_are_not_the_averages(folder):
    training = Training(folder)
    shown = training.train(12)
    again = Training(folder, seed=1)
    assert again.checkpoints.restore(again.model) == 12
    own = again.model.get_weights()
    assert np.abs(own[0] - shown[0]).max() > 1e-4


def test_states_are_written_no_more_often_than_asked(tmp_path):
    Training(tmp_path, seconds=3600.0).train(10)
    assert sorted(path.stem for path in tmp_path.glob("*.sha256")) == [
        "step-000000002",  # the first one's time has come at once, the last one's at the end
        "step-000000010",
    ]


def damage(path, how, random):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: random.integers(len(content))]
    elif how == "flip":
        content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "flip"])
@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001", ".sha256"])
def test_a_damaged_state_is_named_and_the_one_before_is_taken(folder, random, how, part):
    damage(folder / f"step-000000010{part}", how, random)
    training = Training(folder)
    with pytest.warns(UserWarning, match="step-000000010 is damaged"):
        assert training.checkpoints.restore(training.model) == 8


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
def test_a_state_that_lacks_a_file_is_damaged(folder, part):
    (folder / f"step-000000010{part}").unlink()
    training = Training(folder)
    with pytest.warns(UserWarning, match="step-000000010 is damaged"):
        assert training.checkpoints.restore(training.model) == 8


def test_a_state_that_was_not_finished_does_not_count(folder):
    (folder / "step-000000010.sha256").unlink()
    training = Training(folder)
    assert training.checkpoints.restore(training.model) == 8


def test_where_all_states_are_damaged_nothing_is_restored(folder):
    for path in folder.glob("*.index"):
        path.write_bytes(b"")
    training = Training(folder)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="all checkpoints in"):
        training.checkpoints.restore(training.model)


def test_without_states_training_begins(tmp_path):
    training = Training(tmp_path / "none")
    assert training.checkpoints.restore(training.model) == 0


@pytest.mark.parametrize("name", ["a[1]", "back\\slash", " *?%#{ü}"])
def test_a_state_is_restored_from_any_path_that_the_file_system_takes(tmp_path, name):
    Training(tmp_path / name).train(2)
    training = Training(tmp_path / name, seed=1)
    assert training.checkpoints.restore(training.model) == 2


def refused_by(folder, units, optimizer, **variables):
    """What is said when a model tries to take the state in a folder."""
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(units)])
    model.compile(optimizer, "mse")
    with pytest.raises(ValueError) as refusal:
        Checkpoints(folder, variables).restore(model)
    return str(refusal.value)


def test_what_keeps_a_state_from_being_the_model_s_is_told(folder):
    averaging = keras.optimizers.Adam(use_ema=True)
    assert re.search(
        r"another model, .*: .*kernel.* has the shape \(3, 2\) and is float32 there, \(3, 5\)",
        refused_by(folder, 5, averaging),
    )
    assert re.search(r"it has \d+ variables, .* have \d+$", refused_by(folder, 2, "sgd"))
    averaging = keras.optimizers.Adam(use_ema=True)
    said = refused_by(folder, 2, averaging, count=tf.Variable(0))
    assert said.endswith("written with other `variables` than ['count']")


def test_a_state_that_cannot_be_read_is_not_called_that_of_another_model(folder, monkeypatch):
    def fail(prefix):
        raise tf.errors.UnavailableError(None, None, f"{prefix}; Input/output error")

    monkeypatch.setattr(tf.train, "load_checkpoint", fail)
    training = Training(folder)
    with pytest.raises(OSError, match="step-000000010 cannot be read: Input/output error"):
        training.checkpoints.restore(training.model)


def test_other_variables_are_kept_too(tmp_path):
    count = tf.Variable(0)
    training = Training(tmp_path, variables={"count": count})
    count.assign(7)
    training.train(2)
    count.assign(0)
    training.checkpoints.restore(training.model)
    assert int(count) == 7


def test_a_model_that_was_not_compiled_cannot_be_restored(tmp_path):
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="must be compiled"):
        Checkpoints(str(tmp_path)).restore(model)
