"""Cut-outs composited on backgrounds, by the protocol of SI-Score."""
