"""What counts: pure rules from rows of jobs to the increments of a target's series."""
