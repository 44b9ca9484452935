"""`train` and `evaluate`, called as a notebook calls them."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import warnings

import little_omniglot
import numpy as np
import pytest
import tensorflow as tf
from conftest import running_eagerly
from runs import ROOT, as_arguments, complaint, events, tiny

from ntm_keras import with_memory_size
from ntm_keras.keras_compat import keras
from tasks import TASKS, task_class
from tasks.associative_recall import AssociativeRecall
from tasks.copy import Copy
from tasks.dynamic_ngrams import DynamicNgrams
from tasks.omniglot import Omniglot
from tasks.priority_sort import PrioritySort
from tasks.repeat_copy import RepeatCopy
from training import BadInput, evaluate, models, report, run_folder, settings_of_run, train

pytestmark = pytest.mark.eager


@pytest.fixture(scope="module", autouse=True)
def small_validations():
    """A validation is one batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.run._VALIDATION_SEQUENCES", 64)
        yield


def printed_by(capsys, call, *arguments):
    """What a call returns, and what it prints."""
    capsys.readouterr()
    returned = call(*arguments)
    return returned, capsys.readouterr().out


class Run:
    """What a test may ask about a run that was made once for all of them."""

    def __init__(self, settings, logdir, result, printed, warned=()):
        self.settings, self.logdir, self.result = settings, logdir, result
        self.printed, self.warned = printed, warned

    def read(self, name):
        return json.loads((self.logdir / name).read_text())

    def model(self, name="model.keras"):
        return keras.models.load_model(str(self.logdir / name), compile=False)


def made(settings, logdir):
    """Trains, and keeps what was returned, printed and warned of."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        warnings.filterwarnings("ignore", "Even though the .tf.config")  # See setup.cfg.
        result = train(settings, logdir)
    told = [str(each.message) for each in warned if each.category is UserWarning]
    return Run(settings, logdir, result, printed.getvalue(), told)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps in graphs, with one size of sequences, not solved."""
    settings = tiny(
        task=Copy(bits=2, min_length=3, max_length=3),
        steps=6,
        validate_every=4,
        eval_sizes="2,5",
        memory_initializer="constant",
    )
    with running_eagerly(False):
        return made(settings, tmp_path_factory.mktemp("runs") / "tiny")


def test_the_end_of_a_run_says_how_it_went(run):
    assert re.search(r"Not solved after 6 steps, 24 sequences, \d+ seconds", run.printed)
    assert "All steps are made. It can go on with --logdir and more --steps." in run.printed
    measured = r"below 0.01\):\n  cost bits per sequence +\d+\.\d+\n  wrong bits .* \d+\.\d+\n"
    assert re.search(measured, run.printed)
    validations = re.findall(r"^ +(\d+) +0:\d\d:\d\d +\d.*0 of 1$", run.printed, re.MULTILINE)
    assert validations == ["4", "6"]
    assert re.search(rf"tensorboard .*--logdir {re.escape(str(run.logdir))}", run.printed)


def test_the_same_is_returned_and_stands_in_result_json(run):
    assert run.read("result.json") == run.result
    assert list(run.result) == [
        "solved",
        "steps",
        "sequences",
        "seconds",
        "cost_bits_per_sequence",
        "wrong_bits_per_sequence",
        "flags",
    ]
    assert run.result["solved"] is False
    assert (run.result["steps"], run.result["sequences"]) == (6, 24)
    wrong_bits = run.result["wrong_bits_per_sequence"]
    assert f"wrong bits per sequence  {wrong_bits:.4f}\n" in run.printed
    assert run.result["flags"] == run.settings.as_flags()


@pytest.mark.parametrize("name", ["model.keras", "best.keras"])
def test_the_last_model_and_the_best_are_kept(run, name):
    assert run.model(name)(np.zeros([1, 5, 3])).shape == (1, 5, 2)


