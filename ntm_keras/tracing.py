"""Runs a cell and keeps every step, to see how the machine works."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import IS_KERAS_2, Tensor, keras, ops, scan
from ntm_keras.machine import MemoryCell
from ntm_keras.side_by_side import SideBySide

# Held while the `call` methods of a model's layers are replaced.
_listening = threading.Lock()


def trace(
    cell: MemoryCell,
    inputs: Tensor,
    initial_state: NamedTuple | Sequence[Tensor] | None = None,
) -> Any:
    """Runs a cell over sequences and returns everything that happened in every step.

    Args:
        cell: The cell, built or not. A layer has it as `layer.cell`.
        inputs: `(batch, time, features)`, at least one step long.
        initial_state: The cell's `State` or the flat list of states; by default the cell's own
            initial state.

    Returns:
        An `NTMTrace` for an `NTMCell`, a `MANNTrace` for a `MANNCell`; for another cell, the result
        of its `as_trace`.

    Raises:
        ValueError: `cell` is not a `MemoryCell`, or overrides `call`, or its `step` returns what it
            must not; or `inputs` does not hold numbers, does not have three axes, has no step, or
            has another width than the cell was built for.

    Examples:
        >>> cell = NTMCell(100, memory_size=128, memory_vector_dim=20,
        ...                read_head_num=1, write_head_num=1)
        >>> tuple(trace(cell, tf.zeros([4, 7, 9])).read_weightings.shape)
        (4, 7, 1, 128)
    """
    if not isinstance(cell, MemoryCell):
        raise ValueError(
            "Argument `cell` must be a MemoryCell, such as an NTMCell or a MANNCell; a layer has it"
            f" as `layer.cell`. Received: cell={cell!r}"
        )
    if type(cell).call is not MemoryCell.call or "call" in vars(cell):
        raise ValueError(
            "Argument `cell` must not override `call`: a trace keeps what `step` returns."
            f" Received: cell={cell!r}"
        )
    inputs = validation.real("inputs", ops.convert_to_tensor(inputs), cell.compute_dtype)
    if len(inputs.shape) != 3 or not inputs.shape[1]:
        raise ValueError(
            "Argument `inputs` must have the shape (batch, time, features), with a known time of "
            f"at least 1. Received: inputs.shape={inputs.shape}"
        )
    if not cell.built:
        cell.build((None, inputs.shape[-1]))
    width = cell.input_spec.axes[-1]
    if inputs.shape[-1] != width:
        raise ValueError(
            f"Argument `inputs` must have {width} features, for which the cell was built. "
            f"Received: inputs.shape={inputs.shape}"
        )
    if initial_state is None:
        initial_state = cell.get_initial_state(batch_size=ops.shape(inputs)[0])
    if isinstance(initial_state, cell.State):
        initial_state = cell.pack_state(initial_state)
    state = cell.unpack_state(initial_state, inputs.shape[0])
    time_first = ops.transpose(inputs, [1, 0, 2])
    # For the shapes; the scan computes the first step again.
    first: Any = cell.checked_step(time_first[0], state)._replace(state=state)
    steps = scan(lambda last, now: cell.step(now, last.state), time_first, first)
    return cell.as_trace(tf.nest.map_structure(lambda each: ops.moveaxis(each, 0, 1), steps))


def trace_model(model: keras.Model, inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Calls a model and traces every layer in it whose cell is a `MemoryCell`.

    Masks are ignored. A layer that is called twice is traced once, with its last inputs. The steps
    of a trace are in the order in which the layer processes them.

    Args:
        model: Any model; the layers may be nested, and inside `Bidirectional`.
        inputs: The inputs to call the model with.

    Returns:
        The model's outputs, and a dict from layer name to trace, possibly empty. If two layers have
        the same name, the second one's ends with `_again`.

    Raises:
        ValueError: `model` is not a Keras model; or it has a stateful recurrent layer, whose state
            the call would change.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Argument `model` must be a keras.Model. Received: model={model!r}")
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
    traces: dict[str, Any] = {}
    for layer in layers:
        if id(layer) in received:
            sequences, initial_state = received[id(layer)]
            if initial_state is None:
                batch = sequences if IS_KERAS_2 else ops.shape(sequences)[0]
                initial_state = layer.get_initial_state(batch)
            in_order = sequences[:, ::-1] if layer.go_backwards else sequences
            name = layer.name
            while name in traces:
                name += "_again"
            traces[name] = trace(layer.cell, in_order, initial_state)
    return outputs, traces


def _call_and_listen(
    model: keras.Model, inputs: Any, layers: list[Any], wrappers: list[Any]
) -> tuple[Any, dict[int, tuple]]:
    """A model's outputs, and a dict from layer id to the layer's sequences and initial state.

    Calls of the model from other threads are not recorded.
    """
    received: dict[int, tuple] = {}
    thread = threading.get_ident()
    replaced = [(layer, vars(layer).get("call")) for layer in (*layers, *wrappers)]

    def listen(layer):
        call = layer.call

        def listening(sequences, *args, **kwargs):
            if threading.get_ident() == thread:
                received[id(layer)] = (sequences, kwargs.get("initial_state"))
            return call(sequences, *args, **kwargs)

        layer.call = listening

    for layer in layers:
        listen(layer)
    for wrapper in wrappers:  # A compiled function's tensors cannot be recorded.
        wrapper.call = wrapper.layer.__call__
    try:
        return model(inputs, training=False), received
    finally:
        for layer, call in replaced:
            del layer.call
            if call is not None:  # The user's own.
                layer.call = call
