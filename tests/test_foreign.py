"""A file that is no log is named by what it is, with what to do, in one line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sqlite3
import sys
import tarfile
import zipfile
from pathlib import Path

import effort
import pytest
import samples

import pylog
from pylog import DecodeError
from pylog.detect import detect
from pylog.formats import foreign

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
LOG = FILTER.read_bytes()


def error_of(data: bytes) -> str:
    """The error for a file of those bytes."""
    with pytest.raises(DecodeError) as caught:
        pylog.open(io.BytesIO(data))
    assert "\n" not in str(caught.value)
    assert caught.value.advice or caught.value.details
    return str(caught.value).partition(": ")[2]


def zipped(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("d.bin", LOG)
    return file.getvalue()


def tarred(mode: str, form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("d.bin")
        member.size = len(LOG)
        archive.addfile(member, io.BytesIO(LOG))
    return file.getvalue()


ARCHIVES = {
    "stored zip": (zipped(zipfile.ZIP_STORED), "this is a zip archive; .*unzip -p FILE"),
    "deflated zip": (zipped(zipfile.ZIP_DEFLATED), "this is a zip archive; .*unzip -p FILE"),
    "tar": (tarred("w:"), "this is a tar archive; .*tar -xOf FILE"),
    "old tar": (tarred("w:", tarfile.USTAR_FORMAT), "this is a tar archive; .*tar -xOf FILE"),
    "tar.gz": (tarred("w:gz"), "this is a tar archive; .*tar -xOf FILE"),
    "tar.xz": (tarred("w:xz"), "this is a tar archive; .*tar -xOf FILE"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + LOG, "this is a 7z archive; .*7z e -so FILE"),
    "rar": (b"Rar!\x1a\x07\x01\0" + LOG, "this is a rar archive; .*unrar p"),
    "lz4": (b"\x04\x22\x4d\x18\x64\x40\xa7" + LOG, "compressed with lz4; .*lz4 -dc FILE"),
    "compress": (b"\x1f\x9d\x90" + LOG, r"compressed with compress \(.Z\); .*gzip -dc FILE"),
    "gzip twice": (gzip.compress(gzip.compress(LOG)), "compressed with gzip; .*gzip -dc FILE"),
    "bzip2 in gzip": (gzip.compress(bz2.compress(LOG)), "compressed with bzip2; .*bzip2 -dc FILE"),
    "gzip in xz": (lzma.compress(gzip.compress(LOG)), "compressed with gzip; .*gzip -dc FILE"),
    "ELF": (b"\x7fELF\x02\x01\x01" + bytes(9) + LOG, r"this is a program \(ELF\); name the file"),
    "PDF": (b"%PDF-1.7\n%\xb5\xb5\n" + LOG, "this is a PDF document; name the file"),
    "parquet": (b"PAR1" + LOG + b"PAR1", "this is a Parquet table; pylog does not read tables"),
    "arrow": (b"ARROW1\0\0" + LOG, "this is an Arrow table; pylog does not read tables"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_container_is_named_even_when_records_are_found_in_it(name: str) -> None:
    data, says = ARCHIVES[name]
    assert re.match(says.replace("compressed", "this is compressed"), error_of(data)) or re.match(
        says, error_of(data)
    )


def test_a_log_that_begins_like_an_archive_is_a_log() -> None:
    data = (samples.FIXTURES / "ipl/v2x-lp64be-ipf.bin").read_bytes()
    with pylog.open(io.BytesIO(data)) as reader:
        records = list(reader)
    second = int.from_bytes(b"PK\x03\x04") << 32  # 2012, if it begins a record
    with pylog.open(io.BytesIO(second.to_bytes(12)[:4] + b"PK\x03\x04" + data[8:])) as reader:
        assert len(list(reader)) == len(records)


TEXTS = {
    "ipmon": ("14/11/2023 22:14:21.123457 3x fxp0 @0:3 p 10.1.1.1,40000 -> 192.0.2.10,80 PR tcp",
              "text that ipmon printed; no line of it is complete"),
    "ipmon through syslog": ("Nov 14 22:14:21 fw ipmon[17]: 22:14:21.123457 fxp0 @0:3 b 10.1.1.1",
                             "text that ipmon printed; "),
    "ipmon's gaps": ("missed 1 ipf log entries: 0 1", "text that ipmon printed; "),
    "kernel LOG": ("[ 6808.948843] PF IN=pfr0 OUT=pfr1 x SRC=10.71.1.2 DST=10.71.2.2 MARK=0x1",
                   "text that the kernel's LOG printed; no line of it is complete"),
    "tcpdump": ("12:26:40.000000 IP 10.81.1.7.40002 > 198.51.100.9.443: Flags [S], seq 1, length 0",
                "text that tcpdump printed; .*tcpdump -w FILE"),
    "syslog": ("Nov 28 09:00:00 fw.example.net sshd[88]: Accepted publickey for root",
               r"a text log \(syslog\); .*--layout text"),
    "syslog of RFC 5424": ("<134>1 2026-11-28T09:00:00.000000+01:00 fw filterlog 60 - - 1,,,em0",
                           r"a text log \(syslog\); "),
    "dmesg": ("[    0.000000] Linux version 6.18.0", r"a text log \(syslog\); "),
    "JSON": ('{"timestamp": "2026-11-28T09:00:00", "event": 1}', "a JSON file; "),
    "JSON, an array": ('[\n  {"a": 1}\n]', "a JSON file; "),
    "CSV": ("time,saddr,daddr\n1,10.0.0.1,10.0.0.2\n2,10.0.0.1,10.0.0.2", "a CSV file; "),
    "HTML": ("<!DOCTYPE html>\n<html><head><title>404", r"a web page \(HTML\); "),
    "XML": ('<?xml version="1.0"?>\n<log/>', "an XML file; "),
    "xxd": ("00000000: 4d4c 5049 0300 0000 0100 0000 0000 0000  MLPI", "a hex dump; .*xxd -r"),
    "script": ("#!/bin/sh\necho hello", "a script; "),
    "any text": ("hello, this is not a firewall log", "text; no line of it is of a firewall"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_text_is_named_by_who_printed_it(name: str, encoding: str) -> None:
    text, says = TEXTS[name]
    message = error_of(f"{text}\n".encode(encoding))
    if encoding.startswith("utf-16"):
        says = f"{says.partition(';')[0]}, in UTF-16; convert it first: iconv"
    assert re.match(f"this is {says}", message), message


READ = (
    "14/11/2023 22:13:20.000000 @1 NAT:MAP 10.1.1.1,1 <- -> 203.0.113.5,2",
    "14/11/2023 22:13:20.000000 STATE:NEW 10.1.1.1,1 -> 192.0.2.10,80 PR tcp",
    "[ 6808.948843] PF-forward IN=pfr0 OUT=pfr1 MAC=02:50 SRC=10.71.1.2 DST=10.71.2.2",
    "Nov 28 21:01:54 fw kernel: PFpostIN= OUT=pfr0 SRC=fd71::1 DST=fd71::2",
    "2020-09-13 12:26:40.000000 rule 0/0(match): pass in on em0: 10.81.1.7",
    "Nov 28 20:00:01.000000 rule 0/(match) pass in on em0: 10.81.1.7.40002",
)


@pytest.mark.parametrize("text", READ)
def test_a_single_line_of_a_firewall_is_a_log(text: str) -> None:
    with pylog.open(io.BytesIO(f"{text}\n".encode())) as reader:
        assert reader.detection.container == "text" and len(list(reader)) == 1
    error_of(f"{text}\n".encode("utf-16"))


@pytest.mark.parametrize("to", ["text", "json", "csv", "ipmon"])
def test_what_pylog_and_ipmon_print_is_recognized(
    to: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from pylog.cli import main

    for dump in samples.dumps("ipl/v5-1-2-lp64le-*")[::3]:
        assert main(["read", "--to", to, str(dump)]) == 0
        text = capfdbinary.readouterr().out[: 1 << 15]
        if to == "ipmon":
            with pylog.open(io.BytesIO(text)) as reader:
                assert reader.detection.container == "text"
        else:
            assert "that pylog " in error_of(text), dump


def test_an_sqlite_database_is_named(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a") as database:
        database.execute("CREATE TABLE packet (saddr)")
    database.close()
    assert error_of((tmp_path / "a").read_bytes()).startswith("this is an SQLite database; ")


def test_zeros_and_nothing_are_named() -> None:
    never = "it was never written or the copy failed; copy it again"
    assert error_of(bytes(5000)) == f"the file holds only zero bytes: {never}"
    assert error_of(b"\xff" * 70000) == f"the file holds only bytes ff: {never}"
    assert error_of(b"") == error_of(gzip.compress(b"")) == "the input is empty"


def test_only_an_empty_file_gets_the_advice_to_follow_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    with pytest.raises(DecodeError) as caught:
        pylog.open(path)
    waits = "pylog read --follow waits for the first record"
    assert str(caught.value) == f"{path}: the input is empty; {waits}"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DecodeError) as caught:
        pylog.open(path)
    assert str(caught.value) == f"{path}: the input is empty"


@pytest.mark.parametrize("data", [b"abc", b"hi\n", b"ok, no"])
def test_a_few_bytes_of_text_are_named_as_text(data: bytes) -> None:
    assert error_of(data).startswith("this is text; no line of it is of a firewall")


def test_a_few_bytes_of_nothing_recognized_are_not_a_log() -> None:
    assert error_of(b"\xfe\x01\x80\x02").startswith("4 bytes that are not a log that pylog")


@pytest.mark.parametrize("linktype", [1, 105])
def test_a_capture_of_another_link_type_names_it_and_those_that_are_read(linktype: int) -> None:
    from builders import pcap_header, pcap_packet

    from pylog.formats.pcap_blocks import interface_block, section_block

    name = {1: r"1 \(ETHERNET, not of ipfw0\)", 105: r"105 \(IEEE802_11\)"}[linktype]
    packets = pcap_packet(bytes(60), 0)
    for data in (
        pcap_header(linktype),
        pcap_header(linktype) + packets,
        section_block() + interface_block(linktype),
    ):
        message = error_of(data)
        assert re.match(rf"this is a capture of link type {name}; pylog reads .*239", message)


@pytest.mark.parametrize(
    "dump",
    effort.sample(samples.dumps("ipl/*")[::2] + samples.dumps("nflog/*")),
    ids=samples.name,
)
def test_a_file_cut_within_its_first_record_says_what_the_record_needs(dump: Path) -> None:
    data = dump.read_bytes()
    if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a"):  # their headers
        need = 24 if data[0] == 0xD4 else int.from_bytes(data[4:8], "little")
    else:
        with pylog.open(io.BytesIO(data)) as reader:
            offsets = [record.offset for record in reader]
        need = int(offsets[1] or 0) if len(offsets) > 1 else len(data)
    magic = "ipl" not in reader_name(dump) or b"LPI" in data[:16] or b"IPL" in data[:16]
    exact = 0
    for size in sorted({8, 17, min(36, need - 1), need - 1}):
        with pytest.raises(DecodeError) as caught:
            detect(data[:size], True)
        message = str(caught.value)
        match = re.match(r"cut off: the (?:first )?\w.* needs (at least )?(\d+) bytes, the file has"
                         rf" {size}; copy it again", message)  # fmt: skip
        if match is None:
            assert size < 33 and not magic, message  # no magic, and no head yet
            continue
        exact += match[1] is None
        assert int(match[2]) == need if match[1] is None else size < int(match[2]) <= need, message
    assert exact or need < 60


def reader_name(dump: Path) -> str:
    return dump.parent.name


def test_a_pipe_is_not_waited_for_once_it_is_known_to_be_no_log() -> None:
    assert foreign.recognized(b"PK\x03\x04", False) is not None
    assert foreign.recognized(b"Nov 28 09:00:00 fw sshd", False) is None  # too little to be sure
    with pytest.raises(DecodeError, match="syslog"):
        detect(b"Nov 28 09:00:00 fw sshd[88]: Accepted publickey for root from 10.0.0.1\n", False)


if sys.version_info < (3, 14):

    def test_a_file_that_needs_an_extra_says_how_to_get_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "backports", None)
        (tmp_path / "x.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
        with pytest.raises(pylog.BackendUnavailable, match=r"pip install '\.\[zstd\]'"):
            pylog.open(tmp_path / "x.zst")
