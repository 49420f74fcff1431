"""semipose config."""

import itertools
from typing import Annotated, Any

import typer

from semipose.cli.common import Command, CommandError, Json, app, print_json, print_table


@app.command(cls=Command)
def config(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|CONFIG.yaml]", help="A configuration to show.")] = None,
    method: Annotated[str | None, typer.Option(help="The method whose options are listed.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what a training on --data would choose for this machine, and why.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="With --explain: the labeled persons.")] = None,
    images: Annotated[str | None, typer.Option(help="With --explain: image folder of --data.")] = None,
    unlabeled: Annotated[str | None, typer.Option(help="With --explain: the unlabeled images.")] = None,
    boxes: Annotated[str | None, typer.Option(help="With --explain: the boxes, as in train.")] = None,
    labels: Annotated[int | None, typer.Option(help="With --explain: this many persons keep their labels.")] = None,
    json: Json = False,
) -> None:
    """List all options with type, default and meaning, or show the values that a configuration sets."""
    values = (data, images, unlabeled, boxes, labels)
    given = zip(("train", "images", "unlabeled", "boxes", "labels"), values, strict=True)
    overrides = {f"data.{key}": value for key, value in given if value is not None}
    if explain:
        _explain(name, method, overrides, json)
    elif overrides:
        raise CommandError(2, ["--data, --images, --unlabeled, --boxes and --labels belong to --explain; add it"])
    elif name is not None:
        _show_configuration(name, method, json)
    else:
        _list_options(method, json)


def _list_options(method: str | None, json: bool) -> None:
    from semipose.config import DEFAULT, RunConfig, config_names, describe_options, read_config_file

    method = method or str(read_config_file(DEFAULT)["method"]["name"])
    rows = describe_options(method)
    if json:
        print_json({row.name: {"type": row.type, "default": row.default, "meaning": row.meaning} for row in rows})
        return
    table: list[list[str]] = []
    for section, options in itertools.groupby(rows, key=lambda row: row.name.partition(".")[0]):
        description = RunConfig.describe_section(section)
        table += [[], [f"{section}:", "", "", description]]
        table += [[row.name, row.type, in_yaml(row.default), row.meaning] for row in options]
    print_table(f"Options of a run with {method}", ["option", "type", "default", "meaning"], table)
    print(f"semipose config NAME shows the values of a configuration: {', '.join(config_names())}")


def _explain(name: str | None, method: str | None, overrides: dict[str, Any], json: bool) -> None:
    from semipose.build import choose
    from semipose.config import DEFAULT, load_config
    from semipose.data.datasets import load_splits

    if "data.train" not in overrides:
        raise CommandError(2, ["--explain needs the labeled persons; give --data"])
    config = load_config(name or DEFAULT, overrides | ({"method": method} if method else {}))
    chosen, device, reasons = choose(config, load_splits(config.data))
    if json:
        print_json({"config": chosen.model_dump(mode="json"), "reasons": reasons, "device": str(device)})
        return
    for line in (*reasons, f"method: {chosen.method.name}, device: {device}"):
        print(line)


def _show_configuration(name: str, method: str | None, json: bool) -> None:
    from semipose.config import LABELS_ONLY, describe_options, flatten, load_config, read_config_file
    from semipose.errors import ConfigError

    if method is not None:
        raise ConfigError(f"`method`: {name} is shown as it is; leave the method out")
    load_config(name)  # raises ConfigError if it is invalid
    values = dict(flatten(read_config_file(name)))
    values = {"method" if key == "method.name" else key: value for key, value in values.items()}
    if json:
        print_json(values)
        return
    known = {row.name: row for row in describe_options(values.get("method", LABELS_ONLY))}
    rows = []
    for key, value in values.items():
        option = known.get(key)
        rows.append([key, in_yaml(value), *([in_yaml(option.default), option.meaning] if option else ["", ""])])
    print_table(f"Values of {name}", ["option", "value", "default", "meaning"], rows)


def in_yaml(value: Any) -> str:
    """Returns a value as written in a configuration; augmentations are reduced to their names."""
    if isinstance(value, list):
        return f"[{', '.join(map(in_yaml, value))}]"
    if isinstance(value, dict):
        return str(value.get("kind", value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
