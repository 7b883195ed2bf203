"""The page of a report: well formed, closed to the outside, and hostile texts stay texts."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from functools import cache

import pytest
import reports

from pylog.record import escape

pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")

from pylog.report.page import ASSETS, CHARTS, asset, embedded, page

SUMS = {
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""SHA-256 of the files of uPlot 1.6.32, as in its npm package."""
VOID = {"meta", "input", "br", "link", "img", "hr"}


@cache
def made() -> str:
    """The page of a report with all its sections, and hostile texts wherever a log has texts."""
    return page(reports.report([*reports.traffic(500), *reports.others()], where=reports.HOSTILE,
                               logs=[reports.HOSTILE]))  # fmt: skip


class Parsed(html.parser.HTMLParser):
    """The elements of a page, with their attributes and texts.

    wrong   elements that are not closed in their order
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"/{tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)


def test_it_is_well_formed() -> None:
    parsed = Parsed(made())
    assert not parsed.wrong
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] or "" for tag, attributes in parsed.elements if tag == "a"]
    assert links and {link[1:] for link in links} <= set(ids)
    assert "{{" not in re.sub(r"\{\{ 7\*7 \}\}", "", made().partition("<script")[0])


def test_its_policy_allows_only_its_own_script_and_styles() -> None:
    parsed, text = Parsed(made()), made()
    (policy,) = [a["content"] for t, a in parsed.elements
                 if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    style = text[text.index("<style>") + 7 : text.index("</style>")]
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
              for part in (script, style)]  # fmt: skip
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}';"
        " base-uri 'none'; form-action 'none'"
    )
    assert "\r" not in text and "eval(" not in script and "innerHTML" not in script
    assert "<!--" not in script


def test_it_names_nothing_outside_and_has_no_code_in_attributes() -> None:
    for tag, attributes in Parsed(made()).elements:
        assert not {"src", "style", "action", "srcset"} & attributes.keys(), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_hostile_texts_stay_texts() -> None:
    parsed = Parsed(made())
    assert [t for t, _ in parsed.elements].count("script") == 2
    assert not [t for t, _ in parsed.elements if t == "b"]
    shown = escape(reports.HOSTILE)
    assert parsed.texts["bdi"].count(shown) >= 5
    assert made().count("\u202e") == 0
    (data,) = [json.loads("".join(parts)) for parts in [parsed.texts["script"][:1]]]
    assert shown in [label["text"] for label in data["timeline"]["labels"]]


def test_data_cannot_end_their_element() -> None:
    text = embedded({"a": "</script><!-- \u2028 & \u2029 ]]>"})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"a": "</script><!-- \u2028 & \u2029 ]]>"}


def test_the_tables_have_the_numbers_of_the_pictures() -> None:
    figures = reports.report([*reports.traffic(500), *reports.others()])
    text = page(figures)
    table = text[text.index('aria-label="Packets over time as a table"') :].partition("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">([\d-]+)</th><td class="n">([\d,]+)</td>', table)
    expected = {day["day"]: sum(day["packets"].values()) for day in figures["days"]}
    assert {day: int(count.replace(",", "")) for day, count in rows} == expected
    cells = re.findall(r'title="(\w+) (\d\d):00: ([\d,.]+) packets', text)
    means = [count / often for counts, hours in zip(figures["week"][0], figures["week_hours"],
             strict=True) for count, often in zip(counts, hours, strict=True)]  # fmt: skip
    assert [float(n.replace(",", "")) for _, _, n in cells[:168]] == pytest.approx(means, abs=0.06)
    for sentence in figures["summary"]:
        assert escape(sentence).split("<")[0][:40] in "".join(html_texts(text))


def html_texts(text: str) -> list[str]:
    """The sentences of the summary."""
    found = re.findall(r"<li(?: class=\"warn\")?>(.*?)</li>", text, re.S)
    return [html.unescape(re.sub(r"</?(?:strong|bdi)>", "", each)) for each in found]


def test_a_report_of_nothing_is_a_page() -> None:
    for records in ([], reports.others()):
        assert not Parsed(page(reports.report(records, "all"))).wrong


def test_uplot_is_unchanged_and_its_licence_is_in_the_page() -> None:
    assert set(CHARTS) == set(SUMS) and ASSETS == "assets"
    for name, expected in SUMS.items():
        assert hashlib.sha256(asset(name).encode()).hexdigest() == expected
    assert asset("uPlot.LICENSE").strip() in made()


def test_it_is_small() -> None:
    assert len(made()) < 500_000
