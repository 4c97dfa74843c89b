"""One module a command: HELP in one line, arguments(parser), and run(options) -> exit code.

They are loaded to print help, so what is slow to load (matplotlib) is imported where a command runs.
"""
