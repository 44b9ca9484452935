"""The benchmark over several seeds, run as a user runs it."""

import json
import subprocess
import sys

import tensorflow as tf
from test_train import ROOT, TINY, run_train


def run_seeds(folder, *settings, seeds=1, first_seed=0):
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "seeds.py"),
            "--task=copy",
            f"--seeds={seeds}",
            f"--first_seed={first_seed}",
            f"--folder={folder}",
            "--",
            *settings,
        ],
        capture_output=True,
        text=True,
    )


def test_a_seed_is_trained_and_measured_once(tmp_path):
    first = run_seeds(tmp_path, *TINY, "--solved_below=1000")
    assert first.returncode == 0, first.stderr
    (line,) = (tmp_path / "copy" / "seeds.jsonl").read_text().splitlines()
    result = json.loads(line)
    assert result["seed"] == 0 and result["solved"] and result["steps"] == 3
    assert [record["size"] for record in result["sizes"]] == ["2", "5"]
    assert result["validations"]["steps"] == [3]
    assert len(result["validations"]["cost_bits_per_sequence"]) == 1
    assert "| solved | yes |  |" in first.stdout
    assert "| steps | 3 | 3 |" in first.stdout
    assert "| 5: wrong bits | " in first.stdout
    again = run_seeds(tmp_path, *TINY, "--solved_below=1000")
    assert again.returncode == 0 and "$ " not in again.stdout
    assert again.stdout == first.stdout[first.stdout.index("\ncopy, 1 seeds") :]
    other = run_seeds(tmp_path, *TINY, "--solved_below=1000", "--rnn_size=7")
    assert other.returncode == 1
    assert "trained with --rnn_size=6, not 7" in other.stderr


def test_the_table_has_a_column_for_every_seed_and_their_median(tmp_path):
    for seed, steps in enumerate((1, 4, 2)):
        run = tmp_path / "copy" / str(seed)
        run.mkdir(parents=True)
        result = {
            "solved": seed != 1,
            "steps": 1000 * steps,
            "sequences": 16000 * steps,
            "seconds": 60.0,
            "wrong_bits_per_sequence": 0.5,
            "flags": {},
        }
        (run / "result.json").write_text(json.dumps(result))
        sizes = [{"size": "20", "wrong_bits_per_sequence": steps / 8}]
        (run / "eval.json").write_text(json.dumps(sizes))
        with tf.summary.create_file_writer(str(run / "validation")).as_default():
            tf.summary.scalar("wrong_bits_per_sequence", 0.25, step=1000 * steps)
    defaults = tmp_path / "defaults.cfg"
    defaults.write_text("")
    finished = run_seeds(tmp_path, f"--flagfile={defaults}", seeds=3)
    assert finished.stdout.splitlines()[-8:] == [
        "| seed | 0 | 1 | 2 | median |",
        "| --- | --- | --- | --- | --- |",
        "| solved | yes | no | yes |  |",
        "| steps | 1,000 | 4,000 | 2,000 | 2,000 |",
        "| sequences | 16,000 | 64,000 | 32,000 | 32,000 |",
        "| seconds | 60 | 60 | 60 | 60 |",
        "| trained sizes: wrong bits | 0.500 | 0.500 | 0.500 | 0.500 |",
        "| 20: wrong bits | 0.125 | 0.500 | 0.250 | 0.250 |",
    ]
    lines = (tmp_path / "copy" / "seeds.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["validations"] == {
        "steps": [4000],
        "wrong_bits_per_sequence": [0.25],
    }
    last_two = run_seeds(tmp_path, f"--flagfile={defaults}", seeds=2, first_seed=1)
    assert "| seed | 1 | 2 | median |\n" in last_two.stdout
    assert (tmp_path / "copy" / "seeds.jsonl").read_text().splitlines() == lines
    assert "trained with --batch_size=32, not 16" in run_seeds(tmp_path).stderr


def test_a_seed_that_was_stopped_goes_on(tmp_path):
    run = tmp_path / "copy" / "0"
    assert run_train(*TINY, f"--logdir={run}").returncode == 0
    (run / "result.json").unlink()
    finished = run_seeds(tmp_path, *TINY)
    assert finished.returncode == 0, finished.stderr
    assert "Epoch" not in finished.stdout
    assert json.loads((run / "result.json").read_text())["steps"] == 5


def test_a_wrong_flag_is_refused_before_training(tmp_path):
    finished = run_seeds(tmp_path, "--learning_rate=-1")
    assert finished.returncode == 1
    assert "learning_rate" in finished.stderr and "Traceback" not in finished.stderr


def test_it_ends_where_training_is_refused(tmp_path):
    finished = run_seeds(tmp_path, "--min_length=21")
    assert finished.returncode == 1
    assert "min_length=21" in finished.stderr and "Traceback" not in finished.stderr
    assert finished.stderr.endswith("seeds.py: train.py failed.\n")
