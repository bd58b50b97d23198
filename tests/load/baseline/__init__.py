"""The design of the specification, built as it is written. The benchmarks compare the product with it; see `app.py`."""
