"""Drawings of characters, from folders and zip files with Omniglot's layout.

A drawing is a file ALPHABET/characterNN/NAME.png, at any depth: black ink on white.
"""

from __future__ import annotations

import collections
import functools
import os
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# Drawings are kept at 35 x 35 pixels instead of Omniglot's 105 x 105. That is enough to rotate and
# move them before they are scaled to the network's input.
SIDE = 35


class Character(NamedTuple):
    """A character, named by its folders."""

    alphabet: str
    name: str


class Drawings(NamedTuple):
    """All drawings of all characters.

    Attributes:
        images: `(drawings, SIDE, SIDE)`, uint8, ink 255, sorted by character.
        characters: The characters, in the order of their drawings.
        counts: How many drawings each character has.
    """

    images: np.ndarray
    characters: list[Character]
    counts: np.ndarray


# A file's full name, and a function that reads it.
File = tuple[str, Callable[[], bytes]]


def load(paths: Sequence[str]) -> Drawings:
    """The drawings in folders and zip files.

    If several paths, or several places in a path, hold the same alphabet, the first counts. Damaged
    files are left out. A warning names them, and the characters that have no other drawing.

    Raises:
        ValueError: A path is neither a folder nor a zip file, holds no drawings, or cannot be read.
    """
    characters: dict[Character, list[File]] = {}
    for path in paths:
        taken = {character.alphabet for character in characters}
        found = _files_in(path)
        if not found:
            raise ValueError(f"{path} holds no file ALPHABET/characterNN/NAME.png")
        characters |= {each: found[each] for each in sorted(found) if each.alphabet not in taken}
    damaged: list[str] = []
    images = {character: list(_decoded(files, damaged)) for character, files in characters.items()}
    if damaged:
        lost = ["/".join(character) for character, each in images.items() if not each]
        warnings.warn(
            f"{len(damaged)} damaged drawings are left out: {_the_first(damaged)}"
            + (f"; nothing is left of {_the_first(lost)}" if lost else ""),
            stacklevel=2,
        )
    images = {character: each for character, each in images.items() if each}
    if not images:
        raise ValueError(f"no drawing in {', '.join(paths)} can be decoded")
    return Drawings(
        np.array([image for each in images.values() for image in each], np.uint8),
        list(images),
        np.array([len(each) for each in images.values()], np.int32),
    )


def _the_first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", .." if len(names) > 5 else "")


def _files_in(path: str) -> dict[Character, list[File]]:
    """The files of each character in a folder or a zip file.

    If an alphabet is in several places, the first counts.
    """
    characters = collections.defaultdict(list)
    places: dict[str, tuple[str, ...]] = {}
    for name, file in sorted(_all_files(path), key=lambda named: named[0]):
        parts = pathlib.PurePosixPath(name).parts
        if "__MACOSX" in parts:  # macOS adds these to zip files.
            continue
        if len(parts) < 3 or not parts[-2].startswith("character") or not name.endswith(".png"):
            continue
        character = Character(*parts[-3:-1])
        if places.setdefault(character.alphabet, parts[:-3]) == parts[:-3]:
            characters[character].append(file)
    return characters


def _all_files(path: str) -> Iterator[tuple[str, File]]:
    """The files in a folder or a zip file, each with its path in it."""
    folder = pathlib.Path(path)
    if folder.is_dir():
        # The path includes the folder's own name: the folder may be an alphabet.
        above = folder.absolute().parent
        for file in _walk(folder.absolute()):
            yield file.relative_to(above).as_posix(), (str(file), file.read_bytes)
        return
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is neither a folder nor a whole zip file: {error}") from error
    for name in archive.namelist():
        yield name, (f"{path}/{name}", functools.partial(archive.read, name))


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files below a folder. Links to folders are followed, each folder once."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(root) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        yield from (pathlib.Path(root, file) for file in files)


def _decoded(files: list[File], damaged: list[str]) -> Iterator[np.ndarray]:
    """The images in files; the names of damaged files are added to `damaged`.

    Raises:
        ValueError: A file cannot be read at all.
    """
    import tensorflow as tf

    for name, read in files:
        try:
            image = tf.io.decode_png(read(), channels=1)
        except (tf.errors.InvalidArgumentError, zipfile.BadZipFile, zlib.error, EOFError):
            damaged.append(name)
            continue
        except (
            OSError,
            RuntimeError,
        ) as error:  # No permission, encryption, or unknown compression.
            raise ValueError(f"{name} cannot be read: {error}") from error
        small = tf.image.resize(image, [SIDE, SIDE], method="area")
        yield 255 - np.round(small.numpy()[:, :, 0])
