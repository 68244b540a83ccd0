"""The texts that the output filter is measured on, and what is done to a passage so that it may pass.

Real text of four kinds: Python sources (the standard library and what is installed beside it), C sources, technical
prose (Debian's /usr/share/doc, the kernel's documentation where it is given) and what a model wrote. Documents are
divided by where they come from (a package, a folder of the kernel), so that what is held out has other authors.
"""

from __future__ import annotations

import base64
import codecs
import gzip
import hashlib
import html
import keyword
import re
import sysconfig
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from strongroom.core.words import words

RESULTS = Path(__file__).resolve().parent / "results"
WORDS = 120  # of a passage
_SHORTEST, _LONGEST = 800, 600_000  # letters of a document, bytes of a page
MOST = {"python": 14_000_000, "c": 14_000_000, "prose": 14_000_000}  # letters of each kind
JUNK = ["zebra", "lantern", "quartz", "meadow", "violet", "thunder", "pickle", "harbor", "saddle", "ribbon", "copper"]
_PAGES = re.compile(r"(\.txt|README[^/]*|\.html|NEWS|\.md|FAQ|\.rst)(\.gz)?$")
_MARKUP = re.compile(r"(?s)<(script|style).*?</\1>|<[^>]*>")


@dataclass(frozen=True)
class Doc:
    """A document, its kind, and what it belongs to."""

    kind: str
    group: str
    text: str


def documents(texts: list[Path]) -> tuple[list[Doc], list[Doc]]:
    """Return the members of the training text, and what is held out: a third of all groups."""
    drawn = np.random.default_rng(7)
    found: dict[str, list[tuple[str, Path]]] = {"python": [], "c": [], "prose": []}
    for kind, group, path in _paths(texts):
        found[kind].append((group, path))
    members: list[Doc] = []
    held: list[Doc] = []
    seen: set[bytes] = set()
    for kind, named in found.items():
        paths = [named[at] for at in drawn.permutation(len(named))]
        size = 0
        for group, path in paths:
            text = _read(path)
            digest = hashlib.md5(text.encode("utf-8", "replace"), usedforsecurity=False).digest()
            if size > MOST[kind] or len(text) < _SHORTEST or digest in seen:
                continue
            seen.add(digest)
            size += len(text)
            third = hashlib.md5(group.encode(), usedforsecurity=False).digest()[0] % 3
            (held if third == 0 else members).append(Doc(kind, group, text))
    return members, held


