"""What a command does with files and arguments: everything except parsing options and printing."""
