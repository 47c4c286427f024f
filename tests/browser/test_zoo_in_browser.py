"""The zoo page as it is used: sorted, searched, opened, compared, by mouse, keyboard and on a phone."""

import json
from pathlib import Path

import pytest
from sample_report import sample

from cascadezoo import registry
from cascadezoo.benchmarks.reports import zoo_page as module
from cascadezoo.benchmarks.reports.schema import EntryReport
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.reports.zoo_page import zoo_page

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
BEST = "cascade_mask_vitdet_h_75ep.detectron2"
CHEAP, DEAR = "cascade_r50_fpn_1x.mmdet", "cascade_r101_fpn_1x.mmdet"
NAMES = "#entries tbody tr:not([hidden]) th a"


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "zoo.html"
    path.write_text(zoo_page({}))
    return path


def names(page) -> list[str]:
    return [link.get_attribute("href").removeprefix("#") for link in page.locator(NAMES).all()]


def head(page, label: str):
    return page.locator("#entries thead button", has_text=label).first


def test_it_opens_with_the_highest_box_ap_first(opened, path: Path) -> None:
    with opened(path) as page:
        shown = names(page)
        assert (len(shown), shown[0]) == (110, BEST)
        assert shown[-1] == "cascade_mask_r18_fpn_shapes.cascadezoo"  # its AP is on other data
        assert page.locator("#entries th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_a_click_on_a_heading_sorts_and_another_one_turns_it_round(opened, path: Path) -> None:
    with opened(path) as page:
        head(page, "GFLOPs").click()
        by_cost = names(page)
        assert page.locator("#entries th[aria-sort]").inner_text().startswith("GFLOPs")
        head(page, "GFLOPs").click()
        assert page.locator("#entries th[aria-sort]").get_attribute("aria-sort") == "ascending"
        flops = [int(row.get_attribute("data-flops")) for row in page.locator("#entries tbody tr").all()]
        assert flops == sorted(flops)
        assert names(page)[0] == by_cost[-1] == "cascade_mask_r18_fpn_shapes.cascadezoo"
        head(page, "Entry").click()
        bare = [name.rpartition(".")[0] for name in names(page)]
        assert (bare[0], bare[-1]) == (min(bare), max(bare))


def test_filters_leave_what_fits(opened, path: Path) -> None:
    with opened(path) as page:
        page.fill("#search", "x101 64x4d")
        assert set(names(page)) == set(registry.list_models("*x101*64x4d*"))
        page.check("#masks")
        assert set(names(page)) == set(registry.list_models("*x101*64x4d*", masks=True))
        page.check("#available")
        page.select_option('[data-filter="publisher"]', "detectron")
        wanted = registry.list_models("*x101*64x4d*", publisher="detectron", masks=True, available=True)
        assert set(names(page)) == set(wanted)
        assert page.inner_text("#shown") == f"{len(wanted)} of 110 entries"
        page.click("#reset")
        assert len(names(page)) == 110
        page.fill("#least", "50")
        wanted = [e for e in registry.entries() if e.data == "coco" and e.evaluations[-1].box_ap >= 50]
        assert set(names(page)) == {entry.name for entry in wanted}
        assert {entry.publisher for entry in wanted} == {"mmdet", "internimage", "swin", "convnext", "detectron2"}
        page.fill("#search", "nothing of this name")
        assert names(page) == []
        assert "No entry that is shown" in page.inner_text("#chart")


def test_an_entry_opens_from_its_row_from_the_guide_and_by_its_address(opened, path: Path) -> None:
    with opened(path) as page:
        page.locator(NAMES).first.click()
        section = page.locator(f'[id="{BEST}"]')
        assert section.get_attribute("open") is not None
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert "arXiv:2203.16527" in section.inner_text()
    with opened(path, f"#{CHEAP}") as page:
        assert page.locator(f'[id="{CHEAP}"] > div').is_visible()
        assert page.locator(f'[id="{DEAR}"] > div').is_hidden()


def test_two_entries_are_compared(opened, path: Path) -> None:
    with opened(path) as page:
        for name in (CHEAP, DEAR):
            page.check(f'tr[data-name="{name}"] .pick input')
        assert page.locator(f'tr[data-name="{BEST}"] .pick input').is_disabled()
        page.click("#compare")
        dialog = page.locator("#comparison")
        assert dialog.is_visible()
        lines = {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in
                 dialog.locator("tbody tr").all()}  # fmt: skip
        assert lines["Box AP"] == ["40.3", "42.0", "+1.7"]
        assert lines["GFLOPs"][2].startswith("× 1.")
        assert dialog.locator(".better").first.inner_text() == "42.0"
        page.keyboard.press("Escape")
        assert dialog.is_hidden()
        page.click("#drop")
        assert page.locator("#chosen").is_hidden()


def test_the_chart_shows_what_the_table_shows_and_a_front_that_nothing_beats(opened, path: Path) -> None:
    with opened(path) as page:
        assert page.locator("#chart .point").count() == 109  # all but that on drawn shapes
        assert page.locator("#chart .point.none").count() == 4
        told = page.inner_text("#said")
        assert told.startswith("109 entries are drawn.")
        front = [item.split(" (")[0] for item in told.split("cheapest: ")[1].removesuffix(").").split("), ")]
        rows = json.loads(page.evaluate("JSON.stringify(rows.map((r) => ({...r.dataset})))"))
        usable = {r["name"]: (int(r["flops"]), float(r["box"])) for r in rows if r["box"] and r["available"] == "1"}
        beaten = {a for a, (f, ap) in usable.items() for g, other in usable.values()
                  if g <= f and other >= ap and (g, other) != (f, ap)}  # fmt: skip
        assert {usable[name] for name in front} == {usable[name] for name in usable.keys() - beaten}
        page.check("#masks")
        assert page.locator("#chart circle.point").count() == 0
        page.select_option("#figure", "mask")
        assert page.locator("#chart").get_by_text("mask AP, published").count() == 1


def test_speeds_follow_the_conditions_that_are_chosen(opened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    first, second = sample(), sample()
    machine = second.machines[0].model_copy(update={"device": "another"})
    entry = second.entries[1]
    (batch,) = entry.speed.timing.batches
    timing = entry.speed.timing.model_copy(update={"batches": (batch.model_copy(update={"fps": 99.0}),)})
    entry = entry.model_copy(update={"speed": entry.speed.model_copy(update={"timing": timing})})
    second = second.model_copy(update={"machines": (machine,), "entries": (entry,)})
    path = tmp_path / "zoo.html"
    path.write_text(zoo_page({"one": first, "two": second}))
    with opened(path) as page:
        cell = page.locator('tr[data-name="cascade_mask_r50_fpn_3x.mmdet"] [data-speed]')
        assert cell.inner_text() == "12.5"
        page.select_option("#conditions", "1")
        assert cell.inner_text() == "99.0"
        page.select_option("#axis", "speed")
        assert page.locator("#chart .point").count() == 1


def test_the_keyboard_is_enough(opened, path: Path) -> None:
    with opened(path) as page:
        page.locator("#chart svg").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        name = page.locator(".tip b").inner_text()
        assert name in page.inner_text("#said")
        page.keyboard.press("Enter")
        assert page.locator(f'[id="{name}"] > div').is_visible()
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        head(page, "Mask AP").focus()
        page.keyboard.press("Enter")
        assert page.locator("#entries th[aria-sort]").inner_text().startswith("Mask AP")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_contrast_in_light_and_dark(opened, path: Path, scheme: str) -> None:
    """WCAG's 4.5 to 1 for every text's colour on its ground."""
    with opened(path, color_scheme=scheme) as page:
        low = page.evaluate(
            """() => {
              const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
              const rgb = (colour) => {
                canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data];
              };
              const light = (c) => c.slice(0, 3).map((v) => v / 255)
                .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
              const ground = (e) => {
                for (let at = e; at; at = at.parentElement) {
                  const c = rgb(getComputedStyle(at).backgroundColor);
                  if (c[3] === 255) return c;
                }
              };
              return [...document.querySelectorAll("body *")]
                .filter((e) => !["SCRIPT", "STYLE"].includes(e.tagName))
                .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
                .filter((e) => !e.disabled && !(e instanceof SVGElement))
                .map((e) => {
                  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
                  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80)];
                })
                .filter(([ratio]) => ratio < 4.5);
            }"""
        )
        assert low == []


def test_a_phone_needs_no_scrolling_sideways(opened, path: Path) -> None:
    with opened(path, f"#{BEST}", viewport=PHONE, is_mobile=True, has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.select_option("#order", label="GFLOPs, lowest first")
        assert names(page)[0] == "cascade_mask_r18_fpn_shapes.cascadezoo"
        page.locator("#entries tbody .pick input").first.tap()
        assert page.locator("#chosen").is_visible()


def test_every_control_has_a_name(opened, path: Path) -> None:
    with opened(path) as page:
        for control in page.locator("input:visible, select:visible, button:visible, svg[tabindex]").all():
            assert control.evaluate("e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent").strip()


def test_without_scripts_all_figures_are_there(opened, path: Path) -> None:
    with opened(path, java_script_enabled=False) as page:
        assert page.locator("#entries tbody tr").count() == 110
        assert page.locator("noscript p").is_visible()


def test_hostile_names_run_nothing(opened, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>\"'><svg onload=alert(2)>"
    report = sample()
    machine = report.machines[0].model_copy(update={"device": evil})
    stranger = EntryReport(name=evil, verdict=Verdict.PASS)
    report = report.model_copy(update={"machines": (machine,), "entries": (*report.entries, stranger)})
    path = tmp_path / "evil.html"
    path.write_text(zoo_page({evil: report}))
    with opened(path) as page:
        assert len(names(page)) == 110
        assert evil in page.inner_text("main")
        page.check('tr[data-name="cascade_mask_r50_fpn_3x.mmdet"] .pick input')
        page.check(f'tr[data-name="{BEST}"] .pick input')
        page.click("#compare")
        assert page.locator("img").count() == 0
