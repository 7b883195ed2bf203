"""Scenarios of what may happen to `pylog run`: kills, dead databases, full disks, bad receivers.

Each is a function that a test calls with how much of it is to happen: much in tests/chaos, a little
in tests/services. The truth of each is what reached the journal, as `pylog read` reads it.
"""
