"""What a distribution can add to pylog: a source, a format with a kind of record, and an output.

Each is a module with the contract of pylog's own; pyproject.toml names them as entry points.
"""
