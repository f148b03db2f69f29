"""Which modules a user means: globs, regular expressions or a callback, always on the full dotted path."""

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import partial

from torch import nn

from sam3d_objects.model.lora.paths import nearest_paths

ModuleTest = Callable[[str, nn.Module], bool]
Targets = str | re.Pattern[str] | ModuleTest | Iterable[str | re.Pattern[str]]

DEFAULT_TARGETS = (r"re:(.*\.)?to_(qkv|q|kv|out)(\.[^.]+)?",)
"""The projections of every attention, ModuleDict entries (`blocks.3.self_attn.to_qkv.shape`) included."""

MLP_TARGETS = (r"re:(.*\.)?mlp(\.[^.]+)?\.mlp\.[02]",)
"""Both layers of every feed-forward of our transformers, on request."""

DEFAULT_OUTPUT_LAYERS = (r"re:(.*\.)?latent_mapping\.(?!translation_scale\.)[^.]+\.out_layer", "out_layer")
"""The output heads of our networks. That of `translation_scale` is left out: the release ignores this latent
and no loss reaches it, so it would be saved for nothing and fail every check that all which is trainable
moves."""

ALL_PARAMETERS = (r"re:(?!latent_mapping\.translation_scale\.out_layer\.)(.*\.)?(weight|bias|gamma|pos_emb)",)
"""Every parameter of our networks, for training without LoRA; the one head that no loss reaches is left out."""

# In no module path and no glob: a text that holds one of these (or starts with a dot) is a regular
# expression.
_REGEX_ONLY = re.compile(r"[\\^$|+(){}]|^\.")


def path_test(pattern: str | re.Pattern[str]) -> Callable[[str], bool]:
    """Return a test of whole dotted paths.

    A string is a glob in which `*` also stands for dots (`blocks.*.self_attn.to_qkv.*`). It is a regular
    expression if it starts with `re:` or holds what neither a glob nor a path can (a backslash, `^ $ | + ( )
    { }`, a dot in front). Both match the whole path, so a leaf's name alone (`to_qkv`) finds only a module at
    the top.

    Raises:
        ValueError: the regular expression is not valid.
    """
    if isinstance(pattern, re.Pattern):
        return lambda path: pattern.fullmatch(path) is not None
    if pattern.startswith("re:") or _REGEX_ONLY.search(pattern):
        try:
            compiled = re.compile(pattern.removeprefix("re:"))
        except re.error as error:
            raise ValueError(f"the pattern {pattern!r} is not a valid regular expression: {error}") from error
        return lambda path: compiled.fullmatch(path) is not None
    return lambda path: fnmatch.fnmatchcase(path, pattern)


def as_tests(targets: Targets) -> dict[str, ModuleTest]:
    """Return one test of (path, module) for each pattern or callback, keyed by the text that errors show.

    Raises:
        ValueError: there are no targets, one is neither text nor a pattern, or a regular expression is not
            valid.
    """
    if callable(targets):
        return {f"callback {getattr(targets, '__name__', 'without a name')}": targets}
    patterns = [targets] if isinstance(targets, str | re.Pattern) else list(targets)
    if not patterns:
        raise ValueError("no targets: name at least one pattern, or leave target_modules out for the default")
    tests: dict[str, ModuleTest] = {}
    for pattern in patterns:
        if not isinstance(pattern, str | re.Pattern):
            raise ValueError(f"a target is a glob, a regular expression or one callback, got {pattern!r}")
        test = path_test(pattern)
        text = pattern if isinstance(pattern, str) else f"re:{pattern.pattern}"
        tests[text] = partial(_test_path, test)
    return tests


def _test_path(test: Callable[[str], bool], path: str, _module: nn.Module) -> bool:
    return test(path)


def no_match_message(text: str, others: list[str], candidates: list[str], wanted: str) -> str:
    """Say that a pattern found nothing it could use, what it found instead, and which paths are near.

    Args:
        text: the pattern.
        others: kinds of module that it did match.
        candidates: the paths that it could have matched.
        wanted: what was looked for, such as "nn.Linear".
    """
    found = f"only {', '.join(sorted(set(others)))}" if others else "nothing"
    near = nearest_paths(text, candidates)
    hint = f"the nearest are {', '.join(near)}" if near else f"the model has no {wanted} at all"
    return f"the pattern {text!r} matches {found} and no {wanted}; {hint} (patterns match full dotted paths)"
