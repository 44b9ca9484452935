"""The command line, run as a user runs it."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import little_omniglot
import numpy as np
import pytest
from test_callbacks import events

from configs import command_line
from ntm_keras.keras_compat import keras
from tasks.copy import Copy

ROOT = pathlib.Path(__file__).parent.parent
TINY = (
    "--steps=5 --validate_every=3 --batch_size=4 --max_length=3 --bits=2 --rnn_size=6"
    " --memory_size=8 --memory_vector_dim=4 --eval_sizes=2,5 --eval_sequences=8 --noxla"
    " --solved_times=1"
).split()


def run_train(*arguments, **options):
    return runs_side_by_side(arguments, **options)[0]


def runs_side_by_side(*commands, cwd=None):
    """What several command lines of train.py, started at once, end with."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for arguments in commands
    ]
    printed = [process.communicate() for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *printed)
        for process, printed in zip(processes, printed)
    ]


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Two runs with the same flags, of a few steps: the folder of each and what it printed."""
    folder = tmp_path_factory.mktemp("runs")
    logdirs = folder / "tiny", folder / "twin"
    other = "--xla --batch_size=16 --min_length=3 --steps=6 --validate_every=4 --solved_below=1e-9"
    twins = runs_side_by_side(
        *((*TINY, *other.split(), f"--logdir={logdir}") for logdir in logdirs)
    )
    assert [finished.returncode for finished in twins] == [0, 0], twins[0].stderr
    return [(logdir, finished.stdout) for logdir, finished in zip(logdirs, twins)]


@pytest.fixture(scope="module")
def run(twins):
    return twins[0]


def test_the_end_of_a_run_says_how_it_went(run):
    logdir, printed = run
    assert re.search(r"Not solved after 6 steps, 96 sequences, \d+ seconds", printed)
    assert re.search(
        r"sequences: cost bits per sequence \d+\.\d+, wrong bits .* \d+\.\d+\.\n", printed
    )
    assert re.search(rf"-m tensorboard.main .*--logdir {re.escape(str(logdir))}", printed)


def test_the_same_stands_in_result_json(run):
    logdir, printed = run
    result = json.loads((logdir / "result.json").read_text())
    assert list(result) == [
        "solved",
        "steps",
        "sequences",
        "seconds",
        "cost_bits_per_sequence",
        "wrong_bits_per_sequence",
        "flags",
    ]
    assert result["solved"] is False
    assert (result["steps"], result["sequences"]) == (6, 96)
    assert f"wrong bits per sequence {result['wrong_bits_per_sequence']:.4f}" in printed
    assert result["flags"]["rnn_size"] == 6 and result["flags"]["max_length"] == 3


def test_the_run_s_flags_are_a_flagfile_that_makes_the_same_run(run):
    logdir, _ = run
    flags = json.loads((logdir / "result.json").read_text())["flags"]
    assert flags_of(f"--flagfile={logdir / 'flags.cfg'}") == flags


@pytest.mark.parametrize("name", ["model.keras", "best.keras"])
def test_the_last_model_and_the_best_are_kept(run, name):
    logdir, _ = run
    model = keras.models.load_model(str(logdir / name), compile=False)
    assert model(np.zeros([1, 5, 3])).shape == (1, 5, 2)


def test_runs_with_the_same_flags_are_the_same_bit_for_bit(twins):
    folders = [logdir for logdir, _ in twins]
    first, twin = (json.loads((folder / "result.json").read_text()) for folder in folders)
    assert {**first, "seconds": 0} == {**twin, "seconds": 0}
    first, twin = (
        keras.models.load_model(str(folder / "model.keras"), compile=False).get_weights()
        for folder in folders
    )
    assert len(first) == len(twin) > 0
    for weight, other in zip(first, twin):
        np.testing.assert_array_equal(weight, other)


OTHER_RUNS = {
    "lstm": "--model=lstm --lstm_layers=2 --lstm_units=6 --bits=2 --max_length=3 --eval_sizes=2"
    " --learning_rate=0.1",
    "repeat_copy": "--task=repeat_copy --bits=2 --max_length=3 --max_repeats=2 --eval_sizes=2x2",
    "associative_recall": "--task=associative_recall --bits=2 --max_items=3 --eval_sizes=2"
    " --adam_epsilon=1e30",
    "dynamic_ngrams": "--task=dynamic_ngrams --context=2 --length=8 --eval_sizes=9",
    "priority_sort": "--task=priority_sort --bits=2 --items=9 --sorted_items=3 --eval_sizes=4x3"
    " --shift_range=1",
    "mann": "--model=mann --bits=2 --max_length=3 --eval_sizes=2 --head_num=2 --gamma=0.5"
    " --k_strategy=summary --learned_key_strength",
    "omniglot": "--task=omniglot --omniglot={omniglot} --classes=3 --length=6 --labels=five_hot"
    " --eval_sizes=9",
}
QUICK = (
    "--steps=2 --validate_every=1 --batch_size=4 --rnn_size=6 --eval_sequences=8 --noxla"
    " --solved_times=1"
    " --solved_below=1e-9"
)


@pytest.fixture(scope="module")
def other_runs(tmp_path_factory):
    """A short run of every other task and of the LSTM: each one's folder and process."""
    folder = tmp_path_factory.mktemp("others")
    little_omniglot.write(folder / "drawings")
    small = [*QUICK.split(), "--memory_size=8", "--memory_vector_dim=4", "--ema_momentum=0.5"]
    finished = runs_side_by_side(
        *(
            [
                *flags.format(omniglot=folder / "drawings").split(),
                *small,
                f"--logdir={folder / name}",
            ]
            for name, flags in OTHER_RUNS.items()
        )
    )
    return {name: (folder / name, each) for name, each in zip(OTHER_RUNS, finished)}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_every_task_and_model_trains(other_runs, name):
    logdir, finished = other_runs[name]
    assert finished.returncode == 0, finished.stderr
    result = json.loads((logdir / "result.json").read_text())
    assert result["steps"] == 2
    assert np.isfinite(result["later_error" if name == "omniglot" else "cost_bits_per_sequence"])
    assert (logdir / "model.keras").exists()


