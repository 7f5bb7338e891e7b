"""A complete trading system of ten agents, on real or simulated trades.

`python -m trading` runs one simulated day; `--replay FILE` runs recorded trades.
"""
