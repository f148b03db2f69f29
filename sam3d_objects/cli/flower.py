"""What the Flower app is put together from: a site of a prepared data set, and the coordinator of a base model.

Settings come from Flower's two configurations, which are flat tables of names and plain values:

- the run's (`[tool.flwr.app.config]` of the app, or `flwr run --run-config`): `rounds`, `epochs`, `rule`, `sites`,
  `min-sites`, `join-s`, `round-s`, `folder`, and `train.NAME` for any option of `sam3d-med train`
- the node's (`flower-supernode --node-config`), which only that site sees: `data-root`, `folder`, and `base` and
  `device` where they differ from the run's

In a simulation nodes have no paths: `data-root` and `site-folder` of the run's are taken, with `{number}` in them.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3d_objects.config import TrainOptions
from sam3d_objects.files import nearest

if TYPE_CHECKING:
    from torch import nn

    from sam3d_objects.adapter.exchange import AdapterParameters
    from sam3d_objects.federated import Coordinator, Plan, Site
    from sam3d_objects.federated.flower import Patience
    from sam3d_objects.model import SAM3DObjects
    from sam3d_objects.training.adaptation import Adaptation

NUMBER = "{number}"
_TRAIN = "train."
_RUN = ("rounds", "epochs", "rule", "sites", "min-sites", "join-s", "round-s", "folder", "data-root", "site-folder")
_NODE = ("data-root", "folder", "base", "device", "partition-id", "num-partitions")
_LOCAL = ("base", "device")  # a site may have its own
Table = Mapping[str, Any]


def train_options(run: Table, node: Table) -> TrainOptions:
    """Return how a site trains.

    Raises:
        ValueError: an unknown name in either table, a missing one, or an option out of range.
    """
    options = {name.removeprefix(_TRAIN): value for name, value in run.items() if name.startswith(_TRAIN)}
    fields = [field.name for field in dataclasses.fields(TrainOptions)]
    _check_names("train", options, fields)
    _check_names("run", [name for name in run if not name.startswith(_TRAIN)], _RUN)
    _check_names("node", node, _NODE)
    # Flower's tables hold no lists of nothing and no None: an empty text stands for what is not given.
    given = {name: _value(value) for name, value in options.items() if value != ""}
    given |= {name: node[name] for name in _LOCAL if name in node}
    chosen = TrainOptions(**{**given, "epochs": int(_needed(run, "epochs", "run")), "resume": False})
    if chosen.overfit or len(chosen.stages) != 1 or chosen.method != "lora" or chosen.devices != 1:
        raise ValueError("a federated run trains LoRA of one stage, in one process at each site, without overfitting")
    return chosen.of_stage(chosen.stage)


def plan_of(run: Table) -> "Plan":
    """Return how the run goes; ValueError where a name is missing or a value out of range."""
    from sam3d_objects.federated import Plan

    values = {name: int(_needed(run, name, "run")) for name in ("rounds", "epochs")}
    return Plan(**values, rule=str(_needed(run, "rule", "run")), min_sites=int(_needed(run, "min-sites", "run")))


def patience_of(run: Table) -> "Patience":
    """Return for how long the coordinator waits; ValueError as `plan_of`."""
    from sam3d_objects.federated.flower import Patience

    seconds = {name: float(_needed(run, f"{name[:-2]}-s", "run")) for name in ("join_s", "round_s")}
    return Patience(int(_needed(run, "sites", "run")), **seconds)


def site_of(run: Table, node: Table) -> "Site":
    """Make the site of a node, over the prepared data set that the node's table names.

    Raises:
        ValueError: no data set, or options that don't suit it.
    """
    from sam3d_objects.federated import Site
    from sam3d_objects.model.stages import stage_fingerprint

    from .stages import loop_options, ready_stage
    from .train import stage_slices, stage_validator

    options, plan = train_options(run, node), plan_of(run)
    data_root, folder = site_folders(run, node)
    ready = ready_stage(data_root, options)
    slices = stage_slices(ready, data_root, options)
    return Site(
        ready.stage,
        loop_options(options),
        folder,
        stage_fingerprint(ready.model, options.stage),
        ready.built.contract,
        tuple(ready.built.shapes.train.organs),
        rule=plan.rule,
        validator=stage_validator(ready, slices, options, None) if slices else None,
    )


def site_folders(run: Table, node: Table) -> tuple[Path, Path]:
    """Return where a site's prepared data set is, and the folder of its own; ValueError where neither table says."""
    number = str(int(node.get("partition-id", 0)) + 1)
    data_root = node["data-root"] if "data-root" in node else _needed(run, "data-root", "run or node")
    folder = node["folder"] if "folder" in node else _needed(run, "site-folder", "run or node")
    return Path(str(data_root).replace(NUMBER, number)), Path(str(folder).replace(NUMBER, number))