def test_the_flags_of_a_mann_reach_its_cell(other_runs):
    logdir, _ = other_runs["mann"]
    model = keras.models.load_model(str(logdir / "model.keras"), compile=False)
    config = model.get_layer("mann").cell.get_config()
    expected = {"head_num": 2, "gamma": 0.5, "k_strategy": "summary", "learned_key_strength": True}
    assert {name: config[name] for name in expected} == expected


def test_a_run_says_what_its_data_is(other_runs):
    _, finished = other_runs["omniglot"]
    assert re.search(r"^training: 12 characters of \w+, \w+\n", finished.stdout, re.MULTILINE)


def test_the_learning_rate_is_logged(other_runs):
    logdir, _ = other_runs["lstm"]
    rates = [value for tag, _, value in events(logdir / "train") if tag == "learning_rate"]
    np.testing.assert_allclose(rates, [0.1, 0.1], rtol=1e-6)


def test_adam_stands_still_where_gradients_are_far_below_its_epsilon(other_runs):
    logdir, _ = other_runs["associative_recall"]
    costs = [
        value for tag, _, value in events(logdir / "validation") if tag == "cost_bits_per_sequence"
    ]
    assert len(costs) == 2 and costs[0] == costs[1]


def test_a_task_s_own_measures_stand_in_the_result(other_runs):
    logdir, _ = other_runs["repeat_copy"]
    result = json.loads((logdir / "result.json").read_text())
    copied, markers = (
        result[f"wrong_{part}_per_sequence"] for part in ("copied_bits", "end_markers")
    )
    assert copied + markers == pytest.approx(result["wrong_bits_per_sequence"], rel=1e-5)
    logdir, _ = other_runs["dynamic_ngrams"]
    result = json.loads((logdir / "result.json").read_text())
    optimal, excess = (result[f"{part}_cost_bits_per_sequence"] for part in ("optimal", "excess"))
    assert optimal + excess == pytest.approx(result["cost_bits_per_sequence"], rel=1e-5)


