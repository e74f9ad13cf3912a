"""Sizes of memory and files."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
"""Bytes of a kibibyte, a mebibyte, a gibibyte."""
