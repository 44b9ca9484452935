"""The benchmark over several seeds."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf
from runs import ROOT, as_arguments, benchmark, only_scalars, tiny

import train

pytestmark = pytest.mark.eager
TINY = [
    flag
    for flag in as_arguments(tiny(solved_below=1000, eval_sizes="2,5"))
    if not flag.startswith(("--task=", "--seed="))
]


@pytest.fixture
def run_seeds(tmp_path, monkeypatch):
    """Measures seeds of copy whose runs are made in this process: the table, the runs made."""
    seeds, commands = benchmark("seeds"), []

    def run_train(*arguments):
        commands.append(arguments)
        train.main(["train.py", *arguments])

    def run_seeds(*settings, seeds_to_measure=range(1)):
        commands.clear()
        lines = seeds.measure_seeds("copy", seeds_to_measure, tmp_path, list(settings))
        return seeds.table(lines), list(commands)

    monkeypatch.setattr(seeds, "run_train", run_train)
    monkeypatch.setattr("training.run._logs", only_scalars)
    monkeypatch.setattr("training.run._VALIDATION_SEQUENCES", 64)
    return run_seeds


def test_a_seed_is_trained_and_measured_once(tmp_path, run_seeds):
    table, commands = run_seeds(*TINY)
    assert len(commands) == 2
    (line,) = (tmp_path / "copy" / "seeds.jsonl").read_text().splitlines()
    result = json.loads(line)
    assert result["seed"] == 0 and result["solved"] and result["steps"] == 3
    assert [record["size"] for record in result["sizes"]] == ["2", "5"]
    assert result["validations"]["steps"] == [3]
    assert len(result["validations"]["cost_bits_per_sequence"]) == 1
    assert "| solved | yes |  |  |" in table
    assert "| steps | 3 | 3 | 3 |" in table
    assert "| 5: wrong bits | " in table
    assert run_seeds(*TINY) == (table, [])
    run = tmp_path / "copy" / "0"
    (run / "eval.json").write_text('[{"size": "5", "wrong_bits_per_sequence": 9.0}]')
    assert run_seeds(*TINY) == (table, [("--mode=eval", f"--logdir={run}")])
    (run / "result.json").unlink()
    with pytest.raises(SystemExit, match="trained with --rnn_size=8, not 7"):
        run_seeds(*TINY, "--rnn_size=7")


def test_the_table_has_a_column_for_every_seed_their_median_and_the_worst(tmp_path, run_seeds):
    for seed, steps in enumerate((1, 4, 2)):
        run = tmp_path / "copy" / str(seed)
        run.mkdir(parents=True)
        result = {
            "solved": seed != 1,
            "steps": 1000 * steps,
            "sequences": 16000 * steps,
            "seconds": 60.0,
            "cost_bits_per_sequence": 0.5,
        }
        (run / "flags.cfg").write_text("--task=copy\n--eval_sizes=20\n")
        (run / "result.json").write_text(json.dumps(result))
        sizes = [{"size": "20", "wrong_bits_per_sequence": steps / 8}]
        (run / "eval.json").write_text(json.dumps(sizes))
        with tf.summary.create_file_writer(str(run / "validation")).as_default():
            for step, cost in ((400, 9.0), (500 * steps, 0.5)):
                tf.summary.scalar("learning/cost_bits_per_sequence", cost, step=step)
    defaults = tmp_path / "defaults.cfg"
    defaults.write_text("--eval_sizes=20\n")
    table, commands = run_seeds(f"--flagfile={defaults}", seeds_to_measure=range(3))
    assert table.splitlines() == [
        "| seed | 0 | 1 | 2 | median | worst |",
        "| --- | --- | --- | --- | --- | --- |",
        "| solved | yes | no | yes |  |  |",
        "| steps | 1,000 | 4,000 | 2,000 | 2,000 | 4,000 |",
        "| sequences | 16,000 | 64,000 | 32,000 | 32,000 | 64,000 |",
        "| seconds | 60 | 60 | 60 | 60 | 60 |",
        "| sequences until cost < 1 bit | 8,000 | 32,000 | 16,000 | 16,000 | 32,000 |",
        "| trained sizes: cost bits | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 |",
        "| 20: wrong bits | 0.125 | 0.500 | 0.250 | 0.250 | 0.500 |",
    ]
    assert not commands
    lines = (tmp_path / "copy" / "seeds.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["validations"] == {
        "steps": [400, 2000],
        "cost_bits_per_sequence": [9.0, 0.5],
    }
    last_two, _ = run_seeds(f"--flagfile={defaults}", seeds_to_measure=range(1, 3))
    assert last_two.startswith("| seed | 1 | 2 | median | worst |\n")
    assert (tmp_path / "copy" / "seeds.jsonl").read_text().splitlines() == lines
    with pytest.raises(SystemExit, match="trained with --adam_epsilon=1e-07, not 1e-05"):
        run_seeds()


def test_many_seeds_stand_in_several_tables():
    record = {"size": "2", "wrong_bits_per_sequence": 0.5}
    line = {"solved": True, "steps": 3, "sequences": 12, "seconds": 1.0, "sizes": [record]}
    line["validations"] = {"steps": [3]}
    table = benchmark("seeds").table([{"seed": seed, **line} for seed in range(100, 112)])
    heads = [rows.splitlines()[0] for rows in table.split("\n\n")]
    assert heads[0] == f"| seed | {' | '.join(map(str, range(100, 110)))} |"
    assert heads[1] == "| seed | 110 | 111 | median | worst |"


@pytest.mark.slow
def test_a_seed_that_was_stopped_goes_on(tmp_path, run_seeds, capsys):
    run = tmp_path / "copy" / "0"
    train.main(["train.py", *TINY, f"--logdir={run}"])
    (run / "result.json").unlink()
    capsys.readouterr()
    run_seeds(*TINY)
    assert "passed" not in capsys.readouterr().out
    assert json.loads((run / "result.json").read_text())["steps"] == 3


def test_a_wrong_flag_is_refused_before_training(run_seeds):
    with pytest.raises(SystemExit, match="seeds.py: flag --learning_rate=-1"):
        run_seeds("--learning_rate=-1")
    with pytest.raises(SystemExit, match="seeds.py: --task=copy: min_length .* min_length=21"):
        run_seeds("--min_length=21")
    with pytest.raises(SystemExit, match="seeds.py: --seed must not follow the --"):
        run_seeds("--seed=3")


def test_it_ends_where_training_is_refused(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "seeds.py"), f"--folder={tmp_path}"]
    finished = subprocess.run(
        [*command, "--", "--init_from=none.keras"], capture_output=True, text=True
    )
    assert finished.returncode == 1
    assert "there is no such file" in finished.stderr and "Traceback" not in finished.stderr
    assert finished.stderr.endswith("seeds.py: train.py failed.\n")
