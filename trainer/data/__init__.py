"""The input pipeline: from a dataset's shards to distributed batches."""
