"""What may be asked of conversion, as far as it is known before a file is read, and without torch."""

from pathlib import Path

from cascadezoo.errors import UsageError
from cascadezoo.files import protect


def require_canonical_output(output: Path, source: Path, *, force: bool) -> None:
    """Raise UsageError (OutputExists) where canonical weights made from ``source`` may not go to ``output``."""
    if output.suffix.lower() != ".safetensors":
        raise UsageError(f"{output}: canonical weights are safetensors, end the output's name so")
    protect(output, source, force)
