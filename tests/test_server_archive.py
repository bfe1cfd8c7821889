"""An archive that a backup would not have written restores nothing."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sweeptrail.errors import ServerError
from sweeptrail.server.backup import archive
from sweeptrail.server.folder import Configuration, Secrets, ServerFolder


def member(name: str, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for attribute, value in more.items():
        setattr(made, attribute, value)
    return made


HOSTILE = {
    "a path upwards": [member("artifacts/../../escaped")],
    "a path upwards in the middle": [member("artifacts/a/../../../escaped")],
    "an absolute path": [member("/escaped")],
    "an absolute path below the artifacts": [member("artifacts//escaped")],
    "another file of the server": [member("kept.json")],
    "a file through a link": [
        member("artifacts/link", type=tarfile.SYMTYPE, linkname=".."),
        member("artifacts/link/escaped"),
    ],
    "a link that goes in a circle": [member("artifacts/link", type=tarfile.SYMTYPE, linkname="link")],
    "a hard link": [member("artifacts/link", type=tarfile.LNKTYPE, linkname="secrets.json")],
    "a folder": [member("artifacts/folder", type=tarfile.DIRTYPE)],
    "a device": [member("artifacts/device", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a pipe": [member("artifacts/pipe", type=tarfile.FIFOTYPE)],
    "a name twice": [member("artifacts/twice"), member("artifacts/twice")],
    "secrets twice": [member("secrets.json")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_writes_nothing(members: list[tarfile.TarInfo], tmp_path: Path) -> None:
    about = {"format": archive.FORMAT, "mlflow": "3.17.2"}
    contents = {
        archive.MANIFEST: json.dumps(about).encode(),
        archive.SECRETS: json.dumps(vars(Secrets.new())).encode(),
        archive.DUMP: b"PGDMP",
    }
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as opened:
        for name, content in contents.items():
            opened.addfile(member(name, size=len(content)), io.BytesIO(content))
        for each in members:
            opened.addfile(each, io.BytesIO())
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        digests |= {each.name: hashlib.sha256().hexdigest() for each in members}
        checksums = json.dumps(digests).encode()
        opened.addfile(member(archive.CHECKSUMS, size=len(checksums)), io.BytesIO(checksums))
    with pytest.raises(ServerError, match="which does not belong there"):
        archive.restore(ServerFolder(tmp_path / "a" / "server"), hostile, Configuration())
    assert list(tmp_path.rglob("*")) == [hostile, tmp_path / "a"]
