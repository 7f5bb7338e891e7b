"""Text that is not shown by accident."""

from __future__ import annotations

import hmac
from typing import Any, NoReturn

__all__ = ["Secret"]

_MASK = "**********"


class Secret:
    """A password, token or the like: it is masked wherever it is printed, and has no JSON form.

    As the type of a field in a component's ``Config`` (a dataclass, a pydantic model or a msgspec
    ``Struct``) it keeps what was configured out of logs, messages and tracebacks.

    >>> password = Secret("s3cret")
    >>> print(f"{password} {password!r}")
    ********** Secret('**********')
    >>> password.reveal()
    's3cret'
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep ``text``.

        Raises:
            TypeError: When it is no text; what was given is not shown.
        """
        if not isinstance(text, str):
            raise TypeError(f"a Secret is made of text, not of {type(text).__name__}")
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __str__(self) -> str:
        return _MASK if self._text else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied: pass the object on, or `reveal()` it")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: Any) -> Secret:
        return self

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        made = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        shown = core_schema.plain_serializer_function_ser_schema(str)
        return core_schema.json_or_python_schema(
            json_schema=made,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), made]),
            serialization=shown,
        )
