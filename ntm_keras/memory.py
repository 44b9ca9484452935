"""What a head does to the memory: sections 3.1 and 3.2 of the paper, equations (2) to (4)."""

from ntm_keras.keras_compat import Tensor, matmul, ops


def read(memory: Tensor, weighting: Tensor) -> Tensor:
    """r_t, eq (2): the average of the memory's rows under each weighting.

    Args:
        memory: M_t, `(batch, memory_size, memory_vector_dim)`.
        weighting: w_t, `(batch, heads, memory_size)`.

    Returns:
        The read vectors, `(batch, heads, memory_vector_dim)`.
    """
    return ops.matmul(weighting, memory)


def erase(memory: Tensor, weighting: Tensor, erase_vector: Tensor) -> Tensor:
    """M~_t, eq (3): one write head erases.

    Args:
        memory: M_{t-1}, `(batch, memory_size, memory_vector_dim)`.
        weighting: w_t, `(batch, memory_size)`.
        erase_vector: e_t, `(batch, memory_vector_dim)`, between 0 and 1.

    Returns:
        The memory after erasing, in the same shape.
    """
    return memory * (1 - weighting[:, :, None] * erase_vector[:, None, :])


def add(memory: Tensor, weighting: Tensor, add_vector: Tensor) -> Tensor:
    """M_t, eq (4): one write head adds.

    Args:
        memory: M~_t, `(batch, memory_size, memory_vector_dim)`.
        weighting: w_t, `(batch, memory_size)`.
        add_vector: a_t, `(batch, memory_vector_dim)`.

    Returns:
        The memory after adding, in the same shape.
    """
    return memory + weighting[:, :, None] * add_vector[:, None, :]


def add_all(memory: Tensor, weighting: Tensor, add_vector: Tensor) -> Tensor:
    """`add` for all heads at once, `(batch, heads, ..)`."""
    return memory + matmul(weighting, add_vector, transpose_a=True)


def write(
    memory: Tensor,
    weighting: Tensor,
    erase_vector: Tensor,
    add_vector: Tensor,
    order: str = "sequential",
) -> Tensor:
    """Lets every write head erase and add, eq (3) and (4).

    Args:
        memory: M_{t-1}, `(batch, memory_size, memory_vector_dim)`.
        weighting: w_t, `(batch, heads, memory_size)`.
        erase_vector: e_t, `(batch, heads, memory_vector_dim)`, between 0 and 1.
        add_vector: a_t, `(batch, heads, memory_vector_dim)`.
        order: `"sequential"`: each head erases and adds before the next one does.
            `"simultaneous"`: all heads erase, then all add, as in the paper.

    Returns:
        M_t, in the shape of `memory`.
    """
    heads = list(
        zip(*(ops.unstack(each, axis=1) for each in (weighting, erase_vector, add_vector)))
    )
    if order == "sequential":
        for head_weighting, head_erase, head_add in heads:
            memory = erase(memory, head_weighting, head_erase)
            memory = add(memory, head_weighting, head_add)
        return memory
    for head_weighting, head_erase, _ in heads:
        memory = erase(memory, head_weighting, head_erase)
    return add_all(memory, weighting, add_vector)
