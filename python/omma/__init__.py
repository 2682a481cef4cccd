"""What Python programs use of omma."""
