"""A machine of one's own: `MemoryCell` and the layer around any cell."""

import inspect
import pickle
import typing
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import MANN, NTM, MANNCell, MemoryCell, MemoryLayer, NTMCell, trace, trace_model
from ntm_keras.keras_compat import keras

SIZES = {"rnn_size": 5, "memory_size": 6, "memory_vector_dim": 3}
NTM_SIZES = {**SIZES, "read_head_num": 1, "write_head_num": 1}
SEQUENCES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")


class StackState(NamedTuple):
    controller_state: list
    read_vectors: tf.Tensor
    memory: tf.Tensor


class StackStep(NamedTuple):
    outputs: tf.Tensor
    pushed: tf.Tensor
    state: StackState


@keras.utils.register_keras_serializable()
class StackCell(MemoryCell):
    """Pushes a vector in every step, and reads the whole memory's mean."""

    State = StackState

    @property
    def state_shapes(self):
        width = self.memory_vector_dim
        return {"read_vectors": (1, width), "memory": (self.memory_size, width)}

    @property
    def parameter_count(self):
        return self.memory_vector_dim

    @property
    def output_size(self):
        return self.rnn_size + self.read_width

    def initial_state(self, dtype):
        controller_state = [tf.zeros([size], dtype) for size in self.controller_state_size]
        return StackState(
            controller_state,
            *(tf.zeros(shape, dtype) for shape in self.state_shapes.values()),
        )

    def step(self, inputs, state):
        output, controller_state, pushed = self.run_controller(inputs, state)
        memory = tf.concat([pushed[:, tf.newaxis], state.memory[:, :-1]], axis=1)
        read_vectors = tf.reduce_mean(memory, axis=1, keepdims=True)
        return StackStep(
            self.with_reads(output, read_vectors),
            pushed,
            StackState(controller_state, read_vectors, memory),
        )


def test_a_cell_of_ones_own_runs_and_learns():
    model = keras.Sequential(
        [
            keras.Input([None, 4]),
            MemoryLayer(StackCell(**SIZES), return_sequences=True),
            keras.layers.Dense(4),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(SEQUENCES, SEQUENCES, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_its_layer_gives_what_keras_loop_gives():
    cell = StackCell(**SIZES)
    mask = tf.sequence_mask([2, 3])
    found = MemoryLayer(cell, return_sequences=True)(SEQUENCES, mask=mask)
    expected = keras.layers.RNN(cell, return_sequences=True)(SEQUENCES, mask=mask)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_its_trace_has_what_its_step_returns():
    cell = StackCell(**SIZES)
    steps = trace(cell, SEQUENCES)
    assert isinstance(steps, StackStep) and steps.pushed.shape == (2, 3, 3)
    np.testing.assert_allclose(
        steps.outputs, keras.layers.RNN(cell, return_sequences=True)(SEQUENCES), atol=1e-6
    )
    layer = MemoryLayer(cell, return_sequences=True, name="stack")
    outputs, traces = trace_model(keras.Sequential([layer]), SEQUENCES)
    np.testing.assert_allclose(traces["stack"].outputs, outputs, atol=1e-6)


@pytest.mark.parametrize(
    "cell",
    [StackCell(**SIZES), NTMCell(**NTM_SIZES, shift_range=2), MANNCell(**SIZES, head_num=2)],
    ids=lambda each: type(each).__name__,
)
def test_a_layer_around_a_cell_is_saved_with_it(cell, tmp_path):
    layer = MemoryLayer(cell, return_sequences=True, go_backwards=True)
    model = keras.Sequential([keras.Input([None, 4]), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1].cell) is type(cell)
    np.testing.assert_allclose(loaded(SEQUENCES), model(SEQUENCES), atol=1e-6)


def test_a_layer_that_makes_its_cell_cannot_be_saved_with_another():
    layer = NTM(**NTM_SIZES)
    layer.cell = StackCell(**SIZES)
    with pytest.raises(ValueError, match=r"`MemoryLayer\(cell\)` takes any other"):
        layer.get_config()


@pytest.mark.parametrize(
    "cell", [keras.layers.LSTMCell(4), NTM(**NTM_SIZES), None], ids=lambda each: type(each).__name__
)
def test_what_is_not_a_memory_cell_is_refused(cell):
    with pytest.raises(ValueError, match="`cell` must be a MemoryCell"):
        MemoryLayer(cell)
    with pytest.raises(ValueError, match="`cell` must be a MemoryCell"):
        NTM(**NTM_SIZES).cell = cell


def test_the_cell_of_a_layer_that_was_built_cannot_be_replaced():
    layer = NTM(**NTM_SIZES)
    layer(SEQUENCES)
    with pytest.raises(ValueError, match="only before the layer is built"):
        layer.cell = NTMCell(**NTM_SIZES)


@pytest.mark.parametrize(
    "name",
    ["State", "state_shapes", "parameter_count", "output_size", "initial_state", "step"],
)
def test_a_cell_that_lacks_something_is_refused_when_it_is_made(name):
    own = {key: value for key, value in vars(StackCell).items() if key in dir(MemoryCell)}
    own.pop("__doc__"), own.pop("__module__")
    del own[name]
    with pytest.raises(TypeError, match=f"HalfCell must define `{name}`"):
        type("HalfCell", (MemoryCell,), own)(**SIZES)


def test_a_state_with_other_fields_than_its_shapes_is_refused():
    class WrongState(NamedTuple):
        controller_state: list
        memory: tf.Tensor
        read_vectors: tf.Tensor

    class WrongCell(StackCell):
        State = WrongState

    with pytest.raises(TypeError, match="`WrongCell.State` must have .* in the same order"):
        MemoryLayer(WrongCell(**SIZES))(SEQUENCES)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"memory": tf.zeros([2, 6, 3])}, r"`memory` must .*shape \(6, 3\). Received: \(2, 6, 3\)"),
        ({"memory": [0.0]}, "`memory` must .*. Received: a `list`"),
        ({"controller_state": tf.zeros([5])}, "`controller_state` must be a list of 2 tensors"),
        (None, "it must be a `StackState`. Received: a `NoneType`"),
    ],
)
def test_an_initial_state_that_does_not_fit_is_refused(change, told):
    class WrongCell(StackCell):
        def initial_state(self, dtype):
            return None if change is None else super().initial_state(dtype)._replace(**change)

    with pytest.raises(ValueError, match=f"`WrongCell.initial_state` returns, without .*: {told}"):
        MemoryLayer(WrongCell(**SIZES))(SEQUENCES)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("state_shapes", {"read_vectors": (1, 3), "memory": 6}),
        ("state_shapes", [(1, 3), (6, 3)]),
        ("parameter_count", 3.0),
        ("parameter_count", 0),
        ("output_size", None),
        ("output_size", lambda self: 8),
    ],
)
def test_a_size_that_is_none_is_refused_by_name(name, wrong):
    cell_class = type("WrongCell", (StackCell,), {name: wrong})
    with pytest.raises((TypeError, ValueError), match=f"`WrongCell.{name}` must be"):
        MemoryLayer(cell_class(**SIZES))(SEQUENCES)


