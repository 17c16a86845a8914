//! The outputs of the actions. All are set in the main step, because no step can read the outputs of a post step.

use std::path::Path;

use crate::base::env_vars;
use crate::report::{Action, Report};
use crate::series::Hit;

/// Why outputs could not be set.
#[derive(Debug, thiserror::Error)]
#[error(
    "The output \"{name}\" could not be written to the file in GITHUB_OUTPUT: {cause}. Later steps see it as empty."
)]
pub(crate) struct OutputError {
    name: &'static str,
    cause: actions_rs::Error,
}

/// Names and values of all outputs from `report`, with the path of the report's file. Values that are not known yet are left
/// out.
#[must_use]
pub(crate) fn of(report: &Report, path: &Path) -> Vec<(&'static str, String)> {
    let key = &report.key;
    let mut all = vec![
        ("primary-key", key.primary.clone()),
        ("cache-primary-key", key.primary.clone()),
        ("report", path.display().to_string()),
    ];
    if report.action != Action::Save {
        let matched = key.matched.clone().unwrap_or_default();
        let restore = report.restore.clone().unwrap_or_default();
        all.extend([
            ("cache-hit", cache_hit(key.hit).to_owned()),
            ("hit", key.hit.word().to_owned()),
            ("matched-key", matched.clone()),
            ("cache-matched-key", matched),
            ("paths-restored", report.paths.restored.to_string()),
            ("bytes-downloaded", restore.downloaded_bytes.to_string()),
            ("time-restore-ms", restore.ms.to_string()),
        ]);
    }
    if let Some(save) = report.save.as_ref().filter(|_| report.action == Action::Save) {
        all.push(("paths-new", report.paths.new.to_string()));
        all.push(("bytes-uploaded", save.uploaded_bytes.to_string()));
        all.extend(report.paths.hit_rate().map(|rate| ("hit-rate", format!("{rate:.4}"))));
    }
    all
}

/// Sets the outputs of [`of`]. Does nothing without a runner.
///
/// # Errors
/// [`OutputError`] for the first output that could not be written.
pub(crate) fn set(report: &Report, path: &Path) -> Result<(), OutputError> {
    set_all(of(report, path))
}

/// Sets these outputs. Does nothing without a runner.
pub(crate) fn set_all(outputs: Vec<(&'static str, String)>) -> Result<(), OutputError> {
    if std::env::var_os(env_vars::GITHUB_OUTPUT).is_none() {
        return Ok(());
    }
    outputs.into_iter().try_for_each(|(name, value)| {
        actions_rs::output::set_output(name, value).map_err(|cause| OutputError { name, cause })
    })
}

/// The names under `outputs:` in an action file of ours.
#[cfg(test)]
pub(crate) fn declared(file: &str) -> std::collections::BTreeSet<&str> {
    let lines = file.lines().skip_while(|line| *line != "outputs:").skip(1).take_while(|line| line.starts_with(' '));
    let names = lines.filter_map(|line| line.strip_prefix("  ")).filter(|rest| !rest.starts_with(' '));
    names.map(|name| name.trim_end_matches(':')).collect()
}

/// As in actions/cache: empty for a plain miss.
fn cache_hit(hit: Hit) -> &'static str {
    match hit {
        Hit::Exact => "true",
        Hit::Partial => "false",
        Hit::Miss => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::report::{Key, Paths, Restore, Save};

    fn report(action: Action) -> Report {
        Report {
            action,
            key: Key { hit: Hit::Partial, matched: Some("k-1".into()), primary: "k-2".into(), ..Key::default() },
            paths: Paths { needed: Some(3), built_here: 1, new: 1, restored: 9, ..Paths::default() },
            restore: Some(Restore { ms: 1200, downloaded_bytes: 7, ..Restore::default() }),
            save: Some(Save { uploaded_bytes: 5, ..Save::default() }),
            ..Report::default()
        }
    }

    #[test]
    fn each_action_declares_just_what_is_set() {
        for (action, file) in [
            (Action::Both, include_str!("../../action.yml")),
            (Action::Restore, include_str!("../../restore/action.yml")),
            (Action::Save, include_str!("../../save/action.yml")),
        ] {
            let all = of(&report(action), Path::new("/r"));
            let set: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
            assert_eq!(declared(file), set, "{action:?}");
            assert!(declared(include_str!("../../hook/action.yml")).is_superset(&set));
            assert_eq!(set.len(), all.len());
        }
    }

    #[test]
    fn values() {
        let value = |action, name: &str| {
            let all = of(&report(action), Path::new("/r"));
            all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        assert_eq!(value(Action::Both, "cache-hit").as_deref(), Some("false"));
        assert_eq!(value(Action::Both, "hit").as_deref(), Some("partial"));
        assert_eq!(value(Action::Both, "time-restore-ms").as_deref(), Some("1200"));
        assert_eq!(value(Action::Save, "hit-rate").as_deref(), Some("0.7500"));
        assert_eq!((cache_hit(Hit::Exact), cache_hit(Hit::Miss)), ("true", ""));
    }
}
