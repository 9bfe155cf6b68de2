"""Champion and challenger: retrain, compare and promote."""