def test_a_mistake_in_a_property_of_a_cell_is_told_as_it_is():
    class WrongCell(StackCell):
        @property
        def state_shapes(self):
            return {"read_vectors": (1, self.memry_vector_dim)}

    with pytest.raises(AttributeError, match="memry_vector_dim"):
        MemoryLayer(WrongCell(**SIZES))


def test_a_step_whose_state_has_another_shape_is_refused():
    class WrongCell(StackCell):
        def step(self, inputs, state):
            step = super().step(inputs, state)
            return step._replace(state=step.state._replace(memory=state.memory[:, :2]))

    with pytest.raises(
        ValueError, match=r"`WrongCell.step` returns: `memory` must .*: \(2, 2, 3\)"
    ):
        MemoryLayer(WrongCell(**SIZES))(SEQUENCES)


@pytest.mark.parametrize("field", ["outputs", "memory"])
def test_a_step_that_computes_in_another_dtype_is_refused(field):
    class WrongCell(StackCell):
        def step(self, inputs, state):
            step = super().step(inputs, state)
            if field == "outputs":
                return step._replace(outputs=tf.cast(step.outputs, tf.float64))
            memory = tf.cast(step.state.memory, tf.float64)
            return step._replace(state=step.state._replace(memory=memory))

    told = f"`WrongCell.step` returns: `{field}` must be of dtype float32. Received: float64"
    with pytest.raises(ValueError, match=told):
        MemoryLayer(WrongCell(**SIZES))(SEQUENCES)
    with pytest.raises(ValueError, match=told):
        trace(WrongCell(**SIZES), SEQUENCES)


def test_a_state_that_is_not_a_named_tuple_is_refused():
    class WrongCell(StackCell):
        State = dict

    with pytest.raises(TypeError, match="`WrongCell.State` must be a NamedTuple"):
        WrongCell(**SIZES)


def test_a_step_that_returns_something_else_is_refused():
    class WrongCell(StackCell):
        def step(self, inputs, state):
            return tuple(super().step(inputs, state))

    with pytest.raises(ValueError, match="`WrongCell.step` returns .* a NamedTuple"):
        MemoryLayer(WrongCell(**SIZES))(SEQUENCES)


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda outputs: outputs[:, :4], r"\(2, 4\)"),
        (lambda outputs: outputs[:1], r"\(1, 8\)"),
        (lambda outputs: [outputs], "a `list`"),
    ],
)
def test_outputs_of_another_shape_than_the_cell_says_are_refused(change, told):
    class WrongCell(StackCell):
        def step(self, inputs, state):
            step = super().step(inputs, state)
            return step._replace(outputs=change(step.outputs))

    told = rf"`WrongCell.step` returns: `outputs` must .*\(2, 8\)\. Received: {told}"
    with pytest.raises(ValueError, match=told):
        MemoryLayer(WrongCell(**SIZES))(SEQUENCES)


