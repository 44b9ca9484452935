"""Keeps out of a run's output what TensorFlow says on every machine."""

from __future__ import annotations

import os
import re
import signal
import sys

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# TensorFlow writes these lines whatever its log level is. None of them asks for anything: machines
# without a GPU, kernels that a processor lacks, libraries that register themselves twice, a compile
# that takes long on a busy machine.
_USUAL = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I\d{4} "
    rb"|To enable the following instructions:"
    rb"|[WE]\d{4} .*(failed call to cuInit|cache_dataset_ops\.cc|oneDNN supports DT_\w+ only on"
    rb"|Unable to register cu\w+ factory|already registered|slow_operation_alarm\.cc)"
    rb"|\*{32}|.*Very slow compile\?|The operation took "
)


def leave_out_usual_messages() -> None:
    """From now on TensorFlow's usual messages do not reach stderr; its other messages do.

    Call it before TensorFlow is imported. Python's own messages are not touched. A user who has set
    TF_CPP_MIN_LOG_LEVEL sees what it asks for.
    """
    if _LOG_LEVEL in os.environ or not hasattr(os, "fork"):
        os.environ.setdefault(_LOG_LEVEL, "2")
        return
    os.environ[_LOG_LEVEL] = "2"
    reading, writing = os.pipe()
    # Another process, so that where TensorFlow crashes its last words still appear.
    if not os.fork():
        os.close(writing)
        _copy_unusual_lines(reading)
    os.close(reading)
    sys.stderr = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(writing, 2)
    os.close(writing)


def _copy_unusual_lines(reading: int) -> None:
    """Copies lines to stderr until there are no more, and ends the process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches both processes.
        signal.signal(number, signal.SIG_IGN)
    try:
        with open(reading, "rb", buffering=0) as stream:
            unfinished = b""
            while received := stream.read(65536):
                *lines, unfinished = (unfinished + received).split(b"\n")
                for line in lines:
                    if not _USUAL.match(line):
                        os.write(2, line + b"\n")
            os.write(2, unfinished)
    finally:
        os._exit(0)
