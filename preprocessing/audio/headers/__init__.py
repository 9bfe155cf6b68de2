"""Read what audio files declare: their containers, formats and sizes, none of which is relied on."""
