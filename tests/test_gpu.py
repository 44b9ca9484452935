"""The benchmark of a GPU, or of the CPU."""

import json
import pathlib
import subprocess

import pytest
from absl.testing import flagsaver
from runs import benchmark


@pytest.fixture
def gpu(monkeypatch):
    """The benchmark, whose processes say what they are told here instead of measuring."""
    gpu = benchmark("gpu")

    def run(backend, *arguments, **options):
        if "train.py" in arguments:
            logdir = pathlib.Path(arguments[-1].removeprefix("--logdir="))
            logdir.mkdir()
            result = {"solved": True, "steps": 1400, "seconds": 20.4}
            (logdir / "result.json").write_text(json.dumps(result))
            return finished("")
        if backend == "jax":
            return finished("", "ImportError: no jax", status=1)
        return finished("..\n13 passed in 4.00s")

    monkeypatch.setattr(gpu, "run", run)
    gpu.FLAGS.mark_as_parsed()
    return gpu


def finished(output, errors="", status=0):
    return subprocess.CompletedProcess([], status, output, errors)


def test_it_prints_what_each_backend_gave(gpu, capsys):
    gpu.main(["gpu.py"])
    printed = capsys.readouterr().out
    assert "tensorflow: recorded steps of snowkylin's cell: 13 passed in 4.00s" in printed
    assert "jax: recorded steps of snowkylin's cell: ImportError: no jax" in printed
    assert "jax: ended: ImportError: no jax" in printed
    assert "jax: copy solved after 1400 steps, 20 seconds" in printed


def test_a_program_that_fails_does_not_hide_the_times_of_the_others(gpu, capsys, monkeypatch):
    def step_ms(contestant, precision, batch_size, seconds):
        if (contestant, precision) == ("RNN(NTMCell)", "mixed_bfloat16"):
            raise ValueError("no bfloat16 here")
        return {"NTM": 1.5, "RNN(NTMCell)": 2.25, "LSTM": 0.5}[contestant]

    monkeypatch.setattr(gpu, "step_ms", step_ms)
    with flagsaver.flagsaver(in_process=True, batches=["32"]):
        gpu.main(["gpu.py"])
    printed = capsys.readouterr().out
    assert "tensorflow on CPU: ms of a training step of copy" in printed
    assert "| float32 | 32 | 1.50 | 2.25 | 0.50 |" in printed
    assert "| mixed_bfloat16 | 32 | 1.50 | failed: no bfloat16 here | 0.50 |" in printed


def test_a_process_that_takes_too_long_is_ended(monkeypatch):
    gpu = benchmark("gpu")
    monkeypatch.setattr(gpu, "_SECONDS_AT_MOST", 0.2)
    found = gpu.run("tensorflow", "-c", "import time; time.sleep(60)")
    assert found.returncode and "timed out after 0.2 seconds" in found.stderr


def test_wrong_arguments_are_refused(gpu):
    with (
        flagsaver.flagsaver(batches=["32", "x"]),
        pytest.raises(SystemExit, match="--batches=32,x must be whole numbers above 0"),
    ):
        gpu.main(["gpu.py"])
    with pytest.raises(SystemExit, match="unexpected argument 'jax'"):
        gpu.main(["gpu.py", "jax"])


def test_a_training_step_takes_time(gpu):
    assert gpu.step_ms("LSTM", "float32", batch_size=2, seconds=0.1) > 0
