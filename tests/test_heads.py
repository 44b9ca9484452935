import numpy as np
import pytest
import slow_ntm

from ntm_keras import heads

SIZES = {"read_head_num": 2, "write_head_num": 1, "memory_vector_dim": 4, "shift_range": 1}


def split(projection):
    return heads.head_parameters(np.asarray(projection, np.float32), **SIZES)


def test_the_count_is_that_of_the_paper_s_machine():
    # 20 + 1 + 1 + 3 + 1 for each of two heads, and 2 x 20 for the write head.
    assert heads.parameter_count(1, 1, 20, 1) == 92


def test_heads_stand_one_after_another_and_write_vectors_last(random):
    # key 4, key strength, gate, shift 3, sharpening: ten numbers a head.
    projection = random.normal(size=(1, heads.parameter_count(**SIZES)))
    found = split(projection)
    for head in range(3):
        numbers = projection[0, 10 * head : 10 * head + 10]
        np.testing.assert_allclose(found.key[0, head], np.tanh(numbers[:4]), rtol=1e-5)
        np.testing.assert_allclose(
            found.key_strength[0, head], 10 * slow_ntm.sigmoid(numbers[4]), rtol=1e-5
        )
        np.testing.assert_allclose(
            found.interpolation_gate[0, head], slow_ntm.sigmoid(numbers[5]), rtol=1e-5
        )
        np.testing.assert_allclose(
            found.shift_weighting[0, head], slow_ntm.softmax(numbers[6:9]), rtol=1e-5
        )
        np.testing.assert_allclose(
            found.sharpening[0, head], 1 + np.log(1 + np.exp(numbers[9])), rtol=1e-5
        )
    np.testing.assert_allclose(
        found.erase_vector[0, 0], slow_ntm.sigmoid(projection[0, 30:34]), rtol=1e-5
    )
    np.testing.assert_allclose(found.add_vector[0, 0], np.tanh(projection[0, 34:]), rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_every_parameter_is_finite_and_in_its_range(random, scale):
    projection = scale * random.normal(size=(5, heads.parameter_count(**SIZES)))
    found = split(projection)
    for parameter in found:
        assert np.isfinite(parameter).all()
    assert np.abs(found.key).max() <= 1
    assert 0 <= np.min(found.key_strength) and np.max(found.key_strength) <= 10
    assert 0 <= np.min(found.interpolation_gate) and np.max(found.interpolation_gate) <= 1
    np.testing.assert_allclose(np.sum(found.shift_weighting, axis=-1), 1, rtol=1e-5)
    assert np.min(found.sharpening) >= 1
    assert 0 <= np.min(found.erase_vector) and np.max(found.erase_vector) <= 1
    assert np.abs(found.add_vector).max() <= 1
