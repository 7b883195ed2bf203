"""The front end of ipmon(8): its text, and its configuration."""
