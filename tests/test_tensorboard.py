"""What TensorBoard is told about a run."""

import pytest
import tensorflow as tf
from runs import events, flags_of
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from ntm_keras.callbacks.events import EventLog
from tasks import TASKS, task_class
from training import Settings, tensorboard


def test_runs_are_compared_by_what_differs_from_the_task_s_settings():
    settings = Settings.from_flags({**flags_of("--task=copy"), "learning_rate": 0.5, "seed": 7})
    assert tensorboard.compared(settings) == {
        "task": "copy",
        "model": "ntm",
        "seed": 7,
        "learning_rate": 0.5,
    }


def test_flags_that_mean_nothing_to_the_model_are_not_compared():
    found = tensorboard.compared(Settings(task="copy", model="lstm", rnn_size=7, lstm_units=9))
    assert "rnn_size" not in found and found["lstm_units"] == 9


def test_runs_have_their_folder_s_name_in_the_table(tmp_path):
    logdir = str(tmp_path / "mine")
    tensorboard.write_settings(logdir, Settings(task="copy"))
    (path,) = (tmp_path / "mine").iterdir()
    for record in tf.data.TFRecordDataset(str(path)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                told = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    assert told.session_start_info.group_name == logdir


def test_a_run_that_continues_forgets_what_came_after_its_checkpoint(tmp_path):
    for folder in ("train", "validation", "size_20"):
        with EventLog(tmp_path / folder).writing():
            for step in (1, 2, 3):
                tf.summary.scalar("loss", 0.5, step=step)
    tensorboard.forget_events_after(str(tmp_path), 2)
    for folder in ("train", "validation", "size_20"):
        assert [step for _, step, _ in events(tmp_path / folder)] == [1, 2]


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"omniglot"}))
def test_measures_are_explained(name):
    task = task_class(name)()
    explained = tensorboard.descriptions(task)
    assert {"loss", *(each.name for each in task.measures())} == explained.keys()
    assert all(explained.values())
