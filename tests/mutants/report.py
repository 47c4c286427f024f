"""The report: mutants.json, every mutant a line, and mutants.md, what a reader wants of it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mutants.population import RULES, Mutant
from mutants.running import KILLED, SURVIVED, TIMED_OUT

EQUIVALENT = "equivalent"
GOAL = 0.90  # of the mutants of each room that are not equivalent
MOST_EQUIVALENT = 0.05


class EquivalentError(Exception):
    """equivalent.toml is not true."""


def name_equivalents(
    entries: Sequence[Mapping[str, str]], population: Sequence[Mutant], outcomes: Mapping[str, str]
) -> dict[str, str]:
    """The reason of each equivalent mutant, by its key.

    Raises:
        EquivalentError: an entry has no reason, fits no mutant of the population or one that a test killed, or the
            entries are more than 5 % of it.
    """
    reasons = {}
    for entry in entries:
        where = f"{entry['file']}: `{entry['before']}` -> `{entry['after']}`"
        change = (entry["file"], entry["before"], entry["after"])
        found = [mutant for mutant in population if (mutant.file, mutant.before, mutant.after) == change]
        if not entry.get("reason", "").strip():
            raise EquivalentError(f"{where} gives no reason: write one in equivalent.toml")
        if not found:
            raise EquivalentError(f"{where} fits no mutant: mend or remove it in equivalent.toml")
        if any(outcomes.get(m.key, SURVIVED) != SURVIVED for m in found):
            raise EquivalentError(f"{where} was killed, so it is not equivalent: remove it from equivalent.toml")
        reasons |= {m.key: entry["reason"] for m in found}
    if len(reasons) > MOST_EQUIVALENT * len(population):
        raise EquivalentError(f"{len(reasons)} of {len(population)} mutants are called equivalent: at most 5 % may be")
    return reasons


def count(outcomes: Sequence[str]) -> dict[str, Any]:
    """The figures of one room or file; ``score`` is the share killed or timed out of those not equivalent."""
    of = Counter(outcomes)
    judged = len(outcomes) - of[EQUIVALENT]
    noticed = of[KILLED] + of[TIMED_OUT]
    return {
        "tested": len(outcomes),
        "killed": of[KILLED],
        "timed_out": of[TIMED_OUT],
        "survived": of[SURVIVED],
        "equivalent": of[EQUIVALENT],
        "score": round(noticed / judged, 4) if judged else None,
    }


def write(path: Path, report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the report as JSON, its mutants a line each."""
    head = json.dumps({**report, "mutants": []}, indent=2)
    lines = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(head.removesuffix("[]\n}") + f"[\n{lines}\n  ]\n}}\n")


def page(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The report in Markdown: the rooms, the survivors, the equivalents."""
    drawn = report["sample"]
    kept = report["outcomes_kept_of_earlier_code_or_tests"]
    earlier = f"  {kept} outcomes are of an earlier state of other files or tests (`--keep`)." if kept else ""
    what = f"a sample of {drawn['size']} (seed {drawn['seed']})" if drawn["size"] else "all"
    text = [
        "# Mutants",
        "",
        f"Written by `make mutants` on {report['environment']['date'][:10]} with {report['tool']}, on"
        f" {report['environment']['cpu']} (processes: {report['processes']}): {what} of"
        f" {sum(room['population'] for room in report['rooms'])} mutants in {report['wall_seconds'] / 60:.0f} minutes."
        f"{earlier} How to read it and run it: [testing.md](testing.md).  Every mutant:"
        " [mutants.json](../benchmarks/results/mutants.json).",
        "",
        "| room | mutants | tested | killed | timed out | survived | equivalent | score |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for room in report["rooms"]:
        score = "" if room["score"] is None else f"{room['score']:.1%}"
        figures = [room[k] for k in ("population", "tested", "killed", "timed_out", "survived", "equivalent")]
        text.append("| " + " | ".join(map(str, [room["name"], *figures, score])) + " |")
    text += ["", "Left out by rule:", "", *(f"- {rule}" for rule in RULES)]
    for outcome, title in ((SURVIVED, "Survivors"), (EQUIVALENT, "Equivalent")):
        chosen = [row for row in rows if row["outcome"] == outcome]
        text += ["", f"## {title}: {len(chosen)}"]
        for file in dict.fromkeys(row["file"] for row in chosen):
            text += ["", f"### {file}", ""]
            for row in sorted((row for row in chosen if row["file"] == file), key=lambda row: row["line"]):
                text += [f"line {row['line']}{': ' + row['reason'] if 'reason' in row else ''}", ""]
                text += ["```diff", f"- {row['before']}", f"+ {row['after']}", "```", ""]
    return "\n".join(text).rstrip() + "\n"
