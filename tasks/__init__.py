"""The tasks by the names that train.py knows them by."""

from tasks.copy import Copy

TASKS = {
    "copy": Copy,
}
