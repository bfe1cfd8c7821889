"""The page and the plots that show what came out of a sweep."""

import itertools
import math
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sweeptrail.errors import SweeptrailError
from sweeptrail.fashion_mnist.data import FashionMnist
from sweeptrail.fashion_mnist.evaluation.facts import Evaluation
from sweeptrail.fashion_mnist.evaluation.predictions import Predictions
from sweeptrail.fashion_mnist.evaluation.sections import sections
from sweeptrail.records import Epoch, Goal, RunResult
from sweeptrail.results import report
from sweeptrail.results.leaderboard import Leaderboard, RankedRun, make_leaderboard
from sweeptrail.results.report import facts, plots, section, tables
from sweeptrail.results.report.section import Section
from sweeptrail.results.report.theme import DARK, LIGHT, inline_svg

SECTIONS = ["summary", "ranking", "curves", "coordinates", "effects", "confusion_matrix", "class_accuracy", "mistakes"]
PLOTS = ["learning_curves", "parallel_coordinates", "effects", "confusion_matrix", "class_accuracy", "mistakes"]
HOSTILE = "<script>alert('&\"')</script>$x^{2$\x00"


def ranked(index: int, accuracy: float, *, epochs: int = 3, sweep: str = "sweep", **params: object) -> RankedRun:
    made = tuple(
        Epoch(
            index, epoch, 1 - accuracy, accuracy - 0.1 / epoch, 2.0, 2.0 * epoch,
            {"validation_loss": 1 - accuracy, "validation_accuracy": accuracy - 0.05 / epoch},
        )
        for epoch in range(1, epochs + 1)
    )  # fmt: skip
    return RankedRun(sweep, RunResult(index, f"{index}_run", params, "FINISHED", made, {"test_accuracy": accuracy}))


def grid(count: int) -> list[RankedRun]:
    """Return so many runs, the first the best."""
    axes = itertools.product((0.1, 0.01, 0.001), (10, 100), (True, False), range(count))
    return [
        ranked(index, 0.9 - 0.0003 * index, lr=lr, batch_size=size, shuffle=shuffle, weight_decay=decay / 8)
        for index, (lr, size, shuffle, decay) in enumerate(itertools.islice(axes, count), start=1)
    ]


@cache
def board(count: int = 8) -> Leaderboard:
    return make_leaderboard(grid(count))


