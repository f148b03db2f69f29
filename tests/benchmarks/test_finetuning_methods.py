"""The comparison of methods: its steps are commands, what is done stays done, and its table is what was scored."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.finetuning_methods import (
    DIRECT,
    METHODS,
    SIMPLE,
    Settings,
    check_finished,
    method_steps,
    parameters_of,
    parse,
    run_all,
    write_results,
)
from benchmarks.method_steps import RECORD, Step
from sam3d_objects.cli.evaluate import evaluate
from sam3d_objects.cli.parser import CommandParser
from sam3d_objects.cli.train import train
from sam3d_objects.evaluation import METRICS, Row, write_rows

FOLDS = (Path("folds/fold0"), Path("folds/fold1"))


def settings(out: Path, *words: str) -> Settings:
    return parse(["--data_root", "data", "--out", str(out), *words])[2]


def row(patient: str, dice: float, system: str = "adapted") -> Row:
    scores = dict.fromkeys(METRICS, 1.0) | {"dice": dice}
    return Row(patient, patient, "organ", "axial", "largest", 3, system, 0, False, "", 0.1, scores)


def finish(chosen: Settings, fold: Path, name: str, dice: list[float], weights: int = 0) -> None:
    """Put there what a method's training and evaluation in a fold leave behind."""
    folder = chosen.run_folder(fold, name)
    systems = ["base", "adapted", *SIMPLE, DIRECT] if name == chosen.reference else ["adapted"]
    rows = [
        row(f"{fold.name}-{n}", one * (1 if s == "adapted" else 0.5), s) for n, one in enumerate(dice) for s in systems
    ]
    for part in ("train", "eval"):
        (folder / part).mkdir(parents=True)
        (folder / part / RECORD).write_text(json.dumps({"cpu_minutes": 2.0 + len(fold.name), "peak_mib": 100.0}))
    (folder / "evaluation").mkdir()
    write_rows(folder / "evaluation" / "rows.csv", rows)
    (folder / "training" / "best").mkdir(parents=True)
    tensors = {"a": np.zeros((weights, 2), dtype=np.float32), "b": np.zeros(3, dtype=np.float32)}
    save_file(tensors, folder / "training" / "best" / "adapter_model.safetensors")


@pytest.mark.parametrize("name", METHODS)
def test_every_step_is_a_command_that_the_parser_takes(tmp_path: Path, name: str) -> None:
    chosen = settings(tmp_path, "--epochs", "3", "--stages", "--base", "elsewhere", "--seed", "5")
    commands: dict[str, Callable[..., None]] = {"train": train, "eval": evaluate}
    for step in method_steps(chosen, FOLDS[0], name):
        values = CommandParser("x", commands[step.words[0]]).parse(step.command[1:])
        options = values["options"]
        assert (options.base, options.seed, values["data_root"]) == ("elsewhere", 5, FOLDS[0])
        if step.words[0] == "train" and "stage_" not in step.name:
            assert (options.epochs, options.patience, options.resume) == (3, 0, True)
            assert options.method == name.split("_")[0]


def test_the_reference_also_judges_the_others_and_the_stages_build_on_it(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "--stages")
    steps = {step.name: step for step in method_steps(chosen, FOLDS[0], "lora_r16")}
    assert list(steps) == [
        f"fold0/{name}/{part}" for name in ("lora_r16", "stage_latent", "stage_decoder") for part in ("train", "eval")
    ]
    assert "base,adapted,extrusion" in " ".join(steps["fold0/lora_r16/eval"].words)
    assert steps["fold0/lora_r16/eval"].words[-1] == "--direct"
    together = steps["fold0/stage_decoder/eval"].copies
    assert [copy.name for copy in together] == ["structure", "latent", "decoder"]
    assert [original.parts[-3] for original in together.values()] == ["lora_r16", "stage_latent", "stage_decoder"]
    assert [step.name for step in method_steps(chosen, FOLDS[0], "full")] == ["fold0/full/train", "fold0/full/eval"]
    assert settings(tmp_path, "--methods", "full", "lora_r4").reference == "full"


