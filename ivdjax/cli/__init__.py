"""The command line: `ivdjax NAME ...`, and the options of each command."""