def coordinator_of(run: Table) -> "Coordinator":
    """Make the coordinator, whose first adapter is a fresh one of the base model; the run's folder is its own.

    Raises:
        ValueError: no such base, options that don't suit it, or a folder with another run.
    """
    from sam3d_objects.federated import Coordinator

    _, _, parameters = fresh_adapter(run)
    return Coordinator(parameters, plan_of(run), Path(_needed(run, "folder", "run")))


def fresh_adapter(run: Table) -> "tuple[SAM3DObjects, nn.Module, AdapterParameters]":
    """Return the base model, its adapted module, and the values of the fresh adapter, as every site makes it."""
    from sam3d_objects.adapter.exchange import FROZEN_A, freeze_a, get_parameters
    from sam3d_objects.model import load_model
    from sam3d_objects.model.stages import STRUCTURE, adapted_module, stage_fingerprint
    from sam3d_objects.training.randomness import seed_global_generators

    options = train_options(run, {})
    model = load_model(options.base, stages=("structure",) if options.stage == STRUCTURE else ("structure", "latent"))
    module, fingerprint = adapted_module(model, options.stage), stage_fingerprint(model, options.stage)
    seed_global_generators(options.seed)
    _adaptation(options).apply(module)
    if plan_of(run).rule == FROZEN_A:
        freeze_a(module)
    return model, module, get_parameters(module, fingerprint)


def save_adapter_of(run: Table, coordinator: "Coordinator", metrics: Mapping[str, Mapping[str, float]]) -> Path:
    """Write the run's adapter as a folder beside its state, with the sites' mean metrics, and return it."""
    from sam3d_objects.adapter import AdapterMeta, save_adapter
    from sam3d_objects.adapter.exchange import set_parameters

    options = train_options(run, {})
    model, module, fresh = fresh_adapter(run)
    set_parameters(module, coordinator.parameters, fresh.manifest.base_fingerprint)
    assert coordinator.contract is not None, "a round has set it"
    meta = AdapterMeta(
        stage=options.stage,
        base_name=model.name,
        base_fingerprint=fresh.manifest.base_fingerprint,
        organs=coordinator.organs,
        contract=coordinator.contract,
        metrics=_mean_metrics(metrics),
        training={"federated": dataclasses.asdict(coordinator.plan), "samples": coordinator.parameters.samples},
    )
    folder = coordinator.folder / "adapter"
    save_adapter(folder, module, _adaptation(options).saved_config, meta)
    return folder


def _adaptation(options: TrainOptions) -> "Adaptation":
    from .stages import STAGE_CLASSES, stage_arguments

    cls = STAGE_CLASSES[options.stage][1]
    return cls(**stage_arguments(options, cls)).adaptation


def _mean_metrics(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the means over the sites of what all of them measured, weighted by their validation samples."""
    measured = [site for site in metrics.values() if site.get("samples", 0) > 0]
    names = [name for name in measured[0] if all(name in site for site in measured)] if measured else []
    total = sum(site["samples"] for site in measured)
    means = {name: sum(site[name] * site["samples"] for site in measured) / total for name in names}
    return {**means, "samples": total} if measured else {}


def _needed(table: Table, name: str, which: str) -> Any:
    if name not in table or table[name] == "":
        raise ValueError(f"the {which} configuration lacks {name!r}")
    return table[name]


def _check_names(which: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"the {which} configuration has the unknown name {name!r}.{nearest(name, known)}")


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
