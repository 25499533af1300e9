"""Runtimes that score face crops, behind the Classifier port."""
