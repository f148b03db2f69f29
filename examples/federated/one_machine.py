"""A SuperLink and SuperNodes on this machine, and one run of the app in this folder: to see it work before going out.

    python examples/federated/one_machine.py --data site_1 site_2 site_3 --out runs/federated [--config small.toml]

Every site is a prepared data set (`sam3d-med prepare`). All traffic is encrypted, with a certificate that is made for
this run; `--insecure` turns that off. Logs: OUT/logs. The command can be killed and given again: the run goes on after
its last whole round.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

APP = Path(__file__).resolve().parent
LINK_PORT, FIRST_NODE_PORT = 9443, 9460
_START_S = 120.0


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate of this machine's own name, for a week; returns (certificate, key).

    Raises:
        ValueError: there is no `openssl`, or it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", "7", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ValueError("there is no openssl to make a certificate with: install it, or take --insecure") from error
    except subprocess.CalledProcessError as error:
        raise ValueError(f"openssl made no certificate: {error.stderr.strip()}") from error
    key.chmod(0o600)
    return cert, key


@contextmanager
def running(words: Sequence[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; its output goes to a file."""
    with open(log, "ab") as stream:
        program = subprocess.Popen(words, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(20)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def wait_for_port(port: int, program: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a program listens; ValueError where it ended instead, or took too long."""
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends and program.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            time.sleep(0.5)
    raise ValueError(f"{program.args!r} does not listen on port {port}; see {log}")


def tool(name: str) -> str:
    """Return the path of one of Flower's programs, as installed beside this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def run_settings(config: Path | None) -> dict[str, Any]:
    """Read settings of a TOML file; those of a table get its name in front, as Flower has them."""
    settings: dict[str, Any] = {}
    for name, value in (tomllib.loads(config.read_text(encoding="utf-8")) if config else {}).items():
        inner = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        settings |= inner
    return settings


def run(data: Sequence[Path], out: Path, config: Path | None, insecure: bool) -> int:
    """Start everything, run the app, stop everything; returns the status of `flwr run`."""
    logs, home = out / "logs", out / "flower"
    for folder in (logs, home):
        folder.mkdir(parents=True, exist_ok=True)
    link = f"127.0.0.1:{LINK_PORT}"
    own, trust, connection = ["--insecure"], ["--insecure"], "insecure = true"
    if not insecure:
        cert, key = certificate(home)
        own = ["--ssl-certfile", str(cert), "--ssl-keyfile", str(key), "--ssl-ca-certfile", str(cert)]
        trust, connection = [*own, "--root-certificates", str(cert)], f'root-certificates = "{cert}"'
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{link}"\n{connection}\n', encoding="utf-8"
    )
    environment = os.environ | {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    # The app brings no code that would have to be installed: what it needs is where this program runs.
    superlink = [tool("flower-superlink"), *own, "--host", "127.0.0.1", "--port", str(LINK_PORT)]
    superlink.append("--disable-runtime-dependency-installation")
    with ExitStack() as stack:
        started = stack.enter_context(running(superlink, logs / "superlink.log", environment))
        wait_for_port(LINK_PORT, started, logs / "superlink.log")
        for number, root in enumerate(data, start=1):
            site = f'data-root="{root.resolve()}" folder="{(out / f"site_{number}").resolve()}"'
            node = [tool("flower-supernode"), *trust, "--superlink", link, "--port", str(FIRST_NODE_PORT + number)]
            node += ["--node-config", site]
            stack.enter_context(running(node, logs / f"site_{number}.log", environment))
        settings = run_settings(config) | {"sites": len(data), "folder": str(out / "coordinator")}
        chosen = " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())
        words = [tool("flwr"), "run", str(APP), "here", "--stream", "--run-config", chosen]
        return subprocess.run(words, env=environment, check=False).returncode


def main(words: Sequence[str]) -> int:
    """Read the command line and run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="prepared data sets, one for each site")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, its logs and its adapter")
    parser.add_argument("--config", type=Path, help="a TOML file with other settings than pyproject.toml's")
    parser.add_argument("--insecure", action="store_true", help="do not encrypt")
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    return run(asked.data, asked.out.resolve(), asked.config, asked.insecure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
