"""`roofline models`: which models are known, and what one of them consists of."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..io.loaded import LoadedModel
    from ..model import Layer

app = typer.Typer(no_args_is_help=True)

_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")


def _layer_words(layer: "Layer") -> str:
    """One line on the shape of a layer."""
    from ..model import Attention, Mlp
    from ..structs import NO_WINDOW

    attention, mlp = layer.attention, layer.mlp
    if isinstance(attention, Attention):
        window = "" if attention.window >= NO_WINDOW else f", window {attention.window:,.0f}"
        first = (
            f"{_attention_kind(layer)}: {attention.heads:.0f} heads, {attention.kv_heads:.0f} KV heads "
            f"of {attention.head_dim:.0f}{window}"
        )
    else:
        query = "none" if attention.query_rank is None else f"{attention.query_rank:.0f}"
        first = (
            f"MLA: {attention.heads:.0f} heads, query rank {query}, KV rank {attention.kv_rank:.0f}, head dimensions "
            f"{attention.nope_dim:.0f} + {attention.rope_dim:.0f} rotary, values {attention.value_dim:.0f}"
        )
    gated = "gated MLP" if mlp.gated else "MLP"
    if isinstance(mlp, Mlp):
        return f"{first}; {gated} {mlp.width:,.0f}"
    shared = f" + {mlp.shared:.0f} shared of {mlp.shared_width:,.0f}" if mlp.shared else ""
    return f"{first}; {mlp.per_token:.0f} of {mlp.experts:.0f} experts{shared}, {gated} {mlp.width:,.0f}"


def _attention_kind(layer: "Layer") -> str:
    from ..model import LatentAttention

    attention = layer.attention
    if isinstance(attention, LatentAttention):
        return "MLA"
    if attention.kv_heads == attention.heads:
        return "MHA"
    return "MQA" if attention.kv_heads == 1.0 else "GQA"


def _summary(name: str, loaded: "LoadedModel") -> dict[str, Any]:
    """One row: counts as numbers, KV bytes per token in bf16 over all layers (windows not applied; 0: no cache)."""
    from ..model import Attention, Moe
    from ..parameters import active_parameter_count, parameter_count
    from ..structs import NO_WINDOW, STORED_BYTE, Dtype
    from ..transformer import cache_values

    model = loaded.model
    windows = {a.window for a in (layer.attention for layer in model.layers) if isinstance(a, Attention)}
    return {
        "name": name,
        "family": model.family,
        "parameters": parameter_count(model),
        "active_parameters": active_parameter_count(model),
        "layers": len(model.layers),
        "hidden": model.hidden,
        "attention": ", ".join(sorted({_attention_kind(layer) for layer in model.layers})),
        "windows": sorted(window for window in windows if window < NO_WINDOW),
        "mixture_of_experts": any(isinstance(layer.mlp, Moe) for layer in model.layers),
        "kv_byte_per_token_bf16": sum(cache_values(layer.attention, 1) for layer in model.layers)
        * STORED_BYTE[Dtype.BF16]
        * model.causal,
        "max_context": model.max_context,
        "weight_dtype": loaded.weight_dtype,
        "expert_dtype": loaded.expert_dtype,
    }


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@app.command("list")
def list_command(as_json: bool = _JSON) -> None:
    """List the model presets."""
    from ..io.models import load_model, preset_names
    from ..io.units import format_quantity

    rows = [_summary(name, load_model(name)) for name in preset_names()]
    if as_json:
        _print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("name", no_wrap=True)
    for heading in ("total", "active", "layers"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("attention", no_wrap=True)
    for heading in ("KV/token", "context"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        windows = "".join(f" +{window:.0f}" for window in row["windows"])
        table.add_row(
            row["name"],
            _billions(row["parameters"]),
            _billions(row["active_parameters"]) if row["mixture_of_experts"] else "",
            str(row["layers"]),
            row["attention"] + windows,
            format_quantity(row["kv_byte_per_token_bf16"], "B") if row["kv_byte_per_token_bf16"] else "none",
            f"{row['max_context']:.0f}",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "\ntotal, active: parameters, and those that one token passes through. +N: some layers see N tokens only."
        "\nKV/token: bytes of cache in bf16, all layers. context: longest published.",
        style="dim",
    )


def _billions(count: float) -> str:
    return f"{count / 1e9:,.2f} B" if count >= 1e9 else f"{count / 1e6:,.1f} M"


@app.command("show")
def show_command(
    model: str = typer.Argument(..., metavar="NAME|PATH", help="A preset or a Hugging Face config.json."),
    as_json: bool = _JSON,
) -> None:
    """Show one model: its layers, its parameters by role, and where the figures are from."""
    from ..io.models import load_model

    loaded = load_model(model)
    record = _record(loaded)
    if as_json:
        _print_json(record)
    else:
        _print_model(record)


def _record(loaded: "LoadedModel") -> dict[str, Any]:
    from collections import Counter

    from ..parameters import model_tensors

    model, published = loaded.model, loaded.published
    roles: dict[str, list[float]] = {}
    for tensor, repeats in model_tensors(model):
        entry = roles.setdefault(tensor.role, [0.0, 0.0])
        entry[0] += tensor.count * repeats
        entry[1] += tensor.elements * repeats
    return {
        **_summary(model.name, loaded),
        "vocabulary": model.vocabulary,
        "tied_embeddings": model.tied_embeddings,
        "norm": model.norm,
        "position": model.position,
        "causal": model.causal,
        "layer_kinds": [
            {"count": count, "shape": _layer_words(layer)} for layer, count in Counter(model.layers).items()
        ],
        "roles": {role: {"tensors": count, "parameters": total} for role, (count, total) in roles.items()},
        "published": None
        if published is None
        else {"parameters": published.total, "active_parameters": published.active, "source": published.source},
        "source": loaded.source,
        "kind": loaded.kind,
        "note": loaded.note,
    }


def _print_model(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..io.units import format_quantity

    console, total = Console(highlight=False), record["parameters"]
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("parameters", f"{_billions(total)} ({total:,.0f})")
    if record["mixture_of_experts"]:
        facts.add_row("active", f"{_billions(record['active_parameters'])} ({record['active_parameters']:,.0f})")
    published = record["published"]
    if published:
        active = f", {_billions(published['active_parameters'])} active" if published["active_parameters"] else ""
        off = total / published["parameters"] - 1.0
        facts.add_row("published", f"{_billions(published['parameters'])}{active} (computed {off:+.2%})")
        facts.add_row("", escape(published["source"]))
    facts.add_row("layers", f"{record['layers']} of hidden size {record['hidden']:,.0f}")
    for kind in record["layer_kinds"]:
        facts.add_row("", f"{kind['count']} x {kind['shape']}")
    tied = "tied head" if record["tied_embeddings"] else "separate head"
    facts.add_row("vocabulary", f"{record['vocabulary']:,.0f}, {tied if record['causal'] else 'no head (encoder)'}")
    facts.add_row("norm, position", f"{record['norm']}, {record['position']}")
    facts.add_row("max context", f"{record['max_context']:,.0f} tokens")
    if record["kv_byte_per_token_bf16"]:
        facts.add_row("KV per token", f"{format_quantity(record['kv_byte_per_token_bf16'], 'B')} in bf16, all layers")
    stored = record["weight_dtype"] or "not stated"
    experts = f", experts {record['expert_dtype']}" if record["expert_dtype"] else ""
    facts.add_row("published in", f"{stored}{experts}")
    facts.add_row("shape from", f"{escape(record['source'])} [dim]({record['kind']})[/dim]")
    if record["note"]:
        facts.add_row("note", escape(record["note"]))
    console.print(f"[bold]{escape(record['name'])}[/bold] ({record['family']})")
    console.print(facts)

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("role")
    for heading in ("tensors", "parameters", "share"):
        table.add_column(heading, justify="right")
    for role, entry in sorted(record["roles"].items(), key=lambda item: -item[1]["parameters"]):
        share = entry["parameters"] / total
        table.add_row(role, f"{entry['tensors']:,.0f}", f"{entry['parameters']:,.0f}", f"{share:.2%}")
    console.print()
    console.print(table)
