import little_omniglot
import numpy as np
import pytest
import tensorflow as tf
from batches import batch_of

from tasks.omniglot import Omniglot

PIXELS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(little_omniglot.write(tmp_path_factory.mktemp("omniglot")))


def task_of(folder, **options):
    return Omniglot(omniglot=folder, **{"classes": 3, "length": 12, **options})


def labels_of(targets):
    """The labels of an episode as tuples of numbers."""
    return [tuple(np.flatnonzero(target)) for target in targets]


def test_the_label_comes_a_step_late(folder):
    inputs, targets, mask = batch_of(task_of(folder).training(4, seed=0))
    assert inputs.shape == (4, 12, PIXELS + 3) and (mask == 1).all()
    assert not inputs[:, 0, PIXELS:].any()
    np.testing.assert_array_equal(inputs[:, 1:, PIXELS:], targets[:, :-1])


def test_a_drawing_s_brightest_pixel_is_1(folder):
    for dataset in (task_of(folder).training(4, 0), task_of(folder).evaluation(12, 4, 4, 0)):
        images = batch_of(dataset)[0][..., :PIXELS]
        np.testing.assert_allclose(images.max(axis=-1), 1, rtol=1e-6)
        assert images.min() >= 0


def test_uniform_episodes_show_every_class_equally_often(folder):
    _, targets, _ = batch_of(task_of(folder).training(16, seed=0))
    assert (targets.sum(axis=1) == 4).all()
    assert len({tuple(labels_of(episode)) for episode in targets}) == 16


def test_random_episodes_show_classes_as_chance_will(folder):
    _, targets, _ = batch_of(task_of(folder, sampling="random", length=60).training(16, seed=0))
    counts = targets.sum(axis=1)
    assert counts.min() < 20 < counts.max()
    assert targets.mean(axis=(0, 1)) == pytest.approx(1 / 3, abs=0.05)


def test_strings_are_five_characters_of_five_letters_other_ones_for_each_class(folder):
    task = task_of(folder, labels="five_hot")
    inputs, targets, _ = batch_of(task.training(16, seed=0))
    assert inputs.shape[-1] == PIXELS + 25
    assert (targets.reshape([16, 12, 5, 5]).sum(axis=-1) == 1).all()
    for episode in targets:
        assert len(set(labels_of(episode))) == 3
    letters = targets.reshape([-1, 5, 5]).mean(axis=0)
    assert letters.min() > 0.05 and letters.max() < 0.4


def test_no_drawing_comes_twice_before_all_of_its_character_came(folder):
    inputs, _, _ = batch_of(task_of(folder, length=36).evaluation(36, 4, 4, seed=0))
    for images in inputs[..., :PIXELS]:
        assert len(np.unique(images, axis=0)) == 36
    inputs, _, _ = batch_of(task_of(folder).evaluation(72, 4, 4, seed=0))
    for images in inputs[..., :PIXELS]:
        assert len(np.unique(images, axis=0)) == 36


def test_a_label_means_one_character_throughout_an_episode(folder):
    inputs, targets, _ = batch_of(task_of(folder).evaluation(12, 4, 4, seed=0))
    for images, episode in zip(inputs[..., :PIXELS], targets):
        alike = np.corrcoef(images)
        same = episode @ episode.T > 0
        assert alike[same].min() > alike[~same].max()


def test_characters_are_split_by_alphabet_and_every_part_is_told(folder):
    lines = task_of(folder).about().splitlines()
    assert [line.split(": ")[0] for line in lines] == ["test", "validation", "training"]
    counts = [int(line.split()[1]) for line in lines]
    assert counts == [6, 6, 12]
    told = [set(line.split(" of ")[1].split(", ")) for line in lines]
    assert set.union(*told) == set(little_omniglot.ALPHABETS) and sum(map(len, told)) == 4
    assert task_of(folder, length=20).about() == task_of(folder).about()


def test_the_characters_of_every_part_are_named(folder):
    parts = task_of(folder).data_names()
    assert {part: len(names) for part, names in parts.items()} == {
        "test": 6,
        "validation": 6,
        "training": 12,
    }
    names = [name for part in parts.values() for name in part]
    assert len(set(names)) == 24 and "Runes/character01" in names


def test_characters_may_be_split_without_regard_to_alphabets(folder):
    task = task_of(folder, split="characters", classes=2)
    parts = list(task._parts.values())
    assert [len(part) for part in parts] == [6, 2, 16]
    assert sorted(np.concatenate(parts)) == list(range(24))


