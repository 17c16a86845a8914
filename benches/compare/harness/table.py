"""The tables: medians, ratios to the tar pipeline, and what must be reached."""

from statistics import median

CASES = [
    "cold save",
    "restore",
    "nothing changed, save",
    "5 % changed, save",
    "lock bump, restore",
    "lock bump, save",
]
# What is ours.
OURS = ("mount", "unpack", "stream", "stream with trace")
MEMORY = 256_000_000


class Figures:
    """The measured figures, by link, case and candidate."""

    def __init__(self, figures):
        self.all = figures

    def some(self, link, case, candidate):
        chosen = {"link": link, "case": case, "candidate": candidate}
        return [figure for figure in self.all if chosen.items() <= figure.items() and not figure.get("aside")]

    def median(self, link, case, candidate, what="seconds"):
        """The median of a figure; none where it was not measured."""
        values = [figure[what] for figure in self.some(link, case, candidate) if figure.get(what) is not None]
        return median(values) if values else None

    def ratio(self, link, case, candidate, what="seconds", to=None):
        """The ratio of two medians: to the tar pipeline in the same case, or in the case `to`."""
        own, other = self.median(link, case, candidate, what), self.median(link, to or case, "tar", what)
        return own / other if own is not None and other else None


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def number(value, form="{:.2f}"):
    return "" if value is None else form.format(value)


def megabytes(value):
    return "" if value is None else f"{value / 1e6:.1f}"


def results(figures, link):
    """One line for each case and candidate."""
    lines = [
        row("case", "candidate", "seconds", "ratio", "CPU", "MB up", "MB down", "ratio", "peak MB"),
        row("---", "---", *["---:"] * 7),
    ]
    for case in CASES:
        for candidate in ("tar", *OURS, "nix copy"):
            if not figures.some(link, case, candidate):
                continue
            way = "down" if "restore" in case else "up"
            lines.append(
                row(
                    case,
                    candidate,
                    number(figures.median(link, case, candidate)),
                    number(figures.ratio(link, case, candidate)),
                    number(figures.median(link, case, candidate, "cpu-seconds")),
                    megabytes(figures.median(link, case, candidate, "up")),
                    megabytes(figures.median(link, case, candidate, "down")),
                    number(figures.ratio(link, case, candidate, way), "{:.3f}"),
                    megabytes(figures.median(link, case, candidate, "peak-bytes")),
                )
            )
        for candidate in ("tar", *OURS) if case == "restore" and link == "local" else ():
            own = figures.median(link, case, candidate, "local-seconds")
            if own is not None:
                ratio = number(figures.ratio(link, case, candidate, "local-seconds"))
                lines.append(row("of that, after the download", candidate, number(own), ratio, *[""] * 5))
    return lines


def lost(figures, link, case, candidate):
    """By how many seconds a job takes longer than in a store that is already there; none where that was not measured."""
    whole, there = figures.median(link, case, candidate), figures.median(link, case, "tar", "there-seconds")
    return None if whole is None or there is None else whole - there


def jobs(figures, link):
    """One line for each shape of a job: seconds from the start of the restore to its end, and until it could begin."""
    names = ("tar", "mount", "stream", "stream with trace", "nix copy", "substituter")
    cases = list(dict.fromkeys(figure["case"] for figure in figures.all if figure["case"].startswith("job: ")))
    lines = [row("job", *names), row("---", *["---:"] * len(names))]
    for case in cases:
        for what, title in (("seconds", case), ("begun-seconds", "until it begins")):
            cells = []
            for name in names:
                value, ratio = figures.median(link, case, name, what), figures.ratio(link, case, name, what)
                cells.append("" if value is None else f"{value:.1f} s" + (f", {ratio:.2f}" if ratio is not None and name != "tar" else ""))
            entries = figures.median(link, case, "stream", "entries") if what == "seconds" and "saves" in case else None
            lines.append(row(title.removeprefix("job: ") + (f" ({entries:.0f} layers)" if entries else ""), *cells))
        if lost(figures, link, case, "tar") is not None:
            lines.append(row("seconds lost, of the same in a store that is there", *(number(lost(figures, link, case, name), "{:.1f} s") for name in names)))
    return lines if any(figures.some(link, case, name) for case in cases for name in names) else []


