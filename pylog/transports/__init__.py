"""Transports: carry lines and bytes to files, sockets and syslog.

They do not look at what they carry. What cannot be delivered is counted and reported.
"""
