"""The tasks, by the names that train.py uses."""

import importlib

from tasks.task import Task

# From the name of a module in this folder to its class.
TASKS = {
    "copy": "Copy",
    "repeat_copy": "RepeatCopy",
    "associative_recall": "AssociativeRecall",
    "dynamic_ngrams": "DynamicNgrams",
    "priority_sort": "PrioritySort",
    "omniglot": "Omniglot",
}


def task_class(name: str) -> type[Task]:
    """The class of the task of this name.

    Raises:
        ValueError: There is no such task.
    """
    if name not in TASKS:
        raise ValueError(f"task must be one of {list(TASKS)}. Received: {name!r}")
    return getattr(importlib.import_module(f"tasks.{name}"), TASKS[name])


def name_of(task: Task) -> str:
    """The name of a task's class in `TASKS`.

    Raises:
        ValueError: The class is not in `TASKS`.
    """
    for name in TASKS:
        if type(task) is task_class(name):
            return name
    raise ValueError(
        "task must be of a class in the table of tasks/__init__.py. "
        f"Received: an object of {type(task).__name__}"
    )
