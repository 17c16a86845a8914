//! The step of the action `dashboard/`. It fails where the history cannot be read, since an empty page would replace a good one.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::dashboard_inputs::DashboardInputs;
use super::given::ActionInputs;
use super::job::{Job, Place};
use super::outputs::set_all;
use crate::app::Failure;
use crate::app::dashboard::{Scene, make, sentences};
use crate::dashboard::{HeldEntry, Written};
use crate::remote::Kind;
use crate::remote::github::{CacheEntryInfo, version};
use crate::report::page;
use crate::report::text;

/// Time for all requests.
const LIMIT: Duration = Duration::from_mins(2);

/// Writes the dashboard, and reports which goals are reached.
pub(super) async fn run() -> Result<(), Failure> {
    let inputs = DashboardInputs::from_environment().map_err(Failure::usage)?;
    let job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    let place = job.place(Some(LIMIT)).map_err(|error| Failure::work(format!("No dashboard was written: {error}")))?;
    let project = job.project();
    let scene = Scene {
        from: &project,
        remote: Some(&*place.remote),
        keys: &job.keys,
        repository: &job.facts.repository,
        server: job.facts.server_url.as_deref(),
        held: held(&place).await,
        variable: &|name| job.variable(name),
    };
    let written = make(&inputs.dashboard, scene).await?;
    let sentences = sentences(&written);
    for sentence in &sentences {
        tracing::info!("{sentence}");
    }
    if !inputs.job.no_summarize {
        page::write("Dashboard of the Nix store cache", &sentences, &HEAD, &rows(&written));
    }
    if let Err(error) = set_all(outputs(&written)) {
        tracing::warn!("{error}");
    }
    Ok(())
}

/// The entries of GitHub's cache, as far as the token may list them.
async fn held(place: &Place) -> Vec<HeldEntry> {
    let Some(rest) = place.github.as_ref().and_then(|github| github.rest()) else { return Vec::new() };
    let entries = rest.caches("").await.unwrap_or_default();
    let ours = Kind::ALL.map(version);
    let now = SystemTime::now();
    let since = |then: SystemTime| now.duration_since(then).map_or(0, |time| time.as_secs());
    let held = |entry: &CacheEntryInfo| HeldEntry {
        bytes: entry.size,
        age: since(entry.created),
        unused: since(entry.last_accessed),
        is_ours: ours.contains(&entry.version),
    };
    entries.iter().map(held).collect()
}

const HEAD: [&str; 4] = ["Goal", "Wanted", "In the last 30 days", ""];

fn rows(written: &Written) -> Vec<Vec<String>> {
    let row = |goal: &crate::dashboard::Goal| {
        let value = goal.value.map_or("unknown".to_owned(), text::signed_percent) + goal.source();
        vec![goal.name.to_owned(), text::percent(goal.wanted), value, goal.state.word().to_owned()]
    };
    written.goals.iter().map(row).collect()
}

fn outputs(written: &Written) -> Vec<(&'static str, String)> {
    let folder = written.index.parent().unwrap_or(Path::new("."));
    let goals: serde_json::Map<String, serde_json::Value> =
        written.goals.iter().map(|goal| (goal.name.to_owned(), goal.state.word().into())).collect();
    vec![
        ("folder", folder.display().to_string()),
        ("hit-rate", written.figures.hit_rate.map_or_else(String::new, |rate| format!("{rate:.4}"))),
        ("goals", serde_json::Value::Object(goals).to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::outputs::declared;
    use super::*;
    use crate::dashboard::{Figures, Goal, State};

    #[test]
    fn the_action_declares_just_what_is_set() {
        let goal = Goal { name: "hit-rate", wanted: 0.9, value: Some(0.8996), state: State::Missed, is_githubs: false };
        let figures = Figures { hit_rate: Some(0.85), ..Figures::default() };
        let mut written = Written { index: "/d/index.html".into(), runs: 3, goals: vec![goal], figures };
        let all = outputs(&written);
        let set: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(declared(include_str!("../../dashboard/action.yml")), set);
        assert!(declared(include_str!("../../hook/action.yml")).is_superset(&set));
        assert_eq!(all[2].1, r#"{"hit-rate":"missed"}"#);
        assert!(sentences(&written)[1].contains("missed: 89.9 %"), "{:?}", sentences(&written));
        assert_eq!(rows(&written)[0][1..], ["90.0 %", "89.9 %", "missed"]);
        written.goals[0].is_githubs = true;
        assert!(sentences(&written)[1].contains("missed: 89.9 %, by GitHub's records."), "{:?}", sentences(&written));
        assert_eq!(rows(&written)[0][2], "89.9 %, by GitHub's records");
    }
}
