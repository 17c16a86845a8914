//! The overview table at the top of a summary: how much came from the cache, what the restore cost, what was saved and why, and
//! how full the cache is.

use super::{markdown, text};
use crate::report::{Outcome, Paths, Quota, Report, Running, Trend};
use crate::series::Hit;

/// Renders the table. None if nothing was restored or saved.
pub(crate) fn overview(report: &Report) -> Option<String> {
    let rows = [
        hit_rate(&report.paths).map(|shown| ("Hit rate", shown)),
        report.trend.as_ref().map(|trend| ("Trend", compared(trend))),
        report.trend.as_ref().and_then(saved_time).map(|shown| ("Time saved", shown)),
        restored(report).map(|shown| ("Restored", shown)),
        saved(report).map(|shown| ("Saved", shown)),
        report.quota.map(|quota| ("Cache of the repository", in_use(quota))),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().flatten().map(|(name, shown)| vec![name.into(), shown]).collect();
    (!rows.is_empty()).then(|| markdown::table(&["", "In this job"], 0, &rows))
}

/// How the job compares with earlier runs.
fn compared(trend: &Trend) -> String {
    let medians = [
        trend.hit_rate_median.map(|rate| format!("hit rate {}", text::percent(rate))),
        trend.job_median_ms.map(|ms| format!("{} from restore to save", text::time(ms))),
    ];
    let medians: Vec<String> = medians.into_iter().flatten().collect();
    let runs = text::count(trend.runs, "run");
    let medians = (!medians.is_empty()).then(|| format!("median of the last {runs}: {}", listed(&medians)));
    let line = [Some(markdown::plain(&trend.sparkline)).filter(|line| !line.is_empty()), medians];
    let line = line.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let remarks = trend.remarks.iter().map(|remark| format!("<br><b>{}</b>", markdown::sentence(remark)));
    line + &remarks.collect::<String>()
}

/// What the cache saved, in a sentence. None if it is unknown.
pub(crate) fn saved_time(trend: &Trend) -> Option<String> {
    let (saved, week) = (trend.saved_ms?, trend.saved_week_ms);
    let time = text::long_time(saved.unsigned_abs());
    let here = if saved < 0 {
        format!("The cache cost {time} more than it saved in this job")
    } else {
        format!("The cache saved {time} in this job")
    };
    let week = week.filter(|week| *week != saved).map_or(String::new(), |week| {
        let sign = if week < 0 { "−" } else { "" };
        format!("; {sign}{} in this lane in 7 days", text::long_time(week.unsigned_abs()))
    });
    Some(format!("{here}{week}."))
}

/// How full the cache is.
fn in_use(quota: Quota) -> String {
    let of = quota.limit_bytes.map_or(String::new(), |limit| format!(" of {}", text::bytes(limit)));
    let entries = text::count(quota.entries, "entry|entries");
    format!("{}{of} in {entries}, including those of other tools", text::bytes(quota.used_bytes))
}

fn hit_rate(paths: &Paths) -> Option<String> {
    let (rate, all) = (paths.hit_rate()?, paths.all_needed()?);
    let were = |count: u64, how: &str| format!("{} {how}", if count == 1 { "was" } else { "were" });
    let parts = [
        (paths.needed?, "came from this cache".to_owned()),
        (paths.built_here, were(paths.built_here, "built here")),
        (paths.fetched_upstream, were(paths.fetched_upstream, "fetched from a substituter such as cache.nixos.org")),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, how)| format!("{} {how}", text::number(count))).collect();
    let needed = text::count(all, "store path");
    Some(format!("<b>{}</b>: of {needed} that the job needed, {}", text::percent(rate), listed(&parts)))
}

/// `a`, `a and b`, `a, b and c`.
fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn restored(report: &Report) -> Option<String> {
    let restore = report.restore.as_ref().filter(|restore| !restore.lookup_only)?;
    if report.levels.iter().all(|level| level.restored == 0) {
        return (report.key.hit == Hit::Miss).then(|| "nothing".to_owned());
    }
    let unpacked: u64 = report.levels.iter().map(|level| level.restored_bytes).fold(0, u64::saturating_add);
    let how = match &*restore.mode {
        "mount" => ", mounted without unpacking",
        "stream" => ", mounted while the rest arrived",
        "unpack" => ", unpacked",
        _ => "",
    };
    let paths = text::count(report.paths.restored, "store path");
    let cost = format!("{} downloaded for {} of files", text::bytes(restore.downloaded_bytes), text::bytes(unpacked));
    Some(format!("{paths} in {}: {cost}{how}", text::time(restore.ms)))
}

fn saved(report: &Report) -> Option<String> {
    let save = report.save.as_ref()?;
    let because = markdown::sentence(&save.because);
    let because = if because.is_empty() { because } else { format!(", {because}") };
    let running = save.running.as_ref().filter(|running| running.saves > 0);
    let running = running.map_or_else(String::new, |running| {
        let Running { saves, paths, uploaded_bytes, .. } = running;
        let (saves, paths) = (text::count(*saves, "save"), text::count(*paths, "path"));
        format!("; while the job ran, {saves} of {paths} ({} uploaded)", text::bytes(*uploaded_bytes))
    });
    let because = because + &running;
    Some(match save.outcome {
        Outcome::Saved => format!(
            "{} in {}: {} uploaded in {}{because}",
            text::count(report.paths.new, "new store path"),
            text::time(save.ms),
            text::bytes(save.uploaded_bytes),
            text::count(save.entries_created, "new cache entry|new cache entries")
        ),
        Outcome::Skipped if save.uploaded_bytes > 0 && running.is_empty() => {
            format!("no store path{because}; {} of other files uploaded", text::bytes(save.uploaded_bytes))
        }
        Outcome::Skipped => format!("nothing{because}"),
        Outcome::Failed => format!("nothing: the save failed{because}"),
    })
}
