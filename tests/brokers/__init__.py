"""Real brokers for tests: on ports of their own, started, stopped and killed by them."""
