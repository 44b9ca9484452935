"""A trained machine with another number of memory locations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ntm_keras import validation
from ntm_keras.initial_state import copy_of
from ntm_keras.keras_compat import keras
from ntm_keras.machine import MemoryCell
from ntm_keras.ntm import NTMCell

# A new location's initial weight must vanish beside the others in single precision.
_VANISHING = 2.0**-26

# How much of an initial weighting may lie on the locations that are dropped.
_MAY_BE_LOST = 1e-3


def with_memory_size(model_or_layer: Any, memory_size: int) -> Any:
    """The same machine with more or fewer memory locations: a copy with the same weights.

    All locations of a memory that starts from a constant are alike, so that a machine can be given
    more of them after training, and copy sequences longer than its memory was. If the memory starts
    from random numbers, old locations keep theirs and new ones get others of the same kind. The
    heads begin on the old locations. If there are to be fewer locations, the last ones are dropped.

    Args:
        model_or_layer: A built model or layer with an NTM or a MANN in it: in `NTM`, `MANN` or
            `MemoryLayer`, or as a cell in `keras.layers.RNN`. It stays as it is.
        memory_size: The number of locations of every memory in it.

    Returns:
        A model or layer of the same class, not compiled. Stateful layers begin anew.

    Raises:
        ValueError: An argument is not one of these; an initial memory is learned, so that every
            location has its own content; a head begins on a location that would be dropped; or a
            weight of another shape depends on the number of locations.

    Examples:
        >>> layer = NTM(20, memory_size=8, memory_vector_dim=4, read_head_num=1, write_head_num=1,
        ...             memory_initializer="constant")
        >>> _ = layer(tf.zeros([1, 5, 3]))
        >>> with_memory_size(layer, 1000).memory_size
        1000
    """
    memory_size = validation.integer("memory_size", memory_size, at_least=1)
    cells = _cells(model_or_layer)
    if not cells or not model_or_layer.built:
        raise ValueError(
            "Argument `model_or_layer` must be a built model or layer with an NTM or a MANN in it."
            f" Received: model_or_layer={model_or_layer!r}"
        )
    config = keras.layers.serialize(model_or_layer)
    config.pop("compile_config", None)
    copy = keras.layers.deserialize(_resized(config, memory_size))
    if not all(cell.built for cell in _cells(copy)):  # Keras 2's RNN and Bidirectional.
        copy(keras.Input([None, cells[0].input_spec.axes[-1]]))
    copy_weights(model_or_layer, copy)
    return copy


def copy_weights(source: Any, target: Any) -> None:
    """Gives a model or layer the weights of another one that differs in its memory sizes only.

    Raises:
        ValueError: As in `with_memory_size`.
    """
    new_values = {}
    for old, new in zip(_cells(source), _cells(target), strict=True):
        if isinstance(old, NTMCell):
            new_values[id(new.initial.weightings)] = _weightings(old, new.memory_size)
            new_values[id(new.initial.memory)] = _memory(old, new)
    for old, new in zip(source.weights, target.weights, strict=True):
        value = new_values.get(id(new), np.array(old))
        if value.shape != tuple(new.shape):
            raise ValueError(
                f"The weight {old.path if hasattr(old, 'path') else old.name} has another shape for"
                f" another number of locations, {tuple(new.shape)}, and no rule says what its"
                f" numbers are then. Received: {value.shape}"
            )
        new.assign(value)


def _cells(model_or_layer: Any) -> list[MemoryCell]:
    """The cells with a memory in a model or layer."""
    if not isinstance(model_or_layer, keras.layers.Layer):
        return []
    return [each for each in model_or_layer._flatten_layers() if isinstance(each, MemoryCell)]


def _resized(config: Any, memory_size: int) -> Any:
    """A serialized object in which all machines have this `memory_size`."""
    if isinstance(config, (list, tuple)):
        return [_resized(each, memory_size) for each in config]
    if not isinstance(config, dict):
        return config
    resized = {name: _resized(each, memory_size) for name, each in config.items()}
    if {"rnn_size", "memory_size", "memory_vector_dim"} <= config.keys():
        resized["memory_size"] = memory_size
    return resized


def _weightings(cell: NTMCell, memory_size: int) -> np.ndarray:
    """The logits of the initial weightings, for another number of locations."""
    logits = np.array(cell.initial.weightings)
    total = np.logaddexp.reduce(logits, axis=1, keepdims=True)
    added = memory_size - cell.memory_size
    if added <= 0:
        kept = logits[:, :memory_size]
        lost = -np.expm1(np.logaddexp.reduce(kept, axis=1) - total[:, 0])
        if lost.max() > _MAY_BE_LOST:
            raise ValueError(
                f"Argument `memory_size` must keep the locations where heads begin:"
                f" {lost.max():.3g} of an initial weighting lies on those that would be dropped."
                f" Received: memory_size={memory_size}"
            )
        return kept
    vanishing = total + math.log(_VANISHING / added)
    smallest = np.minimum(logits.min(axis=1, keepdims=True), vanishing)
    return np.concatenate([logits, np.repeat(smallest, added, axis=1)], axis=1)


def _memory(old: NTMCell, new: NTMCell) -> np.ndarray:
    """The memory before the first step, for another number of locations."""
    kind, rows = old.memory_initializer, np.array(old.initial.memory)
    if new.memory_size == old.memory_size:
        return rows
    if kind == "learned":
        raise ValueError(
            "A machine whose initial memory is learned has only as many locations as were trained;"
            ' use memory_initializer="constant". Received: memory_initializer="learned"'
        )
    if new.memory_size < old.memory_size:
        return rows[: new.memory_size]
    if kind == "constant":
        drawn = np.array(new.initial.memory)
    elif kind == "random":
        bound = sum(rows.shape) ** -0.5
        drawn = np.random.default_rng(0).uniform(-bound, bound, new.initial.memory.shape)
    else:
        drawn = np.array(_seeded(kind)(tuple(new.initial.memory.shape)))
    return np.concatenate([rows, drawn[old.memory_size :].astype(rows.dtype)])


def _seeded(initializer: Any) -> Any:
    """A copy of an initializer, with a fixed seed if it takes one."""
    copy = copy_of(initializer)
    if isinstance(copy, keras.initializers.Initializer) and "seed" in copy.get_config():
        return copy.__class__.from_config({**copy.get_config(), "seed": 0})
    return copy
