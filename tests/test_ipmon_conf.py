"""ipmon.conf: what it may say, how it is refused, and which records its rules are for."""

from __future__ import annotations

import functools
import itertools
import json
import re
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import effort
import ipmon
import msgspec
import pytest
import samples
from hypothesis import example, given
from hypothesis import strategies as st

import pylog
from pylog import FlowRecord, PacketRecord, Record
from pylog.ipmon.conf import ConfError, parse
from pylog.ipmon.names import PROTOCOLS
from pylog.ipmon.rules import Action, Rule
from pylog.record import to_json
from pylog.transports.syslog import FACILITIES, LEVELS


@functools.cache
def records(pattern: str = "ipl/v5-1-2-lp64le-*") -> tuple[Record, ...]:
    """The records of fixtures; of a long one the first."""
    found: list[Record] = []
    for dump in samples.dumps(pattern):
        with pylog.open(dump) as reader:
            found += itertools.islice(reader, 200)
    return tuple(found)


def packet(name: str = "filter.ipf") -> PacketRecord:
    """The first packet of a fixture."""
    first = records(f"ipl/v5-1-2-lp64le-{name}.bin")[0]
    assert isinstance(first, PacketRecord)
    return first


def rule(criteria: str, actions: str = "nothing") -> Rule:
    """The one rule with some criteria and actions."""
    (found,) = parse(f"match {{ {criteria} ; }} do {{ {actions} ; }} ;")
    return found


def actions(text: str) -> list[Action]:
    return rule("direction = in", text).actions


def refusal(text: str) -> str:
    """What is said of a configuration that is refused."""
    with pytest.raises(ConfError) as caught:
        parse(text, "fw.conf")
    return str(caught.value)


def fits(criteria: str, record: Record) -> bool:
    return rule(criteria).matches(record, 0.0)


def facts(record: Record) -> dict[str, Any]:
    """The record as its JSON has it, with what is in extra."""
    found: dict[str, Any] = json.loads(to_json(record))
    found.update(found.get("extra", {}))
    return found


@functools.cache
def told() -> list[tuple[Record, dict[str, Any]]]:
    """The records of IPFilter 5.1.2 with their facts; no losses."""
    return [(r, facts(r)) for r in records() if not isinstance(r, pylog.LossRecord)]


# Criteria


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("direction = in", {"direction": "in"}),
        ("direction = out", {"direction": "out"}),
        ("interface = tun12", {"indev": "tun12", "outdev": "tun12"}),
        ("interface = abcdefghijkl123", {"indev": "abcdefghijkl123"}),
        ("group = 0", {"group": "0"}),
        ("group = vpn", {"group": "vpn"}),
        ('group = "fifteen-chars-g"', {"group": "fifteen-chars-g"}),
        ("group = -1", {"group": "-1"}),
        ("rule = 3", {"rule": 3}),
        ("rule = 4294967295", {"rule": 4294967295}),
        ("protocol = 6", {"protocol": 6}),
        ("protocol = udp", {"protocol": 17}),
        ("protocol = ICMP", {"protocol": 1}),
        ("protocol = ipv6-icmp", {"protocol": 58}),
        ("protocol = icmpv6", {"protocol": 58}),
        ("protocol = ip", {"protocol": 0}),
        ("protocol = 255", {"protocol": 255}),
        ("srcip = 10.1.1.1", {"saddr": "10.1.1.1", "nat_saddr": "10.1.1.1"}),
        ("srcip = 203.0.113.5", {"saddr": "203.0.113.5", "nat_saddr": "203.0.113.5"}),
        ("dstip = 10.1.1.80/32", {"daddr": "10.1.1.80", "nat_daddr": "10.1.1.80"}),
        ("dstip = 192.0.2.80/255.255.255.255", {"daddr": "192.0.2.80", "nat_daddr": "192.0.2.80"}),
        ("srcip = 2001:db8::1", {"saddr": "2001:db8::1"}),
        ("srcip = 2001:0DB8:0:0::0001/128", {"saddr": "2001:db8::1"}),
        ("srcport = 40000", {"sport": 40000, "nat_sport": 40000}),
        ("srcport = 20000", {"sport": 20000, "nat_sport": 20000}),
        ("dstport = 8080", {"dport": 8080, "nat_dport": 8080}),
        ("dstport = 0", {"dport": 0, "nat_dport": 0}),
        ("logtag = 4711", {"fl_logtag": 4711, "isl_tag": 4711}),
        ("logtag = 4294967295", {"fl_logtag": 4294967295, "isl_tag": 4294967295}),
        ("nattag = webfarm", {"fl_nattag": "webfarm"}),
        ('nattag = "dmzserverweb1"', {"fl_nattag": "dmzserverweb1"}),
        ("type = ipf", {"kind": "packet"}),
        ("type = state", {"flow_type": "state"}),
        ("result = log", {"action": "log"}),
    ],
)
def test_a_criterion_is_for_the_records_that_say_so(
    criterion: str, expected: dict[str, Any]
) -> None:
    one = rule(criterion)
    found = [record for record, _ in told() if one.matches(record, 0.0)]
    wanted = [
        record
        for record, fact in told()
        if any(fact.get(name) == value for name, value in expected.items())
    ]
    assert found == wanted and 0 < len(found) < len(told())


