"""Flags, flagfiles and the configs underneath them, read in this process."""

import dataclasses
import os
import shutil
import sys
import types

import pytest
from runs import ROOT, assert_refused, complaint, flags_of, parse, tiny

import ntm_keras
import tasks
from tasks.copy import Copy
from tasks.task import Task
from training import BadInput, flagfiles, run_folder
from training.settings import GROUPS


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path, monkeypatch):
    """The command line is given in an empty folder; whatever it says, nothing is written there."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


@pytest.fixture
def run(tmp_path):
    """The folder of a run that was trained; its model is not read here."""
    logdir = tmp_path / "run"
    (logdir / "checkpoints").mkdir(parents=True)
    run_folder.write_settings(str(logdir), tiny().as_flags())
    (logdir / "model.keras").write_text("a model")
    return logdir


def config(name):
    return f"--flagfile={ROOT / 'configs' / name}.cfg"


def test_no_flags_at_all_means_the_default_copy_run():
    assert flags_of() == flags_of("--task=copy") == flags_of(config("copy"))


@pytest.mark.parametrize(
    "arguments",
    [
        [config("paper/copy_ntm_lstm"), "--batch_size=7"],
        ["--batch_size=7", config("paper/copy_ntm_lstm")],
        ["--batch_size", "7", *config("paper/copy_ntm_lstm").split("=")],
    ],
    ids=["after", "before", "in two words"],
)
def test_the_command_line_wins_wherever_the_flagfile_stands(arguments):
    found = flags_of(*arguments)
    assert found["batch_size"] == 7
    assert found["optimizer"] == "rmsprop"


def test_a_later_flagfile_wins_over_an_earlier_one(tmp_path):
    (tmp_path / "more.cfg").write_text("--batch_size=9\n")
    found = flags_of(config("paper/copy_ntm_lstm"), f"--flagfile={tmp_path / 'more.cfg'}")
    assert (found["batch_size"], found["optimizer"]) == (9, "rmsprop")


def test_a_tilde_means_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "flags.cfg").write_text("--task=repeat_copy\n")
    assert flags_of("--flagfile=~/flags.cfg")["task"] == "repeat_copy"
    assert flags_of("--logdir=~")["task"] == "repeat_copy"
    assert parse("--logdir=~/run").logdir == str(tmp_path / "run")


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "configs").glob("**/*")),
    ids=lambda path: str(path.relative_to(ROOT / "configs")),
)
def test_every_config_names_its_task_and_has_flags_that_exist(path):
    if path.is_file():
        assert path.suffix == ".cfg", "configs are flagfiles"
        task = flags_of(f"--flagfile={path}")["task"]
        assert f"--task={task}\n" in path.read_text() or path.stem == "lstm_network"


@pytest.mark.parametrize("task", ["copy", "repeat_copy", "associative_recall"])
def test_the_lstm_network_s_settings_go_on_top_of_a_task_s(task):
    found, of_task = flags_of(config(task), config("lstm_network")), flags_of(config(task))
    for name in ("task", "batch_size", "steps", "validate_every", "solved_below"):
        assert found[name] == of_task[name]
    assert (found["model"], found["weight_noise"], found["input_noise"]) == ("lstm", 0, 0)


def test_snowkylin_s_settings_are_snowkylin_s():
    found = flags_of(config("snowkylin_copy"))
    names = "rnn_size", "memory_size", "memory_vector_dim", "bits", "max_length", "learning_rate"
    assert [found[name] for name in names] == [64, 20, 8, 4, 10, 1e-4]
    assert [found[name] for name in ("batch_size", "steps")] == [10, 1_000_000]
    assert found["clip_norm"] == found["clip_value"] == 0


def test_a_command_has_a_mode_a_folder_and_settings():
    command = parse("--logdir=new", "--overwrite", "--max_length=4", "--noxla")
    assert (command.mode, command.logdir, command.overwrite) == ("train", "new", True)
    assert command.settings.made_task.max_length == 4 and not command.settings.xla


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--version")
    assert not end.value.code
    assert capsys.readouterr().out == f"ntm_keras {ntm_keras.__version__}\n"


def test_the_short_help_fits_a_screen_or_two_and_names_the_long_one(capsys):
    with pytest.raises(SystemExit):
        parse("--helpshort")
    manual = capsys.readouterr().out
    assert len(manual.splitlines()) < 60 and "--help shows all flags." in manual
    assert "\n  --logdir:" in manual and "--learning_rate" not in manual


@pytest.mark.parametrize("flags", [["--help"], ["--mode=eval", "--help"]])
def test_help_is_a_manual_in_groups(flags, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*flags)
    assert not end.value.code
    manual = capsys.readouterr().out
    positions = [manual.index(f"\n{group}:\n") for group in GROUPS]
    assert positions == sorted(positions)
    for flag in ("--task", "--learning_rate", "--memory_initializer", "--max_length", "--flagfile"):
        assert f"\n  {flag}:" in manual
    assert "(default: 'focused')" in manual, "the defaults are those of configs/copy.cfg"


# Warnings


def test_a_flag_of_another_model_is_warned_of(recwarn):
    parse("--model=lstm", "--rnn_size=6", "--memory_size=9", "--lstm_units=4")
    assert [str(each.message) for each in recwarn] == [
        f"--{name} is ignored with --model=lstm" for name in ("rnn_size", "memory_size")
    ]


def test_a_flag_of_the_model_itself_is_not_warned_of(recwarn):
    parse("--model=mann", "--rnn_size=6", "--memory_size=9", "--head_num=2")
    assert not recwarn.list


# Bad input


@pytest.mark.parametrize(
    "name, end",
    [
        ("max_repeats", "'max_repeats'. It is one of --task=repeat_copy."),
        ("labels", "'labels'. It is one of --task=omniglot."),
        ("classes", "'classes'. It is one of --task=omniglot."),
    ],
)
def test_a_flag_of_another_task_is_refused_with_that_task_s_name(name, end):
    said = complaint(f"--{name}=3")
    assert f"Unknown command line flag '{name}'" in said and said.endswith(end)


@pytest.mark.parametrize(
    "flag, parts",
    [
        ("--rnn_size=-1", ["rnn_size", "-1"]),
        ("--memory_size=0", ["memory_size", "0"]),
        ("--batch_size=two", ["batch_size", "two"]),
        ("--batch_size=99999999999999999999", ["batch_size", "99999999999999999999"]),
        ("--memory_size=100000000000", ["memory_size", "100000000000"]),
        ("--steps=1.5", ["steps", "1.5"]),
        ("--write_head_num=0", ["write_head_num", "0"]),
        ("--shift_range=64", ["shift_range", "memory_size"]),
        ("--learning_rate=nan", ["learning_rate", "nan"]),
        ("--learning_rate=fast", ["learning_rate", "fast"]),
        ("--learning_rate=-1", ["learning_rate", "-1"]),
        ("--adam_epsilon=0", ["adam_epsilon", "0"]),
        ("--solved_times=0", ["solved_times", "0"]),
        ("--ema_momentum=1", ["ema_momentum", "less than 1"]),
        ("--ema_momentum=nan", ["ema_momentum", "less than 1"]),
        ("--model=transformer", ["model", "transformer"]),
        ("--lstm_layers=0", ["lstm_layers", "0"]),
        ("--clip_norm=-1", ["clip_norm", "-1"]),
        ("--weight_noise=nan", ["weight_noise", "nan"]),
        ("--weight_noise_end=0.1", ["weight_noise_end", "at most weight_noise"]),
        ("--checkpoint_seconds=-1", ["checkpoint_seconds", "-1"]),
        ("--clip_value=5", ["clip_norm", "clip_value"]),
        ("--clip_value=inf", ["clip_value", "inf"]),
        ("--solved_below=nan", ["solved_below", "nan"]),
        ("--mode=test", ["mode", "test"]),
        ("--controller=gru", ["controller", "gru"]),
        ("--task=sorting", ["task", "sorting"]),
        ("--xla=perhaps", ["xla", "perhaps"]),
        ("--seed=-1", ["seed", "-1"]),
        ("--min_length=21", ["min_length=21", "max_length=20"]),
        ("--bits=0", ["bits", "0"]),
        ("--eval_sizes=10,ten", ["eval_sizes", "ten"]),
        ("--eval_sizes=", ["eval_sizes"]),
        ("--batchsize=3", ["batchsize"]),
        ("stray", ["stray"]),
        ("--flagfile=absent.cfg", ["absent.cfg"]),
        ("--flagfile=", ["flagfile"]),
        ("--flagfile", ["flagfile"]),
        ("--task", ["task"]),
        ("--noxla=1", ["noxla"]),
        ("--logdir=", ["logdir"]),
        ("--log_dir=run", ["log_dir", "logdir"]),
        ("--lr=1", ["'lr'", "Did you mean --learning_rate?"]),
        ("--epochs=9", ["'epochs'", "Did you mean --steps?"]),
        ("--resume=run", ["'resume'", "Did you mean --logdir?"]),
        ("--tsk=copy", ["'tsk'", "Did you mean --task?"]),
        ("--task=copyy", ["copyy", "Did you mean copy?"]),
        ("--mode=evaluate", ["evaluate", "Did you mean eval?"]),
        ("--output=there", ["--output=there is for --mode=eval"]),
        ("--best", ["--best=True is for --mode=eval"]),
        ("--verbosity=1", ["verbosity"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_flag_is_refused(flag, parts):
    assert_refused(complaint(flag), *parts)


@pytest.mark.parametrize("flag", ["--overwrite=maybe", "--nooverwrite=1"])
def test_a_bad_flag_is_refused_beside_a_folder_too(flag):
    assert_refused(complaint("--logdir=run", flag), "overwrite", flag[-1])


@pytest.mark.parametrize(
    "task, flag, parts",
    [
        ("repeat_copy", "--min_repeats=11", ["min_repeats=11", "max_repeats=10"]),
        ("repeat_copy", "--eval_sizes=20", ["eval_sizes", "LENGTHxREPEATS", "'20'"]),
        ("associative_recall", "--max_items=1", ["max_items", "1"]),
        ("associative_recall", "--eval_sizes=6,1", ["eval_sizes", "'1'"]),
        ("dynamic_ngrams", "--length=5", ["context=5", "length=5"]),
        ("dynamic_ngrams", "--context=40", ["context", "40"]),
        ("copy", "--eval_sizes=3000000000", ["eval_sizes", "3000000000"]),
        ("copy", "--max_length=3000000000", ["max_length", "3000000000"]),
        ("copy", "--max_length=60000", ["max_length=60000", "100000 steps", "120001"]),
        ("repeat_copy", "--eval_sizes=1000x1000", ["eval_sizes", "100000 steps", "1000x1000"]),
        ("priority_sort", "--sorted_items=21", ["sorted_items=21", "items=20"]),
        ("priority_sort", "--eval_sizes=10x12", ["eval_sizes", "'10x12'"]),
    ],
)
def test_limits_and_sizes_that_make_no_sense_are_refused(task, flag, parts):
    assert_refused(complaint(f"--task={task}", flag), *parts)


def test_a_half_written_task_is_refused_and_does_not_disturb_another(monkeypatch):
    half = dataclasses.dataclass(frozen=True)(type("Half", (Task,), {"small_size": "2"}))
    monkeypatch.setitem(sys.modules, "tasks.half", types.SimpleNamespace(Half=half))
    monkeypatch.setattr(tasks, "TASKS", {"half": "Half", **tasks.TASKS})
    with pytest.raises(BadInput, match="--task=half: Half must define `input_width`"):
        flagfiles.define("half")
    assert tasks.name_of(Copy()) == "copy"
    with pytest.raises(BadInput, match="Did you mean --max_length"):
        parse("--max_lenght=3")


@pytest.mark.parametrize(
    "content, part",
    [
        (b"--memory=3\n", "flags.cfg: Unknown command line flag 'memory'"),
        (b"rnn_size=3\n", "flags.cfg: 'rnn_size=3'"),
        (b"--rnn_size=0\n", "flags.cfg: flag --rnn_size=0"),
        (b"\x00\xff\xfe binary \x80", "flags.cfg"),
    ],
    ids=["unknown key", "no dashes", "wrong value", "binary"],
)
def test_a_file_that_is_not_a_flagfile_is_refused(content, part, tmp_path):
    (tmp_path / "flags.cfg").write_bytes(content)
    assert_refused(complaint(f"--flagfile={tmp_path / 'flags.cfg'}"), part)


def test_flagfiles_that_include_each_other_are_refused(tmp_path):
    first, second = tmp_path / "first.cfg", tmp_path / "second.cfg"
    first.write_text(f"--flagfile={second}\n")
    second.write_text(f"--flagfile={first}\n")
    assert_refused(complaint(f"--flagfile={first}"), str(first), "includes itself")


def test_evaluating_nothing_names_the_newest_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        folder = tmp_path / "runs" / "copy" / f"run{number}"
        folder.mkdir(parents=True)
        run_folder.write_settings(str(folder), tiny().as_flags())
        (folder / "model.keras").touch()
        os.utime(folder / "model.keras", (number, number))
    said = complaint("--mode=eval")
    newest = ", ".join(f"--logdir=runs/copy/run{number}" for number in (3, 2, 1))
    assert_refused(said, f"The newest: {newest}")
    assert "run0" not in said


@pytest.mark.parametrize("arguments", [[], ["--logdir=nowhere"], ["--logdir="]], ids=str)
def test_evaluating_a_folder_without_a_run_is_refused(arguments):
    assert_refused(complaint("--mode=eval", *arguments), "--logdir")


def test_evaluating_a_run_without_a_model_is_refused(tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=copy\n")
    assert_refused(complaint("--mode=eval", f"--logdir={tmp_path}"), str(tmp_path), "model.keras")


def test_evaluating_with_flags_that_contradict_the_run_is_refused(run):
    said = complaint("--mode=eval", f"--logdir={run}", "--rnn_size=16")
    assert_refused(said, "--rnn_size=16 (the run has 8)", str(run), "its own flags")
    assert complaint("--mode=eval", f"--logdir={run}", "--memory_size=16") is None


def test_evaluating_a_run_as_one_of_another_task_is_refused(run):
    said = complaint("--mode=eval", f"--logdir={run}", "--task=associative_recall")
    assert_refused(said, "--task=associative_recall (the run has copy)", str(run))


def test_a_run_has_its_own_flags_and_those_that_may_change(run):
    found = parse("--mode=eval", f"--logdir={run}", "--eval_sizes=3", "--memory_size=8").settings
    assert found == tiny(eval_sizes="3")
    assert parse(f"--logdir={run}", "--steps=9").settings == tiny(steps=9)


def test_flags_that_make_another_run_are_refused_by_name(run):
    said = complaint(f"--logdir={run}", "--seed=7", "--rnn_size=9")
    assert_refused(said, "--seed=7 (the run has 0)", "--rnn_size=9 (the run has 8)", str(run))
    assert parse(f"--logdir={run}", "--seed=7", "--overwrite").settings.seed == 7


def test_a_run_that_was_killed_before_its_first_checkpoint_is_one_to_go_on_with(tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=repeat_copy\n")
    (tmp_path / "data_names.json").write_text("{}")
    assert flags_of(f"--logdir={tmp_path}")["task"] == "repeat_copy"


def test_a_run_of_an_older_version_has_the_defaults_of_newer_flags(tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=copy\n--rnn_size=5\n--xla=False\n")
    settings = parse(f"--logdir={tmp_path}").settings
    assert (settings.rnn_size, settings.xla, settings.solved_times) == (5, False, 1)


def test_a_run_of_a_version_with_other_flags_is_refused(tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=copy\n--flag_of_the_future=1\n")
    said = complaint(f"--logdir={tmp_path}")
    assert_refused(said, "flag_of_the_future", str(tmp_path / "flags.cfg"))


@pytest.mark.parametrize("name", ["model.keras", "eval.json"])
def test_a_folder_with_files_that_no_run_wrote_is_refused(name, tmp_path):
    (tmp_path / name).write_text("mine")
    assert_refused(complaint(f"--logdir={tmp_path}"), name, "no run to go on with")
    assert complaint(f"--logdir={tmp_path}", "--overwrite") is None


@pytest.mark.parametrize("logdir", ["pretrained/copy", "pretrained/new", "link/copy"])
@pytest.mark.parametrize("flag", ["--overwrite", "--steps=1"])
def test_nothing_is_trained_among_the_machines_of_the_project(logdir, flag, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "PRETRAINED", tmp_path.resolve() / "pretrained")
    shutil.copytree(ROOT / "pretrained" / "copy", tmp_path / "pretrained" / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "pretrained")
    with pytest.raises(BadInput, match="came with the project.*--mode=eval"):
        parse(f"--logdir={tmp_path / logdir}", flag)


def test_bytes_that_are_not_text_are_refused():
    assert_refused(complaint(b"--task=\xff\xfe".decode("utf-8", "surrogateescape")), "task")
