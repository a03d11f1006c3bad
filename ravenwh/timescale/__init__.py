"""TimescaleDB under Alembic: declared on the models; migrations written, checked and reversed.

Knows nothing of ravenwh. Owns the declarations (:class:`Hypertable`, :class:`ContinuousAggregate`,
:class:`View`, and :class:`Distributed`, :class:`Reference` for Citus), the operations of
migrations, the comparison of autogenerate, and the engine level of a server: with TimescaleDB,
without it, or Citus, with the same rows from the same SELECTs.

Offers the declarations here; :func:`ravenwh.timescale.env.run`, all that an ``env.py`` needs;
:mod:`~ravenwh.timescale.apply` (policies, and adopting a database that got TimescaleDB later);
:mod:`~ravenwh.timescale.status` (policies as wanted, as found, and how their jobs run);
:mod:`~ravenwh.timescale.refresh` (aggregates, outside of their policies);
:func:`~ravenwh.timescale.level.detect` and :mod:`~ravenwh.timescale.revision`.

On failure: a declaration that breaks a rule raises :class:`DeclarationError` when it is made; a
level that is not there raises :class:`LevelError` with one line that says who must do what; each
revision is one transaction, so a failed one leaves nothing. Dropped is only what carries our mark,
or what the models claim by its name.

Tested by the text of every operation without a database, and by migrating, comparing and
downgrading on servers of each level, also with random declarations.
"""

from ravenwh.timescale.declare import (
    ContinuousAggregate,
    Distributed,
    Hypertable,
    Reference,
    View,
    copy_metadata,
    time_bucket,
)
from ravenwh.timescale.errors import (
    DeclarationError,
    LevelError,
    MigrationError,
    TimescaleError,
)
from ravenwh.timescale.policies import policy_errors, with_policies
from ravenwh.timescale.spec import Columnstore, Refresh, declarations_of

__all__ = [
    "Columnstore",
    "ContinuousAggregate",
    "DeclarationError",
    "Distributed",
    "Hypertable",
    "LevelError",
    "MigrationError",
    "Reference",
    "Refresh",
    "TimescaleError",
    "View",
    "copy_metadata",
    "declarations_of",
    "policy_errors",
    "time_bucket",
    "with_policies",
]
