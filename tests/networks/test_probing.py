"""Statistics of answers: each network's own, finite whatever it answers, differentiable, and about telling roles apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nfn_cli.networks.probing import Answers, answer_statistics

CLASSES = 4
ROLES = torch.arange(12) % CLASSES


def logits(networks: int, seed: int = 0, level: float = 1.0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(level * rng.standard_normal((networks, len(ROLES), CLASSES)))


def statistics(answers: Tensor) -> np.ndarray:
    return answer_statistics(answers, ROLES).numpy()


def columns_equal_to(found: np.ndarray, wanted: np.ndarray) -> int:
    """How many statistics are these numbers, one for each network."""
    return int(np.isclose(found, wanted[:, None], rtol=1e-9, atol=1e-12).all(0).sum())


def test_statistics_of_a_network_do_not_depend_on_the_company() -> None:
    many = logits(7)
    together = statistics(many)
    for row in range(len(many)):
        np.testing.assert_allclose(statistics(many[row : row + 1])[0], together[row], rtol=1e-12, atol=1e-14)
    assert np.abs(together[0] - together[1]).max() > 0.1  # the control


def test_the_order_of_probes_and_a_constant_on_all_logits_of_an_answer_do_not_show() -> None:
    answers = logits(3)
    order = torch.randperm(len(ROLES), generator=torch.Generator().manual_seed(0))
    here = statistics(answers)
    moved = answer_statistics(answers[:, order], ROLES[order]).numpy()
    np.testing.assert_allclose(moved, here, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(statistics(answers + 5 * torch.arange(12)[None, :, None]), here, rtol=1e-9, atol=1e-9)
    # the control: other answers to the same probes, and a constant on one class
    assert np.abs(statistics(answers[:, order]) - here).max() > 1e-2
    assert np.abs(statistics(answers + torch.tensor([1.0, 0, 0, 0])) - here).max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whatever_a_network_answers_its_statistics_are_finite(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    answers = {
        "zero": torch.zeros_like(logits(1)),
        "one class always": torch.zeros_like(logits(1)) + torch.tensor([0.0, 1.0, 0.0, 0.0]),
        "tiny": logits(1, level=1e-30),
        "large": logits(1, level=1e30),
        "overflown": torch.full_like(logits(1), float("inf")),
        "overflown both ways": logits(1).sign() * float("inf"),
        "not a number": torch.full_like(logits(1), float("nan")),
        "some are not": torch.where(logits(1) > 0, float("nan"), logits(1)),
        "largest": logits(1).sign() * largest,
    }
    for name, each in answers.items():
        asked = each.to(dtype).requires_grad_(True)
        found = answer_statistics(asked, ROLES)
        assert torch.isfinite(found).all(), name
        (gradient,) = torch.autograd.grad(found.sum(), asked)
        assert torch.isfinite(gradient).all(), name


def test_a_network_that_overflows_leaves_the_others_as_they_are() -> None:
    many = logits(3)
    many[1] = float("inf")
    np.testing.assert_allclose(statistics(many)[[0, 2]], statistics(logits(3))[[0, 2]], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_finite_differences(seed: int) -> None:
    asked = logits(2, seed, level=2.0).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: answer_statistics(x, ROLES), (asked,), eps=1e-6, atol=1e-5)


def test_a_network_that_tells_roles_apart_has_margins_that_say_so() -> None:
    noise = logits(6)
    right = torch.nn.functional.one_hot(ROLES, CLASSES).double()
    answers = noise + torch.linspace(0.0, 6.0, 6)[:, None, None] * right
    own = answers.gather(2, ROLES[None, :, None].expand(6, -1, 1))[..., 0].numpy()
    others = np.where(right.numpy() > 0, -np.inf, answers.numpy()).max(2)
    centred = answers.numpy() - answers.numpy().mean(2, keepdims=True)
    margin = (own - others) / np.sqrt(np.square(centred).mean((1, 2)))[:, None]
    found = statistics(answers)
    share = (margin > 0).mean(1)
    assert share[-1] == 1.0
    assert share[0] < 0.5
    assert columns_equal_to(found, share) == 1
    for level in (0.05, 0.5, 0.95):
        assert columns_equal_to(found, np.quantile(margin, level, axis=1)) == 1
    # the control: to other roles the same answers are wrong
    assert columns_equal_to(answer_statistics(answers, (ROLES + 1) % CLASSES).numpy(), share) == 0


def test_answers_are_a_batch_of_networks() -> None:
    batch = Answers(answer_statistics(logits(5), ROLES))
    assert len(batch) == 5
    assert torch.equal(batch[torch.tensor([3, 1])].statistics, batch.statistics[[3, 1]])
    assert batch.to(torch.float32).statistics.dtype == torch.float32
