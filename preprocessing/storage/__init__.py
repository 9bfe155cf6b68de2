"""Files and objects: Beam's file systems, Google Cloud Storage and the lease."""
