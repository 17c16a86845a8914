//! `prune` in the replay, as `examples/prune.yml` runs it on the default branch, but once a night: the plan and its execution are the real code.

use super::service::DEFAULT;
use super::*;
use crate::prune::{Place, Rules, carry_out, plan_for};
use crate::remote::github::FREE_QUOTA;
use crate::remote::{ListError, Listed, RefState, Shelf};

const NIGHT: u64 = 86_400;
const MAIN: &str = "refs/heads/main";

/// Runs `prune` in every night between two times.
pub(super) async fn nights(service: &Arc<Mutex<Service>>, from: u64, to: u64) {
    for now in (from / NIGHT + 1..=to / NIGHT).map(|night| night * NIGHT) {
        service.lock().unwrap().evict(now);
        let view = View { service: service.clone(), branch: DEFAULT.to_owned(), now };
        // What the action does if no input says otherwise.
        let rules = Rules { keep_generations: 2, keep_days: 14, max_total: Some(FREE_QUOTA / 10 * 8) };
        let place = Place { shelf: &view, remote: Some(&view), scopes: vec![MAIN.to_owned()], rules, now };
        let prepared = plan_for(&place, None).await.unwrap();
        assert!(prepared.unread.is_empty(), "{:?}", prepared.unread);
        let done = carry_out(&place, prepared).await;
        assert!(done.ended.is_none(), "{:?}", done.ended);
    }
}

fn scope(branch: &str) -> String {
    branch
        .strip_prefix("pull-")
        .map_or_else(|| format!("refs/heads/{branch}"), |number| format!("refs/pull/{number}/merge"))
}

#[async_trait::async_trait]
impl Shelf for View {
    fn describe(&self) -> String {
        "a model of GitHub's cache".to_owned()
    }

    async fn list(&self) -> Result<Vec<Listed>, ListError> {
        let inside = self.inside();
        let listed = inside.entries.iter().map(|((branch, kind, name), stored)| Listed {
            // An entry that is stored again is another one.
            id: format!("{branch} {kind:?} {name} {}", stored.at),
            kind: Some(*kind),
            name: name.clone(),
            scope: scope(branch),
            size: stored.size,
            created: stored.at,
            accessed: Some(stored.used),
        });
        Ok(listed.collect())
    }

    async fn delete(&self, entry: &Listed) -> Result<(), ListError> {
        self.inside().entries.retain(|(branch, kind, name), _| {
            (scope(branch) != entry.scope) || Some(*kind) != entry.kind || *name != entry.name
        });
        Ok(())
    }

    fn records_lookups(&self) -> bool {
        true
    }

    async fn default_scope(&self) -> Option<String> {
        Some(MAIN.to_owned())
    }

    async fn ref_state(&self, _scope: &str) -> RefState {
        // All of them were merged half an hour after they were opened.
        RefState::Closed
    }
}
