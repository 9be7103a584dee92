"""The pages keep their word: programs run and print what stands below them, tables name what is there."""

import ast
import asyncio
import dataclasses
import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringcast import Certificates, Node, NodeConfig, Seeds
from ringcast.discovery.codec import Rejected
from ringcast.discovery.seal import Unopened
from ringcast.security.secret import Secret, new_key

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LIMIT = 60.0


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [Block(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in fence.finditer(text)]


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block, each with what it is to print."""
    for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = step.partition("\n")
        yield command, output


def words(command: str) -> list[str]:
    first, *rest = shlex.split(command)
    ours = {"python": sys.executable, "ringcast": str(Path(sys.executable).with_name("ringcast"))}
    return [ours[first], *rest]


def fits(expected: str, printed: str) -> bool:
    """Compare, taking … for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), printed, re.DOTALL) is not None


@contextmanager
def session(folder: Path) -> Generator["Session", None, None]:
    made = Session(folder)
    try:
        yield made
    finally:
        made.end()


class Session:
    """A reader who follows a page: saves its programs in one folder and runs its commands there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.background: list[subprocess.Popen[bytes]] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}
        # A cluster of its own, so that pages which run at the same time do not meet.
        self.environment = {**kept, "RINGCAST_CLUSTER": f"docs-{uuid.uuid4().hex}", "PYTHONPATH": str(folder)}

    def save(self, block: Block) -> str:
        named = re.match(r"# (\w+\.py)\n", block.text)
        assert named, f"line {block.line}: a program's first line is its name, such as `# counter.py`"
        (self.folder / named[1]).write_text(block.text)
        return named[1]

    def run(self, command: str, expected: str) -> None:
        if command == "kill %1":
            self.end()
            return
        if command.endswith(" &"):
            process = subprocess.Popen(words(command[:-2]), cwd=self.folder, env=self.environment)
            self.background.append(process)
            return
        done = subprocess.run(
            words(command),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
        assert fits(expected, done.stdout), f"$ {command}\n{done.stdout}\nexpected:\n{expected}\n{done.stderr}"

    def end(self) -> None:
        ending, self.background = self.background, []
        for process in ending:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(LIMIT) for process in ending]
        assert codes == [0] * len(codes), "a background command did not end well"


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_programs_of_a_page_print_what_stands_below_them(page: str, tmp_path: Path) -> None:
    programs: dict[str, str] = {}
    commands: list[str] = []
    with session(tmp_path) as reader:
        for block in blocks(ROOT / page):
            if block.language == "python":
                programs[reader.save(block)] = block.text
            elif block.language == "console":
                for command, expected in steps(block):
                    commands.append(command)
                    reader.run(command, expected)
    assert programs
    imported = {f"{name}.py" for text in programs.values() for name in re.findall(r"^from (\w+) import", text, re.M)}
    assert [name for name in programs if not any(name in c for c in commands) and name not in imported] == []


def test_programs_of_the_page_on_testing_pass(tmp_path: Path) -> None:
    first, last = (block.text for block in blocks(DOCS / "testing.md") if block.language == "python")
    (tmp_path / "test_shop.py").write_text(first)
    (tmp_path / "alone.py").write_text(last)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py", "--ringcast-seeds=3"]
    for run in (command, [sys.executable, "alone.py"]):
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_knob_has_its_row() -> None:
    page = (DOCS / "configuration.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    fields = {field.name for field in dataclasses.fields(NodeConfig)}
    arguments = {
        name
        for name, parameter in inspect.signature(Node).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    code = "".join(f.read_text() for part in ("runtime", "security") for f in (ROOT / part).glob("*.py"))
    variables = set(re.findall(r'"(RINGCAST_\w+)"', code))
    assert fields | arguments | variables <= rows
    assert {row for row in rows if row.startswith("RINGCAST_")} <= variables


def test_defaults_in_the_table_are_the_defaults() -> None:
    page = (DOCS / "configuration.md").read_text()
    shown = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)`", page, re.MULTILINE))
    for field in dataclasses.fields(NodeConfig):
        default = field.default
        if default is not dataclasses.MISSING:
            assert shown[field.name].replace(",", "") == str(default), field.name


GLOSSARY_WORDS = """
activation, ask, backoff, call chain, certainty, credit, dead letter, drain, envelope, epoch, hook, incarnation,
indirect probe, keyed actor, lease, lineage, link, mailbox, member, node, one_for_all, one_for_one, owner, partition,
passivate, piggyback, placement, probe, refute, rest_for_one, restart, restart intensity, ring, route, runner,
spawn, supervisor, suspect, tell, turn, view, virtual node, voter, watch
"""


def test_the_words_of_the_field_are_explained() -> None:
    explained = set(re.findall(r"^\*\*([^*]+)\*\*", (DOCS / "glossary.md").read_text(), re.MULTILINE))
    assert set(re.split(r",\s+", GLOSSARY_WORDS.strip())) <= explained


def test_decisions_fit_a_screen_and_are_listed() -> None:
    index = (DOCS / "README.md").read_text()
    pages = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    assert pages
    for page in pages:
        text = page.read_text()
        assert len(text.splitlines()) <= 50, page.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
            "Rejected",
        ]
        assert f"decisions/{page.name}" in index, page.name


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    missing = [p.name for p in DOCS.glob("*.md") if p.name != "README.md" and f"({p.name})" not in index]
    assert missing == []


def members_of_classes() -> dict[str, set[str]]:
    """Return the methods and annotated fields of every class, by its name."""
    found: dict[str, set[str]] = {}
    for part in ("actors", "discovery", "runtime", "security"):
        for file in (ROOT / part).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    members = found.setdefault(node.name, set())
                    members.update(n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
                    members.update(
                        n.target.id
                        for n in node.body
                        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
                    )
    return found


def test_an_authority_of_your_own_is_made_as_the_page_says(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    [script] = [block.text for block in blocks(DOCS / "security.md") if "openssl" in block.text]
    subprocess.run(["sh", "-e"], input=script, cwd=tmp_path, text=True, capture_output=True, check=True, timeout=LIMIT)
    made = Certificates(ca=tmp_path / "ca.pem", cert=tmp_path / "web-1.pem", key=tmp_path / "web-1.key")
    asyncio.run(_two_nodes_meet(made))


async def _two_nodes_meet(tls: Certificates) -> None:
    secret = Secret((new_key(1),)).render().encode()
    async with Node(cluster="shop", secret=secret, tls=tls, discovery=[]) as one:
        seeds = [Seeds([one.address])]
        async with Node(cluster="shop", secret=secret, tls=tls, discovery=seeds, hosts=[]) as other:
            await other.wait_for_members(2, LIMIT)
            assert {node.id.partition(".")[0] for node in (one, other)} == {"web-1"}


def test_tests_that_the_security_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (DOCS / "security.md").read_text())
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_counts_that_the_security_page_names_exist() -> None:
    table = (DOCS / "security.md").read_text().partition("| count | of what |")[2].partition("## ")[0]
    named = set(re.findall(r"`(\w+)`", table))
    code = "".join(file.read_text() for part in ("runtime", "discovery") for file in (ROOT / part).glob("*.py"))
    words = set(re.findall(r"\w+", code)) | {unopened.name.lower() for unopened in Unopened}
    words |= {rejected.name.lower() for rejected in Rejected}
    assert {name for name in named if name.removeprefix("membership_") not in words} == set()


@pytest.mark.parametrize("page", sorted(p.name for p in DOCS.glob("*.md")))
def test_files_and_methods_that_a_page_names_exist(page: str) -> None:
    """Pages name code as `runtime/router.py` and `Router.ask`: both must be there."""
    text = (DOCS / page).read_text()
    files = re.findall(r"`((?:actors|discovery|runtime|security|ringcast)/\w+\.py)`", text)
    assert [file for file in files if not (ROOT / file).is_file()] == []
    members = members_of_classes()
    named = re.findall(r"`([A-Z]\w+)\.([a-z]\w*)[`(]", text)
    assert [f"{cls}.{name}" for cls, name in named if name not in members.get(cls, ())] == []
