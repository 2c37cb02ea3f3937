"""What a shell completes arguments with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _completing(names: Callable[[], Iterable[str]], *, files: bool = False) -> Completer:
    """What a shell completes an argument with: names that begin so, and files where it takes them."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # late: only a shell asks

        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")] if files else found

    return complete


def _spec_names() -> Iterable[str]:
    from danetc.dsl.reading import shipped_specs

    return shipped_specs()


def _text_names() -> Iterable[str]:
    from danetc.dsl.loading import std_files, std_names

    return [*_spec_names(), *(source.name for source in std_files()), *sorted(std_names())]


def _all_names() -> Iterable[str]:
    from danetc.reference import names

    return names()


def _topics() -> Iterable[str]:
    from danetc.reference import TOPICS

    return TOPICS


def _pretrained() -> Iterable[str]:
    from danetc.pretrained import PREFIX, pretrained_names

    return [PREFIX + name for name in pretrained_names()]


def _data_names() -> Iterable[str]:
    from danetc.runtime.data.sources import SOURCES

    return SOURCES


complete_specs = _completing(_spec_names, files=True)
complete_texts = _completing(_text_names, files=True)
complete_names = _completing(_all_names)
complete_topics = _completing(_topics)
complete_data = _completing(_data_names)
complete_pretrained = _completing(_pretrained, files=True)
