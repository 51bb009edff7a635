"""The arithmetic of docs/costs.md, and that no other page says what a run costs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "costs.md").read_text()
RUNS_PER_MONTH = 30


def number(cell: str) -> float:
    """Reads the number at the start of a cell, such as `1,110` or `$0.20`."""
    return float(re.match(r"\**\$?([\d,]*\.?\d+)", cell)[1].replace(",", ""))


def table(heading: str) -> list[list[str]]:
    """Returns the rows of the first table below a heading, without its header."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def total(rows: list[list[str]]) -> tuple[list[list[str]], float]:
    """Returns the rows before the total, and the total."""
    *items, last = rows
    assert "total" in last[0]
    return items, number(last[-1])


def test_costs_are_amount_times_price():
    items, sum_of_month = total(table("A month"))
    for item, amount, price, cost in items:
        assert number(amount) * number(price) == pytest.approx(number(cost), abs=0.0051), item
    assert sum(number(cost) for *_, cost in items) == pytest.approx(sum_of_month, abs=0.0051)


def test_gigabyte_seconds_are_those_of_the_steps():
    items, of_a_run = total(table("Lambda"))
    for step, calls, memory, seconds, cost in items:
        assert number(calls) * number(memory) / 1024 * number(seconds) == pytest.approx(number(cost), abs=0.51), step
    assert sum(number(cost) for *_, cost in items) == pytest.approx(of_a_run, abs=0.51)
    amounts = {item: number(amount) for item, amount, *_ in table("A month")[:-1]}
    assert amounts["Lambda: GB-seconds"] == pytest.approx(of_a_run * RUNS_PER_MONTH, abs=20)
    assert amounts["Lambda: calls"] == sum(number(calls) for _, calls, *_ in items) * RUNS_PER_MONTH


def test_memory_is_that_of_terraform():
    steps = (ROOT / "infra" / "steps.tf").read_text().split("step_table = {")[1]
    for step, _, memory, *_ in table("Lambda")[:-1]:
        block = re.search(rf"^    {step} = {{\n(.*?)^    }}", steps, re.M | re.S)[1]
        declared = re.search(r"^ +memory += (\d+)", block, re.M)
        assert number(memory) == (int(declared[1]) if declared else 1024), step


def test_other_pages_name_the_same_total():
    _, month = total(table("A month"))
    pages = [ROOT / "README.md", ROOT / "infra" / "README.md", *(ROOT / "docs").glob("*.md")]
    said = {page: re.findall(r"\$([\d.]+) (?:a|per) month", page.read_text()) for page in pages if page.name != "costs.md"}
    assert said[ROOT / "README.md"] == [f"{month:.2f}"]
    assert {figure for figures in said.values() for figure in figures} == {f"{month:.2f}"}, said
    for page in pages:
        assert not re.search(r"\b[\d.]+ cents\b", page.read_text()), f"{page.name}: costs stand in docs/costs.md"
