"""What a backup that somebody else has made may hold, and a server must not take over."""

from sweeptrail.errors import ServerError
from sweeptrail.server.database import postgres
from sweeptrail.server.database.cluster import Database
from sweeptrail.server.folder import ServerFolder

OWN = r"^mlflow-artifacts:/[A-Za-z0-9][\w./-]*$"
"""Where this server keeps artifacts; any other place it would read and write for its users, with its own rights."""

SOURCE = r"^(runs|models|mlflow-artifacts):/[^/]"
"""What a version of a model may name as its source, as at its creation."""

PLACES = {
    ("experiments", "artifact_location"): OWN,
    ("runs", "artifact_uri"): OWN,
    ("logged_models", "artifact_location"): OWN,
    ("model_versions", "source"): SOURCE,
    ("model_versions", "storage_location"): SOURCE,
}

COLUMNS = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'"

TAGS = """
SELECT 'trace_tags', value FROM trace_tags
WHERE key IN ('mlflow.artifactLocation', 'mlflow.trace.archiveLocation') AND value !~ '{own}'
"""

CODE = """
SELECT 'a trigger', tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname <> 'prevent_secrets_aad_mutation'
UNION ALL SELECT 'a function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    AND proname <> 'prevent_secrets_aad_mutation'
UNION ALL SELECT 'a view or rule', rulename FROM pg_rules WHERE schemaname = 'public'
UNION ALL SELECT 'a view', viewname FROM pg_views WHERE schemaname = 'public'
"""
"""MLflow has one of these, on a table that nobody reaches here; others could change what is written later."""


def refuse(folder: ServerFolder, found: Database) -> None:
    """Raise ServerError, and leave the database empty, if what was restored reaches outside the artifacts."""
    there = set(postgres.ask(folder, found.url, COLUMNS, found.environment).split())
    queries = [CODE]
    for (table, column), pattern in PLACES.items():
        if f"{table}.{column}" in there:  # tables of an earlier MLflow have not all
            outside = f"{column} !~ '{pattern}' OR {column} LIKE '%..%' OR {column} ~ '[%#?\\\\]'"
            queries.append(f"SELECT '{table}.{column}', {column} FROM {table} WHERE {column} <> '' AND ({outside})")
    if "trace_tags.value" in there:
        queries.append(TAGS.format(own=OWN))
    statement = " UNION ALL ".join(f"({query.strip()})" for query in queries) + " LIMIT 1"
    if line := postgres.ask(folder, found.url, statement, found.environment).strip():
        where, _, value = line.partition("|")
        postgres.ask(folder, found.url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public", found.environment)
        raise ServerError(f"the backup holds {where} {value[:200]!r}, which no server of sweeptrail has written")
