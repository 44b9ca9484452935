"""The settings of a run, as Python makes them."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from runs import ROOT

from ntm_keras import controllers, initial_state, mann, ntm
from tasks import TASKS
from tasks.copy import Copy
from tasks.fields import limit
from training import BadInput, Settings
from training.settings import MACHINE, MANN, NTM


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"task": "sorting"}, "task must be one of .*'copy'.*Received: 'sorting'"),
        ({"task": Copy}, "task must be one of .*Received: <class"),
        ({"rnn_size": 0}, "rnn_size must be a whole number from 1 to 100000. Received: 0"),
        ({"rnn_size": 1.5}, "rnn_size must be a whole number .*Received: 1.5"),
        ({"seed": True}, "seed must be a whole number .*Received: True"),
        ({"rnn_size": Copy()}, "rnn_size must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0. Received: 0"),
        ({"learning_rate": "fast"}, "learning_rate must be .*Received: 'fast'"),
        ({"ema_momentum": float("nan")}, "ema_momentum must be .*less than 1. Received: nan"),
        ({"clip_norm": None}, "clip_norm must be .*Received: None"),
        ({"xla": "yes"}, "xla must be True or False. Received: 'yes'"),
        ({"model": ["ntm"]}, "model must be one of"),
        ({"clip_norm": 1, "clip_value": 2}, "clip_norm and clip_value .*clip_value=2"),
        ({"shift_range": 64}, "memory_size. Received: shift_range=64, memory_size=128"),
        ({"model": "mann", "head_num": 9, "memory_size": 8}, "head_num=9, memory_size=8"),
        (
            {"learning_rate_end": 1e-2, "learning_rate_steps": 9},
            "learning_rate_end must be at most learning_rate",
        ),
        ({"learning_rate_end": 1e-4}, "learning_rate_end must be .* 0 without learning_rate_steps"),
        ({"weight_noise_end": 0.1}, "weight_noise_end must be at most weight_noise"),
        ({"input_noise": -1.0}, "input_noise must be a finite number, 0 or above. Received: -1.0"),
        (
            {"training_memory_size": 2, "memory_initializer": "constant"},
            "training_memory_size must be 0, or at least 3. Received: training_memory_size=2",
        ),
        ({"training_memory_size": 9}, "must be 0 where the initial memory is learned"),
        (
            {"head_initializer": "by_location", "shift_range": 0},
            "head_initializer=by_location is only for heads that can shift",
        ),
        (
            {"weight_noise": 0.1, "distribution_strategy": "mirrored"},
            "weight_noise must be 0 where distribution_strategy",
        ),
        ({"eval_sizes": "10,ten"}, "eval_sizes=10,ten: .*'ten'"),
        ({"task": "omniglot"}, "omniglot must name folders"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong, said):
    with pytest.raises(ValueError, match=said):
        Settings(**wrong)


@pytest.mark.parametrize("name", ["steps", "logdir", "flagfile"])
def test_a_task_with_a_limit_of_the_name_of_another_flag_is_refused(name):
    limits = {name: limit(5, "Steps."), "__annotations__": {name: int}}
    Clash = dataclasses.dataclass(frozen=True)(type("Clash", (Copy,), limits))
    with pytest.raises(BadInput, match=f"name of another flag. Received: {name} in Clash"):
        Settings(task=Clash())


def test_a_task_of_a_class_that_is_not_in_the_table_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Mine(Copy):
        pass

    with pytest.raises(ValueError, match="task must be of a class in the table .*of Mine"):
        Settings(task=Mine())


def test_a_task_is_given_by_its_name_or_with_limits_of_its_own():
    assert Settings().made_task == Settings(task="copy").made_task == Copy()
    settings = Settings(task=Copy(max_length=4))
    assert settings.made_task.max_length == 4 and settings.task_name == "copy"


def test_a_memory_in_training_is_never_larger_than_the_machine_s():
    def locations(**sizes):
        return Settings(memory_initializer="constant", **sizes).memory_size_in_training

    assert locations(memory_size=16) == 16
    assert locations(memory_size=16, training_memory_size=9) == 9
    assert locations(memory_size=16, training_memory_size=24) == 16
    assert locations(memory_size=16, training_memory_size=9, model="lstm") == 16


def test_what_an_ntm_s_heads_cannot_do_is_no_matter_to_other_models():
    for model in ("mann", "lstm"):
        assert Settings(model=model, head_initializer="by_location", addressing_mode="content")


def test_numbers_of_numpy_are_settings_too():
    settings = Settings(steps=np.int64(3), learning_rate=np.float32(0.5))
    assert (type(settings.steps), type(settings.learning_rate)) == (int, float)


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"omniglot"}))
def test_flags_make_the_same_settings_again(name):
    flags = Settings(task=name, steps=7, solved_below=0.5).as_flags()
    assert flags["task"] == name and flags["steps"] == 7
    assert Settings.from_flags(flags).as_flags() == flags


def test_what_no_program_needs_yet_is_not_imported():
    command = "import sys, training; training.Settings(); print('tensorflow' in sys.modules)"
    printed = subprocess.check_output([sys.executable, "-c", command], cwd=ROOT, text=True)
    assert printed == "False\n"


def test_the_choices_are_those_of_the_library():
    library = {
        "controller": controllers.CONTROLLERS,
        "addressing_mode": ntm.ADDRESSING_MODES,
        "memory_initializer": initial_state.MEMORY_INITIALIZERS,
        "weighting_initializer": initial_state.WEIGHTING_INITIALIZERS,
        "head_initializer": ntm.HEAD_INITIALIZERS,
        "output_source": ntm.OUTPUT_SOURCES,
        "write_order": ntm.WRITE_ORDERS,
        "k_strategy": mann.K_STRATEGIES,
    }
    machine = (MACHINE, NTM, MANN)
    choices = {
        field.name: field.metadata["allowed"]
        for field in dataclasses.fields(Settings)
        if field.metadata["kind"] == "choice" and field.metadata["group"] in machine
    }
    assert choices == {name: list(names) for name, names in library.items()}


@pytest.mark.parametrize(
    "sequences, parts", [(8, 16), (2048, 16), (2049, 8), (4096, 8), (10**5, 1)]
)
def test_the_test_that_ends_a_training_is_at_most_as_large_as_is_worth_it(sequences, parts):
    assert Settings(eval_sequences=sequences).test_parts == parts
