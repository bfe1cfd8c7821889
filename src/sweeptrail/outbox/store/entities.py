"""What this machine knows of a run, as MLflow's client shows it."""

from pathlib import Path
from urllib.parse import quote

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    ExperimentTag,
    InputTag,
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)

from sweeptrail.outbox.delivery.runs import MODELS, SCHEME
from sweeptrail.outbox.machine.experiments import KnownExperiment
from sweeptrail.outbox.machine.facts import Measured, ModelFacts, RunFacts
from sweeptrail.outbox.run_journal import ARTIFACTS
from sweeptrail.tracking.tags import RUN_NAME


def artifact_uri(folder: Path) -> str:
    """Return how MLflow knows a folder of artifacts in an outbox."""
    return f"{SCHEME}:{quote(str(folder))}"


def as_experiment(known: KnownExperiment) -> Experiment:
    """Return an experiment."""
    tags = [ExperimentTag(name, value) for name, value in known.tags.items()]
    return Experiment(known.id, known.name, "", "active", tags, known.time or None, known.time or None)


def as_metric(name: str, measured: Measured, run_id: str) -> Metric:
    """Return one measurement."""
    dataset, digest = measured.dataset or (None, None)
    model = measured.model or None
    return Metric(name, measured.value, measured.time, measured.step, model, dataset, digest, run_id)


def as_run(facts: RunFacts, experiment_id: str, before: Run | None = None) -> Run:
    """Return a run; `before` is what the server says of it, to which everything that was written here is added."""
    opened = facts.opened
    assert opened is not None
    tags = {**(before.data.tags if before else {}), **facts.tags}
    tags = {name: value for name, value in tags.items() if name not in facts.removed_tags}
    tags.setdefault(RUN_NAME, opened.name)
    params = {**(before.data.params if before else {}), **facts.params}
    latest = {each.key: each for each in before.data._metric_objs} if before else {}
    for name, measured in dict(facts.latest).items():  # another thread may read on meanwhile
        known = latest.get(name)
        if known is None or (known.step, known.timestamp) <= (measured.step, measured.time):
            latest[name] = as_metric(name, measured, opened.identity)
    theirs = None if facts.is_running or facts.end_time is not None else before
    info = RunInfo(
        run_id=opened.identity,
        experiment_id=experiment_id,
        user_id=tags.get("mlflow.user", "unknown"),
        status=theirs.info.status if theirs else facts.status,
        start_time=opened.time,
        end_time=theirs.info.end_time if theirs else facts.end_time,
        lifecycle_stage=before.info.lifecycle_stage if before else "active",
        artifact_uri=artifact_uri(facts.path.parent / ARTIFACTS),
        run_name=tags[RUN_NAME],
    )
    data = RunData(
        list(latest.values()),
        [Param(name, value) for name, value in params.items()],
        [RunTag(name, value) for name, value in tags.items()],
    )
    return Run(info, data, *_uses(facts, before))


def _uses(facts: RunFacts, before: Run | None) -> tuple[RunInputs, RunOutputs]:
    datasets = [
        DatasetInput(Dataset(**each["dataset"]), [InputTag(*tag) for tag in each["tags"].items()])
        for each in facts.datasets
    ]
    inputs = RunInputs(datasets, [LoggedModelInput(each) for each in facts.input_models])
    outputs = RunOutputs([LoggedModelOutput(model, step) for model, step in dict(facts.outputs).items()])
    if before and before.inputs:
        inputs.dataset_inputs[:0] = [
            each for each in before.inputs.dataset_inputs if each.dataset not in [known.dataset for known in datasets]
        ]
        known_inputs = {each.model_id for each in inputs.model_inputs}
        inputs.model_inputs[:0] = [each for each in before.inputs.model_inputs if each.model_id not in known_inputs]
    if before and before.outputs:
        known_outputs = {each.model_id for each in outputs.model_outputs}
        outputs.model_outputs[:0] = [
            each for each in before.outputs.model_outputs if each.model_id not in known_outputs
        ]
    return inputs, outputs


def as_model(facts: RunFacts, model: ModelFacts, experiment_id: str) -> LoggedModel:
    """Return a logged model that was made here."""
    made = model.made
    run_id = facts.opened.identity if facts.opened and made.has_run else None
    metrics = [
        as_metric(name, measured, run_id or "")
        for name, measured in dict(facts.latest).items()
        if measured.model == made.model
    ]
    return LoggedModel(
        experiment_id=experiment_id,
        model_id=made.model,
        name=made.name,
        artifact_location=artifact_uri(facts.path.parent / MODELS / made.model),
        creation_timestamp=made.time,
        last_updated_timestamp=model.time,
        model_type=made.model_type or None,
        source_run_id=run_id,
        status=LoggedModelStatus(model.status),
        tags=[LoggedModelTag(name, value) for name, value in dict(model.tags).items()],
        params=[LoggedModelParameter(name, value) for name, value in dict(model.params).items()],
        metrics=metrics,
    )
