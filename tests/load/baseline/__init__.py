"""The specification's own design, built as it is written, to measure ours against: see `app.py`."""
