"""Names, help texts and first lines of docstrings use the words of docs/glossary.md; each class name is used once."""

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "srgan_fast"
GLOSSARY = ROOT / "docs/glossary.md"

# Parts of identifiers (of classes, functions, arguments and modules), and what to call it instead.
IDENTIFIERS = {
    "anew": "rerun, rebuild",
    "behind": "after",
    "critic": "discriminator",
    "examination": "self_test",
    "examined": "tested",
    "picture": "image",
    "pictures": "images",
    "settled": "weights_are_constant",
}

# Whole names of modules that do not say what they hold.
MODULES = {
    "conversation": "worker",
    "facts": "what the facts are about",
    "kept": "cache, or what is kept",
    "quiet": "what is silenced",
    "rounds": "turns, timing",
    "saved": "activations, or what is saved",
    "verdicts": "self_test_cache",
}

# Phrases of help texts and of first lines of docstrings, and what to write instead.
PHRASES = {
    "a pass of its own": "a separate pass",
    "a process of its own": "a separate process, its own process",
    "anew": "again",
    "asked for": "requested",
    "behind": "after",
    "examination": "self-test",
    "examined": "tested",
    "front door": "entry point",
    "front doors": "entry points",
    "half-written": "partial",
    "held against": "compared with",
    "not-a-number": "NaN",
    "not-a-numbers": "NaN",
    "one door": "entry point",
    "outlast": "survive, persist",
    "picture": "image",
    "pictures": "images",
    "the door": "the entry point",
    "torch's library": "cuDNN",
    "verdict": "self-test result",
    "verdicts": "self-test results",
    "where nobody says otherwise": "by default",
    "whoever": "callers, users",
    "yardstick": "reference",
}

# (file, word or phrase): reason.
ALLOWED = {
    ("srgan_fast/doctor/inference_checks.py", "pictures"): "named after the doctor's test part, a value in its JSON",
    ("srgan_fast/ops/infer.py", "picture"): "the operator srgan_fast::infer_picture is registered under this name",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A word that the glossary does not have.

    Attributes:
        path: of the file, from the repository's root.
        line: number of its line.
        found: the word or phrase.
        instead: what to write.
        text: the identifier or the text that contains it.
    """

    path: str
    line: int
    found: str
    instead: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r} in {self.text!r}; write: {self.instead}"


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names of classes, functions and arguments, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """First lines of docstrings, and texts that are passed as `help` or `description`, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield node.body[0].lineno, text.splitlines()[0]
        elif isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            for part in ast.walk(node.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


def words(identifier: str) -> list[str]:
    """The words of a name in snake or camel case, in small letters."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]


def findings(path: str, source: str, allowed: Collection[tuple[str, str]] = ()) -> list[Finding]:
    """All words of a file that the glossary replaces, but for those allowed."""
    tree = ast.parse(source)
    module = Path(path).stem
    found = [Finding(path, 1, module, MODULES[module], module)] if module in MODULES else []
    for line, name in [(1, module), *identifiers(tree)]:
        found += [Finding(path, line, word, IDENTIFIERS[word], name) for word in words(name) if word in IDENTIFIERS]
    for line, text in texts(tree):
        found += [
            Finding(path, line, phrase, instead, text)
            for phrase, instead in PHRASES.items()
            if re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", text, re.IGNORECASE)
        ]
    return [finding for finding in found if (path, finding.found) not in allowed]


def sources() -> Iterator[tuple[str, str]]:
    """Path and text of the modules that are checked."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_names_help_texts_and_docstrings_use_the_words_of_the_glossary() -> None:
    found = [str(finding) for name, source in sources() for finding in findings(name, source, ALLOWED)]
    assert not found, "\n" + "\n".join(found)


def test_each_class_name_is_used_once() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(f"{path.relative_to(ROOT).as_posix()}:{node.lineno}")
    twice = [f"{name}: {', '.join(places)}" for name, places in homes.items() if len(places) > 1]
    assert not twice, "classes of one name; name them by meaning:\n" + "\n".join(twice)


def test_every_exception_is_still_needed() -> None:
    found = {(name, finding.found) for name, source in sources() for finding in findings(name, source)}
    assert not set(ALLOWED) - found


def test_the_glossary_lists_every_word_that_is_not_used() -> None:
    glossary = GLOSSARY.read_text(encoding="utf-8")
    missing = [word for word in {**IDENTIFIERS, **PHRASES} if word.removesuffix("s") not in glossary]
    assert not missing


@pytest.mark.parametrize(
    ("source", "line", "found", "instead"),
    [
        ("class PictureFile: ...", 1, "picture", "image"),
        ("\n\ndef write_pictures(): ...", 3, "pictures", "images"),
        ("def step(critic_map): ...", 1, "critic", "discriminator"),
        ("def load(path, *, anew=False): ...", 1, "anew", "rerun"),
        ('"""Pictures of one folder."""', 1, "pictures", "images"),
        ('class A:\n    """What comes behind it."""', 2, "behind", "after"),
        ('def f():\n    """The precision asked for."""', 2, "asked for", "requested"),
        ('option("--x",\n    help="Of a picture.")', 2, "picture", "image"),
        ('x = Field(description=f"see {y}: not-a-number")', 1, "not-a-number", "NaN"),
    ],
)
def test_a_planted_word_is_found_with_its_line_and_replacement(
    source: str, line: int, found: str, instead: str
) -> None:
    (finding,) = findings("srgan_fast/cli/planted.py", source)
    assert (finding.line, finding.found) == (line, found)
    assert instead in finding.instead
    assert str(finding).startswith(f"srgan_fast/cli/planted.py:{line}: {found!r} in ")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_does_not_say_what_it_holds_is_found(module: str) -> None:
    assert findings(f"srgan_fast/bench/{module}.py", "x = 1")


@pytest.mark.parametrize(
    "source",
    [
        "def depicture_critical(settledness): ...",
        '"""The image after its colour map.\n\nA picture in the second line is a matter of reading."""',
        'print("a picture")',
        'option("--picture", help="Image to upscale.")',
    ],
)
def test_other_words_pass(source: str) -> None:
    assert findings("srgan_fast/cli/planted.py", source) == []
