"""What machines with an external memory have in common: their cell and the layer around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from ntm_keras import arguments, controllers, loop
from ntm_keras.keras_compat import IS_KERAS_2, AbstractRNNCell, keras, reshape


class MemoryCell(AbstractRNNCell):
    """A controller, heads and a memory: the base of `NTMCell` and `MANNCell`.

    Keras keeps the state as a flat list of tensors; `State` says what they mean: it is a NamedTuple
    with the field `controller_state`, a list, and then a tensor for each of `state_shapes`, in its
    order, of which one is `read_vectors`. A subclass has the properties `state_shapes`,
    `parameter_count` and `output_size`, and the methods `initial_state` and `step`.

    Args:
        rnn_size: Width of the controller.
        memory_size: Number of memory locations.
        memory_vector_dim: Width of each location.
        controller: See `controllers.make_controller`.
        controller_layers: How many layers of a named controller to stack.
        kernel_initializer: Initializer of the projections' kernels.
        bias_initializer: Initializer of the projections' biases.
        kernel_regularizer: Regularizer of the projections' kernels.
        bias_regularizer: Regularizer of the projections' biases.
        kernel_constraint: Constraint on the projections' kernels.
        bias_constraint: Constraint on the projections' biases.
        **kwargs: Keras's own, such as `name` and `dtype`.
    """

    State: ClassVar[Any]

    def __init__(
        self,
        rnn_size: int,
        memory_size: int,
        memory_vector_dim: int,
        *,
        controller: Any,
        controller_layers: int,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._input_width: int | None = None
        self.rnn_size = arguments.integer("rnn_size", rnn_size, at_least=1)
        self.memory_size = arguments.integer("memory_size", memory_size, at_least=1)
        self.memory_vector_dim = arguments.integer(
            "memory_vector_dim", memory_vector_dim, at_least=1
        )
        self.controller_layers = arguments.integer(
            "controller_layers", controller_layers, at_least=1
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.controller_name = controller if isinstance(controller, str) else None
        self.controller = controllers.make_controller(
            controller, self.rnn_size, self.controller_layers, self.dtype_policy
        )

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of one sequence's state, but for the controller's, in the order of `State`."""
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """How many numbers the controller gives out for all heads in a step."""
        raise NotImplementedError

    def initial_state(self, dtype: Any) -> Any:
        """The `State` of one sequence before its first step, without an axis for the batch."""
        raise NotImplementedError

    def step(self, inputs: tf.Tensor, state: Any) -> Any:
        """One step: a NamedTuple with `outputs` and the new `state` among its fields."""
        raise NotImplementedError

    @property
    def controller_state_size(self) -> list[int]:
        """The sizes of the controller's own states."""
        return controllers.state_sizes(self.controller)

    @property
    def state_size(self) -> list[int]:
        """The sizes of the flat states: the controller's, then those of `state_shapes`."""
        return [*self.controller_state_size, *map(math.prod, self.state_shapes.values())]

    @property
    def read_width(self) -> int:
        """How many numbers all read heads read in a step."""
        return math.prod(self.state_shapes["read_vectors"])

    def build(self, input_shape):
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                f"The input of {type(self).__name__} must have the shape (batch, features), that "
                "of a layer around it (batch, time, features), with a known number of features. "
                f"Received: {tuple(input_shape)} for a step"
            )
        self.expect(input_shape[-1])
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: self._input_width})
        with tf.name_scope("controller"):
            controllers.build(self.controller, self._input_width + self.read_width)
        self.parameter_projection = self.projection(
            "parameter_projection", self.parameter_count, self.rnn_size
        )
        self.built = True

    def expect(self, input_width: int | None) -> None:
        """Says how wide the inputs will be, on which the width of the output may depend."""
        if not self.built:
            self._input_width = None if input_width is None else int(input_width)

    def projection(self, name: str, width: int, input_width: int) -> keras.layers.Dense:
        """A built dense layer with the initializers, regularizers and constraints given."""
        projection = keras.layers.Dense(
            width,
            kernel_initializer=copy_of(self.kernel_initializer),
            bias_initializer=copy_of(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        with tf.name_scope(name):
            projection.build((None, input_width))
        return controllers.never_quantized(projection)

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> list[tf.Tensor]:
        """The state before the first step, the same for every sequence of a batch.

        Args:
            inputs: A batch from which to take the batch size, as Keras 2 may give it.
            batch_size: Number of sequences, a Python integer or a scalar tensor.
            dtype: By default the cell's compute dtype, as where Keras 2 gives that of inputs of
                whole numbers.

        Returns:
            The flat list of states, one `(batch_size, size)` for each of `state_size`.

        Raises:
            ValueError: There is neither `inputs` nor a `batch_size`.
        """
        if inputs is not None:
            batch_size = tf.shape(inputs)[0]
        if batch_size is None:
            raise ValueError("Argument `batch_size` must be given where `inputs` is not.")
        if dtype is None or not tf.as_dtype(dtype).is_floating:
            dtype = self.compute_dtype
        controllers.reset_dropout(self.controller)
        batch = tf.nest.map_structure(
            lambda value: tf.repeat(value[tf.newaxis], batch_size, axis=0),
            self.initial_state(dtype),
        )
        return self.pack_state(batch)

    def pack_state(self, state: Any) -> list[tf.Tensor]:
        """The flat list of states that Keras keeps, from a `State`.

        Raises:
            ValueError: It is no `State` of this cell, or what is in it is no tensor, or not of the
                shape that it should be.
        """
        if not isinstance(state, self.State):
            raise ValueError(
                f"Argument `state` (of a layer `initial_state`) must be a `{self.State.__name__}`. "
                f"Received: a `{type(state).__name__}`"
            )
        tensors = [*state.controller_state, *state[1:]]
        shapes = [*((size,) for size in self.controller_state_size), *self.state_shapes.values()]
        _check_shapes(f"a `{self.State.__name__}`", "`state`", tensors, None, shapes)
        return [
            reshape(tensor, [-1, size])
            for tensor, size in zip(tensors, self.state_size, strict=True)
        ]

    def unpack_state(self, states: Sequence[tf.Tensor], batch_size: int | None = None) -> Any:
        """The `State` in a flat list of states.

        Args:
            states: One `(batch_size, size)` for each of `state_size`.
            batch_size: What it has to be, if that is known.

        Raises:
            ValueError: The states are not as many, or not of the shape, that they should be.
        """
        if _is_named(states):
            raise ValueError(
                "Argument `states` must be a flat list of tensors, which the cell's `pack_state`"
                f" makes. Received: a `{type(states).__name__}`"
            )
        states = [] if states is None else list(states)
        shapes = [(size,) for size in self.state_size]
        _check_shapes("a flat list", "`states`", states, batch_size, shapes)
        count = len(self.controller_state_size)
        return self.State(
            states[:count],
            *(
                reshape(each, [-1, *shape])
                for each, shape in zip(states[count:], self.state_shapes.values())
            ),
        )

    def call(self, inputs, states, training=None):
        inputs = arguments.real("inputs", inputs, self.compute_dtype)
        step = self.step(inputs, self.unpack_state(states, inputs.shape[0]))
        return step.outputs, self.pack_state(step.state)

    def run_controller(
        self, inputs: tf.Tensor, state: Any
    ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        """The controller's step on the inputs and what was read before.

        Returns:
            Its output, its states, and the projection of the output to the heads' parameters.
        """
        output, controller_state = controllers.run_controller(
            self.controller,
            self.rnn_size,
            self.with_reads(inputs, state.read_vectors),
            state.controller_state,
        )
        return output, controller_state, self.project(self.parameter_projection, output)

    def project(self, projection: Any, features: tf.Tensor) -> tf.Tensor:
        """A projection of features, in their dtype."""
        return tf.cast(projection(features), features.dtype)

    def with_reads(self, features: tf.Tensor, read_vectors: tf.Tensor) -> tf.Tensor:
        """Features and read vectors, side by side."""
        return tf.concat([features, tf.reshape(read_vectors, [-1, self.read_width])], axis=-1)

    def get_config(self) -> dict[str, Any]:
        controller = self.controller_name or keras.layers.serialize(self.controller)
        return {
            **super().get_config(),
            "rnn_size": self.rnn_size,
            "memory_size": self.memory_size,
            "memory_vector_dim": self.memory_vector_dim,
            "controller": controller,
            "controller_layers": self.controller_layers,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


class MemoryLayer(keras.layers.RNN):
    """A `MemoryCell` run over sequences: the base of `NTM` and `MANN`.

    The variables of a stateful layer are zeros as long as it was not called, and after a reset:
    what it then starts from is the initial state of its cell's weights as they are at that time.
    """

    def build(self, sequences_shape, initial_state_shape=None):
        shape = _of_sequences(sequences_shape)
        if len(shape) != 3 or shape[-1] is None:
            raise ValueError(
                f"The input of {type(self).__name__} must have the shape (batch, time, features), "
                f"with a known number of features. Received: {shape}"
            )
        super().build(sequences_shape if _is_several(sequences_shape) else shape)
        if not IS_KERAS_2:
            self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: shape[-1]})
        if self.stateful:
            self.reset_states()

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        self.cell.expect(_of_sequences(sequences_shape)[-1])
        return super().compute_output_shape(sequences_shape)

    def __call__(self, sequences, initial_state=None, **kwargs):
        if _is_named(initial_state):
            initial_state = self.cell.pack_state(initial_state)
        return super().__call__(sequences, initial_state=initial_state, **kwargs)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        controllers.reset_dropout(self.cell.controller)
        if self.stateful and initial_state is None and not isinstance(sequences, list):
            initial_state = self._state_to_go_on_from()
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def _state_to_go_on_from(self) -> list[tf.Tensor]:
        """The state of a stateful layer, or the cell's initial one where that holds only zeros."""
        states = [tf.convert_to_tensor(state) for state in self.states]
        batch_size, dtype = states[0].shape[0], states[0].dtype
        initial = self.cell.get_initial_state(batch_size=batch_size, dtype=dtype)
        was_called = tf.reduce_any([tf.reduce_any(state != 0) for state in states])
        return [tf.where(was_called, *pair) for pair in zip(states, initial)]

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """What Keras 3's RNN layer calls to run over the sequences: see loop.py."""
        sequences = arguments.real("sequences", sequences, self.cell.compute_dtype)
        if mask is not None:
            mask = arguments.mask(mask, sequences)
        if self.unroll or not loop.can_run(self.cell):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        if self.go_backwards:
            sequences = tf.reverse(sequences, [1])
            mask = None if mask is None else tf.reverse(mask, [1])
        outputs, states = self.run_loop(sequences, initial_state, mask)
        if mask is not None:
            outputs = _mask_outputs(outputs, mask, self.zero_output_for_mask)
        return outputs[:, -1], outputs, states

    def run_loop(
        self, sequences: tf.Tensor, initial_state: list[tf.Tensor], mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The cell's outputs over sequences, of no meaning where the mask is False, and its states
        after the last step."""
        raise NotImplementedError

    if IS_KERAS_2:

        def reset_state(self) -> None:
            """Keras 3's name for `reset_states`."""
            self.reset_states()

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        if self.activity_regularizer is not None:  # Keras 2 leaves it out.
            config["activity_regularizer"] = keras.regularizers.serialize(self.activity_regularizer)
        own_of_cell = {
            key: value
            for key, value in self.cell.get_config().items()
            if key not in ("name", "trainable", "dtype")
        }
        return {**config, **own_of_cell}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MemoryLayer:
        return cls(**config)


def _is_several(shape: Any) -> bool:
    """Whether it is a list of shapes, as Keras 2 gives where there is an initial state."""
    return len(shape) > 0 and isinstance(shape[0], (list, tuple, tf.TensorShape))


def _of_sequences(shape: Any) -> tuple[int | None, ...]:
    """The shape of the sequences among the shapes of a layer's inputs."""
    return tuple(shape[0] if _is_several(shape) else shape)


def _mask_outputs(outputs: tf.Tensor, mask: tf.Tensor, zero: bool) -> tf.Tensor:
    """The outputs, with zeros or the last output that counts where the mask is False."""
    if not zero:
        steps = tf.where(mask, tf.range(tf.shape(mask)[1]) + 1, 0)
        last = tf.scan(tf.maximum, tf.transpose(steps))
        mask = tf.transpose(last) > 0
        outputs = tf.gather(outputs, tf.maximum(tf.transpose(last) - 1, 0), batch_dims=1)
    return tf.where(mask[:, :, tf.newaxis], outputs, 0)


def in_wide_precision(function: Callable[..., tf.Tensor], *tensors: Any) -> tf.Tensor:
    """Calls a function of tensors, with those of half precision widened to single.

    Half precision is too coarse for norms, softmaxes and logarithms. The result has the dtype of
    the first tensor.
    """
    dtype = tf.nest.flatten(tensors)[0].dtype
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    widened = tf.nest.map_structure(lambda tensor: tf.cast(tensor, wide), tensors)
    return tf.cast(function(*widened), dtype)


def copy_of(initializer: Any) -> Any:
    """An initializer of the same kind: used twice, one without a seed repeats its numbers."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return initializer.__class__.from_config(initializer.get_config())


def _is_named(states: Any) -> bool:
    """Whether it is a NamedTuple."""
    return hasattr(states, "_fields")


def _check_shapes(
    kind: str, argument: str, states: list[Any], batch_size: int | None, shapes: Sequence[tuple]
) -> None:
    """Refuses states that are not as many, or not of the shapes for a sequence, as they should."""
    wanted = [tf.TensorShape([batch_size, *shape]) for shape in shapes]
    given = [
        tf.TensorShape(state.shape) if hasattr(state, "shape") else type(state).__name__
        for state in states
    ]
    fits = len(given) == len(wanted) and all(
        isinstance(each, tf.TensorShape) and each.is_compatible_with(shape)
        for each, shape in zip(given, wanted)
    )
    if not fits:
        raise ValueError(
            f"Argument {argument} (of a layer `initial_state`) must be {kind} of tensors of the"
            f" shapes {_listed(wanted)}. Received: {_listed(given)}"
        )


def _listed(shapes: Sequence[tf.TensorShape | str]) -> str:
    """The shapes as text, with `batch` where the batch size may be any."""
    texts = [shape if isinstance(shape, str) else str(tuple(shape)) for shape in shapes]
    return ", ".join(texts).replace("(None", "(batch") or "none"
