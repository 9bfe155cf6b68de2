"""From a folder of audio, one sub-folder a genre, to sharded TFRecords of waveforms."""