def _paths(texts: list[Path]) -> Iterator[tuple[str, str, Path]]:
    library, beside = (Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib"))
    for path, parts in [*_below(library), *_below(beside)]:
        if path.suffix == ".py" and not {"site-packages", "_vendor", "_vendored", "_distutils"} & set(parts):
            yield "python", parts[0], path
    for path, parts in _below(Path("/usr/share/doc")):
        if _PAGES.search(path.name) and path.stat().st_size < _LONGEST:
            yield "prose", "doc/" + parts[0].split("-")[0], path
    for root in texts:
        for path, parts in _below(root):
            kind = "c" if path.suffix in {".c", ".h"} else "prose" if _PAGES.search(path.name) else ""
            if kind:
                yield kind, "/".join(parts[:-1][:3]), path


def _below(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path, path.relative_to(root).parts


def _read(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError):
        return ""
    text = raw.decode("utf-8", "replace")
    return html.unescape(_MARKUP.sub(" ", text)) if ".html" in path.name else text


def passages(docs: list[Doc], many: int, *, each: int = 6, seed: int = 3) -> list[Doc]:
    """Return passages of `WORDS` words, as their documents have them: `each` of a document at most."""
    drawn = np.random.default_rng(seed)
    shuffled = [docs[at] for at in drawn.permutation(len(docs))]
    found: list[Doc] = []
    for doc in shuffled:
        ends = [0, *(end for _, end in words(doc.text))]
        for _ in range(min(each, (len(ends) - 1) // WORDS)):
            at = int(drawn.integers(len(ends) - WORDS))
            found.append(Doc(doc.kind, doc.group, doc.text[ends[at] : ends[at + WORDS]]))
        if len(found) >= many:
            break
    return found[:many]


def model_prose(tokenizer: Tokenizer) -> list[Doc]:
    """Return what SmolLM2-135M-Instruct wrote (watermark_texts.py), as far as it is long enough."""
    rows = np.load(RESULTS / "watermark-texts.npz")["tokens"]
    texts = [tokenizer.decode([int(one) for one in row], skip_special_tokens=True) for row in rows]
    return [Doc("model", "model", one) for one in texts if len(words(one)) >= 100]


# ── what is done to a passage ────────────────────────────────────────────────────────────────────────────────────────
_ALIKE = str.maketrans(
    "aeopcxsijABEKMHOPCTX",
    "\u0430\u0435\u043e\u0440\u0441\u0445\u0455\u0456\u0458\u0410\u0412"
    "\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425",
)
_WIDE = {at: at + 0xFEE0 for at in range(0x21, 0x7F)}
_CODE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{3,}")
_C_WORDS = {
    *("auto", "break", "case", "char", "const", "continue", "default", "double", "else", "enum", "extern", "float"),
    *("goto", "long", "register", "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef"),
    *("union", "void", "unsigned", "volatile", "while", "include", "define", "ifdef", "ifndef", "endif"),
}


def _replaced(text: str, every: int) -> str:
    parts = re.split(r"(\w+)", text)
    return "".join(
        JUNK[at % len(JUNK)] if at % 2 and (at // 2) % every == every - 1 else one for at, one in enumerate(parts)
    )


def _inserted(text: str, every: int) -> str:
    parts = re.split(r"(\w+)", text)
    return "".join(
        f"{one} {JUNK[at % len(JUNK)]}" if at % 2 and (at // 2) % every == every - 1 else one
        for at, one in enumerate(parts)
    )


def _deleted(text: str, every: int) -> str:
    parts = re.split(r"(\w+)", text)
    return "".join("" if at % 2 and (at // 2) % every == every - 1 else one for at, one in enumerate(parts))


def _renamed(text: str) -> str:
    names: dict[str, str] = {}

    def new(found: re.Match[str]) -> str:
        word = found.group()
        if keyword.iskeyword(word) or word in _C_WORDS:
            return word
        return names.setdefault(word, f"name{len(names)}")

    return _CODE.sub(new, text)


def _shuffled(text: str) -> str:
    parts = [one for one in re.split(r"(?<=[.!?;:{}\n])\s+", text) if one]
    return " ".join(parts[at] for at in np.random.default_rng(5).permutation(len(parts)))


def _interleaved(text: str, every: int) -> str:
    said, out = text.split(), list[str]()
    for at in range(0, len(said), every):
        out += said[at : at + every] + [JUNK[(at + step) % len(JUNK)] for step in range(every)]
    return " ".join(out)


TRANSFORMS: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "UPPER CASE": str.upper,
    "lower case": str.lower,
    "no punctuation": lambda text: re.sub(r"[^\w\s]+", " ", text),
    "other punctuation": lambda text: re.sub(r"[^\w]+", ", ", text),
    "one word a line": lambda text: "\n\n".join(text.split()),
    "wrapped anew": lambda text: re.sub(r"(.{1,40})(\s+|$)", "\\1\n   ", " ".join(text.split())),
    "Cyrillic look-alikes": lambda text: text.translate(_ALIKE),
    "full-width letters": lambda text: text.translate(_WIDE),
    "zero-width between letters": "\u200b".join,
    "accents on letters": lambda text: unicodedata.normalize("NFC", re.sub("([aeiou])", "\\1\u0301", text)),
    "every 12th word replaced": lambda text: _replaced(text, 12),
    "every 12th word inserted": lambda text: _inserted(text, 12),
    "every 12th word deleted": lambda text: _deleted(text, 12),
    "every 7th word replaced": lambda text: _replaced(text, 7),
    "every 7th word inserted": lambda text: _inserted(text, 7),
    "every 7th word deleted": lambda text: _deleted(text, 7),
    "every 5th word replaced": lambda text: _replaced(text, 5),
    "every 5th word deleted": lambda text: _deleted(text, 5),
    "sentences or lines shuffled": _shuffled,
    "10 words, 10 of junk": lambda text: _interleaved(text, 10),
    "5 words, 5 of junk": lambda text: _interleaved(text, 5),
    "identifiers renamed (code)": _renamed,
    "comments and strings taken out (code)": lambda text: re.sub(
        r'"""[\s\S]*?"""|/\*[\s\S]*?\*/|"[^"\n]*"|#[^\n]*|//[^\n]*', " ", text
    ),
    "each word for another (stands in for translation)": lambda text: re.sub(
        r"\w+", lambda one: codecs.encode(one.group()[::-1], "rot13"), text
    ),
    "letter by letter": " ".join,
    "words joined in pairs": lambda text: re.sub(r"(\w+)\W+(\w+)", r"\1\2", text),
    "base64": lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode(),
    "ROT13": lambda text: codecs.encode(text, "rot13"),
    "words in reverse order": lambda text: " ".join(reversed(text.split())),
    "letters in reverse order": lambda text: text[::-1],
}
CODE_ONLY = {"identifiers renamed (code)", "comments and strings taken out (code)"}
