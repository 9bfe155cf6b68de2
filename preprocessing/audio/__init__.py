"""Decode audio files of any origin to mono waveforms."""
