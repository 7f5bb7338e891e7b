"""Examples; `examples.trading` is the system that `make demo` runs."""
