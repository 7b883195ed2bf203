"""Transports: lines and bytes to files, sockets and syslog.

They understand nothing of what they carry. Whatever cannot be delivered is counted and reported.
"""
