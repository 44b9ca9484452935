from typing import NamedTuple

import numpy as np

from ntm_keras import NTMCell, pictures, trace


def test_a_heatmap_draws_one_block_of_equal_size_a_number():
    picture = pictures.heatmap(np.array([[0.0, 1.0], [1.0, 0.0]]), size=(8, 12))
    assert picture.shape == (8, 12, 3) and picture.dtype == np.uint8
    assert (picture[:4, :6] == picture[0, 0]).all() and (picture[:4, 6:] == picture[0, 6]).all()
    assert (picture[0, 0] != picture[0, 6]).any()


def test_a_heatmap_goes_from_the_first_colour_to_the_last_and_no_further():
    values = np.array([[-9.0, -1.0, 0.0, 1.0, 9.0]])
    picture = pictures.heatmap(values, -1, 1, ("#ff0000", "#000000", "#0000ff"), size=(1, 5))
    assert picture[0].tolist() == [[255, 0, 0], [255, 0, 0], [0, 0, 0], [0, 0, 255], [0, 0, 255]]


def test_a_number_never_gets_less_than_one_pixel():
    assert pictures.heatmap(np.zeros((300, 500)), size=(10, 10)).shape == (300, 500, 3)


def test_what_is_not_finite_can_be_drawn():
    assert pictures.heatmap(np.array([[np.nan, np.inf, -np.inf]]), size=(1, 3)).shape == (1, 3, 3)


def test_stacked_pictures_have_a_white_border_between():
    black = np.zeros((2, 3, 3), np.uint8)
    below = pictures.stack([black, black])
    assert below.shape == (8, 3, 3) and (below[2:6] == 255).all()
    assert pictures.stack([black, black], axis=1).shape == (2, 10, 3)


def test_weightings_are_drawn_locations_down_and_time_across(random):
    cell = NTMCell(6, 64, 4, 1, 1)
    found = trace(cell, random.normal(size=(1, 16, 5)).astype("float32"))
    weighting = np.zeros((1, 16, 1, 64))
    weighting[0, 3, 0, 10] = 1
    picture = pictures.draw_trace(found._replace(read_weightings=weighting))["read_weightings"]
    rows, columns = picture.shape[0] // 64, picture.shape[1] // 16
    bright = np.argwhere((picture != picture[0, 0]).any(axis=-1))
    assert (bright.min(axis=0) == [10 * rows, 3 * columns]).all()
    assert (bright.max(axis=0) == [11 * rows - 1, 4 * columns - 1]).all()


def test_everything_that_is_drawn_is_described():
    found = trace(NTMCell(6, 8, 4, 2, 1), np.zeros((1, 3, 5), "float32"))
    assert set(pictures.draw_trace(found)) == set(pictures.DESCRIPTIONS)


def test_target_output_and_error_stand_side_by_side_where_answers_count():
    targets = np.array([[[1.0], [0.0], [1.0]]])
    answers = np.array([[[0.0], [0.0], [1.0]]])
    picture = pictures.draw_answers(targets, answers, mask=np.array([[1, 0, 1]]))
    dark, bright = pictures.heatmap(np.array([[0.0, 1.0]]), size=(1, 2))[0].tolist()
    blue, white = (
        pictures.heatmap(np.array([[value]]), -1, 1, pictures.DIVERGING, (1, 1))[0, 0].tolist()
        for value in (-1.0, 0.0)
    )
    columns = [picture[0, x].tolist() for x in (0, 100, 200, 300, 400, 500)]
    assert picture.shape[:2] == (192, 3 * 192 + 2 * 4)
    assert columns == [bright, bright, dark, bright, blue, white]
    assert pictures.draw_answers(targets, answers, np.zeros([1, 3])).shape == picture.shape


def test_of_another_machines_trace_the_fields_that_it_has_are_drawn():
    class Trace(NamedTuple):
        read_weightings: np.ndarray
        memory: np.ndarray

    drawn = pictures.draw_trace(Trace(np.ones([1, 5, 2, 8]) / 8, np.zeros([1, 5, 8, 4])))
    assert set(drawn) == {"read_weightings", "memory"}
