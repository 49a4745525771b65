import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from tests.manifests.delta.models import fine_tune, make_model, make_weights
from typer.testing import CliRunner

from modelfleet_server.cli.delta import app

RUNNER = CliRunner()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    weights = make_weights(1)
    old, new = tmp_path / "old.onnx", tmp_path / "new.onnx"
    old.write_bytes(make_model({"w": weights}))
    new.write_bytes(make_model({"w": fine_tune(weights, 2)}))
    return old, new


def run(*arguments: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_encode_apply_and_inspect(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    patch, made = tmp_path / "p.delta", tmp_path / "made.onnx"
    code, output = run("encode", old, new, "-o", patch, "--json")
    assert code == 0
    assert json.loads(output)["bytes"] == patch.stat().st_size < new.stat().st_size
    assert run("apply", old, patch, "-o", made)[0] == 0
    assert made.read_bytes() == new.read_bytes()
    code, output = run("inspect", patch, "--json")
    assert code == 0
    assert json.loads(output)["new_size"] == new.stat().st_size
    assert "cost most" in run("inspect", patch)[1]
    assert "w: " in run("inspect", patch, "--new", new)[1]


def test_an_estimate_is_near_the_patch(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    patch = tmp_path / "p.delta"
    run("encode", old, new, "-o", patch)
    code, output = run("estimate", old, new, "--json")
    assert code == 0
    assert json.loads(output)["bytes"] == pytest.approx(patch.stat().st_size, rel=0.1)


def test_external_data_is_patched_by_tensors_where_a_model_beside_it_names_it(
    tmp_path: Path,
) -> None:
    old, patch, made = tmp_path / "old", tmp_path / "p.delta", tmp_path / "made"
    new = tmp_path / "new"
    weights = make_weights(1, shape=(200, 300))
    for folder, value in ((old, weights), (new, fine_tune(weights, 2, rate=1e-6))):
        folder.mkdir()
        model = onnx.ModelProto.FromString(make_model({"w": value}))
        onnx.save_model(
            model,
            folder / "m.onnx",
            save_as_external_data=True,
            location="m.data",
            size_threshold=0,
        )
    code, output = run("encode", old / "m.data", new / "m.data", "-o", patch, "--json")
    assert code == 0
    assert json.loads(output)["percent"] < 60
    assert run("apply", old / "m.data", patch, "-o", made)[0] == 0
    assert made.read_bytes() == (new / "m.data").read_bytes()


def test_bad_input_names_itself_and_leaves_the_target(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = pair
    patch, target = tmp_path / "p.delta", tmp_path / "target"
    run("encode", old, new, "-o", patch)
    cut, text = tmp_path / "cut.delta", tmp_path / "text"
    cut.write_bytes(patch.read_bytes()[:-20])
    text.write_text("hello " * 40)
    target.write_bytes(b"before")
    there = sorted(tmp_path.iterdir())
    for arguments, name, word in (
        (("apply", new, patch, "-o", target), new, "not the file"),
        (("apply", old, cut, "-o", target), cut, "truncated"),
        (("apply", old, text, "-o", target), text, "magic"),
        (
            ("apply", tmp_path / "none", patch, "-o", target),
            tmp_path / "none",
            "No such file",
        ),
        (
            ("encode", tmp_path / "none", new, "-o", target),
            tmp_path / "none",
            "No such file",
        ),
        (("inspect", cut), cut, "truncated"),
    ):
        code, output = run(*arguments)
        assert code == 4
        assert str(name) in output
        assert word in output
    assert target.read_bytes() == b"before"
    assert sorted(tmp_path.iterdir()) == there


def test_the_rest_of_manifests_does_not_import_numpy() -> None:
    code = (
        "import sys, pkgutil, importlib, modelfleet_manifests as m\n"
        "for found in pkgutil.iter_modules(m.__path__):\n"
        "    name = f'{m.__name__}.{found.name}'\n"
        "    found.name == 'delta' or importlib.import_module(name)\n"
        "assert 'numpy' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_does_not_import_numpy() -> None:
    code = "import sys, modelfleet_server.cli.delta; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
