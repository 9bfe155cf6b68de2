"""Signal processing: transforms of waveforms and distances between them."""
