"""Task heads, one module per task."""
