//! Writes the comment as Markdown. All foreign texts go through [`markdown::span`]: elsewhere in a comment, GitHub would make links,
//! mentions and references of them, which notify people.

use std::fmt::Write;

use super::base::Why;
use super::difference::{Change, Difference};
use super::section::{Compared, Section};
use crate::github::status::JobStatus;
use crate::report::{markdown, text};

/// Largest comment in bytes. GitHub takes 65,536 characters.
const MOST: usize = 65_000;
/// What the table of all jobs may take of it.
const MOST_TABLE: usize = 30_000;
/// Rows of each table, outputs of a job, and refused files that are shown.
const ROWS: usize = 15;
const REFUSED: usize = 10;
/// Longest name that is shown, in characters.
const NAME: usize = 100;
const UNKNOWN: &str = "unknown";

/// A comment.
pub(crate) struct Page {
    /// The hidden first line, by which the comment is found again.
    pub marker: String,
    /// The commit that it is about.
    pub sha: String,
    /// The base branch, short.
    pub branch: String,
    /// The address of the run, made of the runner's own variables.
    pub run: Option<String>,
    pub sections: Vec<Section>,
    /// Names of files that were not used, and why.
    pub refused: Vec<(String, String)>,
    /// Whether there were more files than are read.
    pub is_cut: bool,
}

/// Renders `page`, in at most [`MOST`] bytes.
pub(crate) fn render(page: &Page) -> String {
    let branch = markdown::span(&page.branch, NAME);
    let commit = markdown::span(page.sha.get(..12).unwrap_or(&page.sha), NAME);
    let run = page.run.as_ref().map_or(String::new(), |address| format!(", in [this run]({address})"));
    let mut out = format!("{}\n### Nix store cache\n\nCommit {commit}{run}, compared with {branch}.\n\n", page.marker);
    let end = ending(page);
    let mut shown = 0;
    for row in table(page, &branch) {
        if out.len() + row.len() > MOST_TABLE {
            break;
        }
        out.push_str(&row);
        shown += 1;
    }
    // The head of the table is its first row.
    let left = page.sections.len() + 1 - shown.min(page.sections.len() + 1);
    out.push('\n');
    if left > 0 {
        let _ = write!(out, "{} would not fit into this table.\n\n", text::count(left as u64, "more job"));
    }
    let mut without = 0_u64;
    for section in &page.sections {
        let details = details(section, &branch);
        // Room for the sentence that says what is missing.
        if out.len() + details.len() + end.len() + 200 > MOST {
            without += 1;
        } else {
            out.push_str(&details);
        }
    }
    if without > 0 {
        let jobs = text::count(without, "job");
        let why = "GitHub takes at most 65,536 characters in a comment";
        let _ = write!(out, "The details of {jobs} are left out: {why}.\n\n");
    }
    out + &end
}

/// The table of all jobs, line by line.
fn table<'a>(page: &'a Page, branch: &'a str) -> impl Iterator<Item = String> + 'a {
    let head = format!(
        "| Job | Result | Hit rate | on {branch} | Time | on {branch} | Built | Fetched | Closure |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    let row = |section: &Section| {
        let usual = section.usual;
        let count = |count: Option<u64>| count.map_or(UNKNOWN.to_owned(), text::number);
        let cells = [
            markdown::span(&section.lane, NAME),
            status(section.status).to_owned(),
            rate(section.hit_rate),
            rate(usual.and_then(|usual| usual.hit_rate)),
            time(section.job_ms),
            time(usual.and_then(|usual| usual.job_ms)),
            count(section.built),
            count(section.fetched),
            section.closure.as_ref().map_or(UNKNOWN.to_owned(), |compared| growth(&compared.difference)),
        ];
        format!("| {} |\n", cells.join(" | "))
    };
    std::iter::once(head).chain(page.sections.iter().map(row))
}

fn status(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Success => "✅ success",
        JobStatus::Failure => "❌ failure",
        JobStatus::Cancelled => "cancelled",
        JobStatus::Unknown => UNKNOWN,
    }
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or(UNKNOWN.to_owned(), text::percent)
}

fn time(ms: Option<u64>) -> String {
    ms.map_or(UNKNOWN.to_owned(), text::time)
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or(UNKNOWN.to_owned(), text::bytes)
}

/// A difference in bytes with its sign.
fn signed(difference: Option<i64>) -> String {
    match difference {
        None => UNKNOWN.to_owned(),
        Some(0) => "±0 B".to_owned(),
        Some(more @ 1..) => format!("+{}", text::bytes(more.unsigned_abs())),
        Some(less) => format!("−{}", text::bytes(less.unsigned_abs())),
    }
}

fn growth(difference: &Difference) -> String {
    if difference.is_empty() { "unchanged".to_owned() } else { signed(difference.growth()) }
}

/// What is known of one job besides its row.
fn details(section: &Section, branch: &str) -> String {
    let parts = [figures(section, branch), failures(section), built(section), closure(section, branch)];
    let parts: String = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let lane = markdown::span(&section.lane, NAME);
    format!("#### {lane}\n\n<details><summary>Details</summary>\n\n{parts}</details>\n\n")
}

fn figures(section: &Section, branch: &str) -> String {
    let counts = match (section.cached, section.built, section.fetched) {
        (Some(cached), Some(built), Some(fetched)) => format!(
            "Of {} that the job needed, {} came from the cache, {} were built and {} were fetched.",
            text::count(cached.saturating_add(built).saturating_add(fetched), "store path"),
            text::number(cached),
            text::number(built),
            text::number(fetched)
        ),
        _ => "How many store paths the job needed is unknown.".to_owned(),
    };
    let hit = match section.hit {
        crate::series::Hit::Exact => "The snapshot of its key was found",
        crate::series::Hit::Partial => "Only a snapshot of a similar key was found",
        crate::series::Hit::Miss => "No snapshot was found",
    };
    let usual = section.usual.map_or(String::new(), |usual| {
        format!(
            " Figures of {branch} are medians of the last {} of this lane.",
            text::count(usual.runs, "successful run")
        )
    });
    let (restore, save) = (time(section.restore_ms), time(section.save_ms));
    format!("{hit}. {counts} Restore: {restore}, save: {save}.{usual}\n\n")
}

