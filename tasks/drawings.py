"""Drawings of characters, from folders and zip files that are laid out as Omniglot is.

There a drawing is a file ALPHABET/characterNN/NAME.png, at any depth: black ink on white.
"""

from __future__ import annotations

import collections
import functools
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# Pixels that a drawing is kept with, of the 105 of Omniglot's files: enough to be turned and moved
# before it becomes what a network sees.
SIDE = 35


class Character(NamedTuple):
    """A character, by the names of its folders."""

    alphabet: str
    name: str


class Drawings(NamedTuple):
    """All drawings of all characters.

    Attributes:
        images: `(drawings, SIDE, SIDE)`, uint8, ink 255; those of a character one after another.
        characters: The characters, in the order of their drawings.
        counts: How many drawings each character has.
    """

    images: np.ndarray
    characters: list[Character]
    counts: np.ndarray


# The file's name in full, and what reads it.
File = tuple[str, Callable[[], bytes]]


def load(paths: Sequence[str]) -> Drawings:
    """The drawings in folders and zip files.

    An alphabet that is in several of them is taken from the first. Files that are damaged are left
    out, with a warning that names them.

    Raises:
        ValueError: One of the paths is neither a folder nor a zip file, or holds no drawings.
    """
    characters: dict[Character, list[File]] = {}
    for path in paths:
        taken = {character.alphabet for character in characters}
        found = _files_in(path)
        if not found:
            raise ValueError(
                f"{path} holds no drawings: there is no ALPHABET/characterNN/NAME.png in it"
            )
        characters |= {each: found[each] for each in sorted(found) if each.alphabet not in taken}
    damaged: list[str] = []
    images = {character: list(_decoded(files, damaged)) for character, files in characters.items()}
    if damaged:
        warnings.warn(
            f"{len(damaged)} damaged drawings are left out: {', '.join(damaged[:5])}"
            + (", .." if len(damaged) > 5 else ""),
            stacklevel=2,
        )
    images = {character: each for character, each in images.items() if each}
    return Drawings(
        np.array([image for each in images.values() for image in each], np.uint8),
        list(images),
        np.array([len(each) for each in images.values()], np.int32),
    )


def _files_in(path: str) -> dict[Character, list[File]]:
    """The files of each character in a folder or a zip file."""
    characters = collections.defaultdict(list)
    for name, read in sorted(_all_files(path), key=lambda file: file[0]):
        parts = pathlib.PurePosixPath(name).parts
        if len(parts) >= 3 and parts[-2].startswith("character") and name.endswith(".png"):
            characters[Character(*parts[-3:-1])].append((f"{path}/{name}", read))
    return characters


def _all_files(path: str) -> Iterator[File]:
    folder = pathlib.Path(path)
    if folder.is_dir():
        # With the folder's own name: it may be that of an alphabet.
        root = folder.resolve().parent
        for file in folder.resolve().rglob("*.png"):
            yield file.relative_to(root).as_posix(), file.read_bytes
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is no folder and no zip file: {error}") from error
        for name in archive.namelist():
            yield name, functools.partial(archive.read, name)


def _decoded(files: list[File], damaged: list[str]) -> Iterator[np.ndarray]:
    """The images in files; the names of those that hold none go into the list."""
    import tensorflow as tf

    for name, read in files:
        try:
            image = tf.io.decode_png(read(), channels=1)
        except (tf.errors.InvalidArgumentError, OSError, zipfile.BadZipFile, zlib.error):
            damaged.append(name)
            continue
        small = tf.image.resize(image, [SIDE, SIDE], method="area")
        yield 255 - np.round(small.numpy()[:, :, 0])
