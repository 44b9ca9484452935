"""Whatever the command line and the flagfiles hold: it works, or one line says what is wrong."""

import re

import little_omniglot
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import ROOT, complaint, flags_of

from tasks import TASKS
from training import flagfiles

# For every kind of flag what it can never mean.
NO_NUMBER = ["", " ", "ten", "1,5", "1 2", "[]", "None", "½", "☃", "--steps=1", "%d", "nan", "inf"]
WRONG = {
    "int": [*NO_NUMBER, "-inf", "-1", "1.5", "1e3", "0x", "9" * 30, "-" + "9" * 30],
    "float": [*NO_NUMBER, "-inf", "-1", "-0.5", "1e999", "1e", "0x1"],
    "string enum": ["", " ", "-1", "0", "nan", "☃", "COPY", "ntm,lstm"],
    "bool": ["", " ", "-1", "2", "nan", "☃", "tru"],
    "eval_sizes": [
        "",
        ",",
        "10,",
        "x",
        "-1",
        "0",
        "nan",
        "1.5",
        "10x",
        "1e3",
        "½",
        "9" * 30,
        "1;2",
    ],
    "logdir": [""],
    "string": ["", " ", ",", "nowhere", "☃", "/dev/null"],
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Where the command line is given; nothing may be written there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def needed(tmp_path_factory):
    """What a command line needs for a task, by its name."""
    folder = little_omniglot.write(tmp_path_factory.mktemp("omniglot"))
    return {"omniglot": [f"--omniglot={folder}"]}


def flags_of_task(task):
    """The kind of every flag of a task's runs, by its name."""
    values = flagfiles.define(task)
    names = {*flagfiles.settings_of(values), *flagfiles.OF_ONE_COMMAND}
    return {name: values[name].flag_type() for name in sorted(names)}


def all_flags():
    """(task, flag, its wrong values): every task's own flags, and those of all others once."""
    common = flags_of_task("copy")
    for task in TASKS:
        for name, kind in flags_of_task(task).items():
            if task == "copy" or name not in common:
                yield task, name, WRONG[name if name in WRONG else kind]


ALL_FLAGS = list(all_flags())


def test_there_are_hundreds_of_cases():
    assert sum(len(values) for _, _, values in ALL_FLAGS) > 500


@pytest.mark.parametrize("task", TASKS)
def test_a_flag_s_own_value_is_accepted(task, needed):
    values = flags_of(f"--task={task}")
    arguments = [f"--{name}={value}" for name, value in values.items() if value is not None]
    assert len(arguments) > 30
    assert complaint(*arguments, *needed.get(task, [])) is None


@pytest.mark.parametrize(
    "task, name, values", ALL_FLAGS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_flag(task, name, values):
    for value in values:
        said = complaint(f"--task={task}", f"--{name}={value}")
        assert said is not None and "\n" not in said, value
        assert name in said.removeprefix(f"--task={task}: "), (value, said)
        assert value in said or value in ("", " ", "1e999"), (value, said)


@pytest.mark.parametrize("name", ["steps", "learning_rate", "task", "logdir", "flagfile"])
def test_a_flag_without_its_value_is_refused(name):
    said = complaint(f"--{name}")
    assert said is not None and name in said and "\n" not in said


# Characters that flags, paths and numbers are made of, and some that they are not.
SCRAPS = st.text(alphabet="-=,.x0123456789 \t/\\'\"%abcdefg_☃é\u202e", max_size=12)
NAMES = st.sampled_from(["steps", "seed", "task", "model", "xla", "bits", "flagfile", "nonsense"])


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(SCRAPS | st.builds("--{}={}".format, NAMES, SCRAPS), min_size=1, max_size=4))
def test_no_command_line_fails_obscurely(arguments):
    said = complaint(*arguments)
    assert said is None or (said.strip() and "\n" not in said)


@pytest.fixture
def flagfile(tmp_path_factory):
    path = tmp_path_factory.mktemp("flagfiles") / "run.cfg"

    def write(content):
        path.write_bytes(content)
        return f"--flagfile={path}"

    return write


@settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=60) | st.lists(SCRAPS).map(lambda s: "\n".join(s).encode()))
def test_no_flagfile_fails_obscurely(flagfile, content):
    said = complaint(flagfile(content))
    assert said is None or ("run.cfg" in said and "\n" not in said)


def test_a_flagfile_that_was_cut_short_works_or_is_named(flagfile):
    content = (ROOT / "configs" / "copy.cfg").read_bytes()
    said = [complaint(flagfile(content[:length])) for length in range(len(content))]
    assert None in said  # cut between two lines
    complaints = [each for each in said if each is not None]
    assert len(complaints) > 100
    for each in complaints:  # Settings that do not fit each other are all named instead.
        assert "\n" not in each and ("run.cfg" in each or re.search(r"Received: \w+=", each))
