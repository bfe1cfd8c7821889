"""The registered models: the best run of a sweep becomes a version, and the champion if it beats that.

Everything that is written is read back: MLflow's client takes an empty answer for a yes.
"""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_ALREADY_EXISTS, ErrorCode

from sweeptrail.tracking.facts import Candidate

ALIAS = "champion"

METRIC_TAG, VALUE_TAG, DATA_TAG = "sweeptrail.metric", "sweeptrail.value", "sweeptrail.chosen_on"
"""What two versions are compared by: the same metric on the same data."""
LESS_TAG = "sweeptrail.less_is_better"
"""On versions whose metric is the better the less it is."""
DECISION_TAG = "sweeptrail.decision"
"""Whether a version became the champion, and why not; one that has it is never decided on again."""
SWEEP_TAG = "sweeptrail.sweep_run_id"


def register(client: MlflowClient, run_id: str, sweep_run_id: str, candidate: Candidate) -> None:
    """Make the artifacts `model` of a run a version, unless they are one, and the champion, if it beats that.

    Raises ConnectionError when the server has not got what it said it took.
    """
    name = candidate.name
    _ensure_model(client, name)
    version = _version_of(client, name, run_id)
    if version is None:
        tags = {
            **candidate.tags,
            METRIC_TAG: candidate.metric,
            VALUE_TAG: repr(candidate.value),
            DATA_TAG: candidate.data,
            SWEEP_TAG: sweep_run_id,
            **({} if candidate.greater_is_better else {LESS_TAG: "true"}),
        }
        client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags=tags, await_creation_for=0)
        version = _version_of(client, name, run_id)
        _expect(version is not None)
    assert version
    if DECISION_TAG not in version.tags:
        _decide(client, name, version)


def location(client: MlflowClient, uri: str) -> str:
    """Return where the files of `models:/NAME@ALIAS` or `models:/NAME/VERSION` lie; any other URI is itself.

    MLflow's own way from such a URI asks the registry of the process, not the client's.
    """
    if not uri.startswith("models:/"):
        return uri
    name, at_sign, alias = uri.removeprefix("models:/").partition("@")
    if at_sign:
        version = str(client.get_model_version_by_alias(name, alias).version)
    else:
        name, _, version = name.partition("/")
    return str(client.get_model_version_download_uri(name, version))


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    _expect(client.get_registered_model(name).name == name)


def _version_of(client: MlflowClient, name: str, run_id: str) -> ModelVersion | None:
    """Return the first version that was made of a run."""
    versions = [found for found in client.search_model_versions(f"run_id = '{run_id}'") if found.name == name]
    return min(versions, key=lambda found: int(found.version), default=None)


def _decide(client: MlflowClient, name: str, version: ModelVersion) -> None:
    """Move the alias to a version that beats its holder; say on the version what was decided."""
    model = client.get_registered_model(name)
    _expect(model.name == name)
    holder = model.aliases.get(ALIAS)
    reason = ""
    if holder and int(holder) != int(version.version):
        reason = _why_not(client.get_model_version(model.name, str(holder)), version)
    refusal = _move_alias(client, model.name, version) if not reason else None
    if refusal:
        reason = f"this account may not move the alias {ALIAS} of the model {name}"
    decision = f"not the champion: {reason}" if reason else f"became the champion after version {holder or 'none'}"
    client.set_model_version_tag(model.name, str(version.version), DECISION_TAG, decision)
    stored = client.get_model_version(model.name, str(version.version))
    _expect(stored.tags.get(DECISION_TAG) == decision)
    if refusal:
        raise MlflowException(f"{reason}, which version {version.version} would have taken", PERMISSION_DENIED)


def _move_alias(client: MlflowClient, name: str, version: ModelVersion) -> MlflowException | None:
    """Move the alias; return the answer of a server on which that is for others."""
    try:
        client.set_registered_model_alias(name, ALIAS, str(version.version))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(PERMISSION_DENIED):
            raise
        return error
    aliases = client.get_registered_model(name).aliases
    _expect(int(aliases.get(ALIAS, 0)) == int(version.version))
    return None


def _why_not(holder: ModelVersion, version: ModelVersion) -> str:
    """Return why a version does not take the alias over; empty when it beats the holder."""
    who = f"version {holder.version}"
    for tag in (METRIC_TAG, DATA_TAG):
        if holder.tags.get(tag) != version.tags[tag]:
            return f"{who} cannot be compared: {tag} is {holder.tags.get(tag)!r} there, {version.tags[tag]!r} here"
    if (LESS_TAG in holder.tags) != (LESS_TAG in version.tags):
        return f"{who} cannot be compared: less {version.tags[METRIC_TAG]} is better for one of them only"
    theirs, ours = float(holder.tags[VALUE_TAG]), float(version.tags[VALUE_TAG])
    is_better = ours < theirs if LESS_TAG in version.tags else ours > theirs
    return "" if is_better else f"{who} has {version.tags[METRIC_TAG]} {theirs:.4f}, this one {ours:.4f}"


def _expect(told: bool) -> None:
    if not told:
        raise ConnectionError("the server has not got what it said it took")
