"""The resolver's reasons in words. Pure."""

REASONS = {
    "as-wanted": "Runs what it must.",
    "new-release": "Installs {wanted}.",
    "new-variant": "Installs another variant: {detail}.",
    "no-assignment": "Has not received its assignment yet.",
    "unmanaged": "No group governs this slot.",
    "held": "Held by an operator.",
    "waits-for-group": "Waits for its group's document: {detail}.",
    "waits-for-metadata": "Waits for trust metadata: {detail}.",
    "waits-until": "Its turn in the wave has not come.",
    "paused": "The rollout is paused.",
    "not-admitted": "Not in the waves so far.",
    "quarantined": "The new model failed here: {detail}.",
    "not-allowed": "The release is not allowed here: {detail}.",
    "recalled": "The model was recalled.",
    "recalled-waits": "Its model was revoked; it waits for another one.",
    "agent-too-old": "The agent is too old: {detail}.",
    "waits-for-window": "Its own settings hold it back: {detail}.",
    "waits-for-budget": "Its own settings hold it back: {detail}.",
    "waits-for-link": "Its own settings hold it back: {detail}.",
    "waits-for-turn": "Its own settings hold it back: {detail}.",
    "full-forbidden": "The delta is of no use here, and its own settings say: {detail}.",
    "expired": "Its documents have expired.",
}


def explain(reason: str, detail: str, wanted: str) -> str:
    """Return a resolver's reason in words."""
    text = REASONS.get(reason, "{detail}" if detail else reason)
    return text.format(detail=detail or "no detail", wanted=wanted or "a new version")
