"""Every error a user can meet: one class per way to fail, each with the exit code of the command line.

Messages are one sentence: what is wrong, where, and what to do about it.  What they quote from files and servers is
printable: control characters in it are shown as escapes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cascadezoo.text import printable


class CascadezooError(Exception):
    """Base of all errors raised on purpose by cascadezoo."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(CascadezooError):
    """The call itself is wrong: an option, an argument, a combination of both."""

    exit_code = 2


class WrongType(UsageError, TypeError):
    """An argument of a type that the function does not take, or one given by position that has to be named."""


class UnknownName(UsageError):
    """No entry has this name or alias, or no category this name; the message suggests close ones."""


class AmbiguousEntry(UsageError):
    """A checkpoint fits entries whose numerics differ; the message lists them for ``--entry``."""


class BadTarget(UsageError):
    """A ground-truth object that cannot be learned: a box outside its image or without area, a label out of range, a
    mask of another size."""


class MissingResource(CascadezooError):
    """Data, weights or the network are not there."""

    exit_code = 3


class WeightsNotFound(MissingResource):
    """No weights for this entry on this machine."""


class Offline(MissingResource):
    """The network is needed, and ``HF_HUB_OFFLINE`` or ``CASCADEZOO_OFFLINE`` forbids it."""


class DownloadFailed(MissingResource):
    """A server that cannot be reached, refuses, or breaks off again and again; the bytes that arrived are kept."""


class RepoNotFound(MissingResource):
    """No such repository, branch or file on the Hugging Face Hub, or none that this user may see."""


class NotAllowed(MissingResource):
    """The Hub wants a token, a token with more rights, or its terms accepted."""


class UnsupportedEntry(MissingResource):
    """The manifest describes this entry, but this version has no network for it yet."""


class FileError(CascadezooError):
    """A file that cannot be trusted or read."""

    exit_code = 4


class UnreadableImage(FileError):
    """Not an image that can be decoded, or an array of the wrong kind."""


class TooManyPixels(UnreadableImage):
    """An image whose header claims more pixels than are decoded."""


class FailedImages(UnreadableImage):
    """Some of a list of images failed; the others are done, and what was found on them is here.

    Attributes:
        results: one for each image of the list, in order; None where an image failed.
        errors: why each of those failed, by its index in the list.
    """

    def __init__(self, message: str, results: Sequence[Any] = (), errors: Mapping[int, CascadezooError] | None = None):
        super().__init__(message)
        self.results = list(results)
        self.errors = dict(errors or {})


class BadAnnotations(FileError):
    """An annotation file that is no sound COCO instances file; the message names the image or annotation."""


class CorruptData(FileError):
    """A table of images, or a part of a run's results, that is not what was written."""


class CorruptCheckpoint(FileError):
    """Truncated, empty, malformed or over a size limit."""


class UnsafeCheckpoint(FileError):
    """The checkpoint's root or a needed tensor hangs on code that would have to be run."""


class WrongPublisher(FileError):
    """A checkpoint, but of another publisher or of a version whose numerics differ."""


class WrongEntry(FileError):
    """The file behind a wrong published link, given as the entry that has this link."""


class TensorMismatch(FileError):
    """Tensors that fit no entry: missing, unexpected, of another shape or data type."""


class NonFiniteWeights(FileError):
    """A used tensor holds NaN or infinity."""


class HashMismatch(FileError):
    """A file that is not the published one, or not the one that was trusted before; the message names both hashes."""


class UnsafeRedirect(FileError):
    """A redirect from https to http or another kind of address, or a circle of redirects."""


class UnusableRepo(FileError):
    """A Hub repository or folder that lacks a model's files, or whose config.json is not what its weights need."""


class LicenseUnstated(UsageError):
    """Weights to be published whose publisher states no licence for them, and none was given."""


class OutputExists(UsageError):
    """The output file is already there and ``--force`` was not given."""


class RunInUse(UsageError):
    """Another process trains, or predicts, in this run's folder."""


class UnwritableOutput(FileError):
    """The output file cannot be written: no such folder, not allowed, disk full."""


class UntrustedCache(FileError):
    """A part of the cache that code would be loaded from belongs to another user, or others can change it."""


class OutOfMemory(CascadezooError):
    """The device has no room even for one image at a time, or the machine none to decode it."""

    exit_code = 3


class WorkerLost(MissingResource):
    """A process that prepares images was killed, or could not be started: the machine ran out of something."""


class OpsNotBuilt(MissingResource):
    """``CASCADEZOO_OPS=compiled`` and an operator that has no compiled kernel for this device."""


class NoCompiler(MissingResource):
    """No compiler for the operators, or none that this torch can use."""


class DepartsFromModel(CascadezooError):
    """An exported file, run beside the model it was made of, does not detect the same; it is not written."""


class LosesAccuracy(CascadezooError):
    """A quantised file detects too much worse than the model in float32; it is not written without ``force``."""


class TrainingDiverged(CascadezooError):
    """A loss or gradient that is not finite; the message names the step, the loss and the images."""


class HandledFaults(CascadezooError):
    """An annotation file has faults, but none for which training and verification refuse it."""


class LostLinks(CascadezooError):
    """Files that entries need are no longer at their published addresses."""


class BuildError(CascadezooError):
    """The compiler refused the operators; the message holds its own words, line by line."""

    exit_code = 4

    def __str__(self) -> str:
        return printable(Exception.__str__(self), lines=True)
