//! Numbers for people, the ends of axes, and small drawings inside tables.

use std::fmt::Write as _;

use super::chart::Unit;
use super::html::Html;
use crate::report::text;

impl Unit {
    /// A value for people.
    pub(super) fn show(self, value: f64) -> String {
        let size = value.abs().round() as u64;
        let shown = match self {
            Self::Share => return text::signed_percent(value),
            Self::Milliseconds => text::long_time(size),
            Self::Bytes => text::bytes(size),
            Self::Count => text::number(size),
        };
        if value < 0.0 && size > 0 { format!("−{shown}") } else { shown }
    }

    /// A round value that is at least `most`.
    pub(super) fn above(self, most: f64) -> f64 {
        let (units, round): (&[f64], &[f64]) = match self {
            Self::Share => return 1.0,
            Self::Milliseconds => (&[1_000.0, 60_000.0, 3_600_000.0], &[1.0, 2.0, 4.0, 6.0, 10.0, 20.0, 30.0, 60.0]),
            Self::Bytes => (
                &[1024.0, 1_048_576.0, 1_073_741_824.0, 1_099_511_627_776.0],
                &[1.0, 2.0, 4.0, 6.0, 10.0, 20.0, 40.0, 60.0, 100.0, 200.0, 400.0, 600.0, 1024.0],
            ),
            Self::Count => (&[1.0, 100.0, 10_000.0], &[2.0, 4.0, 6.0, 10.0, 20.0, 40.0, 60.0, 100.0]),
        };
        let ends = units.iter().flat_map(|unit| round.iter().map(move |round| unit * round));
        ends.filter(|end| *end >= most).fold(f64::INFINITY, f64::min).min(most.max(f64::MIN_POSITIVE) * 2.0)
    }
}

/// A value, or that it is unknown.
pub(super) fn known(value: Option<String>) -> Html {
    value.map_or_else(|| Html::of(format_args!("<span class=unknown>unknown</span>")), |value| Html::text(&value))
}

/// A bar for a share of 1.
pub(super) fn bar(share: f64) -> Html {
    let width = (share.clamp(0.0, 1.0) * 100.0).max(0.5);
    Html::of(format_args!(
        "<svg class=bar aria-hidden=true viewBox=\"0 0 100 8\" preserveAspectRatio=none>\
         <path class=rail d=\"M0 0h100v8h-100z\"/><path class=a d=\"M0 0h{width:.1}v8h-{width:.1}z\"/></svg>"
    ))
}

/// A line of shares over time, with gaps where nothing is known.
pub(super) fn spark(shares: &[Option<f64>]) -> Html {
    let mut path = String::new();
    let mut is_down = false;
    for (at, share) in shares.iter().enumerate() {
        match share {
            Some(share) => {
                let (command, x, y) =
                    (if is_down { 'L' } else { 'M' }, at * 4 + 2, 18.0 - 16.0 * share.clamp(0.0, 1.0));
                // Writing to a String cannot fail.
                let _ = write!(path, "{command}{x} {y:.0}");
                is_down = true;
            }
            // A single value is a dot.
            None if is_down => {
                path += "h0";
                is_down = false;
            }
            None => {}
        }
    }
    if is_down {
        path += "h0";
    }
    let width = 4 * shares.len().max(1);
    Html::of(format_args!(
        "<svg class=spark aria-hidden=true viewBox=\"0 0 {width} 20\" preserveAspectRatio=none><path d=\"{path}\"/></svg>"
    ))
}
