import shutil
import zipfile

import little_omniglot
import numpy as np
import pytest
import tensorflow as tf

from tasks import drawings
from tasks.drawings import Character


@pytest.fixture
def folder(tmp_path):
    return little_omniglot.write(tmp_path / "background", ("Elvish", "Runes"), 2, 3)


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "background.zip"
    with zipfile.ZipFile(path, "w") as file:
        for png in folder.rglob("*.png"):
            file.write(png, png.relative_to(tmp_path))
    return path


def load(*paths):
    return drawings.load([str(path) for path in paths])


def test_a_folder_and_a_zip_file_of_it_hold_the_same(folder, archive):
    of_folder, of_archive = load(folder), load(archive)
    assert of_folder.characters == of_archive.characters
    np.testing.assert_array_equal(of_folder.images, of_archive.images)


def test_what_macos_packs_beside_the_drawings_is_passed_over(folder, archive):
    expected = load(folder).characters
    with zipfile.ZipFile(archive, "a") as file:
        for name in file.namelist():
            parts = name.split("/")
            file.writestr("/".join(["__MACOSX", *parts[:-1], f"._{parts[-1]}"]), b"attributes")
    assert load(archive).characters == expected


def test_drawings_are_kept_by_character_small_and_with_ink_as_255(folder):
    found = load(folder)
    names = [("Elvish", "character01"), ("Elvish", "character02")]
    names += [("Runes", "character01"), ("Runes", "character02")]
    assert found.characters == [Character(*name) for name in names]
    assert found.counts.tolist() == [3] * 4
    assert found.images.shape == (12, drawings.SIDE, drawings.SIDE)
    assert found.images.dtype == np.uint8
    assert found.images.max() == 255 and found.images.mean() < 100


def test_an_image_is_the_mean_of_the_pixels_that_it_stands_for(tmp_path):
    where = tmp_path / "Runes" / "character01"
    where.mkdir(parents=True)
    random = np.random.default_rng(0)
    pixels = np.where(random.uniform(size=[105, 105]) < 0.3, 0, 255).astype(np.uint8)
    (where / "1.png").write_bytes(tf.io.encode_png(pixels[:, :, np.newaxis]).numpy())
    means = pixels.reshape(35, 3, 35, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(load(tmp_path).images[0], 255 - means, atol=1)


def test_the_folder_of_an_alphabet_may_be_given_itself(folder):
    found = load(folder / "Runes")
    assert {character.alphabet for character in found.characters} == {"Runes"}


def test_an_alphabet_that_is_in_several_is_taken_from_the_first(folder, tmp_path):
    other = little_omniglot.write(tmp_path / "evaluation", ("Klingon", "Runes"), 4, 1)
    found = load(folder, other)
    counts = dict(zip(found.characters, found.counts))
    assert counts[Character("Runes", "character02")] == 3
    assert Character("Runes", "character04") not in counts
    assert counts[Character("Klingon", "character04")] == 1


def test_damaged_drawings_are_left_out_and_named(folder):
    path = folder / "Runes" / "character02" / "0002_01.png"
    path.write_bytes(path.read_bytes()[:60])
    (folder / "Runes" / "character02" / "0002_02.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=f"2 damaged drawings are left out: {path}, "):
        found = load(folder)
    assert found.counts.tolist() == [3, 3, 3, 1]


def test_a_damaged_part_of_a_zip_file_is_named(archive):
    content = bytearray(archive.read_bytes())
    content[200] ^= 255
    archive.write_bytes(content)
    with pytest.warns(UserWarning, match="1 damaged drawings are left out: .*background.zip/"):
        assert load(archive).counts.sum() == 11


def test_a_character_without_a_whole_drawing_is_none_and_is_named(folder):
    shutil.rmtree(folder / "Elvish")
    for path in (folder / "Runes" / "character01").iterdir():
        path.write_bytes(b"no png")
    with pytest.warns(UserWarning, match="; nothing is left of Runes/character01$"):
        assert load(folder).characters == [Character("Runes", "character02")]


def test_an_alphabet_that_lies_in_several_places_in_a_folder_is_taken_once(tmp_path):
    for name, characters in (("images_a", 2), ("images_b", 3)):
        little_omniglot.write(tmp_path / name, ("Runes",), characters, 3)
    found = load(tmp_path)
    assert found.characters == [Character("Runes", f"character0{number}") for number in (1, 2)]
    assert found.counts.tolist() == [3, 3]


def test_folders_that_are_linked_to_are_looked_into(folder, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / "Runes").symlink_to(folder / "Runes")
    (folder / "Runes" / "again").symlink_to(folder / "Runes")
    assert load(links).counts.tolist() == [3, 3]


def test_files_that_cannot_be_read_are_named(archive):
    content = bytearray(archive.read_bytes())
    encrypted = content.index(b"PK\x01\x02") + 8  # The flags in the first entry of the directory.
    content[encrypted] |= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="background.zip/.*png cannot be read: .*encrypted"):
        load(archive)


def test_drawings_that_are_all_damaged_are_refused(folder):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no png")
    with (
        pytest.warns(UserWarning, match="12 damaged drawings"),
        pytest.raises(ValueError, match="no drawing in .*background can be decoded"),
    ):
        load(folder)


def test_what_holds_no_drawings_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no archive")
    for name, said in {
        "empty": "holds no file ALPHABET/characterNN/NAME.png",
        "notes.txt": "is neither a folder nor a whole zip file",
        "missing": "does not exist",
    }.items():
        with pytest.raises(ValueError, match=f"{name} {said}"):
            load(tmp_path / name)
