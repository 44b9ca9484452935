"""README's code blocks are run, and its command lines are checked."""

import dataclasses
import pathlib
import re
import shlex

import pytest
from test_train import flags_of

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_are_blocks_to_run():
    assert len(blocks("python")) >= 5 and len(commands()) >= 4


def test_its_pictures_are_pictures():
    for name in re.findall(r"!\[.*?\]\(([\w./]+)\)", README):
        assert (ROOT / name).read_bytes().startswith(b"\x89PNG"), name


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands():
    """The command lines of train.py, but for those that need a shell's variables or a run."""
    found = re.findall(r"train\.py[^&;|\n]*", "".join(blocks("bash")))
    return [shlex.split(each) for each in found if "$" not in each and "--mode=eval" not in each]


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[-2][:40])
def test_python_blocks_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    exec(code, names)
    if "Echo" in names:
        task = names["Echo"]()
        assert [field.name for field in dataclasses.fields(task)] == ["bits", "max_length"]
        inputs, targets, mask = next(iter(task.training(3, seed=0)))
        assert inputs.shape[-1] == task.input_width and targets.shape[-1] == task.output_width
        assert mask.shape == inputs.shape[:2]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_command_lines_have_flags_that_exist(command):
    assert command[0] == "train.py"
    assert flags_of(*command[1:])["task"]


@pytest.mark.parametrize("command", re.findall(r"python (benchmarks/.*)", "".join(blocks("bash"))))
def test_benchmarks_have_the_flags_that_it_gives_them(command):
    own, _, those_of_train = command.partition(" -- ")
    script, *arguments = shlex.split(own)
    source = (ROOT / script).read_text(encoding="utf-8")
    for flag in re.findall(r"--(\w+)=", " ".join(arguments)):
        assert f'"{flag}"' in source, flag
    assert flags_of(*shlex.split(those_of_train))


def test_files_that_it_links_to_exist():
    for name in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / name).exists(), name
