"""What a run keeps out of its output."""

import os
import subprocess
import sys

import pytest
from runs import ROOT

WRITES = """
import os, sys
from training import quiet
quiet.leave_out_usual_messages()
os.write(2, {text!r})
print("from Python", file=sys.stderr)
{end}
"""
USUAL = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1.1 1 port.cc:153] oneDNN custom operations are on. You may see",
    "E0000 00:00:1.2 1 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error",
    "E0000 00:00:1.3 1 util.cc:131] oneDNN supports DT_BOOL only on platforms with AVX-512.",
    "E0000 00:00:1.3 1 util.cc:131] oneDNN supports DT_INT32 only on platforms with AVX-512.",
]
UNUSUAL = [
    "E0000 00:00:1.4 1 allocator.cc:1] out of memory",
    "W0000 00:00:1.5 1 ops.cc:1] something is wrong",
    "no end of line",
]


def stderr_of(lines, end="", **environment):
    program = WRITES.format(text="\n".join(lines).encode(), end=end)
    kept = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**kept, **environment}, capture_output=True
    )
    return sorted(finished.stderr.decode().splitlines())


@pytest.mark.parametrize("end", ["", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_usual_messages_are_left_out_and_others_are_not_however_the_run_ends(end):
    assert stderr_of([*USUAL, *UNUSUAL], end) == sorted([*UNUSUAL, "from Python"])


def test_a_user_who_asks_for_messages_sees_all_of_them():
    found = stderr_of([*USUAL, ""], TF_CPP_MIN_LOG_LEVEL="0")
    assert found == sorted([*USUAL, "from Python"])
