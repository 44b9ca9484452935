import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from ntm_keras.keras_compat import IS_KERAS_2, keras


def pytest_collection_modifyitems(items):
    for item in items:
        if IS_KERAS_2 and item.name == "ntm_keras.side_by_side.SideBySide":
            item.add_marker(pytest.mark.skip(reason="Keras 2 runs every layer in its own loop"))


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def eager_or_graph(request):
    """Runs tests marked `eager`, if they are not marked `graph`, without tracing graphs."""
    import tensorflow as tf

    is_marked = request.node.get_closest_marker
    is_eager = bool(is_marked("eager") and not is_marked("graph"))
    tf.config.run_functions_eagerly(is_eager)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    import tensorflow as tf

    import ntm_keras

    doctest_namespace.update(vars(ntm_keras), tf=tf, np=np)
