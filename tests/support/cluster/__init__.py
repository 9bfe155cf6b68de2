"""The manifests, the image and the permissions of the cluster, read or stood in for."""
