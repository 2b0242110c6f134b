"""The only list of methods: name -> "module:object", kind, paper, one line.

A method joins the command line, the docs, the property suite of its kind and the evidence table with its line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.errors import UnknownNameError, UsageError

__all__ = ["ENTRIES", "KINDS", "PRESETS", "Entry", "build", "entries", "find", "from_spec"]

KINDS = ("reward", "objective", "synthesizer", "selector", "decoder", "evaluator")


@dataclass(frozen=True)
class Entry:
    """One catalogued method."""

    name: str
    """The name used in recipes and on the command line."""
    kind: str
    """One of `KINDS`."""
    target: str
    """Where it lives: "module:object"."""
    paper: str
    """Its source: arXiv number or citation; empty for plain tools."""
    line: str
    """What it does, in one line."""
    status: str = "beta"
    """stable | beta."""

    def load(self) -> type:
        """Import and return the method's dataclass."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


_OBJECTIVES = "fairlead.training.objectives"

# fmt: off
ENTRIES: tuple[Entry, ...] = (
    Entry("sft", "objective", f"{_OBJECTIVES}.sft:SFT", "2203.02155", "supervised fine-tuning: negative log-likelihood of the trained tokens"),
    Entry("mixture_of_instructions", "objective", f"{_OBJECTIVES}.mixture_of_instructions:MixtureOfInstructions", "2404.18410", "fine-tuning on balanced chunks of several domains, each under its own system prompt"),
    Entry("dpo", "objective", f"{_OBJECTIVES}.dpo:DPO", "2305.18290", "direct preference optimisation on chosen/rejected pairs"),
    Entry("kto", "objective", f"{_OBJECTIVES}.kto:KTO", "2402.01306", "Kahneman-Tversky optimisation from thumbs up and down, no pairs"),
    Entry("orpo", "objective", f"{_OBJECTIVES}.orpo:ORPO", "2403.07691", "odds-ratio preference optimisation: SFT and preference in one stage, no reference"),
    Entry("cpo", "objective", f"{_OBJECTIVES}.cpo:CPO", "2401.08417", "contrastive preference optimisation: DPO without a reference, kept in place by SFT"),
    Entry("simpo", "objective", f"{_OBJECTIVES}.simpo:SimPO", "2405.14734", "preference loss on log-probs per token with a target margin, no reference"),
    Entry("rrhf", "objective", f"{_OBJECTIVES}.rrhf:RRHF", "2304.05302", "ranked answers: the better one likelier per token, and SFT on the best"),
    Entry("absolute_likelihood", "objective", f"{_OBJECTIVES}.absolute_likelihood:AbsoluteLikelihood", "2409.10571", "aligned SFT: odds of chosen answers up, of rejected ones down, each by itself"),
    Entry("bco", "objective", f"{_OBJECTIVES}.bco:BCO", "2404.04656", "binary classifier optimisation from thumbs up and down, with a reward shift and matched prompts"),
    Entry("reward_model", "objective", f"{_OBJECTIVES}.reward_model:RewardModel", "2307.09288", "Bradley-Terry reward model on a sequence-score head; soft labels, absolute scores"),
    Entry("policy_gradient", "objective", f"{_OBJECTIVES}.policy_gradient:PolicyGradient", "2402.03300", "policy gradients from rewards of the model's own completions: GRPO, PPO, RLOO and others as presets"),
    Entry("pama", "objective", f"{_OBJECTIVES}.pama:PAMA", "2508.07768", "several rewards in one policy gradient without weights: what helps all of them is reinforced"),
    Entry("safe_rlhf", "objective", f"{_OBJECTIVES}.safe_rlhf:SafeRLHF", "2310.12773", "policy gradient on a reward with a cost kept below a budget, whose price is a Lagrange multiplier"),
    Entry("group_robust", "objective", f"{_OBJECTIVES}.group_robust:GroupRobust", "1911.08731", "policy gradient in which the groups of prompts or people that fare worst count most: group DRO, MaxMin"),
    Entry("gkd", "objective", f"{_OBJECTIVES}.gkd:GKD", "2306.13649", "generalised knowledge distillation: token-wise forward KL, reverse KL or Jensen-Shannon divergence to a teacher"),
    Entry("weak_to_strong", "objective", f"{_OBJECTIVES}.weak_to_strong:WeakToStrong", "2410.12621", "cross-entropy to a weaker model's soft labels, optionally mixed with the student's own hardened opinion"),
    Entry("bialign", "objective", f"{_OBJECTIVES}.bialign:BiAlign", "2312.17055", "distillation of few-shot samples: a teacher's outputs, and its ranking of demonstration subsets"),
    Entry("poft", "objective", f"{_OBJECTIVES}.poft:PoFT", "2412.12865", "preference-oriented SFT: answers that aligned models find unlikely get less weight"),
    Entry("model", "reward", "fairlead.rewards.model:ModelReward", "2307.09288", "score of a reward model trained with the objective reward_model"),
    Entry("calibrated", "reward", "fairlead.rewards.calibrated:CalibratedReward", "2412.19792", "an answer's rank among a base model's answers, transformed so that training serves best-of-n or worst-of-n"),
    Entry("reward_ensemble", "reward", "fairlead.rewards.reward_ensemble:RewardEnsemble", "2310.02743", "several rewards as one careful one: mean less their spread, the lowest, the median"),
    Entry("laplace", "reward", "fairlead.rewards.laplace:LaplaceReward", "2402.13210", "a reward model less its own doubt: the Laplace posterior of its last layer, or distance from its training answers"),
    Entry("harbor", "reward", "fairlead.rewards.harbor:HarborReward", "", "exact reward of the Harbor world, on any of its axes"),
    Entry("harbor_proxy", "reward", "fairlead.rewards.harbor:HarborProxy", "", "noisy or hackable stand-ins for the exact Harbor reward"),
    Entry("keywords", "reward", "fairlead.rewards.keywords:KeywordReward", "", "the share of wanted words that a completion has, in any of their forms"),
    Entry("length_limit", "reward", "fairlead.rewards.length_limit:LengthLimit", "", "whether a completion keeps to a number of words, sentences or characters"),
    Entry("bleu", "reward", "fairlead.rewards.bleu:BleuReward", "2505.11080", "BLEU against references to the prompt, smoothed in every order: a reward without a reward model"),
    Entry("rouge_l", "reward", "fairlead.rewards.rouge_l:RougeLReward", "", "ROUGE-L F against the reference to the prompt that is most alike"),
    Entry("combined", "reward", "fairlead.rewards.combined:CombinedReward", "", "several rewards as one: weighted sum, harmonic mean, or mean of z-scores within a prompt's completions"),
    Entry("format", "reward", "fairlead.rewards.thinking:ThinkFormat", "", "whether a completion is a block of thinking and then one of answering, between tags"),
    Entry("honesty_targets", "synthesizer", "fairlead.synthesis.honesty_targets:HonestyTargets", "2312.07000", "targets that answer what the model knows and refuse what it does not, after its own sampled answers"),
    Entry("weak_labels", "synthesizer", "fairlead.synthesis.weak_labels:WeakLabels", "2312.09390", "soft or hard labels of a weak supervisor, from its log-probs of the label words"),
    Entry("deita_scores", "synthesizer", "fairlead.synthesis.deita_scores:DeitaScores", "2312.15685", "complexity of instructions and quality of answers, from a scorer's chances of six digits"),
    Entry("deita_examples", "synthesizer", "fairlead.synthesis.deita_examples:DeitaExamples", "2312.15685", "what a scorer of complexity or quality is trained on, from labelled conversations"),
    Entry("evolve", "synthesizer", "fairlead.synthesis.evolve:Evolve", "2312.15685", "instructions made harder or answers made better step by step, all versions of a seed scored together"),
    Entry("constitutional", "synthesizer", "fairlead.synthesis.constitutional:Constitutional", "2212.08073", "answers that a model itself critiques and revises along the principles of a constitution"),
    Entry("ai_preferences", "synthesizer", "fairlead.synthesis.ai_preferences:AIPreferences", "2212.08073", "pairs with soft labels: which answer is better after a principle, from a judge's log-probs"),
    Entry("wildfeedback", "synthesizer", "fairlead.synthesis.wildfeedback:WildFeedback", "2408.15549", "pairs, checklists or thumbs out of chats in which users react to answers"),
    Entry("p_aligner", "synthesizer", "fairlead.synthesis.p_aligner:PAligner", "2508.04626", "better wordings of instructions, found by a tree search along principles: rows that a rewriter learns from"),
    Entry("codeclm", "synthesizer", "fairlead.synthesis.codeclm:CodecLM", "2404.05875", "instructions after those a model will get, made harder until a strong model and the target differ"),
    Entry("prompt_augmentation", "synthesizer", "fairlead.synthesis.prompt_augmentation:PromptAugmentation", "2407.06027", "complements to prompts, written, checked and mended by a model: rows that a rewriter learns from"),
    Entry("magpie", "synthesizer", "fairlead.synthesis.magpie:Magpie", "2406.08464", "instructions that an aligned model writes when it is given nothing, and their answers"),
    Entry("extracted", "synthesizer", "fairlead.synthesis.extracted:Extracted", "2510.18554", "what a model remembers of its post-training data, drawn behind its template's opening, as training data"),
    Entry("cyclealign", "synthesizer", "fairlead.synthesis.cyclealign:CycleAlign", "2310.16271", "a student's answers in the order of a judge that is shown, round by round, where both agree"),
    Entry("i_sheep", "synthesizer", "fairlead.synthesis.i_sheep:ISheep", "2408.08072", "instructions that a model writes, answers and grades by itself, of which only the best are kept"),
    Entry("tags", "synthesizer", "fairlead.synthesis.tags:Tags", "", "columns on conversations from an engine's forms: difficulty, quality, category, language, safety"),
    Entry("prompt_quality", "synthesizer", "fairlead.synthesis.prompt_quality:PromptQuality", "", "columns on prompts from comparison with anchors of their bucket: four dimensions, their sum, a label"),
    Entry("reward_difference", "synthesizer", "fairlead.synthesis.reward_difference:RewardDifference", "2406.08464", "columns with what a reward says of answers, and how much more than of a base model's"),
    Entry("perplexity", "synthesizer", "fairlead.synthesis.perplexity:Perplexity", "2408.08072", "columns with how surprising a record is to a model: its answer, all of it, its answer behind its prompt"),
    Entry("decontaminate", "selector", "fairlead.selection.decontaminate:Decontaminate", "", "records that named test sets do not hold, by runs of words and by vectors, with the row and overlap of the others"),
    Entry("balance", "selector", "fairlead.selection.balance:Balance", "", "so many of every group, by a tag or by clusters of vectors; what small groups lack is told"),
    Entry("magpie_filter", "selector", "fairlead.selection.magpie_filter:MagpieFilter", "2406.08464", "thresholds on quality, difficulty, distance and rewards, then the longest answers: Magpie's filters by name"),
    Entry("reward_threshold", "selector", "fairlead.selection.reward_threshold:RewardThreshold", "", "what a reward values: above a threshold, the best, or both"),
    Entry("perplexity_filter", "selector", "fairlead.selection.perplexity_filter:PerplexityFilter", "2408.08072", "what does not surprise a model too much, one record of every cluster, or the least surprising of each"),
    Entry("rejection_sampling", "selector", "fairlead.selection.rejection_sampling:RejectionSampling", "2307.09288", "the best of several answers to each prompt, for another round of training"),
    Entry("hard_examples", "selector", "fairlead.selection.hard_examples:HardExamples", "2505.11080", "what a model does worst, best or middling at, by a column of scores of its own answers"),
    Entry("random", "selector", "fairlead.selection.random_sample:RandomSample", "", "records drawn at random: the baseline that others have to beat"),
    Entry("deita", "selector", "fairlead.selection.deita:Deita", "2312.15685", "complexity x quality first, then variety: the best records that are not too similar to a better one"),
    Entry("near_duplicates", "selector", "fairlead.selection.near_duplicates:NearDuplicates", "2406.08464", "one of every set of records that say nearly the same, by vectors, n-grams or hashes"),
    Entry("info_sampling", "selector", "fairlead.selection.info_sampling:InfoSampling", "2411.10545", "the few records without which the entropy of the data would change most, under a Gaussian mixture of their vectors"),
    Entry("long_output", "selector", "fairlead.selection.long_output:LongOutput", "2410.10210", "answers about as long as their prompt asks, the nearest first, and why the others are not"),
    Entry("best_of_n", "decoder", "fairlead.decoding.best_of_n:BestOfN", "2009.01325", "the answer that a reward values most among n draws"),
    Entry("worst_of_n", "decoder", "fairlead.decoding.best_of_n:WorstOfN", "", "the answer that a reward values least among n draws, for red-teaming"),
    Entry("nudging", "decoder", "fairlead.decoding.nudging:Nudging", "2410.09300", "a small aligned model writes the words at which a large base model is unsure; any two tokenizers"),
    Entry("proxy_tuning", "decoder", "fairlead.decoding.proxy_tuning:ProxyTuning", "2401.08565", "a large base model's logits moved by what tuning did to a small model's; one vocabulary"),
    Entry("ensemble", "decoder", "fairlead.decoding.ensemble:Ensemble", "2410.09300", "the mean of a base and an aligned model's next-token probabilities; one vocabulary"),
    Entry("urial", "decoder", "fairlead.decoding.urial:Urial", "2312.01552", "a base model answers like an assistant behind a constant prompt: a system text and a few restyled examples"),
    Entry("deal", "decoder", "fairlead.decoding.deal:Deal", "2402.06147", "a search over next tokens, led by what rewards say of the text ahead"),
    Entry("rewriter", "decoder", "fairlead.decoding.rewriter:Rewriter", "2508.04626", "an engine rewrites the last user message, or adds to it, before the answerer sees it"),
    Entry("steering", "decoder", "fairlead.decoding.steering:Steering", "2401.16332", "hidden states pushed along a direction read from contrast pairs"),
    Entry("smooth_llm", "decoder", "fairlead.decoding.smooth_llm:SmoothLLM", "2310.03684", "answers as most randomly misspelt copies of the request are answered: a defence against brittle attacks"),
    Entry("guidelines", "decoder", "fairlead.decoding.guidelines:Guidelines", "2403.11838", "answers under the guidelines of a library that are closest to the request"),
    Entry("rewards", "evaluator", "fairlead.evaluation.rewards:RewardAxes", "", "mean reward per axis with bootstrap intervals"),
    Entry("pareto", "evaluator", "fairlead.evaluation.pareto:Pareto", "", "several rewards at once: which engines no other beats in all, and the hypervolume above a reference"),
    Entry("tradeoff", "evaluator", "fairlead.evaluation.tradeoff:Tradeoff", "2401.16332", "alignment and helpfulness over the steering coefficient, with the two laws fitted"),
    Entry("win_rate", "evaluator", "fairlead.evaluation.win_rate:WinRate", "", "pairwise win rate of every engine against a baseline under a reward, ties counted half"),
    Entry("inference_win_rate", "evaluator", "fairlead.evaluation.inference_win_rate:InferenceWinRate", "2412.19792", "win rates of one draw, of the best and of the worst of n against a base, unbiased from samples"),
    Entry("over_optimisation", "evaluator", "fairlead.evaluation.over_optimisation:OverOptimisation", "2210.10760", "the true reward of the best of N as proxies choose it, for many N from one set of draws"),
    Entry("pairwise_judge", "evaluator", "fairlead.evaluation.pairwise_judge:PairwiseJudge", "2305.14387", "win rate against a baseline in a judge's opinion: both orders, equal lengths, the judge's biases"),
    Entry("judge_audit", "evaluator", "fairlead.evaluation.judge_audit:JudgeAudit", "2410.07137", "whether judges can be believed: agreement with people on their pairs, tastes, and a constant answer that must not win"),
    Entry("aspect_judge", "evaluator", "fairlead.evaluation.aspect_judge:AspectJudge", "2312.01552", "scores of answers by aspect in a judge's opinion: just-eval's six, or one's own"),
    Entry("checklist_judge", "evaluator", "fairlead.evaluation.checklist_judge:ChecklistJudge", "", "the share of a list of yes-or-no questions that answers pass in a judge's opinion"),
    Entry("honesty", "evaluator", "fairlead.evaluation.honesty:Honesty", "2312.07000", "prudence and over-conservativeness: who refuses what it did not know, and who what it did"),
    Entry("refusals", "evaluator", "fairlead.evaluation.refusals:Refusals", "2308.01263", "how often harmful requests are refused, and harmless ones: full and partial refusals, empty answers"),
    Entry("red_team", "evaluator", "fairlead.evaluation.red_team:RedTeam", "2412.03556", "attack success by family of attack, what attacks cost harmless requests, and success over attempts"),
    Entry("drift", "evaluator", "fairlead.evaluation.drift:Drift", "", "KL and log-prob drift of each engine from a base engine, on its own samples"),
    Entry("token_shift", "evaluator", "fairlead.evaluation.token_shift:TokenShift", "2312.01552", "at which tokens an aligned model leaves its base: unshifted, marginal, shifted; exact KL along the answer"),
    Entry("branching_factor", "evaluator", "fairlead.evaluation.branching_factor:BranchingFactor", "2506.17871", "how many next tokens a model really considers, over whole answers and along them"),
    Entry("logit_lens", "evaluator", "fairlead.evaluation.logit_lens:LogitLens", "", "what a model would say first at every layer, and at which layer it has made up its mind"),
    Entry("length", "evaluator", "fairlead.evaluation.length:Length", "", "completion lengths and finish reasons"),
    Entry("rules", "evaluator", "fairlead.evaluation.rules:Rules", "", "share of verifiable constraints that answers follow, strictly and loosely, and pass@k"),
    Entry("length_following", "evaluator", "fairlead.evaluation.length_following:LengthFollowing", "", "how near the length of answers comes to the length asked for, by how much was asked for"),
    Entry("diversity", "evaluator", "fairlead.evaluation.diversity:Diversity", "2310.06452", "how different answers are, to one prompt and across prompts: distinct n-grams, self-BLEU, embedding spread"),
    Entry("decoder_stats", "evaluator", "fairlead.evaluation.decoder_stats:DecoderStats", "", "means of the numbers that decoding methods tell beside their answers: forwards, rounds, shares by source"),
    Entry("pair_accuracy", "evaluator", "fairlead.evaluation.pair_accuracy:PairAccuracy", "", "share of held-out pairs whose preferred answer an engine finds likelier, beside 'the longer wins'"),
    Entry("reward_agreement", "evaluator", "fairlead.evaluation.reward_agreement:RewardAgreement", "2505.11080", "how often rewards name the same winner, or the same tie, as people do, beside length and chance"),
    Entry("discretion", "evaluator", "fairlead.evaluation.discretion:Discretion", "2502.10441", "what annotators prefer where principles agree, and which principle wins for them in conflicts"),
    Entry("values", "evaluator", "fairlead.evaluation.values:Values", "2308.12014", "which values a model states in a questionnaire, how steadily, which its answers show, how far from a target"),
    Entry("dilemmas", "evaluator", "fairlead.evaluation.dilemmas:Dilemmas", "2308.12014", "which value a model puts before which, from dilemmas between two, and whether its choices fit any order"),
    Entry("uncertainty", "evaluator", "fairlead.evaluation.uncertainty:Uncertainty", "2405.10301", "how sure an ensemble of rewards is of answers, and what it guarantees about the truth"),
    Entry("semantic_entropy", "evaluator", "fairlead.evaluation.semantic_entropy:SemanticEntropy", "2302.09664", "how much an engine's draws differ in meaning, and whether that tells when its answer is wrong"),
    Entry("extraction", "evaluator", "fairlead.evaluation.extraction:Extraction", "2510.18554", "what training data a model writes behind its template's opening, matched by calibrated vectors and by edits"),
    Entry("attitude_scales", "evaluator", "fairlead.evaluation.attitude_scales:AttitudeScales", "2311.06025", "the attitude that a model states on a Likert scale: reverse items, every order of the options, what is no answer"),
    Entry("weak_to_strong_gap", "evaluator", "fairlead.evaluation.weak_to_strong_gap:WeakToStrongGap", "2410.12621", "share of the gap between a weak supervisor and a ceiling that students recover, and whose errors they copy"),
    Entry("sycophancy", "evaluator", "fairlead.evaluation.sycophancy:Sycophancy", "", "how often answers change to what the user believes, from right to wrong and back, and when asked back"),
    Entry("bias", "evaluator", "fairlead.evaluation.bias:Bias", "", "prejudice in choices about ambiguous and decided scenes, and how toxic the worst of many answers is"),
    Entry("enough_data", "evaluator", "fairlead.evaluation.enough_data:EnoughData", "2411.10545", "how much data is enough: reward over the records trained on, as a plateau with intervals"),
    Entry("factuality", "evaluator", "fairlead.evaluation.factuality:Factuality", "", "the share of the facts in answers that passages bear out, and how often nothing is claimed"),
    Entry("best_of_n_curve", "evaluator", "fairlead.evaluation.best_of_n_curve:BestOfNCurve", "2404.01730", "what the best of N draws would reach and cost in KL, foretold from draws, beside the tilt and real answers"),
    Entry("representation", "evaluator", "fairlead.evaluation.representation:Representation", "2511.19504", "whom a model speaks for: its win rate under each group's preferences, and how far the worst-served is off"),
)
# fmt: on


