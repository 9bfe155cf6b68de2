"""Find and open the inputs: folders, patterns, lists and archives, local or on object storage."""
