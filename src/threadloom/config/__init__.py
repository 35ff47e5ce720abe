"""All settings: read once by the command line, handed down as one frozen tree.

The order is: flag, then `THREADLOOM_*` in the environment, then `.env`, then `config.yaml`, then the default.
"""

from threadloom.config.idempotency import Idempotency
from threadloom.config.limits import Limits
from threadloom.config.loading import (
    asked_fault,
    import_key,
    load_settings,
    origin,
    read_yaml,
    refuse_unknown_variables,
    suggestion,
    variable,
    variables,
)
from threadloom.config.models import ModelCalls, ModelSettings, Provider, Upstream
from threadloom.config.outbound import Outbound
from threadloom.config.retention import Retention
from threadloom.config.retrieval import Attribution, Embeddings, FileSearch, RerankerSettings
from threadloom.config.runs import CodeInterpreter, Runner, Runs
from threadloom.config.server import Auth, Compat, Server
from threadloom.config.state import S3, DatabaseSettings, Files, Storage
from threadloom.config.telemetry import Telemetry
from threadloom.config.tree import DELIMITER, PREFIX, Settings
from threadloom.config.values import Duration, Section, is_duration, seconds, section_of, written
from threadloom.config.webhooks import Webhooks

__all__ = [
    "DELIMITER",
    "PREFIX",
    "S3",
    "Attribution",
    "Auth",
    "CodeInterpreter",
    "Compat",
    "DatabaseSettings",
    "Duration",
    "Embeddings",
    "FileSearch",
    "Files",
    "Idempotency",
    "Limits",
    "ModelCalls",
    "ModelSettings",
    "Outbound",
    "Provider",
    "RerankerSettings",
    "Retention",
    "Runner",
    "Runs",
    "Section",
    "Server",
    "Settings",
    "Storage",
    "Telemetry",
    "Upstream",
    "Webhooks",
    "asked_fault",
    "import_key",
    "is_duration",
    "load_settings",
    "origin",
    "read_yaml",
    "refuse_unknown_variables",
    "seconds",
    "section_of",
    "suggestion",
    "variable",
    "variables",
    "written",
]