def test_more_to_remember_than_there_are_locations_is_warned_of(other_runs):
    _, finished = other_runs["priority_sort"]
    (warning,) = [line for line in finished.stderr.splitlines() if "train.py: warning" in line]
    assert "in training have up to 9 vectors to remember" in warning
    assert "8 locations of --memory_size" in warning
    _, finished = other_runs["repeat_copy"]
    assert "train.py: warning" not in finished.stderr


def test_a_flag_of_another_model_is_warned_of(other_runs):
    _, finished = other_runs["lstm"]
    told = re.findall(r"warning: --(\w+) means nothing to --model=lstm\.", finished.stderr)
    assert told == ["rnn_size", "memory_size", "memory_vector_dim"]
    _, finished = other_runs["mann"]
    assert "means nothing" not in finished.stderr


@pytest.mark.parametrize(
    "name, end",
    [
        ("max_repeats", " ? It is one of --task=repeat_copy.\n"),
        ("classes", "'classes'. It is one of --task=omniglot.\n"),
    ],
)
def test_a_flag_of_another_task_is_refused_with_that_task_s_name(name, end):
    said = run_train(f"--{name}=3").stderr
    assert f"Unknown command line flag '{name}'" in said and said.endswith(end)


MACHINE = {
    "rnn_size": 5,
    "memory_size": 9,
    "memory_vector_dim": 3,
    "read_head_num": 2,
    "write_head_num": 3,
    "addressing_mode": "content",
    "shift_range": 2,
    "controller": "rnn",
    "controller_layers": 2,
    "memory_initializer": "random",
    "weighting_initializer": "spread",
    "output_source": "controller_and_reads",
    "write_order": "simultaneous",
}


