"""train/: the harness that fits predictors, its metrics and its calibration. Knows networks/ and zoo/; no command."""
