import numpy as np
import pytest
import tensorflow as tf

from configs import run_folder
from ntm_keras import NoisyModel
from ntm_keras.callbacks import Checkpoints, ShowAveragedWeights, StopAfter
from ntm_keras.keras_compat import IS_KERAS_2, keras

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
        self.averages = None if optimizer else ShowAveragedWeights()
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
            callbacks=[
                *([self.averages] if self.averages else []),
                StopAfter(until),
                self.checkpoints,
            ],
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


def test_a_training_that_begins_anew_among_later_states_is_refused(folder):
    training = Training(folder)
    message = r"later step, unless it was restored. Received: .* which has one of step 10"
    with pytest.raises(ValueError, match=message):
        training.model.fit(INPUTS, TARGETS, callbacks=[training.checkpoints], verbose=0)


@pytest.mark.parametrize("xla", [False, True])
def test_a_training_that_goes_on_ends_like_one_that_never_stopped(tmp_path, xla):
    expected = Training(tmp_path / "whole", xla=xla).train(12)
    for seed, until in enumerate((2, 6, 12)):  # Another seed makes other weights to begin with.
        found = Training(tmp_path / "parts", seed, xla=xla).train(until)
    for each, other in zip(expected, found):
        np.testing.assert_array_equal(each, other)


def accumulating():
    return keras.optimizers.Adam(0.1, gradient_accumulation_steps=3)


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2's optimizers accumulate no gradients")
@pytest.mark.parametrize(
    "make_optimizer",
    [accumulating, lambda: keras.optimizers.LossScaleOptimizer(accumulating())],
    ids=["plain", "loss scale"],
)
def test_a_training_goes_on_where_it_was_while_it_accumulates_gradients(tmp_path, make_optimizer):
    expected = Training(tmp_path / "whole", optimizer=make_optimizer()).train(12)
    for seed, until in enumerate((2, 4, 12)):
        parts = Training(tmp_path / "parts", seed, optimizer=make_optimizer())
        found = parts.train(until)
    for each, other in zip(expected, found):
        np.testing.assert_array_equal(each, other)


@pytest.mark.skipif(not IS_KERAS_2, reason="Keras 3 has no legacy optimizers")
def test_a_training_with_a_legacy_optimizer_goes_on_too(tmp_path):
    def optimizer():
        return keras.optimizers.legacy.Adam(0.1, decay=0.1)

    expected = Training(tmp_path / "whole", optimizer=optimizer()).train(12)
    for seed, until in enumerate((2, 6, 12)):
        found = Training(tmp_path / "parts", seed, optimizer=optimizer()).train(until)
    for each, other in zip(expected, found):
        np.testing.assert_array_equal(each, other)


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
    with pytest.warns(UserWarning), pytest.raises(OSError, match="all checkpoints in"):
        training.checkpoints.restore(training.model)


def test_without_states_training_begins(tmp_path):
    training = Training(tmp_path / "none")
    assert training.checkpoints.restore(training.model) == 0


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
