"""What the command and the page share: loading a model folder, reading a text, continuing it, and error messages."""
