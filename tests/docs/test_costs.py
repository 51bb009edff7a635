"""The arithmetic of docs/costs.md, and that no other page says what a run costs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "costs.md").read_text()
CALLS = (ROOT / "docs" / "performance.md").read_text().split("<!-- begin calls of a daily run -->\n")[1].split("<!-- end")[0]
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


def calls_to_aws_of_a_run() -> tuple[float, float, float]:
    """Returns the requests of a run to S3 that write or list, those that read, and those to Glue: for each function, its calls
    in the table of costs times the requests in the table of performance, which has one shard. The extractions are not in that table
    and count as calls of stage-events. Besides, each call reads the lease."""
    function_calls = {step: number(calls) for step, calls, *_ in table("Lambda")[:-1]}
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in CALLS.splitlines()]
    rows = {row[0]: dict(zip(head, row, strict=True)) for row in lines}
    assert rows.keys() - function_calls.keys() == {"plan-run, after extraction"}
    made = {name: 1 if name.startswith("plan-run") else function_calls[name] for name in rows}
    assert {name: calls for name, calls in made.items() if calls != number(rows[name]["function calls"])} == {"build-features": 4}
    requests = lambda kind: sum(calls * number(rows[name][kind]) for name, calls in made.items())  # noqa: E731
    extractions = {step: calls for step, calls in function_calls.items() if step not in rows}
    assert all(step.startswith("extract-") for step in extractions)
    of_one = {kind: number(rows["stage-events"][kind]) for kind in ("LIST", "PUT", "GET", "HEAD", "Glue")}
    said = (
        f"The {sum(extractions.values()):.0f} calls of the extractions are not in that table",
        f"{of_one['PUT'] + of_one['LIST']:.0f} PUT and LIST, {of_one['GET'] + of_one['HEAD']:.0f} GET and HEAD, {of_one['Glue']:.0f} of Glue",
    )
    for text in said:
        assert text in " ".join(PAGE.split()), text
    total_of = lambda kind: requests(kind) + sum(extractions.values()) * of_one[kind]  # noqa: E731
    return total_of("LIST") + total_of("PUT"), total_of("HEAD") + total_of("GET") + sum(function_calls.values()), total_of("Glue")


def test_requests_are_those_of_the_measured_run():
    for start, requests in zip(("S3: PUT and LIST, ", "S3: GET and HEAD, ", "Glue: requests, "), calls_to_aws_of_a_run(), strict=True):
        (row,) = [row for row in table("A month") if row[0].startswith(start)]
        assert number(row[0].removeprefix(start)) == requests, row
        assert number(row[1]) == requests * RUNS_PER_MONTH, row


def test_runs_are_the_part_that_the_page_says():
    """What a month costs only because of its runs, metrics apart."""
    of_runs = ("Lambda: ", "Step Functions: ", "S3: PUT", "S3: GET", "Glue: ", "Secrets Manager: calls", "CloudWatch: logs written", "X-Ray: ")
    items = {item: number(cost) for item, _, _, cost in table("A month")}
    said = re.search(r"The runs themselves are \$([\d.]+) of it, their metrics \$([\d.]+)", PAGE)
    assert sum(cost for item, cost in items.items() if item.startswith(of_runs)) == pytest.approx(float(said[1]))
    assert [cost for item, cost in items.items() if "metric hours" in item] == [float(said[2])]


def test_secrets_are_read_once_per_cold_start():
    steps = (ROOT / "infra" / "steps.tf").read_text().split("step_table = {")[1]
    reads = 0
    for step, calls, *_ in table("Lambda")[:-1]:
        block = re.search(rf"^    {step} = {{\n(.*?)^    }}", steps, re.M | re.S)[1]
        declared = re.search(r"^ +secrets +=(.*)$", block, re.M)
        reads += number(calls) * len(re.findall(r'"(?:graph|transpose)"', declared[1] if declared else ""))
    (row,) = [row for row in table("A month") if row[0].startswith("Secrets Manager: calls")]
    assert number(row[1]) == reads * RUNS_PER_MONTH


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
