"""HTML pages: templates, media and number formats that both programs share."""
