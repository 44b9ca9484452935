"""A trace as a figure."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import NTMCell, pictures, trace

STEPS, LOCATIONS = 16, 64


def traced(random, read_heads=1, write_heads=1):
    cell = NTMCell(6, LOCATIONS, 4, read_heads, write_heads)
    return trace(cell, random.normal(size=(2, STEPS, 5)).astype("float32"))


def weighting(*places):
    """A weighting of one head, `(1, STEPS, 1, LOCATIONS)`, that is 1 at these (step, location)."""
    values = np.zeros((1, STEPS, 1, LOCATIONS))
    for step, location in places:
        values[0, step, 0, location] = 1
    return values


def panels_of(figure):
    """The title, the drawn numbers and the labels of the rows, of each panel of a figure."""
    return [
        (
            axes.get_title(loc="left"),
            np.ma.getdata(axes.images[0].get_array()),
            [label.get_text() for label in axes.get_yticklabels()],
        )
        for axes in figure.axes
        if axes.get_title(loc="left")
    ]


def test_time_runs_through_all_panels_from_what_is_shown_to_what_is_answered(random):
    bits = random.integers(0, 2, [2, STEPS, 3])
    figure = pictures.plot_trace(traced(random), bits, bits, 0.9 * bits)
    panels = panels_of(figure)
    assert [title.split(":")[0] for title, _, _ in panels] == [
        "Inputs",
        "Add vector, what the machine writes",
        "Write weighting, where it writes",
        "Read weighting, where it reads",
        "Read vector, what it reads",
        "Outputs",
        "Error",
    ]
    assert {values.shape[1] for _, values, _ in panels} == {STEPS}
    np.testing.assert_array_equal(panels[0][1], bits[0].T)
    np.testing.assert_allclose(panels[-1][1], -0.1 * bits[0].T)


def test_the_locations_between_those_that_are_used_are_shown(random):
    places = [(3, 10), (4, 14)]
    found = traced(random)._replace(
        read_weightings=weighting(*places), write_weightings=weighting((0, 12))
    )
    _, values, labels = panels_of(pictures.plot_trace(found))[2]
    assert labels == ["10", "14"]
    assert np.argwhere(values).tolist() == [[0, 3], [4, 4]]


def test_the_memory_is_a_ring(random):
    found = traced(random)._replace(
        read_weightings=weighting((3, 62), (4, 1)), write_weightings=weighting((0, 63))
    )
    assert pictures.used_locations(found).tolist() == [62, 63, 0, 1]


def test_a_machine_that_uses_no_location_shows_all(random):
    spread = np.full((1, STEPS, 1, LOCATIONS), 1 / LOCATIONS)
    found = traced(random)._replace(read_weightings=spread, write_weightings=spread)
    assert len(pictures.used_locations(found)) == LOCATIONS


def test_heads_are_lights_of_their_own_colours_in_one_panel(random):
    found = traced(random, read_heads=2)
    first, second = weighting((3, 10))[:, :, 0], weighting((4, 14))[:, :, 0]
    found = found._replace(
        read_weightings=np.stack([first, second], axis=2), write_weightings=weighting((0, 12))
    )
    figure = pictures.plot_trace(found)
    _, values, _ = panels_of(figure)[2]
    assert [tuple(np.round(values[row, step], 1)) for row, step in ((0, 3), (4, 4), (2, 5))] == [
        (1, 0.3, 0.2),
        (0.2, 0.9, 0.3),
        (0, 0, 0),
    ]
    legends = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert {"head 1", "head 2"} <= set(legends)


def test_vectors_of_several_heads_lie_below_each_other(random):
    found = traced(random, write_heads=3)
    _, values, labels = panels_of(pictures.plot_trace(found))[0]
    assert labels == ["head 1", "head 2", "head 3"]
    np.testing.assert_array_equal(values[4:8], np.asarray(found.add_vector)[0, :, 1].T)


def test_steps_without_an_answer_are_grey(random):
    bits, mask = np.ones([1, STEPS, 3]), np.zeros([1, STEPS])
    mask[0, 9:] = 1
    outputs, error = panels_of(pictures.plot_trace(traced(random), bits, bits, bits, mask))[-2:]
    for _, values, _ in (outputs, error):
        assert np.isnan(values).any(axis=0).tolist() == [True] * 9 + [False] * 7
    assert "grey" in outputs[0]


def test_signed_inputs_have_a_colour_bar_from_minus_one(random):
    values = np.zeros([1, STEPS, 3])
    values[0, 2, 1] = -0.5
    figure = pictures.plot_trace(traced(random), values)
    assert figure.axes[0].images[0].get_clim() == (-1, 1)


def test_a_model_without_a_memory_has_the_panels_of_its_sequence():
    bits = np.ones([1, STEPS, 3])
    titles = [title for title, _, _ in panels_of(pictures.plot_trace(None, bits, bits, bits))]
    assert [title.split(":")[0] for title in titles] == ["Inputs", "Outputs", "Error"]


def test_of_another_machines_trace_the_fields_that_it_has_are_drawn():
    class Trace(NamedTuple):
        read_weightings: np.ndarray
        memory: np.ndarray

    figure = pictures.plot_trace(Trace(np.ones([1, 5, 2, 8]) / 8, np.zeros([1, 5, 8, 4])))
    assert [title for title, _, _ in panels_of(figure)] == ["Read weighting, where it reads"]


def test_what_is_not_finite_can_be_drawn(random):
    found = traced(random)
    broken = found._replace(**{name: getattr(found, name) * np.nan for name in found._fields})
    assert pictures.as_image(pictures.plot_trace(broken)).dtype == np.uint8


def test_figures_of_one_machine_have_one_size_whatever_it_does(random):
    found = traced(random)
    few = found._replace(
        read_weightings=weighting((0, 1)), write_weightings=weighting((0, 1), (1, 2))
    )
    sizes = [pictures.as_image(pictures.plot_trace(each)).shape for each in (found, few)]
    assert sizes[0] == sizes[1] and sizes[0][2] == 3


@pytest.mark.parametrize("shape", [(1000, 8), (8, 1000)])
def test_no_number_is_left_out_where_there_are_more_than_pixels(shape):
    def drawn(values):
        panel = pictures.Panel("", values, "", height=1.5)
        return pictures.as_image(pictures.plot_panels([panel], steps=8)).tobytes()

    nothing = drawn(np.zeros(shape))
    for number in range(490, 500):
        values = np.zeros(shape)
        values[(number, 4) if shape[0] > shape[1] else (4, number)] = 1
        assert drawn(values) != nothing


def test_a_figure_without_panels_is_refused():
    with pytest.raises(ValueError, match=r"`panels` must hold a panel"):
        pictures.plot_panels([], steps=3)


@pytest.mark.parametrize("heads", [1, 2])
def test_what_was_finite_before_an_overflow_is_still_seen(random, heads):
    found = traced(random, heads, heads)
    weightings = np.array(found.read_weightings)
    weightings[:, 9:] = np.nan
    broken = found._replace(read_weightings=weightings)
    _, values, _ = panels_of(pictures.plot_trace(broken))[2]
    assert np.isfinite(values[:, :9]).all() and values[:, :9].any()
    assert np.shape(values)[0] == len(pictures.used_locations(broken))


def test_a_trace_in_half_precision_is_drawn(random):
    found = traced(random)
    half = found._replace(**{n: tf.cast(getattr(found, n), tf.bfloat16) for n in found._fields})
    first, second = (panels_of(pictures.plot_trace(each))[2][1] for each in (found, half))
    np.testing.assert_allclose(first, second, atol=0.01)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (dict(inputs=np.zeros([1, STEPS])), "`inputs` must have .*Received: inputs.shape=.1, 16."),
        (dict(inputs=np.zeros([1, 9, 3])), "with a time of 16. Received: inputs.shape=.1, 9, 3."),
        (dict(outputs=np.zeros([0, STEPS, 3])), "Received: outputs.shape=.0, 16, 3."),
        (dict(outputs=np.zeros([1, STEPS, 3]), mask=np.zeros([1, STEPS, 1])), "`mask` must have"),
        (dict(targets=np.zeros([1, STEPS, 3])), "`targets` needs `outputs`"),
    ],
)
def test_an_array_of_another_shape_is_refused(random, arguments, said):
    with pytest.raises(ValueError, match=said):
        pictures.plot_trace(traced(random), **arguments)


def test_there_must_be_something_to_draw():
    with pytest.raises(ValueError, match="must have one of the fields .* Received: a `tuple`"):
        pictures.plot_trace(())
    with pytest.raises(ValueError, match="`inputs` must have .* where there is no trace"):
        pictures.plot_trace(None)
