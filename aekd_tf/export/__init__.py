"""Writes a student for other runtimes, and compares the file with it."""
