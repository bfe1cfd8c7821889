"""Eight processes of one run, four forked and four spawned, each with three threads: `outbox_ddp.py EXPERIMENT`."""

import multiprocessing
import sys
import threading

import mlflow

PROCESSES, THREADS, VALUES = 8, 3, 200


def work(run_id: str, rank: int) -> None:
    """Log from several threads, every value another one."""

    def log(thread: int) -> None:
        for number in range(VALUES):
            value = (rank * THREADS + thread) * VALUES + number
            mlflow.log_metric("value", value, step=number, run_id=run_id)
        mlflow.MlflowClient().log_param(run_id, f"param {rank} {thread}", rank)

    threads = [threading.Thread(target=log, args=(thread,)) for thread in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def main() -> None:
    mlflow.set_experiment(sys.argv[1])
    with mlflow.start_run() as run:
        mlflow.log_metric("value", -1.0)
        forked, spawned = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
        processes: list[multiprocessing.process.BaseProcess] = []
        for rank in range(0, PROCESSES, 2):
            processes.append(forked.Process(target=work, args=(run.info.run_id, rank)))
            processes.append(spawned.Process(target=work, args=(run.info.run_id, rank + 1)))
        for each in processes:
            each.start()
        for each in processes:
            each.join()
            assert each.exitcode == 0


if __name__ == "__main__":
    main()