@pytest.fixture(scope="module")
def solved_run(tmp_path_factory):
    """A run with the paper's optimizer and another machine, solved at once, in no given folder."""
    folder = tmp_path_factory.mktemp("solved")
    config = f"--flagfile={ROOT / 'configs' / 'paper' / 'copy_ntm_lstm.cfg'}"
    machine = [f"--{name}={value}" for name, value in MACHINE.items()]
    finished = run_train(config, *TINY, *machine, "--solved_below=1000", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    (logdir,) = (folder / "runs" / "copy").iterdir()
    return logdir, finished.stdout


def test_every_flag_of_the_machine_reaches_the_cell(solved_run):
    logdir, _ = solved_run
    model = keras.models.load_model(str(logdir / "model.keras"), compile=False)
    config = model.get_layer("ntm").cell.get_config()
    assert {name: config[name] for name in MACHINE} == MACHINE


def test_a_solved_run_stops_in_a_folder_named_after_task_and_time(solved_run):
    logdir, printed = solved_run
    assert re.search("^Solved after 3 steps", printed, re.MULTILINE)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", logdir.name)
    assert json.loads((logdir / "result.json").read_text())["solved"] is True


def test_tensorboard_can_show_the_run(run):
    logdir, _ = run
    train, validation = events(logdir / "train"), events(logdir / "validation")
    scalars = {tag: step for tag, step, value in train if value.dtype.kind == "f"}
    assert set(scalars.values()) == {6}
    assert {
        "loss",
        "cost_bits_per_sequence",
        "wrong_bits_per_sequence",
        "learning_rate",
        "gradient_norm",
        "gradients_left_out",
        "sequences_per_second",
        "sequences_seen",
    } <= set(scalars)
    assert {
        "loss",
        "cost_bits_per_sequence",
        "wrong_bits_per_sequence",
        "cost_bits_per_sequence_at_size/2",
        "wrong_bits_per_sequence_at_size/5",
    } <= {tag for tag, _, _ in validation}
    assert {
        "target_output_error",
        "ntm/read_weightings",
        "ntm/write_weightings",
        "ntm/read_vectors",
        "ntm/add_vectors",
        "ntm/memory",
    } <= {tag for tag, _, _ in train}
    settings = {tag: value for tag, _, value in events(logdir)}
    assert "train.py" in str(settings["command line"])
    assert "memory_vector_dim" in str(settings["flags"])
    assert "_hparams_/session_start_info" in settings


@pytest.fixture(scope="module")
def evaluation(run):
    """An evaluation of that run: the records of eval.json, and what was printed."""
    logdir, _ = run
    sizes = "--eval_sizes=2,5", "--eval_sequences=100"
    finished = run_train("--mode=eval", f"--logdir={logdir}", "--memory_size=8", *sizes)
    assert finished.returncode == 0, finished.stderr
    return json.loads((logdir / "eval.json").read_text()), finished.stdout


def test_evaluation_measures_every_size_and_shows_an_example(evaluation):
    records, printed = evaluation
    assert [list(record) for record in records] == [
        [
            "size",
            "sequences",
            "cost_bits_per_sequence",
            "wrong_bits_per_sequence",
            "sequences_without_error",
        ]
    ] * 2
    assert [record["size"] for record in records] == ["2", "5"]
    for record in records:
        assert f"{record['wrong_bits_per_sequence']:.3f}" in printed
    for title in ("input", "target", "answer"):
        assert f"\n{title}\n" in printed


def test_evaluation_is_shown_in_tensorboard_too(run, evaluation):
    logdir, _ = run
    records, _ = evaluation
    written = events(logdir / "eval")
    assert {step for tag, step, value in written} == {6}
    wrong_bits = {tag: value for tag, _, value in written if tag.startswith("wrong_bits")}
    assert wrong_bits == {
        f"wrong_bits_per_sequence_at_size/{record['size']}": pytest.approx(
            record["wrong_bits_per_sequence"], rel=1e-5
        )
        for record in records
    }
    tags = {tag for tag, _, _ in written}
    for size in ("2", "5"):
        assert {f"ntm/read_weightings/size_{size}", f"target_output_error/size_{size}"} <= tags


def test_evaluation_agrees_with_counting_by_hand(run, evaluation):
    logdir, _ = run
    (_, record), _ = evaluation
    model = keras.models.load_model(str(logdir / "model.keras"), compile=False)
    task = Copy(bits=2, min_length=3, max_length=3)
    wrong = []
    for inputs, targets, mask in task.evaluation(5, 100, 64, seed=0):
        errors = ((model(inputs) > 0) != (targets > 0.5)) & (mask[:, :, np.newaxis] > 0)
        wrong += np.sum(errors, axis=(1, 2)).tolist()
    assert record["sequences"] == len(wrong) == 128
    assert record["wrong_bits_per_sequence"] == pytest.approx(np.mean(wrong), rel=1e-5)
    assert record["sequences_without_error"] == wrong.count(0)


@pytest.fixture(scope="module")
def other_evaluations(other_runs):
    """What evaluations of other runs end with."""
    names = "lstm", "repeat_copy", "dynamic_ngrams", "mann"
    commands = [
        ["--mode=eval", f"--logdir={other_runs[name][0]}", "--eval_sequences=8"] for name in names
    ]
    return dict(zip(names, runs_side_by_side(*commands)))


@pytest.mark.parametrize(
    "name, size, columns",
    [
        ("lstm", "2", []),
        ("repeat_copy", "2x2", ["wrong copied bits", "wrong end markers"]),
        ("dynamic_ngrams", "9", ["optimal cost bits", "excess cost bits"]),
        ("mann", "2", []),
    ],
)
def test_every_task_and_model_is_evaluated(other_runs, other_evaluations, name, size, columns):
    finished = other_evaluations[name]
    assert finished.returncode == 0, finished.stderr
    for column in ["cost bits", "wrong bits", *columns, "share without error"]:
        assert column in finished.stdout
    logdir, _ = other_runs[name]
    tags = {tag for tag, _, _ in events(logdir / "eval")}
    assert {f"cost_bits_per_sequence_at_size/{size}", f"share_without_error_at_size/{size}"} <= tags
    machine = "mann" if name == "mann" else "ntm"
    assert f"target_output_error/size_{size}" in tags
    assert "target_output_error" in {tag for tag, _, _ in events(logdir / "train")}
    assert (f"{machine}/read_weightings/size_{size}" in tags) == (name != "lstm")


def test_characters_are_evaluated_by_instance(other_runs):
    logdir, _ = other_runs["omniglot"]
    finished = run_train("--mode=eval", f"--logdir={logdir}", "--eval_sequences=8")
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"^test: 6 characters of \w+$", finished.stdout, re.MULTILINE)
    assert re.search(r"^accuracy at instance 02 +\d\.\d{3}$", finished.stdout, re.MULTILINE)
    assert len(re.findall(r"^ +\d +\d  [a-e]{5}  [a-e]{5}", finished.stdout, re.MULTILINE)) == 9
    tags = {tag for tag, _, _ in events(logdir / "eval")}
    assert {"episode/size_9", "mann/read_weightings/size_9", "later_error_at_size/9"} <= tags


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_run_does_not_go_on_with_other_data(other_runs, tmp_path, mode):
    logdir, _ = other_runs["omniglot"]
    before = {path: path.read_bytes() for path in logdir.glob("*.*")}
    others = little_omniglot.write(tmp_path / "others", ("Elvish", "Klingon", "Ogham", "Runes"))
    finished = run_train(f"--mode={mode}", f"--logdir={logdir}", f"--omniglot={others}")
    assert finished.returncode == 1
    assert re.search(
        r"has other data for \w+, named in .*data_names.json: \d+ are (missing|new)",
        finished.stderr,
    )
    assert {path: path.read_bytes() for path in logdir.glob("*.*")} == before