def commits(figures, link):
    """The sums over ten commits, and what the service holds in the end."""
    lines = [
        row("ten commits in a row", "MB up", "ratio", "MB down", "ratio", "MB held", "ratio", "seconds of saves"),
        row("---", *["---:"] * 7),
    ]
    sums = {}
    for candidate in ("tar", *OURS, "nix copy"):
        restores = figures.some(link, "ten commits, restore", candidate)
        saves = figures.some(link, "ten commits, save", candidate)
        if saves:
            sums[candidate] = (
                sum(figure["up"] for figure in saves),
                sum(figure["down"] for figure in restores + saves),
                saves[-1]["held"],
                sum(figure["seconds"] for figure in saves),
            )
    for candidate, (up, down, held, seconds) in sums.items():
        cells = []
        for value, base in zip((up, down, held), sums.get("tar", (0, 0, 0))):
            cells += [megabytes(value), number(value / base if base else None, "{:.3f}")]
        lines.append(row(candidate, *cells, number(seconds)))
    return lines if sums else []


def demands(figures):
    """What must be reached: name, ratio and limit, for time and bytes."""
    local, link = "local", "link"
    changed, nothing = "5 % changed, save", "nothing changed, save"
    found = [
        ("restore, link model: time", figures.ratio(link, "restore", "mount"), 0.65),
        ("restore, link model: bytes", figures.ratio(link, "restore", "mount", "down"), 1.15),
        ("restore without the download: time", figures.ratio(local, "restore", "mount", "local-seconds"), 0.10),
        ("cold save, no link limit: time", figures.ratio(local, "cold save", "mount"), 1.0),
        ("cold save, link model: time", figures.ratio(link, "cold save", "mount"), 0.86),
        ("lock bump, save, link model: time", figures.ratio(link, "lock bump, save", "mount"), 0.20),
        ("lock bump, save, link model: bytes", figures.ratio(link, "lock bump, save", "mount", "up"), 0.18),
    ]
    for way, name in ((local, "no link limit"), (link, "link model")):
        found += [
            (f"5 % changed, {name}: time", figures.ratio(way, changed, "mount"), 0.15),
            (f"5 % changed, {name}: bytes", figures.ratio(way, changed, "mount", "up"), 0.010),
            (f"cold save, {name}: bytes", figures.ratio(way, "cold save", "mount", "up"), 1.0),
            (f"nothing new, {name}: time to a cold save", figures.ratio(way, nothing, "mount", to="cold save"), 0.05),
            (f"nothing new, {name}: bytes up", figures.median(way, nothing, "mount", "up"), 0),
        ]
    traced = "stream with trace"
    found += [
        ("job that reads 5 %, link model: until it begins", figures.ratio(link, "job: reads 5 %", traced, "begun-seconds"), 0.06),
        ("job that reads 5 %, link model: time", figures.ratio(link, "job: reads 5 %", traced), 0.20),
        ("job that reads 20 %, link model: time", figures.ratio(link, "job: reads 20 %", traced), 0.45),
        ("job that reads everything, link model, no trace: time", figures.ratio(link, "job: reads everything", "stream"), 0.75),
    ]
    found.append(("job that computes 60 s, link model: seconds lost", lost(figures, link, "job: reads 5 %, computes 60 s", traced), 2))
    ours = [figure["peak-bytes"] for figure in figures.all if figure["candidate"] in OURS and figure["case"] != "service"]
    found.append(("peak memory of nix-cache, MB", max(ours) / 1e6 if ours else None, MEMORY / 1e6))
    return found


def reached(figures):
    """What must be reached, and whether it is."""
    lines = [row("must reach", "at most", "is", ""), row("---", "---:", "---:", "---")]
    for name, value, limit in demands(figures):
        if value is not None:
            lines.append(row(name, f"{limit:g}", f"{value:.3f}", "yes" if value <= limit else "**no**"))
    return lines


def tables(figures, about):
    """Everything, as Markdown."""
    figures = Figures(figures)
    memory = f"{about['memory-bytes'] / 2**30:.0f} GiB"
    text = [
        f"{about['date']}; {about['cores']} cores of {about['cpu']}, {memory}; {about['system']}; {about['nix']}. The store: "
        f"{about['paths']} paths, {about['nar-bytes'] / 1e9:.2f} GB. Medians of {about['rounds']}; ratios to tar."
    ]
    text += ["", *reached(figures)]
    for link, title in (("link", "Through the link model"), ("local", "Without a limit of the link")):
        if any(figure["link"] == link for figure in figures.all):
            text += ["", f"**{title}**", "", *results(figures, link)]
            whole = jobs(figures, link)
            text += ["", *whole] if whole else []
            sums = commits(figures, link)
            text += ["", *sums] if sums else []
    return "\n".join(text) + "\n"
