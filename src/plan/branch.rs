//! The branch that the work of a repository goes into.

use super::Repository;

/// Names that such a branch has as a rule.
const USUAL: [&str; 2] = ["main", "master"];

impl Repository {
    /// The default branch: that of the place that the clone came from, otherwise `main` or `master` if there is one, otherwise the branch
    /// that is checked out.
    pub(crate) fn default_branch(&self) -> String {
        let said = |arguments: &[&str]| {
            let said = self.git(arguments).ok()?.trim().to_owned();
            (!said.is_empty()).then_some(said)
        };
        let origin = said(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]);
        if let Some(branch) = origin.as_deref().and_then(|branch| branch.strip_prefix("origin/")) {
            return branch.to_owned();
        }
        let exists =
            |branch: &str| said(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")]).is_some();
        let usual = USUAL.into_iter().find(|branch| exists(branch)).map(str::to_owned);
        usual.or_else(|| said(&["symbolic-ref", "--quiet", "--short", "HEAD"])).unwrap_or_else(|| USUAL[0].to_owned())
    }
}
