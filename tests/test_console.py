import io
import math
import re
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console as RichConsole

from sweeptrail.records import Epoch, Goal, RunResult, RunStart
from sweeptrail.results.leaderboard import RankedRun, make_leaderboard
from sweeptrail.training.sinks.console import Console, summary
from sweeptrail.training.sinks.views import REFRESHES, SHOWN_ROWS

LONG_NAME = "3_lr=0.01,batch_size=100,shuffle=True"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns, whatever the tests themselves run in."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def start(index=1, epochs=3, name=None):
    return RunStart(index, name or f"{index}_lr=0.01", {"lr": 0.01}, epochs=epochs)


def epoch(number, run=1, accuracy=0.8512, **extra):
    return Epoch(run, number, 0.41234, accuracy, 8.06, 8.06 * number, extra=extra)


def result(index=1, status="FINISHED", epochs=(), error=None, name=None, **metrics):
    return RunResult(index, name or f"{index}_lr=0.01", {"lr": 0.01}, status, tuple(epochs), metrics, error)


def frames(file):
    """Return every line that was ever drawn, without its escape codes."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()).replace("\r", "\n").split("\n")


def board(results, ranking="validation_accuracy"):
    return make_leaderboard(RankedRun("sweep", result, goal=Goal(ranking)) for result in results)


def rendered(results, ranking="validation_accuracy", width=80):
    file = io.StringIO()
    RichConsole(file=file, width=width).print(summary(board(results, ranking)))
    return file.getvalue()


def test_without_a_terminal_each_epoch_is_one_plain_line():
    file = io.StringIO()
    with Console(8, file) as console:
        console.begin(start(3, name=LONG_NAME))
        console.epoch(epoch(2, run=3, validation_loss=0.5, validation_accuracy=0.8433))
    assert file.getvalue() == (
        f"run 3/8  {LONG_NAME}  epoch 2/3  loss 0.4123  accuracy 0.8512  validation_accuracy 0.8433  8.1 s\n"
    )


def test_a_line_is_written_as_soon_as_its_epoch_is_complete(tmp_path):
    with (tmp_path / "log").open("w") as file:
        console = Console(8, file)
        console.begin(start())
        console.epoch(epoch(1))
        assert (tmp_path / "log").read_text().startswith("run 1/8  1_lr=0.01  epoch 1/3  ")


def test_totals_that_are_not_known_are_left_out(terminal):
    console = Console(file=terminal)
    console.begin(start(epochs=None))
    console.epoch(epoch(2))
    assert terminal.getvalue() == "run 1  1_lr=0.01  epoch 2  loss 0.4123  accuracy 0.8512  8.1 s\n"


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_file_gets_no_escape_codes_whatever_the_environment_says(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    file = io.StringIO()
    with Console(1, file) as console:
        console.begin(start(name="1_a=[bold]x[/bold]"))
        console.epoch(epoch(1))
        console.end(result(status="FAILED", error="Traceback\nValueError: [red]no"))
    assert "\x1b" not in file.getvalue()
    assert "1_a=[bold]x[/bold]" in file.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch, terminal):
    monkeypatch.setenv("TERM", "dumb")
    with Console(1, terminal) as console:
        console.begin(start())
        console.epoch(epoch(1))
    assert "\x1b" not in terminal.getvalue()
    assert "epoch 1/3" in terminal.getvalue()


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_run_that_did_not_finish_is_named_with_its_reason(status):
    file = io.StringIO()
    console = Console(8, file)
    console.begin(start())
    console.end(result(status=status, error="Traceback (most recent call last):\n  …\nValueError: lr is -1\n"))
    assert file.getvalue() == f"run 1/8  1_lr=0.01  {status}  ValueError: lr is -1\n"


def test_a_run_that_finished_needs_no_line():
    file = io.StringIO()
    console = Console(8, file)
    console.begin(start())
    console.end(result())
    assert file.getvalue() == ""


def test_an_epoch_is_shown_once_however_often_and_late_it_is_told():
    file = io.StringIO()
    console = Console(1, file)
    console.begin(start())
    console.epoch(epoch(1))
    console.end(result(status="FAILED", epochs=[epoch(1), epoch(2)], error="E: x"))
    console.begin(start())
    console.epoch(epoch(2))
    assert re.findall(r"epoch \d|FAILED", file.getvalue()) == ["epoch 1", "epoch 2", "FAILED"]


def test_a_run_that_ends_before_it_began_is_shown():
    file = io.StringIO()
    Console(2, file).end(result(2, "FAILED", error="E: the worker died"))
    assert file.getvalue() == "run 2/2  2_lr=0.01  FAILED  E: the worker died\n"


def test_several_threads_may_tell_the_console():
    file = io.StringIO()
    console = Console(4, file)

    def tell(index):
        console.begin(start(index))
        for number in range(1, 51):
            console.epoch(epoch(number, run=index))

    threads = [threading.Thread(target=tell, args=(index,)) for index in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = file.getvalue().splitlines()
    assert len(set(lines)) == len(lines) == 200
    assert all(re.fullmatch(r"run \d/4  \d_lr=0.01  epoch \d+/3  loss .* s", line) for line in lines)


def test_a_terminal_shows_a_bar_for_the_sweep_and_one_for_each_open_run(terminal):
    with Console(2, terminal) as console:
        console.begin(start(1))
        console.epoch(epoch(1))
        console.begin(start(2))
        drawn = frames(terminal)
    sweep, first, second = drawn[-3:]
    assert re.fullmatch(r"sweep +━.* 1/6 +0 of 2 runs .*", sweep)
    assert re.fullmatch(r"1_lr=0\.01 +━.* 1/3 +loss 0\.4123  accuracy 0\.8512 .*", first)
    assert re.fullmatch(r"2_lr=0\.01 +━.* 0/3 .*", second)


def test_a_terminal_of_80_columns_has_room_for_all_numbers(terminal):
    with Console(8, terminal) as console:
        console.begin(start(3, name=LONG_NAME))
        console.epoch(epoch(2, run=3))
        console.begin(start(4))
        drawn = frames(terminal)
    line = next(line for line in reversed(drawn) if "loss" in line)
    assert line.startswith("3_lr=0.01,batch_size=100")
    assert "2/3" in line
    assert "loss 0.4123  accuracy 0.8512" in line
    assert max(map(len, drawn)) <= 80


def test_at_the_end_only_the_bar_of_the_sweep_is_left(terminal):
    with Console(2, terminal) as console:
        for index in (1, 2):
            console.begin(start(index))
            console.epoch(epoch(1, run=index))
        console.end(result(1, epochs=[epoch(number) for number in (1, 2, 3)]))
        console.end(result(2, "FAILED", [epoch(1, run=2)], "Traceback\nValueError: lr is -1"))
    drawn = [line.rstrip() for line in frames(terminal) if line.strip()]
    assert re.fullmatch(r"sweep +━+ 6/6 +2 of 2 runs .*", drawn[-1])
    assert any("run 2/2  2_lr=0.01  FAILED  ValueError: lr is -1" in line for line in drawn)


def test_a_run_whose_worker_died_begins_again_in_the_same_bar(terminal):
    with Console(1, terminal) as console:
        console.begin(start())
        console.epoch(epoch(1))
        console.begin(start())
        drawn = frames(terminal)
    assert drawn[-2].startswith("sweep ")
    assert drawn[-1].startswith("1_lr=0.01 ")


def test_the_bars_are_not_drawn_for_each_epoch(terminal):
    with Console(1, terminal) as console:
        console.begin(start(epochs=5000))
        before = len(frames(terminal))
        for number in range(1, 5001):
            console.epoch(epoch(number))
        drawn = len(frames(terminal)) - before
    assert drawn < 5000 / 10
    assert REFRESHES <= 8


@pytest.fixture
def notebook(monkeypatch):
    """A stand-in for IPython in a notebook; the outputs on the page, as (data, how often it was replaced)."""
    outputs = []

    class ZMQInteractiveShell:
        pass

    class ColabShell(ZMQInteractiveShell):
        pass

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        output = SimpleNamespace(data=data, replaced=0)
        outputs.append(output)

        def update(data, *, raw):
            assert raw
            output.data, output.replaced = data, output.replaced + 1

        return SimpleNamespace(update=update)

    ipython = ModuleType("IPython")
    monkeypatch.setattr(ipython, "get_ipython", ColabShell, raising=False)
    monkeypatch.setattr(ipython, "display", SimpleNamespace(display=display), raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return outputs


def test_a_notebook_shows_one_table_that_is_replaced_in_place(notebook):
    file = io.StringIO()
    console = Console(file=file)
    console.begin(start(epochs=None, name="1_lr=<b>"))
    for number in (1, 2):
        console.epoch(epoch(number, validation_accuracy=0.5))
    assert [output.replaced for output in notebook] == [1]
    assert re.findall("<th>(.*?)</th>", notebook[0].data["text/html"]) == [
        *("run", "epoch", "loss", "accuracy", "epoch duration", "run duration", "lr", "validation_accuracy")
    ]
    assert notebook[0].data["text/html"].count("<tr>") == 1 + 2
    assert file.getvalue() == ""


def test_the_table_in_a_notebook_shows_the_last_rows(notebook):
    console = Console(file=io.StringIO())
    console.begin(start(epochs=None))
    for number in range(1, SHOWN_ROWS + 11):
        console.epoch(epoch(number))
    assert notebook[0].data["text/html"].count("<tr>") == 1 + SHOWN_ROWS
    assert f"<td>{SHOWN_ROWS + 10}</td>" in notebook[0].data["text/html"]
    assert "<td>10</td>" not in notebook[0].data["text/html"]


def test_values_in_a_notebook_are_text_and_no_markup(notebook):
    console = Console(file=io.StringIO())
    console.begin(RunStart(1, "1", {"<i>": "<script>"}))
    console.epoch(epoch(1))
    assert "&lt;i&gt;" in notebook[0].data["text/html"]
    assert "<script>" not in notebook[0].data["text/html"]


def test_a_failed_run_in_a_notebook_is_a_line_below_the_table(notebook):
    file = io.StringIO()
    console = Console(file=file)
    console.begin(start())
    console.end(result(status="FAILED", epochs=[epoch(1)], error="E: x"))
    assert len(notebook) == 1
    assert file.getvalue() == "run 1  1_lr=0.01  FAILED  E: x\n"


def test_the_summary_ranks_by_validation_accuracy_and_puts_failed_runs_last():
    text = rendered(
        [
            result(1, epochs=[epoch(3, accuracy=0.9, validation_accuracy=0.7)], test_accuracy=0.65),
            result(2, "FAILED", [epoch(1, run=2, validation_accuracy=0.99)], "Traceback\nValueError: lr is -1"),
            result(3, epochs=[epoch(3, run=3, accuracy=0.8, validation_accuracy=0.75)], test_accuracy=0.6),
            result(4, "KILLED"),
        ]
    )
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("Best first, by validation accuracy")
    assert ["1", "3_lr=0.01", "0.4123", "0.8000", "0.7500", "0.6000", "24.2", "FINISHED"] in lines
    names = re.findall(r"^ *(?:\d )? *(\d)_lr", text, flags=re.MULTILINE)
    assert names[:4] == ["3", "1", "2", "4"]
    assert "2_lr=0.01  FAILED  ValueError: lr is -1" in text
    assert "\x1b" not in text


def test_the_summary_says_when_it_ranks_by_training_accuracy():
    text = rendered(
        [result(1, epochs=[epoch(1, accuracy=0.5)]), result(2, epochs=[epoch(1, accuracy=0.6)])], "accuracy"
    )
    assert text.startswith("Best first, by training accuracy")
    assert text.index("2_lr") < text.index("1_lr")
    assert "validation" not in text


@pytest.mark.parametrize("missing", [{}, {"validation_accuracy": math.nan}])
def test_a_run_without_the_metric_of_the_ranking_comes_after_those_that_have_it(missing):
    text = rendered([result(1, epochs=[epoch(1, **missing)]), result(2, epochs=[epoch(1, validation_accuracy=0.1)])])
    assert text.index("2_lr") < text.index("1_lr")


def test_the_summary_is_whole_in_80_columns():
    name = "12_lr=0.001,batch_size=1000,shuffle=False,optimizer=adamw,network=somewhere.far.away:AVeryLongNameIndeed"
    one = epoch(3, validation_accuracy=0.75)
    text = rendered([result(12, epochs=[one], name=name, test_accuracy=0.5)])
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for header in ("rank", "run", "loss", "accuracy", "validation", "test", "seconds", "status"):
        assert header in text
    for word in ("12_lr=0.001", "batch_size=1000", "shuffle=False", "0.4123", "0.7500", "0.5000", "24.2", "FINISHED"):
        assert word in text


def test_the_summary_in_color_is_the_same_text(terminal):
    results = [result(1, epochs=[epoch(1, validation_accuracy=0.5)])]
    RichConsole(file=terminal, force_terminal=True, width=80).print(summary(board(results)))
    assert "\x1b[" in terminal.getvalue()
    assert [line.rstrip() for line in frames(terminal)] == [line.rstrip() for line in rendered(results).split("\n")]


def test_the_metric_of_the_goal_comes_first_and_a_line_shows_three_at_most():
    file = io.StringIO()
    console = Console(8, file, Goal("rmse", greater_is_better=False))
    console.begin(start())
    console.epoch(epoch(1, validation_loss=0.5, validation_accuracy=0.8433, rmse=0.1))
    assert file.getvalue() == "run 1/8  1_lr=0.01  epoch 1/3  rmse 0.1000  loss 0.4123  accuracy 0.8512  8.1 s\n"


@pytest.mark.parametrize("goal", [None, Goal("validation_accuracy"), Goal("loss", greater_is_better=False)])
def test_a_goal_that_is_shown_anyway_changes_nothing(goal):
    file = io.StringIO()
    console = Console(8, file, goal)
    console.begin(start())
    console.epoch(epoch(1, validation_accuracy=0.8433))
    assert "  loss 0.4123  accuracy 0.8512  validation_accuracy 0.8433  8.1 s" in file.getvalue()


def test_an_epoch_shows_what_there_is_where_nobody_counts_loss_and_accuracy():
    file = io.StringIO()
    console = Console(8, file)
    console.begin(start())
    console.epoch(Epoch(1, 1, None, None, math.nan, math.nan, dict.fromkeys(("a", "b", "c", "d"), 0.5)))
    assert file.getvalue() == "run 1/8  1_lr=0.01  epoch 1/3  a 0.5000  b 0.5000  c 0.5000\n"


def without_epochs(index, status="FINISHED", warnings=(), error=None, **metrics):
    name = f"{index}_lr=0.01"
    return RunResult(index, name, {}, status, (), metrics, error, tuple(warnings), duration=12.34)


def test_a_run_without_epochs_is_one_line_when_it_ends():
    file = io.StringIO()
    console = Console(8, file)
    console.end(without_epochs(2, validation_accuracy=0.9))
    assert file.getvalue() == "run 2/8  2_lr=0.01  validation_accuracy 0.9000  12.3 s\n"


def test_what_went_wrong_beside_a_run_is_a_line_each_and_counted_in_the_summary():
    file = io.StringIO()
    warned = without_epochs(2, warnings=["TensorBoard stopped at epoch 1: disk full", "x"], accuracy=0.5)
    Console(8, file).end(warned)
    assert file.getvalue().splitlines()[:2] == [
        "run 2/8  2_lr=0.01  warning: TensorBoard stopped at epoch 1: disk full",
        "run 2/8  2_lr=0.01  warning: x",
    ]
    assert "2 warnings in 1 run\n" in re.sub(" +\n", "\n", rendered([warned], "accuracy"))
    assert "warning" not in rendered([without_epochs(2, accuracy=0.5)], "accuracy")


@pytest.mark.parametrize(("goal", "best"), [("max:rmse", "0.7500 (3_lr=0.01)"), ("min:rmse", "0.2500 (1_lr=0.01)")])
def test_the_bar_of_the_sweep_shows_the_best_so_far_by_the_goal(terminal, goal, best):
    with Console(4, terminal, Goal.parse(goal)) as console:
        console.recall(1, 0, result=without_epochs(1, rmse=0.25))
        for result in (
            without_epochs(2, rmse=0.5),
            without_epochs(3, rmse=0.75),
            without_epochs(4, rmse=math.nan),
            without_epochs(4, "FAILED", rmse=0.0),
        ):
            console.end(result)
    drawn = [line.rstrip() for line in frames(terminal) if line.strip()]
    assert re.fullmatch(rf"sweep  best {re.escape(best)} +━.* 4/4 .*", drawn[-1])
    assert max(map(len, drawn)) <= 80


def test_runs_of_different_length_fill_the_bar_of_the_sweep(terminal):
    with Console(3, terminal) as console:
        for index, epochs in ((1, 2), (2, 5), (3, None)):
            console.begin(start(index, epochs=epochs))
            console.end(result(index, epochs=[epoch(number, run=index) for number in range(1, (epochs or 9) + 1)]))
    drawn = [line.rstrip() for line in frames(terminal) if line.strip()]
    assert re.search(r" 8/8 +3 of 3 runs", drawn[-1])


def test_the_summary_of_runs_without_epochs_has_no_empty_columns():
    text = rendered([without_epochs(1, rmse=123456.7), without_epochs(2, rmse=2.5)], "rmse")
    lines = [line.split() for line in text.splitlines()]
    assert lines[:4] == [
        ["Best", "first,", "by", "rmse"],
        ["rank", "run", "rmse", "seconds", "status"],
        ["1", "1_lr=0.01", "123456.7000", "12.3", "FINISHED"],
        ["2", "2_lr=0.01", "2.5000", "12.3", "FINISHED"],
    ]


def test_the_summary_says_why_nothing_and_who_is_not_ranked():
    nothing = rendered([without_epochs(1, rmse=0.5), without_epochs(2, "FAILED", error="E: x")], "auc", width=200)
    assert "rank " not in nothing
    assert "nothing is ranked: no run has auc, the goal; the runs have rmse" in nothing
    assert "2_lr=0.01  FAILED  E: x" in nothing
    some = rendered([without_epochs(1, rmse=0.5), without_epochs(2, auc=0.5)], "auc")
    assert "1_lr=0.01  FINISHED  has no auc: not ranked" in some
