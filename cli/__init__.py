"""The command line. One file per command: parse, call ``analyzer``, print. No logic lives here."""
