"""What a killed process left at the end of a file is taken back, and what follows can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylog.transports.ends import End, end_of, mend
from pylog.transports.packing import unpacked
from pylog.transports.rotation import Files


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("left", [b"", b"half a li", b"ne\n" * 50_000])
def test_what_is_behind_the_end_is_cut_off(tmp_path: Path, suffix: str, left: bytes) -> None:
    path = str(tmp_path / f"fw.log{suffix}")
    expected, held = b"", []
    for number in range(3):
        file = Files(path, "append", suffix=suffix).open()
        held.append(file)  # nothing closes it, as if the process had been killed
        for line in (b"%d first\n" % number, b"%d second\n" % number)[: number + 1]:
            file.stream.write(line)
            file.stream.flush()
            expected += line
        end = end_of(file)
        assert end is not None
        file.stream.write(left)
        file.stream.flush()
        file.raw.flush()
        assert bool(mend(end)) == bool(left)
        with unpacked(path) as lines:
            assert lines.read() == expected
        assert mend(end) in (0, len(end.closing))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_was_closed_stays_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"fw.log{suffix}")
    file = Files(path, "append", suffix=suffix).open()
    before = end_of(file)
    file.stream.write(b"all\n")
    file.stream.flush()
    end = end_of(file)
    assert before is not None and end is not None and end.size > before.size
    file.finish()
    file.close()
    mend(end)
    with unpacked(path) as lines:
        assert lines.read() == b"all\n"
    mend(before)
    if suffix == ".gz":  # which has a head from the beginning
        with unpacked(path) as lines:
            assert lines.read() == b""
    else:
        assert Path(path).stat().st_size == 0


def test_another_file_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "fw.log"
    path.write_bytes(b"another\n")
    inode = path.stat().st_ino
    for end in (End(str(path), inode + 1, 0), End(str(path), inode, 100), End("/no/such", 1, 0)):
        assert mend(end) == 0
    assert path.read_bytes() == b"another\n"
    assert mend(End(str(path), inode, 4)) == 4 and path.read_bytes() == b"anot"