def test_the_results_are_those_that_ipmon_printed() -> None:
    letters = {"p": "pass", "b": "block", "L": "log"}
    text = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.txt"
    lines = [line for line in text.read_text().splitlines() if not ipmon.MISSED.match(line)]
    matches = [re.search(r" @\S+ S?(\w) ", line) for line in lines]
    for line, record in zip(matches, records("ipl/v5-1-2-lp64le-filter.ipf.bin"), strict=True):
        assert line is not None
        for result in letters.values():
            assert fits(f"result = {result}", record) == (letters[line[1]] == result)


def test_what_no_rule_matched_is_neither_passed_nor_blocked() -> None:
    found = records("ipl/v5-1-2-lp64le-nomatch.ipf.bin")
    unmatched = [r for r in found if "FR_NOMATCH" in facts(r)["fl_flags"]]
    assert len(unmatched) >= 30 and {facts(r)["action"] for r in unmatched} >= {"pass"}
    assert [r for r in found if fits("result = nomatch", r)] == unmatched
    assert not any(fits("result = pass", r) or fits("result = block", r) for r in unmatched)


def test_flows_have_no_result_and_packets_are_of_the_filters_log() -> None:
    flows = [r for r in records() if isinstance(r, FlowRecord)]
    nat = [r for r in flows if r.flow_type != "state"]
    assert nat and [r for r in records() if fits("type = nat", r)] == nat
    for result in ("pass", "block", "nomatch", "log"):
        assert not any(fits(f"result = {result}", r) for r in flows)


def test_a_record_without_a_tag_has_tag_0() -> None:
    tagged = packet("nattag.ipf")
    assert fits("logtag = 0", packet()) and not fits("logtag = 1", packet())
    assert not fits("logtag = 0", msgspec.structs.replace(tagged, extra={"fl_logtag": 9}))
    assert fits("logtag = 0", msgspec.structs.replace(tagged, extra=None))
    assert not fits("nattag = x", msgspec.structs.replace(tagged, extra=None))


