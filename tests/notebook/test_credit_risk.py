"""Runs examples/credit_risk.ipynb over a lake of the credit scenario, and checks what it finds.

The environment variable DEFI_BIN is the folder of the defi command.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "credit_risk.ipynb"
DEFI = Path(os.environ["DEFI_BIN"]).resolve()
# What the tests read from the notebook, with its own variables.
RESULTS = """
import json
print(json.dumps({
    "rows": len(rows),
    "days": (rows["time"].max() - rows["time"].min()).days,
    "base_rates": base_rates.to_dict(),
    "gap_days": gap.days,
    "shared_wallets": len(set(train["wallet_address"]) & set(test["wallet_address"])),
    "train": [len(train), train[LABEL].mean()],
    "test": [len(test), test[LABEL].mean()],
    "best": best,
    "measures": [table.iloc[position].to_dict() for position in range(len(table))],
    "at_risk": at_risk,
    "calibration": [list(expected), list(observed)],
    "top": list(top.index),
    "leakage": [leakage.iloc[position].to_dict() for position in range(len(leakage))],
}))
"""


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook with its outputs, as someone runs it who has followed its first cell."""
    lake = tmp_path_factory.mktemp("credit") / "lake"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environment |= {"PATH": f"{DEFI}:{os.environ['PATH']}", "DEFI_LAKE": str(lake), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = ["defi", "run", "--scenario", "credit", "--lake", str(lake)]
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    notebook = read()
    notebook.cells.append(nbformat.v4.new_code_cell(RESULTS))
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute(env=environment)
    return notebook


@pytest.fixture(scope="module")
def results(executed):
    return json.loads(executed.cells[-1].outputs[0].text)


def test_committed_notebook_is_valid_and_has_no_outputs():
    notebook = read()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.source


def test_every_result_is_shown(executed):
    """Each code cell but that of the imports prints or shows something, and one a figure."""
    of_cells = [cell.outputs for cell in executed.cells if cell.cell_type == "code"][1:]
    assert all(of_cells)
    kinds = [kind for outputs in of_cells for output in outputs for kind in output.get("data", [output.output_type])]
    assert kinds.count("image/png") == 1


def test_rows_are_many_and_both_labels_occur(results):
    assert results["rows"] > 4000
    assert results["days"] > 170
    assert 0.05 < results["base_rates"]["label_liquidated"] < 0.3
    assert results["base_rates"]["label_liquidated"] < results["base_rates"]["label_at_risk"] < 0.7


def test_training_knows_neither_days_nor_wallets_of_the_test(results):
    assert results["gap_days"] >= 30
    assert results["shared_wallets"] == 0
    for rows, base_rate in (results["train"], results["test"]):
        assert rows > 700
        assert rows * base_rate > 70


def test_model_is_clearly_ahead_of_the_best_single_feature(results):
    constant, single, model = results["measures"]
    assert model["PR-AUC"] > 1.25 * single["PR-AUC"]
    assert model["ROC-AUC"] > single["ROC-AUC"] > 0.55
    assert model["Brier"] < single["Brier"] < constant["Brier"]
    assert constant["PR-AUC"] == pytest.approx(results["test"][1])
    assert results["at_risk"]["PR-AUC"] > 1.3 * results["base_rates"]["label_at_risk"]
    assert len(set(results["top"])) == 8


def test_probabilities_are_calibrated(results):
    """Predicted and observed shares rise together, and differ by less than a third of the highest."""
    expected, observed = results["calibration"]
    assert observed[-1] == max(observed)
    assert max(abs(one - other) for one, other in zip(expected, observed)) < max(expected) / 3


def test_leaked_features_look_excellent_and_are_not(results):
    measured, truth, shuffled, _, honest = results["leakage"]
    assert measured["ROC-AUC"] > 0.85
    assert measured["PR-AUC"] > 1.5 * max(honest["PR-AUC"], shuffled["PR-AUC"])
    assert truth["PR-AUC"] < 0.25 * measured["PR-AUC"]
    assert truth["PR-AUC"] < 1.2 * results["test"][1] < honest["PR-AUC"], "no better than a random order"


def test_documented_numbers_are_those_of_the_notebook(results):
    """The table in docs/notebooks.md. Another release of a library may change the last digits."""
    page = (ROOT / "docs" / "notebooks.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (0\.\d+) \| (0\.\d+) \| (0\.\d+) \|$", page, re.MULTILINE)
    constant, single, model = results["measures"]
    measured, truth = results["leakage"][:2]
    expected = {
        "the base rate, for every borrow": constant,
        f"the best single feature, `{results['best']}`": single,
        "gradient boosting on all features": model,
        "the same on leaked features, measured on a random split": measured,
        "the same on leaked features, in truth": truth,
    }
    assert [name for name, *_ in rows] == list(expected)
    for name, *numbers in rows:
        assert [float(number) for number in numbers] == pytest.approx(list(expected[name].values()), abs=0.01), name
