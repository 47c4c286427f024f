"""Pictures of evaluations, the best one beside the last: the AP of each class, and which class is taken for which."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cascadezoo.files import whole_file
from cascadezoo.text import printable

CLASSES, CONFUSION = "classes.png", "confusion.png"
_INK, _FAINT, _PAPER = (34, 34, 34), (222, 222, 222), (255, 255, 255)
_BEST, _LAST = (31, 119, 180), (255, 127, 14)
_MOST = 100  # classes in a picture
_NAME, _SIDE, _ROW = 200, 360, 26  # pixels: names, bars of 100 %, a class's row
_LETTERS = 24  # of a name

Record = Mapping[str, Any]  # of an evaluation, as the journal holds it


def write_charts(folder: Path, best: Record | None, last: Record) -> None:
    """Write ``classes.png`` and ``confusion.png``; ``best``: None where no evaluation has the figure that decides.

    Raises UnwritableOutput.
    """
    chosen = [("last", last)] if best is None or best["step"] == last["step"] else [("best", best), ("last", last)]
    shown = [(f"{name}, step {record['step']}", record) for name, record in chosen if "classes" in record]
    for name, picture in ((CLASSES, class_chart(shown)), (CONFUSION, confusion_chart(shown))):
        with whole_file(folder / name) as file:
            picture.save(file, "PNG")


def class_chart(evaluations: Sequence[tuple[str, Record]]) -> Image.Image:
    """The AP of each class at each of the evaluations, RGB: a column for boxes and one for masks.

    Classes come by the first evaluation's AP, the highest first; of more than a hundred, the lowest hundred are shown.
    """
    first = evaluations[0][1]["classes"]
    names = _by_precision(next(iter(first.values())))
    width = _NAME + (_SIDE + 60) * len(first)
    top = 90  # of the rows
    image = Image.new("RGB", (width, top + _ROW * len(names) + 20), _PAPER)
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(size=13), ImageFont.load_default(size=10)
    for number, (title, _) in enumerate(evaluations):
        x = _NAME + 200 * number
        pen.rectangle([x, 14, x + 14, 24], fill=_colour(evaluations, number))
        pen.text((x + 20, 19), title, fill=_INK, font=font, anchor="lm")
    for column, kind in enumerate(first):
        left = _NAME + column * (_SIDE + 60)
        pen.text((left, 52), f"{kind} AP, %", fill=_INK, font=font, anchor="lm")
        for percent in (0, 25, 50, 75, 100):
            across = left + _SIDE * percent / 100
            pen.line([across, top - 6, across, top + _ROW * len(names)], fill=_FAINT)
            pen.text((across, top - 10), str(percent), fill=_INK, font=small, anchor="md")
        for row, name in enumerate(names):
            upper = top + _ROW * row
            if column == 0:
                pen.text((_NAME - 10, upper + _ROW / 2 - 2), _short(name), fill=_INK, font=font, anchor="rm")
            height = (_ROW - 6) / len(evaluations)
            for number, (_, record) in enumerate(evaluations):
                value = record["classes"][kind].get(name)
                y, long = upper + height * number, _SIDE * (value or 0) / 100
                pen.rectangle([left, y, left + long, y + height - 1], fill=_colour(evaluations, number))
                said = "no object" if value is None else f"{value:.1f}"
                pen.text((left + long + 5, y + height / 2), said, fill=_INK, font=small, anchor="lm")
    return image


def confusion_chart(evaluations: Sequence[tuple[str, Record]]) -> Image.Image:
    """The confusion matrix of each of the evaluations, RGB: rows are what is annotated, columns what was detected.

    A cell's shade is its share of its row; in small matrices its number stands in it.  Of more than a hundred classes,
    the hundred with the most mistakes at the first evaluation are shown.
    """
    names, matrices = evaluations[0][1]["confusion"]["names"], [_matrix(record) for _, record in evaluations]
    chosen = _most_mistaken(matrices[0])
    cell = 40 if len(chosen) <= 20 else 13
    font = ImageFont.load_default(size=13 if cell == 40 else 10)
    side, margin = cell * len(chosen), 180
    image = Image.new("RGB", ((margin + side + 20) * len(matrices) + 20, margin + side + 60), _PAPER)
    pen = ImageDraw.Draw(image)
    rule = evaluations[0][1]["confusion"]
    said = f"detections of score {rule['score']:g} and more, IoU {rule['iou']:g}; rows: annotated, columns: detected"
    if len(chosen) < len(names):
        said += f"; the {_MOST} classes of {len(names) - 1} with the most mistakes"
    pen.text((20, margin + side + 46), said, fill=_INK, font=font, anchor="lm")
    for number, ((title, _), matrix) in enumerate(zip(evaluations, matrices, strict=True)):
        left = margin + (margin + side + 20) * number
        pen.text((left - margin + 20, 20), title, fill=_INK, font=ImageFont.load_default(size=14), anchor="lm")
        for place, label in enumerate(chosen):
            middle = cell * place + cell / 2
            pen.text((left - 6, margin + middle), _short(names[label]), fill=_INK, font=font, anchor="rm")
            _upright(image, _short(names[label]), (left + middle, margin - 6), font)
        _cells(pen, matrix, chosen, (left, margin), cell, font)
    return image


def _cells(
    pen: ImageDraw.ImageDraw,
    matrix: npt.NDArray[np.int64],
    chosen: Sequence[int],
    corner: tuple[int, int],
    cell: int,
    font: Any,
) -> None:
    sums = matrix.sum(axis=1)
    for row, annotated in enumerate(chosen):
        for column, detected in enumerate(chosen):
            count = int(matrix[annotated, detected])
            share = count / max(int(sums[annotated]), 1)
            full = (31, 119, 180) if annotated == detected else (214, 39, 40)  # right or mistaken
            colour = tuple(round(255 + (part - 255) * share) for part in full)
            x, y = corner[0] + cell * column, corner[1] + cell * row
            pen.rectangle([x, y, x + cell, y + cell], fill=colour, outline=_FAINT)
            if count and cell == 40:
                ink = _PAPER if share > 0.6 else _INK
                pen.text((x + cell / 2, y + cell / 2), str(count), fill=ink, font=font, anchor="mm")


def _upright(image: Image.Image, text: str, foot: tuple[float, int], font: Any) -> None:
    """Draw text that reads from below, its beginning at ``foot``."""
    _, _, width, height = font.getbbox(text, anchor="lt")
    strip = Image.new("RGB", (int(width) + 2, int(height) + 2), _PAPER)
    ImageDraw.Draw(strip).text((1, 1), text, fill=_INK, font=font, anchor="lt")
    turned = strip.transpose(Image.Transpose.ROTATE_90)
    image.paste(turned, (round(foot[0] - turned.width / 2), foot[1] - turned.height))


def _by_precision(classes: Mapping[str, float | None]) -> list[str]:
    ordered = sorted(classes, key=lambda name: -1.0 if (value := classes[name]) is None else value, reverse=True)
    return ordered[-_MOST:]


def _matrix(record: Record) -> npt.NDArray[np.int64]:
    confusion = record["confusion"]
    matrix = np.zeros((len(confusion["names"]),) * 2, dtype=np.int64)
    for annotated, detected, count in confusion["counts"]:
        matrix[annotated, detected] = count
    return matrix


def _most_mistaken(matrix: npt.NDArray[np.int64]) -> list[int]:
    """The classes shown, ascending, and background."""
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    most = np.argsort(-mistakes[:-1], kind="stable")[:_MOST]
    return [*sorted(most.tolist()), len(matrix) - 1]


def _colour(evaluations: Sequence[tuple[str, Record]], number: int) -> tuple[int, int, int]:
    return _LAST if number == len(evaluations) - 1 else _BEST


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
