"""A run has an id of ours at once, and it is good for reading and writing, wherever and whenever on this machine."""

from tests.outboxes import Outboxes, plain, runs_in, values
from tests.proxy import Proxy
from tests.server import Server

BEGIN = """
    import mlflow
    mlflow.set_experiment(NAME)
    run = mlflow.start_run()
    mlflow.log_metric("loss", 1.0, step=1)
    print("run", run.info.run_id, flush=True)
"""


def named(name: str, code: str) -> str:
    """Return a script with the name of its experiment."""
    return code.replace("NAME", repr(name))


def test_a_run_that_was_begun_without_the_server_goes_by_its_id_in_children_and_later_processes(
    box: Outboxes, proxy: Proxy, tracking: Server
) -> None:
    proxy.stop()
    code = (
        named("ids", BEGIN)
        + """
    import multiprocessing, os, subprocess, sys
    client = mlflow.MlflowClient()
    def work(number):
        mine = mlflow.MlflowClient()
        assert mine.get_run(run.info.run_id).data.metrics["loss"] == 1.0
        mine.log_metric(run.info.run_id, "child", number)
    children = [multiprocessing.get_context("fork").Process(target=work, args=(number,)) for number in range(2)]
    for child in children: child.start()
    for child in children: child.join()
    spawned = "import mlflow, sys; mlflow.MlflowClient().log_metric(sys.argv[1], 'child', 2)"
    subprocess.run([sys.executable, "-c", spawned, run.info.run_id], check=True)
    history = client.get_metric_history(run.info.run_id, "child")
    print("children", sorted(each.value for each in history))
    """
    )
    script = box.begin(code)
    run_id = script.said("run")
    assert script.process.wait() == 0, script.errors()
    assert script.said("children") == "[0.0, 1.0, 2.0]"
    later = f"""
    import mlflow
    client = mlflow.MlflowClient()
    client.log_metric({run_id!r}, "later", 1)
    run = client.get_run({run_id!r})
    print("later", run.info.run_id == {run_id!r}, run.info.status, sorted(run.data.metrics))
    """
    before = box.run(later)
    assert before == "later True FINISHED ['child', 'later', 'loss']\n"
    proxy.start()
    box.settle()
    after = box.run(later.replace('"later", 1', '"later", 2'))
    assert after == before
    box.settle()
    [run] = runs_in(tracking.uri, "ids")
    assert run.info.run_id == box.server_id(run_id) != run_id
    assert values(tracking.uri, run, "child") == {0: 1, 1: 1, 2: 1}
    assert values(tracking.uri, run, "later") == {1: 1, 2: 1}


def test_a_run_of_the_servers_is_resumed_by_its_id(box: Outboxes, tracking: Server) -> None:
    client = plain(tracking.uri)
    made = client.create_run(client.create_experiment("resumed"), tags={"from": "elsewhere"})
    client.log_param(made.info.run_id, "lr", 1)
    printed = box.run(f"""
    import mlflow
    mlflow.set_experiment("resumed")
    with mlflow.start_run(run_id={made.info.run_id!r}) as run:
        mlflow.log_metric("loss", 2.0)
        mlflow.log_param("lr", 1)
        found = mlflow.get_run(run.info.run_id)
        print(run.info.run_id, found.data.params, found.data.tags["from"], found.info.status)
    """)
    assert printed == f"{made.info.run_id} {{'lr': '1'}} elsewhere RUNNING\n"
    box.settle()
    [run] = runs_in(tracking.uri, "resumed")
    assert (run.info.run_id, run.info.status, run.data.metrics) == (made.info.run_id, "FINISHED", {"loss": 2.0})


