"""Options that are described where their value is kept: by the field of a record."""

from importlib import import_module
from typing import Any

import click


class FieldOption(click.Option):
    """An option whose help is the description of the field of the same name.

    ``record`` is "module:class".  It is imported only when help is shown: records may take long to import.
    """

    def __init__(self, *args: Any, record: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.record = record

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help, as click shows them."""
        module, name = self.record.split(":")
        self.help = getattr(import_module(module), name).model_fields[self.name].description
        return super().get_help_record(ctx)
