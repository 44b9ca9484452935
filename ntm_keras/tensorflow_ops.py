"""As much of `keras.ops` as is used here, for TensorFlow under Keras 3 and 2.

Keras 2 has no `keras.ops`. That of Keras 3 does more than is needed here: for example, it computes
the sizes of a split when the graph runs, so that they are not known before. Names and arguments
are those of `keras.ops`, which documents them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

abs = tf.abs
all = tf.reduce_all
any = tf.reduce_any
arange = tf.range
argmax = tf.argmax
broadcast_to = tf.broadcast_to
cast = tf.cast
clip = tf.clip_by_value
concatenate = tf.concat
cond = tf.cond
convert_to_tensor = tf.convert_to_tensor
divide_no_nan = tf.math.divide_no_nan
equal = tf.equal
exp = tf.exp
expand_dims = tf.expand_dims
isfinite = tf.math.is_finite
isnan = tf.math.is_nan
log = tf.math.log
logical_and = tf.logical_and
logical_not = tf.logical_not
matmul = tf.matmul
max = tf.reduce_max
maximum = tf.maximum
minimum = tf.minimum
not_equal = tf.not_equal
ones = tf.ones
ones_like = tf.ones_like
repeat = tf.repeat
roll = tf.roll
rsqrt = tf.math.rsqrt
sigmoid = tf.sigmoid
softmax = tf.nn.softmax
softplus = tf.nn.softplus
sqrt = tf.sqrt
square = tf.square
squeeze = tf.squeeze
stack = tf.stack
stop_gradient = tf.stop_gradient
sum = tf.reduce_sum
tanh = tf.tanh
tensordot = tf.tensordot
top_k = tf.math.top_k
transpose = tf.transpose
where = tf.where
zeros = tf.zeros
zeros_like = tf.zeros_like


def binary_crossentropy(target: Any, output: Any, from_logits: bool) -> tf.Tensor:
    assert from_logits
    return tf.nn.sigmoid_cross_entropy_with_logits(target, output)


def categorical_crossentropy(target: Any, output: Any, from_logits: bool) -> tf.Tensor:
    assert from_logits
    return tf.nn.softmax_cross_entropy_with_logits(target, output)


def flip(x: Any, axis: int) -> tf.Tensor:
    return tf.reverse(x, [axis])


def full(shape: Sequence[int], fill_value: float, dtype: Any) -> tf.Tensor:
    return tf.fill(shape, tf.constant(fill_value, dtype))


def moveaxis(x: Any, source: int, destination: int) -> tf.Tensor:
    axes = list(range(x.shape.rank))
    axes.insert(destination, axes.pop(source))
    return tf.transpose(x, axes)


def one_hot(x: Any, num_classes: int, dtype: Any) -> tf.Tensor:
    return tf.one_hot(x, num_classes, dtype=dtype)


def reshape(x: Any, newshape: Any) -> tf.Tensor:
    # Keras 3's symbolic tensors need its own operation; Keras 2's work with TensorFlow's.
    return (
        tf.keras.ops.reshape(x, newshape) if hasattr(tf.keras, "ops") else tf.reshape(x, newshape)
    )


def shape(x: Any) -> Any:
    """The sizes, each an integer where it is known, else a tensor; of unknown rank a tensor."""
    static, dynamic = tf.TensorShape(x.shape), tf.shape(x)
    if static.rank is None:
        return dynamic
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(static))


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int) -> list[tf.Tensor]:
    if isinstance(indices_or_sections, int):
        return tf.split(x, indices_or_sections, axis)
    ends = [0, *indices_or_sections]
    sizes = [end - begin for begin, end in zip(ends, ends[1:])]
    # TensorFlow refuses -1 as the size of all there is.
    return tf.split(x, [*sizes, -1], axis) if sizes else [x]


def tril(x: Any) -> tf.Tensor:
    return tf.linalg.band_part(x, -1, 0)


def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[tf.Tensor]:
    return tf.unstack(x, num, axis)
