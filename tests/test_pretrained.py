"""The machines that come with the project."""

import pytest
import tensorflow as tf
from test_train import ROOT, flags_of

import ntm_keras  # noqa: F401  registers what the machines are made of
from ntm_keras.keras_compat import IS_KERAS_2, keras
from tasks import TASKS, task_class

FOLDERS = sorted(path.parent.name for path in (ROOT / "pretrained").glob("*/model.keras"))


def test_there_is_one_for_every_task():
    assert set(FOLDERS) == set(TASKS) - {"omniglot"}


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 does not read files of Keras 3")
@pytest.mark.parametrize("name", FOLDERS)
def test_they_solve_their_tasks(name):
    folder = ROOT / "pretrained" / name
    model = keras.models.load_model(str(folder / "model.keras"))
    answer = tf.function(model)
    task = task_class(name)()
    (measure,) = (each for each in task.measures() if each.name == task.solved_measure)
    for inputs, targets, mask in task.test(7, 128, 64, seed=7):
        measure.update_state(targets, answer(inputs), mask)
    # The limit holds for the mean of many more.
    assert float(measure.result()) < 1.2 * task.solved_below


@pytest.mark.parametrize("name", FOLDERS)
def test_their_flags_are_still_known(name):
    assert flags_of(f"--flagfile={ROOT / 'pretrained' / name / 'flags.cfg'}")["task"] == name
