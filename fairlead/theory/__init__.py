"""Numeric companions of alignment: tilting and best-of-N, rate functions, win rates, the trilemma. NumPy only."""
