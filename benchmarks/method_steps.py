"""The steps of a comparison: commands of `sam3d-med`, each a process of its own in a folder of its own, done once.

The process is this file, run with the command's words; it ends when the one that started it does.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam3d_objects import cli
from sam3d_objects.files import read_json, write_json

RECORD = "done.json"


@dataclass(frozen=True)
class Step:
    """One command in a folder of its own; done when RECORD is there, which says what it took.

    Attributes:
        name: fold/method/train or fold/method/eval.
        folder: of its record and its log.
        words: of the command, but for its folders: what is asked for.
        places: its folders, which OUT and the step's name say; OUT may be moved.
        copies: adapter folders that it needs copies of: copy -> original.
        trainings: the words of the trainings whose adapters it scores.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    places: tuple[str, ...] = ()
    copies: Mapping[Path, Path] = field(default_factory=dict)
    trainings: tuple[tuple[str, ...], ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """The whole command."""
        return (*self.words, *self.places)

    @property
    def asked(self) -> list[list[str]]:
        """What its result depends on, as its record has it."""
        return [list(self.words), *map(list, self.trainings)]

    @property
    def cost(self) -> dict[str, Any] | None:
        """Its record if it is done: minutes of processor time and peak memory (MiB) of the last attempt, and so on.

        Raises:
            ValueError: it was done for another request; the message says what differs, and what to do.
        """
        path = self.folder / RECORD
        if not path.is_file():
            return None
        record: dict[str, Any] = read_json(path)
        before = record.get("words", self.asked)  # earlier versions did not note it
        if before != self.asked:
            # A training would go on in its own folder; an evaluation takes what it can use of the old rows.
            remove = self.folder.parent if self.words[0] == "train" else self.folder
            was, now = (" + ".join(map(" ".join, asked)) for asked in (before, self.asked))
            raise ValueError(
                f"{self.name} was done for another request: {was}; now it is {now}. Ask as before (also for the same "
                f"methods, in the same order), take another --out, or remove {remove}"
            )
        return record

    def run(self, threads: int) -> None:
        """Run it unless it is done; its output goes to log.txt.

        Raises:
            ValueError: it failed; the message has its last line and its log. Or it was done for another request.
        """
        if self.cost:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for copy, original in self.copies.items():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(original, copy)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        log_file = self.folder / "log.txt"
        whole = not log_file.exists()  # what an earlier attempt took, which this one goes on from, nobody measured
        with open(log_file, "ab") as log:
            command = [sys.executable, str(Path(__file__).resolve()), *self.command]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            last = log_file.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[2]
            raise ValueError(f"{self.name}: status {child.returncode}: {last} (see {log_file})")
        # Minutes of processor time: those of the clock would tell what else the machine was doing.
        minutes = (usage.ru_utime + usage.ru_stime) / 60
        cost = {"cpu_minutes": minutes, "peak_mib": usage.ru_maxrss / 1024, "whole": whole}
        write_json(self.folder / RECORD, {**cost, "words": self.asked})


def end_with_parent() -> None:
    """Let this process end when the one that started it does: else a second call would write into the same folders."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sys.exit(cli.main(sys.argv[1:]))