def test_tensorboard_can_show_the_run(run):
    train_log, validation = events(run.logdir / "train"), events(run.logdir / "validation")
    scalars = {tag: step for tag, step, value in train_log if value.dtype.kind == "f"}
    assert set(scalars.values()) == {6}
    measures = {"learning/loss", "learning/cost_bits_per_sequence"}
    assert measures | {
        "training/learning_rate",
        "training/gradient_norm",
        "training/gradients_left_out",
        "training/sequences_per_second",
        "training/sequences_seen",
    } <= set(scalars)
    assert measures <= {tag for tag, _, _ in validation}
    for size in ("2", "5"):
        tags = {tag for tag, _, _ in events(run.logdir / f"size_{size}")}
        assert {"sizes/cost_bits_per_sequence", "sizes/share_without_error"} <= tags
    assert "ntm" in {tag for tag, _, _ in train_log}
    settings = {tag: value for tag, _, value in events(run.logdir)}
    assert "command line" in settings
    assert "memory_vector_dim" in str(settings["flags"])
    assert "_hparams_/session_start_info" in settings


def test_a_solved_run_stops_in_a_folder_named_after_task_and_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result, printed = printed_by(capsys, train, tiny(optimizer="rmsprop", solved_below=1000))
    (logdir,) = (tmp_path / "runs" / "copy").iterdir()
    assert re.search("^Solved after 3 steps", printed, re.MULTILINE)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", logdir.name)
    assert result["solved"] is True


OTHERS = {
    "lstm": {
        "model": "lstm",
        "lstm_layers": 2,
        "lstm_units": 6,
        "learning_rate": 0.1,
        "validate_every": 1,
    },
    "repeat_copy": {
        "task": RepeatCopy(bits=2, max_length=3, max_repeats=2),
        "eval_sizes": "2x2",
    },
    "associative_recall": {
        "task": AssociativeRecall(bits=2, item_length=1, max_items=2),
        "adam_epsilon": 1e30,
        "validate_every": 1,
    },
    "dynamic_ngrams": {"task": DynamicNgrams(context=2, length=8), "eval_sizes": "9"},
    "priority_sort": {
        "task": PrioritySort(bits=2, items=9, sorted_items=3),
        "eval_sizes": "4x3",
    },
    "mann": {"model": "mann", "head_num": 2},
    "omniglot": {"eval_sizes": "9", "head_num": 2},
}


# Any other task of the table.
OTHERS |= {
    name: {"task": task_class(name)(), "eval_sizes": task_class(name).small_size}
    for name in TASKS
    if name not in {"copy", *OTHERS}
}


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return little_omniglot.write(tmp_path_factory.mktemp("omniglot") / "drawings")


@pytest.fixture(scope="module")
def other_run(tmp_path_factory, drawings):
    """A short run of another task or model, made when it is first asked for."""
    runs = {}

    def other_run(name):
        if name not in runs:
            others = {"ema_momentum": 0.5, **OTHERS[name]}
            if name == "omniglot":
                others["task"] = Omniglot(
                    omniglot=str(drawings), classes=3, length=6, labels="five_hot"
                )
                others["model"] = "mann"
            settings = tiny(steps=2, **others)
            logdir = tmp_path_factory.mktemp("others") / name
            runs[name] = made(settings, logdir)
        return runs[name]

    return other_run


@pytest.mark.parametrize("name", OTHERS)
def test_every_task_and_model_trains(other_run, name):
    run = other_run(name)
    assert run.result["steps"] == 2
    measure = "later_error" if name == "omniglot" else "cost_bits_per_sequence"
    assert np.isfinite(run.result[measure])
    assert (run.logdir / "model.keras").exists()


def test_a_measure_with_the_name_of_another_result_is_refused(tmp_path, monkeypatch):
    named_steps = keras.metrics.MeanSquaredError(name="steps")
    monkeypatch.setattr(Copy, "measures", lambda task: [named_steps])
    with pytest.raises(BadInput, match="a measure of copy named 'steps'"):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_that_is_solved_by_a_measure_that_it_does_not_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Copy, "solved_measure", "accuracy")
    with pytest.raises(BadInput, match="Copy.solved_measure must be .* Received: 'accuracy'"):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_says_what_its_data_is(other_run):
    printed = other_run("omniglot").printed
    assert re.search(r"^training: 12 characters of \w+, \w+\n", printed, re.MULTILINE)


