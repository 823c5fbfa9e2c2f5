"""The report as one self-contained HTML page: no script, no request, readable in print. Pure: values to text."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from enginewright_runtime.commands import inspection

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --line: #e3e7ee; --bar: #b9c6dc; --won: #2563c9;
  --good: #157f4a; --bad: #b42318; --paper: #fff; --card: #f7f9fc }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3443; --bar: #41506b;
  --won: #6ea0f5; --good: #4cc38a; --bad: #f97066; --paper: #12161e; --card: #1a2029 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2.5rem auto;
  max-width: 60rem; padding: 0 1.25rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem } h3 { font-size: .95rem }
p.lead { color: var(--soft); margin: .25rem 0 1.5rem }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem }
.facts b { display: block; font-size: 1.2rem } .facts span, .soft { color: var(--soft); font-size: .85rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  font-size: .9rem }
th { color: var(--soft); font-weight: 500 }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) } svg .soft { fill: var(--soft); font-size: 12px }
.passed { color: var(--good) } .failed { color: var(--bad) } code { font-size: .85em; word-break: break-all }
details { margin: .2rem 0 } summary { cursor: pointer } li { font-size: .88rem }
"""
_ROW, _LABEL, _WIDTH = 24, 270, 900
_CUT = 6.0  # times the fastest: a bar beyond is cut off


def render(told: Mapping[str, Any]) -> str:
    """`told` is a build's result with `model` and `report` (see report.of). Everything in it is escaped."""
    report = told["report"]
    schedules = "".join(_schedule(schedule) for schedule in report.get("schedules", []))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{_text(told['model'])}: Enginewright</title><style>{_STYLE}</style>"
        f"<h1>{_text(told['model'])}</h1><p class='lead'>{_text(told['message'])}</p>"
        f"{_facts(told)}{_gates(told.get('gates', []))}{schedules}{_notes(report.get('notes', []))}"
        f"<p class='soft'>recipe <code>{_text(told['digest'])}</code><br>plan sha256 "
        f"<code>{_text(told.get('plan_sha256', ''))}</code></p></html>\n"
    )


def bars(candidates: Sequence[Mapping[str, Any]]) -> str:
    """Times of the candidates that were right as horizontal bars, the fastest first, the chosen one in colour."""
    timed = sorted((each for each in candidates if "dropped" not in each), key=_time)
    if not timed:
        return ""
    # One that is far slower is cut off at the right, where an arrow says so: else it would flatten all the others.
    longest = min(_time(timed[-1]), _CUT * _time(timed[0])) or 1.0
    room = _WIDTH - _LABEL - 150
    rows = []
    for number, each in enumerate(timed):
        top, width = number * _ROW, max(2.0, room * min(_time(each) / longest, 1.0))
        colour = "var(--won)" if each.get("chosen") else "var(--bar)"
        final = "median_ms" in each
        marks = ("→ " if _time(each) > longest else "") + ("" if final else "~ ")
        rows.append(
            f"<g><title>{_text(each['reason'])}; error {each['error']:g}</title>"
            f"<text x='0' y='{top + 16}'>{_text(each['name'])}</text>"
            f"<rect x='{_LABEL}' y='{top + 4}' width='{width:.1f}' height='{_ROW - 9}' rx='3' fill='{colour}'/>"
            f"<text x='{_LABEL + width + 8:.1f}' y='{top + 16}' class='{'' if final else 'soft'}'>"
            f"{marks}{_time(each):.3g} ms{' · chosen' if each.get('chosen') else ''}</text></g>"
        )
    height = len(timed) * _ROW
    return f"<svg viewBox='0 0 {_WIDTH} {height}' width='100%' role='img' aria-label='times'>{''.join(rows)}</svg>"


def _time(each: Mapping[str, Any]) -> float:
    return float(each.get("median_ms", each.get("rough_ms", 0.0)))


def _facts(told: Mapping[str, Any]) -> str:
    latency = told.get("latency_ms", {})
    facts = [("layers", f"{told.get('layers_before', 0)} → {told.get('layers_after', 0)}")]
    facts += [(f"latency {name}", f"{value:.3g} ms") for name, value in latency.items() if name in ("p50", "p99")]
    facts += [
        ("plan", inspection.size(int(told.get("plan_bytes", 0)))),
        ("weights, once for all shapes", inspection.size(told["report"].get("weights_bytes", 0))),
        ("build", f"{told.get('seconds', 0):.1f} s"),
    ]
    cells = "".join(f"<div><span>{_text(name)}</span><b>{_text(value)}</b></div>" for name, value in facts)
    return f"<div class='facts'>{cells}</div>"


