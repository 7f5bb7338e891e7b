"""Pure computations of the trading system: no framework, no clock, no input or output.

Everything here is decided by its arguments alone, so the whole system gives the same result for
the same input, whatever the speed. Times are milliseconds of *event time* since the epoch.
"""
