import pytest

from modelfleet_server.kit.parts import Parts


class Engine: ...


class Diesel(Engine): ...


def test_a_part_is_found_by_its_class_or_by_the_one_it_was_put_under() -> None:
    parts, diesel = Parts(), Diesel()
    parts.put(diesel, Engine)
    assert parts.get(Engine) is diesel
    assert parts.find(Diesel) is None


def test_a_part_that_was_never_made_is_a_defect_that_names_it() -> None:
    with pytest.raises(LookupError, match="Engine"):
        Parts().get(Engine)
