"""Preprocess a folder of audio, one sub-folder per genre, into sharded TFRecords of waveforms."""
