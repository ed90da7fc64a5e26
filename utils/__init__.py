"""Helpers that know nothing of this project: errors, files, command line, device, processes, random draws."""
