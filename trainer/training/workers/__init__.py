"""Several devices and machines: who the workers are, waiting for them, their GPUs, and one strategy over all."""
