"""semipose methods."""

from semipose.cli.common import Command, Json, app, print_json, print_table


@app.command(cls=Command)
def methods(json: Json = False) -> None:
    """List the methods with the cost of a step and the published COCO AP with 1K, 5K and 10K labels (ResNet-18)."""
    from semipose.methods.cost import describe_methods

    rows = describe_methods()
    if json:
        print_json({row.pop("method"): row for row in rows})
        return
    columns = ["method", "summary", "networks", "passes trained + forward", "units", "AP at 1K / 5K / 10K"]
    table = [
        [
            row["method"],
            row["summary"],
            str(row["networks"]),
            f"{row['trained']} + {row['forward']}",
            str(row["units"]),
            " / ".join("–" if score is None else f"{score:.1f}" for score in row["published"]),
        ]
        for row in rows
    ]
    print_table("Methods", columns, table)
