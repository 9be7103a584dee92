"""The form in which an actor's state is stored, and what becomes of states of other forms.

A record (dataclass, pydantic model, msgspec Struct) is stored as its fields by name, without the name of its class:
which class it is, the actor says, and the class may be renamed or moved. Any other state is stored as a value.

Of a record that was stored by other code, fields that it lacks get their defaults. A field that is not there any
more is an error, not a loss: the actor says by `schema` and `migrate` what is to become of it.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from ringcast.errors import NOT_SENT, CodecError, StoreError

from .extensions import Code
from .records import content_of, keeps_all_in_dict, put_together_record

__all__ = ["StateForm"]

_RECORDS = frozenset({Code.DATACLASS, Code.MODEL, Code.STRUCT})
_FIELDS = "__dict__"
"""Where a pydantic model's content has its fields."""


class Migrates(Protocol):
    """What is asked of an actor whose stored state has an older form."""

    def migrate(self, old: Any, schema: int) -> Any:
        """See `DurableActor.migrate`."""
        ...


class StateForm:
    """How the states of one class of actors are stored."""

    def __init__(self, kind: Any, schema: int) -> None:
        """Know the type of the states.

        Args:
            kind: As in ``DurableActor[kind]``.
            schema: The version of the form.
        """
        self.schema = schema
        parts = content_of(kind) if isinstance(kind, type) else None
        self._code = parts[0] if parts is not None and parts[0] in _RECORDS else None
        self._take_apart = parts[1] if parts is not None else None
        self._kind = kind
        self._name = getattr(kind, "__qualname__", str(kind))
        self._fields = self._known_fields()
        self._is_dict = self._code is Code.DATACLASS and keeps_all_in_dict(kind)

    def _known_fields(self) -> frozenset[str] | None:
        """Return the names that a stored record may have; None for any."""
        kind = cast("Any", self._kind)
        match self._code:
            case Code.DATACLASS:
                return frozenset(kind.__dataclass_fields__)
            case Code.STRUCT:
                return frozenset(kind.__struct_fields__)
            case Code.MODEL if kind.model_config.get("extra") != "allow":
                return frozenset(kind.model_fields)
            case _:
                return None

    def content(self, state: Any) -> Any:
        """Return what is stored of a state.

        Raises:
            TypeError: If it is none of this actor's.
        """
        if self._code is None:
            return state
        if type(state) is not self._kind:
            raise TypeError(f"its state is a {self._name}, and self.state was set to {state!r:.100}")
        if self._is_dict and self._fields is not None and self._fields.issuperset(found := state.__dict__):
            return found  # it is packed at once: a copy would take as long as that
        assert self._take_apart is not None
        content: dict[str, Any] = cast("Any", self._take_apart)(state)
        if self._fields is not None and not self._fields.issuperset(self._by_name(content)):
            odd = self._by_name(content).keys() - self._fields
            raise TypeError(f"{self._name} has no field {min(odd)!r}, and what is no field is not stored: declare it")
        return content

    def state(self, content: Any, schema: int, actor: Migrates) -> Any:
        """Return the state that was stored.

        Args:
            content: What is stored of it.
            schema: The version of its form.
            actor: Changes states of older forms.

        Raises:
            StoreError: If it cannot be had; says which field it is, if it is one.
        """
        where = f"a state of schema {schema} is stored, which does not load as {self._name} of schema {self.schema}"
        if schema > self.schema:
            raise StoreError(f"{where}: it was written by newer code; run that here too", certainty=NOT_SENT)
        try:
            if schema < self.schema:
                old = content if self._code is None else self._by_name(content)
                return self._migrated(actor.migrate(old, schema))
            return self._loaded(content)
        except Exception as error:  # whatever a constructor or `migrate` raises
            why = str(error) if isinstance(error, CodecError) else f"{type(error).__name__}: {error}"
            advice = "give the field a default, or raise `schema` and write `migrate`"
            raise StoreError(f"{where}: {why}; {advice}", certainty=NOT_SENT) from error

    def _migrated(self, new: Any) -> Any:
        if self._code is None or type(new) is self._kind:
            return new
        if not isinstance(new, dict):
            raise TypeError(f"migrate returned {new!r:.100}, and is to return a {self._name} or its fields")
        fields = cast("dict[str, Any]", new)
        if self._code is not Code.DATACLASS:
            self._refuse_unknown(fields)
            return self._kind(**fields)
        return self._loaded(fields)

    def _loaded(self, content: Any) -> Any:
        if self._code is None:
            return content
        if not isinstance(content, dict):
            raise CodecError("what is stored is no record")
        self._refuse_unknown(self._by_name(content))
        return put_together_record(self._code, self._kind, content)

    def _refuse_unknown(self, fields: dict[str, Any]) -> None:
        if self._fields is not None and (odd := fields.keys() - self._fields):
            raise CodecError(f"it has a field {min(odd)!r}, which {self._name} has not")

    def _by_name(self, content: Any) -> dict[str, Any]:
        fields: dict[str, Any] = content[_FIELDS] if self._code is Code.MODEL else content
        return fields
