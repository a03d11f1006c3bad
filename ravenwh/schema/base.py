"""The base of all tables: the home schema, the names of constraints, the types of columns."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

__all__ = ["HOME_SCHEMA", "Base"]

HOME_SCHEMA = "mart"
"""The schema name in the models and in the shipped migrations; settings may give another."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Declarative base of the mart: times are ``timestamptz``, floats have 64 bits."""

    metadata = sa.MetaData(schema=HOME_SCHEMA, naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: sa.Text(),
        float: sa.Double(),
        datetime: sa.TIMESTAMP(timezone=True),
        timedelta: sa.Interval(),
        dict[str, Any]: JSONB(),
    }