def test_streams_show_the_characters_of_their_part(folder):
    task = task_of(folder)
    plain = {}  # Of every drawing as it is seen unchanged, the character.
    seen = tf.reshape(
        task._look(
            tf.constant(task._drawings.images)[np.newaxis], tf.zeros([1, 288], tf.int32), None
        ),
        [-1, PIXELS],
    ).numpy()
    for image, character in zip(seen, np.repeat(np.arange(24), 12)):
        plain[image.tobytes()] = character
    streams = {
        "validation": [task.validation(64, 64, 0), task.test(1, 64, 64, 0)],
        "test": [task.report(64, 64, 0), task.evaluation(12, 64, 64, 0)],
    }
    for part, datasets in streams.items():
        for dataset in datasets:
            images = batch_of(dataset)[0][..., :PIXELS].reshape([-1, PIXELS])
            shown = {plain[image.tobytes()] for image in images}
            assert shown == set(task._parts[part])


def test_in_training_a_character_is_turned_by_one_multiple_of_90_degrees_in_an_episode(folder):
    task = task_of(folder)
    # A bar from the middle to the right, in every drawing of one class.
    bar = np.zeros([1, 200, 35, 35], np.uint8)
    bar[:, :, 16:19, 17:32] = 255
    classes = tf.constant([[0, 1] * 100])
    images = task._look(tf.constant(bar), classes, tf.constant([1, 2]))
    images = images.numpy().reshape([200, 20, 20])
    rows, columns = np.mgrid[:20, :20] - 9.5
    mass = images.sum(axis=(1, 2))
    x, y = ((images * each).sum(axis=(1, 2)) / mass for each in (columns, rows))
    largest = 10 / 105 * 20
    for first in (0, 1):
        centre = np.array([x[first::2].mean(), y[first::2].mean()])
        angle = np.degrees(np.arctan2(*centre[::-1]))
        assert abs((angle + 45) % 90 - 45) < 5
        for values, middle in zip((x[first::2], y[first::2]), centre):
            assert np.abs(values - middle).max() < largest + 1
            assert np.abs(values - middle).max() > largest / 2


def test_it_can_be_learned_from_and_measured(folder):
    task = task_of(folder)
    names = [measure.name for measure in task.measures()]
    assert names == [f"accuracy_at_instance_{number:02}" for number in (1, 2, 3, 4)] + [
        "later_error"
    ]
    _, targets, mask = batch_of(task.training(4, seed=0))
    right, wrong = (float(task.loss()(targets, sign * 9 * targets, mask)) for sign in (1, -1))
    assert right < 0.01 < 1 < wrong


def test_an_episode_is_drawn_and_told(folder):
    task = task_of(folder, labels="five_hot")
    inputs, targets, mask = next(iter(task.evaluation(12, 2, 2, seed=0)))
    logits = targets.numpy() * 9
    logits[0, 3] = logits[0, 3, ::-1]
    figure = task.plot(inputs, targets, logits, mask)
    drawn = {axes.get_title(loc="left").split(",")[0]: axes for axes in figure.axes}
    shapes = {title: axes.images[0].get_array().shape for title, axes in drawn.items() if title}
    assert shapes == {
        "Drawings": (20, 12 * 20),
        "Labels": (5 * 5, 12),
        "Answers: the probability of each label": (5 * 5, 12),
    }
    lines = task.as_text(inputs, targets, tf.constant(logits), mask).splitlines()
    assert len(lines) == 2 + 12
    assert [line.endswith("wrong") for line in lines[2:]] == [step == 3 for step in range(12)]


def test_it_is_evaluated_at_its_own_length_where_nothing_else_is_said(folder):
    task = task_of(folder, length=20)
    assert task.sizes(task.default_eval_sizes) == [("20", 20)]


def test_sizes_to_evaluate_at_have_all_instances_and_no_drawing_twice(folder):
    task = task_of(folder)
    assert task.sizes("10,36") == [("10", 10), ("36", 36)]
    with pytest.raises(ValueError, match="of at least 10, .* Received: '9'"):
        task.sizes("9")
    with pytest.raises(ValueError, match="an episode of 37 needs 13 drawings"):
        task.sizes("37")
    assert task_of(folder, sampling="random").sizes("37") == [("37", 37)]


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"classes": 7},
            "classes=7 is more than the characters for test: they are 6 of 24, split by alphabets."
            " Give fewer classes, split=characters or drawings of more characters",
        ),
        (
            {"classes": 5, "split": "characters"},
            "for validation: .* fewer classes or drawings of more",
        ),
        ({"length": 61}, r"needs 13 drawings of each .* has 12; with sampling=random"),
        ({"length": 3, "classes": 3}, "length must be more than classes.*length=3, classes=3"),
        ({"omniglot": ""}, r"omniglot must name folders or zip files .*Received: omniglot=''"),
        ({"omniglot": " , "}, "omniglot must name folders or zip files"),
        ({"omniglot": "nowhere"}, "omniglot must name folders .*; nowhere does not exist"),
    ],
)
def test_what_makes_no_episode_is_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        Omniglot(**{"omniglot": folder, **options})
