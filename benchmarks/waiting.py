"""Which share of a training step is spent waiting for data.

  python benchmarks/waiting.py --task=repeat_copy

Takes train.py's flags. The data is drawn while the step runs, one step a call; what is counted as
waiting is the time until the next batch is there when the step is done.
"""

from __future__ import annotations

import pathlib
import sys
import time

from absl import app

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from configs import building, command_line

_WARM_UP, _STEPS = 10, 200


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"waiting.py: unexpected argument {argv[1]!r}: flags begin with --.")
    flags = building.FLAGS
    task = building.make_task()
    _, trainer = building.make_models(task, ends=[1])  # One step a call.
    training = task.training(flags.batch_size, flags.seed, mix_lengths=flags.mix_lengths)
    batches = iter(building.with_steps(training))
    waited = stepped = 0.0
    for number in range(-_WARM_UP, _STEPS):
        start = time.perf_counter()
        inputs, targets, mask = next(batches)
        there = time.perf_counter()
        trainer.train_on_batch(inputs, targets, mask)
        if number >= 0:
            waited += there - start
            stepped += time.perf_counter() - there
    share, step = waited / (waited + stepped), 1e3 * (waited + stepped) / _STEPS
    print(
        f"{flags.task}, batches of {flags.batch_size}: a step takes {step:.1f} ms,"
        f" {share:.1%} of it waiting for data"
    )


if __name__ == "__main__":
    try:
        app.run(main, flags_parser=command_line.parse)
    except command_line.BadInput as error:
        sys.exit(f"waiting.py: {error}")
