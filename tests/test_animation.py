"""A machine at work, step by step."""

from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from ntm_keras import NTMCell, trace
from ntm_keras.animation import animate_trace


@pytest.fixture
def moving(random):
    inputs = random.normal(size=(1, 5, 3)).astype("float32")
    found = trace(NTMCell(6, 8, 4, 2, 1), inputs)
    return found, animate_trace(found, inputs, np.ones([1, 5, 2]), np.ones([1, 5]))


def test_every_step_is_a_frame(moving, tmp_path):
    path = tmp_path / "machine.gif"
    moving[1].save(path, writer="pillow")
    assert Image.open(path).n_frames == 5


def test_the_memory_is_that_after_the_step_and_later_steps_are_hidden(moving):
    found, animation = moving
    figure = animation._fig
    axes = {each.get_title(loc="left").split(":")[0]: each for each in figure.axes}
    for step in (3, 1):
        animation._func(step)
        shown = axes["Memory"].images[0].get_array()
        np.testing.assert_array_equal(shown, np.asarray(found.memory)[0, step])
        reads = axes["Read"].images[0].get_array()
        np.testing.assert_array_equal(reads, np.asarray(found.read_weightings)[0, step].T)
        (cover,) = axes["Inputs"].patches
        assert cover.get_x() == step + 1.5  # The columns are numbered from 1 on.
    animation._draw_was_started = True  # Otherwise it warns that it was never shown.


def test_a_trace_without_memory_is_refused():
    class Trace(NamedTuple):
        write_weightings: np.ndarray

    with pytest.raises(ValueError, match="must have the field `memory`. Received: a `Trace`"):
        animate_trace(Trace(np.zeros([1, 5, 1, 8])), np.zeros([1, 5, 3]), np.zeros([1, 5, 3]))
