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
rounded = {name: row.to_dict() for name, row in table.iterrows()}
print(json.dumps({
    "rows": len(rows),
    "last_time": str(rows["time"].max()),
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
    client = NotebookClient(notebook, timeout=150, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
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
    """Each code cell prints or shows something, except those that only define; one is a figure."""
    kinds = [kind for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs for kind in output.get("data", [output.output_type])]
    assert kinds.count("image/png") == 1
    assert "error" not in kinds
    assert not [output for cell in executed.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]


def test_rows_are_many_and_both_labels_occur(results):
    assert results["rows"] > 5000
    assert results["days"] >= 180
    assert 0.05 < results["base_rates"]["label_liquidated"] < 0.3
    assert results["base_rates"]["label_liquidated"] < results["base_rates"]["label_at_risk"] < 0.7


def test_training_knows_neither_days_nor_wallets_of_the_test(results):
    assert results["gap_days"] >= 30
    assert results["shared_wallets"] == 0
    for rows, base_rate in (results["train"], results["test"]):
        assert rows > 1000
        assert rows * base_rate > 100


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
    measured, truth, honest = results["leakage"]
    assert measured["PR-AUC"] > 1.5 * honest["PR-AUC"]
    assert measured["PR-AUC"] > 2 * truth["PR-AUC"]
    assert truth["PR-AUC"] < honest["PR-AUC"]
