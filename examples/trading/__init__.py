"""A complete trading system of ten agents, on real or simulated trades.

`python -m examples.trading` runs one simulated day; `--replay FILE` runs recorded trades.
"""
