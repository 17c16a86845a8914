//! Pictures for a job summary: Mermaid diagrams, which GitHub renders, and bars of block characters. GitHub removes inline SVG.

use crate::building::watch::Ending;
use crate::building::{BuildReport, DerivationTime};
use crate::report::{Paths, Trend};

/// Fewer values make no chart.
const LEAST_POINTS: usize = 5;

/// Largest number of bars in a timeline.
const BARS: usize = 15;

/// A pie chart of the sources of needed paths, as a Mermaid block. None if there are fewer than two slices. Mermaid refuses empty
/// slices, so these are left out.
pub(crate) fn pie(paths: &Paths) -> Option<String> {
    let all = [
        ("From the cache", GREEN, paths.needed?),
        ("Built here", BROWN, paths.built_here),
        ("Fetched from substituters", BLUE, paths.fetched_upstream),
    ];
    let slices: Vec<_> = all.into_iter().filter(|(.., count)| *count > 0).collect();
    if slices.len() < 2 {
        return None;
    }
    let colors: Vec<String> =
        slices.iter().zip(1..).map(|((_, color, _), place)| format!("\"pie{place}\": \"{color}\", ")).collect();
    let lines: Vec<String> = slices.iter().map(|(name, _, count)| format!("    \"{name}\" : {count}\n")).collect();
    let (colors, lines) = (colors.concat(), lines.concat());
    // GitHub chooses the theme, light or dark.
    let look =
        format!("{colors}\"pieOpacity\": \"1\", \"pieSectionTextColor\": \"#ffffff\", \"pieTitleTextSize\": \"16px\"");
    Some(format!(
        "```mermaid\n%%{{init: {{\"themeVariables\": {{{look}}}}}}}%%\n\
         pie showData title Store paths that the job needed\n{lines}```\n\n"
    ))
}

/// A timeline of the longest builds, as a Mermaid block. None for fewer than two.
pub(crate) fn timeline(build: &BuildReport) -> Option<String> {
    let mut longest: Vec<&DerivationTime> = build.derivations.iter().filter(|time| time.ms > 0).take(BARS).collect();
    if longest.len() < 2 {
        return None;
    }
    longest.sort_by_key(|time| (time.start_ms, time.ms));
    let line = |time: &&DerivationTime| {
        // Colons, commas and similar characters are syntax.
        let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '+') { c } else { '_' };
        let name: String = time.name.chars().take(60).map(safe).collect();
        let mark = if time.ending == Ending::Built { "" } else { "crit, " };
        format!("    {name} :{mark}{}, {}\n", time.start_ms, time.start_ms.saturating_add(time.ms))
    };
    let lines: String = longest.iter().map(line).collect();
    let head = "gantt\n    title Builds that took longest\n    dateFormat x\n    axisFormat %M:%S\n";
    Some(format!("```mermaid\n{head}{lines}```\n\n"))
}

/// The hit rates and times of the last runs and of this job, as Mermaid blocks that can be opened. None for a few values.
///
/// Written for old versions of Mermaid: one series in a chart, for which there is no legend; plain numbers; no quotes in a title.
pub(crate) fn trend(trend: &Trend) -> Option<String> {
    let rates: Vec<f64> = trend.hit_rates.iter().map(|rate| rate.clamp(0.0, 1.0) * 100.0).collect();
    let longest = trend.job_times_ms.iter().copied().max().unwrap_or(0);
    let (unit, worth) = if longest < 120_000 { ("seconds", 1_000.0) } else { ("minutes", 60_000.0) };
    let times: Vec<f64> = trend.job_times_ms.iter().map(|ms| *ms as f64 / worth).collect();
    let most = (longest as f64 / worth).ceil().max(1.0);
    let charts = [
        chart("Hit rate in percent, of the last runs and this one", &rates, 100.0),
        chart(&format!("Time from restore to save in {unit}, of the last runs and this one"), &times, most),
    ];
    let charts: String = charts.into_iter().flatten().collect();
    (!charts.is_empty()).then(|| format!("<details><summary>Trend as charts</summary>\n\n{charts}</details>\n\n"))
}

