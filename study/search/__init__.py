"""`optimize`: an Optuna study over the settings of one row."""
