"""Encoded clips and prompts on disk, mapped into memory."""
