"""What a command does with files and arguments; everything but parsing options and printing."""
