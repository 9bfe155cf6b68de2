"""Rehearse `k8s/overlays/local` without a cluster: containers run as processes, a storage emulator is the bucket."""
