//! Tests of [`super`]: tables and properties.

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::json;

use super::super::given::{self, InputError};
use super::*;
use crate::cache::{Include, ModeRequest};

fn read(name: &str, value: &str) -> Result<Inputs, InputError> {
    Inputs::from_json(&json!({ name: value }).to_string())
}

/// Everything that was read, including secrets, for comparison.
fn whole(inputs: &Inputs) -> (String, [Option<String>; 2]) {
    let secret = [&inputs.secrets.token, &inputs.secrets.signing_key]
        .map(|text| Some(text.as_ref()?.expose_secret().to_owned()));
    (format!("{inputs:?}"), secret)
}

#[test]
fn defaults() {
    let inputs = Inputs::from_json("{}").unwrap();
    assert_eq!((inputs.action, inputs.packing.include), (Action::Both, Include::All));
    assert!(!inputs.save.when.is_never() && inputs.may_save());
    assert_eq!((inputs.files.no_eval_cache, inputs.job.no_summarize, inputs.lookup_only), (false, false, false));
    assert_eq!((inputs.save_timeout(), inputs.packing.compression_level), (Duration::from_mins(10), 5));
    assert_eq!((inputs.secrets.token.is_none(), inputs.packing.max_size, inputs.job.matrix), (true, None, Value::Null));
}

#[test]
fn values_are_read_and_trimmed() {
    let inputs = Inputs::from_json(
        &json!({
            "key": " k ", "restore-keys": "a\n b\n", "fail-on": "primary-key.miss, first-match.not-restored",
            "fail-on-cache-miss": "true", "save": "on-success", "max-size": "5G", "save-timeout": "1h30m",
            "compression-level": 7, "eval-cache": false, "github-token": "t0ken", "env-vars": "CC CXX",
            "matrix": "{\"os\":\"linux\"}", "job-status": "failure", "restore-mode": "unpack", "include": "not-upstream",
        })
        .to_string(),
    )
    .unwrap();
    let Inputs { key, restore, packing, files, .. } = &inputs;
    assert_eq!(
        (key.primary_key.as_deref(), &*key.restore_prefixes_first_match),
        (Some("k"), &["a".to_owned(), "b".to_owned()][..])
    );
    let conditions = ["primary-key.miss", "first-match.not-restored"];
    assert_eq!(
        (inputs.fail.fail_on.iter().map(ToString::to_string).collect::<Vec<_>>(), inputs.fail.fail_on_miss),
        (conditions.map(str::to_owned).to_vec(), true)
    );
    assert_eq!((packing.max_size, inputs.save_timeout()), (Some(5 << 30), Duration::from_mins(90)));
    assert_eq!((packing.compression_level, files.no_eval_cache), (7, true));
    assert_eq!(inputs.secrets.token.as_ref().unwrap().expose_secret(), "t0ken");
    assert_eq!(
        (&*key.env_vars, inputs.job.matrix["os"].as_str()),
        (&["CC".to_owned(), "CXX".to_owned()][..], Some("linux"))
    );
    assert_eq!((restore.mode(true), packing.include), (ModeRequest::Unpack, Include::NotUpstream));
    assert!(!inputs.may_save());
}

#[test]
fn an_unknown_value_names_the_input_the_value_and_what_it_takes() {
    for (input, value, takes) in [
        ("save", "sometimes", "auto, always, on-success, never, true, false"),
        ("eval-cache", "yes", "true, false"),
        ("eval-cache", "True", "true, false"),
        ("include", "upstream", "not-upstream"),
        ("max-size", "5GB", "500M"),
        ("save-timeout", "soon", "10m"),
        ("compression-level", "23", "1 to 22"),
        ("restore-mode", "copy", "unpack"),
        ("fail-on", "primary-key.mis", "primary-key.miss"),
        ("fail-on-cache-miss", "1", "true, false"),
    ] {
        let message = read(input, value).unwrap_err().to_string();
        for part in [input, value, takes] {
            assert!(message.contains(part), "{part:?} is missing in {message:?}");
        }
    }
    assert!(read("sav", "true").unwrap_err().to_string().contains("\"sav\""));
    assert!(read("save", "").is_ok());
    assert!(matches!(Inputs::from_json("[]"), Err(InputError::Form(_))));
}

#[test]
fn synonyms_may_agree_and_must_not_differ() {
    for (first, second) in [
        ("primary-key", "key"),
        ("restore-prefixes-first-match", "restore-keys"),
        ("paths", "path"),
        ("token", "github-token"),
    ] {
        let both = |one: &str, other: &str| Inputs::from_json(&json!({ first: one, second: other }).to_string());
        let expected = whole(&read(first, "x").unwrap());
        assert_eq!(whole(&both("x", "x").unwrap()), expected);
        assert_eq!(whole(&both("", "x").unwrap()), expected);
        let error = both("s3cret-1", "s3cret-2").unwrap_err();
        assert_eq!(error, InputError::Conflict { first: first.to_owned(), second: second.to_owned() });
        assert!(!error.to_string().contains("s3cret"));
    }
}

#[test]
fn who_may_save() {
    for (action, save, status, may) in [
        ("both", "auto", "failure", true),
        ("both", "on-success", "success", true),
        ("both", "on-success", "cancelled", false),
        ("both", "never", "success", false),
        ("restore", "always", "success", false),
        ("save", "false", "success", false),
        ("save", "true", "failure", true),
    ] {
        let inputs = Inputs::from_json(&json!({"action": action, "save": save, "job-status": status}).to_string());
        assert_eq!(inputs.unwrap().may_save(), may, "{action} {save} {status}");
    }
}

proptest! {
    #[test]
    fn any_value_of_any_input_is_read_or_refused(value in any::<String>(), which in 0_usize..40) {
        let command = Inputs::declared();
        let names: Vec<&str> = command.get_arguments().flat_map(given::names).collect();
        let name = names[which % names.len()].trim_start_matches("no-");
        if let Err(error) = read(name, &value) {
            prop_assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn a_token_is_never_shown(token in "[A-Za-z0-9_]{12,60}") {
        let inputs = read("token", &token).unwrap();
        let shown = format!("{inputs:?}");
        prop_assert!(!shown.contains(&token));
        let broken = format!("{{\"token\": \"{token}\",}}");
        prop_assert!(!Inputs::from_json(&broken).unwrap_err().to_string().contains(&token));
        let deep = json!({"token": [token]}).to_string();
        prop_assert!(!Inputs::from_json(&deep).unwrap_err().to_string().contains(&token));
    }
}