def test_both_ids_of_a_run_mean_the_same(box: Outboxes, tracking: Server) -> None:
    printed = box.run(
        named("both", BEGIN)
        + """
    print("experiment", run.info.experiment_id)
    """
    )
    run_id = printed.split()[1]
    box.settle()
    server_id = box.server_id(run_id)
    box.run(f"""
    import mlflow
    with mlflow.start_run(run_id={server_id!r}) as run:
        assert run.info.run_id == {run_id!r}, run.info.run_id
        mlflow.log_metric("loss", 3.0)
    mlflow.MlflowClient().log_metric({server_id!r}, "loss", 4.0)
    """)
    box.settle()
    [run] = runs_in(tracking.uri, "both")
    assert values(tracking.uri, run, "loss") == {1: 1, 3: 1, 4: 1}


def test_the_variable_of_a_run_resumes_it(box: Outboxes, proxy: Proxy, tracking: Server) -> None:
    proxy.stop()
    run_id = box.run(named("variable", BEGIN)).split()[1]
    box.run(
        """
    import mlflow
    with mlflow.start_run():
        mlflow.log_metric("again", 1.0)
    """,
        MLFLOW_RUN_ID=run_id,
    )
    proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, "variable")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0, "again": 1.0})


def test_nested_runs_have_their_parents_on_the_server_whatever_their_times(
    box: Outboxes, proxy: Proxy, tracking: Server
) -> None:
    proxy.stop()
    box.run("""
    import mlflow
    experiment = mlflow.set_experiment("nested")
    with mlflow.start_run(run_name="parent") as parent:
        for name in ("one", "two"):
            with mlflow.start_run(run_name=name, nested=True):
                with mlflow.start_run(run_name=f"{name} below", nested=True):
                    pass
        client = mlflow.MlflowClient()
        tags = {"mlflow.parentRunId": parent.info.run_id}
        for time in range(1, 4):  # before their parent, as when runs of the past are told
            old = client.create_run(experiment.experiment_id, start_time=time, tags=tags, run_name=f"old {time}")
            client.set_terminated(old.info.run_id)
        assert client.get_parent_run(old.info.run_id).info.run_id == parent.info.run_id
    """)
    proxy.start()
    box.settle()
    runs = {run.info.run_id: run for run in runs_in(tracking.uri, "nested")}
    names = {
        run.info.run_name: runs[parent].info.run_name if (parent := run.data.tags.get("mlflow.parentRunId")) else None
        for run in runs.values()
    }
    assert names == {
        "parent": None,
        "one": "parent",
        "two": "parent",
        "one below": "one",
        "two below": "two",
        **{f"old {time}": "parent" for time in range(1, 4)},
    }


def test_an_experiment_of_ours_is_the_servers_when_that_is_there(box: Outboxes, proxy: Proxy, tracking: Server) -> None:
    proxy.stop()
    script = """
    import mlflow
    experiment = mlflow.set_experiment("experiment")
    again = mlflow.get_experiment_by_name("experiment")
    assert again.experiment_id == experiment.experiment_id == mlflow.get_experiment(again.experiment_id).experiment_id
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0)
    with mlflow.start_run(run_id=run.info.run_id):  # in the experiment that is active
        pass
    with mlflow.start_run(experiment_id=experiment.experiment_id):
        pass
    mlflow.set_experiment(experiment_id=experiment.experiment_id)
    print(experiment.experiment_id)
    """
    away = box.run(script)
    proxy.start()
    box.settle()
    there = box.run(script)
    assert there == away
    box.settle()
    assert len(runs_in(tracking.uri, "experiment")) == 4


def test_a_run_goes_into_its_experiment_also_when_that_is_renamed(box: Outboxes, tracking: Server) -> None:
    box.run("""
    import mlflow
    experiment = mlflow.set_experiment("before")
    mlflow.MlflowClient().rename_experiment(experiment.experiment_id, "after")
    assert mlflow.get_experiment(experiment.experiment_id).name == "after"
    with mlflow.start_run():
        pass
    """)
    box.settle()
    assert len(runs_in(tracking.uri, "after")) == 1
    assert not runs_in(tracking.uri, "before")
