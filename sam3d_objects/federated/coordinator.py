"""The coordinator: which round it is, which answers count, and what comes of them. It sees no scan and no patient."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.adapter.exchange import (
    FEDAVG,
    AdapterParameters,
    average,
    check_rule,
    check_same,
    decode,
    encode,
    most_bytes,
)
from sam3d_objects.federated.order import (
    Order,
    SiteReport,
    check_contract,
    most_common_contract,
    read_contract,
)
from sam3d_objects.files import atomic_path, read_json, write_json

STATE, HISTORY = "state.json", "history.json"


class TooFewSitesError(RuntimeError):
    """Too few sites answered a round with something that can be averaged; the message names why each did not."""


@dataclass(frozen=True)
class Plan:
    """How a federated run goes.

    Attributes:
        rounds: of training.
        epochs: of each site in a round.
        rule: how adapters are averaged; the default is for many short rounds, `svd` for few long ones.
        min_sites: a round counts with so many good answers at least.

    Raises:
        ValueError: a number out of range, or an unknown rule.
    """

    rounds: int
    epochs: int = 1
    rule: str = FEDAVG
    min_sites: int = 2

    def __post_init__(self) -> None:
        check_rule(self.rule)
        for name in ("rounds", "epochs", "min_sites"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")


class Coordinator:
    """Keeps the common adapter, and a folder from which a killed run goes on after its last whole round.

    Args:
        initial: the adapter that the first round begins with; all sites must have its kind.
        plan: of the run.
        folder: `state.json`, `history.json` and `round_N.safetensors` are kept there.
        say: where lines for people go.

    Attributes:
        parameters: the common adapter.
        round: the next round, from 0.
        history: one row a round.
        contract, organs: of the sites; None and empty before the first round.

    Raises:
        ValueError: the folder holds a run of another plan or another kind of adapter.
    """

    def __init__(
        self, initial: AdapterParameters, plan: Plan, folder: Path, say: Callable[[str], None] = print
    ) -> None:
        self.parameters, self.plan, self.folder, self.say = initial, plan, Path(folder), say
        self.round = 0
        self.history: list[dict[str, Any]] = []
        self.contract: InferenceContract | None = None
        self.organs: tuple[str, ...] = ()
        if (self.folder / STATE).is_file():
            self._resume()

    @property
    def finished(self) -> bool:
        """Whether all rounds are done."""
        return self.round >= self.plan.rounds

    @property
    def most_bytes(self) -> int:
        """How large a site's answer can be."""
        return most_bytes(self.parameters.manifest)

    def order(self) -> Order:
        """Return what the sites are asked for now."""
        return Order(self.round, self.plan.rounds, self.plan.epochs)

    def message(self) -> bytes:
        """Return the common adapter as it is sent."""
        return encode(self.parameters)

    def finish_round(self, reports: Mapping[str, SiteReport], failed: Mapping[str, str]) -> None:
        """Average what the sites answered, keep it, and go to the next round.

        Args:
            reports: name of a site -> its answer; one that doesn't fit is left out, and said.
            failed: name of a site -> why it did not answer.

        Raises:
            TooFewSitesError: fewer than `min_sites` answers are good. The round can be tried again.
        """
        good, bad = self._sorted(reports, failed)
        for name, reason in bad.items():
            self.say(f"round {self.round + 1}: {name} is left out: {reason}")
        if len(good) < self.plan.min_sites:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in bad.items()) or "nobody answered"
            raise TooFewSitesError(
                f"round {self.round + 1}: {len(good)} good answers, {self.plan.min_sites} are needed ({reasons})"
            )
        result = average([report.parameters for report in good.values()], self.plan.rule)
        down = len(self.message())
        row = {
            "round": self.round + 1,
            "sites": {
                name: {
                    "samples": report.parameters.samples,
                    "bytes_down": down,
                    "bytes_up": len(encode(report.parameters)),
                    "metrics": dict(report.metrics),
                }
                for name, report in good.items()
            },
            "left_out": bad,
            "off_percent": result.worst_percent,
        }
        self.parameters = result.parameters
        first = next(iter(good.values()))
        self.contract = self.contract or first.contract
        everything = [organ for report in good.values() for organ in report.organs]
        self.organs = tuple(dict.fromkeys([*self.organs, *everything]))
        self.history.append(row)
        self.round += 1
        self._save()
        self.say(_line(row, self.plan))

    def _sorted(
        self, reports: Mapping[str, SiteReport], failed: Mapping[str, str]
    ) -> tuple[dict[str, SiteReport], dict[str, str]]:
        """Return the good answers by name, in an order that does not depend on who was quick, and the rest."""
        good: dict[str, SiteReport] = {}
        bad = dict(failed)
        contract = self.contract or most_common_contract([report.contract for report in reports.values()])
        for name, report in sorted(reports.items()):
            try:
                check_same(self.parameters.manifest, report.parameters.manifest)
                check_contract(contract, report.contract)
                if report.parameters.samples < 1:
                    raise ValueError("no training samples stand behind these values")
            except ValueError as error:
                bad[name] = str(error)
            else:
                good[name] = report
        return good, bad

    def _save(self) -> None:
        name = f"round_{self.round:04d}.safetensors"
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(self.message())
        write_json(self.folder / HISTORY, self.history)
        assert self.contract is not None, "a round has set it"
        # Last: what it names is whole.
        write_json(
            self.folder / STATE,
            {
                "plan": dataclasses.asdict(self.plan),
                "round": self.round,
                "parameters": name,
                "contract": dataclasses.asdict(self.contract),
                "organs": list(self.organs),
            },
        )
        for path in self.folder.glob("round_*.safetensors"):
            if path.name != name:
                path.unlink()

    def _resume(self) -> None:
        path = self.folder / STATE
        state = read_json(path)
        try:
            if state["plan"] != dataclasses.asdict(self.plan):
                raise ValueError(f"it was begun with {state['plan']}, now {dataclasses.asdict(self.plan)}")
            file = self.folder / Path(state["parameters"]).name
            parameters = decode(file.read_bytes(), self.most_bytes)
            check_same(self.parameters.manifest, parameters.manifest)
            self.contract, self.organs = read_contract(state["contract"]), tuple(state["organs"])
            self.history = read_json(self.folder / HISTORY)[: state["round"]]
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path} is no run that can go on here: {error}; choose another folder") from error
        self.parameters, self.round = parameters, state["round"]
        self.say(f"{self.folder}: going on after round {self.round} of {self.plan.rounds}")


def _line(row: Mapping[str, Any], plan: Plan) -> str:
    sites = row["sites"]
    losses = ", ".join(f"{name} {site['metrics'].get('loss', float('nan')):.4f}" for name, site in sites.items())
    total = sum(site["bytes_down"] + site["bytes_up"] for site in sites.values())
    return (
        f"round {row['round']} of {plan.rounds}: {len(sites)} sites, loss {losses}; {total:,} bytes; "
        f"{plan.rule} is off the exact mean by {row['off_percent']:.3g} %"
    )
