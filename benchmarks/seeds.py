"""Trains a task with several seeds, measures every machine, and prints a table.

  python benchmarks/seeds.py --task=copy
  python benchmarks/seeds.py --task=copy --first_seed=100 --seeds=30
  python benchmarks/seeds.py --task=copy --seeds=3 --folder=runs/lstm -- --model=lstm

Arguments after `--` go to train.py. Finished seeds are not trained again: a benchmark that was
stopped continues, if the settings are the same. FOLDER/TASK/SEED holds each run, and
FOLDER/TASK/seeds.jsonl has a line for each seed: its result, its measures at every size, and all
its validations.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from tasks import TASKS
from training import BadInput, Settings, command_line, flagfiles, report
from training.settings import OF_ONE_COMMAND

ROOT = pathlib.Path(__file__).parent.parent

# Seeds that stand side by side in a table.
_COLUMNS = 10

FLAGS = flags.FLAGS

flags.DEFINE_enum("task", "copy", list(TASKS), "What to learn.")
flags.DEFINE_integer("seeds", 5, "How many seeds.", lower_bound=1)
flags.DEFINE_integer("first_seed", 0, "The first seed; the others follow it.", lower_bound=0)
flags.DEFINE_string("folder", "runs/seeds", "Where the runs are.")


def run_train(*arguments: str) -> None:
    """Runs train.py; ends the benchmark if that fails."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    print(f"\n$ {' '.join(command)}", flush=True)
    if subprocess.run(command).returncode != 0:
        sys.exit("seeds.py: train.py failed.")


def measured(run: pathlib.Path, seed: int, settings: list[str], sizes: list[str]) -> dict[str, Any]:
    """Trains and measures one seed, unless that is done already; returns its line."""
    if not (run / "result.json").exists():
        run_train(*settings, f"--seed={seed}", f"--logdir={run}")
    if [record["size"] for record in content(run / "eval.json") or ()] != sizes:
        run_train("--mode=eval", f"--logdir={run}")
    result = content(run / "result.json")
    found = validations(run, list(report.measures(result)))
    return {"seed": seed, **result, "sizes": content(run / "eval.json"), "validations": found}


def content(path: pathlib.Path) -> Any:
    """What a JSON file holds; None if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def validations(run: pathlib.Path, measures: list[str]) -> dict[str, list[float]]:
    """The steps at which a run was validated, and the measures at these steps."""
    accumulator = EventAccumulator(str(run / "validation"), size_guidance={"tensors": 0}).Reload()
    events = {name: accumulator.Tensors(f"learning/{name}") for name in measures}
    return {
        "steps": [event.step for event in events[measures[0]]],
        **{name: [value_of(event) for event in events[name]] for name in measures},
    }


def value_of(event: Any) -> float:
    """The number in an event, with four digits."""
    return float(f"{float(tensor_util.make_ndarray(event.tensor_proto)):.4g}")


def check_not_set_here(settings: list[str]) -> None:
    """Ends the benchmark if train.py is given a flag that the benchmark itself decides."""
    for name in ("task", "seed", *OF_ONE_COMMAND):
        if flagfiles.taken(name, settings)[0]:
            sys.exit(f"seeds.py: --{name} must not follow the --: seeds.py decides it.")


def read_settings(folder: pathlib.Path, settings: list[str]) -> Settings:
    """The settings of all seeds; ends the benchmark if a seed has begun with others."""
    try:
        now = command_line.flags_of(["train.py", *settings])
        made = Settings.from_flags(now)
    except BadInput as error:
        sys.exit(f"seeds.py: {error}")
    for path in sorted(folder.glob("*/flags.cfg")):
        then = flagfiles.read(str(path))
        for name in sorted(now.keys() - {"seed"}):
            if now[name] != then[name]:
                sys.exit(
                    f"seeds.py: {path.parent} was trained with --{name}={then[name]}, not"
                    f" {now[name]}: give another --folder."
                )
    return made


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown tables of ten seeds each; the last one has the median and the worst of all.

    There is a row for each measure, and a column for each seed.
    """
    rows = [["seed", *(str(line["seed"]) for line in lines), "median", "worst"]]
    rows.append(["solved", *("yes" if line["solved"] else "no" for line in lines), "", ""])
    for name in ("steps", "sequences", "seconds"):
        rows.append(row(name, [line[name] for line in lines], ",.0f"))
    learned = [sequences_to_learn(line) for line in lines]
    if all(learned):
        rows.append(row("sequences until cost < 1 bit", learned, ",.0f"))
    rows += rows_of("trained sizes", lines)
    for records in zip(*(line["sizes"] for line in lines), strict=True):
        rows += rows_of(records[0]["size"], records)
    starts = range(1, 1 + len(lines), _COLUMNS)
    ends = [*(start + _COLUMNS for start in starts[:-1]), None]
    return "\n\n".join(
        markdown([[cells[0], *cells[start:end]] for cells in rows])
        for start, end in zip(starts, ends)
    )


def sequences_to_learn(line: dict[str, Any]) -> int | None:
    """How many sequences a run needed until its cost in a validation was below 1 bit."""
    measured = line["validations"]
    costs = measured.get("cost_bits_per_sequence", [])
    steps = (step for step, cost in zip(measured["steps"], costs) if cost < 1)
    return next((step * line["sequences"] // line["steps"] for step in steps), None)


def markdown(rows: list[list[str]]) -> str:
    head, *others = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *others])


def rows_of(sizes: str, records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each measure at these sizes."""
    return [
        row(
            f"{sizes}: {name.removesuffix('_per_sequence').replace('_', ' ')}",
            [record[name] for record in records],
            ",.3f",
        )
        for name in report.measures(records[0])
        if name not in ("seed", "sizes", "validations")
    ]


def row(name: str, values: list[float], form: str) -> list[str]:
    worst = min(values) if "accuracy" in name else max(values)
    return [name, *(f"{value:{form}}" for value in [*values, statistics.median(values), worst])]


def measure_seeds(
    task: str, seeds: range, folder: pathlib.Path, settings: list[str]
) -> list[dict[str, Any]]:
    """Trains and measures the seeds that are not done; writes and returns the lines of all.

    Args:
        task: The task's name.
        seeds: The seeds.
        folder: Where the runs of all tasks are.
        settings: More flags of train.py.
    """
    check_not_set_here(settings)
    folder, settings = folder / task, [*settings, f"--task={task}"]
    sizes = [written for written, _ in read_settings(folder, settings).sizes()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "seeds.jsonl"
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    by_seed = {line["seed"]: line for line in map(json.loads, before)}
    for seed in seeds:
        by_seed[seed] = measured(folder / str(seed), seed, settings, sizes)
        text = "".join(json.dumps(by_seed[each]) + "\n" for each in sorted(by_seed))
        path.write_text(text, encoding="utf-8")
    return [by_seed[seed] for seed in seeds]


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # TensorBoard logs every file that it opens.
    seeds = range(FLAGS.first_seed, FLAGS.first_seed + FLAGS.seeds)
    folder = pathlib.Path(os.path.expanduser(FLAGS.folder))
    lines = measure_seeds(FLAGS.task, seeds, folder, argv[1:])
    said = f"{FLAGS.task}, {FLAGS.seeds} seeds from {FLAGS.first_seed} on"
    print(f"\n{said} {' '.join(argv[1:])}\n\n{table(lines)}")


if __name__ == "__main__":
    try:
        app.run(main)
    except OSError as error:
        sys.exit(f"seeds.py: {error}")
    except KeyboardInterrupt:
        sys.exit("seeds.py: interrupted; the same command continues.")
