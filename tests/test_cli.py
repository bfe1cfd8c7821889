"""The command line: help, and what it says to bad input before anything is trained."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sweeptrail.cli import main
from sweeptrail.cli.group import Commands
from sweeptrail.sweeps.settings import parameters_of
from sweeptrail.tasks.task import DEFAULT_TASK, find_task

BROKEN_NETWORK = """
from torch import nn

class NeedsArguments(nn.Module):
    def __init__(self, width): super().__init__()

class WrongShape(nn.Module):
    def forward(self, images): return images.flatten(1)

class NoModule:
    pass
"""


def sweep(tmp_path: Path, *arguments: str) -> Result:
    uri = [] if "--tracking-uri" in arguments else ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    # For another engine, torch would be loaded in a process that is ended a moment later.
    engine = [] if "--engine" in arguments else ["--engine", "serial"]
    return CliRunner().invoke(main, ["sweep", *uri, *engine, *arguments])


def nothing_was_started(tmp_path: Path) -> bool:
    runs = tmp_path / "runs"
    return not (tmp_path / "mlflow.db").exists() and (not runs.is_dir() or not list(runs.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "abc"], "lr: expected positive numbers, got 'abc'; write lr=0.01,0.001"),
        (["--lr", "0"], "lr: expected positive numbers, got '0'"),
        (["--lr", "-1"], "lr: expected positive numbers, got '-1'"),
        (["--lr", "nan"], "lr: expected positive numbers, got 'nan'"),
        (["--lr", "inf"], "lr: expected positive numbers, got 'inf'"),
        (["--lr", ""], "lr: expected positive numbers, got an empty value"),
        (["--lr", "0.1,0.1"], "lr: 0.1 is given twice"),
        (["--batch-size", "0"], "batch_size: expected whole numbers from 1, got '0'"),
        (["--batch-size", "2.5"], "batch_size: expected whole numbers from 1, got '2.5'"),
        (["--batch-size", "60001"], "batch_size: expected at most the 55000 training samples, got 60001"),
        (["--shuffle", "yes"], "shuffle: expected true or false, got 'yes'"),
        (["--epochs", "0"], "epochs: expected a whole number from 1, got '0'"),
        (["--epochs", "-2"], "epochs: expected a whole number from 1, got '-2'"),
        (["--epochs", "many"], "epochs: expected a whole number from 1, got 'many'"),
        (["--validation-samples", "60000"], "validation_samples: expected less than the 60000 training images"),
        (["--validation-samples", "-5"], "validation_samples: expected a whole number from 0, got '-5'"),
        (["--train-samples", "55001"], "train_samples: expected at most 55000"),
        (["--optimizer", "adma"], "optimizer: expected any of adam, adamw, sgd, got 'adma'"),
        (["--weight-decay", "-0.1"], "weight_decay: expected numbers from 0, got '-0.1'"),
        (["--seed", "x"], "seed: expected whole numbers from 0, got 'x'"),
        (["--network", "ResNet"], "network: expected Network, or module:Class of your own, got 'ResNet'"),
        (["--network", "no_such_module:Net"], "no_such_module"),
        (["--network", "broken_network:Absent"], "Absent"),
        (["--network", "broken_network:NeedsArguments"], "broken_network:NeedsArguments"),
        (["--network", "broken_network:WrongShape"], "broken_network:WrongShape"),
        (["--network", "broken_network:NoModule"], "broken_network:NoModule"),
        (["--engine", "threads"], "engine: expected any of"),
        (["--device", "gpu"], "device: expected auto, cpu, cuda, cuda:0 or mps, got 'gpu'"),
        (["--device", "cuda:99"], "device: expected one that this machine has, got 'cuda:99'; write device=auto"),
        (["--workers", "0"], "workers: expected a whole number from 1, or auto, got '0'"),
        (["--max-runs", "3"], "max_runs: expected at most 3 runs, got 8"),
        (["--runs", "nowhere.csv"], "runs: nowhere.csv cannot be read as CSV (No such file or directory)"),
        (["--name", "latest"], "name: expected a name with letters or digits, not latest, or auto, got 'latest'"),
        (["--tag", "mlflow.user=me"], "tag: expected KEY=VALUE, no key that begins with sweeptrail. or mlflow."),
        (["--dry-run", "--lr", "x"], "lr: expected positive numbers, got 'x'"),
        (["--epoch", "3"], "epoch: there is no such setting; did you mean epochs?"),
        (["--colour=red"], "colour: there is no such setting"),
        (["lrs=0.1"], "lrs: there is no such setting; did you mean lr?"),
        (["--data-dir", "nowhere"], "nowhere"),
        (["--runs-dir", "a-file/runs"], "runs_dir: "),
        (["--tracking-uri", "file:///somewhere/mlruns"], "MLflow has retired its file store"),
        (["--tracking-uri", "./mlruns"], "MLflow has retired its file store"),
        (["--tracking-uri", "ftp://host"], "tracking_uri: expected a server or a database, got 'ftp://host'"),
        (["--tracking-uri", "sqlite:///no/such/folder/mlflow.db"], "no/such/folder/mlflow.db cannot be written"),
    ],
)
def test_bad_input_is_named_before_anything_is_trained(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a-file").touch()
    (tmp_path / "broken_network.py").write_text(BROKEN_NETWORK)
    result = sweep(tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    assert result.stdout == ""
    assert nothing_was_started(tmp_path)


def test_all_mistakes_are_named_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = sweep(
        tmp_path,
        *["--lr", "x", "--epochs", "0", "--data-dir", "nowhere", "--colour", "red", "--tracking-uri", "ftp://host"],
    )
    assert result.exit_code == 2
    for name in ("lr", "epochs", "nowhere", "colour", "tracking_uri"):
        assert f"{name}" in result.stderr
    assert nothing_was_started(tmp_path)


def test_every_command_has_help_with_an_example() -> None:
    for name in ["", *main.commands]:
        result = CliRunner().invoke(main, [*name.split(), "--help"])
        assert result.exit_code == 0
        assert "Example:" in result.output


def test_every_setting_is_an_option() -> None:
    text = CliRunner().invoke(main, ["sweep", "--help"]).output
    for name in [each.name for each in parameters_of(find_task(DEFAULT_TASK))]:
        assert f"--{name.replace('_', '-')} " in text


def test_help_loads_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; from sweeptrail.cli import main\n"
        "try: main(['sweep', '--help'])\n"
        "finally: print(*{'torch', 'mlflow', 'pandas', 'numpy', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_ctrl_c_before_there_is_anything_to_end_says_so_and_exits_with_130() -> None:
    @click.group(cls=Commands)
    def program() -> None: ...

    @program.command()
    def wait() -> None:
        raise KeyboardInterrupt

    done = CliRunner().invoke(program, ["wait"])
    assert (done.exit_code, done.output) == (130, "sweeptrail: stopped\n")
