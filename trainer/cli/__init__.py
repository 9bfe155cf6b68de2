"""The trainer's command line: one module per sub-command, free of TensorFlow until a command runs."""
