"""What a person sees of a finished sweep, in a real browser: MLflow's UI, and TensorBoard as our command starts it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.commands import ROOT, family, sweep
from tests.server import mlflow_server
from tests.test_tensorboard_command import shown
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]  # else each worker would make a sweep of its own

SCREENSHOTS = ROOT / "test-results"

FLAGS = (
    "--no-sandbox",  # with which root cannot start it
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

PREFERENCES = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false")
"""
"""MLflow's own assistant would take a third of the window."""


@dataclass(frozen=True)
class Finished:
    """A finished sweep of the default grid on a tracking server."""

    uri: str
    parent_id: str
    run_ids: tuple[str, ...]
    names: tuple[str, ...]

    def address(self, path: str) -> str:
        return f"{self.uri}/#/experiments/0/runs{path}?workflowType=machine_learning"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("sweep")
    with mlflow_server(tmp_path_factory.mktemp("server")) as server:
        settings = {"train_samples": "2000", "validation_samples": "1000", "batch_size": "100,1000", "report": "true"}
        done = sweep("--tracking-uri", server.uri, cwd=folder, **settings)
        assert done.returncode == 0, done.stderr
        parent, children = family(server.folder)
        run_ids, names = zip(*((child.info.run_id, child.info.run_name) for child in children), strict=True)
        yield Finished(server.uri, parent.info.run_id, run_ids, names)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "there is no chromium to test with; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=FLAGS)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window of a browser that has never been here."""
    expect.set_options(timeout=1000 * PATIENCE)
    context = browser.new_context(viewport={"width": 1100, "height": 760})
    context.add_init_script(PREFERENCES)
    context.set_default_timeout(1000 * PATIENCE)
    yield context.new_page()
    context.close()


def keep(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


def test_the_runs_page_nests_eight_runs_under_one_and_compares_them_in_parallel_coordinates(
    page: Page, finished: Finished
) -> None:
    page.goto(finished.address(""))
    names = page.locator("[role=gridcell][col-id='attributes.`Run Name`']")
    expect(names).to_have_count(1)
    names.get_by_role("button").click()
    expect(names).to_have_count(9)
    for name in finished.names:
        expect(names.filter(has_text=name)).to_have_count(1)
    keep(page, "mlflow-runs")

    boxes = page.locator(".ag-selection-checkbox input")
    for number in range(1, 9):  # all but the parent
        boxes.nth(number).check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Comparing 8 Runs from 1 Experiment")).to_be_visible()
    axes = page.locator(".parcoords .axis-title")
    expect(axes).to_have_count(4)
    titles = axes.all_text_contents()
    assert titles[:3] == ["batch_size", "lr", "shuffle"]
    assert titles[3].endswith("accuracy")
    keep(page, "mlflow-compare")


def test_the_overview_of_the_parent_shows_the_leaderboard_with_links_to_the_runs_and_their_comparison(
    page: Page, finished: Finished
) -> None:
    page.goto(finished.address(f"/{finished.parent_id}"))
    page.get_by_text("Show more").click()
    board = page.get_by_role("table").filter(has_text="rank")
    expect(board.get_by_role("row")).to_have_count(9)
    best = board.get_by_role("link").first
    name = best.inner_text()
    assert name in finished.names
    expect(page.get_by_text("Champion").first).to_contain_text(name)
    board.scroll_into_view_if_needed()
    keep(page, "mlflow-leaderboard")
    links = {
        name: best,
        "Comparing 8 Runs from 1 Experiment": page.get_by_role("link", name="Compare all 8 runs"),
    }
    for title, link in links.items():
        with page.context.expect_page() as opened:
            link.click()
        expect(opened.value.get_by_role("heading", name=title)).to_be_visible()
        expect(opened.value.get_by_role("link", name="Model registry")).to_be_visible()  # not so in the GenAI view


def test_the_artifact_page_of_the_parent_renders_the_report(page: Page, finished: Finished) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(finished.address(f"/{finished.parent_id}/artifacts/report.html"))
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", level=1)).to_be_visible()
    expect(report.get_by_role("heading", name="Parallel coordinates")).to_be_attached()
    pictures = report.get_by_role("img")
    assert pictures.count() >= 5
    for picture in pictures.all():
        box = picture.bounding_box()
        assert box
        assert min(box["width"], box["height"]) > 10
    assert [line for line in said if "Content Security Policy" in line] == []
    keep(page, "mlflow-report")


def test_tensorboard_as_our_command_starts_it_shows_everything(page: Page, finished: Finished, tmp_path: Path) -> None:
    with shown(finished.parent_id, "--tracking-uri", finished.uri, cwd=tmp_path) as (_, address):
        page.goto(f"{address}#scalars")
        for tag in ("Accuracy", "Loss"):
            expect(page.locator("tf-scalar-card").filter(has_text=f"tag: {tag}")).to_have_count(1)
        expect(page.get_by_text("Validation accuracy", exact=True)).to_be_attached()
        keep(page, "tensorboard-scalars")

        page.goto(f"{address}#images")
        images = page.locator("tf-image-loader img")
        expect(images).to_have_count(8)
        expect(images.first).to_have_js_property("complete", True)
        assert images.first.evaluate("image => image.naturalWidth") > 28
        keep(page, "tensorboard-images")

        page.goto(f"{address}#graphs")
        expect(page.locator("tf-graph-scene text", has_text="Network").first).to_be_visible()
        keep(page, "tensorboard-graph")

        page.goto(f"{address}#histograms")
        expect(page.locator("vz-histogram-timeseries").first.locator("path.outline")).to_have_count(3)  # epochs
        for tag in ("conv1.bias", "conv1.weight.grad", "out.weight"):
            expect(page.get_by_text(tag, exact=True).first).to_be_attached()
        keep(page, "tensorboard-histograms")

        page.goto(f"{address}#hparams")
        table = page.locator("tf-hparams-table-view")
        for column in ("batch_size", "lr", "shuffle"):
            expect(table.get_by_text(column, exact=True).first).to_be_visible()
        for name in finished.names:
            expect(table.get_by_text(name).first).to_be_attached()
        keep(page, "tensorboard-hparams")
