"""A data set seen with some of its classes only."""

import difflib
import os
from collections.abc import Sequence
from itertools import compress

import numpy as np

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.dataset import CocoDataset, ImageRecord
from cascadezoo.errors import UsageError


class ChosenClasses(CocoDataset):
    """A data set in which what is of other classes is as if it were not annotated.

    Args:
        annotations, images: as of ``CocoDataset``.
        classes: names to choose, or names after a ``-`` to drop, each alone or several with commas between them.
        partly: whether it is enough if the data set has some of the classes to choose.

    Raises UsageError for a class that the data set does not have, and where none is left.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        classes: Sequence[str],
        *,
        partly: bool = False,
    ) -> None:
        super().__init__(annotations, images)
        whole = self.categories
        self.categories = chosen(whole, classes, str(self.annotations), partly=partly)
        labels = {category_id: label for label, category_id in enumerate(self.categories.ids)}
        self._label_of = np.array([labels.get(category_id, -1) for category_id in whole.ids], dtype=np.int64)
        self._count()

    def record(self, index: int) -> ImageRecord:
        """Image ``index`` of 0..len-1, with its objects of the chosen classes."""
        record = super().record(index)
        labels = self._label_of[record.labels]
        kept = labels >= 0
        return record._replace(
            boxes=record.boxes[kept],
            labels=labels[kept],
            segmentations=tuple(compress(record.segmentations, kept)),
            crowd=record.crowd[kept],
        )

    def require_masks(self) -> None:
        """As of ``CocoDataset``, for objects of whatever class."""
        super().require_masks()
        self._count()

    def _count(self) -> None:
        self.objects = np.zeros(len(self), dtype=np.int64)
        self.class_counts = np.zeros(len(self.categories), dtype=np.int64)
        pairs: list[tuple[int, int]] = []
        for index in range(len(self)):
            record = self.record(index)
            labels = record.labels[~record.crowd]
            self.objects[index] = len(labels)
            np.add.at(self.class_counts, labels, 1)
            pairs += [(index, int(label)) for label in np.unique(labels)]
        self.held = np.array(pairs, dtype=np.int64).reshape(-1, 2)


def chosen(categories: Categories, classes: Sequence[str], source: str, *, partly: bool = False) -> Categories:
    """Those of ``categories`` that ``classes`` name; without any to choose, all but those to drop.

    ``source``: where the categories come from, for a message.
    """
    wanted: set[str] = set()
    dropped: set[str] = set()
    for text in classes:
        for name, is_dropped in _names(text, categories):
            if name not in categories and not partly:
                close = difflib.get_close_matches(name, categories, n=3)
                hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(categories)}"
                raise UsageError(f"--classes: {source} has no class {name!r}; {hint}")
            (dropped if is_dropped else wanted).add(name)
    kept = [
        (name, category_id)
        for name, category_id in zip(categories, categories.ids, strict=True)
        if (name in wanted or not wanted) and name not in dropped
    ]
    if not kept:
        raise UsageError(f"--classes leaves no class of {source} to learn")
    return Categories([name for name, _ in kept], [category_id for _, category_id in kept])


def _names(text: str, categories: Categories) -> list[tuple[str, bool]]:
    """The names in one option, each with whether it is to be dropped; a name may hold a comma or begin with ``-``."""
    if text in categories:
        return [(text, False)]
    if text.startswith("-") and text[1:] in categories:
        return [(text[1:], True)]
    if "," in text:
        return [pair for part in text.split(",") if part.strip() for pair in _names(part.strip(), categories)]
    return [(text.removeprefix("-"), text.startswith("-"))]