def test_a_run_goes_on_with_its_data_in_another_place(other_runs, tmp_path):
    logdir, _ = other_runs["omniglot"]
    moved = tmp_path / "moved"
    shutil.copytree(logdir.parent / "drawings", moved)
    finished = run_train(
        "--mode=eval", f"--logdir={logdir}", f"--omniglot={moved}", "--eval_sequences=8"
    )
    assert finished.returncode == 0, finished.stderr


def test_a_loss_that_is_not_finite_ends_the_run_with_a_message(tmp_path):
    finished = run_train(*TINY, "--learning_rate=1e38", f"--logdir={tmp_path / 'run'}")
    assert finished.returncode == 1
    assert "loss became nan" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "The model before" not in finished.stderr
    assert not (tmp_path / "run" / "model.keras").exists()


# Flagfiles and configs


def flags_of(*arguments):
    """The flags that a run with these arguments would have, without making it."""
    command = (
        "import json, sys\n"
        "from configs import command_line\n"
        "command_line.parse(['train.py', *sys.argv[1:]])\n"
        "print(json.dumps(command_line.flag_values(*command_line.GROUPS)))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_no_flags_at_all_means_the_default_copy_run():
    assert flags_of() == flags_of("--task=copy") == flags_of("--flagfile=configs/copy.cfg")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--flagfile=configs/paper/copy_ntm_lstm.cfg", "--batch_size=7"],
        ["--batch_size=7", "--flagfile=configs/paper/copy_ntm_lstm.cfg"],
        ["--batch_size", "7", "--flagfile", "configs/paper/copy_ntm_lstm.cfg"],
    ],
    ids=" ".join,
)
def test_the_command_line_wins_wherever_the_flagfile_stands(arguments):
    found = flags_of(*arguments)
    assert found["batch_size"] == 7
    assert found["optimizer"] == "rmsprop"


def test_a_later_flagfile_wins_over_an_earlier_one(tmp_path):
    (tmp_path / "more.cfg").write_text("--batch_size=9\n")
    found = flags_of(
        "--flagfile=configs/paper/copy_ntm_lstm.cfg", f"--flagfile={tmp_path / 'more.cfg'}"
    )
    assert (found["batch_size"], found["optimizer"]) == (9, "rmsprop")


def test_a_tilde_means_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "flags.cfg").write_text("--task=repeat_copy\n")
    assert flags_of("--flagfile=~/flags.cfg")["task"] == "repeat_copy"
    assert flags_of("--logdir=~")["task"] == "repeat_copy"


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("**/*.cfg")))
def test_every_config_names_its_task_and_has_flags_that_exist(config):
    assert f"--task={flags_of(f'--flagfile={config}')['task']}\n" in config.read_text()


