"""What can be trained: one small object for each stage."""
