"""What every record of this package is made of."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """An immutable, validated, hashable value; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
