"""A layer around `NTM` or `MANN` that keeps several CPU cores busy."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import IS_KERAS_2, IS_TENSORFLOW, keras, serializable
from ntm_keras.machine import MemoryLayer


@serializable
class SideBySide(keras.layers.Wrapper):
    """Computes the parts of a batch in parallel, each in a function that XLA compiles.

    XLA splits single operations between CPU cores, but the operations of such a machine are too
    small for that. One core for each part of the batch is faster: with two cores and batches of 32,
    a training step of an NTM takes a fifth less time. The results are those of `layer` alone.

    A model with this layer cannot be compiled as a whole: Keras ignores `jit_compile=True`, with a
    warning. To evaluate or to save, make another model with `layer` itself: it shares the weights.

    Args:
        layer: An `NTM` or a `MANN` that is not stateful and has a fast loop: under Keras 3 on
            TensorFlow, in single or double precision, not unrolled, with a named controller (or a
            cell exactly like one). It has no activity regularizer.
        parts: How many parts to split a batch into; fewer if it has fewer sequences.
        **kwargs: Keras's own, such as `name`.

    Call arguments:
        sequences: `(batch, time, features)`.
        mask: `(batch, time)`; see `NTM`.
        training: See `NTM`.

    Raises:
        ValueError: `layer` is not such a layer, or `parts` is less than 1; in a call, `mask` has
            another shape.

    Examples:
        >>> ntm = NTM(100, memory_size=128, memory_vector_dim=20, read_head_num=1, write_head_num=1,
        ...           output_dim=8, return_sequences=True)
        >>> inputs = tf.keras.Input([None, 9])
        >>> trainer = tf.keras.Model(inputs, SideBySide(ntm)(inputs))
        >>> trainer.compile("adam", "mse")
        >>> _ = trainer.fit(tf.ones([32, 5, 9]), tf.ones([32, 5, 8]), batch_size=32, verbose=0)
        >>> model = tf.keras.Model(inputs, ntm(inputs))
    """

    def __init__(self, layer: Any, parts: int = 2, **kwargs: Any):
        obstacle = _obstacle(layer)
        if obstacle:
            raise ValueError(
                "Argument `layer` must be an NTM or MANN layer with a fast loop, neither stateful"
                f" nor with an activity regularizer. {obstacle}. Received: layer={layer!r}"
            )
        super().__init__(layer, **kwargs)
        self.parts = validation.integer("parts", parts, at_least=1)
        self.supports_jit = False
        self.supports_masking = True
        self._compiled = tf.function(self._run, jit_compile=True, autograph=False)

    def call(self, sequences, mask=None, training=False):
        mask = None if mask is None else validation.mask(mask, sequences)
        batch_size = sequences.shape[0] or tf.shape(sequences)[0]
        parts = min(self.parts, sequences.shape[0] or self.parts)
        ends = [batch_size * part // parts for part in range(parts + 1)]
        results = [
            self._compiled(
                sequences[start:end], None if mask is None else mask[start:end], training
            )
            for start, end in zip(ends, ends[1:])
        ]
        return tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *results)

    def _run(self, sequences, mask, training):
        return self.layer(sequences, mask=mask, training=training)

    def compute_output_spec(self, sequences, mask=None, training=False):
        return self.layer.compute_output_spec(sequences, mask=mask, training=training)

    def compute_output_shape(self, sequences_shape):
        return self.layer.compute_output_shape(sequences_shape)

    def compute_mask(self, sequences, mask=None):
        return self.layer.compute_mask(sequences, mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "parts": self.parts}


def can_wrap(layer: Any) -> bool:
    """Whether `SideBySide` accepts this layer."""
    return _obstacle(layer) is None


def _obstacle(layer: Any) -> str | None:
    """Why `SideBySide` does not accept this layer; None if it does."""
    if not isinstance(layer, MemoryLayer):
        return "It is another layer"
    if layer.stateful:
        return "It is stateful"
    if layer.activity_regularizer is not None:
        return "It has an activity regularizer"
    if IS_KERAS_2:
        return "Under Keras 2 no layer has a fast loop"
    if not IS_TENSORFLOW:
        return "`SideBySide` works only on TensorFlow"
    if layer.unroll:
        return "It is unrolled"
    if not layer.has_fast_loop:
        return (
            "Its cell has no fast loop: NTMCell and MANNCell themselves have one, in single or"
            " double precision, with a named controller or a cell exactly like one, as long as"
            " nothing in them is replaced"
        )
    return None
