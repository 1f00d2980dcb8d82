"""The words of notes, Chinese and English, counted for a word cloud."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

# Words that say nothing by themselves; jieba's own list of them is for weights, and English only.
_EMPTY = """
的 了 是 在 我 有 和 就 不 人 都 一 一个 上 也 很 到 说 要 去 你 会 着 没有 看 好 自己 这
那 他 她 它 们 我们 你们 他们 她们 与 及 或 但 而 被 把 从 对 为 为了 因为 所以 如果 已 已经
还 还是 再 又 等 并 并且 个 位 名 次 时 时候 里 中 下 后 前 以及 进行 这个 那个 这里 那里
a about after again all also an and any are as at be been before but by can could did do does down for from had has
have he her here him his how i if in into is it its just me more most my no nor not now of off on once only or other
our out over own per she so some such than that the their them then there these they this those through to too under
until up us very was we were what when where which while who whom why will with would you your
"""
EMPTY = frozenset(_EMPTY.split())
WORD = re.compile(r"[\u4e00-\u9fff]+|[a-z][a-z0-9'-]+", re.IGNORECASE)
_making = threading.Lock()


def count(texts: Iterable[str], folder: Path, most: int) -> list[tuple[str, int]]:
    """The words that the most notes hold, with how many do: one note that says something ten times says it once.

    `folder`: where jieba keeps its dictionary in the form that loads quickly."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(set(words(text, folder)))
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]


def words(text: str, folder: Path) -> list[str]:
    """Chinese cut into words of two characters and more, English in small letters; without those that say nothing."""
    found = []
    for piece in WORD.findall(text):
        cut = [piece.lower().strip("'-")] if piece[0].isascii() else _cutter(folder).lcut(piece)
        found += [word for word in cut if len(word) > 1 and word not in EMPTY]
    return found


def _cutter(folder: Path) -> Any:
    with _making:
        return _made(folder)


@lru_cache(1)
def _made(folder: Path) -> Any:
    """Takes about two seconds the first time, and 60 MB. Its quick form lies in our own folder: in the common one for
    temporary files, where jieba would put it, anybody could put another."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    cutter = jieba.Tokenizer()
    cutter.tmp_dir, cutter.cache_file = str(folder.resolve()), "jieba.cache"
    cutter.initialize()
    return cutter