def bits(text: str) -> str:
    """An address as its binary digits."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return "".join(f"{octet:08b}" for octet in socket.inet_pton(family, text))


ADDRESSES = st.ip_addresses().map(str)


@effort.examples(300)
@given(st.data(), ADDRESSES, st.sampled_from(["srcip", "dstip"]))
def test_a_prefix_is_for_the_addresses_that_begin_with_it(
    data: st.DataObject, prefix: str, name: str
) -> None:
    width = len(bits(prefix))
    length = data.draw(st.integers(0, width))
    other = data.draw(ADDRESSES)
    # one that differs in one bit only
    at = data.draw(st.integers(0, width - 1))
    flipped = list(bits(prefix))
    flipped[at] = "10"[int(flipped[at])]
    octets = int("".join(flipped), 2).to_bytes(width // 8)
    near = socket.inet_ntop(socket.AF_INET6 if width == 128 else socket.AF_INET, octets)
    criterion = rule(f"{name} = {prefix}/{length}")
    for address in (prefix, other, near):
        same = len(bits(address)) == width and bits(address)[:length] == bits(prefix)[:length]
        field = "saddr" if name == "srcip" else "daddr"
        record = msgspec.structs.replace(packet(), saddr=None, daddr=None)
        assert not criterion.matches(record, 0.0)
        # as records have it: ::ffff:0.0.0.0, not ::ffff:0:0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        spelt = socket.inet_ntop(family, socket.inet_pton(family, address))
        record = msgspec.structs.replace(record, **{field: spelt})
        assert criterion.matches(record, 0.0) == same
    assert not criterion.matches(msgspec.structs.replace(packet(), saddr=None, daddr=None), 0.0)


@pytest.mark.parametrize("length", range(33))
def test_a_dotted_mask_is_its_prefix_length(length: int) -> None:
    mask = socket.inet_ntoa(((0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF).to_bytes(4))
    for form in (mask, str(length)):
        found = rule(f"dstip = 198.51.100.23/{form}")
        for other in range(32):
            address = socket.inet_ntoa((0xC6336417 ^ 1 << other).to_bytes(4))
            record = msgspec.structs.replace(packet(), daddr=address)
            assert found.matches(record, 0.0) == (length <= 31 - other)


def test_an_ipv6_record_matches_as_any_other() -> None:
    record = msgspec.structs.replace(
        packet(), family="ipv6", protocol=58, saddr="2001:db8::17", daddr="ff02::1",
        sport=None, dport=None,
    )  # fmt: skip
    assert fits("srcip = 2001:db8::/32, dstip = ff02::1, protocol = icmpv6", record)
    assert not fits("srcip = 2001:db8:1::/48", record)
    assert not fits("srcip = 0.0.0.0/0", record) and not fits("dstport = 0", record)
    assert fits("srcip = ::/0", record) and not fits("srcip = ::/0", packet())


def test_a_services_name_is_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getservbyname", {"domain": 53}.__getitem__)
    assert fits("srcport = domain", msgspec.structs.replace(packet(), sport=53))
    assert not fits("dstport = domain", msgspec.structs.replace(packet(), dport=54))


def test_all_criteria_of_a_rule_must_fit() -> None:
    both = rule("direction = in, dstport = 80")
    found = [r for r in records() if both.matches(r, 0.0)]
    single = [{id(r) for r in records() if fits(c, r)} for c in ("direction = in", "dstport = 80")]
    assert {id(r) for r in found} == single[0] & single[1] and found
    assert single[0] != single[1]


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ("direction = sideways", "'sideways', but expected in or out"),
        ("direction = IN", "'IN', but expected in or out"),
        ("direction = in out", "'out', but expected ';'"),
        ("direction in", "'in', but expected '='"),
        ("direction = ;", "';', but expected a value"),
        ("type = ipx", "'ipx', but expected ipf or nat or state"),
        ("result = short", "'short', but expected pass or block or nomatch or log"),
        ("rule = -1", "'-1', but expected a number, at most 4294967295"),
        ("rule = 4294967296", "'4294967296', but expected a number, at most 4294967295"),
        ("rule = 0x10", "'0x10', but expected a number, at most 4294967295"),
        ("rule = 1_0", "'1_0', but expected a number"),
        ("logtag = 4294967296", "'4294967296', but expected a number, at most 4294967295"),
        ("logtag = a", "'a', but expected a number, at most 4294967295"),
        ('logtag = ""', "but expected a number, at most 4294967295"),
        ("protocol = 256", "'256', but expected a number, at most 255"),
        ("protocol = nosuch", "'nosuch', but expected a protocol's number or name"),
        ('protocol = ""', "but expected a protocol's number or name"),
        ("srcport = 65536", "'65536', but expected a number, at most 65535"),
        ("dstport = nosuch-service", "'nosuch-service', but expected a port's number, or the name"),
        ('dstport = ""', "but expected a port's number, or the name of a service"),
        ("srcip = any", "'any', but expected an address"),
        ("srcip = 1.2.3", "'1.2.3', but expected an address"),
        ("srcip = 1.2.3.256", "'1.2.3.256', but expected an address"),
        ("srcip = 1.2.3.4/33", "'1.2.3.4/33', but expected an address"),
        ("srcip = 1.2.3.4/", "'1.2.3.4/', but expected an address"),
        ("srcip = 1.2.3.4/255.0.255.0", "'1.2.3.4/255.0.255.0', but expected an address"),
        ("dstip = ::1/129", "'::1/129', but expected an address"),
        ("dstip = ::1/ffff::", "'::1/ffff::', but expected an address"),
        ("dstip = 16909060", "'16909060', but expected an address"),
        ('dstip = ""', "but expected an address, with / and a prefix length or mask"),
        ("colour = red", "'colour', but expected a criterion: direction, interface, group, rule,"),
        ('"direction" = in', "'direction', but expected a criterion"),
        ("rule = 1, rule = 2", "'rule', but expected each criterion once"),
        ("every packet, every 2 seconds", "'every', but expected each criterion once"),
        ("every 0 packets", "'0', but expected a number above 0"),
        ("every 000 seconds", "'000', but expected a number above 0"),
        ("every -1 packets", "'-1', but expected packets or seconds"),
        ("every 1.5 seconds", "'1.5', but expected packets or seconds"),
        ("every 3 hours", "'hours', but expected packets or seconds"),
        ("every = 3", "'=', but expected packets or seconds"),
        ("every", "';', but expected packets or seconds"),
        ("", "';', but expected a criterion"),
        ("rule = 1,", "';', but expected a criterion"),
    ],
)  # fmt: skip
def test_a_wrong_criterion_is_refused_in_a_sentence(criterion: str, message: str) -> None:
    assert message in refusal(f"match {{ {criterion} ; }} do {{ nothing ; }} ;")


@pytest.mark.parametrize(
    "digits", ["²", "٣", "\N{FULLWIDTH DIGIT THREE}", "9" * 400, "9" * 5000, "1" + "0" * 100_000]
)
@pytest.mark.parametrize("name", ["rule", "logtag", "protocol", "srcport", "dstport"])
def test_a_number_is_one_in_ascii_that_can_be(name: str, digits: str) -> None:
    assert refusal(f"match {{ {name} = {digits} ; }} do {{ nothing ; }} ;").startswith("fw.conf:1:")


@pytest.mark.parametrize("digits", ["²", "٣", "\N{FULLWIDTH DIGIT THREE}", "9" * 5000])
def test_every_takes_a_number_in_ascii_that_can_be(digits: str) -> None:
    assert refusal(f"match {{ every {digits} packets ; }} do {{ nothing ; }} ;").startswith("fw.")


# every


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        ("every packet", 1, "packets"),
        ("every 1 packet", 1, "packets"),
        ("every 3 packets", 3, "packets"),
        ("every second", 1, "seconds"),
        ("every 60 seconds", 60, "seconds"),
    ],
)
def test_every_has_a_count_and_a_unit(text: str, count: int, unit: str) -> None:
    found = rule(text)
    assert (found.every, found.unit, found.every_given, found.criteria) == (count, unit, True, {})
    assert not rule("direction = in").every_given


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_one_of_n_packets_is_let_through(count: int) -> None:
    found = rule(f"every {count} packets")
    assert [found.matches(packet(), 0.0) for _ in range(4 * count)] == 4 * (
        [True] + [False] * (count - 1)
    )


def test_one_in_n_seconds_is_let_through() -> None:
    found = rule("every 10 seconds")
    times = (0.0, 0.0, 9.9, 10.0, 10.1, 19.9, 20.0, 500.0, 509.9, 510.0)
    through = [moment for moment in times if found.matches(packet(), moment)]
    assert through == [0.0, 10.0, 20.0, 500.0, 510.0]


def test_a_record_that_does_not_fit_is_not_counted() -> None:
    inward, outward = packet(), msgspec.structs.replace(packet(), direction="out")
    counted = rule("direction = in, every 2 packets")
    stream: list[Record] = [outward, inward, outward, inward, outward, outward, inward, inward]
    assert [counted.matches(r, 0.0) for r in stream] == [False, True, *[False] * 4, True, False]
    timed = rule("every 5 seconds, direction = in")
    assert not timed.matches(outward, 0.0) and timed.matches(inward, 1.0)
    assert not timed.matches(inward, 5.9) and timed.matches(inward, 6.0)


def test_each_rule_counts_for_itself() -> None:
    one, two = parse("match { every 2 packets ; } do { nothing ; } ;" * 2)
    assert one.matches(packet(), 0.0) and not one.matches(packet(), 0.0)
    assert two.matches(packet(), 0.0)


# Actions


@pytest.mark.parametrize(
    ("text", "kind", "argument"),
    [
        ('save "file:///var/log/fw"', "file", "/var/log/fw"),
        ('save("file://fw.log")', "file", "fw.log"),
        ('save "raw:///var/log/fw.bin"', "raw", "/var/log/fw.bin"),
        ('save ( "raw://fw.bin" )', "raw", "fw.bin"),
        ("save file:///var/log/fw", "file", "/var/log/fw"),
        ('file("/var/log/fw log")', "file", "/var/log/fw log"),
        ('file "/var/log/fw"', "file", "/var/log/fw"),
        ('file("raw:///var/log/fw.bin")', "raw", "/var/log/fw.bin"),
        ('file("file:///var/log/fw")', "file", "/var/log/fw"),
        ("syslog", "syslog", ""),
        ('syslog "local3.warning"', "syslog", "local3.warning"),
        ('syslog("daemon.err")', "syslog", "daemon.err"),
        ("syslog(auth.panic)", "syslog", "auth.panic"),
        ('execute "mail -s fw root; # now"', "execute", "mail -s fw root; # now"),
        ('execute("/bin/true")', "execute", "/bin/true"),
        ("execute /bin/true", "execute", "/bin/true"),
        ("nothing", "nothing", ""),
    ],
)
def test_an_action_has_its_argument_in_brackets_or_not(text: str, kind: str, argument: str) -> None:
    assert actions(text) == [Action(kind, argument)]


def test_the_actions_of_a_rule_keep_their_order() -> None:
    assert actions('nothing, file("a"), syslog, file("a")') == [
        Action("nothing", ""), Action("file", "a"), Action("syslog", ""), Action("file", "a"),
    ]  # fmt: skip


def test_every_facility_and_level_may_be_named() -> None:
    for facility, level in itertools.product(FACILITIES, LEVELS):
        assert actions(f'syslog "{facility}.{level}"') == [Action("syslog", f"{facility}.{level}")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "';', but expected an action: save, file, syslog, execute, nothing"),
        ("nothing,", "';', but expected an action"),
        ("mail", "'mail', but expected an action: save, file, syslog, execute, nothing"),
        ('"nothing"', "'nothing', but expected an action"),
        ("save", """';', but expected "file://PATH" or "raw://PATH\""""),
        ('save "/var/log/fw"', """'/var/log/fw', but expected "file://PATH" or "raw://PATH\""""),
        ('save "file://"', """'file://', but expected "file://PATH" or "raw://PATH\""""),
        ('save "raw://"', """'raw://', but expected "file://PATH" or "raw://PATH\""""),
        ('save "http://x"', "'http://x', but expected"),
        ('file "http://x"', "'http://x', but expected"),
        ("file", "';', but expected a path"),
        ('file("")', "but expected a path"),
        ("file()", "')', but expected a string"),
        ('file("x"', "';', but expected ')'"),
        ('file "x")', "')', but expected ';'"),
        ('file "x" "y"', "'y', but expected ';'"),
        ('syslog "local8.info"', "'local8.info', but expected FACILITY.LEVEL, as local0.info"),
        ('syslog "local0.loud"', "'local0.loud', but expected FACILITY.LEVEL"),
        ('syslog "local0."', "'local0.', but expected FACILITY.LEVEL"),
        ('syslog "local0"', "'local0', but expected FACILITY.LEVEL"),
        ('syslog "."', "'.', but expected FACILITY.LEVEL"),
        ("execute", "';', but expected a command"),
        ('execute ""', "but expected a command"),
        ('nothing "x"', "'x', but expected no argument"),
        ("load_action", "load_action is not supported"),
        ('load_action "x" "y"', "load_action is not supported"),
        ('send_trap "v1 public 192.0.2.1"', "send_trap is not supported"),
        ('send_trap("v2c public 192.0.2.1")', "send_trap is not supported"),
        ("nothing, send_trap", "send_trap is not supported"),
    ],
)
def test_a_wrong_action_is_refused_in_a_sentence(text: str, message: str) -> None:
    complete = f"match {{ direction = in ; }} do\n{{ {text} ; }} ;"
    assert refusal(complete).startswith("fw.conf:2: ") and message in refusal(complete)


