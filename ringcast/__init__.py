"""Actors for Python that find each other."""
