import copy
import dataclasses
import functools
import itertools
import pathlib
import pickle
import subprocess
import sys

import little_omniglot
import numpy as np
import pytest
import tensorflow as tf

from tasks import TASKS, task_class
from tasks.copy import Copy
from tasks.task import Task, limit
from training import models

EVERY_TASK = pytest.mark.parametrize("name", TASKS)
NEEDS_FILES = {"omniglot"}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """The task of a name, with its own defaults; made once, as its graphs take long."""
    folder = little_omniglot.write(tmp_path_factory.mktemp("omniglot"))

    @functools.cache
    def make(name):
        return task_class(name)(**({"omniglot": str(folder)} if name == "omniglot" else {}))

    return make


@pytest.mark.parametrize(
    "name, limits, said",
    [
        ("copy", {"bits": 0}, "bits must be a whole number from 1 to"),
        ("associative_recall", {"min_items": 1}, "min_items must be a whole number from 2 to"),
        ("repeat_copy", {"max_length": 2.5}, "max_length must be .* Received: 2.5"),
        ("omniglot", {"labels": "roman"}, "labels must be one of .* Received: 'roman'"),
    ],
)
def test_a_limit_out_of_its_bounds_is_refused(name, limits, said):
    with pytest.raises(ValueError, match=said):
        task_class(name)(**limits)


@pytest.mark.parametrize("name", ["largest_size", "input_width", "generate", "small_size"])
def test_a_task_that_lacks_something_is_refused_when_it_is_made(name):
    missing = {name: getattr(Task, name, None)}
    with pytest.raises(TypeError, match=f"HalfTask must define `{name}`"):
        type("HalfTask", (task_class("copy"),), missing)()


def test_a_task_that_is_not_decorated_is_refused_by_name():
    class PlainTask(task_class("copy")):
        longest: int = limit(4, "Longest sequence.")

    with pytest.raises(TypeError, match="PlainTask must be decorated by `@dataclass"):
        PlainTask()


def test_a_field_of_a_task_that_is_no_limit_is_refused_by_name():
    @dataclasses.dataclass(frozen=True)
    class OddTask(task_class("copy")):
        extra: int = 4

    with pytest.raises(TypeError, match="OddTask.extra must be made by `limit`.* extra=4"):
        OddTask()


def changed(**methods):
    """The copy task with other methods."""
    return dataclasses.dataclass(frozen=True)(type("OddTask", (Copy,), methods))(max_length=4)


def without_mask(task, sizes, seed):
    return Copy.generate(task, sizes, seed)[:2]


def with_a_mask_of_booleans(task, sizes, seed):
    inputs, targets, mask = Copy.generate(task, sizes, seed)
    return inputs, targets, mask > 0


def with_its_targets_twice(task, sizes, seed):
    inputs, targets, mask = Copy.generate(task, sizes, seed)
    return inputs, tf.concat([targets, targets], axis=-1), mask


@pytest.mark.parametrize(
    "generate", [without_mask, with_a_mask_of_booleans, with_its_targets_twice]
)
def test_a_task_that_draws_other_than_its_tensors_is_refused_by_name(generate):
    with pytest.raises(TypeError, match=r"OddTask.generate must return .*\(batch, time, 8\)"):
        changed(generate=generate).training(2, seed=0)


def test_sequences_that_are_longer_than_the_longest_are_refused_by_name():
    task = changed(steps_of=lambda task, size: 2 * size)
    sort = type("OddSort", (task_class("priority_sort"),), {"steps_of": lambda task, size: 5})
    with pytest.raises(ValueError, match="OddSort.generate gave more steps than `longest_time`"):
        dataclasses.dataclass(frozen=True)(sort)().training(2, seed=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="OddTask.generate gave more steps"):
        numbers(task.training(64, seed=0, mix_lengths=True), 1)


def numbers(dataset, count):
    return [[t.numpy() for t in batch] for batch in itertools.islice(iter(dataset), count)]


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        for tensor, another in zip(batch, other):
            np.testing.assert_array_equal(tensor, another)


def sizes_of(task):
    return [size for _, size in task.sizes(task.default_eval_sizes)]


@EVERY_TASK
def test_batches_are_a_function_of_seed_and_number(name, make):
    task = make(name)
    first = numbers(task.training(4, seed=3), 5)
    assert_same(first, numbers(task.training(4, seed=3), 5))
    assert_same(first[2:], numbers(task.training(4, seed=3, first_step=2), 3))


def test_a_task_that_has_drawn_can_be_copied_and_pickled():
    task = task_class("copy")(max_length=3)
    list(task.validation(1, 1, seed=0))
    assert pickle.loads(pickle.dumps(task)) == copy.deepcopy(task) == task


@EVERY_TASK
def test_other_seeds_and_other_streams_draw_other_sequences(name, make):
    task = make(name)
    datasets = [
        task.training(64, seed=0, mix_lengths=True),
        task.training(64, seed=1, mix_lengths=True),
        task.validation(64, 64, seed=0),
        task.validation(64, 64, seed=1),
        task.test(0, 64, 64, seed=0),
        task.test(1, 64, 64, seed=0),
    ]
    drawn = {numbers(dataset, 1)[0][0].tobytes() for dataset in datasets}
    assert len(drawn) == len(datasets)


@EVERY_TASK
def test_draws_of_the_test_set_do_not_overlap(name, make):
    task = make(name)
    inputs = [
        batch[0].tobytes() for draw in range(3) for batch in numbers(task.test(draw, 8, 4, 0), 9)
    ]
    assert len(set(inputs)) == len(inputs) == 6