@pytest.mark.parametrize("text", ['file("a\0b")', 'save "raw://a\0"', 'execute "a\0b"'])
def test_a_path_or_command_that_no_system_call_takes_is_refused(text: str) -> None:
    assert refusal(f"match {{ every packet ; }} do {{ {text} ; }} ;").startswith("fw.conf:1: ")


def test_what_is_not_supported_is_refused_by_name_between_rules_too() -> None:
    assert refusal('\nload_action local "/usr/lib/x.so" ;') == (
        "fw.conf:2: load_action is not supported"
    )


# Variables, comments, places


def test_a_variable_stands_for_its_value_afterwards() -> None:
    text = """
        nic = fxp0 ; where = "file:///var/log/a b" ; again = $where ;
        match { interface = $nic , group = "$nic" ; } do { save $again , save($where) ; } ;
        nic = em1 ;
        match { interface = $nic ; } do { nothing ; } ;
    """
    one, two = parse(text)
    assert {name: found.text for name, found in one.criteria.items()} == {
        "interface": "fxp0", "group": "$nic",
    }  # fmt: skip
    assert one.actions == [Action("file", "/var/log/a b")] * 2
    assert two.criteria["interface"].text == "em1"


@pytest.mark.parametrize("text", ["a = $b ;", "a = $a ;", "a = x ; b = $A ;", "a = x ; b = $ ;"])
def test_a_variable_must_be_set_before(text: str) -> None:
    assert refusal(text).endswith(", but expected the name of a variable set before")


