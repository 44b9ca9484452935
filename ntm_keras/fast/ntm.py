"""The heads of the `NTM` in its fast loop: see loop.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ntm_keras.fast import analytic
from ntm_keras.fast.loop import Kept, Loop, where
from ntm_keras.heads import HeadParameters
from ntm_keras.keras_compat import Tensor, add_n, ops


class KeptHeads(NamedTuple):
    """What the heads keep of a step for the gradient.

    Attributes:
        previous_weightings: w_{t-1}.
        weightings: w_t.
        squashed: The heads' parameters.
        content: What addressing by content keeps.
        location: What addressing by location keeps; empty without it.
    """

    previous_weightings: Tensor
    weightings: Tensor
    squashed: analytic.SquashedHeads
    content: analytic.KeptContent
    location: Any


class PreparedHeads(NamedTuple):
    """Backward quantities that depend only on what the heads kept.

    Attributes:
        parameters: The heads' parameters.
        slopes: Their slopes, see `analytic.head_slopes`.
        sharpening_slope: See `analytic.sharpening_slope`; empty without addressing by location.
    """

    parameters: HeadParameters
    slopes: Tensor
    sharpening_slope: Any


class MemoryGradient(NamedTuple):
    """The deferred memory gradient of a step: see `loop.DeferredMemoryGradient`.

    Attributes:
        erase_vector: e_t; zero where the step is masked.
        write_weightings: w_t of the write heads.
        d_read_vectors: The gradient by r_t.
        read_weightings: w_t of the read heads.
        key: k_t of all heads.
        d_dot: See `analytic.address_by_content_gradient`.
        decay: See there.
    """

    erase_vector: Tensor
    write_weightings: Tensor
    d_read_vectors: Tensor
    read_weightings: Tensor
    key: Tensor
    d_dot: Tensor
    decay: Tensor

    def before(self, d_memory: Tensor, memory: Tensor) -> Tensor:
        by_reads = analytic.outer(self.d_read_vectors, self.read_weightings)
        by_addressing = analytic.outer(self.key, self.d_dot)
        return (
            analytic.erase(d_memory, analytic.outer(self.erase_vector, self.write_weightings))
            + add_n([*by_reads, *by_addressing])
            - memory * ops.expand_dims(self.decay, 1)
        )


class NTMLoop(Loop):
    """The loop of an `NTMCell`."""

    def __init__(self, cell: Any, mask: Tensor | None = None):
        super().__init__(cell, mask)
        self._by_location = cell.addressing_mode == "content_and_location"
        self._sizes = analytic.HeadSizes(
            cell.read_head_num, cell.write_head_num, cell.memory_vector_dim, cell.shift_range
        )

    def _valid_state(self, state):
        if not self._by_location:
            return state
        return state._replace(weightings=ops.maximum(state.weightings, 0))

    def _outputs(self, controller_outputs: Tensor, read_vectors: Tensor) -> Tensor:
        if self._cell.output_source == "controller_and_reads":
            controller_outputs = ops.concatenate([controller_outputs, read_vectors], axis=-1)
        return self._cell.project(self._cell.output_projection, controller_outputs)

    def _no_write(self, state):
        no_vectors = ops.zeros_like(
            ops.repeat(state.read_vectors[:, :1], self._sizes.write_heads, axis=1)
        )
        return no_vectors, no_vectors

    def _write(self, state, pending_write):
        erase_vector, add_vector = pending_write
        _, weightings = self._split(state.weightings)
        return analytic.write(
            state.memory, weightings, erase_vector, add_vector, self._cell.write_order
        )

    def _head_arrays(self, array: Callable[..., Any]) -> KeptHeads:
        size, sizes = self._cell.memory_size, self._sizes
        heads = sizes.read_heads + sizes.write_heads
        by_location = (array(heads, size), array(heads, size))
        return KeptHeads(
            previous_weightings=array(heads, size),
            weightings=array(heads, size),
            squashed=analytic.SquashedHeads(
                array(self._cell.parameter_count),
                array(heads, 2 * sizes.shift_range + 1),
                array(heads),
            ),
            content=analytic.KeptContent(array(size), array(heads, size), array(heads, size)),
            location=analytic.KeptLocation(*by_location) if self._by_location else (),
        )

    def _heads(self, projection: Tensor, state: Any) -> tuple[Any, Any, KeptHeads]:
        squashed = analytic.squash(projection, self._sizes)
        parameters = analytic.head_parameters(squashed, self._sizes)
        weightings, content = analytic.address_by_content(
            state.memory, parameters.key, parameters.key_strength
        )
        location: Any = ()
        if self._by_location:
            weightings, location = analytic.address_by_location(
                weightings, state.weightings, parameters
            )
        read_vectors = analytic.along_locations(state.memory, self._split(weightings)[0])
        kept = KeptHeads(state.weightings, weightings, squashed, content, location)
        after = state._replace(read_vectors=read_vectors, weightings=weightings)
        return after, (parameters.erase_vector, parameters.add_vector), kept

    def _prepare_heads(self, kept: KeptHeads) -> PreparedHeads:
        parameters = analytic.head_parameters(kept.squashed, self._sizes)
        sharpening_slope: Any = ()
        if self._by_location:
            sharpening_slope = analytic.sharpening_slope(kept.location, parameters.sharpening)
        slopes = analytic.head_slopes(kept.squashed, self._sizes)
        return PreparedHeads(parameters, slopes, sharpening_slope)

    def _nothing_deferred(self, kept: KeptHeads) -> MemoryGradient:
        sizes = self._sizes
        weightings = ops.zeros_like(kept.weightings[0])
        reads, writes = self._split(weightings)
        vector = ops.repeat(weightings[:, :1, :1], sizes.memory_vector_dim, axis=2)
        return MemoryGradient(
            erase_vector=ops.repeat(vector, sizes.write_heads, axis=1),
            write_weightings=writes,
            d_read_vectors=ops.repeat(vector, sizes.read_heads, axis=1),
            read_weightings=reads,
            key=ops.repeat(vector, sizes.read_heads + sizes.write_heads, axis=1),
            d_dot=weightings,
            decay=weightings[:, 0],
        )

    def _heads_back(
        self, counts: Tensor | None, kept: Kept, prepared: PreparedHeads, d_after: Any
    ) -> tuple[Any, Tensor, MemoryGradient]:
        parameters, kept_heads = prepared.parameters, kept.heads
        reads, writes = self._split(kept_heads.weightings)
        by_write = analytic.write_gradient(
            kept.memory,
            writes,
            parameters.erase_vector,
            parameters.add_vector,
            self._cell.write_order,
            d_after.memory,
        )
        # A masked step adds nothing to any gradient.
        d_write_weightings, d_erase, d_add = where(counts, by_write)
        d_read_vectors, d_weightings = where(counts, (d_after.read_vectors, d_after.weightings))
        d_weightings += ops.concatenate(
            [analytic.along_width(kept.memory, d_read_vectors), d_write_weightings], axis=1
        )
        d_addressing, d_previous, d_dot, decay = self._address_back(
            kept.memory, kept_heads, prepared, d_weightings
        )
        d_projection = analytic.head_parameters_gradient(
            prepared.slopes,
            parameters.shift_weighting,
            d_addressing._replace(erase_vector=d_erase, add_vector=d_add),
        )
        deferred = MemoryGradient(
            erase_vector=where(counts, parameters.erase_vector),
            write_weightings=writes,
            d_read_vectors=d_read_vectors,
            read_weightings=reads,
            key=parameters.key,
            d_dot=d_dot,
            decay=decay,
        )
        return d_after._replace(weightings=d_previous), d_projection, deferred

    def _address_back(
        self,
        memory: Tensor,
        kept: KeptHeads,
        prepared: PreparedHeads,
        d_weightings: Tensor,
    ) -> tuple[HeadParameters, Tensor, Tensor, Tensor]:
        """The gradients by the addressing parameters and by w_{t-1}, and the two factors of the
        gradient by the memory."""
        parameters = prepared.parameters
        d_content, d_previous = d_weightings, ops.zeros_like(d_weightings)
        d_location = [ops.zeros_like(each) for each in parameters[2:5]]
        if self._by_location:
            d_content, d_previous, *d_location = analytic.address_by_location_gradient(
                kept.content.weighting,
                kept.previous_weightings,
                parameters,
                kept.location,
                prepared.sharpening_slope,
                kept.weightings,
                d_weightings,
            )
        d_key, d_key_strength, d_dot, decay = analytic.address_by_content_gradient(
            memory, parameters.key, parameters.key_strength, kept.content, d_content
        )
        d_parameters = parameters._replace(
            key=d_key,
            key_strength=d_key_strength,
            interpolation_gate=d_location[0],
            shift_weighting=d_location[1],
            sharpening=d_location[2],
        )
        return d_parameters, d_previous, d_dot, decay

    def _split(self, weightings: Tensor) -> tuple[Tensor, Tensor]:
        """The weightings of the read heads and of the write heads."""
        return ops.split(weightings, [self._sizes.read_heads], axis=1)
