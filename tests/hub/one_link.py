"""An entry whose links lead where a test wants them, and what the audit says of them."""

import pytest
from click.testing import CliRunner

from cascadezoo import registry
from cascadezoo.cli import links as command
from cascadezoo.hub.links import LinkVerdict, audit
from cascadezoo.manifest import Source, ZooEntry

PADDLE = registry.info("cascade_mask_r50_fpn_1x.paddle")


def entry(
    checkpoint: str, *, availability: str = "published", corrected: str | None = None, **more: object
) -> ZooEntry:
    source = Source.model_validate({"table": "a table", "checkpoint_url": checkpoint, **more})
    changes = {"source": source, "availability": availability, "corrected_url": corrected}
    return PADDLE.model_copy(update=changes)


def verdict(entry: ZooEntry) -> LinkVerdict:
    (found,) = audit([entry])
    return found


def run(monkeypatch: pytest.MonkeyPatch, entries: list[ZooEntry], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(registry, "entries", lambda: tuple(entries))
    result = CliRunner().invoke(command.links_command, list(arguments))
    error = result.exception
    code = getattr(error, "exit_code", result.exit_code)
    return code, result.stdout, result.stderr + str(error or "")
