"""Reports in Chromium: they ask for nothing, say nothing on the console, draw the numbers, and can
be used by keyboard, on a phone, in the dark, on paper and with a screen reader.

axe-core, which checks for the last, is taken from the folder that PYLOG_AXE names (npm install
axe-core).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import reports

from pylog.report.page import page

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(os.environ.get("PYLOG_AXE", "node_modules/axe-core")) / "axe.min.js"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.xdist_group("chromium"),
]


@cache
def figures() -> dict[str, Any]:
    return reports.report([*reports.traffic(2000), *reports.others()], where=reports.HOSTILE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(figures()))
    return path


class Opened:
    """A page in a window, with what it said and asked for."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        size = {"width": settings.pop("width", 1280), "height": 900}
        self._context = browser.new_context(viewport=size, **settings)
        self.page = self._context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def value(self, script: str) -> Any:
        """What a script gives."""
        return self.page.evaluate(script)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_asks_for_nothing_and_says_nothing(browser: Any, path: Path, scheme: str) -> None:
    with Opened(browser, path, color_scheme=scheme) as opened:
        opened.page.mouse.move(500, 500)
        assert opened.requests == [path.as_uri()]
        assert opened.said == []
        assert opened.value("document.documentElement.dataset.drawn") == "4"
        assert opened.value("document.querySelectorAll('script').length") == 2


def test_the_pictures_have_the_numbers(browser: Any, path: Path) -> None:
    made = figures()
    with Opened(browser, path) as opened:
        xs, *heaps = opened.value("document.getElementById('traffic').plot.data")
        axis = made["timeline"]
        assert xs[0] == axis["start"] and len(xs) == axis["buckets"] + 1
        assert heaps[0][:-1] == [sum(counts) for counts in zip(*axis["packets"], strict=True)]
        assert heaps[-1][:-1] == axis["packets"][0]
        drawn = opened.value("document.getElementById('fireplot').plot.drawn")
        assert drawn == sum(cell[2] for cell in made["fireplot"]["cells"])
        opened.page.get_by_label("blocked", exact=True).check()
        drawn = opened.value("document.getElementById('fireplot').plot.drawn")
        assert drawn == sum(cell[3] for cell in made["fireplot"]["cells"])
        flows = opened.value("document.getElementById('flows-begun').plot.data[1]")
        begun = ("connections begun", "translations begun")
        assert sum(flows[:-1]) == sum(made["flows"]["totals"][name] for name in begun)


def test_what_is_drawn_stands_where_it_belongs(browser: Any, path: Path) -> None:
    """The pixels in the lowest part of the highest bar have its colour, those above have not."""
    made = figures()
    axis = made["timeline"]
    totals = [sum(counts) for counts in zip(*axis["packets"], strict=True)]
    bucket = max(range(len(totals)), key=totals.__getitem__)
    with Opened(browser, path) as opened:
        pixel = """([second, value]) => {
            const plot = document.getElementById("traffic").plot;
            const [x, y] = [plot.valToPos(second, "x", true), plot.valToPos(value, "y", true)];
            return [...plot.ctx.getImageData(Math.round(x), Math.round(y), 1, 1).data];
        }"""
        second = axis["start"] + (bucket + 0.5) * axis["width"]
        reach = 5 * axis["width"]  # so that a bucket is wider than a pixel
        opened.page.evaluate(
            "([min, max]) => document.getElementById('traffic').plot.setScale('x', {min, max})",
            [second - reach, second + reach],
        )
        first = axis["packets"][0][bucket]
        low = opened.page.evaluate(pixel, [second, first / 2])
        high = opened.page.evaluate(pixel, [second, totals[bucket] * 1.04])
        colour = opened.value(
            "getComputedStyle(document.documentElement).getPropertyValue('--' + "
            "JSON.parse(document.getElementById('data').textContent).timeline.labels[0].colour)"
        )
        assert low[:3] == [int(colour.strip()[i : i + 2], 16) for i in (1, 3, 5)]
        assert high[:3] != low[:3]


def test_a_legend_leaves_a_line_out_and_zoom_is_shared(browser: Any, path: Path) -> None:
    made = figures()
    axis = made["timeline"]
    with Opened(browser, path) as opened:
        opened.page.locator("#traffic .legend button").first.click()
        top = opened.value("document.getElementById('traffic').plot.data[1]")
        assert top[:-1] == [sum(counts) for counts in zip(*axis["packets"][1:], strict=True)]
        opened.page.locator("#traffic button[data-move=in]").click()
        scales = opened.value(
            "[...document.querySelectorAll('figure')].map(f => f.plot.scales.x)"
            ".map(x => [x.min, x.max])"
        )
        assert len(scales) == 4 and scales.count(scales[0]) == 4
        assert scales[0][1] - scales[0][0] < axis["width"] * axis["buckets"] * 0.6
        opened.page.locator("#traffic button[data-move=all]").click()
        low, high = opened.value(
            "(({min, max}) => [min, max])(document.getElementById('traffic').plot.scales.x)"
        )
        assert (low, high) == (axis["start"], axis["start"] + axis["width"] * axis["buckets"])


def test_it_is_read_by_keyboard(browser: Any, path: Path) -> None:
    made = figures()
    axis = made["timeline"]
    with Opened(browser, path) as opened:
        opened.page.locator("#traffic .plot").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
            opened.page.keyboard.press(key)
        shown = opened.page.locator("#traffic output").inner_text()
        label, count = axis["labels"][0], axis["packets"][0][2]
        assert f"{label} {count}" in shown, shown
        opened.page.locator("#fireplot .plot").focus()
        opened.page.keyboard.press("End")
        opened.page.keyboard.press("ArrowUp")
        assert re.search(
            r"ports? \d+.*: \d+ packets", opened.page.locator("#fireplot output").inner_text()
        )
        opened.page.keyboard.press("+")
        assert opened.said == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_has_nothing_against_it(browser: Any, path: Path, scheme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip("needs axe-core, see PYLOG_AXE")
    with Opened(browser, path, color_scheme=scheme, width=width, bypass_csp=True) as opened:
        opened.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        opened.value(AXE.read_text() + "; undefined")
        result = opened.value("axe.run(document)")
        assert len(result["passes"]) > 30
        assert [(each["id"], each["nodes"][0]["html"]) for each in result["violations"]] == []


def test_it_fits_a_phone(browser: Any, path: Path) -> None:
    with Opened(browser, path, width=390, is_mobile=True, has_touch=True) as opened:
        assert opened.value("document.documentElement.scrollWidth") == 390
        small = opened.value(
            "[...document.querySelectorAll('.zoom button')].filter(b => b.offsetHeight < 24).length"
        )
        assert small == 0


def test_without_script_it_has_tables(browser: Any, path: Path) -> None:
    with Opened(browser, path, java_script_enabled=False) as opened:
        assert not opened.page.locator(".plot").first.is_visible()
        assert not opened.page.locator(".zoom").first.is_visible()
        opened.page.locator("#traffic-section summary").click()
        rows = opened.page.locator("#traffic-section tbody tr")
        assert rows.count() == len(figures()["days"]) and rows.first.is_visible()
        assert opened.page.locator(".week").first.is_visible()


def test_it_prints_on_a4_in_light_colours(browser: Any, path: Path) -> None:
    with Opened(browser, path, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print", color_scheme="dark")
        printed = opened.page.pdf(prefer_css_page_size=True, print_background=True)
        sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
        assert sizes and {(round(float(w)), round(float(h))) for w, h in sizes} == {(595, 842)}
        assert 2 <= len(sizes) <= 12
        assert (
            opened.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
