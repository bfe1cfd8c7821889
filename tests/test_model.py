"""The best run's weights as an MLflow model."""

import hashlib
import json
import shutil
import socket
import sys
import tracemalloc
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.fashion_mnist.data import CLASS_NAMES
from sweeptrail.outbox.entries import Artifact, Version
from sweeptrail.records import Job
from sweeptrail.training import pt2
from sweeptrail.training.export import DATA
from tests.commands import environment, start
from tests.exported import NAME, export, images, job, probabilities
from tests.server import free_port, process_group
from tests.waiting import PATIENCE, wait_for

NETWORKS = """
import torch
from torch import nn

class Deep(nn.Module):
    '''Batch statistics, dropout, sizes of the batch, and another type of number.'''

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding="same"), nn.BatchNorm2d(4)
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(4 * 14 * 14, 10)

    def forward(self, images):
        hidden = nn.functional.gelu(self.norm(self.conv(images)), approximate="tanh")
        hidden = nn.functional.avg_pool2d(hidden, 2).to(torch.float64).float()
        hidden = torch.cat([hidden[:, :2], hidden[:, 2:]], dim=1)
        return self.out(self.drop(hidden.reshape(images.size(0), -1)))

class Fixed(nn.Module):
    '''Knows two images at a time.'''

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(784, 10)

    def forward(self, images):
        return self.out(images.reshape(2, 784))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a job whose network is exported in its folder: importing what exports takes seconds."""
    made = job(tmp_path_factory.mktemp("exported"))
    export(made)
    return made


def model_of(given: Job) -> Path:
    return Path(given.folder, "model")


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(count: int) -> torch.Tensor:
    return torch.from_numpy(images(count)).unsqueeze(1) / 255


def as_json(count: int) -> str:
    return json.dumps({"inputs": pixels(count).tolist()})


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_exported_network_answers_as_the_trained_one_to_any_number_of_images(exported: Job, count: int) -> None:
    network = pt2.read(model_of(exported) / DATA)
    assert torch.allclose(network(pixels(count)), probabilities(exported, images(count)), atol=1e-6)


