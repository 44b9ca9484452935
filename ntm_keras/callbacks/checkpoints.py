"""Checkpoints of a training, from which it continues as if it had never stopped."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import pathlib
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.callbacks.averages import SwapAveragedWeights
from ntm_keras.callbacks.events import reason
from ntm_keras.keras_compat import (
    IS_TENSORFLOW,
    build_optimizer,
    dtype_name,
    keras,
    other_variables_of,
    training_step,
    variables_of,
)

# How many checkpoints are kept.
_KEPT = 3

# The name of a variable in a TensorFlow checkpoint.
_KEY = "variables/{}/.ATTRIBUTES/VARIABLE_VALUE"

# The files of a checkpoint, finished or not: TensorFlow's, and the digest file.
_FILE = re.compile(r"(step-\d{9,})(_temp|\.(data-|index|part|sha256))")


class Checkpoints(keras.callbacks.Callback):
    """Keeps the latest three checkpoints of a training on the disk.

    A checkpoint holds all variables of the model and its optimizer, the states of stateful layers,
    and the given variables. TensorFlow writes it as `step-N.index` and `step-N.data-..`, which
    `tf.train.load_checkpoint` reads. A third file, `step-N.sha256`, holds the digests of these, as
    `sha256sum` writes them. It is written last: a checkpoint without it does not count, nor does
    one with wrong digests.

    Keras 2's `Dropout` draws from TensorFlow's global generator, which cannot be saved, unless
    `tf.keras.backend.experimental.enable_tf_random_generator()` was called before it was made.

    Put this callback after the callbacks whose variables it keeps.

    Args:
        folder: Where to write.
        variables: More variables to keep, by their names.
        averages: The training's `SwapAveragedWeights`, if there is one. The trained weights are
            kept, not their averages.
        seconds: The least time between two checkpoints. They are written at the end of an epoch and
            at the end of training.

    Raises:
        ValueError: An argument is not what it must be. When training begins: the folder has a
            checkpoint of a later step, which was not restored.
        OSError: In training, when a checkpoint cannot be written.
    """

    def __init__(
        self,
        folder: str,
        variables: dict[str, tf.Variable] | None = None,
        averages: SwapAveragedWeights | None = None,
        seconds: float = 30.0,
    ):
        super().__init__()
        self._folder = pathlib.Path(os.path.expanduser(folder))
        self._variables = variables or {}
        self._averages = averages
        if not isinstance(self._variables, dict):
            raise ValueError(
                "Argument `variables` must be a dict from name to variable."
                f" Received: variables={variables!r}"
            )
        if not isinstance(averages, SwapAveragedWeights | None):
            raise ValueError(
                "Argument `averages` must be a SwapAveragedWeights."
                f" Received: averages={averages!r}"
            )
        self._seconds = validation.number("seconds", seconds, at_least=0)
        self._written_at = -math.inf
        self._step: int | None = None  # Of the last checkpoint written or read.

    def on_train_begin(self, logs=None):
        self._folder.mkdir(parents=True, exist_ok=True)
        finished = _finished(self._folder)
        if self._step is None and finished and _step(finished[-1]) > training_step(self.model):
            raise ValueError(
                "Argument `folder` must not have a checkpoint of a later step, unless it was"
                f" restored. Received: folder={str(self._folder)!r}, which has one of step"
                f" {_step(finished[-1])}"
            )

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self._written_at >= self._seconds:
            self.write()

    def on_train_end(self, logs=None):
        self.write()

    def write(self) -> None:
        """Writes a checkpoint, unless this step has one, and removes the oldest.

        Raises:
            OSError: It cannot be written. The earlier checkpoints stay.
        """
        step = training_step(self.model)
        if step == self._step:
            return
        path = self._folder / f"step-{step:09d}"
        try:
            self._write(path)
        except (OSError, tf.errors.OpError) as error:
            self._remove_unfinished()
            said = reason(error) if isinstance(error, tf.errors.OpError) else error
            raise OSError(f"{path} cannot be written: {said}") from error
        for old in _finished(self._folder)[:-_KEPT]:
            self._remove(old.stem)
        self._written_at, self._step = time.monotonic(), step

    def _write(self, path: pathlib.Path) -> None:
        self._folder.mkdir(exist_ok=True)
        with self._averages.hidden() if self._averages else contextlib.nullcontext():
            variables = [*variables_of(self.model), *self._others()]
            self._state(_for_tensorflow(variables)).write(str(path))
        unfinished = path.with_suffix(".part")
        unfinished.write_text(_digests(path), encoding="utf-8")
        unfinished.replace(path.with_suffix(".sha256"))

    def _remove(self, name: str) -> None:
        """Removes a checkpoint, the digest file first: without it a checkpoint does not count."""
        files = [file for file in self._folder.iterdir() if _checkpoint_name(file) == name]
        for file in sorted(files, key=lambda file: file.suffix != ".sha256"):
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)

    def _remove_unfinished(self) -> None:
        finished = {path.stem for path in _finished(self._folder)}
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        for name in {_checkpoint_name(file) for file in files} - finished - {""}:
            self._remove(name)

    def restore(self, model: keras.Model) -> int:
        """Restores a compiled model and the given variables from the latest whole checkpoint.

        Damaged checkpoints are skipped, with a warning. A checkpoint of an earlier version may lack
        variables; a warning names them.

        Returns:
            The training step of the checkpoint; 0 if there is none.

        Raises:
            OSError: A checkpoint cannot be read.
            ValueError: All checkpoints are damaged; or the latest belongs to another model or to
                another Keras; or the model was not compiled.
        """
        if getattr(model, "optimizer", None) is None:
            raise ValueError("A model must be compiled, with an optimizer, before it is restored.")
        self.set_model(model)
        self._remove_unfinished()
        finished = _finished(self._folder)
        for path in reversed(finished):
            if path.read_text(encoding="utf-8", errors="replace") == _digests(path):
                build_optimizer(model)
                self._read(path.with_suffix(""))
                self._step = training_step(model)
                return self._step
            warnings.warn(f"the checkpoint {path.with_suffix('')} is damaged", stacklevel=2)
        if finished:
            raise ValueError(f"all checkpoints in {self._folder} are damaged")
        return 0

    def _read(self, path: pathlib.Path) -> None:
        try:
            with _as_tensorflow_reads(path) as prefix:
                kept = tf.train.load_checkpoint(prefix)
                variables, others = variables_of(self.model), self._others()
                if kept.has_tensor(_KEY.format(len(variables))):
                    variables += others
                elif others:
                    names = ", ".join(variable.name for variable in others)
                    said = f"the checkpoint {path} is from an earlier version: it has no {names}"
                    warnings.warn(said, stacklevel=3)
                difference = _difference(kept, self._not_given(variables))
                if difference:
                    raise ValueError(
                        f"the checkpoint {path} belongs to another model, or to another version or"
                        f" backend of Keras: {difference}"
                    )
                read = _for_tensorflow(variables)
                self._state(read).read(prefix).assert_consumed()
                if not IS_TENSORFLOW:
                    for variable, value in zip(variables, read):
                        variable.assign(value.numpy())
        except AssertionError as error:
            raise ValueError(
                f"the checkpoint {path} was written with other `variables` than"
                f" {sorted(self._variables)}"
            ) from error
        except tf.errors.OpError as error:
            raise OSError(f"{path} cannot be read: {reason(error)}") from error

    def _others(self) -> list[tf.Variable]:
        """The variables to keep that are not the model's, the optimizer's or given ones."""
        return list(self._not_given(other_variables_of(self.model)).values())

    def _not_given(self, variables: list[tf.Variable]) -> dict[str, tf.Variable]:
        """The variables that are not among the given ones, by their names in a checkpoint."""
        given = {id(variable) for variable in self._variables.values()}
        return {
            _KEY.format(index): variable
            for index, variable in enumerate(variables)
            if id(variable) not in given
        }

    def _state(self, variables: list[tf.Variable]) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(variables=variables, **self._variables)


def _for_tensorflow(variables: list[Any]) -> list[tf.Variable]:
    """Variables that TensorFlow can write and read: copies, where the backend is another."""
    return variables if IS_TENSORFLOW else [tf.Variable(each.numpy()) for each in variables]


@contextlib.contextmanager
def _as_tensorflow_reads(path: pathlib.Path) -> Iterator[str]:
    """A path with which TensorFlow can read a checkpoint.

    TensorFlow takes the path for a pattern. With `[` or a backslash in it, the pattern does not
    match the path itself; then this is a link to it, in a temporary folder.
    """
    if tf.io.gfile.glob(f"{path}.index"):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder, "checkpoints")
        link.symlink_to(path.parent.absolute(), target_is_directory=True)
        yield str(link / path.name)


def _difference(kept: Any, variables: dict[str, tf.Variable]) -> str:
    """How a model's variables differ from a checkpoint's; empty if they do not."""
    shapes, dtypes = kept.get_variable_to_shape_map(), kept.get_variable_to_dtype_map()
    number = sum(name.startswith("variables/") for name in shapes)
    if number != len(variables):
        return f"it has {number} variables, the model and its optimizer have {len(variables)}"
    for name, variable in variables.items():
        there = tf.TensorSpec(shapes[name], dtypes[name])
        here = tf.TensorSpec(variable.shape, dtype_name(variable.dtype))
        if there != here:
            return (
                f"{variable.name} has the shape {there.shape} and is {there.dtype.name} there,"
                f" {here.shape} and {here.dtype.name} here"
            )
    return ""


def _checkpoint_name(file: pathlib.Path) -> str:
    """The name of the checkpoint that a file belongs to; empty if it belongs to none."""
    match = _FILE.match(file.name)
    return match.group(1) if match else ""


def _finished(folder: pathlib.Path) -> list[pathlib.Path]:
    """The digest files, the latest step's last."""
    files = folder.glob("step-*.sha256")
    return sorted((file for file in files if _checkpoint_name(file) == file.stem), key=_step)


def _step(path: pathlib.Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _digests(path: pathlib.Path) -> str:
    """The digests of a checkpoint's files, one on each line."""
    parts = sorted(path.parent.glob(f"{path.stem}.[di]*"))  # .data-.. and .index
    digests = (hashlib.sha256(part.read_bytes()).hexdigest() for part in parts)
    return "".join(f"{digest}  {part.name}\n" for digest, part in zip(digests, parts))
