"""What a reviewer sees in optuna-dashboard."""
