"""What the reports of one export say of its quantization: read once, for the tables and for the chart."""

from collections.abc import Iterable
from dataclasses import dataclass

from mvit_deploy.report import Report


@dataclass(frozen=True)
class Findings:
    """Blame of the layers, those that cause most first, and the plan, as reports hold them; the network's
    multiply-accumulates."""

    mode: str
    precision: str
    macs: int
    blame: list[dict[str, object]]
    plan: dict[str, object]

    @property
    def frontier(self) -> list[dict[str, object]]:
        return self.plan["frontier"]

    @property
    def chosen(self) -> int | None:
        """The place of the plan in the frontier."""
        kept = self.plan["keep_float"]
        return next((place for place, point in enumerate(self.frontier) if point["keep_float"] == kept), None)

    @property
    def start(self) -> int:
        """Where the search begins, with nothing in float; what stands before is a person's choice."""
        return next((place for place, point in enumerate(self.frontier) if not point["keep_float"]), 0)

    def stays_float(self, layer: str) -> bool:
        return layer in self.plan["keep_float"]

    def share(self, macs: int) -> float:
        return macs / self.macs


def of(reports: Iterable[Report]) -> Findings | None:
    """Blame is the same for all files of a run; the plan shown is one that was searched, where there is one.

    None where nothing was quantized on photos.
    """
    found = [_findings(r.content) for r in reports if r.content.get("quantization", {}).get("blame")]
    return next((each for each in found if each.frontier), found[0] if found else None)


def _findings(content: dict[str, object]) -> Findings:
    model, quantization = content["model"], content["quantization"]
    blame = sorted(quantization["blame"], key=lambda layer: layer["caused_db"])
    return Findings(model["mode"], content["artifact"]["precision"], model["macs"], blame, quantization["plan"])
