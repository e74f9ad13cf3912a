"""The command line: each command parses, calls one room, and hands the result to the console."""