fn failures(section: &Section) -> String {
    if section.failures.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = section
        .failures
        .iter()
        .take(ROWS)
        .map(|(category, subject)| vec![(*category).to_owned(), markdown::span(subject, NAME)])
        .collect();
    let table = markdown::table(&["Failure", "Of"], 0, &rows);
    format!("**Failed**\n\n{table}{}", more(section.failures_all))
}

fn built(section: &Section) -> String {
    if section.derivations.is_empty() {
        return String::new();
    }
    let row = |one: &super::section::Derivation| {
        let failed = if one.is_failed { " (failed)" } else { "" };
        vec![markdown::span(&one.name, NAME) + failed, why(&one.why), time(one.ms)]
    };
    let rows: Vec<Vec<String>> = section.derivations.iter().take(ROWS).map(row).collect();
    let table = markdown::table(&["Built", "Why", "Time"], 1, &rows);
    format!(
        "**{} built**\n\n{table}{}",
        text::count(section.derivations_all, "derivation"),
        more(section.derivations_all)
    )
}

fn why(why: &Why) -> String {
    match why {
        Why::Unknown => UNKNOWN.to_owned(),
        Why::New => "new".to_owned(),
        Why::Inputs => "same version, other inputs".to_owned(),
        Why::Version(known) => format!("another version than {}", markdown::span(known, NAME)),
        Why::NotRestored => "the cache has it, but it was not restored".to_owned(),
    }
}

fn more(all: u64) -> String {
    match all.saturating_sub(ROWS as u64) {
        0 => String::new(),
        left => format!("and {} more\n\n", text::number(left)),
    }
}

fn closure(section: &Section, branch: &str) -> String {
    let Compared { difference, key, generation, is_of_branch } = match &section.closure {
        Ok(compared) => compared,
        Err(why) => return format!("**Closure**: unknown, because of this: {}\n\n", markdown::span(why, 300)),
    };
    let key = markdown::span(key, NAME);
    let against = if *is_of_branch {
        format!("the snapshot of {branch} (generation {generation} of {key})")
    } else {
        format!("the snapshot that the job started with (generation {generation} of {key})")
    };
    let outputs = difference.outputs.iter().take(ROWS).map(|(name, before)| {
        let name = markdown::span(name, NAME);
        match before {
            Some(before) => format!("- {name}, compared with {}\n", markdown::span(before, NAME)),
            None => format!("- {name}, which is new\n"),
        }
    });
    let outputs: String = outputs.collect();
    let outputs_more = more(difference.outputs.len() as u64);
    let paths = text::count(difference.paths_after, "store path");
    let before = if difference.paths_before == 0 {
        "nothing to compare with".to_owned()
    } else {
        format!("{}, {} before", text::number(difference.paths_before), bytes(difference.bytes_before))
    };
    let sums = format!(
        "{paths}, {} ({before}; {} added, {} removed, {} in all).",
        bytes(difference.bytes_after),
        text::count(difference.paths_added, "path"),
        text::number(difference.paths_removed),
        signed(difference.growth())
    );
    let lists = [
        ("Changed version", &difference.changed),
        ("Added", &difference.added),
        ("Removed", &difference.removed),
        ("Rebuilt with the same version", &difference.rebuilt),
    ];
    let lists: String = lists.into_iter().map(|(title, changes)| changes_table(title, changes, branch)).collect();
    format!("**Closure**, compared with {against}: {sums}\n\n{outputs}\n{outputs_more}{lists}")
}

fn changes_table(title: &str, changes: &[Change], branch: &str) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let versions = |versions: &std::collections::BTreeSet<String>| {
        let known: Vec<&str> = versions.iter().map(String::as_str).filter(|version| !version.is_empty()).collect();
        if known.is_empty() { "–".to_owned() } else { markdown::span(&known.join(", "), NAME) }
    };
    let row = |change: &Change| {
        vec![
            markdown::span(&change.name, NAME),
            versions(&change.before),
            versions(&change.after),
            signed(change.growth()),
        ]
    };
    // The head of `markdown::table` is plain text, and the branch is a span.
    let mut table = format!("| {title} | {branch} | here | Size |\n| --- | --- | --- | ---: |\n");
    for row in changes.iter().take(ROWS).map(row) {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    format!("{table}\n{}", more(changes.len() as u64))
}

/// What was left out, and how to read the rest.
fn ending(page: &Page) -> String {
    let mut out = String::new();
    if !page.refused.is_empty() {
        let _ = write!(out, "{} not used:\n\n", text::count(page.refused.len() as u64, "report was|reports were"));
        for (name, why) in page.refused.iter().take(REFUSED) {
            let _ = writeln!(out, "- {}: {}", markdown::span(name, NAME), markdown::span(why, 200));
        }
        let left = page.refused.len().saturating_sub(REFUSED);
        if left > 0 {
            let _ = writeln!(out, "- and {left} more");
        }
        out.push('\n');
    }
    if page.is_cut {
        out += "There are more files than are read, so jobs may be missing.\n\n";
    }
    out + "<sub>Hit rate: share of the needed store paths that came from the cache. Time: from the restore to the end of the save.</sub>\n"
}
