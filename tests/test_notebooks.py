"""Every notebook runs from top to bottom, and its output is in it."""

import nbformat
import pytest
from nbclient import NotebookClient
from runs import ROOT

from ntm_keras.keras_compat import IS_KERAS_2

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def outputs(notebook):
    """What the code cells print and return, without pictures."""
    return [
        [
            output.get("text") or output.data.get("text/plain")
            for output in cell.outputs
            if output.get("name") != "stderr"
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.skipif(IS_KERAS_2, reason="the trained machines are files of Keras 3")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_output_is_in_it(path):
    notebook = nbformat.read(path, as_version=4)
    shown = outputs(notebook)
    assert sum(map(len, shown)) >= 3
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    if path.stem == "first_look":  # A trained machine's answers are the same everywhere.
        assert "Hello, machine!" in str(shown) and shown[:3] == outputs(notebook)[:3]
