"""Files that are either whole or absent, JSON that says which file is bad, and a hint for mistyped names."""

import difflib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20
# What a plain open() would give a new file. Some writers make theirs readable for their owner alone.
_UMASK = os.umask(0)
os.umask(_UMASK)
_FILE_MODE = 0o666 & ~_UMASK


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block succeeds.

    The temporary name keeps every suffix of `path`, because writers choose their format by it. The parent
    folder is made. When the block raises, the temporary file is removed and `path` stays as it was.

    Raises:
        OSError: the file cannot be written (a full disk, no permission, or the block wrote nothing); the
            message names `path`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.{target.name}")
    try:
        yield temporary
        if temporary.is_file():
            temporary.chmod(_FILE_MODE)
        os.replace(temporary, target)
    except OSError as error:
        if str(target) in str(error):
            raise
        raise OSError(error.errno, f"cannot write {target}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as JSON, atomically; NaN and infinity are refused (ValueError), since JSON has neither."""
    text = json.dumps(obj, indent=1, sort_keys=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON (half written, or something else); the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}. It may be half written.") from error


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits, without holding the file in memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def nearest(name: str, options: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the option nearest to `name`, or an empty string if none is near."""
    matches = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""
