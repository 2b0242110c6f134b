"""Statistics on verdicts: who wins, how surely, at equal lengths, in whose judgement.

Pure functions of arrays. A verdict is a number of points of one side: 1 won, 0 lost, .5 a tie, NaN no verdict.

win_rate(points).rate                                     # with a bootstrap interval
length_controlled(points, lengths, baseline_lengths).rate # at equal lengths
style_controlled(points, differences).rate                # at equal length, headers, lists, bold text
bradley_terry(first, second, points).elo                  # ratings from games
one_reward(first, second, points).circles                 # whether one reward can say what people prefer
judge_agreement(judge, people).with_each                  # beside people
order_consistency(straight, swapped)                      # biases of the judge
summarise(read_verdicts("annotations.json"))              # a report on files of judged pairs
"""

from fairlead.evaluation.preferences.agreement import (
    JudgeAgreement,
    cohen_kappa,
    fleiss_kappa,
    judge_agreement,
    kendall,
    middle,
    spearman,
)
from fairlead.evaluation.preferences.bias import (
    first_slot_rate,
    has_list,
    order_consistency,
    prefers_lists,
    prefers_longer,
    self_preference,
)
from fairlead.evaluation.preferences.files import Verdicts, read_verdicts
from fairlead.evaluation.preferences.length_control import (
    LengthControlled,
    LengthReference,
    length_controlled,
    paired_win_rate,
)
from fairlead.evaluation.preferences.one_reward import Mixture, OneReward, mixture_of_rewards, one_reward
from fairlead.evaluation.preferences.ratings import Ratings, bradley_terry, elo_of, elo_online, ill_posed
from fairlead.evaluation.preferences.style_control import (
    STYLES,
    StyleControlled,
    style_controlled,
    style_difference,
    style_of,
)
from fairlead.evaluation.preferences.summary import reference_places, summarise
from fairlead.evaluation.preferences.win_rates import (
    WinRateResult,
    as_points,
    both_orders,
    mcnemar,
    points_of_preferences,
    win_rate,
)

__all__ = [
    "STYLES",
    "JudgeAgreement",
    "LengthControlled",
    "LengthReference",
    "Mixture",
    "OneReward",
    "Ratings",
    "StyleControlled",
    "Verdicts",
    "WinRateResult",
    "as_points",
    "both_orders",
    "bradley_terry",
    "cohen_kappa",
    "elo_of",
    "elo_online",
    "first_slot_rate",
    "fleiss_kappa",
    "has_list",
    "ill_posed",
    "judge_agreement",
    "kendall",
    "length_controlled",
    "mcnemar",
    "middle",
    "mixture_of_rewards",
    "one_reward",
    "order_consistency",
    "paired_win_rate",
    "points_of_preferences",
    "prefers_lists",
    "prefers_longer",
    "read_verdicts",
    "reference_places",
    "self_preference",
    "spearman",
    "style_controlled",
    "style_difference",
    "style_of",
    "summarise",
    "win_rate",
]
