//! Badges: the JSON that shields.io reads from an address, and a picture of our own.

use serde_json::json;

const LABEL: &str = "nix cache";

/// The text and the colour for a hit rate.
fn shown(hit_rate: Option<f64>) -> (String, &'static str, &'static str) {
    let Some(rate) = hit_rate else { return ("unknown".to_owned(), "lightgrey", "#6e7781") };
    let (name, colour) = match rate {
        0.9.. => ("brightgreen", "#1a7f37"),
        0.7.. => ("green", "#4d7a1e"),
        0.4.. => ("yellow", "#9a6700"),
        _ => ("orange", "#bc4c00"),
    };
    // Whole percents, rounded down.
    (format!("{} % hits", (rate.clamp(0.0, 1.0) * 100.0).floor()), name, colour)
}

/// The endpoint of shields.io, as <https://shields.io/badges/endpoint-badge> describes it.
pub(super) fn json(hit_rate: Option<f64>) -> String {
    let (message, color, _) = shown(hit_rate);
    let value = json!({"schemaVersion": 1, "label": LABEL, "message": message, "color": color, "cacheSeconds": 3600});
    format!("{value}\n")
}

/// The same as a picture.
pub(super) fn svg(hit_rate: Option<f64>) -> String {
    let (message, _, colour) = shown(hit_rate);
    // Both texts are drawn into a given width, so that any font fits.
    let width = |text: &str| 7 * text.chars().count() as u64;
    let (left, right): (u64, u64) = (width(LABEL) + 8, width(&message) + 8);
    let all = left + right;
    let label = |x: u64, room: u64, text: &str| {
        format!("<text x=\"{x}\" y=\"14\" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\">{text}</text>", room - 10)
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" aria-label=\"{LABEL}: {message}\">\
         <title>{LABEL}: {message}</title><clipPath id=\"r\"><rect width=\"{all}\" height=\"20\" rx=\"3\"/></clipPath>\
         <g clip-path=\"url(#r)\"><rect width=\"{left}\" height=\"20\" fill=\"#444c56\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{colour}\"/></g>\
         <g fill=\"#fff\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">{}{}</g></svg>\n",
        label(5, left, LABEL),
        label(left + 5, right, &message)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_says_the_rate_or_that_it_is_unknown() {
        let of = |rate| serde_json::from_str::<serde_json::Value>(&json(rate)).unwrap();
        assert_eq!(of(Some(0.9999))["message"], "99 % hits");
        assert_eq!(
            (of(Some(1.0))["message"].clone(), of(Some(1.0))["color"].clone()),
            ("100 % hits".into(), "brightgreen".into())
        );
        assert_eq!((of(None)["message"].clone(), of(None)["schemaVersion"].clone()), ("unknown".into(), 1.into()));
        assert!(
            svg(Some(0.5)).contains(">50 % hits</text>") && svg(None).contains("aria-label=\"nix cache: unknown\"")
        );
    }
}