def test_a_value_of_a_variable_is_checked_where_it_is_used() -> None:
    assert refusal("p = 70000 ;\nmatch { dstport =\n$p ; } do { nothing ; } ;") == (
        "fw.conf:3: '$p', but expected a number, at most 65535"
    )


def test_variables_do_not_swell() -> None:
    doubled = "".join(f"v{n + 1} = $v{n} ;" for n in range(5000))
    found = parse(f"v0 = x ; {doubled} match {{ group = $v5000 ; }} do {{ nothing ; }} ;")
    assert found[0].criteria["group"].text == "x"


def test_comments_and_white_space_may_stand_anywhere() -> None:
    plain = 'match { direction = in , every 2 packets ; } do { file("a#b") , nothing ; } ;'
    words = re.findall(r'"[^"]*"|[{}(),;=]|[^\s{}(),;=]+', plain)
    for gap in (" ", "\n", "\t\r\f\v", "\r\n", '# it\'s a "comment" ; }\n', "#\n#\n"):
        (found,) = parse(gap + gap.join(words) + gap)
        assert found.actions == [Action("file", "a#b"), Action("nothing", "")]
        assert found.every == 2 and list(found.criteria) == ["direction"]
    (tight,) = parse('match{direction=in,rule=1;}do{file("a"),save"raw://b"#c\n;};#')
    assert tight.actions == [Action("file", "a"), Action("raw", "b")]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing", "# nothing\n", "a = b ;"])
def test_a_configuration_may_have_no_rules(text: str) -> None:
    assert parse(text) == []


