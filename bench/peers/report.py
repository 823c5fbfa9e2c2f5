"""The record as a page and a picture: pure but for writing the picture; needs no card and no torch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peers.record import AGREE, ALLOWED, NETWORKS, OURS, PEERS, Race, Record, Result

COLOURS: Mapping[str, str] = {
    OURS: "#1b7837",
    "torch eager": "#c7c7c7",
    "torch eager, CUDA graph": "#9ecae1",
    "ONNX Runtime CUDA": "#fdae6b",
    "torch.compile max-autotune": "#6a51a3",
}
SHOWN = 0.01  # shares of throttled time below this are noise of the sampling


def page(record: Record, picture: str) -> str:
    """Everything, as Markdown. `picture` is the plot's path from the page."""
    parts = ["# Ours and the peers, side by side", _what(), *_conditions(record), f"![Milliseconds]({picture})"]
    parts += ["## Milliseconds an inference", "\n".join(speed(record)), "\n".join(_legend(record))]
    parts += ["## Answers, power and clocks", "\n".join(checks(record))]
    notes = list(_notes(record))
    if notes:
        parts += ["## Who did not take part", "\n".join(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def speed(record: Record) -> list[str]:
    """The table of times: a cell of a peer says how many times longer than ours it took in the same race."""
    names = _peers(record)
    lines = [f"| network | batch | ours | goal | {' | '.join((*names, 'best peer'))} |"]
    lines.append("|---|---:|" + "---:|" * (len(names) + 3))
    for network, batch, races in record.rows():
        goal = NETWORKS[network].goals.get(batch)
        cells = [_ours(races), "-" if goal is None else f"{goal:g}"]
        cells += [_peer(races, name) for name in names]
        lines.append(f"| {NETWORKS[network].title} | {batch} | {' | '.join((*cells, _best(races)))} |")
    return lines


def checks(record: Record) -> list[str]:
    """The table of what stands beside the times: errors, agreement, joules, clocks, throttling."""
    lines = [
        "| network | batch | contender | error of the range | top-1 as float32 | ready, s | sustained, ms "
        "| J an inference | MHz | throttled |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for network, batch, races in record.rows():
        for race in races:
            for name, each in race.results.items():
                who = f"{name}, {race.layers} layers" if name == OURS and race.layers else name
                lines.append(f"| {NETWORKS[network].title} | {batch} | {who} | {_checked(name, each, race)} |")
    return lines


def throttled(shares: Mapping[str, float]) -> str:
    """Why and how much of the time: "power limit 92 %"; "no" where the clocks were never held down."""
    words = [f"{reason} {share:.0%}" for reason, share in shares.items() if share >= SHOWN]
    return ", ".join(words).replace("%", " %") or "no"


def plot(record: Record, path: Path) -> None:
    """A row of panels a network, a panel a batch, a bar a contender; the line is the goal. SVG or PNG by the suffix."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": "enginewright", "font.size": 8, "svg.fonttype": "none"})
    from matplotlib import pyplot

    rows = list(record.rows())
    networks = list(dict.fromkeys(network for network, _, _ in rows))
    columns = max((sum(each == network for each, _, _ in rows) for network in networks), default=1)
    figure, axes = pyplot.subplots(
        len(networks) or 1, columns, figsize=(3.6 * columns, 1.75 * (len(networks) or 1)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    names = [OURS, *_peers(record)]
    for line, network in enumerate(networks):
        panels = [(batch, races) for each, batch, races in rows if each == network]
        for axis, (batch, races) in zip(axes[line], panels, strict=False):
            axis.axis("on")
            _panel(axis, f"{NETWORKS[network].title}, batch {batch}", names, races, NETWORKS[network].goals.get(batch))
    figure.suptitle(
        f"Milliseconds an inference, as multiples of ours; dotted: the goal. {_machine(record)}", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=120)
    pyplot.close(figure)


def _panel(axis: Any, title: str, names: Sequence[str], races: Sequence[Race], goal: float | None) -> None:
    shown = [(name, ms) for name in names if (ms := _ms(races, name)) is not None]
    longest = max((ms for _, ms in shown), default=1.0)
    places = range(len(shown))
    axis.barh(places, [ms for _, ms in shown], color=[COLOURS[name] for name, _ in shown])
    for place, (name, ms) in zip(places, shown, strict=True):
        ratio = _ratio(races, name)
        label = f"{_number(ms)}" + (f"  ({ratio:.1f}x)" if ratio else "")
        axis.text(ms + longest * 0.02, place, label, va="center", fontsize=7)
    if goal is not None:
        axis.axvline(goal, color="black", linewidth=0.8, linestyle=":")
    axis.set_yticks(list(places), [name for name, _ in shown])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0, max(longest, goal or 0.0) * 1.8)
    title += f" (goal {goal:g})" if goal else ""
    axis.set_title(title, fontsize=8, loc="left")
    axis.spines[["top", "right"]].set_visible(False)


def _what() -> str:
    return (
        "`bench/gpu_peers.py` takes networks from torchvision and transformers with random weights of a fixed seed "
        "(batch norms with the statistics of the pictures, residual branches small as in training, the last layer "
        "fitted to tell the photographs apart), exports them to ONNX in float32 and builds ours from the file. "
        "Everyone gets the same inputs, crops of "
        "scikit-image's photographs, on the device; all answers are held against torch in float32 first. Then all take "
        "turns in one process, and what counts is the median. Ours reads float32 pictures as the model does, the peers "
        "float16, in NHWC where they can. Power and clocks are of a second of replays without a pause."
    )


def _conditions(record: Record) -> Iterator[str]:
    """The commands of each machine with its versions and date, in the order in which they ran."""
    commands: dict[str, list[str]] = {}
    for each in record.conditions:
        versions = ", ".join(f"{name} {version}" for name, version in each.versions.items())
        commands.setdefault(f"{each.gpu}, driver {each.driver}, {versions}; {each.date}:", []).append(each.command)
    for where, given in commands.items():
        yield "\n\n".join([where, "\n".join(f"    {command}" for command in given)])


def _machine(record: Record) -> str:
    return record.conditions[-1].gpu if record.conditions else ""


def _peers(record: Record) -> list[str]:
    known = {name for race in record.races for name in (*race.results, *race.declined)}
    return [name for name in PEERS.values() if name in known]


def _legend(record: Record) -> Iterator[str]:
    yield (
        "A peer's cell: its time, and how many times longer that is than ours in the same race. Where a network has "
        "several races, a time is of the last one; ours with the least and the most of all."
    )
    missed = [
        f"{NETWORKS[network].title} at {batch} ({_number(ours)} of {goal:g})"
        for network, batch, races in record.rows()
        if (goal := NETWORKS[network].goals.get(batch)) and (ours := _ms(races, OURS)) and ours > goal
    ]
    yield f"\n**Goals missed:** {'; '.join(missed)}." if missed else ""


def _times(races: Sequence[Race], name: str) -> list[float]:
    return [race.results[name].ms for race in races if name in race.results and race.results[name].right]


def _ms(races: Sequence[Race], name: str) -> float | None:
    """Of its last race."""
    return next(reversed(_times(races, name)), None)


def _ratio(races: Sequence[Race], name: str) -> float | None:
    return next((ratio for race in reversed(races) if (ratio := race.ratio(name)) is not None), None)


def _ours(races: Sequence[Race]) -> str:
    ms, times = _ms(races, OURS), _times(races, OURS)
    if ms is None:
        return "**wrong**" if any(race.ours for race in races) else "not built"
    return f"**{_number(ms)}**" + (f" ({_number(min(times))} to {_number(max(times))})" if len(times) > 1 else "")


def _peer(races: Sequence[Race], name: str) -> str:
    ms, ratio = _ms(races, name), _ratio(races, name)
    if ms is None:
        return "wrong" if any(name in race.results for race in races) else "-"
    return _number(ms) + (f" ({ratio:.1f}x)" if ratio else "")


def _best(races: Sequence[Race]) -> str:
    """The peer whose time is the smallest multiple of ours."""
    ratios = {name: ratio for name in PEERS.values() if (ratio := _ratio(races, name)) is not None}
    if not ratios:
        return "-"
    best = min(ratios, key=lambda name: ratios[name])
    return f"{ratios[best]:.1f}x ({best})"


def _checked(name: str, each: Result, race: Race) -> str:
    top1 = "-" if each.top1 is None else f"{each.top1:.2%}".replace("%", " %")
    if each.top1 is not None:
        top1 += f" of {race.pictures}, {race.classes} classes"
        top1 += " (**too few**)" if name == OURS and each.top1 < AGREE else ""
    error = f"{each.error:.1e}" if each.right else f"**{each.error:.1e}**, allowed {ALLOWED:g}"
    mhz = (
        "-"
        if each.mhz is None
        else f"{each.mhz[0]}"
        if each.mhz[0] == each.mhz[1]
        else f"{each.mhz[0]} to {each.mhz[1]}"
    )
    sustained = "-" if each.sustained_ms is None else _number(each.sustained_ms)
    joules = "-" if each.joules is None else f"{each.joules:.3g}"
    held = throttled(each.throttled) if each.mhz is not None else "-"
    return f"{error} | {top1} | {each.ready_s:.0f} | {sustained} | {joules} | {mhz} | {held}"


def _notes(record: Record) -> Iterator[str]:
    for network, batch, races in record.rows():
        for race in races:
            for name, declined in race.declined.items():
                if not any(name in each.results for each in races):
                    yield f"* {NETWORKS[network].title}, batch {batch}: {name}: {declined.reason}"


def _number(ms: float) -> str:
    return f"{ms:.3f}" if ms < 10 else f"{ms:.1f}"