def test_the_learning_rate_is_logged(other_run):
    logged = events(other_run("lstm").logdir / "train")
    rates = [value for tag, _, value in logged if tag == "training/learning_rate"]
    np.testing.assert_allclose(rates, [0.1, 0.1], rtol=1e-6)


def test_adam_stands_still_where_gradients_are_far_below_its_epsilon(other_run):
    logged = events(other_run("associative_recall").logdir / "validation")
    costs = [value for tag, _, value in logged if tag == "learning/cost_bits_per_sequence"]
    assert len(costs) == 2 and costs[0] == costs[1]


def test_a_task_s_own_measures_stand_in_the_result(other_run):
    result = other_run("repeat_copy").result
    copied, markers = (
        result[f"wrong_{part}_per_sequence"] for part in ("copied_bits", "end_markers")
    )
    assert copied + markers == pytest.approx(result["wrong_bits_per_sequence"], rel=1e-5)
    result = other_run("dynamic_ngrams").result
    optimal, excess = (result[f"{part}_cost_bits_per_sequence"] for part in ("optimal", "excess"))
    assert optimal + excess == pytest.approx(result["cost_bits_per_sequence"], rel=1e-5)


def test_more_to_remember_than_there_are_locations_is_warned_of(other_run):
    (warning,) = other_run("priority_sort").warned
    assert "in training have up to 9 vectors to remember" in warning
    assert "8 locations of --memory_size" in warning
    assert other_run("repeat_copy").warned == []


# Evaluation


