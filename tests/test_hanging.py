"""A run that hangs does not hold up its sweep, and is carried out again on resuming."""

from pathlib import Path

import pytest

from tests.commands import client, family, program, sweep

pytestmark = pytest.mark.slow

NETWORKS = """
import time
from pathlib import Path
from sweeptrail import Network

class Hanging(Network):
    calls = 0

    def forward(self, images):
        self.calls += 1
        if self.training and self.calls > 3 and not Path("mended").exists():
            time.sleep(600)
        return super().forward(images)
"""


def test_a_run_that_hangs_fails_with_its_stack_and_is_carried_out_again_on_resuming(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETWORKS)
    settings = {"network": "nets:Hanging,Network", "lr": "0.1", "batch_size": "50", "shuffle": "true"}
    hung = sweep(cwd=tmp_path, run_timeout="8", **settings)
    assert hung.returncode == 1, hung.stderr
    assert "FAILED  the run took longer than run_timeout=8 s" in hung.stdout
    parent, (hanging, other) = family(tmp_path)
    assert [run.info.status for run in (parent, hanging, other)] == ["FAILED", "FAILED", "FINISHED"]
    assert hanging.data.tags["sweeptrail.reason"] == "the run took longer than run_timeout=8 s"
    stack = client(tmp_path).download_artifacts(hanging.info.run_id, "stack.txt", str(tmp_path))
    assert "in forward" in Path(stack).read_text()
    (tmp_path / "mended").touch()
    resumed = program("resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert [run.info.status for run in family(tmp_path)[1]] == ["FINISHED", "FINISHED"]
    assert len(client(tmp_path).get_metric_history(hanging.info.run_id, "loss")) == 3
