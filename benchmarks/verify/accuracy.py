"""One evaluation of one entry: the publisher's exact test settings, detections streamed to disk, COCO's figures."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from cascadezoo.benchmarks.reports.schema import Precision
from cascadezoo.benchmarks.verify.batches import Prepared, plan, prepared
from cascadezoo.benchmarks.verify.coco_layout import CocoImage, Dataset
from cascadezoo.benchmarks.verify.results_stream import Results, ResultsStream
from cascadezoo.coco.evaluation import Figures, Kind, evaluate
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.errors import OutOfMemory
from cascadezoo.modeling.preprocess import ResizedImage, padded_size

Progress: TypeAlias = Callable[[int, int], None]  # images done, of so many

_log = logging.getLogger("cascadezoo")
_DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
_NO_ROOM = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # of CUDA, of the CPU, of cuBLAS and cuDNN
_BEHIND = 4  # batches whose masks may still be encoded while the device goes on


class Detected(NamedTuple):
    """What detecting took, in seconds of the thread that feeds the device; in which ``images`` images."""

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
) -> Detected:
    """Detect on ``images`` and add what is found to ``stream``; images that it holds are not done again.

    Args:
        model: in eval mode, on its device.
        precision: "fp32", or the type that matrix products and convolutions are computed in.
        tta: with test-time augmentation, one image at a time.
        part: (i, n): every n-th batch only, from the i-th; all n parts together are the whole.
        workers: processes that decode.

    Where the device runs out of memory the batch is halved, for good, which the notes say.
    Raises UnreadableImage or FileError naming a bad image, OutOfMemory, UnwritableOutput.
    """
    begun = time.perf_counter()
    batches = plan(images, model.spec, 1 if tta else batch_size)[part[0] :: part[1]]
    todo = [batch for batch in batches if any(image.image_id not in stream.done for image in batch)]
    total = sum(map(len, batches))
    finished = total - sum(map(len, todo))
    runner = _Runner(model, 1 if tta else batch_size, precision, tta)
    decode = 0.0
    with _Writer(stream) as writer:
        source = prepared(todo, model.spec, whole=tta, workers=workers)
        for batch in todo:
            start = time.perf_counter()
            decoded = next(source)
            decode += time.perf_counter() - start
            writer.put(batch, runner.run(decoded))
            finished += len(batch)
            if progress:
                progress(finished, total)
    return Detected(
        images=sum(map(len, todo)),
        seconds=time.perf_counter() - begun,
        decode=decode,
        inference=runner.seconds,
        batch_size=runner.batch_size,
        notes=tuple(runner.notes),
    )


def figures_of(
    dataset: Dataset, images: Sequence[CocoImage], results: Results, has_masks: bool, evaluator: str
) -> dict[Kind, Figures]:
    """COCO's figures on these images, in percent, by kind."""
    kinds: tuple[Kind, ...] = ("bbox", "segm") if has_masks else ("bbox",)
    found = evaluate(dataset.annotations, results, kinds, [image.image_id for image in images], evaluator)
    return {kind: found[kind] for kind in kinds}


def arithmetic(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """What a model computes in: float32 without TF32, or mixed with a narrower type."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    dtype = _DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the device, or the host, had no room for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)


class _Runner:
    """The network, with a batch size that fits the device."""

    def __init__(self, model: Detector, batch_size: int, precision: Precision, tta: bool) -> None:
        self.model, self.batch_size, self.precision, self.tta = model, batch_size, precision, tta
        self.device = next(model.parameters()).device
        self.seconds = 0.0
        self.notes: list[str] = []

    def run(self, images: list[Prepared]) -> list[Detections]:
        """The detections on each, on the host."""
        start = time.perf_counter()
        found: list[Detections] = []
        while len(found) < len(images):
            chunk = images[len(found) : len(found) + self.batch_size]
            try:
                found += self._detect(chunk)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(len(chunk))
        self.seconds += time.perf_counter() - start
        return found

    def _shrink(self, tried: int) -> None:
        if tried == 1:
            raise OutOfMemory(f"{self.device} has too little memory for one image at a time: take another device")
        self.batch_size = (tried + 1) // 2
        note = f"out of memory with {tried} images at a time on {self.device}: went on with {self.batch_size}"
        self.notes.append(note)
        _log.warning("%s", note)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _detect(self, images: list[Any]) -> list[Detections]:
        with arithmetic(self.device, self.precision):
            if self.tta:
                return [self.model.predict(image, tta=True).to("cpu") for image in images]
            return [one.to("cpu") for group in _equal(images, self.model) for one in detect(self.model, group)]


def detect(model: Detector, images: Sequence[ResizedImage]) -> list[Detections]:
    """The detections on images at network scale, which share one batch."""
    batch = model.prepare(images)
    features = model.extract(batch.pixels)
    found = model.segment(features, model.find(features, batch).trim())
    return [model.detections(found, row, image.original_size) for row, image in enumerate(images)]


def _equal(images: list[ResizedImage], model: Detector) -> Iterator[list[ResizedImage]]:
    """Neighbours of equal padded size: one group, unless the annotated sizes rounded otherwise."""
    for _, group in groupby(images, lambda image: padded_size(image.size, model.spec.preprocess)):
        yield list(group)


class _Writer:
    """Masks encoded and written by a thread of its own, in order, never far behind the device."""

    def __init__(self, stream: ResultsStream) -> None:
        self.stream = stream
        self._pool = ThreadPoolExecutor(1, "results")
        self._pending: deque[Future[None]] = deque()

    def put(self, batch: Sequence[CocoImage], found: list[Detections]) -> None:
        """Hand over one batch; raises what went wrong with an earlier one."""
        self._pending.append(self._pool.submit(self._write, batch, found))
        if len(self._pending) > _BEHIND:
            self._pending.popleft().result()

    def _write(self, batch: Sequence[CocoImage], found: list[Detections]) -> None:
        for image, detections in zip(batch, found, strict=True):
            self.stream.add(image.image_id, detections.to_coco(image.image_id))

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # after an error what is already detected is still written; Ctrl-C does not wait
        self._pool.shutdown(wait=True, cancel_futures=kind is not None and not issubclass(kind, Exception))
        if kind is None:
            for future in self._pending:
                future.result()


def results_path(run_dir: Path, entry: str, tta: bool, part: tuple[int, int]) -> Path:
    """Where one process keeps the results of one evaluation."""
    parts = "" if part[1] == 1 else f".{part[0]}of{part[1]}"
    return run_dir / entry / f"{'tta' if tta else 'plain'}{parts}.results"
