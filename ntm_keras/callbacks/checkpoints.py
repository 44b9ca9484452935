"""Checkpoints of a whole training, from which it goes on as if it had never stopped."""

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
from ntm_keras.callbacks.images import reason
from ntm_keras.keras_compat import (
    build_optimizer,
    keras,
    other_variables_of,
    training_step,
    variables_of,
)

# How many states are kept.
_KEPT = 3

# The name of a variable in a TensorFlow checkpoint.
_KEY = "variables/{}/.ATTRIBUTES/VARIABLE_VALUE"

# The files of a state, whole or unfinished: TensorFlow's, and the digests.
_FILE = re.compile(r"(step-\d{9,})(_temp|\.(data-|index|part|sha256))")


class Checkpoints(keras.callbacks.Callback):
    """Keeps the latest three states of a training on the disk.

    A state is all variables of the model and of its optimizer, the states of stateful layers, and
    the variables that are given. It is a TensorFlow checkpoint, `step-N.index` and
    `step-N.data-..`, which `tf.train.load_checkpoint` reads, and beside it `step-N.sha256` with the
    digests of these files, as `sha256sum` writes them. The digest file is written last: without it,
    or where it does not fit, a state does not count.

    Keras 2's `Dropout` draws from TensorFlow's own generator, which cannot be kept, unless
    `tf.keras.backend.experimental.enable_tf_random_generator()` was called before it was made.

    It has to come after the callbacks whose variables it keeps.

    Args:
        folder: Where to write.
        variables: More variables to keep, by their names.
        averages: The training's `SwapAveragedWeights`, if there is one: the weights are kept, not
            their averages.
        seconds: The least time between two states. One is written at the end of an epoch, and of
            training.

    Raises:
        ValueError: `seconds` is not a number of at least 0. When training begins: the folder has a
            state of a later step, and it was not restored.
        OSError: In training, when a state cannot be written.
    """

    def __init__(
        self,
        folder: str,
        variables: dict[str, tf.Variable] | None = None,
        averages: Any = None,
        seconds: float = 30.0,
    ):
        super().__init__()
        self._folder = pathlib.Path(os.path.expanduser(folder))
        self._variables = variables or {}
        self._averages = averages
        self._seconds = validation.number("seconds", seconds, at_least=0)
        self._written_at = -math.inf
        self._step: int | None = None  # Of the last state that was written or read.

    def on_train_begin(self, logs=None):
        self._folder.mkdir(parents=True, exist_ok=True)
        finished = _finished(self._folder)
        if self._step is None and finished and _step(finished[-1]) > training_step(self.model):
            raise ValueError(
                "Argument `folder` must not have a state of a later step, unless it was restored."
                f" Received: folder={str(self._folder)!r}, which has one of step"
                f" {_step(finished[-1])}"
            )

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self._written_at >= self._seconds:
            self.write()

    def on_train_end(self, logs=None):
        self.write()

    def write(self) -> None:
        """Writes the state as it is now, if it is a later one, and removes the oldest.

        Raises:
            OSError: It cannot be written. The states before stay.
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
            self._state([*variables_of(self.model), *self._others()]).write(str(path))
        unfinished = path.with_suffix(".part")
        unfinished.write_text(_digests(path), encoding="utf-8")
        unfinished.replace(path.with_suffix(".sha256"))

    def _remove(self, name: str) -> None:
        """Removes the files of a state, the digest file first: without it the state is void."""
        files = [file for file in self._folder.iterdir() if _name_of_state(file) == name]
        for file in sorted(files, key=lambda file: file.suffix != ".sha256"):
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)

    def _remove_unfinished(self) -> None:
        finished = {path.stem for path in _finished(self._folder)}
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        for name in {_name_of_state(file) for file in files} - finished - {""}:
            self._remove(name)

    def restore(self, model: keras.Model) -> int:
        """Gives a compiled model and the given variables the latest state that is whole.

        A damaged one is named in a warning, and the one before it is taken. One that an earlier
        version wrote is taken too; a warning names what it does not have.

        Returns:
            The training step of the state; 0 if there is none.

        Raises:
            OSError: A state cannot be read.
            ValueError: All states are damaged; or the latest belongs to another model, or to
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
                    said = f"the checkpoint {path} is an earlier version's: it has no {names}"
                    warnings.warn(said, stacklevel=3)
                difference = _difference(kept, self._not_given(variables))
                if difference:
                    raise ValueError(
                        f"the checkpoint {path} belongs to another model, or to another version of"
                        f" Keras: {difference}"
                    )
                self._state(variables).read(prefix).assert_consumed()
        except AssertionError as error:
            raise ValueError(
                f"the checkpoint {path} was written with other `variables` than"
                f" {sorted(self._variables)}"
            ) from error
        except tf.errors.OpError as error:
            raise OSError(f"{path} cannot be read: {reason(error)}") from error

    def _others(self) -> list[tf.Variable]:
        """The variables to keep beside the model's, the optimizer's and the given ones."""
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


@contextlib.contextmanager
def _as_tensorflow_reads(path: pathlib.Path) -> Iterator[str]:
    """A path by which TensorFlow reads a checkpoint: it takes the path for a pattern.

    Where `[` or a backslash in it keeps the pattern from matching the path itself, a link does.
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
        here = tf.TensorSpec(variable.shape, variable.dtype)
        if there != here:
            return (
                f"{variable.name} has the shape {there.shape} and is {there.dtype.name} there,"
                f" {here.shape} and {here.dtype.name} here"
            )
    return ""


def _name_of_state(file: pathlib.Path) -> str:
    """The name of the state that a file is a part of; empty if it is not a part of one."""
    match = _FILE.match(file.name)
    return match.group(1) if match else ""


def _finished(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of digests, the latest step's last."""
    files = folder.glob("step-*.sha256")
    return sorted(file for file in files if _name_of_state(file) == file.stem)


def _step(path: pathlib.Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _digests(path: pathlib.Path) -> str:
    """The digests of the files of a checkpoint, a line for each."""
    parts = sorted(path.parent.glob(f"{path.stem}.[di]*"))  # .data-.. and .index
    digests = (hashlib.sha256(part.read_bytes()).hexdigest() for part in parts)
    return "".join(f"{digest}  {part.name}\n" for digest, part in zip(digests, parts))