def test_a_rule_knows_its_line() -> None:
    text = '\n# "\nmatch { rule = 1 ; } do { nothing ; } ; x = "y" ;\r\n\r\nmatch\n{ rule = 2 ; }'
    assert [found.line for found in parse(f"{text} do {{ nothing ; }} ;")] == [3, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n;", "3: ';', but expected match or NAME = VALUE"),
        ('\n"x"', "2: 'x', but expected match or NAME = VALUE"),
        ("a\n", "2: end of file, but expected '='"),
        ("a = ", "1: end of file, but expected a value"),
        ("a = {", "1: '{', but expected a value"),
        ("a = b c", "1: 'c', but expected ';'"),
        ("match direction", "1: 'direction', but expected '{'"),
        ("match {", "1: end of file, but expected a criterion"),
        ("match { rule = 1 }", "1: '}', but expected ';'"),
        ("match { rule = 1 ; ; }", "1: ';', but expected '}'"),
        ("match { rule = 1 ; }\n\n{", "3: '{', but expected do"),
        ('match { rule = 1 ; } "do" {', "1: 'do', but expected do"),
        ("match { rule = 1 ; } do { nothing ; }", "1: end of file, but expected ';'"),
        ('a = "b', '1: a string that does not end: expected " before the end'),
        ('a = b ;\nc = "b\n" ;', '2: a string that does not end: expected " before the end'),
        ("match = 1 ;", "1: '=', but expected '{'"),
    ],
)
def test_an_error_names_file_line_found_and_expected(text: str, message: str) -> None:
    assert refusal(text).startswith(f"fw.conf:{message}")


@pytest.mark.parametrize("blank", ["\N{NO-BREAK SPACE}", "\u2028", "\x1c", "\x85", "\u3000"])
def test_a_blank_that_is_none_is_not_called_a_string(blank: str) -> None:
    message = refusal(f"match {{\n{blank}direction = in ; }} do {{ nothing ; }} ;")
    assert message.startswith("fw.conf:2: ") and "string" not in message


def test_an_error_is_a_value_error_without_a_name_too() -> None:
    with pytest.raises(ValueError, match=r"^ipmon\.conf:1: 'x', but expected '='$"):
        parse("a x")


# Any text


def outcome(text: str) -> list[Rule] | None:
    """The rules, or None where it is refused; the refusal is looked at."""
    try:
        return parse(text, "fw.conf")
    except ConfError as error:
        place = re.match(r"fw\.conf:(\d+): .", str(error))
        assert place is not None and 1 <= int(place[1]) <= text.count("\n") + 1
        return None


WORDS = [
    *"{}(),;=#\"\n $", "match", "do", "every", "packets", "second", "in", "direction", "rule",
    "srcip", "dstport", "10.0.0.0/8", "::1", "0", "7", "$a", "a", "nothing", "file", "syslog",
    '"file://x"', "save", "load_action", "\0", "²", "٣", "\udcff", "\N{NO-BREAK SPACE}", "\ufeff",
]  # fmt: skip


@effort.examples(400)
@given(st.text() | st.lists(st.sampled_from(WORDS)).map("".join))
@example("match { srcport = a\0b ; } do { nothing ; } ;")
@example("match { srcport = \udcff ; } do { nothing ; } ;")
@example('match { srcip = "\udcff" ; } do { nothing ; } ;')
@example("match { srcip = ::%/64 ; } do { nothing ; } ;")
def test_any_text_gives_rules_or_a_conf_error(text: str) -> None:
    outcome(text)


LONG: dict[str, tuple[str, int | None]] = {
    "brackets": ("{" * 200_000, None),
    "beginnings": ("match {" * 30_000, None),
    "quotes": ('"' * 300_001, None),
    "a string without an end": ('x = "' + "a" * 1_000_000, None),
    "a comment": ("#" * 1_000_000, 0),
    "lines": ("\n" * 200_000, 0),
    "variables": ("x = y ;" * 30_000, 0),
    "a word": ("match { interface = " + "a" * 1_000_000 + " ; } do { nothing ; } ;", 1),
    "an address": ("match { srcip = " + "1:" * 500_000 + " ; } do { nothing ; } ;", None),
    "rules": ("match { every packet ; } do { nothing ; } ;\n" * 4_000, 4_000),
    "actions": ("match { every packet ; } do { " + "nothing , " * 40_000 + "nothing ; } ;", 1),
}


@pytest.mark.parametrize("name", effort.sample(LONG, least=4))
def test_a_long_configuration_is_as_good_as_a_short_one(name: str) -> None:
    text, rules = LONG[name]
    found = outcome(text)
    assert (None if found is None else len(found)) == rules


# Configurations that are right


class Stated(NamedTuple):
    """A rule as it is to be parsed."""

    criteria: dict[str, str]
    actions: list[Action]
    every: tuple[int, str] | None


