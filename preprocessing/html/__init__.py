"""HTML that the pages of both programs share."""
