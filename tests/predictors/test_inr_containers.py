"""A SIREN says the same in every container that people keep it in, with or without the code that runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nfn_cli.api import classify_inrs, edit_inr, open_model, render_inr
from nfn_cli.graph import NameOptions
from nfn_cli.predictors.inr_predictor import InrAnswer
from nfn_cli.zoo.inr_stated import Stated, stated

SINES = NameOptions(activation="sin", omega="30")


class SineLayer(nn.Module):
    """As in the code of Sitzmann et al. 2020; Zhou et al. 2023 have the same names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(30 * self.linear(x))


class Siren(nn.Module):
    """`multiply` and `add` stand for what people's code does to values at the end (Navon et al. 2023: + 1/2)."""

    def __init__(self, seed: int, multiply: float = 1.0, add: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(SineLayer(2, 24), SineLayer(24, 24), nn.Linear(24, 1))
        self.multiply, self.add = multiply, add

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.multiply + self.add  # type: ignore[no-any-return]


def state_dict(siren: Siren, path: Path) -> None:
    torch.save({"state_dict": siren.state_dict(), "epoch": 7}, path)


def exported(siren: Siren, path: Path) -> None:
    torch.export.save(torch.export.export(siren, (torch.rand(1, 6, 2),)), str(path))  # as get_mgrid makes points


def scripted(siren: Siren, path: Path) -> None:
    torch.jit.save(torch.jit.trace(siren, (torch.rand(6, 2),)), str(path))  # type: ignore[no-untyped-call]


def in_onnx(siren: Siren, path: Path) -> None:
    pytest.importorskip("onnx")
    points = torch.rand(1, 6, 2)
    names = {"input_names": ["points"], "dynamic_axes": {"points": {1: "n"}}}
    torch.onnx.export(siren, (points,), str(path), dynamo=False, **names)  # type: ignore[arg-type]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WITH_CODE = [exported, scripted, in_onnx]


def kept(save: Callable[[Siren, Path], None], siren: Siren, path: Path) -> Path:
    save(siren, path)
    return path


def asked(path: Path, options: NameOptions = NameOptions()) -> InrAnswer:
    (answer,) = classify_inrs([open_model(path, options)], predictor="inr-mnist", model="phasor")
    assert isinstance(answer, InrAnswer), answer
    return answer


@pytest.mark.parametrize("save", WITH_CODE)
def test_the_answer_is_that_of_the_weights_whatever_constants_follow_them(
    tmp_path: Path, save: Callable[[Siren, Path], None]
) -> None:
    plain = asked(kept(state_dict, Siren(0), tmp_path / "plain.pth"), SINES)
    for multiply, add in ((1.0, 0.0), (2.0, 0.5)):
        answer = asked(kept(save, Siren(0, multiply, add), tmp_path / f"siren-{add}"))
        assert answer.probabilities == pytest.approx(plain.probabilities, abs=1e-5)
    for other in (Siren(1), Siren(0, -1.0)):  # a negative shows something else
        assert asked(kept(save, other, tmp_path / f"other-{other.multiply}")).probabilities != pytest.approx(
            plain.probabilities, abs=1e-4
        )


@pytest.mark.parametrize(
    "save", WITH_CODE[:2]
)  # ONNX keeps the one number of the last bias as such a constant, out of reach
def test_constants_at_the_end_are_drawn_and_edited_with(tmp_path: Path, save: Callable[[Siren, Path], None]) -> None:
    plain, other = kept(state_dict, Siren(0), tmp_path / "a.pth"), kept(save, Siren(0, 2.0, 0.5), tmp_path / "b")
    one, two = render_inr(plain, SINES, size=(9, 8)), render_inr(other, size=(9, 8))
    assert (two.lowest, two.highest) == pytest.approx((2 * one.lowest + 0.5, 2 * one.highest + 0.5), abs=1e-4)
    edited = edit_inr(plain, "inr-edit-dilate", SINES, size=(9, 8), pixels=(-1, 1))
    again = edit_inr(other, "inr-edit-dilate", size=(9, 8), pixels=(-1.5, 2.5))
    assert np.abs(edited.after.astype(int) - again.after).max() <= 1
    assert edited.mse_to_target == pytest.approx(again.mse_to_target, rel=1e-3)


def test_a_published_form_is_known_by_bare_tensors_alone(tmp_path: Path) -> None:
    """What comes with its code says itself what it adds."""

    class Navon(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seq = nn.ModuleList([nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 1)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.seq[:-1]:
                x = torch.sin(30 * layer(x))
            return self.seq[-1](x) + 0.5  # type: ignore[no-any-return]

    torch.save(Navon().state_dict(), tmp_path / "a.pth")
    scripted(Navon(), tmp_path / "a.pt")  # type: ignore[arg-type]
    assert stated(open_model(tmp_path / "a.pth", SINES).checkpoint).pixels == (-0.5, 0.5)
    assert stated(open_model(tmp_path / "a.pt").checkpoint) == Stated()
