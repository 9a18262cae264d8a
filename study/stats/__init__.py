"""From stored predictions to verdicts. Pure: arrays in, values out."""
