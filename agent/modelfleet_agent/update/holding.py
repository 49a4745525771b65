"""What the operator's settings for this device hold back though the fleet wants it.

A download waits for window, budget, link and turn (`link.permit`). A release that is new
here waits for the switch window, from its self-test on, where something else serves. What
ran here before does not wait: going back is what one does in an emergency; neither does
what replaces a stopped release, or repairs a file.
"""

from modelfleet_agent.errors import HeldError
from modelfleet_agent.link.permit import hold_outside
from modelfleet_agent.store import Record
from modelfleet_agent.update.goal import Goal
from modelfleet_agent.update.state import SlotState
from modelfleet_agent.update.work import Place, Tools


def find_hold(tools: Tools, goal: Goal, place: Place, state: SlotState) -> HeldError | None:
    """Return why work on `goal` may not begin now, None where it may."""
    try:
        if goal.repair or tools.store.missing(goal.record):
            tools.permit.check(goal.record.key)
        else:
            check_switch(tools, goal, place.serving, state)
    except HeldError as why:
        return why
    return None


def check_switch(
    tools: Tools, goal: Goal, serving: Record | None, state: SlotState
) -> None:
    """Return where the release may be tested and put into service now.

    Raises:
        HeldError: `E_WAITS_FOR_WINDOW`.
    """
    is_urgent = serving is None or tools.is_stopped(serving)
    if is_urgent or goal.repair or state.is_proven(goal.record):
        return
    switch = tools.switch
    now = tools.clock()
    hold_outside(switch.parsed_windows, switch.zone, now, "its maintenance window")
