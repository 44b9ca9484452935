"""The heads of the `MANN` in its fast loop: see loop.py.

A MANN reads after its own write, but here the write is deferred. So the read is computed before the
write: as the read of the old memory without the cleared row, plus the read of the added vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ntm_keras.addressing import interpolate
from ntm_keras.fast import analytic
from ntm_keras.fast.loop import Kept, Loop, where
from ntm_keras.keras_compat import Tensor, add_n, matmul, ops
from ntm_keras.mann_heads import MANNParameters, head_parameters, least_used_locations


class PendingWrite(NamedTuple):
    """The deferred write of a step.

    Attributes:
        cleared: 1 at the least used location, 0 elsewhere, `(batch, memory_size)`.
        weightings: w_t^w, `(batch, heads, memory_size)`.
        add_vector: a_t, `(batch, heads, memory_vector_dim)`.
    """

    cleared: Tensor
    weightings: Tensor
    add_vector: Tensor


class KeptHeads(NamedTuple):
    """What the heads keep of a step for the gradient.

    Attributes:
        previous: w_{t-1}^r.
        least_used: w_{t-1}^lu, `(batch, memory_size)`.
        cleared: See `PendingWrite`.
        write_weightings: w_t^w.
        parameters: The heads' parameters.
        content: What addressing by content keeps.
    """

    previous: Tensor
    least_used: Tensor
    cleared: Tensor
    write_weightings: Tensor
    parameters: MANNParameters
    content: analytic.KeptContent


class MemoryGradient(NamedTuple):
    """The deferred memory gradient of a step: see `loop.DeferredMemoryGradient`.

    Attributes:
        cleared: See `PendingWrite`; zero where the step is masked.
        key: k_t.
        d_dot: See `analytic.address_by_content_gradient`.
        decay: See there.
    """

    cleared: Tensor
    key: Tensor
    d_dot: Tensor
    decay: Tensor

    def before(self, d_memory: Tensor, memory: Tensor) -> Tensor:
        return (
            d_memory * (1 - self.cleared[:, None, :])
            + add_n(analytic.outer(self.key, self.d_dot))
            - memory * self.decay[:, None, :]
        )


class MANNLoop(Loop):
    """The loop of a `MANNCell`."""

    def _outputs(self, controller_outputs: Tensor, read_vectors: Tensor) -> Tensor:
        return ops.concatenate([controller_outputs, read_vectors], axis=-1)

    def _no_write(self, state: Any) -> PendingWrite:
        return PendingWrite(
            ops.zeros_like(state.usage),
            ops.zeros_like(state.read_weightings),
            ops.zeros_like(state.read_vectors),
        )

    def _write(self, state: Any, pending_write: PendingWrite) -> Tensor:
        added = add_n(analytic.outer(pending_write.add_vector, pending_write.weightings))
        return state.memory * (1 - pending_write.cleared[:, None, :]) + added

    def _head_arrays(self, array: Callable[..., Any]) -> KeptHeads:
        heads, size = self._cell.head_num, self._cell.memory_size
        width = self._cell.memory_vector_dim
        return KeptHeads(
            previous=array(heads, size),
            least_used=array(size),
            cleared=array(size),
            write_weightings=array(heads, size),
            parameters=MANNParameters(
                array(heads, width), array(heads, width), array(heads), array(heads)
            ),
            content=analytic.KeptContent(array(size), array(heads, size), array(heads, size)),
        )

    def _heads(self, projection: Tensor, state: Any) -> tuple[Any, PendingWrite, KeptHeads]:
        cell = self._cell
        parameters = head_parameters(projection, cell.head_num, cell.parameter_sizes)
        reading, content = analytic.address_by_content(
            state.memory, parameters.key, parameters.key_strength, is_bounded=False
        )
        locations = least_used_locations(state.usage, cell.head_num)
        marks = ops.one_hot(locations, cell.memory_size, dtype=state.usage.dtype)
        cleared, least_used = marks[:, 0], ops.sum(marks, axis=1)
        writing = interpolate(state.read_weightings, least_used[:, None, :], parameters.write_gate)
        added = parameters.add_vector
        shared = matmul(reading, writing, transpose_b=True)
        read_vectors = analytic.along_locations(
            state.memory, reading * (1 - cleared[:, None, :])
        ) + matmul(shared, added)
        after = state._replace(
            read_vectors=read_vectors,
            read_weightings=reading,
            usage=cell.gamma * state.usage + ops.sum(reading + writing, axis=1),
        )
        kept = KeptHeads(state.read_weightings, least_used, cleared, writing, parameters, content)
        return after, PendingWrite(cleared, writing, added), kept

    def _prepare_heads(self, kept: KeptHeads) -> tuple:
        return ()

    def _nothing_deferred(self, kept: KeptHeads) -> MemoryGradient:
        nothing, weightings = ops.zeros_like(kept.cleared[0]), ops.zeros_like(kept.previous[0])
        width = self._cell.memory_vector_dim
        key = ops.repeat(weightings[:, :, :1], width, axis=2)
        return MemoryGradient(nothing, key, weightings, nothing)

    def _heads_back(
        self, counts: Tensor | None, kept: Kept, prepared: tuple, d_after: Any
    ) -> tuple[Any, Tensor, MemoryGradient]:
        kept_heads = kept.heads
        parameters = kept_heads.parameters
        reading, writing = kept_heads.content.weighting, kept_heads.write_weightings
        # A masked step adds nothing to any gradient.
        d_read_vectors, d_reading, d_usage = where(
            counts, (d_after.read_vectors, d_after.read_weightings, d_after.usage)
        )
        d_usage = d_usage[:, None, :]
        # dL/dM_t: the step reads M_t.
        d_memory = d_after.memory + matmul(d_read_vectors, reading, transpose_a=True)
        d_writing, d_add = where(
            counts,
            (
                analytic.along_width(d_memory, parameters.add_vector),
                analytic.along_locations(d_memory, writing),
            ),
        )
        d_writing += d_usage
        kept_rows = 1 - kept_heads.cleared[:, None, :]
        d_reading += d_usage + kept_rows * analytic.along_width(kept.memory, d_read_vectors)
        d_shared = matmul(d_read_vectors, parameters.add_vector, transpose_b=True)
        d_reading += matmul(d_shared, writing)

        gate = parameters.write_gate[:, :, None]
        from_least_used = kept_heads.previous - kept_heads.least_used[:, None, :]
        d_key, d_key_strength, d_dot, decay = analytic.address_by_content_gradient(
            kept.memory, parameters.key, parameters.key_strength, kept_heads.content, d_reading
        )
        d_gate = ops.sum(d_writing * from_least_used, axis=-1)
        d_projection = _head_parameters_gradient(
            parameters,
            MANNParameters(d_key, d_add, d_gate, d_key_strength),
            self._cell.parameter_sizes,
        )
        deferred = MemoryGradient(where(counts, kept_heads.cleared), parameters.key, d_dot, decay)
        d_before = d_after._replace(
            read_weightings=gate * d_writing,
            usage=self._cell.gamma * d_usage[:, 0],
            memory=d_memory,
        )
        return d_before, d_projection, deferred


def _head_parameters_gradient(
    parameters: MANNParameters, d_parameters: MANNParameters, sizes: Sequence[int]
) -> Tensor:
    """The gradient by the projection, from the gradients by the parameters."""
    key, add_vector, gate, strength = parameters
    d_key, d_add_vector, d_gate, d_strength = d_parameters
    if not sizes[1]:
        d_key += d_add_vector
    parts = [
        d_key * (1 - key**2),
        d_add_vector * (1 - add_vector**2),
        (d_gate * gate * (1 - gate))[:, :, None],
        # The slope of a softplus is 1 - exp(-softplus).
        (d_strength * (1 - ops.exp(1 - strength)))[:, :, None],
    ]
    joined = ops.concatenate([part for part, size in zip(parts, sizes) if size], axis=-1)
    return ops.reshape(joined, [-1, joined.shape[1] * joined.shape[2]])