class Written(NamedTuple):
    """A configuration as text, what it says, and the lines of its rules."""

    text: str
    rules: list[Stated]
    lines: list[int]


NAMES = st.text("abcxyz019_-.:/%é\udcff'", min_size=1, max_size=8)
TEXTS = st.text("ab 0{}(),;=#$\t'/é\\", min_size=1, max_size=10)
NUMBERS = st.integers(0, 0xFFFFFFFF).map(str)
PORTS = st.integers(0, 65535).map(str)
NETWORKS = ADDRESSES.flatmap(
    lambda ip: st.integers(0, 128 if ":" in ip else 32).map(lambda n: f"{ip}/{n}") | st.just(ip)
) | st.just("10.2.0.0/255.255.0.0")
VALUES: dict[str, st.SearchStrategy[str]] = {
    "direction": st.sampled_from(["in", "out"]),
    "interface": NAMES | TEXTS,
    "group": NAMES | NUMBERS,
    "rule": NUMBERS,
    "result": st.sampled_from(["pass", "block", "nomatch", "log"]),
    "type": st.sampled_from(["ipf", "nat", "state"]),
    "protocol": st.integers(0, 255).map(str) | st.sampled_from([*PROTOCOLS.values(), "icmpv6"]),
    "srcip": NETWORKS,
    "dstip": NETWORKS,
    "srcport": PORTS,
    "dstport": PORTS,
    "logtag": NUMBERS,
    "nattag": NAMES | TEXTS,
}
PATHS = TEXTS.filter(lambda text: "://" not in text)
ACTIONS: st.SearchStrategy[tuple[str, str, Action]] = st.one_of(
    PATHS.map(lambda path: ("save", f"file://{path}", Action("file", path))),
    PATHS.map(lambda path: ("save", f"raw://{path}", Action("raw", path))),
    PATHS.map(lambda path: ("file", path, Action("file", path))),
    PATHS.map(lambda path: ("file", f"raw://{path}", Action("raw", path))),
    TEXTS.map(lambda text: ("execute", text, Action("execute", text))),
    st.tuples(st.sampled_from([*FACILITIES]), st.sampled_from([*LEVELS]))
    .map(".".join).map(lambda text: ("syslog", text, Action("syslog", text))),
    st.sampled_from(["syslog", "nothing"]).map(lambda name: (name, "", Action(name, ""))),
)  # fmt: skip
EVERY = st.tuples(st.integers(1, 10**6), st.sampled_from(["packets", "seconds"]))
CRITERIA = st.lists(st.sampled_from([*VALUES]), unique=True, max_size=5).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in names})
)
RULES = st.tuples(CRITERIA, st.none() | EVERY, st.lists(ACTIONS, min_size=1, max_size=4)).filter(
    lambda row: bool(row[0] or row[1])
)
GAPS = st.text(" \t\r\n\f\v", min_size=1, max_size=3) | st.text("ab #\"{};'", max_size=6).map(
    lambda comment: f"#{comment}\n"
)
MAYBE_GAPS = st.just("") | GAPS
SIGNS = frozenset("{}(),;=")


@st.composite
def configurations(draw: st.DrawFn) -> Written:
    """Configurations of random rules, written in random ways."""
    words: list[str] = []
    rules: list[Stated] = []
    stated = draw(st.lists(RULES, max_size=4))
    named: dict[str, str] = {}

    def written(value: str) -> str:
        """A value as a word, a string or a variable, which may be set anew for it."""
        as_word = value and not value.startswith("$") and re.fullmatch(r'[^\s{}(),;="#]+', value)
        existing = [f"${name}" for name, meant in named.items() if meant == value]
        return draw(st.sampled_from([f'"{value}"', *([value] if as_word else []), *existing]))

    for criteria, every, acts in stated:
        for value in draw(st.lists(st.sampled_from([*criteria.values(), *[a[1] for a in acts]]))):
            name = draw(st.sampled_from(["a", "b", "x-1", "do", "in"]))
            words += [name, "=", written(value), ";"]
            named[name] = value
        items: list[list[str]] = [[k, "=", written(v)] for k, v in criteria.items()]
        if every is not None:
            count, unit = every
            one = [unit.removesuffix("s")] if count == 1 and draw(st.booleans()) else None
            items.insert(draw(st.integers(0, len(items))), ["every", *(one or [str(count), unit])])
        words += ["match", "{", *joined(items), ";", "}", "do", "{"]
        items = []
        for verb, argument, _ in acts:
            if not argument:
                items.append(draw(st.sampled_from([[verb], [verb, '""'], [verb, "(", '""', ")"]])))
            elif draw(st.booleans()):
                items.append([verb, "(", written(argument), ")"])
            else:
                items.append([verb, written(argument)])
        words += [*joined(items), ";", "}", ";"]
        rules.append(Stated(criteria, [action for _, _, action in acts], every))
    text, lines = draw(MAYBE_GAPS), []
    for number, word in enumerate(words):
        if word == "match" and words[number + 1] == "{":
            lines.append(text.count("\n") + 1)
        follower = words[number + 1] if number + 1 < len(words) else ";"
        apart = {word, follower} & SIGNS or '"' in (word[0], follower[0])
        text += word + draw(MAYBE_GAPS if apart else GAPS)
    return Written(text, rules, lines)


