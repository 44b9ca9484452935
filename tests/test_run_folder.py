import os
import signal
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf
from runs import ROOT, events, tiny

from training import BadInput, run_folder, tensorboard


def test_runs_that_begin_at_once_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [run_folder.make_new("copy") for _ in range(20)]
    assert sorted(os.path.join("runs", "copy", path.name) for path in tmp_path.glob("*/*/*")) == (
        sorted(folders)
    )


def test_a_folder_has_one_writer(tmp_path):
    with run_folder.claim(str(tmp_path)):
        with pytest.raises(BadInput, match=f"another run, process {os.getpid()}"):
            with run_folder.claim(str(tmp_path)):
                pass
    with run_folder.claim(str(tmp_path)):
        pass


def test_a_folder_of_runs_is_no_folder_for_a_run(tmp_path):
    run = tmp_path / "copy" / "first"
    run.mkdir(parents=True)
    run_folder.write_settings(str(run), tiny().as_flags())
    for folder in (tmp_path, tmp_path / "copy"):
        with pytest.raises(BadInput, match=f"holds other runs, the newest --logdir={run}"):
            run_folder.check_may_train(str(folder), overwrite=True)
    run_folder.check_may_train(str(run), overwrite=False)


def test_the_claim_of_a_dead_process_counts_for_nothing(tmp_path):
    program = f"""
        import os, signal
        from training import run_folder
        with run_folder.claim({str(tmp_path)!r}):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "lock").exists()
    with run_folder.claim(str(tmp_path)):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_cannot_be_made_cannot_be_claimed(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "run", tmp_path / "file"):
        with pytest.raises(BadInput, match=f"--logdir={folder} cannot be written"):
            with run_folder.claim(str(folder)):
                pass
    assert (tmp_path / "file").read_text() == ""


def test_a_run_keeps_the_names_of_its_data(tmp_path):
    names = {"training": ["a", "b"], "test": ["c"]}
    run_folder.check_data(str(tmp_path), names)
    run_folder.write_data_names(str(tmp_path), names)
    run_folder.check_data(str(tmp_path), names)
    run_folder.check_data(str(tmp_path), {})
    with pytest.raises(
        BadInput, match=r"for test, named in .*: 1 are missing \(c\), and 4 are new"
    ):
        run_folder.check_data(str(tmp_path), {**names, "test": ["d", "e", "f", "g"]})
    run_folder.clear(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_run_without_data_of_its_own_names_none(tmp_path):
    run_folder.write_data_names(str(tmp_path), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "[]", '{"training": 1}'])
def test_a_damaged_file_of_names_is_told(tmp_path, content):
    (tmp_path / "data_names.json").write_text(content)
    with pytest.raises(BadInput, match="data_names.json is not what a run writes"):
        run_folder.check_data(str(tmp_path), {"training": ["a"]})


def test_only_what_a_run_wrote_is_cleared(tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("train/events.1", "events.2", "flags.cfg", "result.json", "model.keras"):
        (tmp_path / name).write_text("")
    (tmp_path / "checkpoints").mkdir()
    own = ("notes.txt", "picture.png", "checkpoints/mine.txt")
    for name in ("checkpoints/step-000000010.index", *own):
        (tmp_path / name).write_text("")
    run_folder.clear(str(tmp_path))
    left = (path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert sorted(map(str, left)) == sorted(own)
    assert not (tmp_path / "train").exists()


def test_events_after_a_step_are_forgotten(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path / "train")).as_default():
        for step in (10, 20, 30):
            tf.summary.scalar("loss", 1.0 / step, step=step)
    (path,) = (tmp_path / "train").iterdir()
    # As a run that was killed may leave it; the second time while it did what is tried here.
    path.write_bytes(path.read_bytes()[:-3])
    path.with_name(f"{path.name}.part").write_bytes(path.read_bytes()[:-3])
    tensorboard.forget_events_after(str(tmp_path), 20)
    assert [step for _, step, _ in events(tmp_path / "train")] == [10, 20]
    assert list((tmp_path / "train").iterdir()) == [path]


def test_fewer_steps_than_were_made_are_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000056.sha256").write_text("")
    run_folder.check_steps(str(tmp_path), 56)
    with pytest.raises(BadInput, match="--steps=20: the run in .* has made 56"):
        run_folder.check_steps(str(tmp_path), 20)


def test_the_settings_of_a_run_make_the_same_run(tmp_path):
    run_folder.write_settings(str(tmp_path), tiny(solved_below=0.5).as_flags())
    run_folder.check_same_run(str(tmp_path), tiny(steps=9).as_flags(), "train")
    with pytest.raises(BadInput, match=r"--seed=1 \(the run has 0\). Give another folder"):
        run_folder.check_same_run(str(tmp_path), tiny(seed=1).as_flags(), "train")
