"""The contract on disk: records, their framing, the manifest and the files beside it."""
