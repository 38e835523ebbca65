"""How fast and how small: every figure beside a peer and beside what the hardware allows.

See `python -m benchmarks.speed --help`.
"""
