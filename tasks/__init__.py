"""The tasks, by the names that train.py knows them by."""

import importlib

from tasks.task import Task

# The module in this folder, and the class in it.
TASKS = {
    "copy": "Copy",
    "repeat_copy": "RepeatCopy",
    "associative_recall": "AssociativeRecall",
    "dynamic_ngrams": "DynamicNgrams",
    "priority_sort": "PrioritySort",
    "omniglot": "Omniglot",
}


def task_class(name: str) -> type[Task]:
    """The class of the task of this name."""
    return getattr(importlib.import_module(f"tasks.{name}"), TASKS[name])
