"""Numeric companions of alignment: what a KL budget, N draws, or a set of labels can do, before anything is trained.

    from fairlead.theory.best_of_n import best_of_n
    from fairlead.theory.tilting import tilt_at_kl

    best = best_of_n([0.5, 0.25, 0.15, 0.1], [0, 1, 2, 3], 4)
    ideal = tilt_at_kl([0.5, 0.25, 0.15, 0.1], [0, 1, 2, 3], best.kl)
    best.reward, ideal.reward                 # 1.965 of the 2.033 that this KL could buy

`tilting` (the KL-constrained optimum and its inverse), `best_of_n` (exact, with ties), `rates` (cumulants, Renyi cross
entropy, rate function), `blocks` (long answers), `samples` (estimators from rewards of real answers), `win_rates` and
`transforms` (ranks, and what a reward must become for best-of-N), `trilemma`, `welfare`, `audit`, `report`
(representative, robust, affordable), `populations` (a simulator), `drawings`.
Plain functions, float64, natural logs, NumPy and SciPy only.
"""
