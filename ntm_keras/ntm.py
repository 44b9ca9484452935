"""The Neural Turing Machine: state, cell and layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Unpack

from ntm_keras import addressing, heads, memory, validation
from ntm_keras.initial_state import LearnedInitialState
from ntm_keras.keras_compat import Tensor, ops, serializable
from ntm_keras.machine import (
    CellOptions,
    LayerOptions,
    MachineLayer,
    MemoryCell,
    in_wide_precision,
    shows_options,
)

ADDRESSING_MODES = ("content_and_location", "content")
HEAD_INITIALIZERS = ("neutral", "by_location")
OUTPUT_SOURCES = ("controller", "controller_and_reads")
WRITE_ORDERS = ("sequential", "simultaneous")


class NTMState(NamedTuple):
    """The state of an `NTMCell` between two steps.

    Attributes:
        controller_state: The controller's own tensors, each `(batch, size)`; for the LSTM
            `[h, c]`.
        read_vectors: r_t, `(batch, read heads, memory_vector_dim)`.
        weightings: w_t, `(batch, read heads + write heads, memory_size)`, read heads first.
        memory: M_t, `(batch, memory_size, memory_vector_dim)`.
    """

    controller_state: list[Tensor]
    read_vectors: Tensor
    weightings: Tensor
    memory: Tensor


class NTMStep(NamedTuple):
    """Everything that one step of an `NTMCell` computes.

    Attributes:
        outputs: y_t, `(batch, output_dim)`.
        parameters: The `HeadParameters` that the controller emitted.
        state: The `NTMState` after the step.
    """

    outputs: Tensor
    parameters: heads.HeadParameters
    state: NTMState


class NTMTrace(NamedTuple):
    """What an `NTMCell` did, step by step; `heads` is the read heads, then the write heads.

    Attributes:
        outputs: y_t, `(batch, time, output_dim)`.
        read_weightings: `(batch, time, read heads, memory_size)`.
        write_weightings: `(batch, time, write heads, memory_size)`.
        read_vectors: r_t, `(batch, time, read heads, memory_vector_dim)`.
        memory: M_t after the step, `(batch, time, memory_size, memory_vector_dim)`.
        key: k_t, `(batch, time, heads, memory_vector_dim)`.
        key_strength: beta_t, `(batch, time, heads)`.
        interpolation_gate: g_t, `(batch, time, heads)`.
        shift_weighting: s_t, `(batch, time, heads, 2 * shift_range + 1)`.
        sharpening: gamma_t, `(batch, time, heads)`.
        erase_vector: e_t, `(batch, time, write heads, memory_vector_dim)`.
        add_vector: a_t, `(batch, time, write heads, memory_vector_dim)`.
    """

    outputs: Tensor
    read_weightings: Tensor
    write_weightings: Tensor
    read_vectors: Tensor
    memory: Tensor
    key: Tensor
    key_strength: Tensor
    interpolation_gate: Tensor
    shift_weighting: Tensor
    sharpening: Tensor
    erase_vector: Tensor
    add_vector: Tensor


@shows_options
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

    Heads read the memory before the step's writes. The read vectors reach the controller in the
    next step. The outputs are logits: apply a sigmoid, or a loss with `from_logits=True`.

    Args:
        rnn_size: Width of the controller.
        memory_size: Number of memory locations (N in the paper).
        memory_vector_dim: Width of each location (M in the paper).
        read_head_num: Number of read heads.
        write_head_num: Number of write heads.
        addressing_mode: `"content_and_location"`, or `"content"` for equations (5) and (6) only.
        shift_range: The largest shift of the focus in a step, in either direction.
        output_dim: Width of the output; by default the width of the input.
        memory_initializer: The memory before the first step. `"learned"`: the tanh of trained
            weights; `"constant"`: 1e-6 everywhere; `"random"`: fixed numbers, uniform within
            +-1/sqrt(memory_size + memory_vector_dim); or a Keras initializer, whose numbers are
            fixed too.
        weighting_initializer: The heads' initial weightings before training; they are learned.
            `"spread"`: over all locations, at random; `"focused"`: on the first location.
        head_initializer: What heads do before training. `"neutral"`: what `bias_initializer` says;
            `"by_location"`: write heads go on to the next location in each step, read heads stay.
            This is added to the biases, so that training begins near it.
        output_source: What the output is computed from. `"controller"`: the controller's output;
            `"controller_and_reads"`: the controller's output and this step's read vectors.
        write_order: `"sequential"`: each write head erases and adds before the next one does;
            `"simultaneous"`: all erase, then all add, as in the paper.
        **options: `controller`, `controller_layers`, initializers, regularizers and constraints, as
            in `MemoryCell`. The controller's initial state is learned, unless the initial state of
            a given cell is not zero.

    Call arguments:
        inputs: x_t, `(batch, features)`.
        states: The flat list that `get_initial_state` and the previous call returned.
        training: Passed on to the controller.

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
    # fast/ntm.py has the methods below once more: a change here is a change there.
    fast_loop = "ntm"

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
        memory_initializer: Any = "learned",
        weighting_initializer: str = "spread",
        head_initializer: str = "neutral",
        output_source: str = "controller",
        write_order: str = "sequential",
        **options: Unpack[CellOptions],
    ):
        super().__init__(rnn_size, memory_size, memory_vector_dim, **options)
        self.read_head_num = validation.integer("read_head_num", read_head_num, at_least=1)
        self.write_head_num = validation.integer("write_head_num", write_head_num, at_least=1)
        self.addressing_mode = validation.choice(
            "addressing_mode", addressing_mode, ADDRESSING_MODES
        )
        self.shift_range = validation.integer("shift_range", shift_range, at_least=0)
        self.output_dim = (
            None if output_dim is None else validation.integer("output_dim", output_dim, at_least=1)
        )
        self.initial = LearnedInitialState(memory_initializer, weighting_initializer)
        self.memory_initializer = self.initial.memory_initializer
        self.weighting_initializer = self.initial.weighting_initializer
        self.head_initializer = validation.choice(
            "head_initializer", head_initializer, HEAD_INITIALIZERS
        )
        self.output_source = validation.choice("output_source", output_source, OUTPUT_SOURCES)
        self.write_order = validation.choice("write_order", write_order, WRITE_ORDERS)
        if 2 * self.shift_range + 1 > self.memory_size:
            raise ValueError(
                "Argument `shift_range` must not shift around the whole memory: "
                "2 * shift_range + 1 <= memory_size. "
                f"Received: shift_range={shift_range}, memory_size={memory_size}"
            )
        can_shift = self.addressing_mode == "content_and_location" and self.shift_range > 0
        if self.head_initializer == "by_location" and not can_shift:
            raise ValueError(
                'Argument `head_initializer` can be "by_location" only where heads can shift.'
                f" Received: addressing_mode={addressing_mode!r}, shift_range={shift_range}"
            )

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
            ValueError: It is the width of the input, which is not known yet.
        """
        size = self.output_dim or self._input_width
        if size is None:
            raise ValueError(
                "Without an `output_dim` the output of an NTMCell is as wide as its input, which is"
                " not known before the cell is built."
            )
        return size

    @property
    def parameter_bias_initializer(self) -> Any:
        own = super().parameter_bias_initializer
        if self.head_initializer == "neutral":
            return own
        biases = heads.by_location_biases(
            self.read_head_num, self.write_head_num, self.memory_vector_dim, self.shift_range
        )

        def initialize(shape, dtype=None):
            biases_of_all = np.pad(biases, (0, shape[0] - len(biases)))  # A subclass may have more.
            return own(shape, dtype=dtype) + ops.cast(biases_of_all, dtype)

        return initialize

    def build(self, input_shape):
        if self.controller_name is None:  # Its initial state may depend on its weights.
            self.build_controller(input_shape)
        self.initial.add_weights(self)
        super().build(input_shape)
        sees_reads = self.output_source == "controller_and_reads"
        self.output_projection = self.projection(
            "output_projection",
            self.output_size,
            self.rnn_size + (self.read_width if sees_reads else 0),
        )

    def initial_state(self, dtype: Any) -> NTMState:
        self.initial.add_weights(self)  # Code for snowkylin's cell calls this before `build`.
        return NTMState(*self.initial(self, dtype))

    def step(self, inputs: Tensor, state: NTMState) -> NTMStep:
        """One step, with all its intermediate results.

        Args:
            inputs: x_t, `(batch, features)`.
            state: The `NTMState` before the step.

        Returns:
            The `NTMStep`.
        """
        controller_output, controller_state, projection = self.run_controller(inputs, state)
        parameters = self.head_parameters(projection)
        weightings = self.address(state, parameters)
        reading, writing = ops.split(weightings, [self.read_head_num], axis=1)
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
        new_state = state._replace(
            controller_state=controller_state,
            read_vectors=read_vectors,
            weightings=weightings,
            memory=new_memory,
        )
        outputs = self.project(self.output_projection, controller_output)
        return NTMStep(outputs, parameters, new_state)

    def head_parameters(self, projection: Tensor) -> heads.HeadParameters:
        """The heads' parameters.

        Args:
            projection: The projection of the controller's output, `(batch, parameter_count)`.
        """
        return heads.head_parameters(
            projection,
            self.read_head_num,
            self.write_head_num,
            self.memory_vector_dim,
            self.shift_range,
        )

    def address(self, state: NTMState, parameters: heads.HeadParameters) -> Tensor:
        """The weightings of all heads in this step.

        Args:
            state: The `NTMState` before the step.
            parameters: What the controller emitted for the heads.

        Returns:
            w_t, `(batch, read heads + write heads, memory_size)`.
        """
        return in_wide_precision(self._address, state.memory, state.weightings, parameters)

    def _address(
        self, memory_before: Tensor, previous: Tensor, parameters: heads.HeadParameters
    ) -> Tensor:
        """`address`, in single precision where the cell computes in half precision."""
        weighting = addressing.address_by_content(
            memory_before, parameters.key, parameters.key_strength
        )
        if self.addressing_mode == "content":
            return weighting
        previous = ops.maximum(previous, 0)  # A state from the user may be negative.
        weighting = addressing.interpolate(weighting, previous, parameters.interpolation_gate)
        weighting = addressing.shift(weighting, parameters.shift_weighting)
        return addressing.sharpen(weighting, parameters.sharpening)

    def as_trace(self, steps: NTMStep) -> NTMTrace:
        reading, writing = ops.split(steps.state.weightings, [self.read_head_num], axis=2)
        return NTMTrace(
            steps.outputs,
            reading,
            writing,
            steps.state.read_vectors,
            steps.state.memory,
            *(getattr(steps.parameters, name) for name in heads.HeadParameters._fields),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self.initial.get_config(),
            "read_head_num": self.read_head_num,
            "write_head_num": self.write_head_num,
            "addressing_mode": self.addressing_mode,
            "shift_range": self.shift_range,
            "output_dim": self.output_dim,
            "head_initializer": self.head_initializer,
            "output_source": self.output_source,
            "write_order": self.write_order,
        }


