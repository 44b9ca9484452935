"""The memory-augmented network of Santoro et al.: state, cell and layer."""

from __future__ import annotations

from typing import Any, NamedTuple

from typing_extensions import Unpack

from ntm_keras import addressing, controllers, memory, validation
from ntm_keras.keras_compat import Tensor, ops, serializable
from ntm_keras.machine import (
    CellOptions,
    LayerOptions,
    MachineLayer,
    MemoryCell,
    in_wide_precision,
    shows_options,
)
from ntm_keras.mann_heads import MANNParameters, head_parameters, least_used_locations

K_STRATEGIES = ("separate", "summary")

# What the memory holds before the first step.
_EMPTY_MEMORY = 1e-6


class MANNState(NamedTuple):
    """The state of a `MANNCell` between two steps.

    Attributes:
        controller_state: The controller's own tensors, each `(batch, size)`; for the LSTM
            `[h, c]`.
        read_vectors: r_t, `(batch, heads, memory_vector_dim)`.
        read_weightings: w_t^r, `(batch, heads, memory_size)`.
        usage: w_t^u, `(batch, memory_size)`.
        memory: M_t, `(batch, memory_size, memory_vector_dim)`.
    """

    controller_state: list[Tensor]
    read_vectors: Tensor
    read_weightings: Tensor
    usage: Tensor
    memory: Tensor


class MANNStep(NamedTuple):
    """Everything that one step of a `MANNCell` computes.

    Attributes:
        outputs: `(batch, output_size)`.
        parameters: The `MANNParameters` that the controller emitted.
        write_weightings: w_t^w, `(batch, heads, memory_size)`.
        state: The `MANNState` after the step.
    """

    outputs: Tensor
    parameters: MANNParameters
    write_weightings: Tensor
    state: MANNState


class MANNTrace(NamedTuple):
    """What a `MANNCell` did, step by step.

    Attributes:
        outputs: `(batch, time, output_size)`.
        read_weightings: w_t^r, `(batch, time, heads, memory_size)`.
        write_weightings: w_t^w, `(batch, time, heads, memory_size)`.
        read_vectors: r_t, `(batch, time, heads, memory_vector_dim)`.
        memory: M_t after the step, `(batch, time, memory_size, memory_vector_dim)`.
        usage: w_t^u after the step, `(batch, time, memory_size)`.
        key: k_t, `(batch, time, heads, memory_vector_dim)`.
        add_vector: a_t, `(batch, time, heads, memory_vector_dim)`.
        write_gate: sigma(alpha_t), `(batch, time, heads)`.
        key_strength: `(batch, time, heads)`.
    """

    outputs: Tensor
    read_weightings: Tensor
    write_weightings: Tensor
    read_vectors: Tensor
    memory: Tensor
    usage: Tensor
    key: Tensor
    add_vector: Tensor
    write_gate: Tensor
    key_strength: Tensor


