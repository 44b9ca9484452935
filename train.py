"""Trains a Neural Turing Machine on a task, or evaluates a trained one.

  python train.py                              train on the copy task
  python train.py --task=copy --max_length=10  with other limits
  python train.py --flagfile=configs/paper/copy_ntm_lstm.cfg
                                               with the paper's settings
  python train.py --mode=eval --logdir=runs/copy/..
                                               measure a trained machine

--task=NAME alone takes its defaults from configs/NAME.cfg; --flagfile takes any
other. Flags on the command line win over both. A run's folder holds flags.cfg
(a flagfile), result.json, eval.json, model.keras, checkpoints and what
TensorBoard shows. A run that was stopped goes on with --logdir=RUN.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings

import training
from training import command_line, quiet

_STARTED = time.perf_counter()


def main(argv: list[str]) -> None:
    """Trains or evaluates. TensorFlow is imported once the flags are right."""
    command = command_line.parse(argv, __doc__)
    quiet.leave_out_usual_messages()
    if command.mode == "eval":
        where = str(command.logdir), command.output, command.best
        training.evaluate(command.settings, *where)
    else:
        training.train(command.settings, command.logdir, command.overwrite, _STARTED)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    """Prints the project's warnings on one line, and others as Python does."""
    if category is UserWarning:
        said = f"train.py: warning: {' '.join(str(message).split()).rstrip('.')}.\n"
    else:
        said = warnings.formatwarning(message, category, filename, lineno, line)
    print(said, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    warnings.showwarning = _show_warning
    try:
        main(sys.argv)
    except training.StoppedBySignalError as stopped:
        print(f"\n{stopped}")
        sys.exit(128 + stopped.number)
    except BrokenPipeError:  # The reader of the output, such as `head`, has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (training.BadInput, ImportError, OSError) as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        print("train.py: interrupted.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