def test_the_model_says_all_that_its_user_must_know(exported: Job) -> None:
    described = yaml.safe_load((model_of(exported) / "MLmodel").read_text())
    assert described["metadata"]["classes"] == list(CLASS_NAMES)
    assert "probability" in described["metadata"]["output"]
    [given], [answered] = (json.loads(described["signature"][side]) for side in ("inputs", "outputs"))
    assert given["tensor-spec"] == {"dtype": "float32", "shape": [-1, 1, 28, 28]}
    assert answered["tensor-spec"] == {"dtype": "float32", "shape": [-1, 10]}
    assert described["flavors"]["python_function"]["config"] == {"device": "cpu"}
    assert len(json.loads((model_of(exported) / "input_example.json").read_text())) == 2
    requirements = (model_of(exported) / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == ["mlflow", "numpy", "torch"]
    assert all(line.partition("==")[2] for line in requirements)


def test_the_model_holds_no_pickle_no_operation_of_ours_and_no_path_of_this_machine(exported: Job) -> None:
    files = digests(model_of(exported))
    assert [name for name in files if name.startswith("data/")] == [str(DATA)]
    with zipfile.ZipFile(model_of(exported) / DATA) as archive:
        graph = archive.read("model/models/model.json").decode()
        weights = json.loads(archive.read("model/data/weights/model_weights_config.json"))["config"]
    nodes = json.loads(graph)["graph_module"]["graph"]["nodes"]
    assert {node["target"].rpartition(".")[0].rpartition(".")[0] for node in nodes} == {"torch.ops.aten"}
    assert not any(entry["use_pickle"] for entry in weights.values())
    assert ".py" not in graph
    assert str(Path(__file__).parent) not in graph


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_files(exported: Job, tmp_path: Path) -> None:
    again = job(tmp_path)
    assert (model_of(again).parent / "checkpoint.pt").read_bytes() == (
        model_of(exported).parent / "checkpoint.pt"
    ).read_bytes()
    export(again)
    assert digests(model_of(again)) == digests(model_of(exported))


def test_the_journal_is_told_of_every_file_and_then_of_the_version(exported: Job) -> None:
    *artifacts, version = export(exported)
    folder = Path(exported.folder)
    paths = {entry.path for entry in artifacts if isinstance(entry, Artifact)}
    assert paths == {f"model/{name}" for name in digests(folder / "model")}
    assert all(isinstance(entry, Artifact) and entry.to == str(Path(entry.path).parent) for entry in artifacts)
    assert isinstance(version, Version)
    assert (version.name, version.metric, version.value) == ("fashion-mnist", "validation_accuracy", 0.9)
    assert (version.data, version.parent) == ("d1, 5000 held out", "c0ffee")
    assert version.tags == {"sweeptrail.sweep": "monday", "sweeptrail.run": NAME, "sweeptrail.key": "k1"}


def test_a_network_of_ones_own_is_exported_as_it_is_evaluated(
    exported: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    deep = job(tmp_path / "deep", "own_networks:Deep")
    export(deep)
    assert torch.allclose(pt2.read(model_of(deep) / DATA)(pixels(5)), probabilities(deep, images(5)), atol=1e-5)
    with pytest.raises(SweeptrailError, match="network: own_networks:Fixed cannot be exported: ") as caught:
        export(job(tmp_path / "fixed", "own_networks:Fixed"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "fixed" / NAME / "model").exists()


def test_a_checkpoint_that_is_none_leaves_the_model_that_was_there(exported: Job, tmp_path: Path) -> None:
    broken = job(tmp_path)
    Path(broken.folder, "checkpoint.pt").write_bytes(b"torn")
    shutil.copytree(model_of(exported), model_of(broken))
    with pytest.raises(SweeptrailError, match="is no checkpoint of Network"):
        export(broken)
    assert digests(model_of(broken)) == digests(model_of(exported))


@pytest.mark.slow
def test_mlflow_predicts_with_it_as_it_is(exported: Job, tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text(as_json(3))
    command = ["mlflow", "models", "predict", "--env-manager", "local", "-m", str(model_of(exported))]
    done = start(*command, "-i", "given.json", "-o", "answer.json", cwd=tmp_path, PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    answer = torch.tensor(json.loads((tmp_path / "answer.json").read_text())["predictions"])
    assert torch.allclose(answer, probabilities(exported, images(3)), atol=1e-6)


@pytest.mark.slow
def test_mlflow_serves_it_as_it_is(exported: Job, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-p", str(port)]
    with process_group(*command, "-m", str(model_of(exported)), cwd=tmp_path, env=environment(PYTHONPATH="")) as server:
        wait_for(lambda: server.poll() is not None or is_listening(port))
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", as_json(3).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            answer = torch.tensor(json.load(reply)["predictions"])
    assert torch.allclose(answer, probabilities(exported, images(3)), atol=1e-6)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def in_graph(change: Callable[[Any], None]) -> Callable[[str, bytes], bytes]:
    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        saved = json.loads(content)
        change(saved)
        return json.dumps(saved).encode()

    return changed


def pickled_weights(name: str, content: bytes) -> bytes:
    return content.replace(b'"use_pickle": false', b'"use_pickle": true') if "weights_config" in name else content


def first_node(saved: Any) -> Any:
    return saved["graph_module"]["graph"]["nodes"][0]


FORGED = {
    "a pickle": (pickled_weights, "is a pickle"),
    "a program": (in_graph(lambda saved: first_node(saved).update(target="torch.os.system")), "'torch.os.system'"),
    "a builtin": (in_graph(lambda saved: first_node(saved).update(target="torch.ops.aten.__class__.mro")), "__class__"),
    "a file": (
        in_graph(lambda saved: first_node(saved).update(target="torch.ops.aten.from_file.default")),
        "from_file",
    ),
    "no graph": (in_graph(lambda saved: saved.pop("graph_module")), "KeyError"),
    "no weights": (lambda name, content: content if "weight_" not in name else b"", "got a damaged one"),
    "short weights": (lambda name, content: content if "weight_" not in name else content[:8], "got a damaged one"),
}
"""What is changed in an archive, and what must be said of it."""


def forge(model: Path, to: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return to


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_network_is_refused(exported: Job, tmp_path: Path, what: str) -> None:
    change, expected = FORGED[what]
    forged = forge(model_of(exported) / DATA, tmp_path / "forged.pt2", change)
    with pytest.raises(UsageError) as caught:
        pt2.read(forged)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_archive_that_unpacks_to_more_than_it_is_takes_no_memory(exported: Job, tmp_path: Path) -> None:
    with zipfile.ZipFile(model_of(exported) / DATA) as old, zipfile.ZipFile(tmp_path / "bomb.pt2", "w") as new:
        for name in old.namelist():
            kind = zipfile.ZIP_DEFLATED if "weight_" in name else zipfile.ZIP_STORED
            new.writestr(name, bytes(200 << 20) if "weight_0" in name else old.read(name), kind)
    tracemalloc.start()
    with pytest.raises(UsageError, match="it is compressed"):
        pt2.read(tmp_path / "bomb.pt2")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_nothing_that_an_archive_says_is_evaluated(exported: Job, tmp_path: Path) -> None:
    """torch.export.load runs both, and mlflow.pytorch.load_model does, where it is told to load no pickle."""
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()"

    def put_code(saved: Any) -> None:
        for tensor in saved["graph_module"]["graph"]["tensor_values"].values():
            tensor["sizes"][0] = {"as_expr": {"expr_str": f"[{code}, 2][1]", "hint": {"as_int": 2}}}
        saved["guards_code"] = [f"({code} or True)"]

    forged = forge(model_of(exported) / DATA, tmp_path / "forged.pt2", in_graph(put_code))
    assert torch.allclose(pt2.read(forged)(pixels(3)), probabilities(exported, images(3)), atol=1e-6)
    assert not (tmp_path / "ran").exists()
