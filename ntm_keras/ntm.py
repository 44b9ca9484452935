"""The Neural Turing Machine: its state, its cell, its layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ntm_keras import addressing, arguments, controllers, heads, memory
from ntm_keras.keras_compat import keras, serializable
from ntm_keras.machine import MemoryCell, MemoryLayer, copy_of, in_wide_precision
from ntm_keras.ntm_loop import NTMLoop

ADDRESSING_MODES = ("content_and_location", "content")
MEMORY_INITIALIZERS = ("learned", "constant", "random")
WEIGHTING_INITIALIZERS = ("spread", "focused")
OUTPUT_SOURCES = ("controller", "controller_and_reads")
WRITE_ORDERS = ("sequential", "simultaneous")

# Collier and Beel, "Implementing Neural Turing Machines", section 4.1.
_CONSTANT_MEMORY = 1e-6

# Before the softmax: of 128 locations, the one that is focused on begins with 0.994.
_FOCUS_LOGIT = 10.0


class NTMState(NamedTuple):
    """The state of an `NTMCell` between two steps.

    Attributes:
        controller_state: The controller's own tensors, each `(batch, size)`; for the LSTM
            `[h, c]`.
        read_vectors: r_t, `(batch, read heads, memory_vector_dim)`.
        weightings: w_t, `(batch, read heads + write heads, memory_size)`, read heads first.
        memory: M_t, `(batch, memory_size, memory_vector_dim)`.
    """

    controller_state: list[tf.Tensor]
    read_vectors: tf.Tensor
    weightings: tf.Tensor
    memory: tf.Tensor


class NTMStep(NamedTuple):
    """Everything that one step of an `NTMCell` computes.

    Attributes:
        outputs: y_t, `(batch, output_dim)`.
        parameters: The `HeadParameters` that the controller emitted.
        state: The `NTMState` after the step.
    """

    outputs: tf.Tensor
    parameters: heads.HeadParameters
    state: NTMState


@serializable
class NTMCell(MemoryCell):
    """One step of the Neural Turing Machine, for `keras.layers.RNN`.

    ```
    h_t = controller([x_t, r_{t-1}])
    k, beta, g, s, gamma, e, a = the projection of h_t      every head
    w^c = softmax(beta K[k, M_{t-1}])                       eq (5), (6)
    w^g = g w^c + (1 - g) w_{t-1}                           eq (7)
    w~  = w^g * s                                           eq (8)
    w_t = w~^gamma / sum w~^gamma                           eq (9)
    r_t = w_t M_{t-1}                    every read head    eq (2)
    M_t = M_{t-1} (1 - w_t e^T) + w_t a^T    write heads    eq (3), (4)
    y_t = the projection of h_t
    ```

    Reads see the memory before the step's writes, and reach the controller one step later. The
    outputs are not squashed: apply a sigmoid, or a loss with `from_logits=True`.

    Args:
        rnn_size: Width of the controller.
        memory_size: Number of memory locations (N in the paper).
        memory_vector_dim: Width of each location (M in the paper).
        read_head_num: Number of read heads.
        write_head_num: Number of write heads.
        addressing_mode: `"content_and_location"`, or `"content"` for equations (5) and (6) alone.
        shift_range: The largest shift of the focus in a step, in either direction.
        output_dim: Width of the output; by default that of the input.
        controller: `"lstm"`, `"counting_lstm"` (see `controllers.CountingLSTMCell`),
            `"feedforward"` (tanh), `"rnn"` (tanh), or a Keras RNN cell whose output is `rnn_size`
            wide. Its state before the first step is learned, unless the cell itself begins with
            other numbers than zeros.
        controller_layers: How many layers of a named controller to stack.
        memory_initializer: What the memory holds before the first step. `"learned"`: the tanh of
            trained weights; `"constant"`: 1e-6 everywhere; `"random"`: fixed numbers, uniform
            within +-1/sqrt(memory_size + memory_vector_dim); or a Keras initializer, whose
            numbers are fixed too.
        weighting_initializer: Where the heads' learned initial weightings begin, before training.
            `"spread"`: over all locations, at random; `"focused"`: on the first location.
        output_source: What the output is computed from. `"controller"`: the controller's output;
            `"controller_and_reads"`: this step's read vectors too.
        write_order: `"sequential"`: each write head erases, then adds, before the next one does;
            `"simultaneous"`: all erase, then all add, as in the paper.
        kernel_initializer: Initializer of the two projections' kernels.
        bias_initializer: Initializer of the two projections' biases.
        kernel_regularizer: Regularizer of the two projections' kernels.
        bias_regularizer: Regularizer of the two projections' biases.
        kernel_constraint: Constraint on the two projections' kernels.
        bias_constraint: Constraint on the two projections' biases.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        inputs: x_t, `(batch, features)`.
        states: The flat list that `get_initial_state` and the previous call returned.
        training: Handed on to the controller.

    Raises:
        ValueError: An argument is out of its range, or two do not fit each other.

    Examples:
        >>> cell = NTMCell(100, memory_size=128, memory_vector_dim=20,
        ...                read_head_num=1, write_head_num=1, output_dim=8)
        >>> layer = tf.keras.layers.RNN(cell, return_sequences=True)
        >>> tuple(layer(tf.zeros([32, 41, 9])).shape)
        (32, 41, 8)

    Reference:
        Graves, Wayne, Danihelka, [Neural Turing Machines](https://arxiv.org/abs/1410.5401), 2014.
    """

    State = NTMState

    def __init__(
        self,
        rnn_size: int,
        memory_size: int,
        memory_vector_dim: int,
        read_head_num: int,
        write_head_num: int,
        addressing_mode: str = "content_and_location",
        shift_range: int = 1,
        output_dim: int | None = None,
        *,
        controller: Any = "lstm",
        controller_layers: int = 1,
        memory_initializer: Any = "learned",
        weighting_initializer: str = "spread",
        output_source: str = "controller",
        write_order: str = "sequential",
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            rnn_size,
            memory_size,
            memory_vector_dim,
            controller=controller,
            controller_layers=controller_layers,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self.read_head_num = arguments.integer("read_head_num", read_head_num, at_least=1)
        self.write_head_num = arguments.integer("write_head_num", write_head_num, at_least=1)
        self.addressing_mode = arguments.choice(
            "addressing_mode", addressing_mode, ADDRESSING_MODES
        )
        self.shift_range = arguments.integer("shift_range", shift_range, at_least=0)
        self.output_dim = (
            None if output_dim is None else arguments.integer("output_dim", output_dim, at_least=1)
        )
        self.memory_initializer = _memory_initializer(memory_initializer)
        self.weighting_initializer = arguments.choice(
            "weighting_initializer", weighting_initializer, WEIGHTING_INITIALIZERS
        )
        self.output_source = arguments.choice("output_source", output_source, OUTPUT_SOURCES)
        self.write_order = arguments.choice("write_order", write_order, WRITE_ORDERS)
        if 2 * self.shift_range + 1 > self.memory_size:
            raise ValueError(
                "Argument `shift_range` must not shift around the whole memory: "
                "2 * shift_range + 1 <= memory_size. "
                f"Received: shift_range={shift_range}, memory_size={memory_size}"
            )
        self.initial_memory = None

    def _add_initial_state(self) -> None:
        """Makes the weights of the initial state."""

        def learned(name, *shape, initializer=None):
            initializer = initializer or keras.initializers.RandomNormal(stddev=0.5)
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.initial_controller_state = [
            learned(f"initial_controller_state_{index}", size)
            for index, size in enumerate(self._learned_controller_state_size())
        ]
        shapes = self.state_shapes
        self.initial_read_vectors = learned("initial_read_vectors", *shapes["read_vectors"])
        self.initial_weightings = learned(
            "initial_weightings",
            *shapes["weightings"],
            initializer=_focus if self.weighting_initializer == "focused" else None,
        )
        if self.memory_initializer == "learned":
            self.initial_memory = learned("initial_memory", *shapes["memory"])
        else:
            self.initial_memory = self.add_weight(
                name="initial_memory",
                shape=shapes["memory"],
                initializer=self._fixed_memory_initializer(),
                trainable=False,
            )

    def _learned_controller_state_size(self) -> list[int]:
        """The sizes of the controller's states; none where it begins with other than zeros."""
        with tf.init_scope(), tf.name_scope("controller"):
            own = controllers.initial_state(self.controller, self.compute_dtype)
            is_zero = not any(bool(tf.reduce_any(state != 0)) for state in own)
        return self.controller_state_size if is_zero else []

    def _fixed_memory_initializer(self):
        if self.memory_initializer == "constant":
            return keras.initializers.Constant(_CONSTANT_MEMORY)
        if self.memory_initializer == "random":
            bound = (self.memory_size + self.memory_vector_dim) ** -0.5
            return keras.initializers.RandomUniform(-bound, bound)
        return copy_of(self.memory_initializer)

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "read_vectors": (self.read_head_num, self.memory_vector_dim),
            "weightings": (self.read_head_num + self.write_head_num, self.memory_size),
            "memory": (self.memory_size, self.memory_vector_dim),
        }

    @property
    def parameter_count(self) -> int:
        return heads.parameter_count(
            self.read_head_num, self.write_head_num, self.memory_vector_dim, self.shift_range
        )

    @property
    def output_size(self) -> int:
        """The width of the output.

        Raises:
            ValueError: It is the input's, and that is not known yet.
        """
        size = self.output_dim or self._input_width
        if size is None:
            raise ValueError(
                "Without an `output_dim` the output of an NTMCell is as wide as its input, which is"
                " not known before the cell is built."
            )
        return size

    def build(self, input_shape):
        if self.initial_memory is None:
            self._add_initial_state()
        super().build(input_shape)
        sees_reads = self.output_source == "controller_and_reads"
        self.output_projection = self.projection(
            "output_projection",
            self.output_size,
            self.rnn_size + (self.read_width if sees_reads else 0),
        )

    def initial_state(self, dtype: Any) -> NTMState:
        if self.initial_memory is None:  # Code for snowkylin's cell asks before it is built.
            self._add_initial_state()

        def squashed(weight, squash):
            return squash(tf.cast(weight, dtype))

        is_learned = self.memory_initializer == "learned"
        return NTMState(
            [squashed(weight, tf.tanh) for weight in self.initial_controller_state]
            or controllers.initial_state(self.controller, dtype),
            squashed(self.initial_read_vectors, tf.tanh),
            squashed(self.initial_weightings, tf.nn.softmax),
            squashed(self.initial_memory, tf.tanh if is_learned else tf.identity),
        )

    def step(self, inputs: tf.Tensor, state: NTMState) -> NTMStep:
        """One step, with everything in it laid open.

        Args:
            inputs: x_t, `(batch, features)`.
            state: The `NTMState` before the step.

        Returns:
            The `NTMStep`.
        """
        controller_output, controller_state, projection = self.run_controller(inputs, state)
        parameters = heads.head_parameters(
            projection,
            self.read_head_num,
            self.write_head_num,
            self.memory_vector_dim,
            self.shift_range,
        )
        weightings = in_wide_precision(self._address, state.memory, state.weightings, parameters)
        reading, writing = tf.split(weightings, [self.read_head_num, self.write_head_num], axis=1)
        read_vectors = memory.read(state.memory, reading)
        new_memory = memory.write(
            state.memory,
            writing,
            parameters.erase_vector,
            parameters.add_vector,
            self.write_order,
        )
        if self.output_source == "controller_and_reads":
            controller_output = self.with_reads(controller_output, read_vectors)
        return NTMStep(
            self.project(self.output_projection, controller_output),
            parameters,
            NTMState(controller_state, read_vectors, weightings, new_memory),
        )

    def _address(
        self, memory_before: tf.Tensor, previous: tf.Tensor, parameters: heads.HeadParameters
    ) -> tf.Tensor:
        """w_t of every head, from M_{t-1}, w_{t-1} and the heads' parameters."""
        weighting = addressing.address_by_content(
            memory_before, parameters.key, parameters.key_strength
        )
        if self.addressing_mode == "content":
            return weighting
        previous = tf.maximum(previous, 0)  # A given state may hold any numbers.
        weighting = addressing.interpolate(weighting, previous, parameters.interpolation_gate)
        weighting = addressing.shift(weighting, parameters.shift_weighting)
        return addressing.sharpen(weighting, parameters.sharpening)

    def get_config(self) -> dict[str, Any]:
        memory_initializer = self.memory_initializer
        if not isinstance(memory_initializer, str):
            memory_initializer = keras.initializers.serialize(memory_initializer)
        return {
            **super().get_config(),
            "read_head_num": self.read_head_num,
            "write_head_num": self.write_head_num,
            "addressing_mode": self.addressing_mode,
            "shift_range": self.shift_range,
            "output_dim": self.output_dim,
            "memory_initializer": memory_initializer,
            "weighting_initializer": self.weighting_initializer,
            "output_source": self.output_source,
            "write_order": self.write_order,
        }


