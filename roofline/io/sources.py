"""Where the numbers of a prediction are from: every fact of a device's profile, and the source of the model's shape."""

from pathlib import Path
from typing import Any

from .models import load_model
from .profiles import load_profile


def sources_of(model: str | Path, device: str | Path) -> dict[str, Any]:
    """Plain values: `model` {source, kind, note} and `facts` [{fact, printed, kind, source, date}], as the files say.

    Errors: RooflineError as load_model and load_profile.
    """
    loaded, profile = load_model(str(model)), load_profile(device)
    return {
        "model": {"source": loaded.source, "kind": loaded.kind, "note": loaded.note},
        "facts": [
            {
                "fact": path,
                "printed": fact.printed,
                "kind": fact.kind,
                "source": profile.sources[fact.source],
                "date": None if fact.date is None else fact.date.isoformat(),
            }
            for path, fact in profile.facts()
        ],
    }
