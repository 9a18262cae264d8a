"""The table as Markdown, for terminals and GitHub: verdicts, then one table per target, then sizes."""

from collections.abc import Callable, Iterable, Sequence

from study.report.frame import TARGETS, TableFrame, TableRow, arrow, short_title
from study.report.numbers import amount, interval, mean_sd, p_value, percent, signed
from whisq_core.metrics import EXTRA, METRICS, title

Line = tuple[str, ...]


def markdown(frame: TableFrame) -> str:
    """The whole table as Markdown text; quoted numbers stand in italics on a line of their own."""
    parts = [f"# {frame.heading}", *(f"**{mark.symbol} {mark.text}**" for mark in frame.marks)]
    reference = next((row.label for row in frame.rows if row.is_reference), None)
    against = f", differences from {reference}" if reference else ""
    parts += [f"## Verdicts on {title(frame.metric)}{against}", _verdicts(frame)]
    for target, name in TARGETS.items():
        parts += [f"## {name}", _metrics(frame, target)]
    parts += ["## Size and cost of a row", _sizes(frame)]
    notes = [f"{row.label}: {row.note}" for row in frame.rows if row.note]
    if notes:
        parts += ["## Notes on rows", _bullets(notes)]
    if frame.findings:
        parts += ["## Checks", _bullets(frame.findings)]
    if frame.incomplete:
        parts += ["## Cells without a result", _bullets(frame.incomplete)]
    parts += ["## Protocol", _bullets(frame.protocol)]
    return "\n\n".join(parts) + "\n"


def _verdicts(frame: TableFrame) -> str:
    columns = ("quoted", "difference", "relative", "95 % seeds", "95 % systems", "p (Holm)", "verdict")
    header = ("configuration", "seeds", title(frame.metric), *columns)

    def line(row: TableRow) -> Line:
        first = (row.marked_label, row.seeds, _cell(row, frame.metric), _italic(row.quoted(frame.metric)))
        if row.is_reference:
            return (*first, "", "", "", "", "", "**reference**")
        if row.verdict is None:
            return first
        comparison, decision = row.verdict.comparison, row.verdict.decision
        return (
            *first,
            signed(comparison.mean),
            percent(comparison.relative),
            interval(comparison.seeds),
            interval(comparison.systems),
            p_value(decision.p_holm) if decision else "",
            f"**{decision.verdict}**: {decision.reason}" if decision else "exploratory",
        )

    return _table(header, _lines(frame, line, lambda row: None))


def _metrics(frame: TableFrame, target: str) -> str:
    names = [name for name in METRICS + EXTRA if name.startswith(f"{target}.")]
    header = ("configuration", "seeds", *(f"{short_title(name)} {arrow(name)}" for name in names))

    def line(row: TableRow) -> Line:
        return (row.marked_label, row.seeds, *(_cell(row, name) for name in names))

    def quoted(row: TableRow) -> Line | None:
        return ("", *map(row.quoted, names)) if row.published else None

    return _table(header, _lines(frame, line, quoted))


def _sizes(frame: TableFrame) -> str:
    header = ("configuration", "trainable parameters", "total parameters", "MACs per clip")

    def line(row: TableRow) -> Line:
        return (row.marked_label, amount(row.num_trainable), amount(row.num_total), amount(row.macs))

    return _table(header, _lines(frame, line, lambda row: None))


def _cell(row: TableRow, metric: str) -> str:
    value = row.defined(metric)
    return row.placeholder if value is None else mean_sd(value)


def _lines(
    frame: TableFrame, line: Callable[[TableRow], Line], quoted: Callable[[TableRow], Line | None]
) -> Iterable[Line]:
    for section in frame.sections:
        yield (f"**{section.title}**{f': {section.note}' if section.note else ''}",)
        for row in section.rows:
            yield line(row)
            numbers = quoted(row)
            if row.published and numbers:
                yield tuple(_italic(text) for text in (f"quoted: {row.published.source}", *numbers))


def _italic(text: str) -> str:
    return f"_{text}_" if text else ""


def _table(header: Line, lines: Iterable[Line]) -> str:
    """A pipe table that lines up in a terminal: labels left, numbers right; a column of words at the end is ragged."""
    rows = [tuple(_escape(text) for text in line) + ("",) * (len(header) - len(line)) for line in (header, *lines)]
    words = len(header) - 1 if header[-1] == "verdict" else len(header)
    sized = [row for row in rows if any(row[1:])]
    widths = [3 if column == words else max(len(row[column]) for row in sized) for column in range(len(header))]
    left = [column in (0, words) for column in range(len(header))]
    ruler = tuple("-" * (width - 1) + ("-" if of_words else ":") for width, of_words in zip(widths, left, strict=True))

    def line(row: Line) -> str:
        cells = zip(row, widths, left, strict=True)
        padded = (text.ljust(width) if of_words else text.rjust(width) for text, width, of_words in cells)
        return f"| {' | '.join(padded)} |"

    return "\n".join(line(row) for row in (rows[0], ruler, *rows[1:]))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
