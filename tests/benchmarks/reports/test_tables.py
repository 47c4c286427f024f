"""Reports as tables for programs, papers and pages."""

import csv
import io

import pytest
from sample_report import accuracy_of, report_of, sample

from cascadezoo.benchmarks.reports.schema import EntryReport, GivenWeights
from cascadezoo.benchmarks.reports.tables import csv_table, latex, latex_table, markdown_table


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_for_each_evaluation_with_all_that_is_known() -> None:
    first, second, third = rows(csv_table({"night": sample()}))
    assert list(first) == [
        "report", "entry", "weights", "evaluation",
        "box AP", "box published", "box AP50", "box AP75", "box APs", "box APm", "box APl",
        "mask AP", "mask published", "mask AP50", "mask AP75", "mask APs", "mask APm", "mask APl",
        "fps batch 1", "verdict", "images", "device", "precision", "evaluator", "version",
    ]  # fmt: skip
    assert {name: text for name, text in first.items() if text} == {
        "report": "night", "entry": "cascade_mask_r50_fpn_1x.mmdet", "evaluation": "plain", "box AP": "41.250",
        "box published": "41.2", "mask AP": "30.000", "mask published": "35.9", "verdict": "FAIL", "images": "5000",
        "device": "AMD EPYC", "precision": "fp32", "evaluator": "pycocotools 2.0.11", "version": "0.1.0",
    }  # fmt: skip
    assert (second["evaluation"], second["verdict"]) == ("test-time augmentation, later figures", "SKIPPED")
    assert (second["box AP"], second["images"], second["fps batch 1"]) == ("", "", "")
    assert (third["entry"], third["fps batch 1"]) == ("cascade_mask_r50_fpn_3x.mmdet", "12.50")


def test_several_reports_are_told_apart() -> None:
    both = rows(csv_table({"one": sample(), "two": sample()}))
    assert [row["report"] for row in both] == ["one"] * 3 + ["two"] * 3
    assert markdown_table({"one": sample(), "two": sample()}).startswith("| report | entry |")


def test_latex_is_a_booktabs_table() -> None:
    """Columns that are empty everywhere are left out, and so is the only report's name."""
    report = sample()
    report = report.model_copy(update={"entries": report.entries[1:]})
    assert latex_table({"night": report}) == "\n".join(
        (
            r"% needs \usepackage{booktabs}",
            r"\begin{tabular}{lrrrrr}",
            r"\toprule",
            r" & \multicolumn{2}{c}{box} & \multicolumn{2}{c}{mask} & \multicolumn{1}{c}{fps} \\",
            r"\cmidrule(lr){2-3} \cmidrule(lr){4-5} \cmidrule(lr){6-6}",
            r"entry & AP & published & AP & published & batch 1 \\",
            r"\midrule",
            r"cascade\_mask\_r50\_fpn\_3x.mmdet & 41.25 & 41.2 & 35.95 & 35.9 & 12.50 \\",
            r"\bottomrule",
            r"\end{tabular}",
            "",
        )
    )


def test_figures_by_threshold_and_size_are_subscripts_in_latex() -> None:
    figures = {"bbox": {"AP": 40.0, "AP50": 60.125, "AP75": 42.5, "APs": 20.0, "APm": 43.0, "APl": None}}
    lines = latex_table({"n": report_of(accuracy_of({"box_ap": "41.2"}, figures, "0.1"))}).splitlines()
    assert lines[5] == r"entry & AP & published & AP$_{50}$ & AP$_{75}$ & AP$_{s}$ & AP$_{m}$ \\"
    assert lines[7] == r"cascade\_mask\_r50\_fpn\_1x.mmdet & 40.00 & 41.2 & 60.13 & 42.50 & 20.00 & 43.00 \\"


def test_markdown_shows_the_same() -> None:
    lines = markdown_table({"night": sample()}).splitlines()
    assert lines[0] == ("| entry | evaluation | box AP | box published | mask AP | mask published | fps batch 1 |")
    assert lines[2] == "| cascade_mask_r50_fpn_1x.mmdet | plain | 41.25 | 41.2 | 30.00 | 35.9 |  |"
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % of a_b & c#1", r"50 \% of a\_b \& c\#1"),
        ("$x^2$ {y} ~", r"\$x\textasciicircum{}2\$ \{y\} \textasciitilde{}"),
        ("\\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a < b > c | d", r"a \textless{} b \textgreater{} c \textbar{} d"),
        ("two\n\nlines\x1b[0m", r"two lines[0m"),
        ('12" disc', r"12\textquotedbl{} disc"),
        ("naïve 検出", "naïve 検出"),
    ],
)
def test_text_from_anyone_is_printed_as_it_is(text: str, expected: str) -> None:
    assert latex(text) == expected


def test_names_from_anyone_stay_in_their_cell() -> None:
    given = GivenWeights(name="a,b\n& \\\\ |x|", sha256="c" * 64)
    report = sample()
    entry = report.entries[0].model_copy(update={"given": given, "name": 'say "cheese", 100%'})
    report = report.model_copy(update={"entries": (entry,)})
    first = rows(csv_table({"n": report}))[0]
    assert (first["entry"], first["weights"]) == ('say "cheese", 100%', f"given: {given.name}, sha256 {given.sha256}")
    [line] = [line for line in latex_table({"n": report}).splitlines() if "plain" in line]
    assert line.startswith(
        r"say \textquotedbl{}cheese\textquotedbl{}, 100\% & given: a,b \& \textbackslash{}\textbackslash{} \textbar{}x"
    )
    assert line.replace(r"\&", "").count("&") == 6


def test_an_entry_without_an_evaluation_has_its_speed() -> None:
    report = sample()
    only = EntryReport(name="x", verdict=report.entries[1].verdict, speed=report.entries[1].speed)
    [row] = rows(csv_table({"n": report.model_copy(update={"entries": (only,)})}))
    assert (row["entry"], row["evaluation"], row["fps batch 1"], row["box AP"]) == ("x", "plain", "12.50", "")
