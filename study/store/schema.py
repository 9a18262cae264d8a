"""Our tables in the database, and the version that tells which program made them."""

import sqlalchemy as sa

from whisq_core.errors import InputError

SCHEMA_VERSION = 3
"""1: the first releases, whose tables have no version. 2: 0.2. 3: conditions, declarations. All are read."""

schema = sa.MetaData()

tables = sa.Table("whisq_schema", schema, sa.Column("version", sa.Integer, nullable=False))
corpora = sa.Table(
    "whisq_corpora",
    schema,
    sa.Column("digest", sa.String(32), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("clips", sa.Text, nullable=False),
    sa.Column("system_mos", sa.Text),
)
runs = sa.Table(
    "whisq_runs",
    schema,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("table_name", sa.String(200), nullable=False),
    sa.Column("row", sa.String(200), nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float, nullable=False),
    sa.Column("identity", sa.JSON, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),
    sa.Column("curve", sa.JSON, nullable=False),  # last: it is long, and SQLite reads a line up to what is asked for
    # What planning asks, answered from the index alone: the newest run of each cell, and the newest of all.
    sa.Index("whisq_runs_of_cells", "table_name", "row", "seed", "state", "finished_at"),
    sa.Index("whisq_runs_by_time", "state", "finished_at"),
)
cells = sa.Table(
    "whisq_cells",
    schema,
    sa.Column("table_name", sa.String(200), primary_key=True),
    sa.Column("row", sa.String(200), primary_key=True),
    sa.Column("seed", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.String(32)),
    sa.Column("problem", sa.Text),
    sa.Column("corpus_digest", sa.String(32), nullable=False),
)
tuned = sa.Table(
    "whisq_tuned",
    schema,
    sa.Column("table_name", sa.String(200), primary_key=True),
    sa.Column("row", sa.String(200), primary_key=True),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("num_trials", sa.Integer, nullable=False),
)
conditions = sa.Table(
    "whisq_conditions",
    schema,
    sa.Column("table_name", sa.String(200), primary_key=True),
    sa.Column("shared", sa.JSON, nullable=False),
)

declarations = sa.Table(
    "whisq_declarations",
    schema,
    sa.Column("run_id", sa.String(32), primary_key=True),  # of a run that is stored or about to be
    sa.Column("digest", sa.String(32), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
metrics = sa.Table(
    "whisq_metrics",
    schema,
    sa.Column("run_id", sa.ForeignKey("whisq_runs.run_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("split", sa.String(10), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Float),
)
predictions = sa.Table(
    "whisq_predictions",
    schema,
    sa.Column("run_id", sa.ForeignKey("whisq_runs.run_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("split", sa.String(10), primary_key=True),
    sa.Column("clip_indices", sa.LargeBinary, nullable=False),
    sa.Column("predicted", sa.LargeBinary, nullable=False),
)
_FIRST = (corpora, runs, cells, tuned, metrics, predictions)  # those of the first releases


def read_version(connection: sa.Connection, name: str) -> int:
    """The version of our tables behind a connection; 0 where there are none. `name` is the masked URL.

    Tables of a newer program, and tables of our names that are not ours, are an `InputError`.
    """
    inspector = sa.inspect(connection)
    found = set(inspector.get_table_names())
    if not any(table.name in found for table in schema.sorted_tables):
        return 0
    for table in (table for table in schema.sorted_tables if table.name in found):
        if missing := set(table.columns.keys()) - {column["name"] for column in inspector.get_columns(table.name)}:
            raise InputError(
                f"storage '{name}': its table {table.name} is not of whisq-study (no column "
                f"{', '.join(sorted(missing))}). Give another --storage."
            )
    whole = {table.name for table in _FIRST} <= found
    version = connection.scalar(sa.select(tables.c.version)) if tables.name in found else 1 if whole else None
    if version is None:
        return 0  # a command that was making them was ended, or is at it
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise InputError(
            f"storage '{name}': made by another whisq-study (schema {version}; this program knows up to "
            f"{SCHEMA_VERSION}). Use that program, or give another --storage."
        )
    return version
