"""Descriptions, limits and roles of the fields of a configuration. It imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from dataclasses import dataclass
from typing import Any

from preprocessing.errors import UsageError

KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
_ACCEPTED = {bool: bool, int: numbers.Integral, float: numbers.Real, str: str}


@dataclass(frozen=True)
class Setting:
    """Description, limits and role of a field of `Config`."""

    description: str  # what it is, its unit and the reason for its default
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None  # exclusive lower limit
    below: float | None = None  # exclusive upper limit
    choices: tuple[str, ...] = ()
    shapes_weights: bool = False  # shapes of the model's variables depend on it
    operational: bool = False  # may change when a run is resumed: no bit of the result depends on it
    extendable: bool = False  # may grow when a run is resumed

    def error(self, value: Any) -> str | None:
        """Return the constraints on a field as words if a value violates one of them, or else None."""
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        limits = [
            ("at least", self.minimum, operator.ge),
            ("above", self.above, operator.gt),
            ("at most", self.maximum, operator.le),
            ("below", self.below, operator.lt),
        ]
        applicable = [(words, limit, satisfies) for words, limit, satisfies in limits if limit is not None]
        if applicable and not math.isfinite(value):
            return "must be a finite number"
        if all(satisfies(value, limit) for _, limit, satisfies in applicable):
            return None
        return "must be " + " and ".join(f"{words} {limit}" for words, limit, _ in applicable)


def described_field(default: Any, description: str, **limits_and_role: Any) -> Any:
    """Return a dataclass field with a `Setting`, whose other fields are keyword arguments."""
    return dataclasses.field(default=default, metadata={"setting": Setting(description, **limits_and_role)})


def convert_fields(config: Any) -> None:
    """Give the fields of a new configuration the types of their defaults: a caller may use NumPy's numbers.

    Raises:
        UsageError: A value has another type, or violates its limits.
    """
    for field in dataclasses.fields(config):
        value: Any = getattr(config, field.name)
        kind: Any = type(field.default)
        if not isinstance(value, _ACCEPTED[kind]) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"`{field.name}` must be {KINDS[kind]}, not {value!r}")
        if error := field.metadata["setting"].error(value):
            raise UsageError(f"`{field.name}` {error}, not {value}")
        object.__setattr__(config, field.name, kind(value))
