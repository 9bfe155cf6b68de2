"""Evaluate a trained model beside its baselines."""
