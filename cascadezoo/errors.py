"""Every error a user can meet: one class per way to fail, each with the exit code of the command line.

Messages are one sentence: what is wrong, where, and what to do about it.
"""


class CascadezooError(Exception):
    """Base of all errors raised on purpose by cascadezoo."""

    exit_code = 1


class UsageError(CascadezooError):
    """The call itself is wrong: an option, an argument, a combination of both."""

    exit_code = 2


class UnknownName(UsageError):
    """No entry has this name or alias; the message suggests close ones."""


class AmbiguousEntry(UsageError):
    """A checkpoint fits entries whose numerics differ; the message lists them for ``--entry``."""


class MissingResource(CascadezooError):
    """Data, weights or the network are not there."""

    exit_code = 3


class WeightsNotFound(MissingResource):
    """No weights for this entry on this machine."""


class UnsupportedEntry(MissingResource):
    """The manifest describes this entry, but this version has no network for it yet."""


class FileError(CascadezooError):
    """A file that cannot be trusted or read."""

    exit_code = 4


class UnreadableImage(FileError):
    """Not a picture that can be decoded, or an array of the wrong kind."""


class CorruptCheckpoint(FileError):
    """Truncated, empty, malformed or over a size limit."""


class UnsafeCheckpoint(FileError):
    """The checkpoint's root or a needed tensor hangs on code that would have to be run."""


class WrongPublisher(FileError):
    """A checkpoint, but of another publisher or of a version whose numerics differ."""


class WrongEntry(FileError):
    """The file that a published link leads to by mistake, given as the entry of that link."""


class TensorMismatch(FileError):
    """Tensors that fit no entry: missing, unexpected, of another shape or data type."""


class NonFiniteWeights(FileError):
    """A used tensor holds NaN or infinity."""


class OutputExists(UsageError):
    """The output file is already there and ``--force`` was not given."""


class UnwritableOutput(FileError):
    """The output file cannot be written: no such folder, not allowed, disk full."""


class OpsNotBuilt(MissingResource):
    """``CASCADEZOO_OPS=compiled`` and an operator that has no compiled kernel for this device."""


class NoCompiler(MissingResource):
    """No compiler for the operators, or none that this torch can use."""


class BuildError(CascadezooError):
    """The compiler refused the operators; the message holds its own words."""

    exit_code = 4
