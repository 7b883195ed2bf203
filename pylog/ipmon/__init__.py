"""What ipmon(8) does."""
