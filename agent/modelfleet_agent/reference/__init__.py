"""Evaluations of candidates, on devices that the operators labelled as references."""
