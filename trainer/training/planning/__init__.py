"""What a training would do and take, before it starts."""