@shows_options
@serializable
class MANNCell(MemoryCell):
    """One step of a memory-augmented neural network, for `keras.layers.RNN`.

    Its heads address by content only. They write where they read in the step before, or where the
    memory was least used. Equation numbers are from Santoro et al.

    ```
    h_t   = controller([x_t, r_{t-1}])
    k, a, alpha = the projection of h_t                            every head
    w_t^r = softmax(K[k, M_{t-1}])                                 every head
    w_t^w = sigma(alpha) w_{t-1}^r + (1 - sigma(alpha)) w_{t-1}^lu       eq (22)
    w_t^u = gamma w_{t-1}^u + sum w_t^r + sum w_t^w                      eq (20)
    M_t   = M_{t-1}, its least used row cleared, + sum w_t^w a^T
    r_t   = w_t^r M_t
    y_t   = [h_t, r_t]
    ```

    w_{t-1}^lu is 1 at the `head_num` locations with the smallest w_{t-1}^u, and 0 elsewhere; among
    equals the last locations count (on PyTorch any). The least used of these rows is cleared.

    Args:
        rnn_size: Width of the controller.
        memory_size: Number of memory locations (N in the paper).
        memory_vector_dim: Width of each location (M in the paper).
        head_num: Number of heads, each of which reads and writes.
        gamma: The factor by which the usage decays in a step, from 0 to 1.
        k_strategy: `"separate"`: the add vector is emitted separately; `"summary"`: it is the key.
        learned_key_strength: Whether the similarities are multiplied by 1 + softplus(x + 3) before
            the softmax, with x from the controller. Otherwise they lie between -1 and 1, and the
            weighting over many locations stays nearly uniform.
        **options: `controller`, `controller_layers`, initializers, regularizers and constraints, as
            in `MemoryCell`.

    Call arguments:
        inputs: x_t, `(batch, features)`.
        states: The flat list that `get_initial_state` and the previous call returned.
        training: Passed on to the controller.

    Raises:
        ValueError: An argument is out of its range, or two do not fit each other.

    Examples:
        >>> cell = MANNCell(200, memory_size=128, memory_vector_dim=40, head_num=4)
        >>> layer = tf.keras.layers.RNN(cell, return_sequences=True)
        >>> tuple(layer(tf.zeros([16, 50, 405])).shape)
        (16, 50, 360)

    Reference:
        Santoro et al., [One-shot Learning with Memory-Augmented Neural
        Networks](https://arxiv.org/abs/1605.06065), 2016.
    """

    State = MANNState
    # fast/mann.py has the methods below once more: a change here is a change there.
    fast_loop = "mann"

    def __init__(
        self,
        rnn_size: int,
        memory_size: int,
        memory_vector_dim: int,
        head_num: int,
        gamma: float = 0.95,
        k_strategy: str = "separate",
        *,
        learned_key_strength: bool = False,
        **options: Unpack[CellOptions],
    ):
        super().__init__(rnn_size, memory_size, memory_vector_dim, **options)
        self.head_num = validation.integer("head_num", head_num, at_least=1)
        self.gamma = validation.fraction("gamma", gamma)
        self.k_strategy = validation.choice("k_strategy", k_strategy, K_STRATEGIES)
        self.learned_key_strength = validation.boolean("learned_key_strength", learned_key_strength)
        if self.head_num > self.memory_size:
            raise ValueError(
                "Argument `head_num` must be at most `memory_size`: each head has a least used"
                f" location. Received: head_num={head_num}, memory_size={memory_size}"
            )

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "read_vectors": (self.head_num, self.memory_vector_dim),
            "read_weightings": (self.head_num, self.memory_size),
            "usage": (self.memory_size,),
            "memory": (self.memory_size, self.memory_vector_dim),
        }

    @property
    def parameter_sizes(self) -> list[int]:
        """How many numbers each head has for key, add vector, write gate and key strength."""
        width = self.memory_vector_dim
        return [
            width,
            width if self.k_strategy == "separate" else 0,
            1,
            1 if self.learned_key_strength else 0,
        ]

    @property
    def parameter_count(self) -> int:
        return self.head_num * sum(self.parameter_sizes)

    @property
    def output_size(self) -> int:
        """The width of the output: the controller's output and all read vectors."""
        return self.rnn_size + self.read_width

    def initial_state(self, dtype: Any) -> MANNState:
        first_location = ops.one_hot(0, self.memory_size, dtype=dtype)
        shapes = self.state_shapes
        return MANNState(
            controllers.initial_state(self.controller, dtype),
            ops.zeros(shapes["read_vectors"], dtype),
            ops.repeat(first_location[None], self.head_num, axis=0),
            first_location,
            ops.full(shapes["memory"], _EMPTY_MEMORY, dtype),
        )

    def step(self, inputs: Tensor, state: MANNState) -> MANNStep:
        """One step, with all its intermediate results.

        Args:
            inputs: x_t, `(batch, features)`.
            state: The `MANNState` before the step.

        Returns:
            The `MANNStep`.
        """
        controller_output, controller_state, projection = self.run_controller(inputs, state)
        parameters = head_parameters(projection, self.head_num, self.parameter_sizes)
        read_weightings = in_wide_precision(
            addressing.address_by_content, state.memory, parameters.key, parameters.key_strength
        )
        least_used = ops.one_hot(
            least_used_locations(state.usage, self.head_num),
            self.memory_size,
            dtype=state.usage.dtype,
        )
        write_weightings = addressing.interpolate(
            state.read_weightings,
            ops.sum(least_used, axis=1, keepdims=True),
            parameters.write_gate,
        )
        cleared = state.memory * (1 - least_used[:, 0, :, None])
        new_memory = memory.add_all(cleared, write_weightings, parameters.add_vector)
        read_vectors = memory.read(new_memory, read_weightings)
        usage = self.gamma * state.usage + ops.sum(read_weightings + write_weightings, axis=1)
        return MANNStep(
            self.with_reads(controller_output, read_vectors),
            parameters,
            write_weightings,
            MANNState(controller_state, read_vectors, read_weightings, usage, new_memory),
        )

    def as_trace(self, steps: MANNStep) -> MANNTrace:
        state = steps.state
        return MANNTrace(
            outputs=steps.outputs,
            read_weightings=state.read_weightings,
            write_weightings=steps.write_weightings,
            read_vectors=state.read_vectors,
            memory=state.memory,
            usage=state.usage,
            **steps.parameters._asdict(),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "head_num": self.head_num,
            "gamma": self.gamma,
            "k_strategy": self.k_strategy,
            "learned_key_strength": self.learned_key_strength,
        }


@shows_options
@serializable
class MANN(MachineLayer):
    """The memory-augmented network as a layer: to `MANNCell` what `LSTM` is to `LSTMCell`.

    Args:
        rnn_size: See `MANNCell` for this and the arguments up to `learned_key_strength`. They are
            also attributes of the layer.
        return_sequences: Whether to return the outputs of all steps, or only the last one.
        return_state: Whether to return the last state too, as the flat list.
        go_backwards: Whether to run the sequence from its end to its beginning.
        stateful: Whether a batch starts from the state in which the previous batch ended.
        unroll: Whether to unroll the loop over time.
        **options: The options of `MANNCell`, and those of Keras's `RNN` layer, such as `name` and
            `zero_output_for_mask`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: A flat list of states or a `MANNState`, by default an empty memory.
        mask: `(batch, time)`; a step whose mask is False changes nothing.
        training: Passed on to the controller.

    Examples:
        >>> layer = MANN(200, memory_size=128, memory_vector_dim=40, head_num=4,
        ...              return_sequences=True)
        >>> tuple(layer(tf.zeros([16, 50, 405])).shape)
        (16, 50, 360)
    """

    cell_class = MANNCell

    def __init__(
        self,
        rnn_size: int,
        memory_size: int,
        memory_vector_dim: int,
        head_num: int,
        gamma: float = 0.95,
        k_strategy: str = "separate",
        *,
        learned_key_strength: bool = False,
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
                "head_num": head_num,
                "gamma": gamma,
                "k_strategy": k_strategy,
                "learned_key_strength": learned_key_strength,
            },
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            **options,
        )