fn chart(title: &str, values: &[f64], most: f64) -> Option<String> {
    let count = values.len();
    if count < LEAST_POINTS {
        return None;
    }
    let places = (1..=count).map(|place| place.to_string()).collect::<Vec<_>>().join(", ");
    let values: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
    let values = values.join(", ");
    Some(format!(
        "```mermaid\n%%{{init: {{\"themeVariables\": {{\"xyChart\": {{\"plotColorPalette\": \"{BLUE}\"}}}}}}}}%%\nxychart-beta\n    \
         title \"{title}\"\n    x-axis [{places}]\n    y-axis 0 --> {most:.0}\n    bar [{values}]\n```\n\n"
    ))
}

// White text can be read on each of them.
const GREEN: &str = "#1a7f37";
const BROWN: &str = "#9a6700";
const BLUE: &str = "#0969da";

/// A bar of at most `width` characters for `value` of `most`, in eighths of a character. A value above zero is never shown as an
/// empty bar.
pub(crate) fn bar(value: u64, most: u64, width: u64) -> String {
    if value == 0 || most == 0 {
        return String::new();
    }
    let eighths = (u128::from(value.min(most)) * u128::from(width) * 8).div_ceil(u128::from(most));
    let eighths = usize::try_from(eighths).unwrap_or(0);
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pie_has_two_slices_or_more_and_none_is_empty() {
        let paths =
            |needed, built_here, fetched_upstream| Paths { needed, built_here, fetched_upstream, ..Paths::default() };
        let shown = pie(&paths(Some(1440), 3, 0)).unwrap();
        assert!(shown.starts_with("```mermaid\n%%{init: {\"themeVariables\": {\"pie1\": \"#1a7f37\", "), "{shown}");
        assert!(shown.contains("}}}%%\npie showData title "), "{shown}");
        assert!(
            shown.contains("    \"From the cache\" : 1440\n    \"Built here\" : 3\n```\n") && !shown.contains(": 0")
        );
        assert_eq!(pie(&paths(Some(1440), 0, 0)), None);
        assert_eq!(pie(&paths(None, 3, 4)), None);
    }

    #[test]
    fn a_trend_is_two_charts_of_one_series_each() {
        let values = Trend {
            hit_rates: vec![0.5, 0.951, 1.0, 0.0, 0.25],
            job_times_ms: vec![61_000, 500_000, 60_000, 1, 2],
            ..Trend::default()
        };
        let shown = trend(&values).unwrap();
        assert_eq!((shown.matches("xychart-beta").count(), shown.matches("bar [").count()), (2, 2));
        assert!(shown.contains("    bar [50.0, 95.1, 100.0, 0.0, 25.0]\n```\n"), "{shown}");
        assert!(shown.contains("in minutes") && shown.contains("y-axis 0 --> 9\n"), "{shown}");
        assert!(!shown.contains("null") && !shown.contains("\\\""));
        // Times that are all unknown or zero are no chart with an empty axis.
        let zero = Trend { job_times_ms: vec![0; 5], ..Trend::default() };
        assert!(trend(&zero).unwrap().contains("y-axis 0 --> 1\n"));
        assert_eq!(trend(&Trend { hit_rates: vec![0.5; 4], ..Trend::default() }), None);
    }

    #[test]
    fn a_timeline_is_in_order_and_bounded() {
        let time = |name: &str, start_ms, ms, ending| DerivationTime {
            name: name.into(),
            start_ms,
            ms,
            ending,
            ..DerivationTime::default()
        };
        let mut build = BuildReport::default();
        build.derivations.push(time("late: a", 500, 900, Ending::Failed));
        assert_eq!(timeline(&build), None);
        build.derivations.push(time("b-1.0", 100, 300, Ending::Built));
        let shown = timeline(&build).unwrap();
        assert!(shown.contains("    b-1.0 :100, 400\n    late__a :crit, 500, 1400\n```\n"), "{shown}");
        build.derivations.extend((0..100).map(|n| time(&"x".repeat(500), n, 1, Ending::Built)));
        let shown = timeline(&build).unwrap();
        assert!(shown.lines().count() < 25 && shown.len() < 5_000, "{shown}");
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 10, 20), "");
        assert_eq!(bar(1, u64::MAX, 20), "▏");
        assert_eq!(bar(5, 10, 20), "█".repeat(10));
        assert_eq!(bar(99, 10, 20), "█".repeat(20));
    }

    proptest! {
        #[test]
        fn a_bar_is_as_long_as_its_share(value in 1_u64.., most in 1_u64.., width in 1_u64..60) {
            let shown = bar(value, most, width);
            prop_assert!((1..=width as usize).contains(&shown.chars().count()));
        }
    }
}