@shows_options
@serializable
class NTM(MachineLayer):
    """The Neural Turing Machine as a layer: to `NTMCell` what `LSTM` is to `LSTMCell`.

    Args:
        rnn_size: See `NTMCell` for this and the arguments up to `write_order`. They are also
            attributes of the layer.
        return_sequences: Whether to return the outputs of all steps, or only the last one.
        return_state: Whether to return the last state too, as the flat list.
        go_backwards: Whether to run the sequence from its end to its beginning.
        stateful: Whether a batch starts from the state in which the previous batch ended.
        unroll: Whether to unroll the loop over time.
        **options: The options of `NTMCell`, and those of Keras's `RNN` layer, such as `name` and
            `zero_output_for_mask`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: A flat list of states or an `NTMState`, by default the cell's learned one.
        mask: `(batch, time)`; a step whose mask is False changes nothing.
        training: Passed on to the controller.

    Examples:
        >>> layer = NTM(100, memory_size=128, memory_vector_dim=20, read_head_num=1,
        ...             write_head_num=1, output_dim=8, return_sequences=True)
        >>> tuple(layer(tf.zeros([32, 41, 9])).shape)
        (32, 41, 8)
    """

    cell_class = NTMCell

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
        memory_initializer: Any = "learned",
        weighting_initializer: str = "spread",
        head_initializer: str = "neutral",
        output_source: str = "controller",
        write_order: str = "sequential",
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **options: Unpack[LayerOptions],
    ):
        super().__init__(
            {
                "rnn_size": rnn_size,
                "memory_size": memory_size,
                "memory_vector_dim": memory_vector_dim,
                "read_head_num": read_head_num,
                "write_head_num": write_head_num,
                "addressing_mode": addressing_mode,
                "shift_range": shift_range,
                "output_dim": output_dim,
                "memory_initializer": memory_initializer,
                "weighting_initializer": weighting_initializer,
                "head_initializer": head_initializer,
                "output_source": output_source,
                "write_order": write_order,
            },
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            **options,
        )