@cache
def answers() -> tuple[FashionMnist, Predictions]:
    """Return random images, of which a tenth were taken for the next class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 10_000).astype(np.uint8)
    images = generator.integers(0, 256, (10_000, 28, 28)).astype(np.uint8)
    classes = np.where(np.arange(10_000) % 10, labels, (labels + 1) % 10).astype(np.uint8)
    data = FashionMnist(images[:1], labels[:1], images, labels, "", "")
    return data, Predictions(classes, generator.random(10_000).astype(np.float32))


@cache
def whole_page(count: int = 8) -> str:
    return report.page(board(count), title="Sweep", sections=own_sections())


@cache
def own_sections() -> tuple[Section, ...]:
    return sections(*answers())


def page_of(*runs: RankedRun) -> str:
    return report.page(make_leaderboard(runs), title="Sweep")


Element = tuple[str, dict[str, str]]


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Element] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def elements(page: str, *tags: str) -> Iterator[dict[str, str]]:
    return (attributes for tag, attributes in Elements(page).found if tag in tags)


def test_the_page_runs_no_script_and_asks_no_other_address_for_anything() -> None:
    found = Elements(whole_page()).found
    assert not {tag for tag, _ in found} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in found:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert "://" not in whole_page()
    assert "@import" not in whole_page()
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", whole_page()))


def test_each_section_is_there_with_a_heading_of_its_own() -> None:
    assert [found["id"] for found in elements(whole_page(), "section")] == SECTIONS
    headings = [found["id"] for found in elements(whole_page(), "h2")]
    assert headings == [found["aria-labelledby"] for found in elements(whole_page(), "section")]


def test_each_id_is_there_once_and_each_reference_has_its_target() -> None:
    ids = [found["id"] for _, found in Elements(whole_page()).found if "id" in found]
    references = re.findall(r'(?:href="|url\()#([^")]+)', whole_page())
    assert len(ids) == len(set(ids))
    assert references
    assert set(references) <= set(ids)


def test_each_plot_and_picture_says_in_words_what_it_shows() -> None:
    plots = list(elements(whole_page(), "svg"))
    assert len(plots) == 5
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 60 for plot in plots)
    pictures = list(elements(whole_page(), "img"))
    assert len(pictures) == 24
    assert all(re.fullmatch(r".+, taken for .+, \d+\.\d%", picture["alt"]) for picture in pictures)


def test_the_numbers_of_each_plot_are_in_a_table() -> None:
    assert sum(1 for _ in elements(whole_page(), "details")) == 4
    text = Elements(whole_page()).text
    assert "95 % interval" in text
    assert "true class \\ predicted" in text


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name() -> None:
    scrolling = [found for found in elements(whole_page(), "div") if found.get("class") == "scroll"]
    assert len(scrolling) == 1 + 5 + 4
    assert all(found["tabindex"] == "0" and found["aria-label"] for found in scrolling)
    assert next(elements(whole_page(), "a"))["href"] == "#main"


def test_every_colour_follows_light_and_dark() -> None:
    assert LIGHT.keys() == DARK.keys()
    plots = "".join(re.findall(r"<svg.*?</svg>", whole_page(), re.DOTALL))
    assert "var(--first)" in plots
    assert not re.findall(r"#[0-9a-f]{6}\b", plots)


def test_the_champion_and_the_verdict_come_first() -> None:
    text = Elements(whole_page()).text
    assert text.index("1_run") < text.index("ahead of") < text.index("By validation accuracy in the last epoch")


@pytest.mark.slow
@pytest.mark.parametrize(("count", "most"), [(8, 300_000), (200, 1_000_000), (1_000, 2_500_000)])
def test_the_page_stays_small(count: int, most: int) -> None:
    assert len(whole_page(count).encode()) < most


def test_long_curves_are_thinned_out() -> None:
    long = [ranked(index, 0.9, epochs=1_000, lr=index) for index in range(1, 61)]
    epochs, values = facts.joined(long, "loss")
    assert len(epochs) == len(values) < 21_000
    assert epochs.count(1_000) == 60


def test_many_places_are_folded() -> None:
    assert "Places 26 to 200" in Elements(whole_page(200)).text
    assert "Places" not in Elements(whole_page(8)).text


def test_hostile_names_stay_text() -> None:
    runs = [ranked(1, 0.9, optimizer=HOSTILE, sweep=HOSTILE), ranked(2, 0.8, optimizer="adam", sweep="two")]
    broken = RunResult(3, HOSTILE, {"optimizer": HOSTILE}, "FAILED", error=HOSTILE)
    page = report.page(make_leaderboard([*runs, RankedRun("two", broken)]), title=HOSTILE)
    assert list(elements(page, "script")) == []
    assert HOSTILE.replace("\x00", " ") in Elements(page).text
    assert "\x00" not in page


def test_names_in_any_script_are_drawn() -> None:
    assert "優化器" in page_of(ranked(1, 0.9, optimizer="優化器"), ranked(2, 0.8, optimizer="adam"))


@pytest.mark.slow
def test_page_and_plots_are_written_and_the_same_sweep_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        report.write(tmp_path / name, board(), title="Sweep", sections=sections(*answers())) for name in "ab"
    )
    assert first == [tmp_path / "a" / "report.html", *(tmp_path / "a" / "plots" / f"{name}.png" for name in PLOTS)]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*first, *second}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert first[0].read_text() == whole_page()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in first[1:])


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(SweeptrailError, match="plots: cannot be written: File exists"):
        report.write(tmp_path, board(1), title="Sweep")


def test_without_sections_of_the_task_there_is_nothing_empty() -> None:
    page = report.page(board(), title="Sweep")
    assert [found["id"] for found in elements(page, "section")] == SECTIONS[:5]
    assert sum(1 for _ in elements(page, "svg")) == 3


def test_sections_that_were_kept_give_the_same_page(tmp_path: Path) -> None:
    section.save(own_sections(), tmp_path)
    assert report.page(board(), title="Sweep", sections=section.load(tmp_path)) == whole_page()


@pytest.mark.parametrize("content", ["", "[1]", "{}", '[{"name": "a"}]', '[{"table": {"a": 1}, "pictures": []}]'])
def test_sections_that_are_damaged_are_left_out(tmp_path: Path, content: str) -> None:
    assert section.load(tmp_path) == ()
    (tmp_path / section.FILE_NAME).write_text(content)
    assert section.load(tmp_path) == ()


def test_a_champion_without_mistakes_is_said_to_have_none() -> None:
    data, predictions = answers()
    right = Predictions(data.test_labels, predictions.confidences)
    page = report.page(board(), title="Sweep", sections=sections(data, right))
    assert "It made none." in Elements(page).text


def test_one_run_has_a_page() -> None:
    page = page_of(ranked(1, 0.9, lr=0.1, shuffle=True))
    assert sum(1 for _ in elements(page, "svg")) == 2
    assert "No hyperparameter has several values" in Elements(page).text


@pytest.mark.parametrize("runs", [[], [RankedRun("sweep", RunResult(1, "1_run", {"lr": 1}, "FAILED", error="gone"))]])
def test_a_sweep_without_a_finished_run_says_so(runs: list[RankedRun]) -> None:
    text = Elements(page_of(*runs)).text
    assert "No run has finished, so there is nothing to compare yet." in text
    assert ("gone" in text) == bool(runs)


@pytest.mark.slow
def test_without_validation_the_page_says_that_it_ranks_by_training_accuracy() -> None:
    epochs = (Epoch(1, 1, 0.5, 0.8, 1.0, 1.0),)
    page = page_of(*(RankedRun("s", RunResult(i, f"{i}", {"lr": i}, "FINISHED", epochs)) for i in (1, 2)))
    assert "accuracy on the training data, since none was held out" in Elements(page).text
    assert "validation" not in page


def test_a_loss_that_is_no_number_is_left_out_of_the_plots_and_named_in_the_table() -> None:
    nan = Epoch(2, 1, math.nan, math.nan, 1.0, 1.0, {"validation_loss": math.nan, "validation_accuracy": math.nan})
    diverged = RankedRun("sweep", RunResult(2, "2_run", {"lr": 9.0}, "FINISHED", (nan,)))
    failed = RankedRun("sweep", RunResult(3, "3_run", {"lr": 8.0}, "FAILED", (nan,), error="E\nDivergedError: nan"))
    page = page_of(ranked(1, 0.9, lr=0.1), diverged, failed)
    assert "nan" not in "".join(re.findall(r'd="[^"]*"', page))
    assert "DivergedError: nan" in Elements(page).text


def test_seeds_are_one_place_with_an_interval() -> None:
    runs = [
        ranked(10 * lr + seed, 0.8 + 0.01 * lr + 0.001 * seed, lr=lr, seed=seed) for lr in (1, 2) for seed in (0, 1)
    ]
    made = make_leaderboard(runs)
    table = tables.ranking(made)
    assert list(table.columns[:6]) == ["rank", "lr", "validation accuracy", "95 % interval", "deviation", "seeds"]
    assert [row[1] for row in table.rows] == ["2", "1"]
    assert table.rows[0][5] == "2"
    assert "the seeds of a combination are drawn alike" in Elements(page_of(*runs)).text


def test_several_sweeps_are_told_apart() -> None:
    runs = [ranked(1, 0.9 - 0.1 * number, sweep=sweep, lr=0.1) for number, sweep in enumerate(("one", "two"))]
    assert facts.varying(make_leaderboard(runs)) == ["sweep"]
    assert "1   sweep=one" in page_of(*runs)


def test_a_hyperparameter_that_some_sweeps_do_not_have_is_a_dash() -> None:
    made = make_leaderboard([ranked(1, 0.9, lr=0.1), ranked(2, 0.8, lr=0.1, optimizer="sgd", sweep="two")])
    assert facts.levels(made, "optimizer") == ["sgd", None]
    assert tables.ranking(made).rows[0][:4] == ["1", "sweep", "0.1", "–"]  # noqa: RUF001  # an en dash


def test_the_effect_of_a_value_is_the_mean_of_its_runs_with_the_interval_of_student_s_t() -> None:
    accuracies = [0.80, 0.82, 0.87]
    runs = [ranked(index, value, lr=1, batch_size=index) for index, value in enumerate(accuracies)]
    first, second = facts.effects(make_leaderboard([*runs, ranked(9, 0.5, lr=2, batch_size=9)]))["lr"]
    values = [value - 0.05 / 3 for value in accuracies]
    half = 4.302653 * np.std(values, ddof=1) / math.sqrt(3)  # the table of t: two degrees of freedom, 97.5 %
    assert (first.value, first.runs, second.runs, second.interval) == ("1", 3, 1, None)
    assert first.mean == pytest.approx(np.mean(values))
    assert first.interval == pytest.approx((np.mean(values) - half, np.mean(values) + half))


def test_the_confusion_matrix_has_a_row_for_each_class_that_images_are() -> None:
    data, predictions = answers()
    evaluation = Evaluation(data.test_images, data.test_labels, predictions)
    confusion = evaluation.confusion
    for is_, taken_for in ((0, 0), (3, 4), (4, 3)):
        pairs = zip(data.test_labels, predictions.classes, strict=True)
        assert confusion[is_, taken_for] == sum(pair == (is_, taken_for) for pair in pairs)
    assert confusion.sum() == 10_000
    assert dict(evaluation.class_accuracies)["Dress"] == pytest.approx(confusion[3, 3] / confusion[3].sum())


def test_the_most_confident_mistakes_come_first() -> None:
    data, predictions = answers()
    evaluation = Evaluation(data.test_images, data.test_labels, predictions)
    chosen = evaluation.mistakes
    wrong = predictions.confidences[data.test_labels != predictions.classes]
    assert predictions.confidences[chosen].tolist() == sorted(wrong.tolist(), reverse=True)[:24]
    assert all(data.test_labels[index] != predictions.classes[index] for index in chosen)


def test_values_that_are_far_out_do_not_squeeze_the_curves() -> None:
    near = [0.80 + 0.01 * step for step in range(10)]
    assert facts.fences([*near, 0.1, math.nan]) == (near[0], near[-1])
    assert facts.fences([math.nan]) is None


def test_svg_of_a_figure_becomes_an_element_of_the_page() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 72 36">'
        '<metadata>who</metadata><g id="unused"><path id="dot" d="M 1.23456 2&#10;L 3 4"/></g>'
        f'<use xlink:href="#dot" style="fill: {LIGHT["first"]}; stroke: #123456"/>'
        "<text style=\"font-size: 9px; font-family: 'A', sans-serif; text-anchor: end\">a &lt; b</text></svg>"
    )
    root = ElementTree.fromstring(inline_svg(svg, name="plot", alternative='says "this"'))
    assert root.attrib == {
        "viewBox": "0 0 72 36", "width": "100", "height": "50", "role": "img", "aria-label": 'says "this"',
    }  # fmt: skip
    assert [element.tag for element in root.iter()] == ["svg", "g", "path", "use", "text"]
    group, path, use, text = list(root.iter())[1:]
    assert group.attrib == {}
    assert path.attrib == {"id": "plot-dot", "d": "M 1.23 2 L 3 4"}
    assert use.attrib == {"href": "#plot-dot", "style": "fill: var(--first); stroke: #123456"}
    assert text.attrib == {"style": "font-size: 9px; text-anchor: end"}
    assert text.text == "a < b"


def final(index: int, **metrics: float) -> RankedRun:
    """Return a run without epochs."""
    params = {"C": index, "kernel": "rbf"}
    return RankedRun("s", RunResult(index, f"{index}_run", params, "FINISHED", metrics=metrics, duration=1.5))


def regression(index: int, loss: float, **metrics: float) -> RankedRun:
    epochs = tuple(Epoch(index, epoch, loss / epoch, None, 1.0, 1.0 * epoch) for epoch in (1, 2))
    result = RunResult(index, f"{index}_run", {"lr": index}, "FINISHED", epochs, metrics)
    return RankedRun("s", result, goal=Goal("rmse", greater_is_better=False))


def ids(page: str) -> list[str]:
    return [found["id"] for found in elements(page, "section")]


def test_runs_without_epochs_have_no_learning_curves_and_no_heading_for_them() -> None:
    page = page_of(*(final(index, validation_accuracy=index / 10) for index in (1, 2, 3)))
    assert ids(page) == ["summary", "ranking", "coordinates", "effects"]
    text = Elements(page).text
    assert "Learning curves" not in text
    assert "in the colours of the learning curves" not in text
    assert "By validation accuracy." in text
    assert "training" not in text
    table = tables.ranking(make_leaderboard([final(1, validation_accuracy=0.5)]))
    assert list(table.columns) == ["rank", "C", "kernel", "validation accuracy", "seconds"]
    assert table.rows[0][-1] == "1.5"


def test_a_page_on_a_regression_says_nothing_of_accuracy_and_has_the_lowest_first() -> None:
    page = page_of(*(regression(index, index, rmse=index / 10) for index in (1, 2, 3)))
    text = Elements(page).text
    assert "By rmse, the lowest first." in text
    assert "accuracy" not in page
    assert "nan" not in text
    assert text.index("1_run") < text.index("lr=1 is 0.1000 ahead of lr=2 in rmse")
    assert ids(page) == ["summary", "ranking", "curves", "coordinates", "effects"]


@pytest.mark.parametrize(("goal", "top"), [("min:rmse", "1"), ("max:rmse", "4")])
def test_the_best_value_is_on_top_of_the_parallel_coordinates(goal: str, top: str) -> None:
    made = make_leaderboard([final(index, rmse=float(index)) for index in (1, 2, 3, 4)], Goal.parse(goal))
    [axes] = plots.parallel_coordinates(made).axes
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts if text.get_position()[0] > 1}
    assert max((height, text) for text, height in heights.items() if text != "rmse")[1] == top
    assert heights[top] == pytest.approx(1.0)


def test_a_page_on_nothing_that_is_ranked_says_why_and_shows_the_curves() -> None:
    page = page_of(*(regression(index, index, mae=0.5) for index in (1, 2)))
    text = Elements(page).text
    assert "Nothing is ranked: no run has rmse, the goal; the runs have loss, mae" in text
    assert "all runs: none is ranked" in text
    assert ids(page) == ["summary", "ranking", "curves"]
    assert "2 without a place" in text


def test_a_run_without_hyperparameters_has_a_page_without_empty_plots() -> None:
    page = page_of(RankedRun("s", RunResult(1, "1_", {}, "FINISHED", metrics={"loss": 1e-7})))
    assert ids(page) == ["summary", "ranking"]
    assert list(elements(page, "svg")) == []
    assert "1e-07" in Elements(page).text


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1.7976931348623157e308])
def test_values_that_cannot_be_drawn_are_gaps(value: float) -> None:
    runs = [regression(1, value, rmse=value), *(regression(index, index, rmse=index) for index in (2, 3))]
    page = page_of(*runs)
    assert not re.findall(r"nan|inf", "".join(re.findall(r'd="[^"]*"', page)))
    assert ids(page) == ["summary", "ranking", "curves", "coordinates", "effects"]
    assert ids(page_of(*(regression(index, value, rmse=value) for index in (1, 2)))) == ["summary", "ranking"]


def test_a_hyperparameter_that_is_called_like_a_metric_has_a_column_of_its_own() -> None:
    runs = [RankedRun("s", RunResult(i, "r", {"loss": i}, "FINISHED", metrics={"loss": i / 2})) for i in (1, 2)]
    assert list(tables.ranking(make_leaderboard(runs)).columns) == ["rank", "param_loss", "training loss"]
