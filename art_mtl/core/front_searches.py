"""What the fronts of all hosts have in common where a call is another search than an attack on each sample."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from art_mtl.core.batch import check_inputs, radius
from art_mtl.core.checks import host_array, parse_norm
from art_mtl.core.config import AttackConfig
from art_mtl.core.front import Front
from art_mtl.core.searches.ensemble import EnsembleSearch
from art_mtl.core.searches.ensemble_members import make_members
from art_mtl.core.searches.ensemble_report import EnsembleReport
from art_mtl.core.searches.patch import PATCH_STEP, PatchPlace, PatchSearch, apply_patch, check_place, patch_mask
from art_mtl.core.searches.universal import UniversalSearch, check_shared


class EnsembleFront(Front):
    """Base of the ensembles without parameters.

    Attributes:
        report: Of the last call: which member won where; None before.
    """

    decided = {"method": "worst-task"}
    report: EnsembleReport | None = None
    version: str
    selection: str
    norm: float | str
    _always_shown: ClassVar[tuple[str, ...]] = ("norm", "eps", "version")

    @property
    def name(self) -> str:
        """As tables print it."""
        return "auto-attack" if self.version == "standard" else f"auto-attack-{self.version}"

    def _search(self, inputs: Tensor) -> EnsembleSearch:
        return EnsembleSearch(make_members(self._attacked_tasks(), parse_norm(self.norm), self.version), self.selection)

    def _keep(self, search: EnsembleSearch) -> None:
        self.report = search.report

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(steps=1, **settled)


class FittedFront(Front):
    """Base of the attacks that find something once, with a method whose last iterate counts, and put it on inputs."""

    _finder = "fit"
    """The method that finds it, for messages."""

    def _applied(self, name: str, inputs: Tensor, found: Tensor | None, bounds_name: str = "bounds") -> Tensor:
        """Inputs, checked, with what was found, ``(1, ...)``.

        Args:
            name: Of the inputs, in messages.
            inputs: ``(N, ...)``.
            found: None where nothing was found yet.
            bounds_name: In messages.
        """
        if found is None:
            raise ValueError(f"There should be something to apply; call `{self._finder}` first. Found none.")
        if inputs.shape[1:] != found.shape[1:]:
            shape = ", ".join(map(str, found.shape[1:]))
            raise ValueError(
                f"Parameter `{name}` should have shape (N, {shape}), as those that it was found for. "
                f"Found {tuple(inputs.shape)}."
            )
        lower, upper = (radius(bounds_name, bound, inputs) for bound in self._bounds())
        inputs = check_inputs(name, inputs, (lower, upper), bounds_name)
        return self._put_on(inputs, found.to(inputs.device)).clamp(lower, upper)

    @abstractmethod
    def _put_on(self, inputs: Tensor, found: Tensor) -> Tensor:
        """The inputs with what was found."""

    def _check_params(self) -> None:
        super()._check_params()
        check_shared(self._config().assemble(self._attacked_tasks()))


class UniversalFront(FittedFront):
    """Base of the search for one perturbation."""

    decided = {"keep": "last"}

    def _search(self, inputs: Tensor) -> UniversalSearch:
        return UniversalSearch()

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(default_scope="batch", **settled)

    def _put_on(self, inputs: Tensor, found: Tensor) -> Tensor:
        return inputs + found


class PatchFront(FittedFront):
    """Base of the search for a patch: L∞, with a radius as wide as the box."""

    decided = {"keep": "last"}
    defaults = {"decay": 0.9}
    size: tuple[int, int] | None
    location: tuple[int, int] | None
    mask: Any
    transforms: Any
    ignore_patch: bool
    shared: bool

    @property
    def _channels_first(self) -> bool:
        """Where the channels of the images stand."""
        return True

    def _search(self, inputs: Tensor) -> PatchSearch:
        return PatchSearch(self._patch_place(tuple(inputs.shape[1:])))

    def _patch_place(self, image: tuple[int, ...]) -> PatchPlace:
        """Where the patch lies on an image of this shape."""
        place = patch_mask(image, self.size, self.location, self.mask, self._channels_first)
        how = bool(self.ignore_patch), bool(self.shared), self._channels_first
        return PatchPlace(place, tuple(self.transforms), *how)

    def _put_on(self, inputs: Tensor, found: Tensor) -> Tensor:
        return apply_patch(inputs, found, self._patch_place(tuple(inputs.shape[1:])).mask)

    def _check_params(self) -> None:
        super()._check_params()
        check_place(self.size, self.location, self.mask)

    def _config(self, **settled: Any) -> AttackConfig:
        lower, upper = map(host_array, self._bounds())
        width, scope = float((upper - lower).max()), "batch" if self.shared else "sample"
        return super()._config(eps=width, first_step=PATCH_STEP, default_scope=scope, **settled)