PRESETS: dict[str, dict[str, str]] = {
    "objective": dict.fromkeys(
        ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "ppo", "reinforce", "reinforce_pp", "raft"),
        "policy_gradient",
    )
}
"""By kind: further names, each for a method with some of its fields set (the method's own `presets`)."""


def entries(kind: str | None = None) -> tuple[Entry, ...]:
    """Return all entries, or those of one kind."""
    if kind is not None and kind not in KINDS:
        raise UnknownNameError("kind of method", kind, KINDS)
    return tuple(e for e in ENTRIES if kind is None or e.kind == kind)


def find(kind: str, name: str, *, place: str | None = None) -> Entry:
    """Return the entry of `kind` called `name`, or raise with the nearest name."""
    known = {e.name: e for e in entries(kind)}
    presets = PRESETS.get(kind, {})
    if name not in known and name not in presets:
        raise UnknownNameError(kind, name, [*known, *presets], place=place)
    return known[presets.get(name, name)]


def build(kind: str, name: str, /, *, place: str | None = None, **fields: Any) -> Any:
    """Build a method by catalog name, or by the name of a preset, from plain field values.

    Raises:
        UnknownNameError, UnknownFieldError, UsageError: with the nearest name or the expected fields.
    """
    from fairlead import fields as method_fields

    method = find(kind, name, place=place).load()
    preset = method.presets[name] if name in PRESETS.get(kind, {}) else {}
    return method_fields.build(method, {**preset, **fields}, owner=name, place=place)


def from_spec(kind: str, spec: Any, *, place: str | None = None) -> Any:
    """Build a method from what a recipe or command line says: a name, or a mapping of `name` and fields.

    A method that is already built is returned as it is.
    """
    if isinstance(spec, str):
        return build(kind, spec, place=place)
    if isinstance(spec, Mapping):
        fields = dict(spec)
        name = fields.pop("name", None)
        if not isinstance(name, str):
            raise UsageError(
                f"a {kind} needs a name", place=place, fix=f"write {{name: {entries(kind)[0].name}, ...fields}}"
            )
        return build(kind, name, place=place, **fields)
    return spec
