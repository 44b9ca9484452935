"""Runs a cell and keeps every step: what one looks at to see how the machine works."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ntm_keras.keras_compat import keras
from ntm_keras.machine import MemoryCell
from ntm_keras.mann import MANNCell
from ntm_keras.ntm import NTMCell
from ntm_keras.side_by_side import SideBySide


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

    outputs: tf.Tensor
    read_weightings: tf.Tensor
    write_weightings: tf.Tensor
    read_vectors: tf.Tensor
    memory: tf.Tensor
    key: tf.Tensor
    key_strength: tf.Tensor
    interpolation_gate: tf.Tensor
    shift_weighting: tf.Tensor
    sharpening: tf.Tensor
    erase_vector: tf.Tensor
    add_vector: tf.Tensor


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

    outputs: tf.Tensor
    read_weightings: tf.Tensor
    write_weightings: tf.Tensor
    read_vectors: tf.Tensor
    memory: tf.Tensor
    usage: tf.Tensor
    key: tf.Tensor
    add_vector: tf.Tensor
    write_gate: tf.Tensor
    key_strength: tf.Tensor


Trace = NTMTrace | MANNTrace

# Held while the layers of a model are listened to.
_listening = threading.Lock()


def trace(
    cell: NTMCell | MANNCell,
    inputs: tf.Tensor,
    initial_state: NamedTuple | Sequence[tf.Tensor] | None = None,
) -> Trace:
    """Runs a cell over sequences and returns all that happened on the way.

    Args:
        cell: The cell, built or not; of a layer, `layer.cell`.
        inputs: `(batch, time, features)`, at least one step long.
        initial_state: An `NTMState`, a `MANNState` or the flat list of states; by default the
            cell's own.

    Returns:
        The `NTMTrace`, of a `MANNCell` the `MANNTrace`.

    Raises:
        ValueError: `cell` is no cell of this library, or `inputs` has another rank than 3, no
            step, or another width than before.

    Examples:
        >>> cell = NTMCell(100, memory_size=128, memory_vector_dim=20,
        ...                read_head_num=1, write_head_num=1)
        >>> tuple(trace(cell, tf.zeros([4, 7, 9])).read_weightings.shape)
        (4, 7, 1, 128)
    """
    if not isinstance(cell, MemoryCell):
        raise ValueError(
            "Argument `cell` must be an NTMCell or a MANNCell; a layer has it as `layer.cell`. "
            f"Received: cell={cell!r}"
        )
    inputs = tf.cast(inputs, cell.compute_dtype)
    if inputs.shape.rank != 3 or not inputs.shape[1]:
        raise ValueError(
            "Argument `inputs` must have the shape (batch, time, features), with a known time of "
            f"at least 1. Received: inputs.shape={inputs.shape}"
        )
    if not cell.built:
        cell.build((None, inputs.shape[-1]))
    width = cell.input_spec.axes[-1]
    if inputs.shape[-1] != width:
        raise ValueError(
            f"Argument `inputs` must have {width} features, as those that the cell was built for. "
            f"Received: inputs.shape={inputs.shape}"
        )
    if initial_state is None:
        initial_state = cell.get_initial_state(batch_size=tf.shape(inputs)[0])
    state: Any = initial_state
    if not isinstance(state, cell.State):
        state = cell.unpack_state(state, inputs.shape[0])
    time_first = tf.einsum("btf->tbf", inputs)
    # For the shapes; the scan computes the first step again.
    first: Any = cell.step(time_first[0], state)._replace(state=state)
    steps = tf.scan(lambda last, now: cell.step(now, last.state), time_first, first)
    steps = tf.nest.map_structure(lambda each: tf.einsum("tb...->bt...", each), steps)
    if isinstance(cell, MANNCell):
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
    heads = [cell.read_head_num, cell.write_head_num]
    read_weightings, write_weightings = tf.split(steps.state.weightings, heads, axis=2)
    return NTMTrace(
        steps.outputs,
        read_weightings,
        write_weightings,
        steps.state.read_vectors,
        steps.state.memory,
        *steps.parameters,
    )


def trace_model(model: keras.Model, inputs: Any) -> tuple[Any, dict[str, Trace]]:
    """Calls a model and traces every layer in it whose cell is one of this library's.

    Masks are not taken into account, and a layer that is called twice is traced once, with its
    last inputs. Steps stand in the order in which the layer takes them.

    Args:
        model: Any model, of any depth; also with such a layer in `Bidirectional`.
        inputs: What to call it with.

    Returns:
        The model's outputs, and by its name each layer's trace, of which a model may have none;
        where two layers have the same name, the second one's ends with `_again`.

    Raises:
        ValueError: The model has a recurrent layer that is stateful, whose state would go on.
    """
    flat = list(model._flatten_layers(include_self=False))
    for layer in flat:
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            raise ValueError(
                "Argument `model` must have no stateful layer. "
                f"Received: model={model.name!r} with {layer.name!r}"
            )
    layers = [layer for layer in flat if isinstance(getattr(layer, "cell", None), MemoryCell)]
    wrappers: list[Any] = [layer for layer in flat if isinstance(layer, SideBySide)]
    with _listening:
        outputs, received = _call_and_listen(model, inputs, layers, wrappers)
    traces: dict[str, Trace] = {}
    for layer in layers:
        if id(layer) in received:
            sequences, initial_state = received[id(layer)]
            in_order = sequences[:, ::-1] if layer.go_backwards else sequences
            name = layer.name
            while name in traces:
                name += "_again"
            traces[name] = trace(layer.cell, in_order, initial_state)
    return outputs, traces


def _call_and_listen(
    model: keras.Model, inputs: Any, layers: list[Any], wrappers: list[Any]
) -> tuple[Any, dict[int, tuple]]:
    """A model's outputs, and by their ids what its layers received: sequences and initial state.

    Other threads may call the model at the same time.
    """
    received: dict[int, tuple] = {}
    thread = threading.get_ident()

    def listen(layer):
        call = layer.call

        def listening(sequences, *args, **kwargs):
            if threading.get_ident() == thread:
                received[id(layer)] = (sequences, kwargs.get("initial_state"))
            return call(sequences, *args, **kwargs)

        layer.call = listening

    for layer in layers:
        listen(layer)
    for wrapper in wrappers:  # What a function received that XLA compiled stays in it.
        wrapper.call = wrapper.layer.__call__
    try:
        return model(inputs, training=False), received
    finally:
        for layer in [*layers, *wrappers]:
            del layer.call