@pytest.fixture(scope="module")
def evaluation(run):
    """The records of an evaluation of that run on more sequences, and what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        records = evaluate(dataclasses.replace(run.settings, eval_sequences=100), run.logdir)
    return records, printed.getvalue()


def test_evaluation_measures_every_size_and_shows_an_example(run, evaluation):
    records, printed = evaluation
    assert run.read("eval.json") == records
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
    for title in ("input", "target, from step 4", "answer, from step 4"):
        assert f"\n{title}\n" in printed
    assert printed.endswith(f"\nWritten to {run.logdir}.\n")


def test_evaluation_is_shown_in_tensorboard_too(run, evaluation):
    records, _ = evaluation
    for record in records:
        written = events(run.logdir / "eval" / f"size_{record['size']}")
        assert {step for _, step, _ in written} == {6}
        values = {tag: value for tag, _, value in written}
        wrong_bits = pytest.approx(record["wrong_bits_per_sequence"], rel=1e-5)
        assert values["sizes/wrong_bits_per_sequence"] == wrong_bits
        assert "ntm_at_sizes" in values


def test_evaluation_agrees_with_counting_by_hand(run, evaluation):
    (_, record), _ = evaluation
    model = run.model()
    wrong = []
    for inputs, targets, mask in run.settings.made_task.evaluation(5, 100, 64, seed=0):
        errors = ((model(inputs) > 0) != (targets > 0.5)) & (mask[:, :, np.newaxis] > 0)
        wrong += np.sum(errors, axis=(1, 2)).tolist()
    assert record["sequences"] == len(wrong) == 128
    assert record["wrong_bits_per_sequence"] == pytest.approx(np.mean(wrong), rel=1e-5)
    assert record["sequences_without_error"] == wrong.count(0)


@pytest.mark.parametrize(
    "name, size, columns",
    [
        ("lstm", "2", []),
        ("repeat_copy", "2x2", ["wrong copied bits", "wrong end markers"]),
        ("dynamic_ngrams", "9", ["optimal cost bits", "excess cost bits"]),
        ("mann", "2", []),
    ],
)
def test_every_task_and_model_is_evaluated(other_run, capsys, name, size, columns):
    run = other_run(name)
    _, printed = printed_by(capsys, evaluate, run.settings, run.logdir)
    for column in ["cost bits", "wrong bits", *columns, "share without error"]:
        assert column in printed
    tags = {tag for tag, _, _ in events(run.logdir / "eval" / f"size_{size}")}
    assert {"sizes/cost_bits_per_sequence", "sizes/share_without_error"} <= tags
    figure = {"mann": "mann", "lstm": "model"}.get(name, "ntm")
    assert f"{figure}_at_sizes" in tags
    assert figure in {tag for tag, _, _ in events(run.logdir / "train")}


def test_characters_are_evaluated_by_instance(other_run, capsys):
    run = other_run("omniglot")
    _, printed = printed_by(capsys, evaluate, run.settings, run.logdir)
    assert re.search(r"^test: 6 characters of \w+$", printed, re.MULTILINE)
    assert re.search(r"^accuracy at instance 02 +\d\.\d{3}$", printed, re.MULTILINE)
    assert len(re.findall(r"^ +\d +\d  [a-e]{5}  [a-e]{5}", printed, re.MULTILINE)) == 9
    tags = {tag for tag, _, _ in events(run.logdir / "eval" / "size_9")}
    assert {"mann_at_sizes", "sizes/later_error"} <= tags


def with_drawings(run, folder):
    task = dataclasses.replace(run.settings.made_task, omniglot=str(folder))
    return dataclasses.replace(run.settings, task=task)


@pytest.mark.parametrize("call", [train, evaluate])
def test_a_run_does_not_go_on_with_other_data(other_run, tmp_path, call):
    run = other_run("omniglot")
    before = {path: path.read_bytes() for path in run.logdir.glob("*.*")}
    others = little_omniglot.write(tmp_path / "others", ("Elvish", "Klingon", "Ogham", "Runes"))
    with pytest.raises(
        BadInput, match=r"^The run in .* has other data for \w+, .*json: \d+ are (missing|new)"
    ):
        call(with_drawings(run, others), run.logdir)
    assert {path: path.read_bytes() for path in run.logdir.glob("*.*")} == before


def test_a_run_goes_on_with_its_data_in_another_place(other_run, drawings, tmp_path):
    run = other_run("omniglot")
    shutil.copytree(drawings, tmp_path / "moved")
    assert evaluate(with_drawings(run, tmp_path / "moved"), run.logdir)


def unchanged(run):
    """The record of a run, to see whether it stays as it is."""
    return {path: path.read_bytes() for path in run.logdir.rglob("*") if path.is_file()}


def test_a_machine_with_more_locations_is_measured_and_the_run_s_record_stays(run, tmp_path):
    before = unchanged(run)
    larger = dataclasses.replace(run.settings, memory_size=40, eval_sizes="5,20")
    records = evaluate(larger, run.logdir, tmp_path / "new" / "folder")
    assert [record["size"] for record in records] == ["5", "20"]
    assert json.loads((tmp_path / "new" / "folder" / "eval.json").read_text()) == records
    assert events(tmp_path / "new" / "folder" / "eval" / "size_20")
    assert evaluate(larger, run.logdir) == records
    assert unchanged(run) == before


def test_the_machine_of_the_best_validation_can_be_measured(run, tmp_path):
    before = unchanged(run)
    shutil.copytree(run.logdir, tmp_path / "run")
    best = evaluate(run.settings, run.logdir, best=True)
    (tmp_path / "run" / "model.keras").write_bytes((run.logdir / "best.keras").read_bytes())
    assert evaluate(run.settings, tmp_path / "run") == best
    assert unchanged(run) == before


def test_a_machine_that_was_trained_elsewhere_keeps_its_own_record(run, tmp_path):
    for name in ("flags.cfg", "model.keras"):
        shutil.copy(run.logdir / name, tmp_path)
    assert evaluate(run.settings, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"flags.cfg", "model.keras"}


def test_a_machine_that_had_fewer_locations_in_training_is_saved_with_all_of_them(tmp_path):
    settings = tiny(
        memory_initializer="constant", training_memory_size=5, ema_momentum=0.9, eval_sizes="2,7"
    )
    run = made(settings, tmp_path)
    for name in ("model.keras", "best.keras"):
        assert run.model(name).get_layer("ntm").memory_size == 8
    smaller = with_memory_size(run.model(), 5)
    kept = tf.train.load_checkpoint(
        str(max(tmp_path.glob("checkpoints/*.index")))[: -len(".index")]
    )
    shapes = kept.get_variable_to_shape_map().values()
    assert [2, 5] in shapes and [2, 8] not in shapes  # Two heads' initial weightings.
    assert smaller.get_layer("ntm").memory_size == 5
    fresh = settings.made_task.report(8, 64, settings.seed)
    evaluator = models.make_evaluator(settings, run.model())
    found = evaluator.evaluate(models.with_steps(fresh), verbose=0, return_dict=True)
    assert found["wrong_bits_per_sequence"] == pytest.approx(run.result["wrong_bits_per_sequence"])
    assert [record["size"] for record in evaluate(settings, tmp_path)] == ["2", "7"]


# Beginning with a trained model


@pytest.mark.parametrize("memory_size", [8, pytest.param(12, marks=pytest.mark.slow)])
def test_a_run_can_begin_with_a_trained_model(run, tmp_path, memory_size):
    settings = dataclasses.replace(
        run.settings,
        init_from=str(run.logdir / "model.keras"),
        memory_size=memory_size,
        learning_rate=1e-9,
        steps=2,
        validate_every=2,
    )
    begun = made(settings, tmp_path)
    for old, new in zip(run.model().get_weights(), begun.model().get_weights()):
        if old.shape == new.shape:
            np.testing.assert_allclose(new, old, atol=1e-7)
    if memory_size == 8:
        assert begun.result["wrong_bits_per_sequence"] == run.result["wrong_bits_per_sequence"]


def test_a_run_is_not_overwritten_for_a_beginning_that_is_refused(run, tmp_path):
    logdir = tmp_path / "old"
    shutil.copytree(run.logdir, logdir)
    before = {path: path.read_bytes() for path in logdir.rglob("*") if path.is_file()}
    for model, said in (
        (tmp_path / "none", "there is no such file"),
        (logdir / "model.keras", "would remove it"),
    ):
        settings = dataclasses.replace(run.settings, init_from=str(model))
        with pytest.raises(BadInput, match=said):
            train(settings, logdir, overwrite=True)
        assert said in complaint(*as_arguments(settings), f"--logdir={logdir}", "--overwrite")
    settings = tiny(init_from=str(run.logdir / "model.keras"), rnn_size=9)
    with pytest.raises(BadInput, match="another kind of model"):
        train(settings, logdir, overwrite=True)
    assert {path: path.read_bytes() for path in logdir.rglob("*") if path.is_file()} == before


def test_a_model_of_other_settings_is_no_beginning(run, tmp_path):
    settings = tiny(init_from=str(run.logdir / "model.keras"), rnn_size=9)
    with pytest.raises(BadInput, match="--init_from=.* another kind .* with --rnn_size=8 "):
        train(settings, tmp_path / "other")
    alone = shutil.copy(run.logdir / "model.keras", tmp_path / "alone.keras")
    with pytest.raises(BadInput, match="another kind .* its weights are .* not "):
        train(dataclasses.replace(settings, init_from=str(alone)), tmp_path / "other")
    with pytest.raises(BadInput, match="--init_from=nowhere.keras: there is no such file"):
        train(tiny(init_from="nowhere.keras"), tmp_path / "other")
    with pytest.raises(BadInput, match=f"it is a folder. Give {run.logdir}/model.keras"):
        train(tiny(init_from=str(run.logdir)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


# Bad input


def test_a_loss_that_is_not_finite_ends_the_run_with_a_message(tmp_path):
    with pytest.raises(BadInput, match="loss became nan.* Try a smaller --learning_rate") as error:
        train(tiny(learning_rate=1e38), tmp_path)
    assert "The last saved model" not in str(error.value)
    assert not (tmp_path / "model.keras").exists()


@pytest.mark.parametrize("call", [train, evaluate])
def test_settings_of_another_run_are_refused_by_name(run, call):
    with pytest.raises(BadInput, match=r"--rnn_size=16 \(the run has 8\)"):
        call(dataclasses.replace(run.settings, rnn_size=16), run.logdir)


def test_a_learned_memory_keeps_its_size(other_run):
    run = other_run("repeat_copy")
    with pytest.raises(BadInput, match="--memory_size=9: .*initial memory is learned"):
        evaluate(dataclasses.replace(run.settings, memory_size=9), run.logdir)


def test_nothing_is_trained_among_the_machines_of_the_project():
    with pytest.raises(BadInput, match="came with the project"):
        train(tiny(), ROOT / "pretrained" / "new", overwrite=True)


def test_files_that_no_run_wrote_are_not_overwritten(tmp_path):
    (tmp_path / "model.keras").write_text("mine")
    with pytest.raises(BadInput, match="no run to go on with"):
        train(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_a_folder_without_a_run_is_not_evaluated(tmp_path):
    with pytest.raises(BadInput, match="needs the folder of a run"):
        evaluate(tiny(), tmp_path)


def test_a_run_with_a_damaged_result_or_model_is_not_evaluated(run, tmp_path):
    for name in ("flags.cfg", "model.keras"):
        (tmp_path / name).write_bytes((run.logdir / name).read_bytes())
    (tmp_path / "result.json").write_text('{"steps"')
    with pytest.raises(BadInput, match="result.json is not what a run writes"):
        evaluate(run.settings, tmp_path)
    (tmp_path / "model.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:-100])
    with pytest.raises(BadInput, match="model.keras cannot be loaded"):
        evaluate(run.settings, tmp_path)
    assert not (tmp_path / "eval.json").exists()


def test_damaged_checkpoints_are_told(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    run_folder.write_settings(str(tmp_path), tiny(steps=20).as_flags())
    (tmp_path / "checkpoints" / "step-000000010.sha256").write_text("nonsense")
    with pytest.warns(UserWarning, match="step-000000010 is damaged"):
        with pytest.raises(BadInput, match="all checkpoints in .* are damaged; --overwrite"):
            train(tiny(steps=20), tmp_path)


def test_a_run_that_could_not_keep_anything_says_so():
    assert report.how_to_go_on("SIGINT", "run", 3, []) == (
        "Stopped by SIGINT after 3 steps. None could be kept."
    )


def test_the_command_that_goes_on_names_the_keras_that_began(monkeypatch):
    for name in ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS"):
        monkeypatch.delenv(name, raising=False)
    assert "\n  KERAS_BACKEND" not in report.how_to_go_on("SIGINT", "run", 3, [2])
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    said = report.how_to_go_on("SIGINT", "run", 3, [2])
    assert "To go on from step 2:\n  KERAS_BACKEND=jax " in said and said.endswith("--logdir=run")


@pytest.mark.parametrize("number, shown", [(40, "runs"), (41, "runs/copy/1")])
def test_tensorboard_is_given_all_runs_while_it_shows_them_at_first(
    tmp_path, monkeypatch, number, shown
):
    monkeypatch.chdir(tmp_path)
    for index in range(number):
        folder = tmp_path / "runs" / "copy" / str(index)
        folder.mkdir(parents=True)
        (folder / "events.out.tfevents.1").touch()
    assert report.where_to_look("runs/copy/1").endswith(f" --logdir {shown}")


def test_the_settings_of_a_run_are_those_it_was_made_with(run, tmp_path):
    assert settings_of_run(run.logdir).as_flags() == run.settings.as_flags()
    with pytest.raises(BadInput, match="needs the folder of a run"):
        settings_of_run(tmp_path)


@pytest.mark.parametrize("use", [train, evaluate])
def test_settings_of_another_type_are_refused(use, tmp_path):
    with pytest.raises(ValueError, match="`settings` must be a Settings. Received: .*copy"):
        use({"task": "copy"}, tmp_path)
