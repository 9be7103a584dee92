"""Names of classes: what other processes call them, and classes that travel themselves."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

import gc
import subprocess
import sys
import textwrap
import types
import weakref
from pathlib import Path

import cloudpickle
import pytest

from ringcast.actors import naming
from ringcast.actors.naming import (
    class_blob,
    class_from_blob,
    find_class,
    import_class,
    main_module_name,
    travels_by_value,
    wire_name,
)
from ringcast.errors import CodecError

ROOT = Path(__file__).resolve().parents[3]


class Outer:
    class Inner:
        pass


REPORT = """
from ringcast.actors.naming import find_class, travels_by_value, wire_name
class Counter:
    class Part: pass
if __name__ == "__main__":
    name = wire_name(Counter.Part)
    found = find_class(name) is Counter.Part
    print(name.partition("@")[0], travels_by_value(Counter), found, wire_name(Counter, "x"))
"""


def run(*arguments: str, cwd: Path, path: str = "", stdin: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={"PYTHONPATH": f"{ROOT}{path}"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    package = tmp_path / "pkg" / "sub"
    package.mkdir(parents=True)
    (tmp_path / "pkg/__init__.py").write_text("")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in ("script.py", "pkg/mod.py", "pkg/sub/leaf.py", "pkg/__main__.py"):
        (tmp_path / name).write_text(REPORT)
    return tmp_path


def test_a_class_goes_by_module_and_qualname() -> None:
    assert wire_name(Outer.Inner) == f"{__name__}:Outer.Inner"
    assert wire_name(Outer, "shop.Outer") == "shop.Outer"
    assert not travels_by_value(Outer)
    assert find_class(wire_name(Outer.Inner)) is Outer.Inner


@pytest.mark.parametrize(
    "name",
    ["", "os", "os:", ":x", "os:path", "os:nothing", "os:environ.copy", "nowhere.at.all:X", "os:X@0123"],
)
def test_what_is_no_class_is_not_found(name: str) -> None:
    assert find_class(name) is None
    assert import_class(name) is None


def test_finding_does_not_import_but_importing_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "naming_far.py").write_text("class Far: pass\n")
    (tmp_path / "naming_broken.py").write_text("raise RuntimeError('at import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_class("naming_far:Far") is None
    assert "naming_far" not in sys.modules
    found = import_class("naming_far:Far")
    assert found is not None
    assert import_class("naming_far:Far") is found
    assert import_class("naming_broken:X") is None
    monkeypatch.delitem(sys.modules, "naming_far")


def test_a_script_goes_by_the_name_that_others_import_it_by(tree: Path) -> None:
    assert run("script.py", cwd=tree) == "script:Counter.Part False True x"
    assert run("-m", "script", cwd=tree) == "script:Counter.Part False True x"
    assert run("-m", "pkg.mod", cwd=tree) == "pkg.mod:Counter.Part False True x"
    assert run("-m", "pkg", cwd=tree) == "pkg.__main__:Counter.Part False True x"


def test_a_script_inside_a_package_goes_by_its_full_name_if_that_can_be_imported(tree: Path) -> None:
    assert run("pkg/mod.py", cwd=tree) == "mod:Counter.Part False True x"
    assert run("pkg/mod.py", cwd=tree, path=f":{tree}") == "pkg.mod:Counter.Part False True x"
    # Finding that out runs no package's code: pkg.sub would raise.
    assert run("pkg/sub/leaf.py", cwd=tree, path=f":{tree}") == "pkg.sub.leaf:Counter.Part False True x"


def test_a_script_that_another_module_hides_travels_by_value(tree: Path) -> None:
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere" / "script.py").write_text("")
    (tree / "script.py").write_text("import sys; sys.path.insert(0, 'elsewhere')\n" + REPORT)
    assert run("script.py", cwd=tree) == "__main__:Counter.Part True True x"


def test_code_without_a_module_travels_by_value(tree: Path) -> None:
    assert run("-c", REPORT, cwd=tree) == "__main__:Counter.Part True True x"
    assert run("-", cwd=tree, stdin=REPORT) == "__main__:Counter.Part True True x"
    assert run("pkg", cwd=tree) == "__main__:Counter.Part True True x"


def test_a_child_of_multiprocessing_agrees_with_its_parent(tree: Path) -> None:
    (tree / "spawning.py").write_text(
        textwrap.dedent("""
        import multiprocessing
        from ringcast.actors.naming import find_class, wire_name
        class Counter: pass
        def report(): print(Counter.__module__, wire_name(Counter), find_class("spawning:Counter") is Counter)
        if __name__ == "__main__":
            child = multiprocessing.get_context("spawn").Process(target=report)
            child.start()
            child.join()
        """)
    )
    assert run("spawning.py", cwd=tree) == "__mp_main__ spawning:Counter True"


def test_no_main_module_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "__main__")
    assert main_module_name() is None
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    assert main_module_name() is None
    assert wire_name(Outer) == f"{__name__}:Outer"


@pytest.mark.parametrize(
    ("file", "spec_name", "name"),
    [("script.py", None, "script"), ("pkg/mod.py", None, "pkg.mod"), ("absent.py", None, None),
     ("script.py", "pkg.mod", "pkg.mod"), ("script.py", "__main__", None)],
)  # fmt: skip
def test_the_name_of_a_main_module(
    tree: Path, monkeypatch: pytest.MonkeyPatch, file: str, spec_name: str | None, name: str | None
) -> None:
    monkeypatch.syspath_prepend(tree)
    main = types.ModuleType("__main__")
    main.__file__ = str(tree / file)
    main.__spec__ = None if spec_name is None else types.SimpleNamespace(name=spec_name)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert main_module_name() == name
    counter = type("Counter", (), {"__module__": "__main__"})
    main.Counter = counter  # type: ignore[attr-defined]
    assert travels_by_value(counter) == (name is None)
    if name is not None:
        assert wire_name(counter) == f"{name}:Counter"
        assert find_class(f"{name}:Counter") is counter


def test_a_package_without_a_file_hides_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "naming_space").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    main = types.ModuleType("__main__")
    main.__file__ = str(tmp_path / "elsewhere" / "naming_space.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert main_module_name() is None


def make_local() -> type:
    class Local:
        answer = 42

    return Local


def test_a_class_of_a_function_travels_by_value_under_its_digest() -> None:
    local, other = make_local(), make_local()
    assert travels_by_value(local)
    name = wire_name(local)
    assert name.startswith(f"{__name__}:make_local.<locals>.Local@")
    assert wire_name(local) == name != wire_name(other)
    assert class_blob(local) is class_blob(local)
    assert find_class(name) is local
    assert class_from_blob(name, class_blob(local)) is local


def test_a_loaded_class_answers_the_same_name_and_blob(tmp_path: Path) -> None:
    code = """
        import sys
        from ringcast.actors.naming import class_blob, wire_name
        class Cell:
            answer = 42
            def double(self): return self.answer * 2
        sys.stdout.write(wire_name(Cell) + " " + class_blob(Cell).hex())
    """
    name, blob = run("-c", textwrap.dedent(code), cwd=tmp_path).split()
    loaded = class_from_blob(name, bytes.fromhex(blob))
    assert loaded().double() == 84
    assert class_from_blob(name, bytes.fromhex(blob)) is loaded
    assert (wire_name(loaded), class_blob(loaded).hex()) == (name, blob)
    assert travels_by_value(loaded)
    assert find_class(name) is loaded
    assert import_class(name) is loaded


def test_nothing_keeps_a_class_alive() -> None:
    local = make_local()
    name = wire_name(local)
    gone = weakref.ref(local)
    del local
    gc.collect()
    assert gone() is None
    assert find_class(name) is None


def test_a_blob_must_be_what_its_name_says() -> None:
    blob = bytes(cloudpickle.dumps(make_local()))
    number = bytes(cloudpickle.dumps(1))
    with pytest.raises(CodecError, match="digest"):
        class_from_blob("m:Local@0123456789abcdef", blob)
    for wrong, says in ((blob, "something else"), (number, "something else"), (b"junk", "does not load")):
        with pytest.raises(CodecError, match=says):
            class_from_blob(f"m:Other@{naming._digest(wrong)}", wrong)


def test_a_class_that_cannot_be_pickled_says_so() -> None:
    class Local:
        lock = __import__("threading").Lock()

    with pytest.raises(CodecError, match=r"cannot travel by value.*define it in a module"):
        class_blob(Local)
