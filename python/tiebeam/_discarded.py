"""Whether the result of the call under way is thrown away by its caller.

``publish`` returns a receipt. Where a mailbox is full, somebody has to wait on it; a statement
that throws the receipt away never will, and gets an error instead. The bytecode says which of
the two it is: the instruction after the call is ``POP_TOP``. Only a full mailbox asks, so this
costs nothing otherwise; where the bytecode is not as expected, the answer is "no", and the
receipt itself reports the loss when it is dropped.
"""

from __future__ import annotations

import dis
import sys
from types import CodeType

__all__ = ["result_is_discarded"]

_POP = dis.opmap["POP_TOP"]
_RETURN = dis.opmap["RETURN_VALUE"]
# Before 3.12 a cache entry is an instruction of its own kind that `co_code` shows as 0.
_SKIPPED = {dis.opmap.get("CACHE", 0), dis.opmap.get("NOP", -1), dis.opmap.get("EXTENDED_ARG", -1)}


def _next_instruction(code: CodeType, at: int) -> int | None:
    """The opcode after the one at ``at``, inline caches left out."""
    instructions = code.co_code
    for index in range(at + 2, len(instructions), 2):
        if instructions[index] not in _SKIPPED:
            return instructions[index]
    return None


def result_is_discarded() -> bool:
    """Whether the caller of our caller throws away what the call returns.

    A function that returns the result passes the question on to its own caller.
    """
    frame = sys._getframe(1)
    while True:
        following = _next_instruction(frame.f_code, frame.f_lasti)
        if following == _POP:
            return True
        if following != _RETURN or frame.f_back is None:
            return False
        frame = frame.f_back
