"""The README says what is true: its files, commands, settings and links."""

import re
from pathlib import Path

import click
import pytest

from sweeptrail.cli import main
from sweeptrail.sweeps.settings import AXES, PARSERS, Settings, as_text
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


def test_every_setting_is_in_the_table_with_its_default() -> None:
    for name, default in as_text(Settings()).items():
        assert f"| `{name}` | `{default}` |" in TEXT
    assert len(AXES) == 7  # the text says seven
    assert set(re.findall(r"^\| `(\w+)` \| `", TEXT, re.MULTILINE)) == set(PARSERS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", TEXT))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert Path(ROOT, target).exists()


def test_no_path_of_a_developer_s_machine_is_in_it() -> None:
    assert "/tmp/" not in TEXT
    assert "/work" not in TEXT
