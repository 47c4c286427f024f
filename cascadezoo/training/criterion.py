"""By what a run's best weights are chosen, and for how long none were better: from the records of its evaluations."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

LOSS = "loss"
DEFAULT = "bbox/AP"
KINDS = ("bbox", "segm")
# METRICS of cascadezoo.coco.curves, which imports more than the command line has time for; a test compares them
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class Standing(NamedTuple):
    """Where a run stands after some evaluations.

    Attributes:
        best: the record of the best of them, the first of equal ones; None where none has the figure.
        since: how many there were after it.
    """

    best: Mapping[str, Any] | None
    since: int


class Criterion(NamedTuple):
    """A figure of COCO's, of all classes or the AP of one, of which more is better, or the validation loss.

    Attributes:
        kind: "bbox" or "segm"; empty for the loss.
        figure: one of ``FIGURES``, or "loss".
        class_name: None for all classes.
    """

    kind: str
    figure: str
    class_name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From text such as "segm/AP50", "bbox/AP:cat" or "loss".  Raises ValueError."""
        if text == LOSS:
            return cls("", LOSS)
        kind, _, rest = text.partition("/")
        figure, colon, name = rest.partition(":")
        if kind in KINDS and figure in FIGURES and not colon:
            return cls(kind, figure)
        if kind in KINDS and figure == "AP" and name:
            return cls(kind, figure, name)
        raise ValueError(
            f"{text!r} is no figure: choose {LOSS}, {' or '.join(KINDS)} with one of {', '.join(FIGURES)} after a "
            "slash, such as segm/AP50, or the AP of one class, such as bbox/AP:NAME"
        )

    def __str__(self) -> str:
        whole = f"{self.kind}/{self.figure}" if self.kind else self.figure
        return whole if self.class_name is None else f"{whole}:{self.class_name}"

    def value(self, evaluation: Mapping[str, Any]) -> float | None:
        """The figure in a journal's record; None where it has none, or one that is not finite."""
        if not self.kind:
            value = evaluation.get(LOSS)
        elif self.class_name is None:
            value = evaluation["figures"].get(self.kind, {}).get(self.figure)
        else:
            value = evaluation.get("classes", {}).get(self.kind, {}).get(self.class_name)
        return value if value is not None and math.isfinite(value) else None

    def standing(self, evaluations: Iterable[Mapping[str, Any]]) -> Standing:
        """The best of the records, in the order in which they were made."""
        sign = 1 if self.kind else -1
        best, top, since = None, -math.inf, 0
        for record in evaluations:
            value = self.value(record)
            since += 1
            if value is not None and sign * value > top:
                best, top, since = record, sign * value, 0
        return Standing(best, since)
