"""The benchmark over several seeds, run as a user runs it."""

import json
import subprocess
import sys

from test_train import ROOT, TINY


def run_seeds(folder, *settings):
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "seeds.py"),
            "--task=copy",
            "--seeds=1",
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
    assert "| solved | 1 of 1 | |" in first.stdout
    assert "| steps to solve | 3 | 3 |" in first.stdout
    assert "| size 5: wrong bits | " in first.stdout
    again = run_seeds(tmp_path, *TINY, "--solved_below=1000")
    assert again.returncode == 0 and "$ " not in again.stdout
    assert again.stdout == first.stdout[first.stdout.index("\ncopy, 1 seeds") :]
    other = run_seeds(tmp_path, "--model=lstm")
    assert other.returncode == 1 and "other settings" in other.stderr


def test_it_ends_where_training_is_refused(tmp_path):
    finished = run_seeds(tmp_path, "--learning_rate=-1")
    assert finished.returncode == 1
    assert "learning_rate" in finished.stderr and "Traceback" not in finished.stderr
