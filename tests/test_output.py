"""What runs print: kept as an artifact, shown at a failure, harmless on a terminal."""

from pathlib import Path

import pytest

from sweeptrail.outbox.output_log import FILE_NAME, last_lines
from tests.commands import client, family, sweep

pytestmark = pytest.mark.slow

NETWORKS = """
from sweeptrail import Network

class Loud(Network):
    calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls == 3:
            print("loud")
        return super().forward(images)

class Failing(Loud):
    def forward(self, images):
        if self.training and self.calls > 3:
            for number in range(30):
                print(f"line {number}")
            print("\\x1b[31mred\\x1b[0m \\x1b]0;a title\\x07and \\x1b[2J\\u202e bad", end="\\n\\n")
            raise ValueError("no more")
        return super().forward(images)
"""


def test_what_a_run_prints_is_an_artifact_and_the_end_of_it_is_shown_where_it_failed(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETWORKS)
    done = sweep(cwd=tmp_path, network="nets:Loud,nets:Failing,Network", lr="0.1", batch_size="50", shuffle="true")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    [failed] = [number for number, line in enumerate(lines) if "FAILED  ValueError: no more" in line and "run" in line]
    assert lines[failed + 1 : failed + 11] == [
        *(f"    line {number}" for number in range(21, 30)),
        "    red and � bad",
    ]
    assert "    line 20" not in lines
    assert "loud" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    _, (loud, failing, silent) = family(tmp_path)
    artifacts = [
        {file.path for file in client(tmp_path).list_artifacts(run.info.run_id)} for run in (loud, failing, silent)
    ]
    assert [FILE_NAME in files for files in artifacts] == [True, True, False]
    [kept] = tmp_path.glob(f"runs/*/2_*/{FILE_NAME}")
    path = client(tmp_path).download_artifacts(failing.info.run_id, FILE_NAME, str(tmp_path))
    assert Path(path).read_bytes() == kept.read_bytes()


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"", []),
        (b"one\ntwo", ["one", "two"]),
        (b"10 %\r20 %\r30 %\ndone\n", ["30 %", "done"]),
        (b"10 %\r20 %\r", ["20 %"]),
        (b"windows\r\n", ["windows"]),
        (b"a\tb\n\n\n", ["a   b"]),
        (b"\xff\xfe\x00\x07\n", ["\ufffd\ufffd\ufffd\ufffd"]),
        (b"\x1b[1;31mred\x1b[0m\x1b[", ["red\ufffd["]),
        (b"\x9b31m".decode("latin-1").encode(), ["\ufffd31m"]),
        (b"x" * 1_000_000, ["x" * 200]),
        (b"line\n" * 1_000_000, ["line"] * 10),
    ],
)
def test_the_last_lines_are_what_a_terminal_would_show(tmp_path: Path, printed: bytes, shown: list[str]) -> None:
    (tmp_path / FILE_NAME).write_bytes(printed)
    assert last_lines(tmp_path) == shown


def test_without_a_file_there_are_no_last_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path) == []