@serializable
class NTM(MemoryLayer):
    """The Neural Turing Machine as a layer: to `NTMCell` what `LSTM` is to `LSTMCell`.

    Args:
        rnn_size: This and the arguments up to `bias_constraint`: see `NTMCell`.
        return_sequences: Whether to return the outputs of all steps, or the last step's only.
        return_state: Whether to return the last state too, as the flat list.
        go_backwards: Whether to run the sequence from its end to its beginning.
        stateful: Whether a batch starts from the state in which the previous one ended.
        unroll: Whether to unroll the loop over time.
        **kwargs: Keras's own, for its `RNN` layer, such as `name` and `dtype`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: A flat list of states or an `NTMState`, by default the cell's learned one.
        mask: `(batch, time)`; a step whose mask is False changes nothing.
        training: Handed on to the controller.

    Examples:
        >>> layer = NTM(100, memory_size=128, memory_vector_dim=20, read_head_num=1,
        ...             write_head_num=1, output_dim=8, return_sequences=True)
        >>> tuple(layer(tf.zeros([32, 41, 9])).shape)
        (32, 41, 8)
    """

    def __init__(
        self,
        rnn_size: int,
        memory_size: int,
        memory_vector_dim: int,
        read_head_num: int,
        write_head_num: int,
        addressing_mode: str = "content_and_location",
        shift_range: int = 1,
        output_dim: int | None = None,
        *,
        controller: Any = "lstm",
        controller_layers: int = 1,
        memory_initializer: Any = "learned",
        weighting_initializer: str = "spread",
        output_source: str = "controller",
        write_order: str = "sequential",
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **kwargs: Any,
    ):
        cell = NTMCell(
            rnn_size,
            memory_size,
            memory_vector_dim,
            read_head_num,
            write_head_num,
            addressing_mode,
            shift_range,
            output_dim,
            controller=controller,
            controller_layers=controller_layers,
            memory_initializer=memory_initializer,
            weighting_initializer=weighting_initializer,
            output_source=output_source,
            write_order=write_order,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="ntm_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            **kwargs,
        )

    def run_loop(self, sequences, initial_state, mask):
        loop = NTMLoop(self.cell, mask)
        outputs, read_vectors, states = loop.run(sequences, initial_state)
        if self.cell.output_source == "controller_and_reads":
            outputs = tf.concat([outputs, read_vectors], axis=-1)
        return self.cell.project(self.cell.output_projection, outputs), states


def _focus(shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
    """Logits of weightings that lie on the first location."""
    return tf.one_hot(tf.zeros(shape[:-1], tf.int32), shape[-1], _FOCUS_LOGIT, dtype=dtype)


def _memory_initializer(initializer: Any) -> Any:
    """One of our names, or the Keras initializer that the argument means."""
    if isinstance(initializer, str) and initializer in MEMORY_INITIALIZERS:
        return initializer
    try:
        found = keras.initializers.get(initializer)
    except (ValueError, TypeError):
        found = None
    if not callable(found):
        raise ValueError(
            "Argument `memory_initializer` must be one of "
            f"{', '.join(map(repr, MEMORY_INITIALIZERS))} or a Keras initializer. "
            f"Received: memory_initializer={initializer!r}"
        )
    return found
