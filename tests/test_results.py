"""The reported figures are those of the measured lines, made with the settings of today."""

import json
import statistics

import pytest
from runs import ROOT, benchmark, flags_of

MEASURED = ROOT / "benchmarks" / "measured"
TASKS = sorted({path.parent.name for path in MEASURED.glob("*/*/seeds.jsonl")})
PAPERS = sorted(path.parent.name for path in MEASURED.glob("ntm/*/seeds.jsonl"))


def lines_of(model, task):
    path = MEASURED / model / task / "seeds.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def text_of(*path):
    return ROOT.joinpath(*path).read_text(encoding="utf-8")


def median_and_worst(values):
    return f"{statistics.median(values):,.0f}", f"{max(values):,.0f}"


@pytest.mark.parametrize("task", TASKS)
def test_every_row_is_what_the_benchmark_prints(task):
    models = [path.parent.parent.name for path in MEASURED.glob(f"*/{task}/seeds.jsonl")]
    printed = "\n".join(benchmark("seeds").table(lines_of(model, task)) for model in models)
    rows = [row for row in text_of("docs", "tasks", f"{task}.md").splitlines() if row[:1] == "|"]
    assert len(rows) > 5
    assert [row for row in rows if row not in printed.splitlines()] == []


@pytest.mark.parametrize("task", PAPERS)
def test_the_tasks_page_has_every_seed_and_every_measure_but_the_cost(task):
    page = text_of("docs", "tasks", f"{task}.md").splitlines()
    printed = benchmark("seeds").table(lines_of("ntm", task)).splitlines()
    assert [row for row in printed if row not in page and ": cost bits" not in row] == []


@pytest.mark.parametrize("task", PAPERS)
def test_the_settings_are_those_of_today(task):
    not_compared = {"seed": 0, "omniglot": None}
    for line in lines_of("ntm", task):
        assert {**line["flags"], **not_compared} == {**flags_of(f"--task={task}"), **not_compared}


@pytest.mark.parametrize("task", PAPERS)
def test_the_readme_has_their_number_and_the_medians_and_worst_of_their_length(task):
    lines = lines_of("ntm", task)
    solved = sum(line["solved"] for line in lines)
    cells = [f"{solved} of {len(lines)}"]
    for name in ("sequences", "seconds"):
        cells.append(", worst ".join(median_and_worst([line[name] for line in lines])))
    (row,) = (row for row in text_of("README.md").splitlines() if row.startswith(f"| [{task}]"))
    assert " | ".join(cells) in row


@pytest.mark.parametrize("task", ["copy", "repeat_copy", "associative_recall"])
def test_the_sequences_to_learn_are_those_of_the_validations(task):
    lines = lines_of("ntm", task)
    seeds = f"{lines[0]['seed']} to {lines[-1]['seed']}"
    numbers = median_and_worst([benchmark("seeds").sequences_to_learn(line) for line in lines])
    row = " | ".join([task.replace("_", " "), seeds, *numbers])
    assert f"| {row} |" in text_of("docs", "results.md")
