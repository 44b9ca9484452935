"""The settings of a run; each is also a flag of train.py.

Nothing here imports TensorFlow, so that a wrong setting is reported at once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from tasks import TASKS, name_of, task_class
from tasks.fields import checked, choice, limit, number, switch, text
from tasks.task import Task
from training.errors import BadInput

# The test that ends a training has at most so many parts, each as large as the final measure, and
# with more than one part at most so many sequences.
_TEST_PARTS, _TEST_SEQUENCES = 16, 2**15

# Sequences of a batch where the machine is measured.
EVAL_BATCH_SIZE = 64

# The groups of settings, as --help shows them. A task's limits have their own group.
GROUPS = RUN, TRAINING, MACHINE, NTM, MANN, LSTM, TASK, EVALUATION = (
    "Run",
    "Training",
    "Machine, --model=ntm or mann",
    "Machine, --model=ntm",
    "Machine, --model=mann",
    "Network, --model=lstm",
    "Task",
    "Evaluation",
)

# Flags that say where and what to run. They are not settings.
OF_ONE_COMMAND = ("mode", "logdir", "overwrite", "output", "best")

_ABOVE_0 = "a finite number above 0", lambda value: value > 0
_AT_LEAST_0 = "a finite number, 0 or above", lambda value: value >= 0
_MANY = 10**9


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Every field is also a flag of train.py, with the same default. `task` is the name of a task, or
    a task object with other limits. No setting comes from a config: only train.py uses those.

    Raises:
        ValueError: A setting is not allowed, or does not fit another one.

    Example:

    >>> from tasks.copy import Copy
    >>> settings = Settings(task=Copy(max_length=10), steps=1000, learning_rate=1e-3)
    >>> settings.rnn_size
    100
    >>> Settings(rnn_size=0)
    Traceback (most recent call last):
    training.errors.BadInput: rnn_size must be a whole number from 1 to 100000. Received: 0
    """

    task: Task | str = choice(list(TASKS), "What to learn.", group=RUN)
    model: str = choice(
        ["ntm", "mann", "lstm"],
        "What learns: the Neural Turing Machine, the memory-augmented network of Santoro et al., "
        "or an LSTM network to compare them with.",
        group=RUN,
    )
    init_from: str | None = text(
        "A trained model, such as runs/../model.keras, with whose weights the run begins.",
        default=None,
        group=RUN,
    )
    checkpoint_seconds: float = number(
        30.0,
        "The least number of seconds between two checkpoints. They are written after a validation "
        "and at the end.",
        *_AT_LEAST_0,
        group=RUN,
    )
    seed: int = limit(
        0,
        "Seed of the weights and sequences: runs with the same seed are the same.",
        at_least=0,
        at_most=2**31 - 1,
        group=RUN,
    )

    steps: int = limit(
        20000,
        "The most training steps; training ends sooner if the task is solved.",
        at_most=_MANY,
        group=TRAINING,
    )
    batch_size: int = limit(32, "Sequences of a training step.", group=TRAINING)
    optimizer: str = choice(
        ["adam", "rmsprop"],
        "adam; or rmsprop as in Graves (2013): centred, decay 0.95, momentum 0.9, epsilon 1e-4.",
        group=TRAINING,
    )
    learning_rate: float = number(1e-3, "The optimizer's learning rate.", *_ABOVE_0, group=TRAINING)
    learning_rate_end: float = number(
        0.0, "The value to which --learning_rate falls, linearly.", *_AT_LEAST_0, group=TRAINING
    )
    learning_rate_steps: int = limit(
        0,
        "The attempt's step at which the rate reaches --learning_rate_end; 0: it does not change.",
        at_least=0,
        at_most=_MANY,
        group=TRAINING,
    )
    adam_epsilon: float = number(
        1e-7,
        "Adam's epsilon: gradients smaller than this lead to smaller steps.",
        *_ABOVE_0,
        group=TRAINING,
    )
    ema_momentum: float = number(
        0.0,
        "Average the weights over the steps with this momentum; the averages are validated, saved "
        "and measured. 0: do not.",
        "at least 0 and less than 1",
        lambda value: 0 <= value < 1,
        group=TRAINING,
    )
    clip_norm: float = number(
        0.0,
        "Scale the gradient down to this global norm; 0: do not.",
        *_AT_LEAST_0,
        group=TRAINING,
    )
    clip_value: float = number(
        0.0,
        "Clip every component of the gradient to +- this; 0: do not.",
        *_AT_LEAST_0,
        group=TRAINING,
    )
    weight_noise: float = number(
        0.0,
        "Standard deviation of noise on the weights, new in every training step; 0: none.",
        *_AT_LEAST_0,
        group=TRAINING,
    )
    weight_noise_end: float = number(
        0.0, "The value to which --weight_noise falls, linearly.", *_AT_LEAST_0, group=TRAINING
    )
    weight_noise_steps: int = limit(
        0,
        "The attempt's step at which the noise reaches --weight_noise_end; 0: it does not change.",
        at_least=0,
        at_most=_MANY,
        group=TRAINING,
    )
    input_noise: float = number(
        0.0,
        "Standard deviation of noise on the inputs, new in every step and sequence, in training "
        "only; 0: none.",
        *_AT_LEAST_0,
        group=TRAINING,
    )
    mix_lengths: bool = switch(
        False, "Whether the sequences of a batch have different lengths.", group=TRAINING
    )
    validate_every: int = limit(
        100,
        "Training steps between two validations; checkpoints are written after a validation.",
        at_most=_MANY,
        group=TRAINING,
    )
    solved_below: float | None = number(
        None,
        "End training when the task's measure (for copy, wrong bits per sequence) is below this in "
        "validation and on fresh sequences. Without it the task's limit counts.",
        *_ABOVE_0,
        group=TRAINING,
    )
    attempt_steps: int = limit(
        0,
        "Training that has not solved the task after so many steps begins again with other weights "
        "at the first validation or test that is not passed, if as many steps are left. 0, or with "
        "--init_from: it does not.",
        at_least=0,
        at_most=_MANY,
        group=TRAINING,
    )
    solved_times: int = limit(
        1,
        "How many validations in a row must be below --solved_below before training ends.",
        at_most=_MANY,
        group=TRAINING,
    )
    xla: bool = switch(True, "Whether to compile the training step.", group=TRAINING)
    distribution_strategy: str = choice(
        ["none", "mirrored", "multi_worker_mirrored"],
        "Which devices share a batch. none: one device; mirrored: all GPUs of the machine or, "
        "without a GPU, its logical CPU devices; multi_worker_mirrored: the workers that "
        "environment variables name, each with the same command and --logdir (under Keras 2: "
        "TF_CONFIG; on JAX: KERAS_DISTRIBUTION_..).",
        group=TRAINING,
    )

    rnn_size: int = limit(100, "Width of the controller.", group=MACHINE)
    memory_size: int = limit(128, "Number of memory locations.", group=MACHINE)
    training_memory_size: int = limit(
        0,
        "Number of memory locations in training, if the machine is to get more of them afterwards: "
        "with few, heads learn no way that needs unused ones. 0, or more than --memory_size: "
        "--memory_size.",
        at_least=0,
        group=MACHINE,
    )
    memory_vector_dim: int = limit(20, "Width of a location.", group=MACHINE)
    controller: str = choice(
        ["lstm", "counting_lstm", "feedforward", "rnn"],
        "The machine's controller. counting_lstm: an LSTM with hard gates and a carry that can "
        "count.",
        group=MACHINE,
    )
    controller_layers: int = limit(1, "Layers of the controller.", group=MACHINE)

    read_head_num: int = limit(1, "Number of read heads.", group=NTM)
    write_head_num: int = limit(1, "Number of write heads.", group=NTM)
    addressing_mode: str = choice(
        ["content_and_location", "content"], "How heads address the memory.", group=NTM
    )
    shift_range: int = limit(1, "The largest shift of the focus.", at_least=0, group=NTM)
    memory_initializer: str = choice(
        ["learned", "constant", "random"],
        "The memory before the first step: learned, 1e-6, or small fixed random numbers.",
        group=NTM,
    )
    weighting_initializer: str = choice(
        ["spread", "focused"],
        "The heads' initial weightings before training: random, or on the first location.",
        group=NTM,
    )
    head_initializer: str = choice(
        ["neutral", "by_location"],
        "What heads do before training. by_location: write heads go on by a location in each step, "
        "read heads stay.",
        group=NTM,
    )
    output_source: str = choice(
        ["controller", "controller_and_reads"], "What the output is computed from.", group=NTM
    )
    write_order: str = choice(
        ["sequential", "simultaneous"],
        "Whether write heads erase and add one after another, or all erase, then all add.",
        group=NTM,
    )

    head_num: int = limit(4, "Number of heads, each of which reads and writes.", group=MANN)
    gamma: float = number(
        0.95,
        "The factor by which a location's usage decays in a step, from 0 to 1.",
        "from 0 to 1",
        lambda value: 0 <= value <= 1,
        group=MANN,
    )
    k_strategy: str = choice(
        ["separate", "summary"],
        "Whether the add vector is separate from the key, or is the key.",
        group=MANN,
    )
    learned_key_strength: bool = switch(
        False,
        "Whether the similarities are multiplied by a learned strength before the softmax.",
        group=MANN,
    )

    lstm_layers: int = limit(3, "Number of layers.", at_most=1000, group=LSTM)
    lstm_units: int = limit(256, "Width of a layer.", group=LSTM)

    eval_sizes: str | None = text(
        "Sizes to measure at, separated by commas, in the task's notation. (default: the task's)",
        default=None,
        group=EVALUATION,
    )
    eval_sequences: int = limit(
        1000,
        "Sequences to measure on, at each size, rounded up to whole batches.",
        at_most=_MANY,
        group=EVALUATION,
    )

    def __post_init__(self):
        try:
            for field in dataclasses.fields(self):
                value = getattr(self, field.name)
                if not (field.name == "task" and isinstance(value, Task)):
                    object.__setattr__(self, field.name, checked(field, value))
            self._check_together()
            check_limits(type(self.made_task))
            name_of(self.made_task)
            self.sizes()
        except ValueError as error:
            raise BadInput(str(error)) from error

    def _check_together(self) -> None:
        """Refuses settings that do not fit each other."""
        if self.clip_norm and self.clip_value:
            self._refuse("one of clip_norm and clip_value must be 0", "clip_norm", "clip_value")
        if self.model == "ntm" and 2 * self.shift_range + 1 > self.memory_size:
            self._refuse(
                "2 * shift_range + 1 must be at most memory_size", "shift_range", "memory_size"
            )
        can_shift = self.addressing_mode == "content_and_location" and self.shift_range > 0
        if self.model == "ntm" and self.head_initializer == "by_location" and not can_shift:
            self._refuse(
                "head_initializer=by_location is only for heads that can shift",
                *("head_initializer", "addressing_mode", "shift_range"),
            )
        if self.training_memory_size:
            self._check_training_memory_size()
        if self.model == "mann" and self.head_num > self.memory_size:
            self._refuse("head_num must be at most memory_size", "head_num", "memory_size")
        self._check_fall("learning_rate", self.learning_rate_end, self.learning_rate_steps)
        self._check_fall("weight_noise", self.weight_noise_end, self.weight_noise_steps)
        if self.weight_noise and self.distribution_strategy != "none":
            self._refuse(
                "weight_noise must be 0 where distribution_strategy shares a batch between devices",
                "weight_noise",
                "distribution_strategy",
            )

    def _check_training_memory_size(self) -> None:
        needed = {"ntm": 2 * self.shift_range + 1, "mann": self.head_num}.get(self.model, 1)
        if self.training_memory_size < needed:
            self._refuse(
                f"training_memory_size must be 0, or at least {needed}", "training_memory_size"
            )
        if self.memory_initializer == "learned" and self.model == "ntm":
            self._refuse(
                "training_memory_size must be 0 where the initial memory is learned",
                *("training_memory_size", "memory_initializer"),
            )

    @property
    def memory_size_in_training(self) -> int:
        """The number of memory locations in training."""
        has_fewer = self.model != "lstm" and 0 < self.training_memory_size < self.memory_size
        return self.training_memory_size if has_fewer else self.memory_size

    @property
    def flag_of_training_memory(self) -> str:
        """The flag that says how many memory locations there are in training."""
        has_fewer = self.memory_size_in_training < self.memory_size
        return "training_memory_size" if has_fewer else "memory_size"

    @property
    def may_begin_again(self) -> bool:
        """Whether there may be a second attempt."""
        return not self.init_from and 0 < self.attempt_steps <= self.steps - self.attempt_steps

    def _check_fall(self, name: str, end: float, steps: int) -> None:
        if end and (end > getattr(self, name) or not steps):
            self._refuse(
                f"{name}_end must be at most {name}, and 0 without {name}_steps",
                *(name, f"{name}_end", f"{name}_steps"),
            )

    def _refuse(self, why: str, *names: str) -> None:
        received = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        raise ValueError(f"{why}. Received: {received}")

    @functools.cached_property
    def made_task(self) -> Task:
        """The task object, also if `task` is a name."""
        return self.task if isinstance(self.task, Task) else task_class(self.task)()

    @property
    def task_name(self) -> str:
        """The task's name, also if `task` is an object."""
        return name_of(self.made_task)

    @property
    def solved_limit(self) -> float:
        """What a run's final measure must be below, also where `solved_below` is stricter."""
        return max(self.solved_below or 0, self.made_task.solved_below)

    @property
    def test_parts(self) -> int:
        """The parts of the test that ends a training, each of `eval_sequences`: a power of 2."""
        parts = _TEST_PARTS
        while parts > 1 and parts * self.eval_sequences > _TEST_SEQUENCES:
            parts //= 2
        return parts

    def sizes(self) -> list[tuple[str, Any]]:
        """The sizes to evaluate at: each as text and as `Task.parse_size` returns it."""
        text = self.made_task.default_eval_sizes if self.eval_sizes is None else self.eval_sizes
        try:
            return self.made_task.sizes(text)
        except ValueError as error:
            raise ValueError(f"eval_sizes={text}: {error}") from error

    def of_groups(self, *groups: str) -> dict[str, Any]:
        """The settings of these groups, by their names."""
        return {name: getattr(self, name) for name in names_of_groups(*groups)}

    def as_flags(self) -> dict[str, Any]:
        """The settings and the task's limits, by the names of their flags."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**own, "task": self.task_name, **dataclasses.asdict(self.made_task)}

    @classmethod
    def from_flags(cls, values: Mapping[str, Any]) -> Settings:
        """The settings that `as_flags` returned.

        Raises:
            ValueError: As the constructor does, or for one of the task's limits.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        limits = {name: value for name, value in values.items() if name not in names}
        name = str(values.get("task"))
        try:
            task = task_class(name)(**limits)
        except (ValueError, TypeError) as error:
            raise BadInput(f"--task={name}: {error}") from error
        return cls(**{**{name: values[name] for name in values.keys() & names}, "task": task})


def flags_of_other_models(model: str) -> list[str]:
    """The names of the settings that mean nothing to a model."""
    groups = {"ntm": (MANN, LSTM), "mann": (NTM, LSTM), "lstm": (MACHINE, NTM, MANN)}
    return names_of_groups(*groups[model])


def names_of_groups(*groups: str) -> list[str]:
    """The names of the settings in these groups."""
    fields = dataclasses.fields(Settings)
    return [field.name for field in fields if field.metadata["group"] in groups]


def check_limits(of: type[Task]) -> None:
    """Refuses a class of tasks with a limit that would be a second flag of the same name.

    Raises:
        BadInput: There is such a limit.
    """
    settings = {field.name for field in dataclasses.fields(Settings)}
    taken = settings | {*OF_ONE_COMMAND, "flagfile", "version"}
    both = [field.name for field in dataclasses.fields(of) if field.name in taken]
    if both:
        raise BadInput(
            "a limit of a task must not have the name of another flag."
            f" Received: {', '.join(both)} in {of.__name__}"
        )
