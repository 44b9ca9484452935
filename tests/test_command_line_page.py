"""The page with all flags is made of the flags."""

from runs import ROOT

from tasks import TASKS
from training import flagfiles
from training.settings import GROUPS, TASK

PAGE = ROOT / "docs" / "command_line.md"


def table(values, group):
    """The flags of a group."""
    rows = []
    for flag in sorted(values.flags_by_module_dict()[group], key=lambda flag: flag.name):
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
        default = "" if flag.default is None else flag.default
        if flag.boolean:
            default = "on" if flag.default else "off"
        about = " ".join(flag.help.split())
        allowed = getattr(flag.parser, "enum_values", [])
        if allowed:  # absl's help begins with them.
            one_of = ", ".join(f"`{each}`" for each in allowed)
            about = f"{about.split('>: ', 1)[1]} One of {one_of}."
        rows.append(f"| `{name}` | {default} | {about} |\n")
    return "| flag | default | what it does |\n| --- | --- | --- |\n" + "".join(rows)


def config_of(task):
    has_config = (PAGE.parent.parent / "configs" / f"{task}.cfg").exists()
    return f"\n`configs/{task}.cfg` has the settings for this task.\n" if has_config else ""


def page():
    values = flagfiles.define(None)
    groups = "\n".join(f"## {group}\n\n{table(values, group)}" for group in GROUPS if group != TASK)
    tasks = "\n".join(
        f"### {name}\n\n{table(flagfiles.define(name), TASK)}{config_of(name)}" for name in TASKS
    )
    return f"""# The command line

`python train.py --help` prints these flags with the defaults of the task copy, and
`python train.py --task=NAME --help` with those of another task. Here are the defaults where no
config changes them. A flag on the command line wins over a flagfile (`--flagfile=FILE`), and this
over the default. Without `--flagfile` the task's config is used. `--version` prints the version.
[Training](training.md) explains the most important flags.

{groups}
## Tasks

Each task has its own limits.

{tasks}"""


def test_the_page_has_all_flags():
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "PYTHONPATH=. python tests/test_command_line_page.py writes it"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
