"""Training of the classifier: data, pseudo-fakes, loop, evaluation."""
