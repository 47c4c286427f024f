"""The standard streams of a command: any text can be written to them, and a full disk behind them is told by name."""

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

_OUTPUT = "standard output"


class _Stream(FileIO):
    replaced: TextIOWrapper  # which would close the file if nothing kept it


class _Output(_Stream):
    """What is written to standard output has to arrive."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # the reader has gone, which is no error of the file's
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, _OUTPUT) from None


class _Messages(_Stream):
    """Messages that cannot be written go nowhere, as those to a closed stream do, and the command goes on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            silence(self.fileno())
            return super().write(data)


def open_streams() -> None:
    """Standard streams that take any text: a closed one goes nowhere, and no terminal's encoding ends a command."""
    for name, kind in (("stdout", _Output), ("stderr", _Messages)):
        stream = getattr(sys, name)
        if stream is None:  # `>&-`; what is opened next would take its number and the output with it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for the life of the process)
        elif type(stream) is TextIOWrapper and not isinstance(getattr(stream.buffer, "raw", None), _Stream):
            stream.flush()
            raw = kind(stream.fileno(), "w", closefd=False)
            raw.replaced = stream
            file = BufferedWriter(raw)
            lines, through = stream.line_buffering, stream.write_through
            named = TextIOWrapper(file, stream.encoding, "replace", line_buffering=lines, write_through=through)
            setattr(sys, name, named)


def output_failed(error: Exception) -> bool:
    """Whether standard output could not be written."""
    return isinstance(error, OSError) and error.filename == _OUTPUT


def silence(number: int) -> None:
    """Let a stream's file go nowhere, and with it what is still to be written there."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
