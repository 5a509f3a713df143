"""What PostgreSQL's jsonb can hold of JSON that came from elsewhere."""

import math
from datetime import datetime
from typing import Any
from uuid import UUID


def storable(value: Any) -> Any:
    """Make a value fit for jsonb, which knows no NUL, no lone surrogate, no NaN and no infinity."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(name)): storable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(inner) for inner in value]
    if isinstance(value, (datetime, UUID)):
        return str(value) if isinstance(value, UUID) else value.isoformat()
    return value
