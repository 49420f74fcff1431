"""semipose config."""

import itertools
from typing import Annotated, Any

import typer

from semipose.cli.common import OPTIONS, BoxCategory, Command, CommandError, Json, app, print_json, print_table
from semipose.cli.train import new_configuration, split_arguments

AS_IN_TRAIN = typer.Option(help="Needs --explain; as in train.")


@app.command(cls=Command)
def config(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|CONFIG.yaml] [section.key=value ...]",
            help="A configuration to show; with --explain, further options as well.",
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="The method whose options are listed.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what a training on --data would choose for this machine, and why.")
    ] = False,
    data: Annotated[str | None, AS_IN_TRAIN] = None,
    images: Annotated[str | None, AS_IN_TRAIN] = None,
    val: Annotated[str | None, AS_IN_TRAIN] = None,
    val_images: Annotated[str | None, AS_IN_TRAIN] = None,
    unlabeled: Annotated[str | None, AS_IN_TRAIN] = None,
    boxes: Annotated[str | None, AS_IN_TRAIN] = None,
    box_category: BoxCategory = None,
    labels: Annotated[int | None, AS_IN_TRAIN] = None,
    backbone: Annotated[str | None, AS_IN_TRAIN] = None,
    weights: Annotated[str | None, AS_IN_TRAIN] = None,
    start: Annotated[str | None, AS_IN_TRAIN] = None,
    steps: Annotated[int | None, AS_IN_TRAIN] = None,
    device: Annotated[str | None, AS_IN_TRAIN] = None,
    seed: Annotated[int | None, AS_IN_TRAIN] = None,
    json: Json = False,
) -> None:
    """List all options with type, default and meaning, or show the values that a configuration sets."""
    given = {
        "--data": data, "--images": images, "--val": val, "--val-images": val_images, "--unlabeled": unlabeled,
        "--boxes": boxes, "--box-category": box_category, "--labels": labels, "--backbone": backbone,
        "--weights": weights, "--start": start, "--steps": steps, "--device": device, "--seed": seed,
    }  # fmt: skip
    overrides = {key: value for key, option in OPTIONS.items() if (value := given.get(option)) is not None}
    file, options = split_arguments(arguments or [])
    if explain:
        _explain(arguments or [], overrides | ({"method": method} if method else {}), json)
    elif overrides or options:
        used = [OPTIONS.get(key) or key for key in overrides | options]
        raise CommandError(2, [f"{', '.join(used)}: belongs to --explain; add it"])
    elif file is not None:
        _show_configuration(file, method, json)
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


def _explain(arguments: list[str], overrides: dict[str, Any], json: bool) -> None:
    from semipose.adaptation import load_data, with_options_of_start
    from semipose.build import choose

    config = new_configuration(arguments, overrides)
    if config.data.train is None and config.train.start is None:
        raise CommandError(2, ["--explain needs the labeled persons; give --data"])
    config = with_options_of_start(config)
    chosen, device, reasons = choose(config, load_data(config))
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