def _gates(verdicts: Sequence[Mapping[str, Any]]) -> str:
    if not verdicts:
        return ""
    rows = "".join(
        f"<tr><td class='{'passed' if each['passed'] else 'failed'}'>{'passed' if each['passed'] else 'failed'}</td>"
        f"<td>{_text(each.get('message', ''))}</td></tr>"
        for each in verdicts
    )
    return f"<h2>Gates</h2><table>{rows}</table>"


def _schedule(schedule: Mapping[str, Any]) -> str:
    dropped = [each for each in schedule["candidates"] if "dropped" in each]
    lost = "".join(f"<li>{_text(each['name'])}: {_text(each['dropped'])}</li>" for each in dropped)
    why = f"{schedule['variant']}, {schedule['tactic']}: {schedule['why']}"
    return (
        f"<h2>{_text(schedule['shapes'])}</h2><p>{_text(why)}. <span class='soft'>Checked with "
        f"{_text(schedule['checked_with'])}; ~ marks a rough time of the first round.</span></p>"
        f"{bars(schedule['candidates'])}"
        + _tactics(schedule.get("tactics", ()))
        + (f"<h3>Dropped</h3><ul>{lost}</ul>" if lost else "")
        + _passes(schedule["passes"])
        + _arena(schedule.get("arena"))
    )


def _tactics(problems: Sequence[Mapping[str, Any]]) -> str:
    """What runs each layer on a GPU, the most expensive first, and what was dropped with its reason."""
    if not problems:
        return ""
    ranked = sorted(problems, key=lambda each: -each.get("microseconds", 0.0) * len(each.get("layers", ())))
    rows = "".join(
        f"<tr><td>{_text(', '.join(each.get('layers', ())))}</td>"
        f"<td>{_text(each['tactic'])}: {_text(each['name'])}</td>"
        f"<td>{each.get('microseconds', 0.0)}</td><td>{_rivals(each.get('rivals', ()))}</td></tr>"
        for each in ranked
    )
    head = "<tr><th>layers</th><th>tactic</th><th>us alone</th><th>rivals</th></tr>"
    return f"<h3>Tactics</h3><table>{head}{rows}</table>"


def _rivals(rivals: Sequence[Mapping[str, Any]]) -> str:
    return "<br>".join(
        f"{_text(each['tactic'])}: {_text(each['name'])} "
        + (_text(each["dropped"]) if each.get("dropped") else f"{each.get('microseconds', 0.0)}")
        for each in rivals
    )


def _passes(passes: Sequence[Mapping[str, Any]]) -> str:
    if not passes:
        return ""
    rows = "".join(
        f"<tr><td>{_text(each['name'])}</td><td>{each['changed']}</td><td>{_lines('did', each.get('details'))}"
        f"{_lines('declined', each.get('declined'))}</td></tr>"
        for each in passes
    )
    return f"<h3>Passes</h3><table><tr><th>pass</th><th>changed</th><th></th></tr>{rows}</table>"


def _lines(name: str, lines: Sequence[str] | None) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<details><summary>{name} {len(lines)}</summary><ul>{items}</ul></details>"


def _arena(arena: Mapping[str, Any] | None) -> str:
    if not arena or not arena["sum_of_tensors"]:
        return ""
    whole = arena["sum_of_tensors"]
    rows = (
        ("every tensor its own", whole, "var(--bar)"),
        ("arena", arena["bytes"], "var(--won)"),
        ("lower bound", arena["lower_bound"], "var(--bar)"),
    )
    drawn = "".join(
        f"<text x='0' y='{n * _ROW + 16}'>{name}</text><rect x='{_LABEL}' y='{n * _ROW + 4}' rx='3' fill='{colour}' "
        f"width='{max(2.0, (_WIDTH - _LABEL - 150) * size / whole):.1f}' height='{_ROW - 9}'/>"
        f"<text x='{_LABEL + max(2.0, (_WIDTH - _LABEL - 150) * size / whole) + 8:.1f}' y='{n * _ROW + 16}'>"
        f"{inspection.size(size)}</text>"
        for n, (name, size, colour) in enumerate(rows)
    )
    note = f"<p class='soft'>{_text(arena.get('note', ''))}</p>"
    return f"<h3>Arena</h3><svg viewBox='0 0 {_WIDTH} {3 * _ROW}' width='100%' role='img'>{drawn}</svg>{note}"


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f"<h2>Notes</h2><ul>{items}</ul>" if notes else ""


def _text(value: object) -> str:
    return escape(str(value))
