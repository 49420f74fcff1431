"""semipose methods."""

import json

from semipose.methods import METHODS, VARIANTS


def test_list_of_methods(cli, monkeypatch):
    code, out, _ = cli("methods", "--json")
    assert code == 0
    found = json.loads(out)
    assert list(found) == [*METHODS, *VARIANTS]
    assert all(method["paper"] and method["summary"] for method in found.values())
    row = {"method": "one", "summary": "first", "networks": 2, "trained": 1, "forward": 3, "units": 6}
    row["published"] = [44.0, None, None]
    monkeypatch.setattr("semipose.methods.cost.describe_methods", lambda: [row])
    assert "44.0 / – / –" in cli("methods")[1]
