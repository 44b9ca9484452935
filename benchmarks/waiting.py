"""Measures the share of a training step that is spent waiting for data.

  python benchmarks/waiting.py --task=repeat_copy

Takes train.py's flags. The next batch is drawn while a step runs, with one step in each call.
Waiting is the time from the end of a step until the next batch is ready.
"""

from __future__ import annotations

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from training import BadInput, command_line, models

_WARM_UP, _STEPS = 10, 200


def main(argv: list[str]) -> None:
    settings = command_line.parse(argv, __doc__).settings
    task = settings.made_task
    trainer = models.make_models(settings, ends=[1]).trainer  # One step in each call.
    training = task.training(settings.batch_size, settings.seed, mix_lengths=settings.mix_lengths)
    batches = iter(models.with_steps(training))
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
        f"{settings.task_name}, batches of {settings.batch_size}: a step takes {step:.1f} ms,"
        f" {share:.1%} of it waiting for data"
    )


if __name__ == "__main__":
    try:
        main(sys.argv)
    except BadInput as error:
        sys.exit(f"waiting.py: {error}")