@EVERY_TASK
@pytest.mark.parametrize("mix_lengths", [False, True])
def test_all_training_batches_have_one_shape(name, mix_lengths, make):
    task = make(name)
    dataset = task.training(2, seed=0, mix_lengths=mix_lengths)
    for spec in dataset.element_spec:
        assert spec.shape[:2] == (2, task.longest_time)


@EVERY_TASK
def test_shapes_are_those_that_the_task_tells(name, make):
    task = make(name)
    datasets = [
        task.training(4, seed=0),
        task.validation(8, 4, seed=0),
        task.test(0, 8, 4, seed=0),
        task.evaluation(sizes_of(task)[0], 8, 4, seed=0),
    ]
    for dataset in datasets:
        inputs, targets, mask = dataset.element_spec
        assert [spec.dtype.name for spec in (inputs, targets, mask)] == ["float32"] * 3
        assert inputs.shape.as_list()[::2] == [4, task.input_width]
        assert targets.shape.as_list()[::2] == [4, task.output_width]
        assert mask.shape.as_list()[0] == 4
        (found, _, found_mask) = numbers(dataset, 1)[0]
        assert found.shape[:2] == found_mask.shape


def test_no_thread_that_tunes_a_pipeline_is_waited_for_when_an_iterator_ends(make):
    task = make("copy")
    for dataset in (
        task.training(4, seed=0),
        task.validation(8, 4, seed=0),
        task.evaluation(sizes_of(task)[0], 8, 4, seed=0),
        models.with_steps(task.training(4, seed=0)),
    ):
        assert not dataset.options().autotune.enabled


@EVERY_TASK
def test_finite_pipelines_have_at_least_the_sequences_asked_for(name, make):
    task = make(name)
    for dataset in (
        task.validation(10, 4, seed=0),
        task.test(7, 10, 4, seed=0),
        task.evaluation(sizes_of(task)[0], 10, 4, seed=0),
    ):
        assert len(list(dataset)) == 3


@EVERY_TASK
def test_every_sequence_asks_for_an_answer(name, make):
    for _, _, mask in numbers(make(name).training(8, seed=0), 5):
        assert set(np.unique(mask)) <= {0, 1}
        assert mask.sum(axis=1).min() > 0


@pytest.mark.parametrize("name", [name for name in TASKS if name != "dynamic_ngrams"])
def test_there_are_no_targets_where_nothing_is_asked(name, make):
    for _, targets, mask in numbers(make(name).training(8, seed=0), 5):
        assert not targets[mask == 0].any()


@EVERY_TASK
def test_the_largest_size_is_as_long_as_the_training_batches(name, make):
    task = make(name)
    (batch,) = numbers(task.evaluation(task.largest_size, 2, 2, seed=0), 1)
    assert batch[0].shape[1] == task.longest_time


def test_a_limit_may_be_numpy_s_and_is_no_truth_value():
    assert task_class("copy")(bits=np.int64(3)).input_width == 4
    with pytest.raises(ValueError, match="bits must be a whole number .* Received: True"):
        task_class("copy")(bits=True)


def test_a_field_of_text_is_a_string():
    with pytest.raises(ValueError, match="omniglot must be a string. Received: PurePosixPath"):
        task_class("omniglot")(omniglot=pathlib.PurePosixPath("drawings"))


def test_tasks_know_when_they_are_solved():
    wrong, cost = "wrong_bits_per_sequence", "cost_bits_per_sequence"
    found = {
        name: (task_class(name).solved_measure, task_class(name).solved_below) for name in TASKS
    }
    expected = {
        "copy": (wrong, 0.01),
        "repeat_copy": (wrong, 0.1),
        "associative_recall": (wrong, 0.01),
        "dynamic_ngrams": ("excess_cost_bits_per_sequence", 0.7),
        "priority_sort": (cost, 18),
        "omniglot": ("later_error", 0.08),
    }
    assert found == {**found, **expected}


@EVERY_TASK
def test_a_task_is_solved_by_one_of_its_measures(name, make):
    task = make(name)
    assert task.solved_measure in [measure.name for measure in task.measures()]


@EVERY_TASK
def test_sequences_of_a_size_have_the_steps_that_the_task_tells(name, make):
    task = make(name)
    for _, size in task.sizes(task.default_eval_sizes):
        (batch,) = numbers(task.evaluation(size, 2, 2, seed=0), 1)
        assert batch[0].shape[1] == task.steps_of(size)


@EVERY_TASK
def test_a_sequence_of_any_size_is_drawn_beside_larger_ones(name, make):
    task = make(name)
    large = task.largest_size
    ((_, small),) = task.sizes(task.small_size)
    steps = task.steps_of(small)
    inputs, targets, mask = (
        each.numpy() for each in task.generate(tf.constant([small, large]), tf.constant([1, 2]))
    )
    assert inputs.shape[1] == task.steps_of(large)
    assert mask[0, steps - 1] == 1 and not mask[0, steps:].any()
    assert not targets[0, steps:].any() and not inputs[0, steps:].any()


def test_tasks_know_how_many_vectors_have_to_be_remembered(make):
    expected = {
        "copy": 20,
        "repeat_copy": 10,
        "associative_recall": 18,
        "dynamic_ngrams": 32,
        "priority_sort": 20,
        "omniglot": 5,
    }
    for name, vectors in expected.items():
        task = make(name)
        assert task.vectors_to_remember(task.largest_size) == vectors, name


def test_tasks_are_known_before_tensorflow_is_imported():
    load = "classes = {name: tasks.task_class(name) for name in tasks.TASKS}"
    make = f"[classes[name]() for name in classes if name not in {NEEDS_FILES}]"
    command = f"import sys, tasks; {load}; {make}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
