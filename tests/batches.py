"""Batches of a task as arrays."""


def batch_of(dataset):
    """The first batch of a dataset."""
    return tuple(tensor.numpy() for tensor in next(iter(dataset)))
