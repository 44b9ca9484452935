"""The code blocks of README and of the documentation are run, their commands and quotes checked."""

import dataclasses
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap

import pytest
from runs import flags_of

import ntm_keras
import training
from ntm_keras import callbacks
from ntm_keras.keras_compat import IS_KERAS_2

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language):
    """The code blocks in a language: (page, title, code)."""
    pattern = rf'^```{language}(?: title="(.*?)")?\n(.*?)^```$'
    return [
        (page.name, *match)
        for page in PAGES
        for match in re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ]


def last_line(code):
    return code.split("\n")[-2].strip()[:40]


# The blocks of these pages go on from one to the next.
CONTINUED = {"own_machine.md"}


def runnable():
    """The Python code to run: (page, code)."""
    found = [(page, code) for page, title, code in blocks("python") if not title]
    alone = [(page, code) for page, code in found if page not in CONTINUED]
    if IS_KERAS_2:  # The other pages need no second look.
        alone = [(page, code) for page, code in alone if page == "README.md"]
        alone = [(page, code) for page, code in alone if "pretrained/" not in code]
    joined = [(page, "\n".join(code for each, code in found if each == page)) for page in CONTINUED]
    return alone + joined


RUN = [pytest.param(page, code, id=last_line(code)) for page, code in runnable()]
QUOTED = [
    pytest.param(title, code, id=last_line(code)) for _, title, code in blocks("python") if title
]
DRAWN = [pytest.param(title, code, id=title) for _, title, code in blocks("text") if title]
SHELL = "".join(code for _, _, code in blocks("bash"))


def commands():
    """The command lines of train.py, but for those that need a shell's variables or a run."""
    found = re.findall(r"\btrain\.py[^&;|\n]*", SHELL)
    return [shlex.split(each) for each in found if "$" not in each and "--mode=eval" not in each]


def test_there_are_blocks_to_try():
    assert len(blocks("python")) >= 20 and len(QUOTED) >= 10 and len(commands()) >= 4


@pytest.mark.parametrize("page, code", RUN)
def test_python_blocks_run(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    names = {"__name__": "documentation"}
    exec(code, names)
    if page == "own_task.md":
        task = names["Echo"]()
        assert [field.name for field in dataclasses.fields(task)] == ["bits", "max_length"]
        inputs, targets, mask = next(iter(task.training(3, seed=0)))
        assert inputs.shape[-1] == task.input_width and targets.shape[-1] == task.output_width
        assert mask.shape == inputs.shape[:2]


@pytest.mark.parametrize("file, code", QUOTED)
def test_code_that_is_quoted_is_in_its_file(file, code):
    assert code in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("file, drawing", DRAWN)
def test_drawings_of_sequences_are_those_of_the_task(file, drawing):
    assert textwrap.indent(drawing, "    ") in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_command_lines_have_flags_that_exist(command):
    assert command[0] == "train.py"
    assert flags_of(*command[1:])["task"]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python (benchmarks/.*)", SHELL))))
def test_benchmarks_have_the_flags_that_are_given_to_them(command):
    own, _, those_of_train = command.partition(" -- ")
    script, *arguments = shlex.split(own)
    source = (ROOT / script).read_text(encoding="utf-8")
    for flag in re.findall(r"--(\w+)=", " ".join(arguments)):
        assert f'"{flag}"' in source, flag
    task = [argument for argument in arguments if re.fullmatch(r"--task=[a-z_]+", argument)]
    assert flags_of(*task, *shlex.split(those_of_train))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_files(page):
    for name in re.findall(r"\]\(([\w./]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / name).exists(), name
        if name.endswith((".png", ".gif")):
            assert (page.parent / name).read_bytes().startswith((b"\x89PNG", b"GIF8")), name


def test_the_site_builds_without_a_warning(tmp_path):
    if not importlib.util.find_spec("mkdocs"):
        pytest.skip("mkdocs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    reference = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in {*ntm_keras.__all__, *callbacks.__all__, *training.__all__} - {"__version__"}:
        assert re.search(rf'<h[34] id="(ntm_keras|training)\.[\w.]*{name}"', reference), name
