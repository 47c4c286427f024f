"""One evaluation of one entry: the publisher's exact test settings, detections streamed to disk, COCO's figures."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from cascadezoo.analysis.analyse import analyse
from cascadezoo.analysis.folder import make_folder, write
from cascadezoo.analysis.tables import about_files
from cascadezoo.benchmarks.reports.schema import Precision
from cascadezoo.benchmarks.verify.coco_layout import CocoImage, Dataset
from cascadezoo.benchmarks.verify.results_stream import Results, ResultsStream
from cascadezoo.coco.curves import Figures
from cascadezoo.coco.dataset import read_annotated
from cascadezoo.coco.evaluation import Kind, evaluate_fully, read_truth
from cascadezoo.detecting import Fitting, default_workers, plan, prepared
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.devices import arithmetic
from cascadezoo.files import write_json
from cascadezoo.images import Pixels
from cascadezoo.modeling.preprocess import ResizedImage, resize
from cascadezoo.spec.model import ModelSpec
from cascadezoo.threads import in_order, share

Progress: TypeAlias = Callable[[int, int], None]  # images done, images in all

_BEHIND = 4  # batches whose masks may still be encoded while the device goes on


class DetectionCost(NamedTuple):
    """What detecting took, in seconds of the thread that feeds the device.

    Attributes:
        images: detected on in this run.
        seconds: in all.
        decode: of them, waiting for decoded images.
        inference: of them, the network and what follows on its device; on a CPU, waiting for those images, of several
            worked on at once, that are the next.
        batch_size: images at a time, in the end.
        notes: one sentence per halving of the batch.
    """

    images: int
    seconds: float
    decode: float
    inference: float
    batch_size: int
    notes: tuple[str, ...]


def detect_all(
    model: Detector,
    images: Sequence[CocoImage],
    stream: ResultsStream,
    *,
    batch_size: int = 1,
    precision: Precision = "fp32",
    tta: bool = False,
    part: tuple[int, int] = (0, 1),
    workers: int | None = None,
    progress: Progress | None = None,
) -> DetectionCost:
    """Detect on ``images`` and add the detections to ``stream``; images that are in it already are not done again.

    Args:
        model: in eval mode, on its device.
        precision: "fp32", or the type that matrix products and convolutions are computed in.
        tta: with test-time augmentation, one image at a time.
        part: (i, n): every n-th batch of those still to do, from the i-th; all n parts together are the whole, if
            their streams say the same images are done.
        workers: processes that decode; default: as suits the machine.

    On a CPU, at batch 1 and without augmentation, several images are worked on at once (``threads.share``).
    Where the device runs out of memory the batch is halved, for good, which the notes say.
    Raises UnreadableImage or FileError naming a bad image, OutOfMemory, UnwritableOutput.
    """
    begun = time.perf_counter()
    size = 1 if tta else batch_size
    planned = plan([(image.height, image.width) for image in images], model.spec, size)
    batches = [[images[index] for index in batch] for batch in planned]
    left = [batch for batch in batches if any(image.image_id not in stream.done for image in batch)]
    todo = left[part[0] :: part[1]]
    finished = (len(images) - sum(map(len, left))) // part[1]
    total = finished + sum(map(len, todo))
    detect = Fitting(partial(_detect, model, precision, tta), size, next(model.parameters()).device)
    prepare = partial(_read, None if tta else model.spec)
    shared = share(next(model.parameters()).device, len(todo), None if size == 1 and not tta else 1)
    source = prepared(todo, prepare, default_workers() if workers is None else workers)
    decode = waited = 0.0

    def decoded() -> Iterator[list[Any]]:
        nonlocal decode
        for _ in todo:
            start = time.perf_counter()
            images = next(source)
            decode += time.perf_counter() - start
            yield images

    with _Writer(stream) as writer, closing(source), closing(in_order(detect, decoded(), shared)) as results:
        for batch in todo:
            start = time.perf_counter()
            detections = next(results)
            waited += time.perf_counter() - start
            writer.put(batch, detections)
            finished += len(batch)
            if progress:
                progress(finished, total)
    return DetectionCost(
        images=sum(map(len, todo)),
        seconds=time.perf_counter() - begun,
        decode=decode,
        inference=waited - decode,
        batch_size=detect.batch_size,
        notes=tuple(detect.notes),
    )


def _read(spec: ModelSpec | None, image: CocoImage) -> Pixels | ResizedImage:
    """The image at the network's scale; without ``spec`` as it is, for test-time augmentation."""
    pixels = read_annotated(image.path, image.height, image.width)
    return pixels if spec is None else resize(pixels, spec.preprocess, spec.conventions.resize)


@torch.inference_mode()
def _detect(model: Detector, precision: Precision, tta: bool, images: Sequence[Any]) -> list[Detections]:
    """The detections on each image, on the host."""
    with arithmetic(next(model.parameters()).device, precision):
        results = [model.predict(image, tta=True) for image in images] if tta else model.detect(images)
        return [detections.to("cpu") for detections in results]


def figures_of(
    dataset: Dataset,
    images: Sequence[CocoImage],
    results: Results,
    has_masks: bool,
    evaluator: str,
    analysis: Path | None = None,
) -> dict[Kind, Figures]:
    """COCO's figures on these images, in percent, by kind.

    ``analysis``: a folder for what else the results tell (``cascadezoo.analysis.folder``), and for ``results.json``,
    the results themselves in COCO's format.
    """
    kinds: tuple[Kind, ...] = ("bbox", "segm") if has_masks else ("bbox",)
    ids = [image.image_id for image in images]
    truth = read_truth(dataset.annotations, kinds)
    evaluations = evaluate_fully(truth, results, kinds, ids, evaluator)
    if analysis is not None:
        make_folder(analysis)
        file = write_json(analysis / "results.json", results)
        analyses = analyse(truth, results, kinds, image_ids=ids, evaluations=evaluations)
        write(analyses, analysis, truth, about_files(dataset.annotations, file, evaluator), dataset.folder)
    return {kind: evaluation.figures for kind, evaluation in evaluations.items()}


class _Writer:
    """Masks encoded and written by a thread of its own, in order, never far behind the device."""

    def __init__(self, stream: ResultsStream) -> None:
        self.stream = stream
        self._pool = ThreadPoolExecutor(1, "results")
        self._pending: deque[Future[None]] = deque()

    def put(self, batch: Sequence[CocoImage], results: list[Detections]) -> None:
        """Hand over one batch; raises what went wrong with an earlier one."""
        self._pending.append(self._pool.submit(self._write, batch, results))
        if len(self._pending) > _BEHIND:
            self._pending.popleft().result()

    def _write(self, batch: Sequence[CocoImage], results: list[Detections]) -> None:
        for image, detections in zip(batch, results, strict=True):
            self.stream.add(image.image_id, detections.to_coco(image.image_id))

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # after an error what is already detected is still written; Ctrl-C does not wait
        self._pool.shutdown(wait=True, cancel_futures=kind is not None and not issubclass(kind, Exception))
        if kind is None:
            for future in self._pending:
                future.result()
