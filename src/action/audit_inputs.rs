//! The inputs of the action `audit/`, typed. They arrive as those of the others do; see [`super::inputs`].

use super::inputs::{Given, InputError};
use super::values;

/// Every input, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditInputs {
    /// The folder of the flake (`flake`), from the workspace.
    pub flake: String,
    /// The file with the policy (`rules`), from the workspace; none for the usual one.
    pub rules: Option<String>,
    /// The commit to compare with (`base`); none for what the event says.
    pub base: Option<String>,
    /// A report to compare with (`baseline`), from the workspace.
    pub baseline: Option<String>,
    /// The file for SARIF (`sarif`), from the workspace; none for one of the runner's.
    pub sarif: Option<String>,
    /// Whether findings are annotated (`annotate`).
    pub annotate: bool,
    /// Whether to write a job summary (`summarize`).
    pub summarize: bool,
}

impl AuditInputs {
    /// The inputs in the environment.
    ///
    /// # Errors
    /// As [`AuditInputs::from_json`].
    pub(crate) fn from_environment() -> Result<Self, InputError> {
        Self::from_json(&crate::base::secrets::inputs())
    }

    /// The inputs in `json`, an object of strings. An empty string is the default.
    ///
    /// # Errors
    /// [`InputError`], which names the input, what was given and what it takes.
    pub(crate) fn from_json(json: &str) -> Result<Self, InputError> {
        let mut given = Given::parse(json)?;
        let inputs = Self {
            flake: given.take("flake").unwrap_or_else(|| ".".to_owned()),
            rules: given.take("rules"),
            base: given.take("base"),
            baseline: given.take("baseline"),
            sarif: given.take("sarif"),
            annotate: given.choice("annotate", values::BOOLEAN)?.unwrap_or(true),
            summarize: given.choice("summarize", values::BOOLEAN)?.unwrap_or(true),
        };
        for hooks in ["action", "binary", "token", "github-token"] {
            given.take(hooks);
        }
        given.end().map(|()| inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::inputs::declared;

    #[test]
    fn the_declared_inputs_are_those_that_are_read_and_their_defaults_are_ours() {
        let declared = declared(include_str!("../../audit/action.yml"));
        assert!(declared.len() > 5, "{declared:?}");
        let given: serde_json::Map<_, _> = declared.into_iter().map(|(name, value)| (name, value.into())).collect();
        let json = serde_json::Value::Object(given).to_string();
        assert_eq!(AuditInputs::from_json(&json).unwrap(), AuditInputs::from_json("{}").unwrap());
        let error = AuditInputs::from_json(r#"{"annotate": "often"}"#).unwrap_err().to_string();
        assert!(error.contains("annotate") && error.contains("often"), "{error}");
        assert!(AuditInputs::from_json(r#"{"targts": "x"}"#).is_err());
    }
}
