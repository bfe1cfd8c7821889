"""The README says what is true: its files, commands, settings and links."""

import re
from pathlib import Path

import click
import pytest

from sweeptrail.cli import main
from sweeptrail.sweeps.settings import parameters_of
from sweeptrail.tasks.task import DEFAULT_TASK, find_task
from tests.commands import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_every_module_has_its_line_in_the_map_and_every_line_its_file() -> None:
    listed = set(re.findall(r"^  (\S+) {2,}\S", TEXT, re.MULTILINE))
    source = ROOT / "src" / "sweeptrail"
    present = {path.name for path in source.glob("*.py")} | {
        f"{path.name}/" for path in source.iterdir() if path.is_dir()
    }
    assert listed == present - {"__init__.py", "__main__.py", "__pycache__/"}


def test_every_script_is_explained() -> None:
    for path in (ROOT / "scripts").iterdir():
        if path.is_file():
            assert f"scripts/{path.name} " in TEXT


def test_every_command_is_in_the_readme() -> None:
    assert set(main.commands) <= set(re.findall(r"sweeptrail ([a-z]+)", TEXT))


def test_every_command_of_the_server_is_in_the_readme() -> None:
    server = main.commands["server"]
    assert isinstance(server, click.Group)
    for name in server.commands:
        assert f"sweeptrail server {name}" in TEXT or f"`{name}`" in TEXT


def test_the_table_of_settings_is_the_list_of_parameters() -> None:
    parameters = parameters_of(find_task(DEFAULT_TASK))
    rows = [f"| `{each.name}` | `{each.default}` | {each.meaning} |" for each in parameters]
    assert "\n".join(rows) in TEXT
    assert sum(each.is_axis and each.is_of_run for each in parameters) == 7  # the text says seven


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", TEXT))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert Path(ROOT, target).exists()


def test_no_path_of_a_developer_s_machine_is_in_it() -> None:
    assert "/tmp/" not in TEXT
    assert "/work" not in TEXT
