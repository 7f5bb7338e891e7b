"""`help()` says something of everything that is public, also of what is written in Rust."""

from __future__ import annotations

import inspect

import pytest
import tiebeam

CLASSES = [
    name
    for name in tiebeam.__all__
    if inspect.isclass(one := getattr(tiebeam, name)) and not issubclass(one, BaseException)
]


@pytest.mark.parametrize("name", CLASSES)
def test_members_are_documented(name: str) -> None:
    cls = getattr(tiebeam, name)
    assert inspect.getdoc(cls)
    missing = [
        member
        for member in dir(cls)
        if not member.startswith("_")
        and not inspect.getdoc(member_of := inspect.getattr_static(cls, member))
        and (callable(member_of) or hasattr(member_of, "__get__"))
    ]
    assert missing == []
