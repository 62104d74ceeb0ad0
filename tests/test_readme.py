"""What the README and the start page show is true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = [
    pytest.param(block, id=f"{page}-{k}")
    for page in ("README.md", "docs/index.md")
    for k, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S))
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_runs_and_prints_something(example, capsys):
    exec(compile(example, "<example>", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_every_file_that_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["tour", "test"])
def test_the_two_commands_are_single_lines_that_need_only_python_and_pip(name):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"<!-- {name} -->\n```console\n(.*)\n```\n<!-- /{name} -->", text)
    programs = [part.split()[0] for part in command.split(" && ")]
    assert programs[0] == "python3"
    assert all(program.startswith(".venv/bin/") for program in programs[1:])
