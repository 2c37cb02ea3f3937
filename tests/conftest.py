"""Fixtures shared by all folders: uncompiled kernels, garbage collection between tests, and a browser
(Debian's ``chromium``, which ``.ci/run`` installs).
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Set
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


GARBAGE = 300 * 2**20
"""Growth of the process in bytes after which garbage is collected."""

IMPORTED = 100
"""Number of imported modules after which their objects are frozen, so that later collections skip them."""

os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
"""Inductor trusts the processor's flags: compiling and running a probe for each vector extension takes
longer than the kernels of a test."""

SIZE = pytest.StashKey[int]()
MODULES = pytest.StashKey[int]()
REQUIRED = "DANETC_REQUIRE_CHROMIUM"  # if this is 1, a missing browser is a failure


def pytest_sessionstart(session: pytest.Session) -> None:
    gc.set_threshold(5_000, 10, 200)  # the whole heap is collected after it has grown: see below
    session.config.stash[SIZE] = _size()


def pytest_collection_finish(session: pytest.Session) -> None:
    _leave_out(session.config)


def _leave_out(config: pytest.Config) -> None:
    """Freeze existing objects (torch, thousands of tests): collections skip them. Tests that measure
    memory collect garbage several times, which took most of their time."""
    gc.collect()
    gc.freeze()
    config.stash[MODULES] = len(sys.modules)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Free the models of earlier tests. An fx model and its graph refer to each other, and Python
    collects such cycles by the number of objects, not by their size: only after tens of ResNets that
    hold gigabytes.
    """
    if _size() > item.config.stash[SIZE] + GARBAGE:
        gc.collect()
        item.config.stash[SIZE] = _size()
    more = len(sys.modules) > item.config.stash[MODULES] + IMPORTED  # for example torch's compiler
    if more or (nextitem is not None and nextitem.path != item.path):  # objects that its tests keep
        _leave_out(item.config)


def _size() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.fixture(scope="session", autouse=True)
def _uncompiled() -> None:
    """Run the functions of the fused backend uncompiled: compiling a kernel takes longer than running a
    small network. Tests of compilation use the fixture ``compiling``."""
    from danetc.runtime.kernels import compiled

    compiled.COMPILE = False


@pytest.fixture(scope="session", autouse=True)
def _unflushed() -> Iterator[None]:
    """Skip ``fsync``, which is slow: tests kill processes, not machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.runtime.kernels.compiled.COMPILE", True)


@pytest.fixture
def inductor(compiling: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a GPU: Inductor compiles for it, and no C++ library is used."""
    monkeypatch.setattr("danetc.runtime.kernels.compiled.DEVICES", ("cpu",))


@pytest.fixture(scope="module")
def few_digits() -> Iterator[Callable[[], Any]]:
    """Reduce ``digits`` to a fifth in this process and its forks. Yields the function that reads all."""
    from danetc.runtime.data.sources import published

    def few() -> Any:
        pairs = zip(whole(), (288, 72), strict=True)
        return tuple((images[:count], labels[:count]) for (images, labels), count in pairs)

    whole = published.splits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "splits", few)
        yield whole


@pytest.fixture
def all_digits(few_digits: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Use all digits in one test of a module with few, for example if other processes read them too."""
    monkeypatch.setattr("danetc.runtime.data.sources.published.splits", few_digits)


@pytest.fixture
def short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.timing.SAMPLE", 0.0)
    monkeypatch.setattr("danetc.tasks.benchmark.SAMPLE", 0.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Without one the test is skipped, or fails where it is required."""
    place = shutil.which("chromium") or shutil.which("chromium-browser")
    if place is None or importlib.util.find_spec("playwright") is None:
        reason = "Chromium (Debian: apt install chromium) or playwright is not installed"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED}=1 wants the tests in a browser to run")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not work for root, nor in most containers; the pages are our own.
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=place, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


def check_accessible(page: Page, passes: Set[str] = frozenset(), but: str = "") -> None:
    """Check axe-core's rules (WCAG A and AA, contrast among them), of which ``passes`` must apply."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    response = axe.Axe().run(page).response
    assert [rule for rule in response["violations"] if rule["id"] != but] == []
    assert passes <= {rule["id"] for rule in response["passes"]}