def joined(items: list[list[str]]) -> Iterator[str]:
    """The words of items with commas between them."""
    for number, item in enumerate(items):
        if number:
            yield ","
        yield from item


def stated(found: Rule) -> Stated:
    """What a rule was parsed to."""
    return Stated(
        {name: criterion.text for name, criterion in found.criteria.items()},
        found.actions,
        (found.every, found.unit) if found.every_given else None,
    )


@effort.examples(150)
@given(configurations())
def test_what_was_written_is_what_is_parsed(written: Written) -> None:
    found = parse(written.text)
    assert [stated(rule) for rule in found] == written.rules
    assert [rule.line for rule in found] == written.lines


@effort.examples(60)
@given(configurations(), st.data())
def test_a_beginning_of_a_configuration_has_its_first_rules(
    written: Written, data: st.DataObject
) -> None:
    for _ in range(10):
        found = outcome(written.text[: data.draw(st.integers(0, len(written.text)))])
        if found is not None:
            assert [stated(rule) for rule in found] == written.rules[: len(found)]


WHOLE = """nic = "fxp0" ; # the outer one
match { direction = in , interface = $nic , srcip = 10.0.0.0/8 , dstip = ::1/64 , every 5 seconds ;
} do { save "raw://a b" , syslog("local0.info") , execute "cat" ; } ;
match { protocol = tcp , dstport = 80 , result = block , logtag = 7 ; } do { nothing , file x ; } ;
"""


def test_every_beginning_of_a_configuration_is_rules_or_an_error() -> None:
    found = [outcome(WHOLE[:end]) for end in range(len(WHOLE) + 1)]
    counts = [len(rules) for rules in found if rules is not None]
    assert counts == sorted(counts) and set(counts) == {0, 1, 2}
    assert None in found


@pytest.mark.parametrize("change", ["put in", "put over", "left out"])
def test_every_change_of_one_character_is_rules_or_an_error(change: str) -> None:
    letters = "" if change == "left out" else '{}(),;="#$/:.\n \t0x\0\xa0²٣\udcff'
    refused = 0
    places = effort.sample(range(len(WHOLE)))
    for at in places:
        tail = WHOLE[at if change == "put in" else at + 1 :]
        for letter in letters or [""]:
            refused += outcome(WHOLE[:at] + letter + tail) is None
    assert refused > len(places) // 8


# Any record


@functools.cache
def kinds() -> tuple[Record, ...]:
    """Records of many fixtures, one of each sort."""
    every = (*records("ipl/*lp64*"), *records("nflog/*"))
    sorts: dict[object, Record] = {}
    for record in every:
        about = ("direction", "rule", "group", "indev", "family", "protocol", "action", "flow_type")
        fields = [getattr(record, name, None) for name in about]
        fields.append((getattr(record, "extra", None) or {}).get("fl_nattag"))
        sorts.setdefault((type(record), record.source, record.layout, *fields), record)
    return tuple(sorts.values())


PLAIN = {
    "direction": ["in", "out"], "interface": ["fxp0", "2"], "group": ["0", "5"],
    "rule": ["0", "3"], "result": ["pass", "nomatch"], "type": ["ipf", "state"],
    "protocol": ["tcp", "58"], "srcip": ["0.0.0.0/0", "::/0", "10.1.1.1"],
    "dstip": ["10.0.0.0/8", "fe80::/10"], "srcport": ["0", "53"], "dstport": ["80"],
    "logtag": ["0", "7"], "nattag": ["webfarm"],
}  # fmt: skip


def test_no_rule_raises_on_any_record() -> None:
    found = [rule(f"{name} = {value}") for name, values in PLAIN.items() for value in values]
    assert {name for one in found for name in one.criteria} == {*VALUES}
    matching: set[str] = set()
    for one in found:
        results = [one.matches(record, 0.0) for record in kinds()]
        assert {type(result) for result in results} == {bool}
        matching.update(one.criteria if any(results) else ())
    assert matching == {*VALUES}
    assert len(kinds()) > 300 and {r.source for r in kinds()} == {"ipl", "nflog"}


@effort.examples(80)
@given(configurations(), st.lists(st.integers(0, 10**6), min_size=5, max_size=5))
def test_no_random_rule_raises_on_a_record(written: Written, numbers: list[int]) -> None:
    for found in parse(written.text):
        for number in numbers:
            record = kinds()[number % len(kinds())]
            assert found.matches(record, float(number)) in (True, False)
