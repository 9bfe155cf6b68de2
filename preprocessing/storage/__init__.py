"""Files and objects: Beam's file systems, Google Cloud Storage and the lease."""

import os

# google-cloud-storage 3 requests the metadata of each bucket, to name its location in traces, which are not used here.
# That needs a permission on buckets, which the identities of the programs do not have.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
