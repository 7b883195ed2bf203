"""Outputs of places: their contract, and `pylog read --target`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import inprocess
import places
import pytest

from pylog import outputs
from pylog.batch import Batch
from pylog.secrets import Secret, hidden, secret_of, secret_of_text
from pylog.testing import packet

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
LOG = FIXTURES / "ipl" / "v5-1-2-lp64le-filter.ipf.bin"


@pytest.fixture(autouse=True)
def targets() -> Iterator[dict[str, places.Target]]:
    with places.registered() as targets:
        yield targets


def test_an_output_of_a_place_gives_back_its_position(targets: dict[str, places.Target]) -> None:
    place = outputs.Place("memory:a", "a stack")
    output = outputs.open("memory", place)
    output.write(Batch([packet()]))
    assert (output.position(), output.confirmed(), targets["memory:a"].records) == (None, None, [])
    output.commit("7")
    output.write(Batch([packet()]))
    output.close()
    again = outputs.open("memory", place)
    assert (again.position(), len(targets["memory:a"].records)) == ("7", 1)


def test_files_and_places_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match=r"json writes files: memory:a is none"):
        outputs.open("json", outputs.Place("memory:a"))
    with open(LOG, "rb") as stream, pytest.raises(ValueError, match=r"memory writes to no file"):
        outputs.open("memory", outputs.Target(stream))
    with pytest.raises(ValueError, match=r"needs a target, which is missing: memory:NAME"):
        outputs.open("memory", outputs.Place(""))


def test_read_writes_to_a_place(
    targets: dict[str, places.Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "geheim")
    target = targets["memory:a"]
    target.refuses = 80
    done = inprocess.text("read", "--to", "memory", "--target", "memory:a",
                          "--password", "env:SECRET", LOG)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a record is refused: port 80 is not wanted" in done.stderr
    assert len(target.records) == 55 and target.passwords == ["geheim"] and not target.positions
    for arguments, problem in [
        (("--to", "memory"), "needs a target"),
        (("--to", "memory", "--target", "elsewhere"), "does not begin with memory:"),
        (("--to", "json", "--target", "memory:a"), "json writes files"),
        (("--to", "memory", "--target", "memory:a", "-w", "x"), "memory writes to no file"),
        (("--to", "memory", "--target", "memory:a", "--password", "geheim"), "is not given on"),
    ]:
        done = inprocess.text("read", *arguments, LOG)
        assert done.returncode == 2 and problem in done.stderr, done.stderr
        assert "geheim" not in done.stderr
    target.fails = 1
    done = inprocess.text("read", "--to", "memory", "--target", "memory:a", LOG)
    assert (done.returncode, done.stderr) == (1, "pylog: memory is out of order\n")


def test_secrets_are_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("geheim\n")
    monkeypatch.setenv("SECRET", "of the environment")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    file = secret_of({"file": str(tmp_path / "password")})
    assert file is not None and file.value() == "geheim"
    assert secret_of({"credential": "password"}) == Secret("credential", "password")
    assert secret_of_text("credential:password").value() == "geheim"
    assert secret_of_text("env:SECRET").value() == "of the environment"
    assert secret_of("text") is None
    for wrong in ({}, {"file": "a", "env": "b"}, {"files": "a"}, {"file": 5}):
        with pytest.raises(ValueError, match=r"a secret is a table|must be a text"):
            secret_of(wrong)
    assert hidden("postgresql://me:geheim@db/x?password=geheim") == (
        "postgresql://me:***@db/x?password=***"
    )
    assert hidden("host=db password='ge heim' dbname=x") == "host=db password=*** dbname=x"
