"""The picture of learning curves, drawn as a user draws it."""

import json
import subprocess
import sys

import pytest
from runs import ROOT

pytest.importorskip("matplotlib")


def run_curves(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "curves.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_the_runs_of_two_folders_are_drawn(tmp_path):
    for name, cost in (("ntm", 1.0), ("lstm", 8.0)):
        folder = tmp_path / name / "copy"
        folder.mkdir(parents=True)
        validations = {"steps": [100, 200], "cost_bits_per_sequence": [80.0, cost]}
        line = json.dumps({"flags": {"batch_size": 16}, "validations": validations})
        (folder / "seeds.jsonl").write_text(f"{line}\n{line}\n")
        # What has no cost is left out.
        (tmp_path / name / "omniglot").mkdir()
        other = json.dumps({"flags": {}, "validations": {"steps": [], "later_error": []}})
        (tmp_path / name / "omniglot" / "seeds.jsonl").write_text(f"{other}\n")
    picture = tmp_path / "curves.png"
    finished = run_curves(
        f"NTM={tmp_path / 'ntm'}", f"LSTM={tmp_path / 'lstm'}", f"--output={picture}"
    )
    assert finished.returncode == 0, finished.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "argument, complaint", [("NTM=nowhere", "nowhere"), ("NTM", "NAME=FOLDER")]
)
def test_what_it_cannot_draw_is_told_in_one_line(argument, complaint):
    finished = run_curves(argument)
    assert finished.returncode == 1
    assert complaint in finished.stderr and "Traceback" not in finished.stderr