def test_a_cell_that_was_built_for_other_features_is_refused():
    cell = NTMCell(6, 8, 4, 1, 1)
    cell.build((None, 30))
    with pytest.raises(ValueError, match=r"built for 30 features. Received: .*\(2, 3, 4\)"):
        MemoryLayer(cell)(tf.ones([2, 3, 4]))


@pytest.mark.parametrize("machine", [NTMCell(6, 8, 4, 1, 1), MANN(6, 8, 4, head_num=1)])
def test_a_machine_can_be_pickled(machine):
    assert pickle.loads(pickle.dumps(machine)).get_config() == machine.get_config()


def test_a_fast_loop_that_does_not_exist_is_refused():
    class WrongCell(NTMCell):
        fast_loop = "nmt"

    with pytest.raises(ValueError, match="`fast_loop` must be one of 'ntm', 'mann'"):
        WrongCell(**NTM_SIZES)


class OfOnes(MemoryLayer):
    """A layer that begins with a state of ones."""

    def get_initial_state(self, *arguments, **options):
        states = super().get_initial_state(*arguments, **options)
        return [tf.ones_like(state) for state in states]


def test_a_stateful_layer_begins_with_its_own_initial_state():
    layer = OfOnes(StackCell(**SIZES), stateful=True, return_sequences=True)
    ones = [tf.ones([2, size]) for size in layer.cell.state_size]
    expected = MemoryLayer(layer.cell, return_sequences=True)(SEQUENCES, initial_state=ones)
    np.testing.assert_allclose(layer(tf.constant(SEQUENCES)), expected, atol=1e-6)


def test_a_trace_is_refused_where_call_does_something_else_than_step():
    class LoudCell(StackCell):
        def call(self, inputs, states, training=None):
            outputs, states = super().call(inputs, states, training)
            return 2 * outputs, states

    with pytest.raises(ValueError, match="must not override `call`"):
        trace(LoudCell(**SIZES), SEQUENCES)
    cell = StackCell(**SIZES)
    cell.call = cell.call
    with pytest.raises(ValueError, match="must not override `call`"):
        trace(cell, SEQUENCES)


def test_a_trace_begins_as_the_layer_begins():
    layer = OfOnes(StackCell(**SIZES), return_sequences=True, name="machine")
    model = keras.Sequential([keras.Input(SEQUENCES.shape[1:]), layer])
    outputs, traces = trace_model(model, SEQUENCES)
    np.testing.assert_allclose(traces["machine"].outputs, outputs, atol=1e-6)


def test_an_initial_state_of_another_dtype_is_cast():
    layer = MemoryLayer(StackCell(**SIZES), return_sequences=True)
    layer.build(SEQUENCES.shape)
    states = layer.cell.get_initial_state(batch_size=len(SEQUENCES))
    wide = layer.cell.unpack_state(states)
    wide = tf.nest.map_structure(lambda each: tf.cast(each, tf.float64), wide)
    found = layer(tf.constant(SEQUENCES), initial_state=wide)
    np.testing.assert_allclose(found, layer(SEQUENCES), atol=1e-6)


@pytest.mark.parametrize(
    "layer, expected",
    [
        (NTM(**NTM_SIZES, shift_range=2), {**NTM_SIZES, "shift_range": 2, "output_dim": None}),
        (MANN(**SIZES, head_num=2), {**SIZES, "head_num": 2, "gamma": 0.95}),
        (MemoryLayer(StackCell(**SIZES, controller_layers=2)), {**SIZES, "controller_layers": 2}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_arguments_of_the_cell_are_attributes_of_the_layer(layer, expected):
    assert {name: getattr(layer, name) for name in expected} == expected
    for name in ("something_else", "options", "kwargs"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(layer, name)
    with pytest.raises(AttributeError, match="'memory_size' is an argument of the layer's cell"):
        layer.memory_size = 3


class NamedCell(StackCell):
    def __init__(self, *sizes, name=None, trainable=True, **options):
        super().__init__(*sizes, name=name, trainable=trainable, **options)


def test_an_argument_of_the_cell_that_is_the_layers_own_too_can_be_set_on_the_layer():
    layer = MemoryLayer(NamedCell(**SIZES, name="inner"), name="outer")
    layer.trainable = False
    assert (layer.name, layer.trainable, layer.cell.trainable) == ("outer", False, False)


@pytest.mark.parametrize("machine", [NTMCell, NTM, MANNCell, MANN])
def test_help_shows_the_options_that_every_machine_has(machine):
    shown = inspect.signature(machine).parameters
    assert shown["controller"].default == "lstm"
    assert shown["bias_initializer"].default == "zeros"


@pytest.mark.parametrize("machine", [NTMCell, NTM, MANNCell, MANN])
def test_programs_can_look_up_the_types_of_the_arguments(machine):
    hints = typing.get_type_hints(machine.__init__)
    assert hints["rnn_size"] is int and "options" in hints