def test_snowkylin_s_settings_are_snowkylin_s():
    found = flags_of("--flagfile=configs/snowkylin_copy.cfg")
    names = "rnn_size", "memory_size", "memory_vector_dim", "bits", "max_length", "learning_rate"
    assert [found[name] for name in names] == [64, 20, 8, 4, 10, 1e-4]
    assert [found[name] for name in ("batch_size", "steps")] == [10, 1_000_000]
    assert found["clip_norm"] == found["clip_value"] == 0


@pytest.mark.parametrize("flags", [["--help"], ["--helpshort"], ["--mode=eval", "--help"]])
def test_help_is_a_manual_in_groups(flags):
    finished = run_train(*flags)
    assert finished.returncode == 0
    manual = finished.stdout
    positions = [manual.index(f"\n{group}:\n") for group in command_line.GROUPS]
    assert positions == sorted(positions)
    for flag in ("--task", "--learning_rate", "--memory_initializer", "--max_length"):
        assert f"\n  {flag}:" in manual
    assert "(default: 'focused')" in manual, "the defaults are those of configs/copy.cfg"


# Bad input


def assert_refused(finished, *parts):
    """One clear line: what was wrong, what was given; no traceback."""
    assert finished.returncode in (1, 2), finished.stdout
    assert "Traceback" not in finished.stderr
    lines = [line for line in finished.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, finished.stderr
    for part in parts:
        assert part in lines[0]


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
        ("--weight_noise_end=0.1", ["weight_noise_end", "at most --weight_noise"]),
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
        ("--log_dir=run", ["--log_dir", "--logdir"]),
        ("--verbosity=1", ["--verbosity", "not used"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_flag_is_refused_and_nothing_is_written(flag, parts, tmp_path):
    assert_refused(run_train(flag, cwd=tmp_path), *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--overwrite=maybe", "--nooverwrite=1"])
def test_a_bad_flag_is_refused_beside_a_folder_too(flag, tmp_path):
    assert_refused(run_train("--logdir=run", flag, cwd=tmp_path), "overwrite", flag[-1])
    assert not list(tmp_path.iterdir())


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
def test_limits_and_sizes_that_make_no_sense_are_refused(task, flag, parts, tmp_path):
    assert_refused(run_train(f"--task={task}", flag, cwd=tmp_path), *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--memory_size=2", "--min_length=30", "--eval_sizes=ten"])
def test_bad_flags_are_refused_before_tensorflow_is_imported(flag, tmp_path):
    command = (
        "import runpy, sys\n"
        f"sys.argv = ['train.py', {flag!r}]\n"
        f"try: runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'tensorflow' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert finished.stdout.startswith("train.py: "), finished.stderr
    assert finished.stdout.split()[-1] == "False"


@pytest.mark.parametrize(
    "content, part",
    [
        (b"--memory=3\n", "flags.cfg: Unknown command line flag 'memory'"),
        (b"rnn_size=3\n", "flags.cfg: 'rnn_size=3'"),
        (b"\x00\xff\xfe binary \x80", "flags.cfg"),
    ],
    ids=["unknown key", "no dashes", "binary"],
)
def test_a_flagfile_that_is_none_is_refused(content, part, tmp_path):
    (tmp_path / "flags.cfg").write_bytes(content)
    assert_refused(run_train(f"--flagfile={tmp_path / 'flags.cfg'}", cwd=tmp_path), part)


def test_flagfiles_that_include_each_other_are_refused(tmp_path):
    first, second = tmp_path / "first.cfg", tmp_path / "second.cfg"
    first.write_text(f"--flagfile={second}\n")
    second.write_text(f"--flagfile={first}\n")
    assert_refused(run_train(f"--flagfile={first}", cwd=tmp_path), str(first), "includes itself")


def test_a_logdir_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    logdir = tmp_path / "file" / "run"
    assert_refused(run_train(*TINY, f"--logdir={logdir}"), str(logdir), "cannot be written")


@pytest.mark.parametrize("arguments", [[], ["--logdir=nowhere"], ["--logdir="]], ids=str)
def test_evaluating_a_folder_without_a_run_is_refused(arguments, tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=copy\n")
    assert_refused(run_train("--mode=eval", *arguments, cwd=tmp_path), "--logdir")


def test_evaluating_a_run_without_a_model_is_refused(tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=copy\n")
    assert_refused(run_train("--mode=eval", f"--logdir={tmp_path}"), str(tmp_path), "model.keras")


def test_evaluating_with_flags_that_contradict_the_run_is_refused(run):
    logdir, _ = run
    finished = run_train("--mode=eval", f"--logdir={logdir}", "--memory_size=16")
    assert_refused(finished, "--memory_size=16 (the run has 8)", str(logdir))


def test_evaluating_a_run_as_one_of_another_task_is_refused(run):
    logdir, _ = run
    finished = run_train("--mode=eval", f"--logdir={logdir}", "--task=associative_recall")
    assert_refused(finished, "--task=associative_recall (the run has copy)", str(logdir))


def test_evaluating_a_run_with_a_damaged_result_is_refused(run, tmp_path):
    logdir, _ = run
    for name in ("flags.cfg", "model.keras"):
        (tmp_path / name).write_bytes((logdir / name).read_bytes())
    (tmp_path / "result.json").write_text('{"steps"')
    arguments = "--mode=eval", f"--logdir={tmp_path}", "--eval_sizes=2", "--eval_sequences=8"
    finished = run_train(*arguments)
    assert finished.returncode == 1
    assert "result.json is not what a run writes" in finished.stderr
    assert not (tmp_path / "eval.json").exists()
    assert "Traceback" not in finished.stderr


def test_evaluating_a_damaged_model_is_refused(run, tmp_path):
    logdir, _ = run
    for name in ("flags.cfg", "model.keras"):
        content = (logdir / name).read_bytes()
        (tmp_path / name).write_bytes(content if name == "flags.cfg" else content[:-100])
    finished = run_train("--mode=eval", f"--logdir={tmp_path}", "--eval_sizes=2")
    assert finished.returncode in (1, 2)
    assert "model.keras cannot be loaded" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_run_goes_on_and_is_evaluated_in_any_folder_that_the_file_system_takes(tmp_path):
    logdir = " [1]\\%#*?ü"
    for flags in (TINY, ["--steps=7"], ["--mode=eval"]):
        finished = run_train(*flags, f"--logdir={logdir}", cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == [logdir]
    assert json.loads((tmp_path / logdir / "result.json").read_text())["steps"] == 7
    assert {step for _, step, _ in events(tmp_path / logdir / "eval")} == {7}


def test_a_run_that_was_killed_before_its_first_checkpoint_is_one_to_go_on_with(tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=repeat_copy\n")
    (tmp_path / "data_names.json").write_text("{}")
    assert flags_of(f"--logdir={tmp_path}")["task"] == "repeat_copy"


@pytest.mark.parametrize("name", ["model.keras", "eval.json"])
def test_files_that_no_run_wrote_are_not_overwritten(name, tmp_path):
    (tmp_path / name).write_text("mine")
    assert_refused(run_train(f"--logdir={tmp_path}", cwd=ROOT), name, "no run to go on with")
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("logdir", ["pretrained/copy", "pretrained/new", "link/copy"])
@pytest.mark.parametrize("flag", ["--overwrite", "--steps=1"])
def test_nothing_is_trained_among_the_machines_of_the_project(logdir, flag, tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "PRETRAINED", tmp_path.resolve() / "pretrained")
    shutil.copytree(ROOT / "pretrained" / "copy", tmp_path / "pretrained" / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "pretrained")
    with pytest.raises(command_line.BadInput, match="came with the project.*--mode=eval"):
        command_line.parse(["train.py", f"--logdir={tmp_path / logdir}", flag])


def test_another_backend_of_keras_is_refused_in_one_line(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": "0"}
    command = [sys.executable, str(ROOT / "train.py"), f"--logdir={tmp_path / 'run'}"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    last_line = finished.stderr.splitlines()[-1]
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    assert last_line.startswith("train.py: ntm_keras needs Keras on its TensorFlow backend")
