"""Every file in examples/ runs, and shows what it says."""

import importlib.util

import pytest
from runs import ROOT, events

from ntm_keras.keras_compat import IS_KERAS_2


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_are_tested():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == {
        "add_two_numbers",
        "continue_training",
        "one_shot",
        "training_loop",
        "watch_memory",
    }


@pytest.mark.slow
def test_the_cell_in_an_rnn_layer_learns_to_add_two_numbers():
    always_one = 1 / 6
    assert example("add_two_numbers").main(epochs=8, count=4096) < always_one / 4


def test_a_training_loop_of_one_s_own_learns():
    assert example("training_loop").main(steps=60) == 1.0


@pytest.mark.slow
def test_one_callback_shows_the_memory_of_one_s_own_model(tmp_path):
    variance = 0.5
    assert example("watch_memory").main(str(tmp_path), epochs=1) < variance
    assert "machine" in {tag for tag, _, _ in events(tmp_path)}


@pytest.mark.slow
def test_a_mann_names_what_it_saw_once():
    by_chance = 2 / 3
    assert example("one_shot").main(steps=1000) < by_chance / 2


@pytest.mark.slow
@pytest.mark.skipif(IS_KERAS_2, reason="the trained machines are files of Keras 3")
def test_trained_weights_can_be_trained_on():
    before, after = example("continue_training").main()
    assert 0 <= after < before < 5
