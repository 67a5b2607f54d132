"""Mutation tests of the core: change one thing at a time, and see whether the quick tests notice."""
