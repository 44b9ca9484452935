import contextlib
import gc
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

# Tracing makes so many objects that looking for garbage among them takes a sixth of the time.
gc.set_threshold(200_000, 20, 20)

# Files of tests of what Keras 2 does not change: there they would only be repeated.
WITHOUT_KERAS = [
    *("addressing", "memory", "heads", "invariants", "pictures", "animation"),
    *("task", "copy", "repeat_copy", "associative_recall", "dynamic_ngrams", "priority_sort"),
    *("omniglot", "drawings", "settings", "command_line", "command_line_page", "bad_input"),
    *("paper_configs", "run_folder", "curves", "picture", "results", "seeds", "waiting", "gpu"),
]
# The only files that run on JAX or PyTorch.
ON_ANOTHER_BACKEND = {
    "jax": ("contract", "backends", "snowkylin", "resume", "noise", "distribution"),
    "torch": ("contract", "backends", "snowkylin"),
}
# Files of long runs, which reach little of Keras that others do not.
LONG_RUNS = ("run", "resume", "distribution", "examples", "documentation", "numbers")
# Files that take longest. They begin first, so that no core waits for them at the end.
FIRST = ("contract", "run", "resume", "notebooks", "train", "loop", "distribution")


def files_named(names):
    return [f"test_{name}.py" for name in names]


def is_keras_2():
    """Asked for late: a process that only hands out tests need not import TensorFlow."""
    from ntm_keras.keras_compat import IS_KERAS_2

    return IS_KERAS_2


def pytest_ignore_collect(collection_path):
    chosen = ON_ANOTHER_BACKEND.get(os.environ.get("KERAS_BACKEND", ""))
    if chosen and collection_path.is_file():
        return True if collection_path.name not in files_named(chosen) else None
    return True if collection_path.name in files_named(WITHOUT_KERAS) and is_keras_2() else None


def compile_less_on_jax(config):
    """What one process has compiled, the others take from a folder."""
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Small programs: to optimize them takes longer than to run them. JAX's own tests do the same.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


def pytest_configure(config):
    """Two devices, for what they share: they must be made before anything runs on them."""
    config.option.loadscopereorder = False  # pytest-xdist would begin with the most tests.
    if os.environ.get("KERAS_BACKEND") == "jax" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compile_less_on_jax(config)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    if os.environ.get("KERAS_BACKEND") == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", 2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in files_named(FIRST))
    for item in items if is_keras_2() else []:
        if item.path.name in files_named(LONG_RUNS):
            item.add_marker(pytest.mark.slow)
        if item.name == "ntm_keras.side_by_side.SideBySide":
            item.add_marker(pytest.mark.skip(reason="Keras 2 runs every layer in its own loop"))


@pytest.fixture(autouse=True)
def seeded():
    from ntm_keras.keras_compat import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def iterators_end_at_once():
    """No dataset is tuned: an iterator's end may wait for the tuning thread, up to a minute."""
    import tensorflow as tf

    original = tf.data.Dataset.__iter__

    def iterate(dataset):
        options = tf.data.Options()
        options.autotune.enabled = False
        return original(dataset.with_options(options) if tf.executing_eagerly() else dataset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", iterate)
        yield


@contextlib.contextmanager
def running_eagerly(is_eager):
    """Functions run eagerly, without being traced, or not."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(is_eager)
    yield
    tf.config.run_functions_eagerly(before)


@pytest.fixture(scope="module", autouse=True)
def eager_file(request):
    with running_eagerly(request.node.get_closest_marker("eager") is not None):
        yield


@pytest.fixture(autouse=True)
def eager_or_graph(request):
    marks = [mark.name for mark in request.node.iter_markers() if mark.name in ("eager", "graph")]
    with running_eagerly(marks[:1] == ["eager"]):
        yield


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    import tensorflow as tf

    import ntm_keras

    doctest_namespace.update(vars(ntm_keras), tf=tf, np=np)