def test_a_step_runs_once_and_says_what_it_took(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    (original / "file").write_text("adapter")
    step = Step("one", tmp_path / "one", ("--version",), copies={tmp_path / "set" / "structure": original})
    assert not step.cost
    step.run(threads=1)
    cost = json.loads((tmp_path / "one" / RECORD).read_text())
    assert cost["cpu_minutes"] > 0 and 20 < cost["peak_mib"] < 4000
    assert (tmp_path / "one" / "log.txt").read_text().startswith("sam3d-medical ")
    assert (tmp_path / "set" / "structure" / "file").read_text() == "adapter"
    replace(step, places=("no such command",)).run(threads=1)  # it is done, wherever it lies
    with pytest.raises(ValueError, match=r"one was done for another request: --version; now it is eval --help\."):
        replace(step, words=("eval", "--help")).run(threads=1)


def note_done(chosen: Settings, fold: Path, name: str, words: bool = True) -> None:
    """Note a method's steps as done, as they are asked for."""
    for step in method_steps(chosen, fold, name):
        step.folder.mkdir(parents=True)
        record = {"cpu_minutes": 1.0, "peak_mib": 1.0} | ({"words": step.asked} if words else {})
        (step.folder / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (["--epochs", "3"], r"lora_r4/train was .* --epochs 2; now .* 3\. .* remove .*lora_r4 \(so .* 13 more"),
        (["--epochs", "2", "--seed", "1"], r"lora_r4/train was done .* with 15 more steps"),
        (["--epochs", "2", "--no_direct"], r"lora_r16/eval was done .* remove .*lora_r16/eval$"),
        # Another reference: its evaluation would have to judge the simple methods, too.
        (["--epochs", "2", "--methods", "full"], "full/eval was done for another request"),
    ],
)
def test_what_was_done_for_another_request_is_refused_before_anything_runs(
    tmp_path: Path, later: list[str], message: str
) -> None:
    chosen = settings(tmp_path, "--epochs", "2", "--stages")
    for name in METHODS:
        note_done(chosen, FOLDS[0], name)
    assert not run_all(replace(chosen, only=("nothing",)), FOLDS[:1])
    check_finished(settings(tmp_path, "--epochs", "2", "--jobs", "2", "--methods", "full", "lora_r16"), FOLDS)
    with pytest.raises(ValueError, match=message):
        run_all(settings(tmp_path, *later, "--only", "nothing"), FOLDS[:1])


def test_the_stages_scores_are_of_the_structure_that_was_trained_before(tmp_path: Path) -> None:
    first, later = settings(tmp_path, "--stages"), settings(tmp_path, "--stages", "--epochs", "3")
    note_done(first, FOLDS[0], "lora_r16")
    for part in ("train", "eval"):
        (first.run_folder(FOLDS[0], "lora_r16") / part / RECORD).unlink()
    with pytest.raises(ValueError, match="stage_latent/eval was done for another request"):
        check_finished(later, FOLDS)


def test_a_record_of_an_earlier_version_has_no_words_and_is_accepted(tmp_path: Path) -> None:
    note_done(settings(tmp_path), FOLDS[0], "full", words=False)
    check_finished(settings(tmp_path, "--epochs", "7"), FOLDS)


def test_what_fails_is_said_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings(tmp_path, "--methods", "full", "scratch", "--only", "train")
    failures = run_all(chosen, FOLDS[:1])
    assert len(failures) == 2
    assert all("fold0 is not a prepared data set" in failure and "log.txt" in failure for failure in failures)
    assert "fold0/scratch/train: running" in capsys.readouterr().out


def test_the_table_pools_the_folds_and_compares_case_by_case(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "--methods", "lora_r16", "full")
    for fold, shift in zip(FOLDS, (0.0, 0.1), strict=True):
        finish(chosen, fold, "lora_r16", [0.5 + shift, 0.78 + shift], weights=4)
        finish(chosen, fold, "full", [0.4 + shift, 0.8 + shift], weights=10)
    write_results(chosen, FOLDS)
    found = json.loads((tmp_path / "methods.json").read_text())
    lora = found["systems"]["lora_r16"]
    assert (lora["n"], lora["patients"], lora["parameters"], lora["cpu_minutes"]) == (4, 4, 11, 7.0)
    assert lora["dice"]["mean"]["value"] == pytest.approx(0.69)
    assert lora["dice"]["median"]["value"] == pytest.approx(0.69)
    assert found["systems"]["base"]["dice"]["mean"]["value"] == pytest.approx(0.345)
    assert found["differences"]["lora_r16 - full"]["dice"]["value"] == pytest.approx(0.04)
    assert found["differences"]["lora_r16 - base"]["dice"]["value"] == pytest.approx(0.345)
    text = (tmp_path / "methods.md").read_text()
    assert "| full | 4 | 0 | 0.650 (" in text and "| 23 |" in text and "+0.345 (" in text
    assert "2 of 2 folds" in text and "| system | axial largest |" in text and "| full | 0.650 |" in text


