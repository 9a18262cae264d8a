"""The trainable part of WhisQ (Eqs. 2-7) and its alignment objective (Eq. 10)."""
