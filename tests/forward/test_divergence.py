"""Tiled divergences against full softmax: values, gradients, top-k, and never all logits at once."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UnsupportedError, UsageError
from fairlead.forward import divergence
from fairlead.forward.divergence import Divergence, token_divergence
from fairlead.forward.logprobs import Head


def logits(hidden, head):
    found = hidden @ head.weight.T
    found = found if head.bias is None else found + head.bias
    found = found * head.scale
    return found if head.cap is None else head.cap * torch.tanh(found / head.cap)


def kl(p, q):
    return (p.exp() * (p - q)).sum(-1)


def full(hidden, head, teacher_hidden, teacher_head, spec):
    """The definition, in float64, on logits of the whole vocabulary."""
    student = logits(hidden, head) / spec.temperature
    teacher = logits(teacher_hidden, teacher_head) / spec.temperature
    student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    if spec.top_k is not None and spec.top_k < student.shape[-1]:
        kept = teacher.topk(spec.top_k).indices
        others = torch.ones_like(teacher, dtype=torch.bool).scatter(-1, kept, False)
        pair = []
        for one in (student, teacher):
            row = one.gather(-1, kept)
            rest = one[others].view(len(one), -1).logsumexp(-1, keepdim=True)
            pair.append(torch.cat([row, rest], -1) if spec.tail == "bucket" else row.log_softmax(-1))
        student, teacher = pair
    if spec.kind == "forward":
        return kl(teacher, student)
    if spec.kind == "reverse":
        return kl(student, teacher)
    mixture = torch.log(spec.beta * teacher.exp() + (1 - spec.beta) * student.exp())
    return spec.beta * kl(teacher, mixture) + (1 - spec.beta) * kl(student, mixture)


def double(head):
    weight = head.weight.detach().double().requires_grad_()
    bias = None if head.bias is None else head.bias.detach().double().requires_grad_()
    return Head(weight, bias, head.scale, head.cap)


def of_logits(student, teacher, **spec):
    """The divergence of two [M, V] tables of logits."""
    eye = torch.eye(student.shape[-1])
    return token_divergence(student, Head(eye), teacher, Head(eye), Divergence(**spec))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 50),
    vocabulary=st.integers(3, 90),
    row_tile=st.integers(1, 40),
    vocabulary_tile=st.integers(1, 64),
    bias=st.booleans(),
    cap=st.sampled_from([None, 5.0]),
    scale=st.sampled_from([1.0, 0.25]),
    kind=st.sampled_from(["forward", "reverse", "jsd"]),
    beta=st.sampled_from([0.1, 0.5, 0.9]),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
    top_k=st.sampled_from([None, 2, 7]),
    tail=st.sampled_from(["renormalise", "bucket"]),
)
def test_equals_full_softmax(
    rows, vocabulary, row_tile, vocabulary_tile, bias, cap, scale, kind, beta, temperature, top_k, tail
):
    torch.manual_seed(rows * 100 + vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "ROW_TILE", row_tile)
        patch.setattr(divergence, "VOCABULARY_TILE", vocabulary_tile)
        patch.setattr(divergence, "DENSE_ELEMENTS", row_tile * vocabulary)
        spec = Divergence(kind, beta, temperature, top_k, tail)
        hidden = (torch.randn(rows, 16) / 2).requires_grad_()
        weight = torch.randn(vocabulary, 16, requires_grad=True)
        head = Head(weight, torch.randn(vocabulary, requires_grad=True) if bias else None, scale, cap)
        other, teacher = torch.randn(rows, 6), Head(torch.randn(vocabulary, 6), torch.randn(vocabulary))
        exact_hidden, exact_head = hidden.detach().double().requires_grad_(), double(head)
        ours = token_divergence(hidden, head, other, teacher, spec)
        theirs = full(exact_hidden, exact_head, other.double(), double(teacher), spec)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, atol=5e-5, rtol=5e-5)
        direction = torch.randn(rows)
        inputs = [t for t in (hidden, head.weight, head.bias) if t is not None]
        exact = [t for t in (exact_hidden, exact_head.weight, exact_head.bias) if t is not None]
        found = torch.autograd.grad(ours @ direction, inputs)
        wanted = torch.autograd.grad(theirs @ direction.double(), exact)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a.double(), b, atol=2e-4, rtol=2e-4)


class TestKnownAnswers:
    def test_teacher_first_and_student_first(self):
        teacher = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
        student = torch.tensor([[0.5, 1.5, 1.0], [0.0, 1.0, -1.0]])
        forward, reverse = of_logits(student, teacher), of_logits(student, teacher, kind="reverse")
        torch.testing.assert_close(forward, torch.tensor([0.07565650, 0.30899368]), atol=1e-6, rtol=0)
        torch.testing.assert_close(reverse, torch.tensor([0.09129500, 0.26621671]), atol=1e-6, rtol=0)
        assert forward.sum().item() == pytest.approx(0.38465018, abs=1e-6)
        assert forward.mean().item() == pytest.approx(0.19232509, abs=1e-6)

    @pytest.mark.parametrize(("k", "value"), [(2, 0.052835), (3, 0.075945), (4, 0.072141), (5, 0.078322)])
    def test_policy_first_on_the_reference_s_top_k(self, k, value):
        policy, reference = torch.tensor([[2.0, 1, 0, -1, 0.5]]), torch.tensor([[1.5, 1.2, 0.1, -2, 0.9]])
        found = of_logits(policy, reference, kind="reverse", top_k=k)
        assert found.item() == pytest.approx(value, abs=1e-6)
        assert of_logits(policy + 7, reference - 3, kind="reverse", top_k=k).item() == pytest.approx(value, abs=1e-5)

    def test_a_bucket_for_the_rest_never_exceeds_the_whole(self):
        torch.manual_seed(0)
        student, teacher = 2 * torch.randn(50, 12), 2 * torch.randn(50, 12)
        whole = of_logits(student, teacher, kind="reverse")
        parts = [of_logits(student, teacher, kind="reverse", top_k=k, tail="bucket") for k in (1, 3, 6, 11)]
        for smaller, larger in zip(parts, [*parts[1:], whole], strict=True):
            assert (smaller <= larger + 1e-5).all()

    def test_jsd_is_symmetric_at_one_half_and_at_most_ln_2(self):
        torch.manual_seed(0)
        student, teacher = 9 * torch.randn(30, 8), 9 * torch.randn(30, 8)
        one, two = of_logits(student, teacher, kind="jsd"), of_logits(teacher, student, kind="jsd")
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        assert one.max() <= math.log(2) + 1e-5

    @pytest.mark.parametrize(("beta", "kind"), [(1e-4, "forward"), (1 - 1e-4, "reverse")])
    def test_jsd_over_its_weight_tends_to_either_kl(self, beta, kind):
        torch.manual_seed(0)
        student, teacher = torch.randn(20, 8, dtype=torch.float64), torch.randn(20, 8, dtype=torch.float64)
        spec = Divergence("jsd", beta)
        eye = Head(torch.eye(8, dtype=torch.float64))
        ends = full(student, eye, teacher, eye, spec) / min(beta, 1 - beta)
        torch.testing.assert_close(
            ends.float(), of_logits(student.float(), teacher.float(), kind=kind), atol=2e-3, rtol=2e-3
        )

    @pytest.mark.parametrize("spec", [{}, {"kind": "reverse"}, {"kind": "jsd"}, {"top_k": 4}, {"temperature": 2.0}])
    def test_a_model_is_no_distance_from_itself(self, spec):
        student = torch.randn(20, 8, requires_grad=True)
        value = of_logits(student, student.detach().clone(), **spec)
        assert value.abs().max() < 1e-6
        assert torch.autograd.grad(value.sum(), student)[0].abs().max() < 1e-6


def test_the_teacher_and_a_frozen_head_get_no_gradient():
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(20, 8)
    other, teacher = torch.randn(5, 4, requires_grad=True), torch.randn(20, 4, requires_grad=True)
    for spec in (Divergence(), Divergence(top_k=4)):
        token_divergence(hidden, Head(weight), other, Head(teacher), spec).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None
    assert other.grad is None
    assert teacher.grad is None


@pytest.mark.parametrize("spec", [Divergence(), Divergence("jsd"), Divergence("reverse", top_k=50)])
def test_low_precision_products_keep_float32_sums(spec):
    torch.manual_seed(0)
    pairs = [(torch.randn(40, 64) / 8, Head(torch.randn(3000, 64))) for _ in range(2)]
    exact = full(*pairs[0], *pairs[1], spec)
    low = token_divergence(*pairs[0], *pairs[1], spec, dtype=torch.bfloat16)
    assert low.dtype == torch.float32
    assert (low - exact).abs().mean() < 0.01  # which tokens are among the top k may differ where two are close


@pytest.mark.parametrize("spec", [Divergence(), Divergence(top_k=16)])
def test_never_holds_all_logits(spec, monkeypatch):
    """The largest tensor alive is a tile, or a model's weight; not [tokens, vocabulary]."""
    monkeypatch.setattr(divergence, "DENSE_ELEMENTS", 1 << 17)
    rows, vocabulary, width = 2048, 8192, 8
    sizes = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    hidden, weight = torch.randn(rows, width, requires_grad=True), torch.randn(vocabulary, width, requires_grad=True)
    with Watch():
        token_divergence(hidden, Head(weight), torch.randn(rows, 4), Head(torch.randn(vocabulary, 4)), spec)
    assert max(sizes) <= max(divergence.ROW_TILE * divergence.VOCABULARY_TILE, 1 << 17, vocabulary * width)
    assert max(sizes) < rows * vocabulary / 16


def test_no_rows():
    for spec in (Divergence(), Divergence(top_k=3)):
        head = Head(torch.randn(9, 4))
        assert token_divergence(torch.zeros(0, 4), head, torch.zeros(0, 4), head, spec).shape == (0,)


def test_other_vocabulary():
    with pytest.raises(UnsupportedError, match="30 columns, the model's 20"):
        token_divergence(
            torch.randn(2, 4), Head(torch.randn(20, 4)), torch.randn(2, 4), Head(torch.randn(30, 4)), Divergence()
        )


@pytest.mark.parametrize(
    "fields",
    [{"kind": "tv"}, {"beta": 0.0}, {"beta": 1.0}, {"temperature": 0.0}, {"top_k": 0}, {"top_k": 1}, {"tail": "cut"}],
)
def test_settings_that_make_no_sense(fields):
    with pytest.raises(UsageError):
        Divergence(**fields)