def test_a_fold_counts_when_all_methods_were_judged_in_it(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "--methods", "lora_r16", "full")
    for fold in FOLDS:
        finish(chosen, fold, "lora_r16", [0.5, 0.6])
    finish(chosen, FOLDS[0], "full", [0.7, 0.8])
    write_results(chosen, FOLDS)
    found = json.loads((tmp_path / "methods.json").read_text())
    assert (found["pooled"], found["folds"]) == (1, 2)
    assert {name: system["n"] for name, system in found["systems"].items()} == dict.fromkeys(found["systems"], 2)


@pytest.mark.parametrize(
    ("whole", "minutes", "peak", "shown"),
    [
        ([True, False], 4.0, 50.0, "| 4.0 | 50 |"),
        ([None, False], 4.0, 50.0, "| 4.0 | 50 |"),
        ([False, False], None, None, "| - | - |"),
    ],
)
def test_a_training_that_was_cut_off_has_no_cost(
    tmp_path: Path, whole: list[bool | None], minutes: float | None, peak: float | None, shown: str
) -> None:
    chosen = settings(tmp_path, "--methods", "full")
    for fold, one, took in zip(FOLDS, whole, (4.0, 1.0), strict=True):
        finish(chosen, fold, "full", [0.5, 0.6])
        record = {"cpu_minutes": took, "peak_mib": 200 / took} | ({} if one is None else {"whole": one})
        (chosen.run_folder(fold, "full") / "train" / RECORD).write_text(json.dumps(record))
    write_results(chosen, FOLDS)
    found = json.loads((tmp_path / "methods.json").read_text())["systems"]["full"]
    assert (found["cpu_minutes"], found["peak_mib"], found["parameters"]) == (minutes, peak, 3)
    assert shown in (tmp_path / "methods.md").read_text()


def test_the_method_named_beforehand_is_compared_not_the_best(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "--methods", "lora_r16", "full", "scratch")
    for name, score in (("lora_r16", 0.5), ("full", 0.7), ("scratch", 0.9)):
        finish(chosen, FOLDS[0], name, [score, score])
    write_results(chosen, FOLDS[:1])
    found = json.loads((tmp_path / "methods.json").read_text())["differences"]
    assert {"lora_r16 - base", "lora_r16 - scratch", "lora_r16 - full", "full - scratch"} <= found.keys()
    assert not any(name.startswith("scratch") for name in found)


def test_a_step_notes_whether_it_ran_in_one_go(tmp_path: Path) -> None:
    step = Step("one", tmp_path / "one", ("--version",))
    with pytest.raises(ValueError, match="one: status"):
        replace(step, places=("no such command",)).run(threads=1)
    step.run(threads=1)
    assert step.cost and step.cost["whole"] is False
    other = Step("other", tmp_path / "other", ("--version",))
    other.run(threads=1)
    assert other.cost and other.cost["whole"] is True


def test_an_evaluation_that_is_not_done_is_not_pooled(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "--methods", "lora_r16", "full")
    finish(chosen, FOLDS[0], "lora_r16", [0.5, 0.6])
    finish(chosen, FOLDS[1], "full", [0.5, 0.6])
    (chosen.run_folder(FOLDS[1], "full") / "eval" / RECORD).unlink()
    write_results(chosen, FOLDS)
    found = json.loads((tmp_path / "methods.json").read_text())
    assert "full" not in found["systems"] and found["systems"]["lora_r16"]["n"] == 2
    assert not any("full" in name for name in found["differences"])


def test_parameters_are_counted_in_the_file(tmp_path: Path) -> None:
    save_file(
        {"a": np.zeros((3, 4), dtype=np.float32), "b": np.zeros((), dtype=np.float32)}, tmp_path / "x.safetensors"
    )
    assert parameters_of(tmp_path / "x.safetensors") == 13
