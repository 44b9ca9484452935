"""The machines that come with the project."""

import configparser
import json
import re
import warnings
import zipfile

import little_omniglot
import numpy as np
import pytest
import tensorflow as tf
from runs import ROOT, flags_of

import ntm_keras  # noqa: F401  registers what the machines are made of
from ntm_keras.keras_compat import IS_KERAS_2, keras
from tasks import TASKS, task_class

FOLDERS = sorted(path.parent.name for path in (ROOT / "pretrained").glob("*/model.keras"))

of_keras_3 = pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 does not read files of Keras 3")


def measured(name, task):
    """What the trained machine makes of the measure that says whether the task is solved."""
    model = keras.models.load_model(str(ROOT / "pretrained" / name / "model.keras"))
    answer = tf.function(model)
    (measure,) = (each for each in task.measures() if each.name == task.solved_measure)
    for inputs, targets, mask in task.test(7, 128, 64, seed=7):
        measure.update_state(targets, answer(inputs), mask)
    return float(measure.result())


def test_there_is_one_for_each_of_the_papers_tasks_and_for_omniglot():
    papers = ("copy", "repeat_copy", "associative_recall", "dynamic_ngrams", "priority_sort")
    assert {*papers, "omniglot"} <= set(FOLDERS) <= set(TASKS)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_oldest_keras_wrote_them_so_that_every_newer_one_reads_them(name):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    oldest = re.search(r"keras >= (\S+)", setup["options"]["install_requires"]).group(1)
    with zipfile.ZipFile(ROOT / "pretrained" / name / "model.keras") as file:
        written_by = json.loads(file.read("metadata.json"))["keras_version"]
    assert written_by.startswith(f"{oldest}.")


@pytest.mark.parametrize("name", FOLDERS)
def test_they_were_trained_with_the_settings_of_their_tasks(name):
    trained, shipped = (
        {**flags_of(argument), "seed": 0, "omniglot": None}
        for argument in (f"--flagfile={ROOT / 'pretrained' / name / 'flags.cfg'}", f"--task={name}")
    )
    assert trained == shipped


@of_keras_3
@pytest.mark.parametrize("name", FOLDERS)
def test_they_take_a_batch_without_a_warning(name):
    model = keras.models.load_model(str(ROOT / "pretrained" / name / "model.keras"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in (
            tf.zeros([2, 3, model.input_shape[-1]]),
            np.zeros([2, 3, model.input_shape[-1]]),
        ):
            assert model(batch).shape[:2] == (2, 3)


@of_keras_3
@pytest.mark.parametrize("name", sorted(set(FOLDERS) - {"omniglot"}))
def test_they_solve_their_tasks(name):
    task = task_class(name)()
    # The limit holds for the mean of many more.
    assert measured(name, task) < 1.2 * task.solved_below


@of_keras_3
def test_that_of_copy_gives_the_answers_with_which_other_backends_are_compared():
    model = keras.models.load_model(str(ROOT / "pretrained" / "copy" / "model.keras"))
    said = np.load(ROOT / "tests" / "copy_answers.npz")
    np.testing.assert_allclose(tf.sigmoid(model(said["inputs"])), said["answers"], atol=1e-5)


@of_keras_3
def test_that_of_omniglot_names_most_drawings_even_of_random_shapes(tmp_path):
    task = task_class("omniglot")(omniglot=str(little_omniglot.write(tmp_path)))
    by_chance = 0.8
    assert measured("omniglot", task) < by_chance / 2


@pytest.mark.parametrize("name", FOLDERS)
def test_their_flags_are_still_known(name):
    assert flags_of(f"--flagfile={ROOT / 'pretrained' / name / 'flags.cfg'}")["task"] == name
