//! A chart: bars over time, one on the other, with a goal as a line. Shapes are SVG that stretches to any width; labels are HTML, so
//! that they are readable on any width. A table with the same values is the alternative for those who cannot see it.

use std::fmt::Write as _;

use super::bins::Bin;
use super::html::{Html, table};

/// Values of one kind, one for each span of time; None where nothing is known.
pub(super) struct Series {
    pub name: &'static str,
    /// Its colour, as a class of the style sheet.
    pub class: &'static str,
    pub values: Vec<Option<f64>>,
}

/// What the values are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Share,
    Milliseconds,
    Bytes,
    Count,
}

/// A chart.
pub(super) struct Chart<'a> {
    /// An identifier of letters.
    pub id: &'static str,
    pub title: &'static str,
    /// What it shows, in a sentence or two.
    pub text: String,
    pub unit: Unit,
    /// The spans of time.
    pub labels: Vec<&'a str>,
    pub series: Vec<Series>,
    /// A line across, and what it means.
    pub line: Option<(f64, String)>,
}

/// Width of a span and of its bar, and the height of all, in the units of the drawing.
const STEP: usize = 10;
const WIDTH: usize = 8;
const HEIGHT: f64 = 100.0;

impl<'a> Chart<'a> {
    /// A chart of values for each of `bins`, with its identifier, title and text.
    pub(super) fn over(
        bins: &'a [Bin<'_>],
        (id, title, text): (&'static str, &'static str, String),
        unit: Unit,
        series: Vec<Series>,
    ) -> Self {
        Self { id, title, text, unit, labels: bins.iter().map(|bin| &*bin.label).collect(), series, line: None }
    }

    /// The chart as a figure. A chart without a value says so.
    pub(super) fn draw(&self) -> Html {
        let (title, text, id) = (Html::text(self.title), Html::text(&self.text), self.id);
        let is_known = self.series.iter().any(|series| series.values.iter().flatten().any(|value| *value != 0.0));
        if !is_known {
            return Html::of(format_args!(
                "<figure class=card><figcaption><h3 id={id}>{title}</h3><p>{text}</p></figcaption><p class=none>Nothing is \
                 known about this yet.</p></figure>\n"
            ));
        }
        let (low, high) = self.range();
        let y = |value: f64| HEIGHT * (high - value.clamp(low, high)) / (high - low);
        let width = STEP * self.labels.len().max(1);
        let zero = y(0.0);
        let ticks: &[f64] = match low / high {
            -0.5 => &[1.0, 0.5, 0.0, -0.5],
            -1.0 => &[1.0, 0.0, -1.0],
            _ => &[1.0, 0.5, 0.0],
        };
        let grid: Html = ticks
            .iter()
            .map(|tick| Html::of(format_args!("<path class=grid d=\"M0 {:.1}H{width}\"/>", y(tick * high))))
            .chain([Html::of(format_args!("<path class=zero d=\"M0 {zero:.1}H{width}\"/>"))])
            .collect();
        let line = self
            .line
            .as_ref()
            .map(|(value, _)| Html::of(format_args!("<path class=goal d=\"M0 {0:.1}H{width}\"/>", y(*value))));
        let tick = |tick: &f64| Html::of(format_args!("<span>{}</span>", Html::text(&self.unit.show(tick * high))));
        let ticks: Html = ticks.iter().map(tick).collect();
        let (bars, tips) = (self.bars(&y), self.tips());
        Html::of(format_args!(
            "<figure class=card><figcaption><h3 id={id}>{title}</h3><p>{text}</p>{}</figcaption>\n\
             <div class=plot><div class=y aria-hidden=true>{ticks}</div>\
             <svg role=img aria-labelledby={id} viewBox=\"0 0 {width} 100\" preserveAspectRatio=none>\
             {grid}{bars}{}{tips}</svg>\
             <div class=x aria-hidden=true>{}</div></div>\n\
             <details><summary>Table<span class=hidden> of: {title}</span></summary>{}</details></figure>\n",
            self.legend(),
            line.unwrap_or_default(),
            self.dates(),
            self.table(),
        ))
    }

    /// The lowest and the highest value of the axis, so that zero is one of the ticks.
    pub(super) fn range(&self) -> (f64, f64) {
        let sums = |is_wanted: fn(f64) -> bool| {
            let at = move |at: usize| {
                let values = self.series.iter().filter_map(|series| series.values.get(at).copied().flatten());
                values.filter(|value| is_wanted(*value)).sum::<f64>().abs()
            };
            (0..self.labels.len()).map(at).fold(0.0, f64::max)
        };
        let (up, down) = (sums(|value| value > 0.0), sums(|value| value < 0.0));
        let line = self.line.as_ref().map_or(0.0, |(value, _)| *value);
        let high = self.unit.above(up.max(down).max(line));
        let low = match down {
            0.0 => 0.0,
            down if down <= high / 2.0 => -high / 2.0,
            _ => -high,
        };
        (low, high)
    }

    /// The bars, each series as one path.
    fn bars(&self, y: &impl Fn(f64) -> f64) -> Html {
        let mut up = vec![0.0; self.labels.len()];
        let mut paths = Html::default();
        for series in &self.series {
            let mut path = String::new();
            for (at, value) in series.values.iter().enumerate() {
                let Some(value) = value.filter(|value| *value != 0.0) else { continue };
                let base = if value > 0.0 { up[at] } else { 0.0 };
                let (top, bottom) = (y(base + value.max(0.0)), y(base + value.min(0.0)));
                up[at] += value.max(0.0);
                let x = at * STEP + (STEP - WIDTH) / 2;
                // What is not zero can be seen.
                let height = (bottom - top).max(0.5);
                // Writing to a String cannot fail.
                let _ = write!(path, "M{x} {top:.1}h{WIDTH}v{height:.1}h-{WIDTH}z");
            }
            if !path.is_empty() {
                paths = [paths, Html::of(format_args!("<path class={} d=\"{path}\"/>", series.class))]
                    .into_iter()
                    .collect();
            }
        }
        paths
    }

    /// What a pointer over a span shows.
    fn tips(&self) -> Html {
        let tip = |(at, label): (usize, &&str)| {
            let values: Vec<String> = self
                .series
                .iter()
                .filter_map(|series| {
                    Some(format!("{} {}", series.name, self.unit.show(series.values.get(at).copied()??)))
                })
                .collect();
            let text = if values.is_empty() { "no run".to_owned() } else { values.join(", ") };
            let (x, text) = (at * STEP, Html::text(&format!("{label}: {text}")));
            Html::of(format_args!("<rect x={x} width={STEP} height=100><title>{text}</title></rect>"))
        };
        self.labels.iter().enumerate().map(tip).collect()
    }

    /// The first, the middle and the last span.
    fn dates(&self) -> Html {
        let last = self.labels.len().saturating_sub(1);
        let mut shown = vec![0, last / 2, last];
        shown.dedup();
        let date =
            |at: usize| self.labels.get(at).map(|label| Html::of(format_args!("<span>{}</span>", Html::text(label))));
        shown.into_iter().filter_map(date).collect()
    }

    /// What the colours mean, if there are several, and the line.
    fn legend(&self) -> Html {
        let mut items: Vec<Html> = Vec::new();
        if self.series.len() > 1 {
            items.extend(self.series.iter().map(|series| {
                let name = Html::text(series.name);
                Html::of(format_args!("<li><svg class=key aria-hidden=true viewBox=\"0 0 8 8\"><path class={} d=\"M0 0h8v8h-8z\"/></svg>{name}</li>", series.class))
            }));
        }
        if let Some((_, name)) = &self.line {
            let name = Html::text(name);
            items.push(Html::of(format_args!("<li><svg class=key aria-hidden=true viewBox=\"0 0 8 8\"><path class=goal d=\"M0 4h8\"/></svg>{name}</li>")));
        }
        let items: Html = items.into_iter().collect();
        if items.is_empty() { items } else { Html::of(format_args!("<ul class=legend>{items}</ul>")) }
    }

    fn table(&self) -> Html {
        let head: Vec<&str> = ["Time (UTC)"].into_iter().chain(self.series.iter().map(|series| series.name)).collect();
        let row = |(at, label): (usize, &&str)| {
            let values = self.series.iter().map(|series| series.values.get(at).copied().flatten());
            if values.clone().all(|value| value.is_none()) {
                return None;
            }
            let cells = values.map(|value| value.map_or_else(|| "–".to_owned(), |value| self.unit.show(value)));
            let cells = [(*label).to_owned()].into_iter().chain(cells);
            Some(cells.map(|cell| Html::text(&cell)).collect::<Vec<_>>())
        };
        let rows: Vec<Vec<Html>> = self.labels.iter().enumerate().filter_map(row).collect();
        table(self.title, &head, 1, &rows)
    }
}
