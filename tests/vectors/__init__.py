"""Cases of behaviour, from files that name no library, and what plays them on this one.

A case says what it is about by its `area`; `adapters.ADAPTERS` has a function for each area, which
drives the public API in virtual time and compares. `listed` names what is not played, and why.
"""
